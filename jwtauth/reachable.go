package jwtauth

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// checkReachable refuses a configuration in which no request for the metadata
// could get to the handler that is being provisioned, because it is inside a
// route for other paths: clients would not find it, and nobody would know
// why. resource is the URL as it was configured.
func checkReachable(ctx caddy.Context, resource, path string) error {
	probe := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, RequestURI: path, Header: http.Header{}}
	probe = probe.WithContext(context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer()))
	for _, module := range ctx.Modules() {
		if routes := routesWith(module, resource); len(routes) > 0 && !slices.ContainsFunc(routes, func(route caddyhttp.Route) bool {
			return couldMatch(route, probe)
		}) {
			return fmt.Errorf("resource %q: clients ask for %s, which does not get into the handle or route block that mcp_jwt is in; "+
				"put it outside of the block, with a matcher: mcp_jwt <matcher> { ... }", resource, path)
		}
	}
	return nil
}

// routesWith are the routes of a module that hold the metadata handler of the
// resource, at any depth. Their handlers are still JSON while one of them is
// being provisioned.
func routesWith(module caddy.Module, resource string) (found []caddyhttp.Route) {
	var routes caddyhttp.RouteList
	switch parent := module.(type) {
	case *caddyhttp.App:
		for _, server := range parent.Servers {
			routes = append(routes, server.Routes...)
		}
	case *caddyhttp.Subroute:
		routes = parent.Routes
	}
	quoted := mcpwire.Quote(nil, resource)
	for _, route := range routes {
		for _, handler := range route.HandlersRaw {
			if bytes.Contains(handler, []byte(`"mcp_metadata"`)) && bytes.Contains(handler, quoted) {
				found = append(found, route)
				break
			}
		}
	}
	return found
}

// couldMatch looks at paths only: hosts, addresses and the like depend on the
// client.
func couldMatch(route caddyhttp.Route, probe *http.Request) bool {
	return len(route.MatcherSets) == 0 || slices.ContainsFunc(route.MatcherSets, func(set caddyhttp.MatcherSet) bool {
		for _, matcher := range set {
			switch m := matcher.(type) {
			case *caddyhttp.MatchPath:
				if !m.Match(probe) {
					return false
				}
			case *caddyhttp.MatchPathRE:
				if !m.Match(probe) {
					return false
				}
			}
		}
		return true
	})
}
