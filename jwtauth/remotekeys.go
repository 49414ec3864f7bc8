package jwtauth

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Times and bounds of key sets that are fetched.
const (
	// A fetched set is fresh for what Cache-Control says, within these
	// bounds, or for the default.
	minFreshness     = time.Minute
	maxFreshness     = 24 * time.Hour
	defaultFreshness = 15 * time.Minute
	// defaultMaxStale is for how long a set that cannot be refreshed goes on
	// being used once it is no longer fresh.
	defaultMaxStale = time.Hour
	maxMaxStale     = 24 * time.Hour
	// A failed fetch is tried again after firstRetry, doubled each time, up
	// to lastRetry.
	firstRetry = time.Second
	lastRetry  = time.Minute
	// fetchTimeout bounds one fetch, discovery included.
	fetchTimeout = 5 * time.Second
	// fetchCooldown is the least time between two fetches that unknown key
	// ids ask for, failed ones included: nobody can make the gateway flood
	// an issuer.
	fetchCooldown = 10 * time.Second
	// firstKeysWait is how long a request waits for an issuer's first keys.
	firstKeysWait = 5 * time.Second
	// unknownKeyWait is how long a token with an unknown kid waits: for the
	// end of the cooldown, and for the fetch.
	unknownKeyWait = fetchCooldown + fetchTimeout
	// maxWaiting bounds the requests that wait for a fetch because of their
	// kid; the others are refused at once. A flood of 3,000 a second does not
	// get there within the cooldown, so it keeps no good token out. One that
	// waits costs some 12 KiB more than the connection it came on.
	maxWaiting = 1 << 15
)

// unavailableError: the issuer's keys are not there, or too old. It is no
// fault of the token, and answered with 503.
type unavailableError struct {
	// retryAfter is how long the client should wait.
	retryAfter time.Duration
}

func (unavailableError) Error() string { return "the issuer's keys are not available" }

// fetchedKeys is the result of one fetch.
type fetchedKeys struct {
	set *keySet
	// freshFor is what the answer's headers say, within the bounds.
	freshFor time.Duration
}

// keyFetcher gets an issuer's key set. previous is the set of the last fetch;
// it is returned itself when the document has not changed, so that what was
// verified with its keys stays verified.
type keyFetcher interface {
	fetch(ctx context.Context, previous *keySet) (fetchedKeys, error)
}

// remoteKeys keeps the key set of one issuer fresh. Requests read it without
// a lock; one goroutine fetches.
type remoteKeys struct {
	fetcher    keyFetcher
	maxStale   time.Duration
	maxWaiting int
	// observe is told of every fetch; it may be nil.
	observe func(*keySet, error)

	current atomic.Pointer[remoteSet]
	start   sync.Once
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // it ends the goroutine

	mu sync.Mutex
	// running is the fetch under way, asked the one that is wanted next.
	running, asked *flight
	waiting        int
	nextFetch      time.Time
	lastFetch      time.Time // when the last one began
	wake           chan struct{}
}

// remoteSet is a set and for how long it may be used.
type remoteSet struct {
	set         *keySet
	fetched     time.Time
	freshUntil  time.Time
	usableUntil time.Time
}

// flight is one fetch that requests wait for.
type flight struct{ done chan struct{} }

func newRemoteKeys(fetcher keyFetcher, maxStale time.Duration, observe func(*keySet, error)) *remoteKeys {
	ctx, cancel := context.WithCancel(context.Background())
	return &remoteKeys{
		fetcher: fetcher, maxStale: maxStale, maxWaiting: maxWaiting, observe: observe,
		ctx: ctx, stop: cancel, wake: make(chan struct{}, 1),
		asked: &flight{make(chan struct{})}, // the first one
	}
}

// run begins fetching. Calling it again does nothing.
func (r *remoteKeys) run() { r.start.Do(func() { go r.loop() }) }

// close ends fetching.
func (r *remoteKeys) close() { r.stop() }

// loop fetches when the set gets old, and when somebody asks.
func (r *remoteKeys) loop() {
	var (
		lastFetch time.Time
		retry     = firstRetry
	)
	due := time.Now()
	for {
		wait := time.Until(r.nextWake(due, lastFetch))
		timer := time.NewTimer(max(wait, 0))
		select {
		case <-r.ctx.Done():
			timer.Stop()
			return
		case <-r.wake:
			timer.Stop()
			continue
		case <-timer.C:
		}
		lastFetch = time.Now()
		err := r.fetchOnce()
		// one fetch's time ahead, so that the set need not get stale
		due = time.Time{}
		if current := r.current.Load(); current != nil {
			due = current.freshUntil.Add(-fetchTimeout)
		}
		if err == nil {
			retry = firstRetry
			continue
		}
		// what unknown key ids asked for is no reason to hurry while the set
		// is fresh: their next fetch is a cooldown away
		if again := time.Now().Add(retry); due.Before(again) {
			due = again
			retry = min(2*retry, lastRetry)
		}
	}
}

