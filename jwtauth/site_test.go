package jwtauth_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers" // request_header

	_ "github.com/caddymcp/gateway/caddyfile"
	"github.com/caddymcp/gateway/internal/mcptest"
)

// These tests run whole sites, as a Caddyfile describes them.

const (
	siteIssuer   = "https://idp.example.com"
	siteAudience = "https://mcp.example.com/mcp"
)

var siteTokens = &mcptest.Issuer{Name: siteIssuer, Key: mcptest.NewKey("ES256", "k")}

func siteToken(sub string) string {
	return siteTokens.Token(sub, map[string]any{"aud": siteAudience})
}

// gateLines is the mcp_jwt of the sites.
func gateLines(options string) string {
	return "mcp_jwt {\nissuer " + siteIssuer + " {\njwks inline `" + mcptest.Set(siteTokens.Key) + "`\naudiences " + siteAudience + "\n}\n" +
		options + "\n}\n"
}

// startSite serves a Caddyfile, whose sites are at http://<name>, on a
// loopback port.
func startSite(t *testing.T, text string) (address string) {
	t.Helper()
	adapter := caddyfile.Adapter{ServerType: httpcaddyfile.ServerType{}}
	doc, _, err := adapter.Adapt([]byte("{\nadmin off\n}\n"+text), nil)
	if err != nil {
		t.Fatal(err)
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(doc, config); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	servers := app.(*caddyhttp.App).Servers
	if len(servers) != 1 {
		t.Fatalf("%d servers", len(servers))
	}
	for _, server := range servers {
		listener := httptest.NewServer(server)
		t.Cleanup(listener.Close)
		address = listener.Listener.Addr().String()
	}
	return address
}

// send sends a request as it is written, and returns the answer and its body.
func send(t *testing.T, address, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// get is a request for a site, with more header lines.
func get(host, target string, lines ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

// Row 72: a handler for the whole site decides alike for every spelling of a
// path and every method, because it looks at neither.
func TestA72_PathTwins(t *testing.T) {
	address := startSite(t, "http://mcp.example.com {\n"+gateLines("")+"respond \"upstream {path}\"\n}\n")
	authorization := "Authorization: Bearer " + siteToken("alice")
	targets := []string{
		"/", "/mcp", "//mcp", "/mcp/", "/MCP", "/mcp//", "/./mcp", "/x/../mcp", "/../mcp", "/%6dcp", "/%6Dcp", "/mcp%2f", "/%2fmcp", "/%2e/mcp",
		"/x/%2e%2e/mcp", "/mcp;x=1", "/mcp.", "/mcp%20", "/mcp%00", "/mcp%09", "/mcp?x", "/mcp?/../public", "/mcp#x", "/%ef%bd%8dcp", `/\mcp`,
		"http://mcp.example.com/mcp", "http://mcp.example.com//mcp", "/.well-known/../mcp",
	}
	for _, target := range targets {
		response, body := send(t, address, get("mcp.example.com", target))
		if response.StatusCode != http.StatusUnauthorized || body != "authentication failure: no bearer token found" {
			t.Errorf("%s without a token: %d %q", target, response.StatusCode, body)
		}
		if response, body := send(t, address, get("mcp.example.com", target, authorization)); response.StatusCode != http.StatusOK || !strings.HasPrefix(body, "upstream ") {
			t.Errorf("%s with a token: %d %q", target, response.StatusCode, body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "X"} {
		request := strings.Replace(get("mcp.example.com", "/mcp", "Content-Length: 0", "X-Http-Method-Override: GET"), "GET", method, 1)
		if response, body := send(t, address, request); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d %q", method, response.StatusCode, body)
		}
	}
	for _, host := range []string{"MCP.example.com", "mcp.example.com:80", "mcp.example.com:8080"} {
		if response, body := send(t, address, get(host, "/mcp")); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("host %s: %d %q", host, response.StatusCode, body)
		}
	}
}

// Rows 65, 66, 67 and 70 behind Caddy's own reverse proxy: it gets the
// identity that the configuration sets, whatever the client sends, and no
// credential.
func TestIdentityReachesTheUpstream(t *testing.T) {
	seen := make(chan http.Header, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	t.Cleanup(upstream.Close)
	address := startSite(t, "http://mcp.example.com {\n"+gateLines("mode optional")+`
		request_header X-User-Id {http.auth.user.id}
		request_header X-Groups {http.auth.user.groups}
		reverse_proxy `+upstream.Listener.Addr().String()+`
	}`)
	groups := func(value any) string {
		return siteTokens.Token("alice", map[string]any{"aud": siteAudience, "groups": value})
	}
	for name, test := range map[string]struct {
		lines        []string
		user, groups string
	}{
		"plain":               {[]string{"Authorization: Bearer " + siteToken("alice")}, "alice", ""},
		"groups":              {[]string{"Authorization: Bearer " + groups([]string{"dev", "ops"})}, "alice", "dev,ops"},
		"A67 line breaks":     {[]string{"Authorization: Bearer " + groups([]string{"dev\r\nX-Admin: 1"})}, "alice", ""},
		"A65 removal":         {[]string{"Authorization: Bearer " + siteToken("alice"), "Connection: X-User-Id, X-Groups, Authorization"}, "alice", ""},
		"A66 client's own":    {[]string{"Authorization: Bearer " + siteToken("alice"), "X-User-Id: admin", "x-groups: admin"}, "alice", ""},
		"A66 twins":           {[]string{"Authorization: Bearer " + siteToken("alice"), "X_User_Id: admin", "X-User_Id: admin", "Remote-User: admin"}, "alice", ""},
		"A66 anonymous":       {[]string{"X-User-Id: admin", "X_USER_ID: admin", "X-Forwarded-User: admin"}, "", ""},
		"A65 anonymous":       {[]string{"X-User-Id: admin", "Connection: X-User-Id"}, "", ""},
		"placeholder in text": {[]string{"Authorization: Bearer " + siteToken("{env.HOME}{http.request.host}")}, "{env.HOME}{http.request.host}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			request := strings.Replace(get("mcp.example.com", "/mcp", test.lines...), "Connection: close\r\n", "", 1)
			if response, body := send(t, address, request); response.StatusCode != http.StatusOK {
				t.Fatalf("%d %q", response.StatusCode, body)
			}
			header := <-seen
			if got := header.Get("X-User-Id"); got != test.user {
				t.Errorf("X-User-Id: %q, want %q", got, test.user)
			}
			if got := header.Get("X-Groups"); got != test.groups {
				t.Errorf("X-Groups: %q, want %q", got, test.groups)
			}
			for name, values := range header {
				if strings.Contains(name, "_") || strings.Contains(strings.Join(values, " "), "admin") || name == "Authorization" || name == "X-Admin" {
					t.Errorf("the upstream sees %s: %q", name, values)
				}
			}
		})
	}
}

// An error route of a site shapes its own answers, and no others.
func TestHandleErrors(t *testing.T) {
	address := startSite(t, "http://shaped.example.com {\n"+gateLines("")+`
			handle_errors 401 {
				header Content-Type application/problem+json
				respond "{err.status_code} | {err.message}"
			}
		}
		http://teapot.example.com {
			`+gateLines("")+`
			handle_errors 418 {
				respond "teapot"
			}
		}
		http://plain.example.com {
			`+gateLines("")+`
		}`)
	const text = "authentication failure: no bearer token found"
	for host, want := range map[string]string{
		"shaped.example.com": "401 | " + text,
		"teapot.example.com": text,
		"plain.example.com":  text,
	} {
		response, body := send(t, address, get(host, "/mcp"))
		if response.StatusCode != http.StatusUnauthorized || body != want {
			t.Errorf("%s: %d %q, want %q", host, response.StatusCode, body, want)
		}
		if got := response.Header.Get("WWW-Authenticate"); got != `Bearer realm="mcp"` {
			t.Errorf("%s: WWW-Authenticate: %s", host, got)
		}
		wantType, wantSniff := "text/plain; charset=utf-8", "nosniff"
		if host == "shaped.example.com" {
			wantType, wantSniff = "application/problem+json", ""
		}
		if got := response.Header.Get("Content-Type"); got != wantType {
			t.Errorf("%s: Content-Type: %s", host, got)
		}
		if got := response.Header.Get("X-Content-Type-Options"); got != wantSniff {
			t.Errorf("%s: X-Content-Type-Options: %q", host, got)
		}
	}
}
