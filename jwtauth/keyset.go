package jwtauth

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Bounds of a key set document (RFC 7517).
const (
	// maxKeySetSize bounds the document, in bytes. A hundred keys with their
	// certificate chains stay below it.
	maxKeySetSize = 1 << 20
	// maxKeys bounds the keys of one set; issuers publish fewer than ten.
	maxKeys = 100
	// RSA keys below the minimum can be broken; above the maximum a single
	// check takes so long that tokens become a denial of service.
	minRSABits = 2048
	maxRSABits = 8192
	// maxRSAExponent bounds the public exponent for the same reason.
	maxRSAExponent = 1<<32 - 1
)

// key is one usable verification key.
type key struct {
	kid string
	// alg is the only algorithm the key may be used with; "" for every one
	// that fits its type.
	alg string
	raw any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, []byte
}

// fits reports whether a token of this algorithm can come from the key.
func (k *key) fits(alg string) bool {
	known, ok := algorithms[alg]
	return ok && (k.alg == "" || k.alg == alg) && known.fits(k.raw)
}

// keySet are the usable keys of one issuer at one moment. It never changes.
type keySet struct {
	byID map[string]*key
	// all includes the keys without kid
	all []*key
}

// lookup finds the key of a token. Without a kid, exactly one key must fit.
func (s *keySet) lookup(t *token) (*key, error) {
	if t.hasKID {
		if k := s.byID[t.kid]; k != nil {
			return k, nil
		}
		return nil, unknownKeyError(t.kid)
	}
	var found *key
	for _, k := range s.all {
		if !k.fits(t.alg) {
			continue
		}
		if found != nil {
			return nil, ErrNoKeyID
		}
		found = k
	}
	if found == nil {
		return nil, ErrNoKeyID
	}
	return found, nil
}

// keyPolicy says which keys of a document are acceptable.
type keyPolicy struct {
	// symmetric keys are taken from the configuration only.
	symmetric bool
	// missingKID keeps keys without kid.
	missingKID bool
}

// parseKeySet reads a JWK Set document. Keys that cannot be used are left
// out, and skipped tells why: one bad key never takes the others down. A
// document without any usable key is an error.
func parseKeySet(doc []byte, policy keyPolicy) (set *keySet, skipped []error, err error) {
	if len(doc) > maxKeySetSize {
		return nil, nil, fmt.Errorf("key set is larger than %d bytes", maxKeySetSize)
	}
	var list jsontext.Value
	err = mcpwire.Object(doc, func(name string, value jsontext.Value) error {
		if name == "keys" {
			list = value
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("key set: %w", err)
	}
	if list.Kind() != '[' {
		return nil, nil, errors.New(`key set: "keys" is missing or not a list`)
	}
	entries, err := mcpwire.Elements(list, maxKeys)
	if err != nil {
		return nil, nil, fmt.Errorf("key set: %w", err)
	}

	set = &keySet{byID: make(map[string]*key)}
	twice := make(map[string]bool)
	for i, entry := range entries {
		k, err := parseKey(entry, policy)
		if err != nil {
			skipped = append(skipped, fmt.Errorf("key %d (kid %q): %w", i+1, k.kid, err))
			continue
		}
		if k.kid != "" && set.byID[k.kid] != nil {
			twice[k.kid] = true
			skipped = append(skipped, fmt.Errorf("key %d (kid %q): another key has the same kid, neither is used", i+1, k.kid))
			continue
		}
		set.all = append(set.all, k)
		if k.kid != "" {
			set.byID[k.kid] = k
		}
	}
	// which of two keys with one kid is meant, nobody can tell
	set.all = slices.DeleteFunc(set.all, func(k *key) bool { return twice[k.kid] })
	for kid := range twice {
		delete(set.byID, kid)
	}
	if len(set.all) == 0 {
		return nil, skipped, errors.Join(append([]error{errors.New("key set has no usable key")}, skipped...)...)
	}
	return set, skipped, nil
}

// parseKey reads one JWK. It always returns a key, of which only the kid is
// meaningful when there is an error.
func parseKey(doc jsontext.Value, policy keyPolicy) (*key, error) {
	k := new(key)
	parsed, parseErr := jwk.ParseKey(doc)
	if parseErr != nil {
		// the kid helps to find the key; the document is valid JSON here
		_ = mcpwire.Object(doc, func(name string, value jsontext.Value) error {
			if name == "kid" {
				k.kid, _ = mcpwire.String(value)
			}
			return nil
		})
		return k, fmt.Errorf("cannot be read: %w", parseErr)
	}
	k.kid, _ = parsed.KeyID()
	if k.kid == "" && !policy.missingKID {
		return k, errors.New("has no kid")
	}
	if use, ok := parsed.KeyUsage(); ok && use != "" && use != "sig" {
		return k, fmt.Errorf("is not for signatures (use %q)", use)
	}
	if ops, ok := parsed.KeyOps(); ok && !slices.Contains(ops, jwk.KeyOpVerify) {
		return k, errors.New(`is not for verification (key_ops without "verify")`)
	}
	if private, err := jwk.IsPrivateKey(parsed); err == nil && private {
		return k, errors.New("is a private key; configure its public half")
	}
	if err := jwk.Export(parsed, &k.raw); err != nil {
		return k, fmt.Errorf("cannot be read: %w", err)
	}
	k.raw = asPointer(k.raw)
	if err := checkStrength(k.raw); err != nil {
		return k, err
	}
	if _, isSecret := k.raw.([]byte); isSecret && !policy.symmetric {
		return k, errors.New("is symmetric")
	}
	if alg, ok := parsed.Algorithm(); ok && alg.String() != "" {
		k.alg = alg.String()
		known, ok := algorithms[k.alg]
		if !ok || !known.fits(k.raw) {
			return k, fmt.Errorf("cannot be used with its algorithm %q", k.alg)
		}
		return k, nil
	}
	for _, known := range algorithms {
		if known.fits(k.raw) {
			return k, nil
		}
	}
	return k, errors.New("fits no supported algorithm")
}

// asPointer brings the exported key to the one form the algorithms expect.
func asPointer(raw any) any {
	switch k := raw.(type) {
	case rsa.PublicKey:
		return &k
	case ecdsa.PublicKey:
		return &k
	default:
		return raw
	}
}

func checkStrength(raw any) error {
	switch k := raw.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		if bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("has %d bits; RSA keys have %d to %d", bits, minRSABits, maxRSABits)
		}
		if k.E < 3 || k.E%2 == 0 || k.E > maxRSAExponent {
			return errors.New("has an RSA exponent that is not acceptable")
		}
		if isROCA(k.N) {
			return errors.New("was made by a generator whose keys can be factored (CVE-2017-15361)")
		}
	case *ecdsa.PublicKey:
		// ECDH refuses points that are not on the curve
		if _, err := k.ECDH(); err != nil {
			return errors.New("is not a point on its curve")
		}
	}
	return nil
}
