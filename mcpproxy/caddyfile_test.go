package mcpproxy

import (
	"errors"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// The rest of the Caddyfile is tried in test/integration.

func TestSplitPath(t *testing.T) {
	for _, test := range []struct {
		upstream, stripped, path string
		err                      error
	}{
		{"127.0.0.1:3001", "127.0.0.1:3001", "", nil},
		{"backend/mcp", "backend/mcp", "", nil},
		{"unix//run/mcp.sock", "unix//run/mcp.sock", "", nil},
		{"unix+h2c//run/mcp.sock", "unix+h2c//run/mcp.sock", "", nil},
		{"{env.UPSTREAM}", "{env.UPSTREAM}", "", nil},
		{"http://backend", "http://backend", "", nil},
		{"http://backend:3001", "http://backend:3001", "", nil},
		{"http://[::1]:3001/mcp", "http://[::1]:3001", "/mcp", nil},
		{"https://backend/", "https://backend", "/", nil},
		{"h2c://backend/a/b/", "h2c://backend", "/a/b/", nil},
		{"http://backend/a%20b%25", "http://backend", "/a%20b%25", nil},
		{"http://backend/a%2Fb", "", "", errRawPath},
		{"http://backend/%61", "", "", errRawPath},
		{"http://backend/a@b", "http://backend", "/a@b", nil},
		{"http://{env.HOST}:3001/mcp", "http://{env.HOST}:3001", "/mcp", nil},
		{"http://backend/mcp?", "", "", errURLTooMuch},
		{"http://backend/mcp?a=b", "", "", errURLTooMuch},
		{"http://backend?a=b", "", "", errURLTooMuch},
		{"http://backend/mcp#a", "", "", errURLTooMuch},
		{"http://backend#a", "", "", errURLTooMuch},
		{"http://alice@backend", "", "", errURLTooMuch},
		{"http://alice:secret@backend/mcp", "", "", errURLTooMuch},
		{"http://backend/{path}", "", "", errUpstreamURL},
		{"http://backend/%zz", "", "", errUpstreamURL},

		{"http://backend/\x00", "", "", errUpstreamURL},
	} {
		got, path, err := splitPath(caddyfile.Token{Text: test.upstream})
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", test.upstream, err, test.err)
			continue
		}
		if err == nil && (got.Text != test.stripped || path != test.path) {
			t.Errorf("%s: %q, %q, want %q, %q", test.upstream, got.Text, path, test.stripped, test.path)
		}
	}
}
