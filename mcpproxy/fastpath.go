package mcpproxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// fastPath passes on judged calls, and streams, as reverse_proxy does, in half
// the time. It takes over where reverse_proxy has nothing to decide: one
// upstream that is always tried, once, and a request that is no more than
// header and body. All else is left to reverse_proxy. Whatever takes this path
// arrives, and is answered, as on the other one; the tests compare the two.
//
// What it saves is a logger for each request that is made whether or not
// anything is logged, placeholders that are set whether or not anybody reads
// them, and copies of request and header.
type fastPath struct {
	transport http.RoundTripper
	upstream  *reverseproxy.Upstream
	address   caddy.NetworkAddress
	// hostPort and port are those of the address.
	hostPort, port string
	// path is where all requests go, "" if that is for Rewrite to say.
	path string
	// ops are what the transport wants done to each header.
	ops *headers.HeaderOps
}

// newFastPath returns nil where the configuration wants more than the fast
// path does. The handler is provisioned.
func newFastPath(h *Handler) *fastPath {
	configured, ok := h.Transport.(transport)
	if !ok || len(h.Upstreams) != 1 {
		return nil
	}
	overHTTP, ok := configured.RoundTripper.(*reverseproxy.HTTPTransport)
	if !ok || overHTTP.ProxyProtocol != "" {
		return nil
	}
	upstream := h.Upstreams[0]
	address, err := caddy.ParseNetworkAddress(upstream.Dial)
	switch {
	case err != nil || address.Network != "tcp" || address.PortRangeSize() != 1 || strings.Contains(upstream.Dial, "{"),
		h.DynamicUpstreams != nil, h.CB != nil, h.HealthChecks != nil, upstream.MaxRequests != 0, balances(h.LoadBalancing),
		h.RequestBuffers != 0, h.ResponseBuffers != 0, h.FlushInterval != 0,
		len(h.TrustedProxies) > 0, len(h.HandleResponse) > 0, h.ProxyStatusName != "",
		// another method may take the body away
		h.Rewrite != nil && h.Rewrite.Method != "",
		// reverse_proxy tells more of each request than would be worth repeating
		h.VerboseLogs, h.logger.Check(zap.DebugLevel, "") != nil:
		return nil
	}
	return &fastPath{
		transport: overHTTP, upstream: upstream, address: address, hostPort: address.JoinHostPort(0), port: strconv.Itoa(int(address.StartPort)),
		path: pathOf(h.Rewrite), ops: overHTTP.RequestHeaderOps(),
	}
}

// pathOf is the path that a rewrite sets, if it is the same for all requests
// and nothing else is rewritten.
func pathOf(rw *rewrite.Rewrite) string {
	if rw == nil || strings.ContainsAny(rw.URI, `{}\?#%`) || rw.StripPathPrefix != "" || rw.StripPathSuffix != "" ||
		len(rw.URISubstring) > 0 || len(rw.PathRegexp) > 0 || rw.Query != nil {
		return ""
	}
	return rw.URI
}

// balances reports whether the configuration tries more than once, or has the
// choice of an upstream do more than choose.
func balances(lb *reverseproxy.LoadBalancing) bool {
	if lb == nil {
		return false
	}
	chooser, ok := lb.SelectionPolicy.(*affinity)
	if !ok {
		return true
	}
	random := false
	switch chooser.configured.(type) {
	case reverseproxy.RandomSelection, *reverseproxy.RandomSelection: // by default, and as a module
		random = true
	}
	return !random || lb.Retries != 0 || lb.TryDuration != 0 || len(lb.RetryMatch) > 0
}

// takes reports whether a request can go this way that is a judged call.
func (f *fastPath) takes(r *http.Request, state *reqctx.State) bool {
	return f != nil && r.Method == http.MethodPost && state != nil && state.Message != nil &&
		lifetimeOf(r, state) == ordinary && isPlain(r)
}

// carries reports whether another request can go this way: a stream, or a
// message that nobody has read, if all of it is there.
func (f *fastPath) carries(x *exchange, r *http.Request) bool {
	if f == nil || x.endpoint != nil || !isPlain(r) {
		return false
	}
	_, whole := r.Body.(*reqctx.Body)
	return x.lifetime == longLived || x.lifetime == undecided && whole
}

// isPlain reports whether a request asks for no more than to be passed on.
func isPlain(r *http.Request) bool {
	for _, name := range hopByHop {
		if values, there := r.Header[name]; there && (name != "Connection" || len(values) != 1 || !strings.EqualFold(values[0], "keep-alive")) {
			return false
		}
	}
	if _, there := r.Header["Incremental"]; there {
		return false
	}
	if body, ok := r.Body.(*reqctx.Body); ok && body.Len() != r.ContentLength {
		return false
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	earlyData := r.TLS != nil && !r.TLS.HandshakeComplete
	return err == nil && client != "" && !earlyData && len(r.Trailer) == 0 && !strings.Contains(r.URL.RawQuery, mcpwire.EndpointQuery)
}

// serve passes a request on, and its answer back. The session is nil where
// ids pass as they are, or are sealed by the writer.
func (f *fastPath) serve(w http.ResponseWriter, r *http.Request, x *exchange, session *opening) error {
	c := &fastCall{exchange: x, fastPath: f, session: session, w: w}
	response, err := c.roundTrip(r) //nolint:bodyclose // answer closes it
	defer func() { c.ended = time.Now() }()
	if err == nil {
		return c.answer(r, response)
	}
	fault := func(w http.ResponseWriter, r *http.Request) error {
		if errors.Is(err, context.Canceled) {
			w.WriteHeader(statusClientGone)
			return nil
		}
		return x.handler.answerFault(w, r, x, upstreamError(err))
	}
	if session == nil {
		return fault(w, r)
	}
	return session.run(w, r, fault)
}

// statusClientGone is what the access log has of a request whose client has
// left. There is no standard status for it.
const statusClientGone = 499

// upstreamError gives the failure of an upstream the status that reverse_proxy
// gives it.
func upstreamError(err error) error {
	var timeout net.Error
	status := http.StatusBadGateway
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		status = http.StatusGatewayTimeout
	case strings.Contains(err.Error(), "operation was canceled"): // while dialing, which wraps nothing
		status = statusClientGone
	}
	return caddyhttp.Error(status, err)
}
