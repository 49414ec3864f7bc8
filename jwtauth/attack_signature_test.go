package jwtauth

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// Attacks on the signature itself.

func TestA07_PSSSaltLength(t *testing.T) {
	for alg, hash := range map[string]crypto.Hash{"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512} {
		key := rsaOnce().As(alg, "ps")
		g := newGate(t, withKeys(key, rsaOnce()))
		input := parts(`{"alg":"`+alg+`","kid":"ps"}`, goodPayload())
		for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, 0, 20, hash.Size() - 1, hash.Size() + 1, 256 - 2 - hash.Size()} {
			signature, err := rsa.SignPSS(rand.Reader, key.Private.(*rsa.PrivateKey), hash, mcptest.Digest(hash, input),
				&rsa.PSSOptions{SaltLength: max(salt, 0)})
			if salt == rsa.PSSSaltLengthEqualsHash {
				signature, err = key.Signature(input), nil
			}
			if err != nil {
				t.Fatal(err)
			}
			token := input + "." + mcptest.Base64(signature)
			if salt == rsa.PSSSaltLengthEqualsHash {
				g.accepts(t, token)
				continue
			}
			g.refuses(t, token, badSig)
		}
	}
}

func TestA09_NoSignature(t *testing.T) {
	good := goodToken()
	unsigned := good[:strings.LastIndexByte(good, '.')]
	newGate(t).withstands(t, []attack{
		{"empty", unsigned + ".", notCompact},
		{"missing", unsigned, notCompact},
		{"one byte", unsigned + ".AA", badSig},
		{"zeros", unsigned + "." + mcptest.Base64(make([]byte, 256)), badSig},
		{"of another token", unsigned + goodSignatureOf("bob"), badSig},
		{"of another key", foe().Token("alice", forUs), badSig},
		{"payload replaced", strings.Replace(good, mcptest.Base64([]byte(goodPayload())),
			mcptest.Base64([]byte(strings.Replace(goodPayload(), "alice", "admin", 1))), 1), badSig},
	})
}

// goodSignatureOf returns the last part of a good token, with its dot.
func goodSignatureOf(sub string) string {
	token := trusted().Token(sub, forUs)
	return token[strings.LastIndexByte(token, '.'):]
}

func TestA10_ECDSA(t *testing.T) {
	key := ecOnce()
	g := newGate(t)
	input := parts(`{"alg":"ES256","kid":"ec"}`, goodPayload())
	good := key.Signature(input)
	g.accepts(t, input+"."+mcptest.Base64(good))

	n := elliptic.P256().Params().N
	one := big.NewInt(1)
	r, s := new(big.Int).SetBytes(good[:32]), new(big.Int).SetBytes(good[32:])
	pair := func(r, s *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatal(err)
	}
	zeroDER, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int), new(big.Int)})
	for name, signature := range map[string][]byte{
		"psychic: r and s are 0": make([]byte, 64),
		"r is 0":                 pair(new(big.Int), s),
		"s is 0":                 pair(r, new(big.Int)),
		"r and s are n":          pair(n, n),
		"r is n":                 pair(n, s),
		"s is n":                 pair(r, n),
		"r and s are 1":          pair(one, one),
		"r is n - 1":             pair(new(big.Int).Sub(n, one), s),
		"r and s swapped":        pair(s, r),
		"all ones":               bytes.Repeat([]byte{0xff}, 64),
		"63 bytes, end cut":      good[:63],
		"63 bytes, start cut":    good[1:],
		"65 bytes, zero behind":  append(slices.Clone(good), 0),
		"65 bytes, zero before":  append([]byte{0}, good...),
		"66 bytes, each padded":  slices.Concat([]byte{0}, good[:32], []byte{0}, good[32:]),
		"twice":                  append(slices.Clone(good), good...),
		"DER":                    der,
		"DER of zeros":           zeroDER,
		"one byte":               {1},
		"for another curve":      mcptest.NewKey("ES384", "ec").Signature(input),
		"of another key":         mcptest.NewKey("ES256", "ec").Signature(input),
	} {
		t.Run(name, func(t *testing.T) { g.refuses(t, input+"."+mcptest.Base64(signature), badSig) })
	}
	// the same lengths matter for P-521, whose halves have 66 bytes
	wide := mcptest.NewKey("ES512", "wide")
	g = newGate(t, withKeys(wide))
	input = parts(`{"alg":"ES512","kid":"wide"}`, goodPayload())
	good = wide.Signature(input)
	g.accepts(t, input+"."+mcptest.Base64(good))
	for _, signature := range [][]byte{good[1:], good[:131], append(slices.Clone(good), 0), make([]byte, 132), make([]byte, 128)} {
		g.refuses(t, input+"."+mcptest.Base64(signature), badSig)
	}
}

