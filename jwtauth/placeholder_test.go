package jwtauth

import (
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/reqctx"
)

func TestPlaceholders(t *testing.T) {
	g := newGate(t)
	g.accepts(t, extended(`"name":"Alice","admin":true,"off":false,"level":7,"big":9007199254740993,"ratio":0.25,"whole":3.0,`+
		`"groups":["dev","ops"],"one":["dev"],"none":[],"mixed":["a",1,true,0.5],"empty":"","null":null,"object":{"a":1},`+
		`"deep":["a",["b"]],"objects":[{"a":1}],"nulls":["a",null],"huge":1e400,"id":"claim called id","with.dot":"dot",`+
		`"line":"a\nb","lines":["a","b\r\n"],"https://example.com/role":"namespaced","large":1e21,"tiny":1e-7`))
	for name, want := range map[string]string{
		"http.auth.user.id":       "alice",
		"http.auth.user.sub":      "alice",
		"http.auth.user.iss":      issuerURL,
		"http.auth.user.aud":      audience,
		"http.auth.user.exp":      "1750003600",
		"http.auth.user.name":     "Alice",
		"http.auth.user.admin":    "true",
		"http.auth.user.off":      "false",
		"http.auth.user.level":    "7",
		"http.auth.user.big":      "9007199254740993",
		"http.auth.user.ratio":    "0.25",
		"http.auth.user.whole":    "3",
		"http.auth.user.large":    "1000000000000000000000",
		"http.auth.user.tiny":     "0.0000001",
		"http.auth.user.groups":   "dev,ops",
		"http.auth.user.one":      "dev",
		"http.auth.user.mixed":    "a,1,true,0.5",
		"http.auth.user.with.dot": "dot",
		"mcp.issuer":              issuerURL,

		"http.auth.user.https://example.com/role": "namespaced",
		// what has no one text is empty
		"http.auth.user.none": "", "http.auth.user.empty": "", "http.auth.user.null": "", "http.auth.user.object": "",
		"http.auth.user.deep": "", "http.auth.user.objects": "", "http.auth.user.nulls": "", "http.auth.user.huge": "",
		"http.auth.user.line": "", "http.auth.user.lines": "", "http.auth.user.missing": "", "http.auth.user.Name": "", "http.auth.user.": "",
		// and what is none of ours stays for others
		"http.auth.user": "{http.auth.user}", "http.auth.users.id": "{http.auth.users.id}", "mcp.issuers": "{mcp.issuers}",
	} {
		if got := g.placeholder(name); got != want {
			t.Errorf("{%s} is %q, want %q", name, got, want)
		}
	}
}

func TestUserClaim(t *testing.T) {
	for claim, want := range map[string]string{
		"": "alice", "sub": "alice", "email": "alice@example.com", "level": "7", "groups": "dev,ops", "missing": "", "object": "",
	} {
		g := newGate(t, func(h *Handler) { h.UserClaim = claim })
		g.accepts(t, extended(`"email":"alice@example.com","level":7,"groups":["dev","ops"],"object":{}`))
		if got := g.placeholder("http.auth.user.id"); got != want {
			t.Errorf("user_claim %q: user %q, want %q", claim, got, want)
		}
		if got := g.placeholder("http.auth.user.sub"); got != "alice" {
			t.Errorf("user_claim %q: sub %q", claim, got)
		}
	}
}

// A handler must not need a replacer: other servers and tests have none.
func TestWithoutReplacer(t *testing.T) {
	g := newGate(t)
	for token, status := range map[string]int{goodToken(): 200, "": 401} {
		w := httptest.NewRecorder()
		if err := g.ServeHTTP(w, post(token), caddyhttp.HandlerFunc(g.upstream)); err != nil || w.Code != status {
			t.Errorf("%v, status %d, want %d", err, w.Code, status)
		}
	}
	if reqctx.From(g.seen.Context()).Identity.Subject != "alice" {
		t.Error("no identity")
	}
}
