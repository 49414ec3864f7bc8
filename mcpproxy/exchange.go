package mcpproxy

import (
	"context"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

// exchange is one request on its way to the upstream and back: what the
// transport must know of it.
type exchange struct {
	handler  *Handler
	state    *reqctx.State // nil when no handler made one
	client   *http.Request // as it came to this handler
	lifetime lifetime
	stream   *stream        // nil for an ordinary request
	watched  bool           // the stream is among the open ones
	endpoint *endpoint      // where a sealed endpoint leads, nil for other requests
	body     *slowbody.Body // nil when the body is there already
	// replica is where the fast path sends the request; reverse_proxy says
	// it in the context.
	replica string
	// answered: the upstream has sent the head of an answer.
	answered bool
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request to an upstream, nil for one
// that no client has caused, such as a health check.
func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// identity is who asks, nil when no mcp_jwt has judged the request.
func (x *exchange) identity() *reqctx.Identity {
	if x.state == nil {
		return nil
	}
	return x.state.Identity
}

// proxy passes a request on.
func (h *Handler) proxy(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, state *reqctx.State) error {
	x := &exchange{handler: h, state: state, client: r, lifetime: lifetimeOf(r, state)}
	if err := x.openEndpoint(); err != nil {
		return h.refuseEndpoint(w, r, err)
	}
	if x.hasUnreadBody() {
		x.body = slowbody.Limit(w, r, h.bodyTimeout)
		defer x.body.End()
		if err := x.holdBody(); err != nil {
			return x.refuseBody(w, err)
		}
	}
	ctx := context.WithValue(r.Context(), exchangeKey{}, x)
	if x.lifetime != ordinary {
		var end context.CancelCauseFunc
		ctx, end = context.WithCancelCause(ctx)
		defer end(nil)
		x.stream = &stream{end: end, client: w, leases: append(state.Leases(), h.lease)}
		defer h.streams.remove(x.stream)
	}
	if x.lifetime == longLived {
		x.watch()
		// an encoded event could not be read
		r.Header.Del("Accept-Encoding")
	}
	r = r.WithContext(ctx)
	if h.fast.carries(x, r) {
		return h.fast.serve(w, r, x, nil)
	}
	err := h.backend(w, r, next)
	if rt := routeOf(r); rt != nil && rt.gaveUp(err) {
		return err // the session is lost, and that is the answer
	}
	return h.answerFault(w, r, x, err)
}

// watch has the exchange end with its token and its configuration.
func (x *exchange) watch() {
	if x.stream == nil || x.watched {
		return
	}
	x.watched = true
	x.handler.streams.add(x.stream, x.identity())
}
