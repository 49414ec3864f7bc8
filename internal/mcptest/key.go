// Package mcptest is what the tests of several packages share: keys of every
// kind, key sets, tokens whose bytes the test chooses, and requests. It signs
// with the standard library, so that what it makes owes nothing to the
// library that is being tested; what cannot fail panics.
package mcptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // for hashOf
	_ "crypto/sha512" // for hashOf
	"encoding/base64"
	"encoding/json"
	"math/big"
)

// Key is a key that signs tokens.
type Key struct {
	// ID is the kid of the JWK, none when it is empty.
	ID string
	// Alg is the algorithm Sign uses, and the alg of the JWK.
	Alg string
	// Private is *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey or
	// []byte.
	Private any
}

// NewKey makes a key that fits an algorithm: RS256, ES384, EdDSA, HS512, ...
func NewKey(alg, id string) *Key {
	var private any
	var err error
	switch alg {
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case "HS256", "HS384", "HS512":
		secret := make([]byte, 64)
		_, err = rand.Read(secret)
		private = secret
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		panic(err)
	}
	return &Key{ID: id, Alg: alg, Private: private}
}

// As returns the same key under another algorithm and ID.
func (k *Key) As(alg, id string) *Key { return &Key{ID: id, Alg: alg, Private: k.Private} }

// JWK returns the public half (RFC 7517); of a secret, the secret. The caller
// may change it.
func (k *Key) JWK() map[string]any {
	jwk := map[string]any{"use": "sig"}
	if k.ID != "" {
		jwk["kid"] = k.ID
	}
	if k.Alg != "" {
		jwk["alg"] = k.Alg
	}
	switch private := k.Private.(type) {
	case *rsa.PrivateKey:
		jwk["kty"] = "RSA"
		jwk["n"] = Base64(private.N.Bytes())
		jwk["e"] = Base64(big.NewInt(int64(private.E)).Bytes())
	case *ecdsa.PrivateKey:
		point, err := private.PublicKey.Bytes() // 4, X, Y
		if err != nil {
			panic(err)
		}
		size := len(point) / 2
		jwk["kty"], jwk["crv"] = "EC", private.Curve.Params().Name
		jwk["x"], jwk["y"] = Base64(point[1:1+size]), Base64(point[1+size:])
	case ed25519.PrivateKey:
		jwk["kty"], jwk["crv"] = "OKP", "Ed25519"
		jwk["x"] = Base64(private[ed25519.SeedSize:])
	case []byte:
		jwk["kty"], jwk["k"] = "oct", Base64(private)
	}
	return jwk
}

// Set returns the JWK Set of keys: each one a *Key, or a JWK as the test made
// it.
func Set(keys ...any) string {
	list := make([]any, 0, len(keys))
	for _, key := range keys {
		if k, ok := key.(*Key); ok {
			key = k.JWK()
		}
		list = append(list, key)
	}
	return JSON(map[string]any{"keys": list})
}

// Sign returns the compact JWS of exactly this header and payload.
func (k *Key) Sign(header, payload string) string {
	input := Base64([]byte(header)) + "." + Base64([]byte(payload))
	return input + "." + Base64(k.Signature(input))
}

// Signature signs any text by the key's algorithm.
func (k *Key) Signature(input string) []byte {
	if private, ok := k.Private.(ed25519.PrivateKey); ok {
		return ed25519.Sign(private, []byte(input))
	}
	hash := hashOf(k.Alg)
	if secret, ok := k.Private.([]byte); ok {
		mac := hmac.New(hash.New, secret)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
	digest := Digest(hash, input)
	var signature []byte
	var err error
	switch private := k.Private.(type) {
	case *rsa.PrivateKey:
		if k.Alg[0] == 'P' {
			options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			signature, err = rsa.SignPSS(rand.Reader, private, hash, digest, options)
		} else {
			signature, err = rsa.SignPKCS1v15(rand.Reader, private, hash, digest)
		}
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, private, digest); err == nil {
			size := (private.Curve.Params().BitSize + 7) / 8
			signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	}
	if err != nil {
		panic(err)
	}
	return signature
}

// hashOf returns the hash of an algorithm, which its name ends with.
func hashOf(alg string) crypto.Hash {
	switch alg[len(alg)-3:] {
	case "384":
		return crypto.SHA384
	case "512":
		return crypto.SHA512
	default:
		return crypto.SHA256
	}
}

// Digest hashes a text.
func Digest(hash crypto.Hash, input string) []byte {
	h := hash.New()
	h.Write([]byte(input))
	return h.Sum(nil)
}

// Base64 is the encoding of a JWS: URL-safe, without padding.
func Base64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// JSON writes a value that can be written.
func JSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}
