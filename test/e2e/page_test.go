package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// pageAnswer is what a web page has seen of an answer.
type pageAnswer struct {
	Status     int
	Type, Body string
	Headers    map[string]string
	Failure    string // of fetch, which does not tell why
}

// startPages starts a web server whose pages are of another origin than everything else.
func startPages(t *testing.T) (origin string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>A client</title>")
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// runPage has a page of an origin use the gateway, in Chromium.
func runPage(t *testing.T, origin, gateway, token string) map[string]pageAnswer {
	t.Helper()
	cmd := nodeCommand(t, "page.mjs", origin+"/", gateway)
	cmd.Env = append(cmd.Env, "TOKEN="+token, "TMPDIR="+t.TempDir())
	p := start(t, cmd)
	done, err := p.out.wait(loginDone, p.done, runLimit)
	if err != nil {
		t.Fatal(err)
	}
	var seen map[string]pageAnswer
	if err := json.Unmarshal([]byte(done[1]), &seen); err != nil {
		t.Fatal(err)
	}
	if status := p.wait(t, runLimit); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	return seen
}

// TestPage uses an MCP server from a web page, which lies on one site, while the gateway is another: Chromium lets the
// page do so when its origin is listed, and keeps everything from it when it is not.
func TestPage(t *testing.T) {
	server := startOAuth(t)
	upstream := startRecorder(t, startDemo(t, "-stateful"), (*httptest.Server).Start)
	listed, other := startPages(t), startPages(t)
	g := startGatewayAt(t, "http://127.0.0.1", func(resource string) string {
		site := server.site(resource, "allow true\n\t\tscope repo:write `mcp.tool.name == \"delete_repo\"`", upstream.URL)
		return strings.Replace(site, "resource ", "origins "+listed+"\n\t\tresource ", 1)
	})
	token := server.login(t, "alice", g.url(), "mcp:use").AccessToken

	seen := runPage(t, other, g.url(), token)
	metadata := fmt.Sprintf("%s/.well-known/oauth-protected-resource/mcp", g.origin())
	for name, a := range seen {
		switch name {
		case "metadata": // anybody may read them
			if a.Status != http.StatusOK || !strings.Contains(a.Body, g.url()) {
				t.Errorf("the other page, %s: %+v", name, a)
			}
		case "simple": // is sent without asking, and tells nothing
			if a.Type != "opaque" || a.Status != 0 || a.Body != "" {
				t.Errorf("the other page, %s: %+v", name, a)
			}
		default:
			if !strings.Contains(a.Failure, "Failed to fetch") {
				t.Errorf("the other page, %s: %+v, want nothing to be seen", name, a)
			}
		}
	}
	upstream.wantNone(t)

	seen = runPage(t, listed, g.url(), token)
	session := seen["initialize"].Headers["Mcp-Session-Id"]
	if session == "" {
		t.Error("the page cannot read Mcp-Session-Id")
	}
	for name, want := range map[string]struct {
		status          int
		body, challenge string
	}{
		"anonymous": {401, "no bearer token found", fmt.Sprintf(`Bearer resource_metadata=%q, scope="mcp:use"`, metadata)},
		"metadata":  {200, server.issuer, ""},
		// the demo server's name
		"initialize":  {200, `"demo"`, ""},
		"initialized": {202, "", ""},
		"call":        {200, greeting, ""},
		"headers":     {200, greeting, ""},
		"resume":      {404, "", ""},
		"refused":     {403, "authorization failed", fmt.Sprintf(`Bearer resource_metadata=%q, error="insufficient_scope", scope="repo:write"`, metadata)},
		"end":         {204, "", ""},
	} {
		a := seen[name]
		if a.Status != want.status || !strings.Contains(a.Body, want.body) || a.Headers["WWW-Authenticate"] != want.challenge {
			t.Errorf("the listed page, %s: %+v, want %+v", name, a, want)
		}
	}
	if a := seen["foreign header"]; !strings.Contains(a.Failure, "Failed to fetch") {
		t.Errorf("the listed page may send headers that nobody has allowed: %+v", a)
	}
	if a := seen["simple"]; a.Type != "opaque" {
		t.Errorf("the listed page, a request without CORS: %+v", a)
	}
	upstream.wantWithout(t, token)
	g.wantNoTokens(t, token)
}

// TestPreflight asks what Chromium asks, header by header: everything of the transport may be sent, by pages of the
// listed origin only. Nothing of it needs a token, and nothing reaches the server behind.
func TestPreflight(t *testing.T) {
	upstream := startRecorder(t, startDemo(t), (*httptest.Server).Start)
	const listed = "https://client.example.com"
	g := startGateway(t, siteOf("origins "+listed+"\n\t\t"+quickstartIssuer(), "allow true", upstream.URL))
	for _, test := range []struct {
		origin, method, headers string
		status                  int
		allowed                 bool
	}{
		{listed, "POST", "authorization,content-type,mcp-protocol-version", 204, true},
		{listed, "POST", "authorization,content-type,mcp-method,mcp-name,mcp-protocol-version,mcp-session-id,mcp-param-region", 204, true},
		{listed, "GET", "authorization,last-event-id,mcp-protocol-version,mcp-session-id", 204, true},
		{listed, "DELETE", "authorization,mcp-session-id", 204, true},
		{listed, "POST", "authorization,x-other", 204, false},
		{listed, "POST", "mcp-param-a,x-forwarded-for", 204, false},
		{listed, "PUT", "authorization", 204, false},
		{"https://client.example.com:8443", "POST", "authorization", 403, false},
		{"http://client.example.com", "POST", "authorization", 403, false},
		{"https://client.example.com.evil.example", "POST", "authorization", 403, false},
		{"https://evil.example", "POST", "authorization", 403, false},
		{"null", "POST", "authorization", 403, false},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, g.url(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", test.origin)
		r.Header.Set("Access-Control-Request-Method", test.method)
		r.Header.Set("Access-Control-Request-Headers", test.headers)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := preflightAllows(resp.Header, test.origin, test.method, test.headers); resp.StatusCode != test.status || got != test.allowed {
			t.Errorf("%s from %s with %s: status %d, allowed %t: %v", test.method, test.origin, test.headers, resp.StatusCode, got, resp.Header)
		}
	}
	upstream.wantNone(t)
}

// preflightAllows reads an answer as a browser does (Fetch standard, CORS-preflight fetch).
func preflightAllows(answer http.Header, origin, method, headers string) bool {
	if answer.Get("Access-Control-Allow-Origin") != origin {
		return false
	}
	listed := func(name, item string) bool {
		for entry := range strings.SplitSeq(answer.Get(name), ",") {
			if strings.EqualFold(strings.TrimSpace(entry), item) {
				return true
			}
		}
		return false
	}
	for header := range strings.SplitSeq(headers, ",") {
		if !listed("Access-Control-Allow-Headers", header) {
			return false
		}
	}
	return method == http.MethodGet || method == http.MethodPost || listed("Access-Control-Allow-Methods", method)
}
