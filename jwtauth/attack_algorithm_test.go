package jwtauth

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// Attacks on the algorithm: what a token says about it must never decide how
// it is checked.

func TestA01_AlgNone(t *testing.T) {
	var attacks []attack
	for _, alg := range []string{"none", "None", "NONE", "nOnE"} {
		header := `{"alg":"` + alg + `","kid":"rsa","typ":"JWT"}`
		signature := mcptest.Base64(rsaOnce().Signature(parts(header, goodPayload())))
		attacks = append(attacks,
			attack{alg + ", empty signature", parts(header, goodPayload()) + ".", notCompact},
			attack{alg + ", no signature part", parts(header, goodPayload()), notCompact},
			attack{alg + ", some signature", parts(header, goodPayload(), "x"), notAlg},
			attack{alg + ", good signature", parts(header, goodPayload()) + "." + signature, notAlg},
		)
	}
	newGate(t).withstands(t, attacks)
}

func TestA02_SignatureGoodButHeaderAlgIsNotTheKeys(t *testing.T) {
	ec, rs := ecOnce(), rsaOnce()
	newGate(t).withstands(t, []attack{
		{"none over ES256", ec.Sign(`{"alg":"none","kid":"ec"}`, goodPayload()), notAlg},
		{"RS256 over ES256", ec.Sign(`{"alg":"RS256","kid":"ec"}`, goodPayload()), notAlg},
		{"ES384 over ES256", ec.Sign(`{"alg":"ES384","kid":"ec"}`, goodPayload()), notAlg},
		{"ES256 over RS256", rs.Sign(`{"alg":"ES256","kid":"rsa"}`, goodPayload()), notAlg},
		{"RS384 over RS256", rs.Sign(`{"alg":"RS384","kid":"rsa"}`, goodPayload()), notAlg},
		{"EdDSA over RS256", rs.Sign(`{"alg":"EdDSA","kid":"rsa"}`, goodPayload()), notAlg},
	})
	// also where the key does not say its algorithm
	g := newGate(t, withKeys(rs.As("", "rsa"), ec))
	g.withstands(t, []attack{
		{"RS384 over RS256, key without alg", rs.Sign(`{"alg":"RS384","kid":"rsa"}`, goodPayload()), badSig},
		{"ES256 over RS256, key without alg", rs.Sign(`{"alg":"ES256","kid":"rsa"}`, goodPayload()), notAlg},
	})
}

func TestA03_AlgIsNoAlgorithm(t *testing.T) {
	var attacks []attack
	for _, test := range []struct{ name, members, want string }{
		{"missing", ``, badAlg},
		{"empty", `"alg":"",`, badAlg},
		{"null", `"alg":null,`, badAlg},
		{"number", `"alg":256,`, badAlg},
		{"array", `"alg":["RS256"],`, badAlg},
		{"object", `"alg":{"RS256":true},`, badAlg},
		{"case of the name", `"Alg":"RS256",`, badAlg},
		{"lower case", `"alg":"rs256",`, notAlg},
		{"blank at the end", `"alg":"RS256 ",`, notAlg},
		{"two in one", `"alg":"RS256,none",`, notAlg},
		{"unknown", `"alg":"RS1",`, notAlg},
		{"not of JWT", `"alg":"ES256K",`, notAlg},
		{"of a JWE", `"alg":"RSA-OAEP",`, notAlg},
		{"twice, good last", `"alg":"none","alg":"RS256",`, badHeader},
		{"twice, good first", `"alg":"RS256","alg":"none",`, badHeader},
		{"twice the same", `"alg":"RS256","alg":"RS256",`, badHeader},
		{"twice, once escaped", `"alg":"RS256","\u0061lg":"none",`, badHeader},
	} {
		header := `{` + test.members + `"kid":"rsa","typ":"JWT"}`
		attacks = append(attacks, attack{test.name, rsaOnce().Sign(header, goodPayload()), test.want})
	}
	newGate(t).withstands(t, attacks)
}

func TestA04_PublicKeyAsSecret(t *testing.T) {
	rs, ec := rsaOnce(), ecOnce()
	rsPublic := &rs.Private.(*rsa.PrivateKey).PublicKey
	ecPublic := &ec.Private.(*ecdsa.PrivateKey).PublicKey
	pkix := func(public any) []byte {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(rsPublic)
	inPEM := func(typ string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}) }
	point, err := ecPublic.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	secrets := []struct {
		name, kid string
		secret    []byte
	}{
		{"RSA PEM", "rsa", inPEM("PUBLIC KEY", pkix(rsPublic))},
		{"RSA PKCS#1 PEM", "rsa", inPEM("RSA PUBLIC KEY", pkcs1)},
		{"RSA DER", "rsa", pkix(rsPublic)},
		{"RSA PKCS#1 DER", "rsa", pkcs1},
		{"RSA n", "rsa", rsPublic.N.Bytes()},
		{"RSA n as text", "rsa", []byte(rs.JWK()["n"].(string))},
		{"RSA JWK", "rsa", []byte(mcptest.JSON(rs.JWK()))},
		{"EC PEM", "ec", inPEM("PUBLIC KEY", pkix(ecPublic))},
		{"EC DER", "ec", pkix(ecPublic)},
		{"EC point", "ec", point},
		{"EC JWK", "ec", []byte(mcptest.JSON(ec.JWK()))},
		{"key set", "rsa", []byte(mcptest.Set(rs, ec))},
		{"nothing", "rsa", nil},
	}
	// the gate that is asking for it: HS256 is named, and no key says its alg
	careless := newGate(t, withKeys(rs.As("", "rsa"), ec.As("", "ec")),
		withIssuer(func(i *Issuer) { i.Algorithms = []string{"RS256", "ES256", "HS256"} }))
	for _, g := range []*gate{newGate(t), careless} {
		var attacks []attack
		for _, s := range secrets {
			for _, kid := range []string{s.kid, "rsa", "ec"} {
				key := &mcptest.Key{ID: kid, Alg: "HS256", Private: append([]byte{}, s.secret...)}
				token := key.Sign(`{"alg":"HS256","kid":"`+kid+`","typ":"JWT"}`, goodPayload())
				attacks = append(attacks, attack{s.name + " " + kid, token, notAlg})
			}
		}
		g.withstands(t, attacks)
	}
}

