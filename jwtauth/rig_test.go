package jwtauth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// What the tests agree on. The clock stands still at noon.
const (
	noon      = 1_750_000_000
	issuerURL = "https://idp.example.com/realms/acme"
	audience  = "https://mcp.example.com/mcp"
	siteURL   = "https://mcp.example.com/mcp"
)

func atNoon() time.Time { return time.Unix(noon, 0) }

// claims is short for the changes that a test makes to a good token.
type claims = map[string]any

var (
	rsaOnce = sync.OnceValue(func() *mcptest.Key { return mcptest.NewKey("RS256", "rsa") })
	ecOnce  = sync.OnceValue(func() *mcptest.Key { return mcptest.NewKey("ES256", "ec") })
	foeOnce = sync.OnceValue(func() *mcptest.Key { return mcptest.NewKey("RS256", "rsa") })
)

// trusted signs with the RSA key that every gate of newGate trusts.
func trusted() *mcptest.Issuer {
	return &mcptest.Issuer{Name: issuerURL, Key: rsaOnce(), Now: atNoon}
}

// trustedEC is trusted with the gate's EC key.
func trustedEC() *mcptest.Issuer {
	return &mcptest.Issuer{Name: issuerURL, Key: ecOnce(), Now: atNoon}
}

// foe signs with a key of its own that goes by the kid of the trusted one.
func foe() *mcptest.Issuer {
	return &mcptest.Issuer{Name: issuerURL, Key: foeOnce(), Now: atNoon}
}

// forUs is the audience that gates want.
var forUs = claims{"aud": audience}

// goodPayload is the payload of a token that passes, for tests that write
// their own header.
func goodPayload() string { return mcptest.JSON(trusted().Claims("alice", forUs)) }

// goodToken passes every gate of newGate.
func goodToken() string { return trusted().Token("alice", forUs) }

// inline is a key set in a configuration.
func inline(keys ...any) *JWKS { return &JWKS{Inline: jsontext.Value(mcptest.Set(keys...))} }

// gate is a handler with a clock that stands still, and the upstream behind
// it, which must see nothing of a request that is refused.
type gate struct {
	*Handler
	logs  *observer.ObservedLogs
	calls int
	// what the upstream saw
	seen     *http.Request
	identity *reqctx.Identity
}

