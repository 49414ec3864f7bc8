package jwtauth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// Every answer, byte for byte: clients and error pages are written against
// them.
func TestAnswers(t *testing.T) {
	long := strings.Repeat("k", 100)
	kid := func(kid string) string {
		return rsaOnce().Sign(mcptest.JSON(claims{"alg": "RS256", "kid": kid}), goodPayload())
	}
	unsigned := strings.TrimSuffix(goodToken(), goodSignatureOf("alice"))
	for _, test := range []struct {
		name, token, body string
		description       string // where it differs from the body: quotes and backticks are not allowed there
	}{
		{name: "not a compact JWS", token: "abc", body: "the token header is malformed: not a compact JWS"},
		{name: "no signature", token: unsigned + ".", body: "the token header is malformed: not a compact JWS"},
		{name: "base64", token: goodToken() + "=", body: "the token header is malformed: not base64url"},
		{name: "header JSON", token: parts("{", "{}", "x"), body: "the token header is malformed: the header is not a JSON object that is valid"},
		{name: "payload JSON", token: parts(`{"alg":"RS256"}`, "{", "x"), body: "the token header is malformed: the payload is not a JSON object that is valid"},
		{name: "oversize", token: strings.Repeat("a", 20_000), body: "the token header is malformed: the token is too large"},
		{
			name: "no kid", token: rsaOnce().Sign(`{"alg":"RS256"}`, goodPayload()), body: "the token header does not specify a `kid`",
			description: "the token header does not specify a 'kid'",
		},
		{name: "unknown issuer", token: trusted().Token("alice", claims{"iss": "x"}), body: "the token is invalid or malformed: issuer not accepted"},
		{
			name: "unknown kid", token: kid("5891645032159894383"), body: `token uses the unknown key "5891645032159894383"`,
			description: "token uses the unknown key '5891645032159894383'",
		},
		{
			name: "unknown kid, long", token: kid(long), body: `token uses the unknown key "` + long[:64] + `"`,
			description: "token uses the unknown key '" + long[:64] + "'",
		},
		{
			name: "unknown kid, odd", token: kid("\"\\`\r\nü"), body: "token uses the unknown key \"\\\"\\\\`\\r\\n\\u00fc\"",
			description: "token uses the unknown key '?'??'?r?n?u00fc'",
		},
		{name: "signature", token: foe().Token("alice", forUs), body: "the token is invalid or malformed: signature invalid"},
		{name: "expired", token: trusted().Token("alice", forUs, claims{"exp": 1}), body: "the token is invalid or malformed: token expired"},
		{name: "not yet", token: trusted().Token("alice", forUs, claims{"nbf": noon + 61}), body: "the token is invalid or malformed: token not yet valid"},
		{name: "audience", token: trusted().Token("alice", claims{"aud": "x"}), body: "the token is invalid or malformed: audience not accepted"},
		{name: "algorithm", token: rsaOnce().Sign(`{"alg":"none","kid":"rsa"}`, goodPayload()), body: "the token is invalid or malformed: algorithm not accepted"},
		{name: "type", token: typed(`"dpop+jwt"`), body: "the token is invalid or malformed: token type not accepted"},
		{
			name: "claim missing", token: trusted().Token("alice"), body: `the token is invalid or malformed: missing required claim "aud"`,
			description: `the token is invalid or malformed: missing required claim 'aud'`,
		},
		{
			name: "claim of another type", token: trusted().Token("alice", claims{"aud": 1}), body: `the token is invalid or malformed: claim "aud" has the wrong type`,
			description: `the token is invalid or malformed: claim 'aud' has the wrong type`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.description == "" {
				test.description = test.body
			}
			g := newGate(t)
			w := g.do(t, post(test.token))
			checkAnswer(t, w, http.StatusUnauthorized, "authentication failure: "+test.body,
				`Bearer realm="mcp", error="invalid_token", error_description="`+test.description+`"`)
			if g.calls != 0 {
				t.Error("the upstream saw the request")
			}
		})
	}
	g := newGate(t)
	checkAnswer(t, g.do(t, post("")), http.StatusUnauthorized, "authentication failure: no bearer token found", `Bearer realm="mcp"`)

	both := newGate(t, func(h *Handler) {
		h.Realm = "the tools"
		h.TokenFrom = []*TokenSource{{Source: "header", Name: "Authorization"}, {Source: "header", Name: "X-Token"}}
	})
	two := post(goodToken())
	two.Header.Set("X-Token", goodToken())
	checkAnswer(t, both.do(t, two), http.StatusBadRequest, "authentication failure: more than one credential was sent",
		`Bearer realm="the tools", error="invalid_request", error_description="more than one credential was sent"`)
}

