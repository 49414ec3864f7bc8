package mcpproxy

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Servers of protocol version 2024-11-05 (HTTP with SSE) tell a client in the
// first event of its stream where to post its messages. That place is not on
// the gateway, so the client gets one that is: its own path, with the
// server's behind it, sealed so that it leads nowhere else.

const (
	// maxEndpoint bounds path and query of a server's endpoint, in bytes.
	maxEndpoint = 2 << 10
	// maxStreamEvent bounds one event of a GET stream, in bytes: what is
	// held until it is clear that it is no endpoint.
	maxStreamEvent = 16 << 20
	// keptEvent is what an idle stream keeps of its buffer, in bytes.
	keptEvent = 16 << 10
)

// endpointEvent is the type of the event.
const endpointEvent = "endpoint"

var (
	errUnknownEndpoint = errors.New("unknown endpoint")
	errForeignEndpoint = errors.New("the endpoint is not on the server that names it")
	errOtherReplica    = errors.New("the endpoint is on another replica than the one that was chosen")
)

// endpoint is where a server takes messages.
type endpoint struct {
	// replica is the dial address of the upstream.
	replica string
	// target is path and query on it.
	target string
}

// replicaOf is the dial address of the only upstream that can serve a
// request, "" where any can.
func replicaOf(ctx context.Context) string {
	if x := exchangeOf(ctx); x != nil && x.endpoint != nil {
		return x.endpoint.replica
	}
	return ""
}

// openEndpoint finds out where a POST goes that was sent to a sealed endpoint.
func (x *exchange) openEndpoint() error {
	if x.client.Method != http.MethodPost || !strings.Contains(x.client.URL.RawQuery, mcpwire.EndpointQuery) {
		return nil
	}
	values, err := url.ParseQuery(x.client.URL.RawQuery)
	if err != nil {
		return errUnknownEndpoint
	}
	switch sealed := values[mcpwire.EndpointQuery]; len(sealed) {
	case 0:
		return nil
	case 1:
		x.endpoint, err = x.unseal(sealed[0])
		return err
	default:
		return errUnknownEndpoint
	}
}

func (h *Handler) refuseEndpoint(w http.ResponseWriter, r *http.Request, err error) error {
	if errors.Is(err, errUnknownEndpoint) {
		return refuse(w, r, http.StatusNotFound, reasonNoEndpoint, err.Error())
	}
	h.logger.Error("an endpoint could not be read", zap.Error(err))
	return refuse(w, r, http.StatusServiceUnavailable, reasonNoKey, "the endpoint could not be read")
}

// direct sends a request where its endpoint leads.
func (x *exchange) direct(r *http.Request) (*http.Request, error) {
	if x.endpoint == nil {
		return r, nil
	}
	if chosen, ok := reverseproxy.GetDialInfo(r.Context()); !ok || addressOf(chosen.Upstream, r) != replicaOf(r.Context()) {
		return nil, errOtherReplica
	}
	target, err := url.ParseRequestURI(x.endpoint.target)
	if err != nil {
		return nil, err
	}
	target.Scheme, target.Host = r.URL.Scheme, r.URL.Host
	r = r.WithContext(r.Context()) // a copy: the request is not ours
	r.URL = target
	return r, nil
}

// guardEndpoints rewrites the endpoints in the answer to a GET.
func (x *exchange) guardEndpoints(r *http.Request, response *http.Response) {
	guarded := &guardedBody{ReadCloser: response.Body}
	guarded.splitter = mcpwire.Splitter{Limit: maxStreamEvent, Emit: func(event *mcpwire.Event) error {
		if event.Type() != endpointEvent {
			guarded.out = append(guarded.out, event.Raw...)
			return nil
		}
		place, err := x.clientEndpoint(r, string(event.Data))
		if err != nil {
			x.handler.logger.Error("the stream was ended: the upstream's endpoint cannot be passed on", zap.Error(err))
			return err
		}
		guarded.out = append(guarded.out, event.WithData([]byte(place))...)
		return nil
	}}
	response.Body = guarded
	if encoding := response.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		guarded.err = fmt.Errorf("events in the encoding %q cannot be read", encoding)
	}
}

