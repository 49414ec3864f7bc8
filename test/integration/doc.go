// Package integration tries the gateway as a whole: Caddyfiles and what they
// become, the built binary, and a running Caddy with a client in front and a
// server behind.
package integration
