package docs_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddymcp/gateway/mcpproxy"
)

// example is the Caddyfile of a page that contains a text.
func example(t *testing.T, page, text string) string {
	t.Helper()
	for _, b := range blocks(t, page) {
		if b.lang == "caddyfile" && strings.Contains(b.text, text) {
			return b.text
		}
	}
	t.Fatalf("%s has no Caddyfile with %q", page, text)
	return ""
}

func readLog(t *testing.T, g *gateway) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.logs, "mcp.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const callGetMe = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get_me"}}`

// TestAccessLog: the filter keeps tokens out of the log.
func TestAccessLog(t *testing.T) {
	g := serve(t, example(t, "mcp_jwt.md", "format filter"))
	bearer := signed("", `{"sub":"alice"}`)
	r := post("", callGetMe)
	r.URL.RawQuery = "access_token=" + bearer + "&page=2"
	r.RequestURI = r.URL.RequestURI()
	r.Header.Set("X-Mcp-Token", bearer)
	if answer := g.ask(r); answer.Header().Get(reached) == "" {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	line := readLog(t, g)
	if strings.Contains(line, bearer) || strings.Contains(line, "X-Mcp-Token") {
		t.Errorf("the token is in the log: %s", line)
	}
	for _, want := range []string{`"uri":"/mcp?page=2"`, `"user_id":"alice"`} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is missing in the log: %s", want, line)
		}
	}
}

// TestLogAppend: the access log says what was asked and what decided.
func TestLogAppend(t *testing.T) {
	g := serve(t, example(t, "mcp_authorize.md", "log_append"))
	g.ask(post(signed("", ""), callGetMe))
	for _, want := range []string{`"mcp_method":"tools/call"`, `"mcp_tool":"get_me"`, `"mcp_rule":"allow#1"`} {
		if line := readLog(t, g); !strings.Contains(line, want) {
			t.Errorf("%s is missing in the log: %s", want, line)
		}
	}
}

// TestErrorRoute: an error route shapes the body, and the challenge stays.
func TestErrorRoute(t *testing.T) {
	g := serve(t, example(t, "mcp_jwt.md", "handle_errors"))
	answer := g.ask(post("", callGetMe))
	want := "no bearer token found; get a token from https://idp.example.com"
	if answer.Code != http.StatusUnauthorized || !strings.HasSuffix(answer.Body.String(), want) ||
		answer.Header().Get("WWW-Authenticate") != `Bearer realm="mcp"` {
		t.Errorf("%d %v %s", answer.Code, answer.Header(), answer.Body)
	}
}

// TestForwardedIdentity: the server gets the identity, and only that of the
// token.
func TestForwardedIdentity(t *testing.T) {
	got := http.Header{}
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer behind.Close()
	text := strings.Replace(example(t, "mcp_jwt.md", "header_up X-Groups"), "http://"+upstream, behind.URL, 1)
	g := serve(t, text)

	r := post(signed("", `{"sub":"alice","groups":["dev","ops"]}`), callGetMe)
	r.Header.Set("X-User", "root")
	r.Header.Set("X-Forwarded-User", "root")
	g.ask(r)
	if got.Get("X-User") != "alice" || got.Get("X-Groups") != "dev,ops" {
		t.Errorf("X-User %q, X-Groups %q", got["X-User"], got["X-Groups"])
	}
	for _, name := range []string{"Authorization", "X-Forwarded-User"} {
		if got[name] != nil {
			t.Errorf("%s: %q", name, got[name])
		}
	}
}

// TestExpansion: mcp_proxy sets what the page says it sets.
func TestExpansion(t *testing.T) {
	list := blocks(t, "mcp_proxy.md")
	var pair []string
	for _, b := range list {
		if b.lang == "caddyfile" && len(pair) < 2 {
			pair = append(pair, b.text)
		}
	}
	var short mcpproxy.Handler
	provision(t, pair[0], "mcp_proxy", &short)
	var long reverseproxy.Handler
	provision(t, pair[1], "reverse_proxy", &long)

	if short.FlushInterval != long.FlushInterval {
		t.Errorf("flush_interval %v, on the page %v", short.FlushInterval, long.FlushInterval)
	}
	if short.Rewrite == nil || long.Rewrite == nil || short.Rewrite.URI != long.Rewrite.URI {
		t.Errorf("rewrite %v, on the page %v", short.Rewrite, long.Rewrite)
	}
	idle := func(h *reverseproxy.Handler) int {
		configured := h.Transport
		if wrapped, ok := configured.(interface{ Unwrap() http.RoundTripper }); ok {
			configured = wrapped.Unwrap()
		}
		return configured.(*reverseproxy.HTTPTransport).KeepAlive.MaxIdleConnsPerHost
	}
	if idle(&short.Handler) != idle(&long) {
		t.Errorf("keepalive_idle_conns_per_host %d, on the page %d", idle(&short.Handler), idle(&long))
	}
	if len(long.Headers.Request.Delete) != 1 || long.Headers.Request.Delete[0] != "Authorization" {
		t.Errorf("removed headers on the page: %v", long.Headers.Request.Delete)
	}
}

// provision sets up the handler that a Caddyfile adapts to.
func provision(t *testing.T, text, name string, handler caddy.Provisioner) {
	t.Helper()
	cfg := config(t, text, t.TempDir())
	var app any
	if err := json.Unmarshal(cfg.AppsRaw["http"], &app); err != nil {
		t.Fatal(err)
	}
	handlers := find(app, name)
	if len(handlers) != 1 {
		t.Fatalf("%d handlers %s in\n%s", len(handlers), name, text)
	}
	delete(handlers[0], "handler")
	doc, err := json.Marshal(handlers[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(doc, handler); err != nil {
		t.Fatal(err)
	}
	cfg.AppsRaw = nil
	ctx, err := caddy.ProvisionContext(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := handler.Provision(ctx); err != nil {
		t.Fatal(err)
	}
}
