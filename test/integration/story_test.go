package integration

import (
	"net/http"
	"strings"
	"testing"
)

// storySite lets developers in, as the story begins.
const storySite = `http://:PORT {
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
			audiences https://mcp.example.com/mcp
		}
	}
	mcp_authorize {
		allow "dev" in jwt.groups
	}
	mcp_proxy http://UPSTREAM/mcp
}
`

var developer = map[string]any{"groups": []string{"dev"}, "aud": "https://mcp.example.com/mcp"}

// expectServed wants alice or bob to be served.
func (g *gateway) expectServed(sub string) {
	g.t.Helper()
	for _, message := range []string{initialize, readFile} {
		g.post(g.token(sub, developer), message).expect(g.t, sub, http.StatusOK, `"result"`)
	}
	g.reached(sub, 2)
}

// expectRefused wants alice or bob to be refused as somebody who may do nothing at all.
func (g *gateway) expectRefused(sub string) {
	g.t.Helper()
	for _, message := range []string{initialize, readFile} {
		g.post(g.token(sub, developer), message).expect(g.t, sub, http.StatusForbidden, "authorization failed")
	}
	g.reached(sub, 0)
}

func TestStory(t *testing.T) {
	g := start(t, storySite)

	a := g.post("", initialize)
	a.expect(t, "no token", http.StatusUnauthorized, "authentication failure: no bearer token found")
	if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="mcp"` {
		t.Errorf("no token: challenge %q", got)
	}
	token := g.token("alice", developer)
	a = g.post(token[:len(token)-8]+"AAAAAAAA", initialize)
	a.expect(t, "broken token", http.StatusUnauthorized, "authentication failure: the token is invalid or malformed: signature invalid")
	if got := a.header.Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_token"`) {
		t.Errorf("broken token: challenge %q", got)
	}
	g.reached("without a valid token", 0)
	g.expectServed("alice")
	g.expectServed("bob")

	// new rules take effect on the next request
	rules := g.pathOf("mcp_authorize") + "/rules"
	a = g.push("PATCH", rules, "application/json", []byte(`[{"action":"allow","match_expressions":["jwt.sub == \"alice\""]}]`))
	a.expect(t, "PATCH", http.StatusOK, "")
	g.expectServed("alice")
	g.expectRefused("bob")

	onlyBob := strings.Replace(storySite, `"dev" in jwt.groups`, `jwt.sub == "bob"`, 1)
	a = g.push("POST", "/load", "text/caddyfile", []byte(g.caddyfile(onlyBob)))
	a.expect(t, "POST /load", http.StatusOK, "")
	g.expectRefused("alice")
	g.expectServed("bob")

	a = g.push("POST", "/load", "application/json", g.adapt(storySite))
	a.expect(t, "POST /load of JSON", http.StatusOK, "")
	g.expectServed("alice")
	g.expectServed("bob")
}

