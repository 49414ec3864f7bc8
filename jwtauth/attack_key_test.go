package jwtauth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// Attacks on the choice of the key: only the configuration says which keys
// there are, and only iss and kid choose among them.

// foreign signs with the foe's key under a header with more members.
func foreign(kid, members string) string {
	return foe().Key.Sign(`{"alg":"RS256","typ":"JWT",`+kid+members+`}`, goodPayload())
}

// decorated is foreign with the trusted key: a good token, whose header has
// members that must not matter.
func decorated(members string) string {
	return rsaOnce().Sign(`{"alg":"RS256","typ":"JWT","kid":"rsa",`+members+`}`, goodPayload())
}

func TestA21_EmbeddedKey(t *testing.T) {
	own := mcptest.JSON(foe().Key.JWK())
	named := mcptest.JSON(foe().Key.As("RS256", "mine").JWK())
	g := newGate(t)
	g.withstands(t, []attack{
		{"trusted kid", foreign(`"kid":"rsa",`, `"jwk":`+own), badSig},
		{"its own kid", foreign(`"kid":"mine",`, `"jwk":`+named), unknown("mine")},
		{"no kid", foreign(``, `"jwk":`+own), noKID},
		{"as a string", foreign(`"kid":"rsa",`, `"jwk":`+mcptest.JSON(own)), badSig},
		{"as a set", foreign(`"kid":"rsa",`, `"jwks":{"keys":[`+own+`]}`), badSig},
	})
	lenient := newGate(t, withKeys(rsaOnce()), withIssuer(func(i *Issuer) { i.AllowMissingKID = true }))
	lenient.withstands(t, []attack{{"no kid, where none is needed", foreign(``, `"jwk":`+own), badSig}})

	// it is not read: what is wrong with it makes no difference
	for _, jwk := range []string{own, `5`, `null`, `{"kty":"RSA","n":"AQ","e":"AQ"}`, `{"kty":"oct","k":"AAAA"}`, `"x"`} {
		g.accepts(t, decorated(`"jwk":`+jwk))
	}
}

func TestA22_KeyByURL(t *testing.T) {
	var hits []string
	attacker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits = append(hits, r.URL.Path)
		fmt.Fprint(w, mcptest.Set(foe().Key))
	}))
	g := newGate(t)
	for _, url := range []string{attacker.URL + "/jwks.json", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"} {
		for _, member := range []string{"jku", "x5u", "jwks_uri"} {
			value := `"` + member + `":"` + url + `"`
			g.refuses(t, foreign(`"kid":"rsa",`, value), badSig)
			g.refuses(t, foreign(`"kid":"mine",`, value), unknown("mine"))
			g.refuses(t, foreign(``, value), noKID)
			g.accepts(t, decorated(value))
		}
		// nor does a claim lead anywhere
		payload := mcptest.JSON(trusted().Claims("alice", forUs, claims{"iss": url, "jku": url, "jwks_uri": url}))
		g.refuses(t, foe().Key.Sign(foe().Header(), payload), notIssuer)
	}
	attacker.Close() // waits for what is under way
	if len(hits) != 0 {
		t.Errorf("keys were fetched: %v", hits)
	}
}

func TestA23_CertificateChain(t *testing.T) {
	private := foe().Key.Private.(*rsa.PrivateKey)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	chain := `"x5c":["` + base64.StdEncoding.EncodeToString(der) + `"]`
	thumb := `"x5t#S256":"` + mcptest.Base64(make([]byte, 32)) + `"`
	g := newGate(t)
	g.withstands(t, []attack{
		{"trusted kid", foreign(`"kid":"rsa",`, chain), badSig},
		{"no kid", foreign(``, chain), noKID},
		{"thumbprint", foreign(`"kid":"rsa",`, chain+`,`+thumb), badSig},
	})
	for _, members := range []string{chain, thumb, `"x5c":[]`, `"x5c":"no certificate"`, `"x5c":["!"]`, `"x5t":5`} {
		g.accepts(t, decorated(members))
	}
}