func TestA05_PublishedSecret(t *testing.T) {
	secret := mcptest.NewKey("HS256", "secret")
	issuer := &mcptest.Issuer{Name: issuerURL, Key: secret, Now: atNoon}
	token := issuer.Token("alice", forUs)

	// without HS256 in algorithms the key is not even loaded
	for _, algs := range [][]string{nil, {"RS256", "ES256"}} {
		g := newGate(t, withKeys(rsaOnce(), secret, ecOnce()), withIssuer(func(i *Issuer) { i.Algorithms = algs }))
		g.withstands(t, []attack{{"secret among public keys", token, notAlg}})
		source, ok := g.verifier.issuers[issuerURL].source.(staticKeys)
		if set := source.set; !ok || set.byID["secret"] != nil || len(set.all) != 2 {
			t.Errorf("the secret was loaded: %v", set.byID)
		}
	}
	// nor from a place that others write, whatever algorithms says
	for _, keys := range []*JWKS{{URL: "https://idp.example.com/jwks.json"}, {Discover: true}, nil} {
		if i := (&Issuer{Issuer: issuerURL, JWKS: keys, Algorithms: []string{"HS256"}}); i.keyPolicy().symmetric {
			t.Errorf("%+v takes secrets", keys)
		}
	}
	// whoever names it means it
	g := newGate(t, withKeys(rsaOnce(), secret), withIssuer(func(i *Issuer) { i.Algorithms = []string{"RS256", "HS256"} }))
	g.accepts(t, token)
}

func TestA06_PSSForPKCS1(t *testing.T) {
	rs, ps := rsaOnce(), rsaOnce().As("PS256", "ps")
	g := newGate(t, withKeys(rs, ps))
	g.withstands(t, []attack{
		{"PS256, key says RS256", rsaOnce().As("PS256", "rsa").Sign(`{"alg":"PS256","kid":"rsa"}`, goodPayload()), notAlg},
		{"RS256, key says PS256", rs.Sign(`{"alg":"RS256","kid":"ps"}`, goodPayload()), notAlg},
		{"PS384, key says PS256", rs.As("PS384", "ps").Sign(`{"alg":"PS384","kid":"ps"}`, goodPayload()), notAlg},
		{"header PS256, signature RS256", rs.Sign(`{"alg":"PS256","kid":"ps"}`, goodPayload()), badSig},
		{"header RS256, signature PS256", ps.Sign(`{"alg":"RS256","kid":"rsa"}`, goodPayload()), badSig},
	})
	g.accepts(t, ps.Sign(`{"alg":"PS256","kid":"ps"}`, goodPayload()))
}

func TestA08_AlgorithmNotOfTheIssuer(t *testing.T) {
	g := newGate(t, withKeys(rsaOnce().As("", "rsa"), ecOnce()), withIssuer(func(i *Issuer) { i.Algorithms = []string{"RS256"} }))
	g.withstands(t, []attack{
		{"RS384", rsaOnce().As("RS384", "").Sign(`{"alg":"RS384","kid":"rsa"}`, goodPayload()), notAlg},
		{"PS256", rsaOnce().As("PS256", "").Sign(`{"alg":"PS256","kid":"rsa"}`, goodPayload()), notAlg},
		{"ES256", trustedEC().Token("alice", forUs), notAlg},
	})
}

// Each algorithm verifies, once with a key that names it and once with one
// that does not.
func TestAlgorithms(t *testing.T) {
	for alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			key := rsaOnce().As(alg, "k")
			if alg[0] != 'R' && alg[0] != 'P' {
				key = mcptest.NewKey(alg, "k")
			}
			token := (&mcptest.Issuer{Name: issuerURL, Key: key, Now: atNoon}).Token("alice", forUs)
			cut := token[:len(token)-4] + "AAAA"
			for _, published := range []*mcptest.Key{key, key.As("", "k")} {
				g := newGate(t, withKeys(published), withIssuer(func(i *Issuer) { i.Algorithms = []string{alg} }))
				g.accepts(t, token)
				g.refuses(t, cut, badSig)
			}
			// without the option: every asymmetric algorithm, no other
			if algorithms[alg].symmetric {
				newGate(t, withKeys(key, rsaOnce())).refuses(t, token, notAlg)
				return
			}
			newGate(t, withKeys(key)).accepts(t, token)
		})
	}
}