// TestWrongPush: a configuration that is wrong is refused, says why, and changes nothing (A145).
func TestWrongPush(t *testing.T) {
	onlyAlice := strings.Replace(storySite, `"dev" in jwt.groups`, `jwt.sub == "alice"`, 1)
	g := start(t, onlyAlice)
	authorize, jwt, proxy := g.pathOf("mcp_authorize"), g.pathOf("mcp_jwt"), g.pathOf("mcp_proxy")
	before := g.config()
	g.expectServed("alice")
	upstream := g.upstream.Listener.Addr().String()

	for _, test := range []struct {
		what, method, path, contentType, body string
		// reasons are parts of the answer
		reasons []string
	}{
		{
			"a rule that is not CEL", "PATCH", authorize + "/rules/0", "application/json",
			`{"action":"allow","match_expressions":["true ||\n  jwt.sub = \"bob\""]}`,
			[]string{`rule \"allow#1\": line 2, column 11: Syntax error`},
		},
		{
			"a misspelt field", "POST", authorize + "/rules/", "application/json",
			`{"name":"open","action":"allow","match_expressions":["mcp.tool.nme == \"x\""]}`,
			[]string{`rule \"open\": line 1, column 1: undeclared reference to \"mcp.tool.nme\"`, "mcp.tool.name"},
		},
		{
			"a rule that is not boolean", "PATCH", authorize + "/rules/0/match_expressions/0", "application/json",
			`"mcp.method"`,
			[]string{`line 1, column 1: must be true or false, but is string`},
		},
		{
			"a rule without an action", "PATCH", authorize + "/rules/0", "application/json",
			`{"match_expressions":["true"]}`,
			[]string{`unknown action \"\"; it is allow, deny or require`},
		},
		{"a rule that is null", "PATCH", authorize + "/rules/0", "application/json", `null`, []string{"a rule is null"}},
		{
			"a rule of the wrong type", "PATCH", authorize + "/rules/0", "application/json", `"true"`,
			[]string{"decoding module config: http.handlers.mcp_authorize", "cannot unmarshal string into Go struct field"},
		},
		{
			"no rules", "DELETE", authorize + "/rules", "application/json", "",
			[]string{"mcp_authorize needs at least one rule: allow, deny or require"},
		},
		{
			"an unknown option", "PUT", authorize + "/alow", "application/json", `[]`,
			[]string{`unknown field \"alow\"`},
		},
		{
			"a missing key file", "PATCH", jwt + "/issuers/0/jwks", "application/json", `{"file":"/nonexistent/keys.json"}`,
			[]string{`issuer \"https://idp.example.com\": jwks file: stat /nonexistent/keys.json: no such file or directory`},
		},
		{
			"a broken key set", "PATCH", jwt + "/issuers/0/jwks", "application/json", `{"inline":{"keys":[{"kty":"nope"}]}}`,
			[]string{"key set has no usable key"},
		},
		{
			"no keys", "PATCH", jwt + "/issuers/0/jwks", "application/json", `{}`,
			[]string{"jwks needs exactly one of inline, file, url and discover"},
		},
		{
			"keys from two places", "PATCH", jwt + "/issuers/0/jwks", "application/json", `{"file":"KEYS","discover":true}`,
			[]string{"jwks needs exactly one of inline, file, url and discover"},
		},
		{"an issuer that is null", "PATCH", jwt + "/issuers/0", "application/json", `null`, []string{"an issuer is null"}},
		{"no issuer", "DELETE", jwt + "/issuers/0", "application/json", "", []string{"mcp_jwt needs at least one issuer"}},
		{"no upstream", "DELETE", proxy + "/upstreams", "application/json", "", []string{"mcp_proxy needs an upstream"}},
		{"an upstream that is null", "PATCH", proxy + "/upstreams/0", "application/json", `null`, []string{"an upstream is null"}},
		{
			"an upstream whose variable is not set", "PATCH", proxy + "/upstreams/0/dial", "application/json", `"{env.MCP_TEST_UNSET}"`,
			[]string{"placeholder {env.MCP_TEST_UNSET} is empty"},
		},
		{
			"an upstream that is a URL", "PATCH", proxy + "/upstreams/0/dial", "application/json", `"http://127.0.0.1:1"`,
			[]string{`upstream \"http://127.0.0.1:1\" is a URL; what is dialed is an address, host:port`},
		},
		{
			"an unknown transport", "PUT", proxy + "/transport", "application/json", `{"protocol":"pigeon"}`,
			[]string{"unknown module: http.reverse_proxy.transport.pigeon"},
		},
		{
			"a whole configuration with a wrong rule", "POST", "/load", "application/json",
			strings.Replace(before, `jwt.sub == \"alice\"`, `jwt.sub ==`, 1),
			[]string{`rule \"allow#1\": line 1, column 11: Syntax error`},
		},
		{
			"a Caddyfile with a wrong rule", "POST", "/load", "text/caddyfile",
			g.caddyfile(strings.Replace(onlyAlice, "jwt.sub ==", "jwt.sub =", 1)),
			[]string{`rule \"allow#1\": line 1, column 9: Syntax error`, "at Caddyfile:24"},
		},
	} {
		a := g.push(test.method, test.path, test.contentType, []byte(test.body))
		// Caddy answers 400 where it sees the fault itself, 500 where a module does
		if a.status != http.StatusBadRequest && a.status != http.StatusInternalServerError {
			t.Errorf("%s: %d %s, want an error", test.what, a.status, a.body)
		}
		for _, reason := range test.reasons {
			if !strings.Contains(a.body, reason) {
				t.Errorf("%s: the answer %s does not say %s", test.what, a.body, reason)
			}
		}
		if g.config() != before {
			t.Fatalf("%s: the configuration has changed", test.what)
		}
		// what the failed configuration never acquired, it must not release
		g.push("GET", "/reverse_proxy/upstreams", "application/json", nil).expect(t, test.what, http.StatusOK, upstream)
		g.expectServed("alice")
		g.expectRefused("bob")
	}
}
