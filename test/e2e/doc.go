// Package e2e starts the gateway, real MCP servers and real MCP clients as programs of their own and looks at what
// passes between them: MCP Inspector, the TypeScript and the Go SDK, curl and Caddy's own command line. Everything
// listens on 127.0.0.1, and everything that a test starts has ended when the test has.
//
// It is written for Linux: the tests look into /proc, and let the kernel end what a killed test leaves behind.
// TestMain builds the programs of this repository and installs those of package-lock.json if need be.
package e2e
