package cfutil

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/slowbody"
)

// Refuse answers a request with a status and one line of text, or, where an
// error route of the server matches (handle_errors), returns the same case
// as a Caddy error so that the route shapes the body. Headers that are set
// already stay in both cases. Without a matching route Caddy would answer
// an error with an empty body.
func Refuse(w http.ResponseWriter, r *http.Request, status int, text string) error {
	return RefuseAs(w, r, caddyhttp.Error(status, errors.New(text)), "text/plain; charset=utf-8", []byte(text))
}

// RefuseAs is Refuse with a failure that is already a Caddy error, and a body
// of any type.
func RefuseAs(w http.ResponseWriter, r *http.Request, failure caddyhttp.HandlerError, contentType string, body []byte) error {
	if failure.StatusCode != http.StatusRequestTimeout { // whose time is over
		slowbody.LimitRest(w, r)
	}
	if HasErrorRoute(r, failure) {
		return failure
	}
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(failure.StatusCode)
	// nothing can be done about a client that has gone
	_, _ = w.Write(body)
	return nil
}

// HasErrorRoute reports whether a handler of the server's error routes would
// run for this failure. The routes are shared by all sites of a server, so
// their matchers decide, as they would in Caddy.
func HasErrorRoute(r *http.Request, failure error) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return false
	}
	if _, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); !ok {
		return false
	}
	// the matchers may ask for {err.status_code} and its like
	return anyRouteMatches(server.Errors.Routes, server.Errors.WithError(r, failure))
}

func anyRouteMatches(routes caddyhttp.RouteList, r *http.Request) bool {
	for _, route := range routes {
		matched, err := route.MatcherSets.AnyMatchWithError(r)
		if err != nil || !matched {
			continue
		}
		for _, handler := range route.Handlers {
			subroute, ok := handler.(*caddyhttp.Subroute)
			if !ok || anyRouteMatches(subroute.Routes, r) {
				return true
			}
		}
	}
	return false
}