// nextWake is when to fetch next: when it is due, or earlier because
// somebody asks, but then not before the cooldown is over.
func (r *remoteKeys) nextWake(due, lastFetch time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked != nil && !lastFetch.IsZero() {
		if after := lastFetch.Add(fetchCooldown); after.Before(due) {
			due = after
		}
	}
	r.nextFetch = due
	return due
}

// fetchOnce fetches and tells everybody who waits.
func (r *remoteKeys) fetchOnce() error {
	r.mu.Lock()
	current := r.asked
	if current == nil {
		current = &flight{make(chan struct{})}
	}
	r.running, r.asked = current, nil
	r.lastFetch = time.Now()
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(r.ctx, fetchTimeout)
	defer cancel()
	var previous *keySet
	if last := r.current.Load(); last != nil {
		previous = last.set
	}
	started := time.Now()
	fetched, err := r.fetcher.fetch(ctx, previous)
	if err == nil {
		freshUntil := started.Add(fetched.freshFor)
		r.current.Store(&remoteSet{fetched.set, started, freshUntil, freshUntil.Add(r.maxStale)})
	}
	if r.observe != nil && r.ctx.Err() == nil {
		r.observe(fetched.set, err)
	}

	r.mu.Lock()
	r.running = nil
	r.mu.Unlock()
	close(current.done)
	return err
}

// keys returns the set to use now. A set that could not be refreshed for too
// long is no longer used: the gateway fails closed.
func (r *remoteKeys) keys() (*keySet, error) {
	current := r.current.Load()
	if current == nil || !time.Now().Before(current.usableUntil) {
		return nil, unavailableError{r.retryAfter()}
	}
	return current.set, nil
}

// retryAfter is how long it takes until there may be keys.
func (r *remoteKeys) retryAfter() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	seconds := math.Ceil(time.Until(r.nextFetch).Seconds())
	return time.Duration(max(seconds, 1)) * time.Second
}

// find implements keySource.
func (r *remoteKeys) find(ctx context.Context, t *token) (*key, error) {
	set, err := r.firstKeys(ctx)
	if err != nil {
		return nil, err
	}
	k, err := set.lookup(t)
	var unknown unknownKeyError
	if !errors.As(err, &unknown) {
		return k, err
	}
	return r.findAfterFetch(ctx, t, err)
}

// firstKeys waits a moment for an issuer that has no keys yet.
func (r *remoteKeys) firstKeys(ctx context.Context) (*keySet, error) {
	if r.current.Load() == nil {
		r.mu.Lock()
		first := r.running
		if first == nil {
			first = r.asked
		}
		r.mu.Unlock()
		if first != nil {
			r.wait(ctx, first, firstKeysWait)
		}
	}
	return r.keys()
}

// findAfterFetch looks again once the set has been fetched anew, so that the
// first token with a new key passes. A fetch that is under way may have
// begun before the key was published, so a second one is waited for.
func (r *remoteKeys) findAfterFetch(ctx context.Context, t *token, unknown error) (*key, error) {
	r.mu.Lock()
	if r.waiting >= r.maxWaiting {
		r.mu.Unlock()
		return nil, unknown
	}
	r.waiting++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.waiting--
		r.mu.Unlock()
	}()

	ctx, cancel := context.WithTimeout(ctx, unknownKeyWait)
	defer cancel()
	t.forgetClaims()
	for {
		fetch, last := r.ask()
		ended := r.wait(ctx, fetch, unknownKeyWait)
		if r.ctx.Err() != nil {
			// a reload has replaced this source; the next try meets the new one
			return nil, unavailableError{time.Second}
		}
		if !ended {
			return nil, unknown
		}
		set, err := r.keys()
		if err != nil {
			return nil, err
		}
		k, err := set.lookup(t)
		if err == nil {
			return k, t.recallClaims()
		}
		if last {
			return nil, err
		}
	}
}

// ask returns a fetch to wait for: the one under way, or, when none is, the
// next one. last tells that it begins after the question.
func (r *remoteKeys) ask() (f *flight, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != nil {
		return r.running, false
	}
	if r.asked == nil {
		r.asked = &flight{make(chan struct{})}
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return r.asked, true
}

// wait reports whether the fetch ended in time.
func (r *remoteKeys) wait(ctx context.Context, f *flight, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-f.done:
		return true
	case <-ctx.Done():
		return false
	case <-r.ctx.Done():
		return false
	case <-timer.C:
		return false
	}
}
