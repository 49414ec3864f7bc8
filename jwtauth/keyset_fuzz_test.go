package jwtauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"reflect"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// FuzzKeySet looks for documents that break the reader, or get a key into a
// set that does not belong there. Documents come from the network.
func FuzzKeySet(f *testing.F) {
	set := mcptest.Set(rsaOnce(), ecOnce(), mcptest.NewKey("EdDSA", "ed"), mcptest.NewKey("HS512", "secret"))
	key := mcptest.JSON(rsaOnce().JWK())
	for _, doc := range []string{
		set, set[:len(set)/2], set + set, "", "{}", "[]", "null", `{"keys":null}`, `{"keys":{}}`, `{"keys":[]}`, `{"keys":[null,1,"x",[],{}]}`,
		`{"keys":[` + key + `,` + key + `]}`, `{"keys":[` + strings.Repeat(`{"kty":"oct"},`, 100) + key + `]}`, `{"keys":[` + key + `],"keys":[]}`,
		mcptest.Set(rsaOnce().As("", ""), ecOnce().As("ES384", "x"), ecOnce().As("none", "y")),
		mcptest.Set(jwkOf(ecOnce(), claims{"y": ecOnce().JWK()["x"]}), jwkOf(ecOnce(), claims{"crv": "P-521"}), jwkOf(ecOnce(), claims{"d": "AA"})),
		mcptest.Set(jwkOf(rsaOnce(), claims{"e": ""}), jwkOf(rsaOnce(), claims{"n": "AQAB"}), jwkOf(rsaOnce(), claims{"kty": "EC"})),
		mcptest.Set(jwkOf(rsaOnce(), claims{"use": 1, "kid": 1}), jwkOf(rsaOnce(), claims{"key_ops": "verify"}), jwkOf(rsaOnce(), claims{"alg": []string{}})),
		mcptest.Set(jwkOf(rsaOnce(), claims{"x5c": []string{"AAAA"}, "x5t": "A", "x5u": "http://a"}), claims{"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "x"}),
		`{"keys":[{"kty":"RSA","kid":"\ud800","n":"AQAB","e":"AQAB"}]}`, `{"keys":[{"kty":"oct","k":"","kid":"a"}]}`,
		`{"keys":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
	} {
		f.Add([]byte(doc), false, false)
		f.Add([]byte(doc), true, true)
	}
	f.Fuzz(func(t *testing.T, doc []byte, symmetric, missingKID bool) {
		policy := keyPolicy{symmetric: symmetric, missingKID: missingKID}
		var set *keySet
		var skipped []error
		var err error
		if used := allocated(func() { set, skipped, err = parseKeySet(doc, policy) }); used > 4<<20+uint64(len(doc))*200 {
			t.Errorf("%d bytes took %d bytes of memory", len(doc), used)
		}
		again, skippedAgain, errAgain := parseKeySet(doc, policy)
		if (err == nil) != (errAgain == nil) || len(skipped) != len(skippedAgain) {
			t.Fatalf("reading it again gives another result: %v and %v", err, errAgain)
		}
		if err != nil {
			if set != nil {
				t.Error("an error, and a set")
			}
			return
		}
		if !reflect.DeepEqual(set, again) {
			t.Error("reading it again gives another set")
		}
		if len(doc) > maxKeySetSize || len(set.all) == 0 || len(set.all)+len(skipped) > maxKeys {
			t.Errorf("%d bytes, %d keys, %d skipped", len(doc), len(set.all), len(skipped))
		}
		checkSet(t, set, policy)
	})
}

// checkSet wants what a set is for: each kid once, every key strong and good
// for something.
func checkSet(t *testing.T, set *keySet, policy keyPolicy) {
	t.Helper()
	named := make(map[string]bool)
	for _, k := range set.all {
		switch {
		case k.kid == "" && !policy.missingKID:
			t.Error("a key without kid")
		case k.kid != "" && named[k.kid]:
			t.Errorf("kid %q twice", k.kid)
		case k.kid != "" && set.byID[k.kid] != k:
			t.Errorf("kid %q leads elsewhere", k.kid)
		}
		if k.kid != "" {
			named[k.kid] = true
		}
		switch raw := k.raw.(type) {
		case *rsa.PublicKey:
			if bits := raw.N.BitLen(); bits < 2048 || bits > 8192 || raw.E < 3 || raw.E%2 == 0 || isROCA(raw.N) {
				t.Errorf("RSA key of %d bits, exponent %d", bits, raw.E)
			}
		case *ecdsa.PublicKey:
			if !raw.Curve.IsOnCurve(raw.X, raw.Y) { //nolint:staticcheck // another way than that of the code
				t.Error("a point that is not on its curve")
			}
		case ed25519.PublicKey:
			if len(raw) != ed25519.PublicKeySize {
				t.Errorf("Ed25519 key of %d bytes", len(raw))
			}
		case []byte:
			if !policy.symmetric || len(raw) < 32 {
				t.Errorf("a secret of %d bytes", len(raw))
			}
		default:
			t.Errorf("a %T", raw)
		}
		usable := 0
		for name := range algorithms {
			if k.fits(name) {
				usable++
			}
		}
		if usable == 0 || k.alg != "" && (usable != 1 || !k.fits(k.alg)) || k.fits("none") || k.fits("") {
			t.Errorf("a key with alg %q fits %d algorithms", k.alg, usable)
		}
	}
	if len(named) != len(set.byID) {
		t.Errorf("%d kids for %d keys", len(set.byID), len(named))
	}
}
