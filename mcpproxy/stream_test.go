package mcpproxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// TestBoundOfStreams: the contract gives a stream 60 s.
func TestBoundOfStreams(t *testing.T) {
	if endSpread+sweepInterval+lastWriteTimeout >= 60*time.Second {
		t.Errorf("a stream may go on for %v after its end", endSpread+sweepInterval+lastWriteTimeout)
	}
}

func TestLifetime(t *testing.T) {
	read := func(message string) *reqctx.State {
		m, err := mcpwire.Read([]byte(message))
		if err != nil {
			t.Fatal(err)
		}
		return &reqctx.State{Message: m}
	}
	const listen = `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}`
	for _, test := range []struct {
		what, method string
		state        *reqctx.State
		want         lifetime
	}{
		{"GET", "GET", nil, longLived},
		{"GET behind mcp_authorize", "GET", new(reqctx.State), longLived},
		{"DELETE", "DELETE", nil, ordinary},
		{"a call", "POST", read(message), ordinary},
		{"a notification", "POST", read(`{"jsonrpc":"2.0","method":"notifications/cancelled"}`), ordinary},
		{"a subscription", "POST", read(listen), longLived},
		{"nobody has read it", "POST", nil, undecided},
		{"a batch", "POST", new(reqctx.State), undecided},
		{"another method", "PUT", nil, undecided},
	} {
		r := httptest.NewRequest(test.method, "/mcp", http.NoBody)
		if got := lifetimeOf(r, test.state); got != test.want {
			t.Errorf("%s: %d, want %d", test.what, got, test.want)
		}
	}
}

// switchable is a lease that ends when a test says so.
type switchable struct{ atomic.Bool }

func (s *switchable) Ended() bool { return s.Load() }

// deadlined is a client that notes the write deadlines that are set.
type deadlined struct {
	http.ResponseWriter
	deadlines []time.Time
}

func (d *deadlined) SetWriteDeadline(deadline time.Time) error {
	d.deadlines = append(d.deadlines, deadline)
	return nil
}

// bubble runs a test of streams in a time of its own. What it leaves open is removed at its end; a goroutine that is
// left then is a deadlock, which fails the test.
func bubble(t *testing.T, test func(exiting *atomic.Bool, open func(expires time.Time, leases ...reqctx.Lease) (context.Context, *deadlined))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStreams(zap.NewNop())
		exiting := new(atomic.Bool)
		s.exiting = exiting.Load
		var closing []func()
		test(exiting, func(expires time.Time, leases ...reqctx.Lease) (context.Context, *deadlined) {
			ctx, end := context.WithCancelCause(t.Context())
			client := &deadlined{ResponseWriter: httptest.NewRecorder()}
			one := &stream{end: end, client: client, leases: leases}
			s.add(one, &reqctx.Identity{Expires: expires})
			closing = append(closing, func() { s.remove(one); end(nil) })
			return ctx, client
		})
		for _, close := range closing {
			close()
		}
		time.Sleep(2 * sweepInterval)
	})
}

// isOpen waits until all goroutines have done their work.
func isOpen(ctx context.Context) bool {
	synctest.Wait()
	return ctx.Err() == nil
}

// TestA73_TokenExpires: a stream ends soon after its token, and not before.
func TestA73_TokenExpires(t *testing.T) {
	bubble(t, func(_ *atomic.Bool, open func(time.Time, ...reqctx.Lease) (context.Context, *deadlined)) {
		ctx, client := open(time.Now().Add(time.Hour))
		forever, _ := open(time.Time{})
		time.Sleep(time.Hour - time.Second)
		if !isOpen(ctx) {
			t.Error("the stream has ended before its token")
		}
		time.Sleep(time.Second + endSpread + sweepInterval)
		if isOpen(ctx) || !errors.Is(context.Cause(ctx), errTokenExpired) || !endedByUs(ctx) {
			t.Errorf("the stream of an expired token: %v", context.Cause(ctx))
		}
		// a client that does not read has a little time left
		if len(client.deadlines) != 1 || time.Until(client.deadlines[0]) > lastWriteTimeout {
			t.Errorf("write deadlines %v, now %v", client.deadlines, time.Now())
		}
		if !isOpen(forever) {
			t.Error("a stream without a token has ended")
		}
	})
}

