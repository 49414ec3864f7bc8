package jwtauth

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// jwkOf is a JWK with changes; a nil value removes a member.
func jwkOf(key *mcptest.Key, changes claims) map[string]any {
	jwk := key.JWK()
	for name, value := range changes {
		jwk[name] = value
		if value == nil {
			delete(jwk, name)
		}
	}
	return jwk
}

// refusesKey wants a key to be left out of a set, for a reason that has this
// text and names it, and the good key beside it to stay.
func refusesKey(t *testing.T, jwk map[string]any, reason string) {
	t.Helper()
	good := ecOnce().As("ES256", "good")
	set, skipped, err := parseKeySet([]byte(mcptest.Set(jwk, good)), keyPolicy{})
	if err != nil {
		t.Fatalf("the key took the others down: %v", err)
	}
	if len(set.all) != 1 || set.byID["good"] == nil || len(set.byID) != 1 {
		t.Errorf("the set holds %d keys: %v", len(set.all), set.byID)
	}
	if len(skipped) != 1 || !strings.Contains(skipped[0].Error(), reason) ||
		!strings.Contains(skipped[0].Error(), fmt.Sprintf("key 1 (kid %q)", jwk["kid"])) {
		t.Errorf("skipped %v, want one that says %q", skipped, reason)
	}
	if _, _, err := parseKeySet([]byte(mcptest.Set(jwk)), keyPolicy{}); err == nil ||
		!strings.Contains(err.Error(), "no usable key") || !strings.Contains(err.Error(), reason) {
		t.Errorf("a set of only this key: %v", err)
	}
}

func TestA32_ShortRSA(t *testing.T) {
	for _, bits := range []uint{8, 512, 1024, 2047} {
		n := new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1)
		refusesKey(t, jwkOf(rsaOnce(), claims{"n": mcptest.Base64(n.Bytes())}), fmt.Sprint(bits, " bits"))
	}
	// zeros in front do not make it longer
	short := append(make([]byte, 128), new(big.Int).SetBit(big.NewInt(1), 1023, 1).Bytes()...)
	refusesKey(t, jwkOf(rsaOnce(), claims{"n": mcptest.Base64(short)}), "1024 bits")
}

func TestA33_ExpensiveRSA(t *testing.T) {
	for _, bits := range []int{8193, 16384, 65536} {
		n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		refusesKey(t, jwkOf(rsaOnce(), claims{"n": mcptest.Base64(n.Bytes())}), fmt.Sprint(bits, " bits"))
	}
	for _, e := range []*big.Int{
		new(big.Int).SetBit(big.NewInt(1), 32, 1), new(big.Int).SetBit(big.NewInt(1), 62, 1),
		new(big.Int).SetBit(big.NewInt(1), 64, 1), new(big.Int).SetBit(big.NewInt(1), 2000, 1),
		big.NewInt(1), big.NewInt(2), big.NewInt(4), big.NewInt(65536),
	} {
		refusesKey(t, jwkOf(rsaOnce(), claims{"e": mcptest.Base64(e.Bytes())}), "exponent")
	}
	refusesKey(t, jwkOf(rsaOnce(), claims{"e": mcptest.Base64([]byte{0})}), `missing "e"`)
}

func TestA34_ROCA(t *testing.T) {
	// a modulus that is a power of 65537 modulo the product of small primes
	product := big.NewInt(1)
	for _, prime := range []int64{
		2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131,
		137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263, 269, 271,
	} {
		product.Mul(product, big.NewInt(prime))
	}
	for _, exponent := range []int64{1, 2, 12345, 987654321} {
		n := new(big.Int).SetBit(new(big.Int), 2047, 1)
		n.Sub(n, new(big.Int).Mod(n, product)).Add(n, product)
		n.Add(n, new(big.Int).Exp(big.NewInt(65537), big.NewInt(exponent), product))
		refusesKey(t, jwkOf(rsaOnce(), claims{"n": mcptest.Base64(n.Bytes())}), "CVE-2017-15361")
	}
}