// rawRSA applies the private key to a padded message of any form: who can do
// that can try every padding.
func rawRSA(key *rsa.PrivateKey, message []byte) []byte {
	m := new(big.Int).Exp(new(big.Int).SetBytes(message), key.D, key.N)
	return m.FillBytes(make([]byte, key.Size()))
}

// sha256Info is the DigestInfo of SHA-256 in PKCS#1 (RFC 8017 section 9.2).
var sha256Info = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// smallExponent makes an RSA key with e = 3, which is legal, and for which
// forgers of paddings need no private key.
func smallExponent(t *testing.T) *mcptest.Key {
	t.Helper()
	e := big.NewInt(3)
	prime := func() *big.Int {
		for {
			p, err := rand.Prime(rand.Reader, 1024)
			if err != nil {
				t.Fatal(err)
			}
			if new(big.Int).Mod(p, e).Int64() == 2 { // so that 3 has an inverse
				return p
			}
		}
	}
	one := big.NewInt(1)
	p, q := prime(), prime()
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	private := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 3},
		D:         new(big.Int).ModInverse(e, phi), Primes: []*big.Int{p, q},
	}
	private.Precompute()
	if err := private.Validate(); err != nil {
		t.Fatal(err)
	}
	return &mcptest.Key{ID: "three", Alg: "RS256", Private: private}
}