// TestTokenWithinLeeway: what was let in gets its time, or clients would come back at once, again and again.
func TestTokenWithinLeeway(t *testing.T) {
	bubble(t, func(_ *atomic.Bool, open func(time.Time, ...reqctx.Lease) (context.Context, *deadlined)) {
		began, lived := time.Now(), time.Duration(0)
		const clients = 50
		for range clients {
			ctx, _ := open(time.Now().Add(-time.Minute))
			<-ctx.Done()
			lived += time.Since(began)
			began = time.Now()
		}
		if average := lived / clients; average < endSpread/4 || average > endSpread {
			t.Errorf("streams lived %v", average)
		}
	})
}

// TestA144_ConfigurationChanges: streams survive a reload that changes nothing of theirs, and end within the bound after
// one that does, not all at once.
func TestA144_ConfigurationChanges(t *testing.T) {
	bubble(t, func(_ *atomic.Bool, open func(time.Time, ...reqctx.Lease) (context.Context, *deadlined)) {
		issuers, rules, otherRules := new(switchable), new(switchable), new(switchable)
		var narrowed, others []context.Context
		for range 100 {
			ctx, _ := open(time.Now().Add(time.Hour), issuers, rules)
			narrowed = append(narrowed, ctx)
			ctx, _ = open(time.Now().Add(time.Hour), issuers, otherRules)
			others = append(others, ctx)
		}
		count := func(list []context.Context) (n int) {
			synctest.Wait()
			for _, ctx := range list {
				if isOpen(ctx) {
					n++
				}
			}
			return n
		}
		time.Sleep(time.Minute)
		if count(narrowed) != 100 {
			t.Fatal("streams have ended although nothing has changed")
		}
		rules.Store(true)
		time.Sleep(endSpread / 2)
		if n := count(narrowed); n < 20 || n > 80 {
			t.Errorf("half way, %d of 100 streams are open", n)
		}
		time.Sleep(endSpread/2 + 2*sweepInterval)
		for _, ctx := range narrowed {
			if isOpen(ctx) || !errors.Is(context.Cause(ctx), errConfigChanged) {
				t.Fatalf("after the bound: %v", context.Cause(ctx))
			}
		}
		if count(others) != 100 {
			t.Error("streams under other rules have ended")
		}
	})
}

// TestExpiryStaysFirst: a reload does not make a stream outlive its token.
func TestExpiryStaysFirst(t *testing.T) {
	bubble(t, func(_ *atomic.Bool, open func(time.Time, ...reqctx.Lease) (context.Context, *deadlined)) {
		for range 50 {
			rules := new(switchable)
			ctx, _ := open(time.Now(), rules)
			rules.Store(true)
			began := time.Now()
			<-ctx.Done()
			if lived := time.Since(began); lived > endSpread+sweepInterval {
				t.Errorf("a stream lived %v", lived)
			}
		}
	})
}

// TestExiting: Caddy does not wait for streams.
func TestExiting(t *testing.T) {
	bubble(t, func(exiting *atomic.Bool, open func(time.Time, ...reqctx.Lease) (context.Context, *deadlined)) {
		ctx, _ := open(time.Now().Add(time.Hour))
		time.Sleep(time.Minute)
		exiting.Store(true)
		time.Sleep(sweepInterval)
		if isOpen(ctx) || !errors.Is(context.Cause(ctx), errExiting) {
			t.Errorf("while exiting: %v", context.Cause(ctx))
		}
	})
}

// TestDeadlineIsTakenBack: a connection that ended a stream serves the next request.
func TestDeadlineIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreams(zap.NewNop())
		for _, expires := range []time.Time{time.Now(), time.Now().Add(time.Hour)} {
			ctx, end := context.WithCancelCause(t.Context())
			client := &deadlined{ResponseWriter: httptest.NewRecorder()}
			one := &stream{end: end, client: client}
			s.add(one, &reqctx.Identity{Expires: expires})
			time.Sleep(endSpread + 2*sweepInterval)
			ended := !isOpen(ctx)
			s.remove(one)
			end(nil)
			if n := len(client.deadlines); ended && (n != 2 || !client.deadlines[1].IsZero()) || !ended && n != 0 {
				t.Errorf("ended %t: deadlines %v", ended, client.deadlines)
			}
		}
		time.Sleep(2 * sweepInterval)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.sweeping {
			t.Error("the goroutine goes on without any stream")
		}
	})
}
