package mcpproxy

import (
	"encoding/json"
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

// TestCompressionOn: Caddy's own parser takes it for its default, and leaves it out.
func TestCompressionOn(t *testing.T) {
	for options, want := range map[string]string{
		"":                                     "",
		"transport http":                       "",
		"transport http {\ncompression off\n}": `{"compression":false,"protocol":"http"}`,
		"transport http {\ncompression on\n}":  `{"compression":true,"protocol":"http"}`,
		"transport http\nheader_up compression on":             "",
		"transport http {\ndial_timeout 1s\ncompression on\n}": `{"compression":true,"dial_timeout":1000000000,"protocol":"http"}`,
		"transport http {\nimport compressed\n}":               `{"compression":true,"protocol":"http"}`,
		"import transport":                                     `{"compression":true,"protocol":"http"}`,
		// of another proxy, and of something else
		"handle_response {\nreverse_proxy b {\ntransport http {\ncompression on\n}\n}\n}": "",
		"handle_response {\nheader {\ncompression on\n}\n}":                               "",
	} {
		blocks, err := caddyfile.Parse("Caddyfile", []byte("(compressed) {\ncompression on\n}\n"+
			"(transport) {\ntransport http {\nimport compressed\n}\n}\n:80 {\nmcp_proxy http://backend {\n"+options+"\n}\n}"))
		if err != nil {
			t.Fatalf("%s: %v", options, err)
		}
		var h Handler
		if err := h.UnmarshalCaddyfile(caddyfile.NewDispenser(blocks[0].Segments[0])); err != nil {
			t.Errorf("%s: %v", options, err)
		}
		if got := sorted(t, h.TransportRaw); got != want {
			t.Errorf("%s: %s, want %s", options, got, want)
		}
	}
}

// sorted is JSON with its members in order, "" if there is none.
func sorted(t *testing.T, text json.RawMessage) string {
	t.Helper()
	if text == nil {
		return ""
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
