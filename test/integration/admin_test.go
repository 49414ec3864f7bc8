package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// issuerShown is an issuer as the admin API shows it.
type issuerShown struct {
	Issuer, Source, Location, State string
	Keys                            []struct {
		KID        string
		Algorithms []string
	}
	AgeSeconds  *float64 `json:"age_seconds"`
	UsableUntil string   `json:"usable_until"`
	LastError   string   `json:"last_error"`
}

func (g *gateway) issuers() map[string]issuerShown {
	g.t.Helper()
	a := g.push("GET", "/mcp/issuers", "", nil)
	var list []issuerShown
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.status != http.StatusOK {
		g.t.Fatalf("GET /mcp/issuers: %d %s %v", a.status, a.body, err)
	}
	byName := make(map[string]issuerShown)
	for _, issuer := range list {
		byName[issuer.Issuer] = issuer
	}
	return byName
}

// TestAdminIssuers: whether the keys are healthy, and why not, without any secret.
func TestAdminIssuers(t *testing.T) {
	var fetched atomic.Int64
	broken := new(atomic.Bool)
	key := mcptest.NewKey("ES256", "remote")
	keyServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if strings.Contains(r.URL.Path, ".well-known") {
			_, _ = w.Write([]byte(mcptest.JSON(map[string]string{
				"issuer": "http://" + r.Host, "jwks_uri": "http://" + r.Host + "/found?token=s3cret",
			})))
			return
		}
		_, _ = w.Write([]byte(mcptest.Set(key)))
	}))
	defer keyServer.Close()
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	t.Setenv("MCP_SECRET", "s3cret")
	t.Setenv("MCP_JWKS", `{"keys":[{"kty":"oct","kid":"shared","alg":"HS256","k":"czNjcmV0LXMzY3JldC1zM2NyZXQtczNjcmV0LXMzY3JldA"}]}`)
	g := start(t, strings.NewReplacer("KEYSERVER", keyServer.Listener.Addr().String(), "DOWN", down.Listener.Addr().String()).Replace(`http://:PORT {
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
		issuer https://url.example.com {
			jwks url http://KEYSERVER/keys?key={env.MCP_SECRET}
		}
		issuer http://KEYSERVER {
			jwks discover
		}
		issuer https://down.example.com {
			jwks url http://DOWN/keys?key={env.MCP_SECRET}
		}
		issuer inline {
			jwks inline {env.MCP_JWKS}
			algorithms HS256
		}
	}
	mcp_authorize {
		allow `+"`jwt.password == \"{env.MCP_SECRET}\"`"+`
		target {env.MCP_SECRET}
	}
	mcp_proxy http://UPSTREAM/mcp
}
`))
	var got map[string]issuerShown
	address := keyServer.Listener.Addr().String()
	waitFor(t, "the fetches", func() bool {
		got = g.issuers()
		return got["https://url.example.com"].State == "ok" && got["http://"+address].State == "ok" && got["https://down.example.com"].LastError != ""
	})
	for name, want := range map[string]struct{ source, location, state, kid, algorithms string }{
		"https://idp.example.com":  {"file", "keys.json", "ok", "k1", "EdDSA"},
		"https://url.example.com":  {"url", "http://" + address + "/keys", "ok", "remote", "ES256"},
		"http://" + address:        {"discover", "http://" + address + "/found", "ok", "remote", "ES256"},
		"https://down.example.com": {"url", "http://" + down.Listener.Addr().String() + "/keys", "unavailable", "", ""},
		"inline":                   {"inline", "", "ok", "shared", "HS256"},
	} {
		issuer := got[name]
		kid, algorithms := "", ""
		if len(issuer.Keys) == 1 {
			kid, algorithms = issuer.Keys[0].KID, strings.Join(issuer.Keys[0].Algorithms, " ")
		}
		if issuer.Source != want.source || !strings.HasSuffix(issuer.Location, want.location) || issuer.State != want.state || kid != want.kid || algorithms != want.algorithms {
			t.Errorf("%s: %+v, want %+v", name, issuer, want)
		}
		if known := issuer.AgeSeconds != nil; known != (want.state == "ok" && name != "inline") {
			t.Errorf("%s: age %v", name, issuer.AgeSeconds)
		}
	}
	if !strings.Contains(got["https://down.example.com"].LastError, "connection refused") {
		t.Errorf("last error: %s", got["https://down.example.com"].LastError)
	}
	everything := g.push("GET", "/mcp/issuers", "", nil).body + g.push("GET", "/mcp/policies", "", nil).body
	log, err := os.ReadFile(g.logFile)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"an answer": everything, "the log": string(log)} {
		for _, secret := range []string{"s3cret", "czNjcmV0", `"x"`, `"k"`} {
			// the log tells of the request for the configuration, and no more
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s holds %s: %.300s", what, secret, text[max(0, i-100):])
			}
		}
	}
	if !strings.Contains(everything, `jwt.password == \"{env.MCP_SECRET}\"`) || !strings.Contains(everything, `"target":"{env.MCP_SECRET}"`) {
		t.Errorf("rules are not shown as they were written: %s", everything)
	}

	// a refresh within the cooldown fetches nothing
	before := fetched.Load()
	a := g.push("POST", "/mcp/issuers/refresh", "application/json", []byte(`{"issuer":"https://url.example.com"}`))
	a.expect(t, "refresh", http.StatusOK, `"result":"cooldown"`)
	if fetched.Load() != before || !strings.Contains(a.body, "retry_after_seconds") {
		t.Errorf("%d fetches: %s", fetched.Load()-before, a.body)
	}
	a = g.push("POST", "/mcp/issuers/refresh", "", nil)
	for _, result := range []string{`{"issuer":"inline","result":"not_needed"}`, `{"issuer":"https://idp.example.com","result":"not_needed"}`} {
		a.expect(t, "refresh of all", http.StatusOK, result)
	}
	g.push("POST", "/mcp/issuers/refresh", "", []byte(`{"issuer":"ghost"}`)).expect(t, "no such issuer", http.StatusNotFound, "no issuer")
	g.push("POST", "/mcp/issuers/refresh", "", []byte(`{"isuer":"inline"}`)).expect(t, "a misspelt member", http.StatusBadRequest, "isuer")
}