// clientEndpoint is an endpoint of the server as the client may see it.
func (x *exchange) clientEndpoint(r *http.Request, data string) (string, error) {
	base := *r.URL
	if base.Scheme == "" {
		base.Scheme = "http"
	}
	place, err := base.Parse(strings.TrimSpace(data))
	if err != nil {
		return "", errForeignEndpoint
	}
	// a server that builds a whole URL takes its name from the Host it sees
	isOwn := place.Host == base.Host || place.Host == r.Host
	if !isOwn || place.Scheme != "http" && place.Scheme != "https" || place.User != nil {
		return "", errForeignEndpoint
	}
	e := endpoint{replica: x.replica, target: place.RequestURI()}
	if len(e.target) > maxEndpoint || !strings.HasPrefix(e.target, "/") {
		return "", errForeignEndpoint
	}
	if chosen, ok := reverseproxy.GetDialInfo(r.Context()); ok {
		e.replica = addressOf(chosen.Upstream, r)
	}
	if len(e.replica) > maxReplica {
		return "", errForeignEndpoint
	}
	sealed, err := x.seal(e)
	if err != nil {
		return "", err
	}
	path := x.client.URL
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		path = original.URL // before anything was stripped from it
	}
	escaped := path.EscapedPath()
	if !strings.HasPrefix(escaped, "/") || strings.HasPrefix(escaped, "//") {
		return "", errForeignEndpoint // it would name a host
	}
	return escaped + "?" + mcpwire.EndpointQuery + "=" + sealed, nil
}

// seal makes of an endpoint what only its principal can use, on this proxy.
func (x *exchange) seal(e endpoint) (string, error) {
	mac, err := x.mac(e)
	if err != nil {
		return "", err
	}
	sealed := binary.AppendUvarint(mac, uint64(len(e.replica)))
	sealed = append(append(sealed, e.replica...), e.target...)
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

func (x *exchange) unseal(text string) (*endpoint, error) {
	if len(text) > 2*(maxEndpoint+maxReplica) {
		return nil, errUnknownEndpoint
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(sealed) < sha256.Size {
		return nil, errUnknownEndpoint
	}
	mac, payload := sealed[:sha256.Size], sealed[sha256.Size:]
	length, n := binary.Uvarint(payload)
	if n <= 0 || length > maxReplica || int(length) > len(payload)-n {
		return nil, errUnknownEndpoint
	}
	payload = payload[n:]
	e := &endpoint{replica: string(payload[:length]), target: string(payload[length:])}
	want, err := x.mac(*e)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, want) {
		return nil, errUnknownEndpoint
	}
	return e, nil
}

// mac binds an endpoint to its principal and to this proxy.
func (x *exchange) mac(e endpoint) ([]byte, error) {
	key, err := x.handler.key.derive(x.client.Context(), "endpoint")
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	for _, field := range []string{mcpwire.EndpointQuery, x.handler.identity, x.identity().Principal(), e.replica, e.target} {
		_, _ = mac.Write(binary.AppendUvarint(nil, uint64(len(field))))
		_, _ = io.WriteString(mac, field)
	}
	return mac.Sum(nil), nil
}

// guardedBody passes events on once they are whole.
type guardedBody struct {
	io.ReadCloser
	splitter mcpwire.Splitter
	out      []byte // to be read
	at       int    // and how much of it has been
	err      error
}

// Read implements io.Reader.
func (b *guardedBody) Read(p []byte) (int, error) {
	for b.at == len(b.out) {
		if cap(b.out) > keptEvent {
			b.out = nil
		}
		b.out, b.at = b.out[:0], 0
		if b.err != nil {
			return 0, b.err
		}
		n, err := b.ReadCloser.Read(p)
		if b.splitter.Pass(p[:n], endpointEvent) {
			b.err = err
			return n, nil
		}
		if b.err = b.splitter.Write(p[:n]); b.err == nil {
			b.err = err
		}
	}
	n := copy(p, b.out[b.at:])
	b.at += n
	return n, nil
}