func TestA35_AlgDoesNotFitTheKey(t *testing.T) {
	for alg, key := range map[string]*mcptest.Key{
		"RS256": ecOnce(), "ES256": rsaOnce(), "ES384": ecOnce(), "ES512": ecOnce(), "EdDSA": ecOnce(), "PS256": ecOnce(),
		"HS256": rsaOnce(), "none": rsaOnce(), "rs256": rsaOnce(), "ES521": ecOnce(), "ES224": ecOnce(), "A256GCM": rsaOnce(),
		"RSA-OAEP": rsaOnce(), "ES256K": ecOnce(), "RS1": rsaOnce(), "ECDH-ES": ecOnce(),
	} {
		t.Run(alg, func(t *testing.T) { refusesKey(t, jwkOf(key, claims{"alg": alg}), "algorithm") })
	}
	// types of keys that sign nothing we know
	for kty, jwk := range map[string]claims{
		"X25519":      {"kty": "OKP", "crv": "X25519", "x": mcptest.Base64(make([]byte, 32)), "kid": "x"},
		"P-224":       {"kty": "EC", "crv": "P-224", "x": mcptest.Base64(make([]byte, 28)), "y": mcptest.Base64(make([]byte, 28)), "kid": "x"},
		"secp256k1":   {"kty": "EC", "crv": "secp256k1", "x": mcptest.Base64(make([]byte, 32)), "y": mcptest.Base64(make([]byte, 32)), "kid": "x"},
		"ML-DSA":      {"kty": "AKP", "alg": "ML-DSA-44", "pub": mcptest.Base64(make([]byte, 1312)), "kid": "x"},
		"no type":     {"kid": "x"},
		"number":      {"kty": 1, "kid": "x"},
		"kid missing": {"kty": "RSA", "n": rsaOnce().JWK()["n"], "e": "AQAB", "kid": ""},
	} {
		t.Run(kty, func(t *testing.T) { refusesKey(t, jwk, "") })
	}
}

func TestA36_BrokenKey(t *testing.T) {
	zero := mcptest.Base64(make([]byte, 32))
	for name, jwk := range map[string]map[string]any{
		"point not on the curve": jwkOf(ecOnce(), claims{"y": ecOnce().JWK()["x"]}),
		"point at infinity":      jwkOf(ecOnce(), claims{"x": zero, "y": zero}),
		"point of another curve": jwkOf(ecOnce(), claims{"crv": "P-384"}),
		"no y":                   jwkOf(ecOnce(), claims{"y": nil}),
		"x of the wrong type":    jwkOf(ecOnce(), claims{"x": 1}),
		"no n":                   jwkOf(rsaOnce(), claims{"n": nil}),
		"n is no base64":         jwkOf(rsaOnce(), claims{"n": "{}"}),
		"n is an object":         jwkOf(rsaOnce(), claims{"n": claims{}}),
		"e is null":              jwkOf(rsaOnce(), claims{"e": nil}),
		"Ed25519, 31 bytes":      jwkOf(mcptest.NewKey("EdDSA", "ed"), claims{"x": mcptest.Base64(make([]byte, 31))}),
		"Ed25519, 33 bytes":      jwkOf(mcptest.NewKey("EdDSA", "ed"), claims{"x": mcptest.Base64(make([]byte, 33))}),
	} {
		t.Run(name, func(t *testing.T) { refusesKey(t, jwk, "") })
	}
	for _, entry := range []string{`null`, `1`, `"x"`, `[]`, `{}`, `true`} {
		doc := `{"keys":[` + entry + `,` + mcptest.JSON(ecOnce().JWK()) + `]}`
		set, skipped, err := parseKeySet([]byte(doc), keyPolicy{})
		if err != nil || len(set.all) != 1 || len(skipped) != 1 {
			t.Errorf("%s: %v, skipped %v", entry, err, skipped)
		}
	}
}

func TestPrivateKeyIsSkipped(t *testing.T) {
	private := rsaOnce().Private.(*rsa.PrivateKey)
	jwk := jwkOf(rsaOnce(), claims{
		"d": mcptest.Base64(private.D.Bytes()),
		"p": mcptest.Base64(private.Primes[0].Bytes()), "q": mcptest.Base64(private.Primes[1].Bytes()),
	})
	refusesKey(t, jwk, "private key")
	if _, skipped, _ := parseKeySet([]byte(mcptest.Set(jwk)), keyPolicy{}); strings.Contains(fmt.Sprint(skipped), jwk["d"].(string)) {
		t.Error("the reason repeats the private key")
	}
}

