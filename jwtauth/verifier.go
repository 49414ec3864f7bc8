package jwtauth

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/http"
	"slices"
	"time"

	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// issuerPolicy is what one issuer's tokens must look like.
type issuerPolicy struct {
	// issuer is the configured iss; "" for the block that takes any.
	issuer         string
	source         keySource
	audiences      []string
	audienceClaim  string
	algorithms     []string // empty: every asymmetric one
	requiredClaims []string
	tokenTypes     []string // lower case, "" for a token without typ
	leeway         time.Duration
	missingKID     bool
}

// verifier checks tokens. It serves all requests of one configuration.
type verifier struct {
	// issuers by exact iss; anyIssuer, if set, is the only policy and takes
	// every iss.
	issuers   map[string]*issuerPolicy
	anyIssuer *issuerPolicy
	maxSize   int
	// forward is passed on with every identity.
	forward bool
	stepUp  func(w http.ResponseWriter, r *http.Request, scopes []string) error
	cache   *tokenCache
	metrics *metrics
	now     func() time.Time
}

// verify checks a credential and returns who it stands for. A token that has
// been verified before is looked up; what can change since then (time, keys)
// is checked all the same, and so is what belongs to the connection and not
// to the token.
func (v *verifier) verify(ctx context.Context, raw string, connection *tls.ConnectionState) (*reqctx.Identity, error) {
	entry, issuer, err := v.lookup(raw), "", error(nil)
	if entry == nil {
		entry, issuer, err = v.check(ctx, raw)
		if err == nil {
			v.cache.put(raw, entry)
		}
	}
	if err == nil {
		issuer, err = entry.policy.issuer, entry.certificate.check(connection)
	}
	v.metrics.request(issuer, err)
	if err != nil {
		return nil, err
	}
	return &entry.identity, nil
}

// lookup returns what is known about a token, nil when it has to be checked.
func (v *verifier) lookup(raw string) *verified {
	if v.cache == nil {
		return nil
	}
	known := v.cache.get(raw, v.now())
	if known != nil && known.policy.source.check(known.key) != nil {
		v.cache.drop(raw)
		known = nil
	}
	v.metrics.lookup(known != nil)
	return known
}

// check verifies a token. The order is form, issuer, algorithm and type,
// key, signature, claims: nothing of a token is believed, or told back,
// before its signature has been checked, except the names that select the
// key. issuer is the configured one, as far as it was found.
func (v *verifier) check(ctx context.Context, raw string) (entry *verified, issuer string, err error) {
	t, err := readToken(raw, v.maxSize)
	if err != nil {
		return nil, "", malformedError{err}
	}
	if _, ok := algorithms[t.alg]; !ok {
		return nil, "", errAlgorithm
	}
	iss, err := t.text("iss")
	if err != nil {
		return nil, "", err
	}
	policy := v.anyIssuer
	if policy == nil {
		if policy = v.issuers[iss]; policy == nil {
			return nil, "", errIssuer
		}
	}
	k, err := policy.authenticate(ctx, t)
	if err != nil {
		return nil, policy.issuer, err
	}
	expires, err := policy.checkClaims(t, v.now())
	if err != nil {
		return nil, policy.issuer, err
	}
	certificate, err := readConfirmation(t)
	if err != nil {
		return nil, policy.issuer, err
	}
	sub, err := t.text("sub")
	if err != nil {
		return nil, policy.issuer, err
	}
	return &verified{
		identity: reqctx.Identity{
			// a configured issuer is the same text, once for all tokens
			Issuer: cmp.Or(policy.issuer, iss), Subject: sub, ClientID: t.clientID(),
			Claims: reqctx.TrimClaims(t.payload), Expires: expires,
			ForwardCredential: v.forward, StepUp: v.stepUp,
		},
		policy: policy, key: k, certificate: certificate, until: expires.Add(policy.leeway),
	}, policy.issuer, nil
}

// authenticate finds the key of a token and checks its signature.
func (p *issuerPolicy) authenticate(ctx context.Context, t *token) (*key, error) {
	if !t.hasKID && !p.missingKID {
		return nil, ErrNoKeyID
	}
	if err := p.checkHeader(t); err != nil {
		return nil, err
	}
	k, err := p.source.find(ctx, t)
	if err != nil {
		return nil, err
	}
	if !k.fits(t.alg) {
		return nil, errAlgorithm
	}
	if !checkSignature(t, k) {
		return nil, errSignature
	}
	return k, nil
}

func (p *issuerPolicy) checkHeader(t *token) error {
	switch {
	case len(p.algorithms) > 0 && !slices.Contains(p.algorithms, t.alg),
		len(p.algorithms) == 0 && algorithms[t.alg].symmetric:
		return errAlgorithm
	case !slices.Contains(p.tokenTypes, t.typ):
		return errTokenType
	}
	return nil
}

// checkSignature verifies the bytes that came with exactly one algorithm and
// one key, which fit each other; what the token says about keys has no part in
// it. jws.Verify would parse the header again, and an embedded jwk or x5c.
// What it looks for in there, crit and b64, readToken has refused. The salt of
// an RSASSA-PSS signature has to be as long as its hash (RFC 7518 section 3.5).
func checkSignature(t *token, k *key) bool {
	verifier, err := jws.VerifierFor(algorithms[t.alg].jwa)
	return err == nil && verifier.Verify(k.raw, t.signed(), t.signature) == nil
}

// checkClaims checks what the token says about itself (RFC 7519 section 4.1)
// and returns when it expires.
func (p *issuerPolicy) checkClaims(t *token, now time.Time) (expires time.Time, err error) {
	expires, present, err := t.numericDate("exp")
	switch {
	case err != nil:
		return time.Time{}, err
	case !present:
		return time.Time{}, missingClaim("exp")
	case !now.Before(expires.Add(p.leeway)):
		return time.Time{}, errExpired
	}
	for _, claim := range []string{"nbf", "iat"} {
		date, present, err := t.numericDate(claim)
		if err != nil {
			return time.Time{}, err
		}
		if present && now.Before(date.Add(-p.leeway)) {
			return time.Time{}, errNotYetValid
		}
	}
	for _, claim := range p.requiredClaims {
		if value, present := t.claims[claim]; !present || value == nil {
			return time.Time{}, missingClaim(claim)
		}
	}
	return expires, p.checkAudience(t)
}

// checkAudience compares exactly: no prefix, no case folding, no white space
// lists. An aud that is not a string or a list of strings is refused even
// where every audience is accepted.
func (p *issuerPolicy) checkAudience(t *token) error {
	audiences, present, err := t.textOrList(p.audienceClaim)
	switch {
	case err != nil:
		return err
	case len(p.audiences) == 0 && (!present || len(audiences) > 0):
		return nil
	case !present:
		return missingClaim(p.audienceClaim)
	}
	for _, audience := range audiences {
		if slices.Contains(p.audiences, audience) {
			return nil
		}
	}
	return errAudience
}