// TestAdminPolicies: the rules by handler.
func TestAdminPolicies(t *testing.T) {
	g := start(t, wireSite)
	var list []struct {
		ID     int
		Policy struct {
			OnDeny string `json:"on_deny"`
			Rules  []struct {
				Name, Action string
				Expressions  []string `json:"match_expressions"`
			}
		}
	}
	a := g.push("GET", "/mcp/policies", "", nil)
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		t.Fatal(err, a.body)
	}
	if len(list) != 1 || list[0].Policy.OnDeny != "hide" || len(list[0].Policy.Rules) == 0 {
		t.Fatalf("%s", a.body)
	}
	for _, rule := range list[0].Policy.Rules {
		if rule.Name == "" || rule.Action == "" || len(rule.Expressions) == 0 {
			t.Errorf("%+v", rule)
		}
	}
	if a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", a.header)
	}
	// those of the configuration in use, and of no other
	g.load(g.adapt(strings.Replace(wireSite, "mcp_authorize {", "mcp_authorize {\n\t\ttarget new", 1)))
	if body := g.push("GET", "/mcp/policies", "", nil).body; !strings.Contains(body, `"target":"new"`) || strings.Count(body, `"id"`) != 1 {
		t.Errorf("%s", body)
	}
	g.load(g.adapt("http://:PORT {\n\trespond hello\n}\n"))
	for _, path := range []string{"/mcp/policies", "/mcp/issuers"} {
		g.push("GET", path, "", nil).expect(t, "a configuration without us", http.StatusOK, "[]")
	}
}

