package mcpproxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/reqctx"
)

const (
	// endSpread is the time over which the streams are spread that end for
	// one reason, so that their clients do not all come back at once. A
	// stream lives no longer than that beyond its token or its rules.
	endSpread = 30 * time.Second
	// sweepInterval is how often streams are looked at; it is also how long
	// Caddy waits at most for them when it exits.
	sweepInterval = 250 * time.Millisecond
	// lastWriteTimeout is what a client that does not read has left to take
	// the rest of a stream that has ended.
	lastWriteTimeout = time.Second
)

// Reasons for which a stream ends, as causes of its context.
var (
	errTokenExpired  = errors.New("the token has expired")
	errConfigChanged = errors.New("the configuration has changed")
	errExiting       = errors.New("the gateway is shutting down")
)

// endedByUs reports whether a request was ended here, not by its client.
func endedByUs(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, errTokenExpired) || errors.Is(cause, errConfigChanged) || errors.Is(cause, errExiting)
}

// lifetime is how long a request may take.
type lifetime uint8

const (
	// ordinary requests are calls that end by themselves, whatever becomes
	// of the token or the configuration: they were judged when they came.
	ordinary lifetime = iota
	// undecided requests carry a message that nobody has read. One that is
	// answered with a stream may be a subscription.
	undecided
	// longLived requests are streams by nature.
	longLived
)

func lifetimeOf(r *http.Request, state *reqctx.State) lifetime {
	switch r.Method {
	case http.MethodGet:
		return longLived
	case http.MethodDelete:
		return ordinary
	}
	switch {
	case state == nil || state.Message == nil:
		return undecided
	case state.Message.Listen != nil:
		return longLived
	default:
		return ordinary
	}
}

// streams are the open streams of one handler. While there are any, a
// goroutine looks at them now and then: a stream that has nothing to tell
// costs no timer and no goroutine of its own. They outlive the handler's
// Cleanup, as the requests do.
type streams struct {
	exiting func() bool
	logger  *zap.Logger

	mu       sync.Mutex
	open     map[*stream]struct{}
	sweeping bool
}

// stream is one request that may last.
type stream struct {
	end    context.CancelCauseFunc
	client http.ResponseWriter
	leases []reqctx.Lease

	// guarded by streams.mu
	due     time.Time // zero: nothing ends it yet
	reason  error
	moved   bool // a lease has ended; due takes that into account
	stopped bool
}

func newStreams(logger *zap.Logger) *streams {
	return &streams{exiting: caddy.Exiting, logger: logger, open: map[*stream]struct{}{}}
}

// add takes care of a stream until remove.
func (s *streams) add(one *stream, identity *reqctx.Identity) {
	if identity != nil && !identity.Expires.IsZero() {
		// a token within its leeway has expired already; what is open with
		// it gets the same time from now on
		from := identity.Expires
		if now := time.Now(); from.Before(now) {
			from = now
		}
		one.due, one.reason = from.Add(spread()), errTokenExpired
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[one] = struct{}{}
	if !s.sweeping {
		s.sweeping = true
		go s.sweep()
	}
}

func spread() time.Duration {
	return rand.N(endSpread) //nolint:gosec // it spreads load; nobody gains by guessing it
}

// remove forgets a stream whose request is over. After that, nobody touches
// its client any more.
func (s *streams) remove(one *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, one)
	if one.stopped {
		// the connection may serve other requests
		_ = http.NewResponseController(one.client).SetWriteDeadline(time.Time{})
	}
}

// sweep ends streams until there are none.
func (s *streams) sweep() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for now := range ticker.C {
		if !s.check(now) {
			return
		}
	}
}

// check ends the streams whose time has come, and reports whether there are
// any left to look at.
func (s *streams) check(now time.Time) bool {
	exiting := s.exiting()
	s.mu.Lock()
	defer s.mu.Unlock()
	for one := range s.open {
		if !one.isOver(now, exiting) {
			continue
		}
		delete(s.open, one)
		if c := s.logger.Check(zap.DebugLevel, "stream ended"); c != nil {
			c.Write(zap.NamedError("reason", one.reason))
		}
		one.stop()
	}
	s.sweeping = len(s.open) > 0
	return s.sweeping
}

func (one *stream) isOver(now time.Time, exiting bool) bool {
	if exiting {
		one.reason = errExiting
		return true
	}
	if !one.moved && one.replaced() {
		one.moved = true
		if due := now.Add(spread()); one.due.IsZero() || due.Before(one.due) {
			one.due, one.reason = due, errConfigChanged
		}
	}
	return !one.due.IsZero() && !now.Before(one.due)
}

// replaced reports whether something that judged the request has gone.
func (one *stream) replaced() bool {
	for _, lease := range one.leases {
		if lease.Ended() {
			return true
		}
	}
	return false
}

// stop ends the request to the upstream, and with it the answer. A client
// that does not read must not keep it.
func (one *stream) stop() {
	one.stopped = true
	_ = http.NewResponseController(one.client).SetWriteDeadline(time.Now().Add(lastWriteTimeout))
	one.end(one.reason)
}
