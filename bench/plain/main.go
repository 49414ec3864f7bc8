// Command plain is Caddy with its standard modules and nothing else: what the gateway is compared with. It is built in
// the module of the gateway's binary, so both have the same version of everything.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	// plug in Caddy's standard modules
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() {
	caddycmd.Main()
}