func TestA37_DuplicateKeyIDInSet(t *testing.T) {
	same := func(key *mcptest.Key) *mcptest.Key { return key.As("", "same") }
	for _, keys := range [][]any{
		{same(rsaOnce()), same(ecOnce()), foe().Key.As("RS256", "good")},
		{same(rsaOnce()), foe().Key.As("RS256", "good"), same(rsaOnce())},
		{same(rsaOnce()), same(ecOnce()), same(rsaOnce()), foe().Key.As("RS256", "good")},
	} {
		set, skipped, err := parseKeySet([]byte(mcptest.Set(keys...)), keyPolicy{missingKID: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(set.all) != 1 || len(set.byID) != 1 || set.byID["good"] == nil {
			t.Errorf("neither key may be used: %v", set.byID)
		}
		if len(skipped) != len(keys)-2 || !strings.Contains(skipped[0].Error(), `kid "same"`) {
			t.Errorf("skipped %v", skipped)
		}
		// a token without kid must not find one of them either
		if k, err := set.lookup(&token{alg: "ES256"}); err == nil {
			t.Errorf("found %+v", k)
		}
	}
	if _, err := tryGate(t, withKeys(rsaOnce(), rsaOnce())); err == nil {
		t.Error("a set of nothing but twins loads")
	}
	// one that cannot be used is no twin
	set, _, err := parseKeySet([]byte(mcptest.Set(jwkOf(rsaOnce(), claims{"use": "enc"}), rsaOnce())), keyPolicy{})
	if err != nil || set.byID["rsa"] == nil {
		t.Errorf("the key for encryption took the other one down: %v", err)
	}
}

func TestA38_SymmetricBesideAsymmetric(t *testing.T) {
	secret := mcptest.NewKey("HS256", "secret")
	refusesKey(t, secret.JWK(), "symmetric")
	refusesKey(t, secret.As("", "secret").JWK(), "symmetric")
	// where it is wanted it still has to be long enough for its hash
	for alg, size := range map[string]int{"HS256": 32, "HS384": 48, "HS512": 64} {
		for _, test := range []struct {
			size int
			ok   bool
		}{{0, false}, {1, false}, {size - 1, false}, {size, true}, {size + 1, true}} {
			key := &mcptest.Key{ID: "k", Alg: alg, Private: make([]byte, test.size)}
			_, _, err := parseKeySet([]byte(mcptest.Set(key)), keyPolicy{symmetric: true})
			if (err == nil) != test.ok {
				t.Errorf("%s with %d bytes: %v", alg, test.size, err)
			}
		}
	}
}

func TestKeySetDocument(t *testing.T) {
	key := mcptest.JSON(rsaOnce().JWK())
	many := func(n int) string {
		keys := make([]any, n)
		for i := range keys {
			keys[i] = ecOnce().As("ES256", fmt.Sprint("k", i))
		}
		return mcptest.Set(keys...)
	}
	for doc, want := range map[string]string{
		``:                                     "key set",
		`null`:                                 "key set",
		`[]`:                                   "key set",
		`{}`:                                   `"keys" is missing or not a list`,
		`{"keys":null}`:                        `"keys" is missing or not a list`,
		`{"keys":{}}`:                          `"keys" is missing or not a list`,
		`{"KEYS":[` + key + `]}`:               `"keys" is missing or not a list`,
		key:                                    `"keys" is missing or not a list`, // one key is no set
		`{"keys":[]}`:                          "no usable key",
		`{"keys":[` + key + `],"keys":[]}`:     "duplicate",
		`{"keys":[{"kty":"oct","kty":"RSA"}]}`: "duplicate",
		`{"keys":[` + key + `]}x`:              "data after",
		`{"keys":[` + key:                      "not valid JSON",
		"\ufeff" + `{"keys":[` + key + `]}`:    "not valid JSON",
		"<!doctype html>":                      "not valid JSON",
		`{"keys":` + strings.Repeat("[", 200) + `}`: "nested deeper",
		many(101): "more than 100",
		`{"x":"` + strings.Repeat("x", 1<<20) + `"}`: "larger than",
	} {
		if _, _, err := parseKeySet([]byte(doc), keyPolicy{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", doc, err, want)
		}
	}
	set, skipped, err := parseKeySet([]byte(many(100)), keyPolicy{})
	if err != nil || len(set.all) != 100 || len(skipped) != 0 {
		t.Errorf("100 keys: %v, skipped %v", err, skipped)
	}
	// members of the set and of keys that nobody knows are no reason to fail
	odd := `{"x":{"y":1},"keys":[` + strings.TrimSuffix(key, "}") + `,"ext":true,"x5t":"x","exp":1}]}`
	if set, _, err := parseKeySet([]byte(odd), keyPolicy{}); err != nil || set.byID["rsa"] == nil {
		t.Errorf("unknown members: %v", err)
	}
}

// Who reads the log learns which key was left out, and why.
func TestSkippedKeysAreWarnedAbout(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	issuer := &Issuer{Issuer: issuerURL, Audiences: []string{audience}, JWKS: inline(
		rsaOnce(),
		jwkOf(ecOnce(), claims{"use": "enc", "kid": "for-encryption"}),
		mcptest.NewKey("HS256", "shared-secret"),
		rsaOnce().As("RS256", ""),
		jwkOf(ecOnce(), claims{"x": "AA", "kid": "broken"}),
		ecOnce().As("ES256", "rsa2"), ecOnce().As("ES256", "rsa2"),
	)}
	h := &Handler{Issuers: []*Issuer{issuer}, logger: zap.New(core)}
	if err := h.provisionVerifier(caddyContext(t)); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, entry := range logs.All() {
		fields := entry.ContextMap()
		if entry.Message != "key skipped" || fields["issuer"] != issuerURL {
			t.Errorf("%s %v", entry.Message, fields)
		}
		texts = append(texts, fmt.Sprint(fields["error"]))
	}
	for i, want := range []string{
		`key 2 (kid "for-encryption"): is not for signatures`, `key 3 (kid "shared-secret"): is symmetric`,
		`key 4 (kid ""): has no kid`, `key 5 (kid "broken"): `, `key 7 (kid "rsa2"): another key has the same kid`,
	} {
		if i >= len(texts) || !strings.HasPrefix(texts[i], want) {
			t.Errorf("warnings %q, want %q at %d", texts, want, i)
		}
	}
	if len(texts) != 5 {
		t.Errorf("%d warnings: %q", len(texts), texts)
	}
}

// A gate without audiences is for demonstrations, and says so.
func TestMissingAudiencesAreWarnedAbout(t *testing.T) {
	for audiences, want := range map[string]int{"": 1, audience: 0} {
		core, logs := observer.New(zap.WarnLevel)
		issuer := &Issuer{Issuer: issuerURL, JWKS: inline(rsaOnce())}
		if audiences != "" {
			issuer.Audiences = []string{audiences}
		}
		h := &Handler{Issuers: []*Issuer{issuer}, logger: zap.New(core)}
		if err := h.provisionVerifier(caddyContext(t)); err != nil {
			t.Fatal(err)
		}
		if got := logs.FilterMessageSnippet("any audience").Len(); got != want {
			t.Errorf("audiences %q: %d warnings, want %d", audiences, got, want)
		}
	}
}

// A key of the largest size is one that can be used.
func TestLargestRSAKey(t *testing.T) {
	n := make([]byte, maxRSABits/8)
	if _, err := rand.Read(n); err != nil {
		t.Fatal(err)
	}
	n[0] |= 0x80
	n[len(n)-1] |= 1
	set, skipped, err := parseKeySet([]byte(mcptest.Set(jwkOf(rsaOnce(), claims{"n": mcptest.Base64(n)}))), keyPolicy{})
	if err != nil || len(skipped) != 0 || !slices.Contains(set.all, set.byID["rsa"]) {
		t.Fatalf("%v, skipped %v", err, skipped)
	}
	g := newGate(t, withKeys(jwkOf(rsaOnce(), claims{"n": mcptest.Base64(n)})))
	g.refuses(t, goodToken(), badSig)
}
