package mcptest

import (
	"net/http"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// The kit signs with the standard library; another implementation has to
// agree, or the tests that use it would prove nothing.
func TestTokensVerifyElsewhere(t *testing.T) {
	rsaKey := NewKey("RS256", "rsa")
	for _, alg := range []string{
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
	} {
		t.Run(alg, func(t *testing.T) {
			key := rsaKey.As(alg, "k")
			if alg[0] != 'R' && alg[0] != 'P' {
				key = NewKey(alg, "k")
			}
			issuer := &Issuer{Name: "https://idp.example", Key: key, Now: func() time.Time { return time.Unix(1e9, 0) }}
			token := issuer.Token("alice", map[string]any{"iat": nil})

			set, err := jwk.ParseString(Set(key))
			if err != nil {
				t.Fatal(err)
			}
			public, ok := set.LookupKeyID("k")
			if !ok {
				t.Fatal("the set has no key k")
			}
			known, _ := jwa.LookupSignatureAlgorithm(alg)
			payload, err := jws.Verify([]byte(token), jws.WithKey(known, public))
			if err != nil {
				t.Fatal(err)
			}
			if want := JSON(issuer.Claims("alice", map[string]any{"iat": nil})); string(payload) != want {
				t.Errorf("payload %s, want %s", payload, want)
			}
			if _, err := jws.Verify([]byte(token[:len(token)-6]), jws.WithKey(known, public)); err == nil {
				t.Error("a token that was cut short verifies")
			}
		})
	}
}

func TestRequest(t *testing.T) {
	r := Request("http://mcp.example.com/mcp", "a.b.c", Ping)
	if r.Method != http.MethodPost || r.Host != "mcp.example.com" || r.ContentLength != int64(len(Ping)) {
		t.Errorf("request %s %s, %d bytes", r.Method, r.Host, r.ContentLength)
	}
	if got := r.Header.Get("Authorization"); got != "Bearer a.b.c" {
		t.Errorf("Authorization %q", got)
	}
	if _, ok := Request("http://mcp.example.com/mcp", "", Ping).Header["Authorization"]; ok {
		t.Error("an empty token became a header")
	}
}
