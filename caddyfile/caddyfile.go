// Package mcpcaddyfile gives the directives of the gateway their names and
// their places in Caddy's order, so that no configuration needs the order
// option.
package mcpcaddyfile

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/celauthz"
	"github.com/caddymcp/gateway/jwtauth"
	"github.com/caddymcp/gateway/mcpproxy"
)

func init() {
	httpcaddyfile.RegisterDirective("mcp_jwt", parseJWT)
	httpcaddyfile.RegisterHandlerDirective("mcp_authorize", parseAuthorize)
	httpcaddyfile.RegisterHandlerDirective("mcp_proxy", parseProxy)

	// before everything that may read the identity, request_header among it
	httpcaddyfile.RegisterDirectiveOrder("mcp_jwt", httpcaddyfile.Before, "basicauth")
	// inside encode: lists are filtered before they are compressed
	httpcaddyfile.RegisterDirectiveOrder("mcp_authorize", httpcaddyfile.After, "encode")
	httpcaddyfile.RegisterDirectiveOrder("mcp_proxy", httpcaddyfile.Before, "reverse_proxy")
}

// parseJWT makes a route for mcp_jwt. If it names a resource, another one for
// its metadata goes before it, because the matcher may be for other paths.
func parseJWT(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler := new(jwtauth.Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	var routes []httpcaddyfile.ConfigValue
	if metadata := handler.Metadata(); metadata != nil {
		path := caddy.ModuleMap{"path": h.JSON(caddyhttp.MatchPath{jwtauth.MetadataPath})}
		routes = h.NewRoute(path, metadata)
	}
	return append(routes, h.NewRoute(matcher, handler)...), nil
}

func parseAuthorize(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(celauthz.Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

func parseProxy(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(mcpproxy.Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, handler.FinalizeUnmarshalCaddyfile(h)
}