// checkAnswer compares the whole answer: other headers than these would be
// new promises.
func checkAnswer(t *testing.T, w *httptest.ResponseRecorder, status int, body, challenge string) {
	t.Helper()
	if w.Code != status || w.Body.String() != body {
		t.Errorf("%d %q, want %d %q", w.Code, w.Body, status, body)
	}
	want := http.Header{
		"Content-Type": {"text/plain; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}, "Www-Authenticate": {challenge},
	}
	for name, values := range want {
		if !slices.Equal(w.Header()[name], values) {
			t.Errorf("%s: %q, want %q", name, w.Header()[name], values)
		}
	}
	for name, values := range w.Header() {
		if want[name] == nil {
			t.Errorf("header %s: %q", name, values)
		}
	}
}

// The order of the checks is part of the answers: a token with several faults
// gets the first of them, and nothing is told about claims before the
// signature has been checked.
func TestOrderOfFaults(t *testing.T) {
	sign := func(key *mcptest.Key, header, payload claims) string {
		return key.Sign(mcptest.JSON(header), mcptest.JSON(payload))
	}
	header := claims{"alg": "XX", "kid": "no", "typ": "no"}
	payload := claims{"iss": "no", "exp": 1, "aud": "no"}
	g := newGate(t)
	bad := foe().Key
	for _, step := range []struct {
		want string
		fix  func()
	}{
		{notAlg, func() { header["alg"] = "HS256" }},
		{notIssuer, func() { payload["iss"] = issuerURL; delete(header, "kid") }},
		{noKID, func() { header["kid"] = "no" }},
		{notAlg, func() { header["alg"] = "RS256" }},
		{notType, func() { header["typ"] = "JWT" }},
		{unknown("no"), func() { header["kid"] = "rsa" }},
		{badSig, func() { bad = rsaOnce() }},
		{expired, func() { payload["exp"], payload["nbf"] = noon+1, noon+9999 }},
		{notYet, func() { payload["nbf"] = 1 }},
		{notAudience, func() { payload["aud"] = audience; payload["sub"] = 1 }},
		{wrong("sub"), func() { payload["sub"] = "alice" }},
	} {
		g.refuses(t, sign(bad, header, payload), step.want)
		step.fix()
	}
	g.accepts(t, sign(bad, header, payload))
}

// errorRoute is what handle_errors makes: a route of the server's error
// routes that runs a handler where its matcher matches.
func errorRoute(hosts ...string) caddyhttp.Route {
	inner := caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{caddyhttp.StaticResponse{Body: "shaped"}}}
	return caddyhttp.Route{
		MatcherSets: caddyhttp.MatcherSets{{caddyhttp.MatchHost(hosts)}},
		Handlers:    []caddyhttp.MiddlewareHandler{&caddyhttp.Subroute{Routes: caddyhttp.RouteList{inner}}},
	}
}

func TestErrorRoutes(t *testing.T) {
	g := newGate(t)
	// serve sends a request through a server with these error routes
	serve := func(r *http.Request, routes ...caddyhttp.Route) (*httptest.ResponseRecorder, error) {
		g.calls = 0
		w := httptest.NewRecorder()
		server := &caddyhttp.Server{Errors: &caddyhttp.HTTPErrorConfig{Routes: routes}}
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
		return w, g.ServeHTTP(w, r, caddyhttp.HandlerFunc(g.upstream))
	}
	foreignPage := func() *http.Request { return comingFrom(siteURL, "https://evil.example") }
	bad := func() *http.Request { return post(foe().Token("alice", forUs)) }

	for name, test := range map[string]struct {
		request   func() *http.Request
		status    int
		message   string
		challenge string
	}{
		"invalid": {
			bad, 401, "authentication failure: " + badSig,
			`Bearer realm="mcp", error="invalid_token", error_description="` + badSig + `"`,
		},
		"none":   {func() *http.Request { return post("") }, 401, "authentication failure: no bearer token found", `Bearer realm="mcp"`},
		"origin": {foreignPage, 403, "origin not allowed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			// the site's own error route: a Caddy error, with nothing written
			w, err := serve(test.request(), errorRoute("mcp.example.com"))
			var failure caddyhttp.HandlerError
			ok := errors.As(err, &failure)
			if !ok || failure.StatusCode != test.status || failure.Err.Error() != test.message {
				t.Errorf("error %v, want %d %s", err, test.status, test.message)
			}
			if w.Body.Len() != 0 || w.Header().Get("WWW-Authenticate") != test.challenge || w.Header().Get("Content-Type") != "" {
				t.Errorf("wrote %q with %v", w.Body, w.Header())
			}
			// none, one of another site, one without handlers: the text
			for _, routes := range [][]caddyhttp.Route{
				nil,
				{errorRoute("other.example.com")},
				{errorRoute("a.example.com"), errorRoute("b.example.com")},
				{{MatcherSets: caddyhttp.MatcherSets{{caddyhttp.MatchHost{"mcp.example.com"}}}}},
			} {
				w, err := serve(test.request(), routes...)
				if err != nil || w.Code != test.status || w.Body.String() != test.message || w.Header().Get("WWW-Authenticate") != test.challenge {
					t.Errorf("%v: %d %q with %v", err, w.Code, w.Body, w.Header())
				}
			}
			// the second of two matches
			if _, err := serve(test.request(), errorRoute("other.example.com"), errorRoute("mcp.example.com")); err == nil {
				t.Error("the second route was not seen")
			}
			if g.calls != 0 {
				t.Error("the upstream saw the request")
			}
		})
	}
}

// What a handler behind calls for an anonymous request is the same answer.
func TestLogin(t *testing.T) {
	g := newGate(t, func(h *Handler) { h.Mode = ModeOptional })
	g.do(t, post(""))
	identity := reqctx.From(g.seen.Context()).Identity
	w := httptest.NewRecorder()
	if err := identity.Login(w, g.seen); err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, w, http.StatusUnauthorized, "authentication failure: no bearer token found", `Bearer realm="mcp"`)

	g.accepts(t, goodToken())
	if g.identity.Login != nil {
		t.Error("a login would not help who is logged in")
	}
}
