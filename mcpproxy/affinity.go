package mcpproxy

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// route is which replica a request goes to, and how that went. It travels in
// the context of the request, to the selection policy and back.
type route struct {
	// bound: the request belongs to a session, which lives on one replica.
	bound bool
	// replica is the address of the one it belongs to; if it is not bound,
	// of the one that was chosen.
	replica string
	// lost: the replica is not there any more, or is down while another one
	// is not.
	lost bool
	// spare: another replica could serve a new session.
	spare bool
}

type routeKey struct{}

// routeOf returns the route of a request: that of its session, or to the
// replica that a sealed endpoint names.
func routeOf(r *http.Request) *route {
	rt, _ := r.Context().Value(routeKey{}).(*route)
	if replica := replicaOf(r.Context()); replica != "" && (rt == nil || !rt.bound) {
		return &route{bound: true, replica: replica}
	}
	return rt
}

// with returns the request with its route.
func (rt *route) with(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), routeKey{}, rt))
}

// gaveUp reports whether the session is lost for which a backend returned an
// error: the client must begin another one, which can go elsewhere. As long
// as there is nowhere else to go, the session may come back.
func (rt *route) gaveUp(err error) bool {
	if !rt.bound || err == nil {
		return false
	}
	var undialed reverseproxy.DialError
	return rt.lost || rt.spare && errors.As(err, &undialed)
}

// affinity is the selection policy: requests of a session go to the replica
// that has it, and to no other, all others to one that the configured policy
// chooses.
type affinity struct {
	configured reverseproxy.Selector
	// static are the replicas, nil if they change while the configuration
	// stays.
	static reverseproxy.UpstreamPool
}

// Select implements reverseproxy.Selector.
func (a *affinity) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	rt := routeOf(r)
	if rt == nil {
		return a.configured.Select(pool, r, w)
	}
	if !rt.bound {
		chosen := a.configured.Select(pool, r, w)
		if chosen != nil {
			rt.replica = addressOf(chosen, r)
		}
		return chosen
	}
	var chosen *reverseproxy.Upstream
	there, healthy := false, false
	rt.spare = false
	for _, upstream := range pool {
		if addressOf(upstream, r) != rt.replica {
			rt.spare = rt.spare || upstream.Available()
			continue
		}
		there = true
		healthy = healthy || upstream.Healthy()
		if chosen == nil && upstream.Available() {
			chosen = upstream
		}
	}
	// without any replica the list could not be had, which says nothing
	rt.lost = len(pool) > 0 && !there || !healthy && rt.spare
	return chosen
}

// gone reports whether the replica of a session is none of the configured
// ones, so that it makes no sense to wait for it.
func (a *affinity) gone(rt *route, r *http.Request) bool {
	return rt.bound && a.static != nil && !slices.ContainsFunc(a.static, func(upstream *reverseproxy.Upstream) bool {
		return addressOf(upstream, r) == rt.replica
	})
}

// addressOf is where a replica is dialed for a request: its address may hold
// placeholders.
func addressOf(upstream *reverseproxy.Upstream, r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return upstream.Dial
	}
	return repl.ReplaceAll(upstream.Dial, "")
}

// Interface guard
var _ reverseproxy.Selector = (*affinity)(nil)
