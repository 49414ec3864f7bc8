package jwtauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"

	"github.com/lestrrat-go/jwx/v3/jwa"
)

// algorithm is a JWS algorithm (RFC 7518 section 3) and the keys it takes.
type algorithm struct {
	jwa jwa.SignatureAlgorithm
	// symmetric algorithms must be configured by name, and their keys by
	// value: anybody who can check such a token can make one.
	symmetric bool
	// fits reports whether a raw key can be used with the algorithm.
	fits func(key any) bool
}

// algorithms are all that is ever accepted; "none" is not among them.
var algorithms = map[string]algorithm{
	"RS256": {jwa: jwa.RS256(), fits: isRSA},
	"RS384": {jwa: jwa.RS384(), fits: isRSA},
	"RS512": {jwa: jwa.RS512(), fits: isRSA},
	"PS256": {jwa: jwa.PS256(), fits: isRSA},
	"PS384": {jwa: jwa.PS384(), fits: isRSA},
	"PS512": {jwa: jwa.PS512(), fits: isRSA},
	"ES256": {jwa: jwa.ES256(), fits: isEC(elliptic.P256())},
	"ES384": {jwa: jwa.ES384(), fits: isEC(elliptic.P384())},
	"ES512": {jwa: jwa.ES512(), fits: isEC(elliptic.P521())},
	"EdDSA": {jwa: jwa.EdDSA(), fits: isEd25519},
	"HS256": {jwa: jwa.HS256(), symmetric: true, fits: isSecret(32)},
	"HS384": {jwa: jwa.HS384(), symmetric: true, fits: isSecret(48)},
	"HS512": {jwa: jwa.HS512(), symmetric: true, fits: isSecret(64)},
}

func isRSA(key any) bool {
	_, ok := key.(*rsa.PublicKey)
	return ok
}

func isEC(curve elliptic.Curve) func(any) bool {
	return func(key any) bool {
		public, ok := key.(*ecdsa.PublicKey)
		return ok && public.Curve == curve
	}
}

func isEd25519(key any) bool {
	_, ok := key.(ed25519.PublicKey)
	return ok
}

// isSecret wants at least as many bytes as the hash has (RFC 7518 section
// 3.2).
func isSecret(minBytes int) func(any) bool {
	return func(key any) bool {
		secret, ok := key.([]byte)
		return ok && len(secret) >= minBytes
	}
}
