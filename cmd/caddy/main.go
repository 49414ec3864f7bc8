// Command caddy is Caddy with the MCP gateway built in, for those who do not
// build with xcaddy.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	// plug in Caddy's standard modules and the gateway
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/gateway"
)

func main() {
	caddycmd.Main()
}
