package mcpproxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

// transport is the configured transport, with a look at what comes back. It
// sees an answer before everything else that reverse_proxy does with it, so
// header_down and handle_response have the last word.
type transport struct{ http.RoundTripper }

// provisionTransport loads the configured transport, as reverse_proxy would.
func (h *Handler) provisionTransport(ctx caddy.Context) error {
	raw, err := withDefaults(h.TransportRaw)
	if err != nil {
		return err
	}
	h.TransportRaw = raw
	module, err := ctx.LoadModule(&h.Handler, "TransportRaw")
	if err != nil {
		return err
	}
	configured, ok := module.(http.RoundTripper)
	if !ok {
		return errors.New("the module is no transport")
	}
	// what has been loaded already is not loaded again
	h.TransportRaw = nil
	h.Transport = transport{configured}
	if buffered, ok := configured.(reverseproxy.BufferedTransport); ok {
		request, response := buffered.DefaultBufferSizes()
		if h.RequestBuffers == 0 {
			h.RequestBuffers = request
		}
		if h.ResponseBuffers == 0 {
			h.ResponseBuffers = response
		}
	}
	return nil
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	if x == nil {
		return t.RoundTripper.RoundTrip(r)
	}
	r, err := x.direct(r)
	if err != nil {
		return nil, err
	}
	if body, ok := x.client.Body.(*reqctx.Body); ok && body.Len() == r.ContentLength {
		// header and body leave in one write; reverse_proxy hides from
		// net/http what kind of body it is
		r.Body = body.Whole()
	}
	response, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		return x.unanswered(r, err)
	}
	x.answered = true
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response, nil
	}
	return x.inspect(r, response), nil
}

// unanswered says what becomes of a request that the upstream has not
// answered.
func (x *exchange) unanswered(r *http.Request, err error) (*http.Response, error) {
	switch {
	case endedByUs(r.Context()):
		// neither the upstream's fault nor the client's
		logReason(r, reasonStreamEnded)
		ended := replaceAnswer(r, nil, http.StatusServiceUnavailable, textType, []byte("the stream has ended; open it again"))
		ended.Header.Set("Retry-After", "1")
		return ended, nil
	case x.body.Late():
		return nil, slowbody.Err
	default:
		return nil, err
	}
}

// inspect looks at the head of an answer.
func (x *exchange) inspect(r *http.Request, response *http.Response) *http.Response {
	h := x.handler
	if !x.passesCredential() && len(h.HandleResponse) == 0 {
		if response.StatusCode == http.StatusUnauthorized {
			h.logger.Error("the upstream does not accept what the gateway authenticates itself with; see header_up",
				zap.String("upstream", r.URL.Host))
			logReason(r, reasonUpstreamRefused)
			contentType, body := x.faultBody(mcpwire.CodeUpstreamRefused, "the server does not accept the gateway")
			return replaceAnswer(r, response, http.StatusBadGateway, contentType, body)
		}
		// a client would look for a token there that is of no use here
		delete(response.Header, "Www-Authenticate")
	}
	if !isEventStream(response.Header) {
		return response
	}
	if response.Header.Get("X-Accel-Buffering") == "" {
		response.Header.Set("X-Accel-Buffering", "no")
	}
	x.watch()
	if x.lifetime == longLived && r.Method == http.MethodGet {
		x.guardEndpoints(r, response)
	}
	if x.stream != nil {
		response.Body = &endingBody{response.Body, r}
	}
	return response
}

// passesCredential reports whether the client's own credential reaches the
// upstream, so that a challenge of the upstream is meant for the client.
func (x *exchange) passesCredential() bool {
	identity := x.identity()
	return x.handler.passesAuthorization || identity != nil && identity.ForwardCredential
}

const eventStream = "text/event-stream"

// isEventStream reports whether a client could read events from an answer.
func isEventStream(header http.Header) bool {
	for _, value := range header.Values("Content-Type") {
		value = strings.TrimSpace(value)
		if len(value) >= len(eventStream) && strings.EqualFold(value[:len(eventStream)], eventStream) {
			return true
		}
	}
	return false
}

// replaceAnswer is an answer in the place of the upstream's.
func replaceAnswer(r *http.Request, replaced *http.Response, status int, contentType string, body []byte) *http.Response {
	if replaced != nil {
		_ = replaced.Body.Close()
	}
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":           {contentType},
			"Content-Length":         {strconv.Itoa(len(body))},
			"X-Content-Type-Options": {"nosniff"},
		},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)), Request: r,
	}
}

// endingBody is a stream that ends as if the upstream had ended it, when it
// was ended here. That its client has left is no failure, either.
type endingBody struct {
	io.ReadCloser
	request *http.Request
}

// Read implements io.Reader.
func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.request.Context().Err() != nil {
		err = io.EOF
	}
	return n, err
}

// Unwrap returns the configured transport.
func (t transport) Unwrap() http.RoundTripper { return t.RoundTripper }

// What reverse_proxy asks a transport about.

// ProxyProtocolEnabled implements reverseproxy.ProxyProtocolTransport.
func (t transport) ProxyProtocolEnabled() bool {
	inner, ok := t.RoundTripper.(reverseproxy.ProxyProtocolTransport)
	return ok && inner.ProxyProtocolEnabled()
}

// RequiresContentLength implements reverseproxy.ContentLengthRequiredTransport.
func (t transport) RequiresContentLength() bool {
	inner, ok := t.RoundTripper.(reverseproxy.ContentLengthRequiredTransport)
	return ok && inner.RequiresContentLength()
}

// RequestHeaderOps implements reverseproxy.RequestHeaderOpsTransport.
func (t transport) RequestHeaderOps() *headers.HeaderOps {
	if inner, ok := t.RoundTripper.(reverseproxy.RequestHeaderOpsTransport); ok {
		return inner.RequestHeaderOps()
	}
	return nil
}

// OverrideHealthCheckScheme implements
// reverseproxy.HealthCheckSchemeOverriderTransport.
func (t transport) OverrideHealthCheckScheme(base *url.URL, port string) {
	if inner, ok := t.RoundTripper.(reverseproxy.HealthCheckSchemeOverriderTransport); ok {
		inner.OverrideHealthCheckScheme(base, port)
	}
}

// Interface guards
var (
	_ reverseproxy.ProxyProtocolTransport              = transport{}
	_ reverseproxy.ContentLengthRequiredTransport      = transport{}
	_ reverseproxy.RequestHeaderOpsTransport           = transport{}
	_ reverseproxy.HealthCheckSchemeOverriderTransport = transport{}
)
