package examples

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A page of the listed origin may ask and read the answer, refusals too; a
// page of another one may not even ask.
func TestBrowser(t *testing.T) {
	const inspector = "http://localhost:6274"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	}))
	defer server.Close()
	gateway := freeAddress(t)
	t.Setenv("UPSTREAM", server.URL+"/mcp")
	t.Setenv("GATEWAY_PORT", portOf(gateway))
	t.Chdir("..")
	runCaddyfile(t, "examples/browser/Caddyfile")
	alice := "Bearer " + strings.TrimSpace(read(t, "examples/quickstart/alice.jwt"))

	for _, test := range []struct {
		name, method, origin, authorization string
		status                              int
		cors                                string
	}{
		{"the page asks whether it may", http.MethodOptions, inspector, "", http.StatusNoContent, inspector},
		{"the page calls", http.MethodPost, inspector, alice, http.StatusOK, inspector},
		{"the page has no token yet", http.MethodPost, inspector, "", http.StatusUnauthorized, inspector},
		{"another page asks", http.MethodOptions, "https://evil.example", "", http.StatusForbidden, ""},
		{"another page calls", http.MethodPost, "https://evil.example", alice, http.StatusForbidden, ""},
		{"a page of the gateway itself", http.MethodPost, "http://" + gateway, alice, http.StatusOK, ""},
		{"no page", http.MethodPost, "", alice, http.StatusOK, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), test.method, "http://"+gateway+"/mcp",
				strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{
				"Origin": test.origin, "Authorization": test.authorization, "Content-Type": "application/json",
			} {
				if value != "" {
					req.Header.Set(name, value)
				}
			}
			if test.method == http.MethodOptions {
				req.Header.Set("Access-Control-Request-Method", http.MethodPost)
				req.Header.Set("Access-Control-Request-Headers", "authorization,content-type,mcp-protocol-version")
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != test.status {
				t.Errorf("status %d, want %d", resp.StatusCode, test.status)
			}
			got := resp.Header.Get("Access-Control-Allow-Origin")
			if test.cors == "" && got == "*" {
				got = "" // of the server behind: the page is the gateway's own, or none
			}
			if got != test.cors {
				t.Errorf("Access-Control-Allow-Origin %q, want %q", got, test.cors)
			}
		})
	}
}