func TestA11_PaddingForgeries(t *testing.T) {
	key := smallExponent(t)
	private := key.Private.(*rsa.PrivateKey)
	g := newGate(t, withKeys(key, rsaOnce()))
	input := parts(`{"alg":"RS256","kid":"three"}`, goodPayload())
	digest := mcptest.Digest(crypto.SHA256, input)
	g.accepts(t, input+"."+mcptest.Base64(key.Signature(input)))

	size := private.Size()
	ff := func(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }
	// message pads what comes last to the size of the key
	message := func(start, last []byte) []byte {
		padding := ff(size - len(start) - 1 - len(last))
		return slices.Concat(start, padding, []byte{0}, last)
	}
	full := slices.Concat(sha256Info, digest)
	good := message([]byte{0, 1}, full)
	g.accepts(t, input+"."+mcptest.Base64(rawRSA(private, good)))

	noNull := slices.Concat([]byte{0x30, 0x2f, 0x30, 0x0b}, sha256Info[4:15], []byte{0x04, 0x20}, digest)
	longLength := slices.Concat([]byte{0x30, 0x81, 0x31}, full[2:])
	garbage := slices.Concat([]byte{0, 1}, ff(8), []byte{0}, full)
	garbage = append(garbage, bytes.Repeat([]byte{0x5a}, size-len(garbage))...)
	inParameters := slices.Concat([]byte{0x30, 0x81, 0xb4, 0x30, 0x81, 0x8f, 0x06, 0x09}, sha256Info[6:15], []byte{0x04, 0x81, 0x81},
		bytes.Repeat([]byte{0x5a}, 0x81), []byte{0x04, 0x20}, digest)
	sha512Info := slices.Concat(full[:14], []byte{0x03}, full[15:])
	flipped := slices.Clone(good)
	flipped[100] = 0xfe
	sign := func(em []byte) []byte { return rawRSA(private, em) }
	number := func(n *big.Int) []byte { return n.FillBytes(make([]byte, size)) }
	root := cubeRoot(garbage)
	cube := number(new(big.Int).Exp(root, big.NewInt(3), private.N))
	if !bytes.HasPrefix(cube, garbage[:2+8+1+len(full)]) {
		t.Fatal("the cube root is no forgery")
	}
	signature := key.Signature(input)
	plusN := new(big.Int).Add(new(big.Int).SetBytes(signature), private.N)

	for name, forged := range map[string][]byte{
		"garbage behind the hash":       sign(garbage),
		"the same without a key, e = 3": number(root),
		"garbage in the parameters":     sign(message([]byte{0, 1}, inParameters)),
		"no NULL parameters":            sign(message([]byte{0, 1}, noNull)),
		"length in the long form":       sign(message([]byte{0, 1}, longLength)),
		"hash without DigestInfo":       sign(message([]byte{0, 1}, digest)),
		"name of another hash":          sign(message([]byte{0, 1}, sha512Info)),
		"block type 2":                  sign(message([]byte{0, 2}, full)),
		"block type 0":                  sign(message([]byte{0, 0}, full)),
		"leading 1":                     sign(append([]byte{1}, good[1:]...)),
		"one padding byte wrong":        sign(flipped),
		"shifted":                       sign(slices.Concat(good[1:], []byte{0})),
		"padding of zeros":              sign(bytes.ReplaceAll(good, []byte{0xff}, []byte{0})),
		"no zero behind the padding":    sign(slices.Concat([]byte{0, 1}, ff(size-2-len(full)), full)),
		"hash of something else":        sign(message([]byte{0, 1}, slices.Concat(sha256Info, mcptest.Digest(crypto.SHA256, "x")))),
		"one byte behind the hash":      sign(message([]byte{0, 1}, append(slices.Clone(full), 0))),
		"hash cut by one byte":          sign(message([]byte{0, 1}, full[:len(full)-1])),
		"digest twice":                  sign(message([]byte{0, 1}, slices.Concat(full, digest))),
		"PSS":                           key.As("PS256", "").Signature(input),
		"one":                           number(big.NewInt(1)),
		"zero":                          number(new(big.Int)),
		"modulus":                       number(private.N),
		"modulus - 1":                   number(new(big.Int).Sub(private.N, big.NewInt(1))),
		"good, zero before":             append([]byte{0}, signature...),
		"good, zero behind":             append(slices.Clone(signature), 0),
		"good, plus modulus":            plusN.Bytes(),
		"good, cut":                     signature[:size-1],
	} {
		t.Run(name, func(t *testing.T) { g.refuses(t, input+"."+mcptest.Base64(forged), badSig) })
	}
}

// cubeRoot returns the smallest number whose cube is at least em: Daniel
// Bleichenbacher's forgery. The cube differs from em in its last bytes only,
// which are garbage anyway.
func cubeRoot(em []byte) *big.Int {
	target := new(big.Int).SetBytes(em)
	three := big.NewInt(3)
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(target.BitLen()/3+1))
	for low.Cmp(high) < 0 {
		middle := new(big.Int).Add(low, high)
		middle.Rsh(middle, 1)
		if new(big.Int).Exp(middle, three, nil).Cmp(target) < 0 {
			low = middle.Add(middle, big.NewInt(1))
		} else {
			high = middle
		}
	}
	return low
}

// With e = 1 a signature is its own padding: anybody can sign.
func TestA11_ExponentOne(t *testing.T) {
	weak := rsaOnce().As("RS256", "one").JWK()
	weak["e"] = mcptest.Base64([]byte{1})
	g := newGate(t, withKeys(rsaOnce(), weak))

	input := parts(`{"alg":"RS256","kid":"one"}`, goodPayload())
	full := slices.Concat(sha256Info, mcptest.Digest(crypto.SHA256, input))
	forged := slices.Concat([]byte{0, 1}, bytes.Repeat([]byte{0xff}, 256-3-len(full)), []byte{0}, full)
	g.withstands(t, []attack{{"the key is not loaded", input + "." + mcptest.Base64(forged), unknown("one")}})

	_, err := tryGate(t, withKeys(weak))
	if err == nil || !strings.Contains(err.Error(), "no usable key") {
		t.Errorf("a set of only this key: %v", err)
	}
}