// newGate provisions a handler that trusts the RSA and the EC key, as changed
// by configure.
func newGate(t testing.TB, configure ...func(*Handler)) *gate {
	t.Helper()
	g, err := tryGate(t, configure...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func tryGate(t testing.TB, configure ...func(*Handler)) (*gate, error) {
	t.Helper()
	h := &Handler{Issuers: []*Issuer{{
		Issuer:    issuerURL,
		JWKS:      inline(rsaOnce(), ecOnce()),
		Audiences: []string{audience},
	}}}
	for _, change := range configure {
		change(h)
	}
	ctx := caddyContext(t)
	if err := h.Provision(ctx); err != nil {
		return nil, err
	}
	h.verifier.now = atNoon
	core, logs := observer.New(zap.DebugLevel)
	h.logger = zap.New(core)
	return &gate{Handler: h, logs: logs}, nil
}

// caddyContext is the context of a configuration that has not been started.
func caddyContext(t testing.TB) caddy.Context {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// withIssuer changes the one issuer of a gate.
func withIssuer(change func(*Issuer)) func(*Handler) {
	return func(h *Handler) { change(h.Issuers[0]) }
}

// withKeys replaces the keys of the one issuer.
func withKeys(keys ...any) func(*Handler) {
	return withIssuer(func(i *Issuer) { i.JWKS = inline(keys...) })
}

func (g *gate) upstream(w http.ResponseWriter, r *http.Request) error {
	g.calls++
	g.seen = r
	g.identity = reqctx.From(r.Context()).Identity
	_, err := w.Write([]byte("upstream"))
	return err
}

// do sends a request through the gate.
func (g *gate) do(t testing.TB, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	return g.doOn(t, &caddyhttp.Server{}, r)
}

func (g *gate) doOn(t testing.TB, server *caddyhttp.Server, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	g.calls, g.seen, g.identity = 0, nil, nil
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
	if err := g.ServeHTTP(w, r, caddyhttp.HandlerFunc(g.upstream)); err != nil {
		t.Fatalf("ServeHTTP: %v", err)
	}
	return w
}

// placeholder is what a handler behind the gate reads; the name in braces
// when nobody knows it.
func (g *gate) placeholder(name string) string {
	repl := g.seen.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return repl.ReplaceKnown("{"+name+"}", "")
}

// claim is one that the identity has, nil without.
func (g *gate) claim(name string) any {
	value, _ := g.identity.Claims.Get(name)
	return value
}

// post is a request with this token as its bearer credential.
func post(token string) *http.Request { return mcptest.Request(siteURL, token, mcptest.Ping) }

// accepts wants the upstream to see the request.
func (g *gate) accepts(t testing.TB, token string) {
	t.Helper()
	if w := g.do(t, post(token)); w.Code != http.StatusOK || g.calls != 1 {
		t.Errorf("%d %q, want the request to pass", w.Code, w.Body)
	}
}

// refuses wants a 401 for an invalid token with exactly this text after
// "authentication failure: ", and an upstream that saw nothing.
func (g *gate) refuses(t testing.TB, token, text string) {
	t.Helper()
	g.checkRefused(t, g.do(t, post(token)), text)
}

func (g *gate) checkRefused(t testing.TB, w *httptest.ResponseRecorder, text string) {
	t.Helper()
	if want := "authentication failure: " + text; w.Code != http.StatusUnauthorized || w.Body.String() != want {
		t.Errorf("%d %q, want 401 %q", w.Code, w.Body, want)
	}
	if challenge := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer realm="mcp", error="invalid_token"`) {
		t.Errorf("WWW-Authenticate: %s", challenge)
	}
	if g.calls != 0 {
		t.Error("the upstream saw the request")
	}
}

// Texts of the answers, as the documentation gives them.
const (
	malformed = "the token header is malformed: "
	invalid   = "the token is invalid or malformed: "

	notCompact  = malformed + "not a compact JWS"
	notBase64   = malformed + "not base64url"
	badHeader   = malformed + "the header is not a JSON object that is valid"
	badPayload  = malformed + "the payload is not a JSON object that is valid"
	badAlg      = malformed + "alg is missing or not a string"
	badKID      = malformed + "kid is not a string"
	badTyp      = malformed + "typ is not a string"
	extension   = malformed + "the header asks for an extension that is not supported"
	noKID       = "the token header does not specify a `kid`"
	badSig      = invalid + "signature invalid"
	notAlg      = invalid + "algorithm not accepted"
	notType     = invalid + "token type not accepted"
	notIssuer   = invalid + "issuer not accepted"
	notAudience = invalid + "audience not accepted"
	expired     = invalid + "token expired"
	notYet      = invalid + "token not yet valid"
)

func missing(claim string) string { return invalid + `missing required claim "` + claim + `"` }
func wrong(claim string) string   { return invalid + `claim "` + claim + `" has the wrong type` }
func unknown(kid string) string   { return `token uses the unknown key "` + kid + `"` }

// A gate that refuses everything would pass all tests of attacks.
func TestGoodTokenPasses(t *testing.T) {
	g := newGate(t)
	g.accepts(t, goodToken())
	g.accepts(t, trustedEC().Token("alice", forUs))
	if g.identity.Issuer != issuerURL || g.identity.Subject != "alice" || g.identity.Anonymous ||
		!g.identity.Expires.Equal(atNoon().Add(time.Hour)) || g.claim("aud") != audience {
		t.Errorf("identity %+v", g.identity)
	}
}

// TestClaimsAsTheyCame: the handlers behind read what was signed, however it is written.
func TestClaimsAsTheyCame(t *testing.T) {
	g := newGate(t)
	g.accepts(t, saying(" \r\n"+strings.Replace(goodPayload(), `"sub"`, "\t\"s\\u0075b\" ", 1)+"\n "))
	if g.identity.Subject != "alice" || g.claim("sub") != "alice" || g.claim("exp") == nil || g.placeholder("http.auth.user.sub") != "alice" {
		t.Errorf("identity %+v, claims %s", g.identity, g.identity.Claims)
	}
}

func TestClientID(t *testing.T) {
	g := newGate(t)
	for members, want := range map[string]string{
		`"client_id":"a","azp":"b","cid":"c"`: "a",
		`"azp":"b","cid":"c"`:                 "b",
		`"cid":"c"`:                           "c",
		`"client_id":1,"azp":"b"`:             "b",
		`"client_id":["a"]`:                   "",
		`"Client_id":"a"`:                     "",
		`"x":1`:                               "",
	} {
		g.accepts(t, extended(members))
		if g.identity.ClientID != want {
			t.Errorf("%s: %q, want %q", members, g.identity.ClientID, want)
		}
	}
}

// attack is a token and the text it is refused with.
type attack struct{ name, token, want string }

// withstands tries each attack, and a good token after them: nothing may be
// left over from an attack.
func (g *gate) withstands(t *testing.T, attacks []attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) { g.refuses(t, a.token, a.want) })
	}
	g.accepts(t, goodToken())
}

// parts joins texts to what looks like a compact JWS, each of them encoded.
func parts(texts ...string) string {
	for i, text := range texts {
		texts[i] = mcptest.Base64([]byte(text))
	}
	return strings.Join(texts, ".")
}

// duration is a leeway as a configuration gives it; "" leaves it out.
func duration(t testing.TB, text string) *caddy.Duration {
	t.Helper()
	if text == "" {
		return nil
	}
	d, err := caddy.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return durationPointer(d)
}

func durationPointer(d time.Duration) *caddy.Duration {
	duration := caddy.Duration(d)
	return &duration
}
