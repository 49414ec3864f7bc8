package examples

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// The gateway shows its own token to GitHub, never the caller's, and lets
// through what the rules say.
func TestGitHub(t *testing.T) {
	const token = "github-token-of-the-gateway"
	var calls atomic.Int32
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Values("Authorization"); !slices.Equal(got, []string{"Bearer " + token}) {
			t.Errorf("GitHub got the credentials %q", got)
		}
		if r.URL.Path != "/mcp/" {
			t.Errorf("GitHub got a request for %s", r.URL.Path)
		}
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
	}))
	defer github.Close()
	gateway := freeAddress(t)
	t.Setenv("GITHUB_MCP_URL", github.URL+"/mcp/")
	t.Setenv("GITHUB_TOKEN", token)
	t.Setenv("GATEWAY_PORT", portOf(gateway))

	t.Chdir("..")
	runCaddyfile(t, "examples/github/Caddyfile")

	for _, test := range []struct {
		user, tool, arguments string
		allowed               bool
	}{
		{"alice", "get_me", `{}`, true},
		{"bob", "get_me", `{}`, true},
		{"bob", "list_issues", `{}`, true},
		{"bob", "search_code", `{}`, true},
		{"bob", "issue_read", `{}`, true},
		{"alice", "delete_file", `{}`, false},
		{"alice", "issue_write", `{}`, false},
		{"bob", "add_issue_comment", `{"owner":"acme"}`, false},
		{"alice", "add_issue_comment", `{"owner":"acme"}`, true},
		{"alice", "add_issue_comment", `{"owner":"globex"}`, false},
		{"alice", "add_issue_comment", `{}`, false},
	} {
		calls.Store(0)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gateway+"/mcp", strings.NewReader(
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+test.tool+`","arguments":`+test.arguments+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(t, "examples/quickstart/"+test.user+".jwt")))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := calls.Load() == 1; got != test.allowed {
			t.Errorf("%s: %s %s: allowed %v, want %v (status %d)", test.user, test.tool, test.arguments, got, test.allowed, resp.StatusCode)
		}
	}
}
