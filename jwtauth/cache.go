package jwtauth

import (
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// Bounds of the cache of verified tokens.
const (
	// defaultCacheEntries is how many tokens are remembered.
	defaultCacheEntries = 10_000
	maxCacheEntries     = 1_000_000
	// cacheEntrySize is the memory that each entry may take on average, in
	// bytes: a token, its claims, and what rules have found in them. Larger
	// tokens count for several entries, so the cache is bounded in bytes as
	// well.
	cacheEntrySize = 4 << 10
	// claimsFactor is what claims take, as a multiple of the token's text:
	// their JSON, and those that rules have asked for. Ordinary ones take
	// less; only an issuer can sign ones that take much more.
	claimsFactor = 4
)

// verified is a token whose signature and claims have been checked.
type verified struct {
	identity reqctx.Identity
	policy   *issuerPolicy
	key      *key
	// certificate is the one the token is bound to.
	certificate thumbprint
	// until is when it stops being valid: its exp and the leeway.
	until time.Time
}

// tokenCache remembers verified tokens by their whole text, so nothing of
// one token ever answers for another. It belongs to one verifier, hence to
// one configuration. It holds successes only: what attackers send leaves no
// trace in it.
type tokenCache struct {
	entries *otter.Cache[string, *verified]
}

// newTokenCache returns a cache for so many entries, nil for none.
func newTokenCache(entries int) *tokenCache {
	if entries <= 0 {
		return nil
	}
	return &tokenCache{otter.Must(&otter.Options[string, *verified]{
		MaximumWeight: uint64(entries) * cacheEntrySize,
		Weigher: func(raw string, _ *verified) uint32 {
			return uint32(max(len(raw)*(1+claimsFactor), cacheEntrySize)) //nolint:gosec // tokens are bounded by maxMaxTokenSize
		},
	})}
}

// get returns what is known about a token, nil when it has to be verified.
func (c *tokenCache) get(raw string, now time.Time) *verified {
	if c == nil {
		return nil
	}
	entry, ok := c.entries.GetIfPresent(raw)
	if !ok {
		return nil
	}
	if !now.Before(entry.until) {
		c.entries.Invalidate(raw)
		return nil
	}
	return entry
}

// put remembers a token.
func (c *tokenCache) put(raw string, entry *verified) {
	if c != nil {
		c.entries.Set(raw, entry)
	}
}

// drop forgets a token.
func (c *tokenCache) drop(raw string) {
	if c != nil {
		c.entries.Invalidate(raw)
	}
}
