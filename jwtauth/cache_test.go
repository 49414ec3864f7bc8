package jwtauth

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// later is a result that stays valid for a minute.
func later() *verified { return &verified{until: atNoon().Add(time.Minute)} }

func TestCache(t *testing.T) {
	c := newTokenCache(10)
	if c.get("a", atNoon()) != nil {
		t.Error("found in an empty cache")
	}
	a, b := later(), later()
	c.put("a", a)
	c.put("b", b)
	if c.get("a", atNoon()) != a || c.get("b", atNoon()) != b {
		t.Error("another result than the one that was put")
	}
	// the whole text counts
	for _, raw := range []string{"", "A", "a ", "aa", "ab"} {
		if c.get(raw, atNoon()) != nil {
			t.Errorf("found %q", raw)
		}
	}
	c.drop("a")
	if c.get("a", atNoon()) != nil || c.get("b", atNoon()) != b {
		t.Error("dropped another one")
	}
	// until is when it stops
	if c.get("b", b.until.Add(-1)) != b || c.get("b", b.until) != nil {
		t.Error("not valid until its end, or longer")
	}
	if c.get("b", atNoon()) != nil {
		t.Error("an expired token comes back when the clock is set back")
	}

	for _, entries := range []int{0, -1} {
		off := newTokenCache(entries)
		off.put("a", a)
		off.drop("a")
		if off != nil || off.get("a", atNoon()) != nil {
			t.Errorf("%d entries: not off", entries)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	for _, test := range []struct{ entries, tokenSize, atMost int }{
		{1, 500, 1},
		{100, 500, 100},
		{100, cacheEntrySize / (1 + claimsFactor), 100},
		{100, defaultMaxTokenSize, 100 * cacheEntrySize / (defaultMaxTokenSize * (1 + claimsFactor))},
		{1000, defaultMaxTokenSize, 1000 * cacheEntrySize / (defaultMaxTokenSize * (1 + claimsFactor))},
		{1, maxMaxTokenSize, 0},
	} {
		c := newTokenCache(test.entries)
		for i := range 20 * (test.atMost + 1) {
			c.put(fmt.Sprint(i, strings.Repeat("x", test.tokenSize)), later())
		}
		c.entries.CleanUp()
		size, weight := c.entries.EstimatedSize(), c.entries.WeightedSize()
		if size > test.atMost || size < test.atMost*9/10 || weight > uint64(test.entries)*cacheEntrySize {
			t.Errorf("%d tokens of %d bytes in a cache for %d, want %d; weight %d", size, test.tokenSize, test.entries, test.atMost, weight)
		}
	}
}

// countingSource counts how often a key is looked for, that is, how often a
// token is verified.
type countingSource struct {
	keySource
	finds, checks atomic.Int64
	replaced      atomic.Bool
}

func (c *countingSource) find(ctx context.Context, t *token) (*key, error) {
	c.finds.Add(1)
	return c.keySource.find(ctx, t)
}

func (c *countingSource) check(k *key) error {
	c.checks.Add(1)
	if c.replaced.Load() {
		return errKeyReplaced
	}
	return c.keySource.check(k)
}

// counted puts a countingSource into a gate.
func (g *gate) counted() *countingSource {
	policy := g.verifier.issuers[issuerURL]
	source := &countingSource{keySource: policy.source}
	policy.source = source
	return source
}

func (c *countingSource) want(t *testing.T, finds, checks int64) {
	t.Helper()
	if c.finds.Load() != finds || c.checks.Load() != checks {
		t.Errorf("%d tokens verified, %d looked up; want %d, %d", c.finds.Load(), c.checks.Load(), finds, checks)
	}
}

// A token is verified once. Its key is checked each time.
func TestRepeatedToken(t *testing.T) {
	g := newGate(t)
	source := g.counted()
	token := goodToken()
	g.accepts(t, token)
	first := g.identity
	for range 99 {
		g.accepts(t, token)
	}
	source.want(t, 1, 99)
	if g.identity != first {
		t.Error("another identity for the same token")
	}
	// neither another token of the same user nor one that only looks like it
	g.accepts(t, trusted().Token("alice", forUs, claims{"jti": "2"}))
	g.refuses(t, token[:len(token)-6]+"AAAAAA", badSig)
	source.want(t, 3, 99)

	// a key that was replaced: verified anew, and known again
	source.replaced.Store(true)
	g.accepts(t, token)
	source.want(t, 4, 100)
	source.replaced.Store(false)
	g.accepts(t, token)
	source.want(t, 4, 101)
}

func TestCacheOff(t *testing.T) {
	off := 0
	g := newGate(t, func(h *Handler) { h.TokenCache = &off })
	source := g.counted()
	for range 10 {
		g.accepts(t, goodToken())
	}
	source.want(t, 10, 0)
}

// What is refused is never remembered, and what was accepted is no help
// against time.
func TestCachedTokenExpires(t *testing.T) {
	g := newGate(t)
	now := atNoon()
	g.verifier.now = func() time.Time { return now }
	source := g.counted()
	exp := noon + 100
	token := trusted().Token("alice", forUs, claims{"exp": exp, "nbf": noon - 10})
	g.accepts(t, token)
	now = atNoon().Add(159 * time.Second) // within the leeway
	g.accepts(t, token)
	source.want(t, 1, 1)
	now = now.Add(time.Second)
	g.refuses(t, token, expired)
	g.refuses(t, token, expired)
	source.want(t, 3, 1)

	// the same token before its time, at it, and after it
	token = trusted().Token("alice", forUs, claims{"nbf": noon + 1000, "exp": noon + 2000})
	g.refuses(t, token, notYet)
	now = atNoon().Add(1000 * time.Second)
	g.accepts(t, token)
	g.accepts(t, token)
	now = atNoon().Add(2060 * time.Second)
	g.refuses(t, token, expired)
	if size := g.verifier.cache.entries.EstimatedSize(); size != 0 {
		t.Errorf("%d tokens in the cache", size)
	}
}

// A150: what attackers send leaves nothing behind.
func TestA150_InvalidTokensLeaveNoTrace(t *testing.T) {
	g := newGate(t)
	g.accepts(t, goodToken())
	good := strings.Split(goodToken(), ".")
	attempt := func(i int) string {
		payload := mcptest.Base64([]byte(mcptest.JSON(trusted().Claims(fmt.Sprint("mallory", i), forUs))))
		switch i % 5 {
		case 0: // another payload under a good signature
			return good[0] + "." + payload + "." + good[2]
		case 1: // another signature
			return good[0] + "." + good[1] + "." + mcptest.Base64(fmt.Appendf(nil, "%0256d", i))
		case 2: // an unknown key
			return mcptest.Base64(fmt.Appendf(nil, `{"alg":"RS256","kid":"%d"}`, i)) + "." + payload + "." + good[2]
		case 3: // an unknown issuer
			iss := mcptest.JSON(claims{"iss": fmt.Sprint("https://", i, ".example"), "exp": noon + 1})
			return good[0] + "." + mcptest.Base64([]byte(iss)) + "." + good[2]
		default: // no token at all
			return fmt.Sprint("token", i)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	for i := range 10_000 {
		if _, err := g.verifier.verify(t.Context(), attempt(i), nil); err == nil {
			t.Fatalf("attempt %d passes", i)
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("the heap grew by %d bytes", after-before)
	}
	if size := g.verifier.cache.entries.EstimatedSize(); size != 1 {
		t.Errorf("%d tokens in the cache, want the good one", size)
	}
	g.accepts(t, goodToken())
}

// Many users at once, more of them than the cache holds, some with bad
// tokens, while keys come and go.
func TestCacheUnderLoad(t *testing.T) {
	few := 20
	g := newGate(t, func(h *Handler) { h.TokenCache = &few })
	source := g.counted()
	tokens := make([]string, 40)
	for i := range tokens {
		tokens[i] = trustedEC().Token(fmt.Sprint("user", i), forUs)
	}
	bad := foe().Token("mallory", forUs)
	var users sync.WaitGroup
	for user := range 8 {
		users.Go(func() {
			for round := range 200 {
				i := (user + round*round) % len(tokens)
				identity, err := g.verifier.verify(t.Context(), tokens[i], nil)
				if err != nil || identity.Subject != fmt.Sprint("user", i) || !strings.Contains(string(identity.Claims), `"`+identity.Subject+`"`) {
					t.Errorf("user%d is %+v, %v", i, identity, err)
				}
				if status, passed := serve(g.Handler, post(bad)); status != http.StatusUnauthorized || passed {
					t.Errorf("a bad token: %d", status)
				}
				if round%50 == 0 {
					source.replaced.Store(!source.replaced.Load())
				}
			}
		})
	}
	users.Wait()
	g.verifier.cache.entries.CleanUp()
	if size := g.verifier.cache.entries.EstimatedSize(); size > few {
		t.Errorf("%d tokens in a cache for %d", size, few)
	}
}
