package integration

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// TestA151_Misconfigured: what is configured wrongly does not load; what was there stays. It is never open.
func TestA151_Misconfigured(t *testing.T) {
	const good = "http://:PORT {\n\tmcp_jwt {\n\t\tissuer https://idp.example.com {\n\t\t\tjwks file KEYS\n\t\t}\n\t}\n" +
		"\tmcp_authorize {\n\t\tallow true\n\t}\n\tmcp_proxy http://UPSTREAM/mcp\n}\n"
	g := start(t, good)
	config := g.config()
	change := func(old, replacement string) []byte {
		changed := strings.Replace(config, old, replacement, 1)
		if changed == config {
			t.Fatalf("the configuration has no %s: %s", old, config)
		}
		return []byte(changed)
	}
	const issuer = `"issuer":"https://idp.example.com",`
	for name, broken := range map[string][]byte{
		"an empty audience":             change(issuer, issuer+`"audiences":[""],`),
		"an audience among empty ones":  change(issuer, issuer+`"audiences":["https://mcp.example.com/mcp",""],`),
		"two providers, one name":       change(`"issuers":[{`, `"issuers":[{`+issuer+`"jwks":{"url":"https://idp.example.com/keys"}},{`),
		"a nameless one beside another": change(`"issuers":[{`, `"issuers":[{"jwks":{"url":"https://idp.example.com/keys"}},{`),
		"no provider":                   change(`"issuers":[{`, `"issuers":[],"other":[{`),
		"an empty name":                 change(issuer, `"issuer":"","jwks2":0,`),
		"no rules":                      change(`"rules":[{"action":"allow","match_expressions":["true"]}]`, `"rules":[]`),
		"a rule without a condition":    change(`"match_expressions":["true"]`, `"match_expressions":[]`),
		"an empty condition":            change(`"match_expressions":["true"]`, `"match_expressions":[""]`),
		"an unknown action":             change(`"action":"allow"`, `"action":"permit"`),
		"no keys":                       change(`"jwks":{"file":`, `"jwks":{},"x":{"file":`),
	} {
		if a := g.push("POST", "/load", "application/json", broken); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		g.post("", mcptest.Ping).expect(t, name+", no token", http.StatusUnauthorized, "no bearer token found")
		g.post(g.token("alice"), readFile).expect(t, name+", a token", http.StatusOK, `"result"`)
	}
}

// TestA152_ConfigHoldsNoSecret: what a configuration takes from the environment is not to be read from the admin API, also
// after somebody has edited where keys come from.
func TestA152_ConfigHoldsNoSecret(t *testing.T) {
	const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldC0h"
	t.Setenv("MCP_TEST_SECRET", secret)
	t.Setenv("MCP_TEST_JWK_SET", `{"keys":[{"kty":"oct","kid":"k","alg":"HS256","k":"`+secret+`"}]}`)
	g := start(t, `http://:PORT {
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
		issuer internal {
			jwks inline {env.MCP_TEST_JWK_SET}
			algorithms HS256
		}
	}
	mcp_authorize {
		allow `+"`jwt.sub != \"{env.MCP_TEST_SECRET}\"`"+`
	}
	mcp_proxy http://UPSTREAM/mcp {
		session_key {env.MCP_TEST_SECRET}
		header_up Authorization "Bearer {env.MCP_TEST_SECRET}"
	}
}
`)
	g.post(g.token("alice"), readFile).expect(t, "a call", http.StatusOK, `"result"`)
	path := g.pathOf("mcp_jwt") + "/issuers/1/jwks"
	if a := g.push("PATCH", path, "application/json", []byte(`{"url":"http://127.0.0.1:1/keys?key={env.MCP_TEST_SECRET}"}`)); a.status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	g.post(g.token("alice"), readFile).expect(t, "a call after the change", http.StatusOK, `"result"`)
	log, err := os.ReadFile(g.logFile)
	if err != nil {
		t.Fatal(err)
	}
	answers := g.config()
	for _, path := range []string{"/mcp/issuers", "/mcp/policies"} {
		answers += g.push("GET", path, "", nil).body
	}
	for where, text := range map[string]string{"the admin API": answers, "the log": string(log)} {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the secret", where)
		}
	}
	if !strings.Contains(answers, "{env.MCP_TEST_SECRET}") {
		t.Errorf("the configuration is not shown as it was written: %s", answers)
	}
}