// TestAdminRefusals: what Caddy's admin API refuses, these endpoints do as well: hosts and origins of others, methods.
func TestAdminRefusals(t *testing.T) {
	g := start(t, wireSite)
	for path, method := range map[string]string{
		"/mcp/issuers": "GET", "/mcp/issuers/refresh": "POST", "/mcp/policies": "GET", "/mcp/explain": "POST",
	} {
		for _, other := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"} {
			if other == method {
				continue
			}
			if a := g.push(other, path, "", nil); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != method {
				t.Errorf("%s %s: %d %v", other, path, a.status, a.header)
			}
		}
		for what, change := range map[string]func(*http.Request){
			"the origin of another site": func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
			"no origin at all":           func(r *http.Request) { r.Header.Set("Origin", "null") },
			"a rebound name":             func(r *http.Request) { r.Host = "evil.example" },
			"a page without CORS":        func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "no-cors") },
			"a websocket":                func(r *http.Request) { r.Header.Set("Upgrade", "websocket") },
		} {
			r, err := http.NewRequest(method, g.admin+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			change(r)
			if a := do(t, r); a.status != http.StatusForbidden && a.status != http.StatusBadRequest || strings.Contains(a.body, "idp.example.com") {
				t.Errorf("%s: %s: %d %s", path, what, a.status, a.body)
			}
		}
	}
	for _, path := range []string{"/mcp/", "/mcp/x", "/mcp/issuers/", "/mcp/issuers/refresh/x"} {
		g.push("GET", path, "", nil).expect(t, path, http.StatusNotFound, "")
	}
	large := []byte(strings.Repeat(" ", 1<<20) + "{}")
	g.push("POST", "/mcp/explain", "", large).expect(t, "a large body", http.StatusRequestEntityTooLarge, "")
	for _, body := range []string{"", "{", "[]", `{"operation":null,"x":1}`, `{"policy":0}`, `{} {}`} {
		g.push("POST", "/mcp/explain", "", []byte(body)).expect(t, body, http.StatusBadRequest, "")
	}
	g.push("POST", "/mcp/explain", "", []byte(`{"policy":7,"operation":{}}`)).expect(t, "no such policy", http.StatusNotFound, "")
}

// TestAdminExplain: the running rules say what they make of an operation, without the values of placeholders.
func TestAdminExplain(t *testing.T) {
	t.Setenv("MCP_SECRET", "s3cret")
	g := start(t, `http://:PORT {
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
	}
	mcp_authorize {
		deny `+"`jwt.password == \"{env.MCP_SECRET}\" || jwt[\"{env.MCP_SECRET}\"] == 1`"+`
		allow `+"`jwt.sub == \"alice\" && mcp.tool.arguments.path.startsWith(\"/pub/\")`"+`
	}
	mcp_proxy http://UPSTREAM/mcp
}
`)
	ask := func(operation string) answer {
		t.Helper()
		return g.push("POST", "/mcp/explain", "application/json", []byte(`{"operation":`+operation+`}`))
	}
	var explained struct {
		Decision, Rule string
		Questions      []struct {
			Rules []struct {
				Name        string
				Expressions []struct{ Expression, Verdict, Detail string }
			}
		}
	}
	a := ask(`{"claims":{"sub":"alice","password":"x"},"method":"tools/call","target":"read","arguments":{"path":"/pub/a"}}`)
	if err := json.Unmarshal([]byte(a.body), &explained); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s %v", a.status, a.body, err)
	}
	// a claim that is missing is an error, and an error of a deny denies
	rule := explained.Questions[0].Rules[0]
	if explained.Decision != "deny" || explained.Rule != "deny#1" || rule.Name != "deny#1" || rule.Expressions[0].Verdict != "error" {
		t.Errorf("%s", a.body)
	}
	if !strings.Contains(a.body, `{env.MCP_SECRET}`) || strings.Contains(a.body, "s3cret") {
		t.Errorf("a value of a placeholder is told: %s", a.body)
	}
	ask(`{"claims":{"sub":"alice","password":"x","s3cret":2},"method":"tools/call","target":"read","arguments":{"path":"/pub/a"}}`).
		expect(t, "allowed", http.StatusOK, `"decision":"allow"`)
	for _, operation := range []string{`{}`, `{"method":"ping","metod":"x"}`, `[]`, `{"method":"ping","method":"ping"}`} {
		ask(operation).expect(t, operation, http.StatusBadRequest, "")
	}
	if requests := g.upstream.take(); len(requests) != 0 {
		t.Errorf("explaining has reached the server: %v", requests)
	}
	if decisions := g.scrape()[`decisions_total{decision="deny",method="tools/call",rule="deny#1"}`]; decisions != "" {
		t.Errorf("explaining has been counted: %s", decisions)
	}
}
