// Package e2e starts the gateway, real MCP servers, real MCP clients and a real OAuth server as programs of their own
// and looks at what passes between them: MCP Inspector, the conformance suite of the MCP project, the TypeScript and the
// Go SDK, oidc-provider, Chromium, curl and Caddy's own command line. Everything listens on 127.0.0.1, and everything that
// a test starts has ended when the test has.
//
// It is written for Linux: the tests look into /proc, and let the kernel end what a killed test leaves behind.
// TestMain builds the programs of this repository and installs those of package-lock.json if need be.
package e2e
