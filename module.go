// Package gateway is the Caddy MCP Gateway: Caddy as the front door of MCP
// (Model Context Protocol) servers. Importing it adds these modules to
// Caddy:
//
//	http.handlers.mcp_jwt        who may come in          jwtauth
//	http.handlers.mcp_metadata   where to get a token     jwtauth
//	http.handlers.mcp_authorize  what they may do         celauthz
//	http.handlers.mcp_proxy      where it goes            mcpproxy
//	admin.api.mcp                what operators ask       internal/adminapi
//
// the Caddyfile directives mcp_jwt, mcp_authorize and mcp_proxy, and the command
// `caddy mcp`.
package gateway

import (
	// the modules, the directives that configure them, and the command line
	_ "github.com/caddymcp/gateway/caddyfile"
	_ "github.com/caddymcp/gateway/celauthz"
	_ "github.com/caddymcp/gateway/internal/adminapi"
	_ "github.com/caddymcp/gateway/internal/cli"
	_ "github.com/caddymcp/gateway/jwtauth"
	_ "github.com/caddymcp/gateway/mcpproxy"
)