// Row 24: what a configuration names is not made from claims. The braces of
// anything but env and file are part of the name.
func TestA24_ClaimsDoNotChooseTheKeySet(t *testing.T) {
	dir := t.TempDir()
	for name, key := range map[string]*mcptest.Key{"{jwt.sub}.json": rsaOnce(), "mallory.json": foe().Key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(mcptest.Set(key)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := newGate(t, withIssuer(func(i *Issuer) { i.JWKS = &JWKS{File: filepath.Join(dir, "{jwt.sub}.json")} }))
	g.accepts(t, trusted().Token("mallory", forUs))
	g.refuses(t, foe().Token("mallory", forUs), badSig)

	_, err := tryGate(t, withIssuer(func(i *Issuer) { i.JWKS = &JWKS{File: filepath.Join(dir, "{jwt.iss}.json")} }))
	if err == nil || !strings.Contains(err.Error(), "{jwt.iss}.json") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestA25_KeyOfAnotherIssuer(t *testing.T) {
	a := trusted()
	b := &mcptest.Issuer{Name: "https://b.example", Key: foe().Key, Now: atNoon} // same kid
	only := &mcptest.Issuer{Name: b.Name, Key: mcptest.NewKey("ES256", "only-b"), Now: atNoon}
	g := newGate(t, func(h *Handler) {
		h.Issuers = append(h.Issuers, &Issuer{Issuer: b.Name, JWKS: inline(b.Key, only.Key), Audiences: []string{audience}})
	})
	asA, asB := claims{"aud": audience, "iss": a.Name}, claims{"aud": audience, "iss": b.Name}
	g.accepts(t, b.Token("alice", asB))
	g.accepts(t, only.Token("alice", asB))
	g.withstands(t, []attack{
		{"B signs for A, same kid", b.Token("alice", asA), badSig},
		{"A signs for B, same kid", a.Token("alice", asB), badSig},
		{"B signs for A, kid of B", only.Token("alice", asA), unknown("only-b")},
		{"neither", b.Token("alice", claims{"aud": audience, "iss": "https://c.example"}), notIssuer},
		{"both", b.Token("alice", claims{"aud": audience, "iss": []string{a.Name, b.Name}}), wrong("iss")},
	})
}

// Row 26: what one handler has found out about a token says nothing about
// another one. The calls alternate, so that a shared result would show.
func TestA26_ResultsAreNotShared(t *testing.T) {
	token := goodToken()
	here := newGate(t)
	other := newGate(t, withIssuer(func(i *Issuer) { i.Audiences = []string{"https://other.example"} }))
	typed := newGate(t, withIssuer(func(i *Issuer) { i.TokenTypes = []string{"at+jwt"} }))
	keys := newGate(t, withKeys(foe().Key))
	open := newGate(t, withIssuer(func(i *Issuer) { i.Issuer, i.Audiences = "", nil }))
	for range 3 {
		here.accepts(t, token)
		other.refuses(t, token, notAudience)
		open.accepts(t, token)
		typed.refuses(t, token, notType)
		keys.refuses(t, token, badSig)
	}
	// the same for two issuers of one handler that share a key
	both := newGate(t, func(h *Handler) {
		h.Issuers = append(h.Issuers, &Issuer{Issuer: "https://b.example", JWKS: inline(rsaOnce()), Audiences: []string{"b"}})
	})
	for range 3 {
		both.accepts(t, token)
		both.refuses(t, trusted().Token("alice", claims{"iss": "https://b.example", "aud": audience}), notAudience)
	}
	// and a token that differs in its signature only
	for range 3 {
		here.accepts(t, token)
		here.refuses(t, token[:len(token)-8]+"AAAAAAAA", badSig)
	}
}

func TestA27_UnknownKey(t *testing.T) {
	g := newGate(t)
	for i := range 200 {
		kid := fmt.Sprintf("flood-%d", i)
		g.refuses(t, rsaOnce().As("RS256", kid).Sign(`{"alg":"RS256","kid":"`+kid+`"}`, goodPayload()), unknown(kid))
	}
	g.accepts(t, goodToken())
}

func TestA28_MissingKeyID(t *testing.T) {
	rs := rsaOnce().Sign(`{"alg":"RS256"}`, goodPayload())
	ec := ecOnce().Sign(`{"alg":"ES256"}`, goodPayload())
	empty := rsaOnce().Sign(`{"alg":"RS256","kid":""}`, goodPayload())
	newGate(t).withstands(t, []attack{{"RS256", rs, noKID}, {"ES256", ec, noKID}, {"empty kid", empty, noKID}})

	lenient := withIssuer(func(i *Issuer) { i.AllowMissingKID = true })
	one := newGate(t, lenient)
	for _, token := range []string{rs, ec, empty} { // one key of each kind
		one.accepts(t, token)
	}
	one.refuses(t, foe().Key.Sign(`{"alg":"RS256"}`, goodPayload()), badSig)
	one.refuses(t, rsaOnce().As("PS256", "").Sign(`{"alg":"PS256"}`, goodPayload()), noKID) // fits no key
	one.refuses(t, rsaOnce().Sign(`{"alg":"RS256","kid":"no"}`, goodPayload()), unknown("no"))

	two := newGate(t, lenient, withKeys(rsaOnce(), foe().Key.As("RS256", "other"), ecOnce()))
	two.refuses(t, rs, noKID)
	two.accepts(t, ec)
	two.accepts(t, goodToken())

	// two keys without alg both fit every algorithm of their type
	vague := newGate(t, lenient, withKeys(rsaOnce().As("", "a"), foe().Key.As("PS256", "b")))
	vague.accepts(t, rs)
	vague.refuses(t, rsaOnce().As("PS256", "").Sign(`{"alg":"PS256"}`, goodPayload()), noKID)

	// keys without kid stay in the set, and serve tokens without kid only
	nameless := newGate(t, lenient, withKeys(rsaOnce().As("RS256", "")))
	nameless.accepts(t, rs)
	nameless.refuses(t, goodToken(), unknown("rsa"))
}

func TestA29_StrangeKeyID(t *testing.T) {
	long := strings.Repeat("k", 5000)
	var attacks []attack
	for _, test := range []struct{ name, kid, want string }{
		{"number", `5891645032159894383`, badKID},
		{"null", `null`, badKID},
		{"bool", `true`, badKID},
		{"array", `["rsa"]`, badKID},
		{"object", `{"rsa":1}`, badKID},
		{"empty", `""`, noKID},
		{"case", `"RSA"`, unknown("RSA")},
		{"blank", `"rsa "`, unknown("rsa ")},
		{"5 kB", `"` + long + `"`, unknown(long[:64])},
		{"64 characters", `"` + long[:64] + `"`, unknown(long[:64])},
		{"65 characters", `"` + long[:65] + `"`, unknown(long[:64])},
		{"100 umlauts", `"` + strings.Repeat("ü", 100) + `"`, unknown(strings.Repeat(`\u00fc`, 64))},
		{"path", `"../../../../dev/null"`, unknown("../../../../dev/null")},
		{"SQL", `"x' UNION SELECT 'key';--"`, unknown("x' UNION SELECT 'key';--")},
		{"quotes", `"a\"b\\c"`, unknown(`a\"b\\c`)},
		{"CR LF", `"rsa\r\nSet-Cookie: a=b"`, unknown(`rsa\r\nSet-Cookie: a=b`)},
		{"NUL", `"rsa\u0000"`, unknown(`rsa\x00`)},
		{"escape sequence", `"\u001b[31m"`, unknown(`\x1b[31m`)},
		{"line separator", `"a\u2028b"`, unknown(`a\u2028b`)},
		{"C1 control", `"a\u0085b"`, unknown(`a\u0085b`)},
		{"right-to-left", `"a\u202eb"`, unknown(`a\u202eb`)},
		{"template", `"{env.HOME}{{.}}"`, unknown("{env.HOME}{{.}}")},
		{"markup", `"<script>"`, unknown("<script>")},
		{"twice, between twins", `"rsa","KID":"x","Kid":"y","kid":"none"`, badHeader},
	} {
		header := `{"alg":"RS256","typ":"JWT","kid":` + test.kid + `}`
		attacks = append(attacks, attack{test.name, rsaOnce().Sign(header, goodPayload()), test.want})
	}
	newGate(t).withstands(t, attacks)
	// a twin of the name is another member, also where case folding of
	// Unicode would make it the same (the Kelvin sign is a K)
	for _, name := range []string{"KID", "Kid", "\u212aid"} {
		newGate(t).refuses(t, rsaOnce().Sign(`{"alg":"RS256","`+name+`":"rsa"}`, goodPayload()), noKID)
	}
}

func TestA30_DuplicateKeyID(t *testing.T) {
	newGate(t).withstands(t, []attack{
		{"good last", rsaOnce().Sign(`{"alg":"RS256","kid":"ec","kid":"rsa"}`, goodPayload()), badHeader},
		{"good first", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","kid":"ec"}`, goodPayload()), badHeader},
		{"same", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","kid":"rsa"}`, goodPayload()), badHeader},
		{"escaped", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","\u006bid":"ec"}`, goodPayload()), badHeader},
		{"duplicate of something else", decorated(`"x":1,"x":1`), badHeader},
		{"duplicate deep inside", decorated(`"x":[{"a":1,"a":1}]`), badHeader},
	})
}

func TestA31_KeyNotForVerification(t *testing.T) {
	for name, change := range map[string]claims{
		"use enc":               {"use": "enc"},
		"use in capitals":       {"use": "SIG"},
		"use of the future":     {"use": "x"},
		"key_ops encrypt":       {"key_ops": []string{"encrypt"}},
		"key_ops sign":          {"key_ops": []string{"sign"}},
		"key_ops empty":         {"key_ops": []string{}},
		"key_ops of the future": {"key_ops": []string{"prove"}},
	} {
		t.Run(name, func(t *testing.T) {
			jwk := rsaOnce().JWK()
			delete(jwk, "use")
			for member, value := range change {
				jwk[member] = value
			}
			newGate(t, withKeys(jwk, ecOnce())).refuses(t, goodToken(), unknown("rsa"))
			if _, err := tryGate(t, withKeys(jwk)); err == nil || !strings.Contains(err.Error(), "no usable key") {
				t.Errorf("a set of only this key: %v", err)
			}
		})
	}
	for _, change := range []claims{{}, {"use": "sig"}, {"key_ops": []string{"verify"}}, {"key_ops": []string{"sign", "verify"}}} {
		jwk := rsaOnce().JWK()
		delete(jwk, "use")
		for member, value := range change {
			jwk[member] = value
		}
		newGate(t, withKeys(jwk)).accepts(t, goodToken())
	}
}
