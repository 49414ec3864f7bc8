// Package lease tells a request that outlives a reload whether what judged
// it is still in the configuration.
package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
)

// uses are the configurations of handlers that are in use, by their hash. A
// reload makes the new handlers before it lets go of the old ones, so what
// has not changed is never out of use.
var uses = caddy.NewUsagePool()

// Lease is what one handler holds of a configuration. It ends when the
// handler is cleaned up, unless another one with the same configuration has
// taken over.
type Lease struct {
	term     *term
	released sync.Once
}

// term is the time in which handlers of one configuration of Caddy use one
// and the same configuration of their own. It ends when they are cleaned up,
// unless as many handlers of a newer one have taken over: with fewer of them,
// one site has other rules now, and nobody can tell which.
type term struct {
	id  string
	use *use

	// guarded by use.mu
	generation  any
	count, most int

	// Either it has a successor, or it may have ended.
	successor atomic.Pointer[term]
	ended     atomic.Bool
}

// use are all terms of one hash.
type use struct {
	mu    sync.Mutex
	terms map[any]*term // by generation
}

// Destruct implements caddy.Destructor. The terms have ended by then.
func (*use) Destruct() error { return nil }

// Acquire takes a lease for a handler's effective configuration, which is
// what its JSON says. Call it from Provision, once placeholders are replaced;
// who got a lease must release it in Cleanup.
func Acquire(ctx caddy.Context, module string, config any) (*Lease, error) {
	encoded, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("encoding the configuration: %w", err)
	}
	// each configuration of Caddy has a registry of its own
	return acquire(ctx.GetMetricsRegistry(), module, encoded)
}

func acquire(generation any, module string, config []byte) (*Lease, error) {
	sum := sha256.Sum256(config)
	id := module + " " + hex.EncodeToString(sum[:])
	value, _, err := uses.LoadOrNew(id, func() (caddy.Destructor, error) {
		return &use{terms: map[any]*term{}}, nil
	})
	if err != nil {
		return nil, err
	}
	shared, ok := value.(*use)
	if !ok {
		return nil, fmt.Errorf("the pool holds a %T", value)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	t := shared.terms[generation]
	if t == nil {
		t = &term{id: id, use: shared, generation: generation}
		shared.terms[generation] = t
	}
	t.count++
	t.most = max(t.most, t.count)
	return &Lease{term: t}, nil
}

// Release gives the lease back. Doing so again, or releasing none, changes
// nothing.
func (l *Lease) Release() error {
	if l == nil {
		return nil
	}
	var err error
	l.released.Do(func() {
		l.term.use.release(l.term)
		_, err = uses.Delete(l.term.id)
	})
	return err
}

func (u *use) release(t *term) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t.count--; t.count > 0 {
		return
	}
	delete(u.terms, t.generation)
	t.generation = nil
	for _, other := range u.terms {
		if other.count >= t.most {
			t.successor.Store(other)
			return
		}
	}
	t.ended.Store(true)
}

// Ended reports whether the configuration is no longer in use. It takes no
// lock, and is cheap enough to be asked often. None at all has ended.
func (l *Lease) Ended() bool {
	if l == nil {
		return true
	}
	last := l.term
	for next := last.successor.Load(); next != nil; next = last.successor.Load() {
		last = next
	}
	if last != l.term {
		// a stream that lives through many reloads keeps none of the terms
		// between
		l.term.successor.Store(last)
	}
	return last.ended.Load()
}
