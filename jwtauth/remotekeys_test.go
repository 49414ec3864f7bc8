package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddymcp/gateway/internal/mcptest"
)

var errDown = errors.New("the issuer is down")

// fakeServer is a keyFetcher whose answers the test chooses. It counts its
// fetches, and never answers two at once.
type fakeServer struct {
	mu       sync.Mutex
	set      *keySet // nil: it is down
	freshFor time.Duration
	// latency is how long an answer takes. What it says was true when the
	// fetch began.
	latency time.Duration
	onFetch func()

	start   time.Time
	fetches []time.Duration // when each began
	running int
	most    int // fetches at once
}

func newFakeServer(kids ...string) *fakeServer {
	s := &fakeServer{freshFor: time.Hour, start: time.Now()}
	s.publish(kids...)
	return s
}

// kidSet is a set of keys that are known by their kids only.
func kidSet(kids ...string) *keySet {
	set := &keySet{byID: make(map[string]*key)}
	for _, kid := range kids {
		k := &key{kid: kid}
		set.byID[kid] = k
		set.all = append(set.all, k)
	}
	return set
}

// publish makes these the keys of the issuer; none at all takes it down.
func (s *fakeServer) publish(kids ...string) {
	if len(kids) == 0 {
		s.publishSet(nil)
		return
	}
	s.publishSet(kidSet(kids...))
}

func (s *fakeServer) publishSet(set *keySet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = set
}

func (s *fakeServer) answersAfter(latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = latency
}

func (s *fakeServer) staysFresh(freshFor time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freshFor = freshFor
}

func (s *fakeServer) fetch(ctx context.Context, _ *keySet) (fetchedKeys, error) {
	s.mu.Lock()
	if s.onFetch != nil {
		s.onFetch()
	}
	s.fetches = append(s.fetches, time.Since(s.start))
	s.running++
	s.most = max(s.most, s.running)
	set, latency, freshFor := s.set, s.latency, s.freshFor
	s.mu.Unlock()

	err := errDown
	if set != nil {
		err = nil
	}
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	s.running--
	s.mu.Unlock()
	return fetchedKeys{set, freshFor}, err
}

// count returns how many fetches have begun.
func (s *fakeServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fetches)
}

// begun returns when the fetches began, in whole seconds.
func (s *fakeServer) begun() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	seconds := make([]int, 0, len(s.fetches))
	for _, at := range s.fetches {
		seconds = append(seconds, int(at/time.Second))
	}
	return seconds
}

// neverTwoAtOnce is true of every issuer in these tests.
func (s *fakeServer) neverTwoAtOnce(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 1 {
		t.Errorf("%d fetches at once", s.most)
	}
}

// inBubble runs a test with a clock that moves only when everybody waits. The
// server's remoteKeys are running, and end with the test: a goroutine that
// went on would be found.
func inBubble(t *testing.T, test func(t *testing.T, s *fakeServer, r *remoteKeys), kids ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(kids...)
		r := newRemoteKeys(s, defaultMaxStale, nil)
		t.Cleanup(func() { s.neverTwoAtOnce(t) })
		t.Cleanup(r.close)
		test(t, s, r)
	})
}

// tokenOf is a token that names a key.
func tokenOf(kid string) *token {
	t, err := readToken(parts(`{"alg":"RS256","kid":"`+kid+`"}`, `{"sub":"alice"}`, "x"), defaultMaxTokenSize)
	if err != nil {
		panic(err)
	}
	return t
}

// asked is what became of a question for a key, and how long it took.
type asked struct {
	key  *key
	err  error
	took time.Duration
}

// result is short for what matters of an answer: "a", "unknown", "503".
func (a asked) String() string {
	var unknown unknownKeyError
	var unavailable unavailableError
	switch {
	case a.err == nil:
		return fmt.Sprintf("%s after %s", a.key.kid, a.took)
	case errors.As(a.err, &unknown):
		return fmt.Sprintf("unknown after %s", a.took)
	case errors.As(a.err, &unavailable):
		return fmt.Sprintf("503 after %s", a.took)
	default:
		return a.err.Error()
	}
}

func find(ctx context.Context, r *remoteKeys, kid string) asked {
	began := time.Now()
	k, err := r.find(ctx, tokenOf(kid))
	return asked{k, err, time.Since(began)}
}

// finds asks at once, and wants this answer.
func finds(t *testing.T, r *remoteKeys, kid, want string) {
	t.Helper()
	if got := find(t.Context(), r, kid).String(); got != want {
		t.Errorf("%s: %s at %s, want %s", kid, got, time.Now().Format("15:04:05"), want)
	}
}

// findLater asks in the background.
func findLater(ctx context.Context, r *remoteKeys, kid string) <-chan asked {
	answer := make(chan asked, 1)
	go func() { answer <- find(ctx, r, kid) }()
	synctest.Wait()
	return answer
}

func answers(t *testing.T, answer <-chan asked, want string) {
	t.Helper()
	if got := (<-answer).String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func wantFetches(t *testing.T, s *fakeServer, seconds ...int) {
	t.Helper()
	synctest.Wait()
	if got := s.begun(); !slices.Equal(got, seconds) {
		t.Errorf("fetches began at %v, want %v", got, seconds)
	}
}

// A set is fetched again shortly before it stops being fresh, whether
// anybody asks or not.
func TestRefreshInTheBackground(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		s.freshFor = minFreshness
		r.run()
		time.Sleep(3 * time.Minute)
		wantFetches(t, s, 0, 55, 110, 165)
		finds(t, r, "a", "a after 0s")

		// what the next answer says counts from then on
		s.staysFresh(2 * time.Minute)
		time.Sleep(5 * time.Minute)
		wantFetches(t, s, 0, 55, 110, 165, 220, 335, 450)
	}, "a")
}

// With max_stale 0 there is no gap while the set is fetched again.
func TestNoGapWithoutMaxStale(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		s.freshFor, r.maxStale = minFreshness, 0
		s.latency = fetchTimeout - time.Millisecond
		r.run()
		finds(t, r, "a", "a after 4.999s")
		for range 1000 {
			finds(t, r, "a", "a after 0s")
			time.Sleep(time.Second / 2)
		}
		s.publish()
		time.Sleep(minFreshness + time.Second)
		finds(t, r, "a", "503 after 0s")
	}, "a")
}

// A74: down at start. The pauses between the attempts double, up to a minute.
func TestA74_PausesBetweenAttempts(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.run()
		time.Sleep(250 * time.Second)
		wantFetches(t, s, 0, 1, 3, 7, 15, 31, 63, 123, 183, 243)

		s.publish("a")
		time.Sleep(time.Minute)
		finds(t, r, "a", "a after 0s")
		wantFetches(t, s, 0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303)

		// after a success they start over
		s.publish()
		time.Sleep(time.Hour)
		wantFetches(t, s, 0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 3898, 3899, 3901, 3905)
	})
}

// A75, A76: an outage. The old set serves for max_stale, then nobody gets in,
// and the first set that comes ends it.
func TestA75_A76_Outage(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		s.freshFor = 10 * time.Minute
		r.run()
		finds(t, r, "a", "a after 0s")
		k, _ := r.find(t.Context(), tokenOf("a"))
		s.publish()

		time.Sleep(70*time.Minute - time.Second)
		finds(t, r, "a", "a after 0s")
		if err := r.check(k); err != nil {
			t.Errorf("a key that was found before: %v", err)
		}
		time.Sleep(time.Second)
		for range 100 {
			answer := find(t.Context(), r, "a")
			var unavailable unavailableError
			if !errors.As(answer.err, &unavailable) || unavailable.retryAfter < time.Second || unavailable.retryAfter > lastRetry ||
				unavailable.retryAfter%time.Second != 0 || answer.took != 0 {
				t.Fatalf("%v, %+v", answer, answer.err)
			}
			if err := r.check(k); !errors.As(err, &unavailable) {
				t.Fatalf("a key that was found before: %v", err)
			}
			// an unknown kid is no way to learn about keys that are too old
			finds(t, r, "b", "503 after 0s")
			time.Sleep(time.Second)
		}
		s.publish("a")
		time.Sleep(lastRetry)
		finds(t, r, "a", "a after 0s")
	}, "a")
}

// Retry-After is the time until the next attempt.
func TestRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.run()
		time.Sleep(15*time.Second + 500*time.Millisecond) // the next one is at 31
		synctest.Wait()
		var unavailable unavailableError
		if err := find(t.Context(), r, "a").err; !errors.As(err, &unavailable) || unavailable.retryAfter != 16*time.Second {
			t.Errorf("%+v", err)
		}
		wantFetches(t, s, 0, 1, 3, 7, 15)
	})
}

// A request before the first keys waits for them, but not for long.
func TestFirstKeys(t *testing.T) {
	for name, test := range map[string]struct {
		latency time.Duration
		down    bool
		want    string
	}{
		"at once":         {0, false, "a after 0s"},
		"soon":            {3 * time.Second, false, "a after 3s"},
		"too late":        {time.Minute, false, "503 after 5s"},
		"refused":         {0, true, "503 after 0s"},
		"refused later":   {2 * time.Second, true, "503 after 2s"},
		"never and again": {time.Hour, true, "503 after 5s"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
				if test.down {
					s.publish()
				}
				s.latency = test.latency
				r.run()
				var waiting []<-chan asked
				for range 100 {
					waiting = append(waiting, findLater(t.Context(), r, "a"))
				}
				for _, answer := range waiting {
					answers(t, answer, test.want)
				}
			}, "a")
		})
	}
	t.Run("not started", func(t *testing.T) {
		inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
			finds(t, r, "a", "503 after 5s")
			answer := findLater(t.Context(), r, "a")
			time.Sleep(time.Second)
			r.run()
			answers(t, answer, "a after 1s")
		}, "a")
	})
	t.Run("client gone", func(t *testing.T) {
		inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if got := find(ctx, r, "a").String(); got != "503 after 1s" {
				t.Error(got)
			}
		}, "a")
	})
}

// A86: the first token with a new key passes after one fetch, which all who
// ask share.
func TestA86_NewKey(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.run()
		time.Sleep(fetchCooldown)
		s.publish("a", "b")
		s.answersAfter(time.Second)
		var waiting []<-chan asked
		for range 100 {
			waiting = append(waiting, findLater(t.Context(), r, "b"))
		}
		finds(t, r, "a", "a after 0s") // who is known does not wait
		for _, answer := range waiting {
			answers(t, answer, "b after 1s")
		}
		wantFetches(t, s, 0, 10)
		finds(t, r, "b", "b after 0s")
	}, "a")
}

// What a token says is not held while it waits, and there again after that.
func TestClaimsAfterWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.run()
		time.Sleep(time.Second)
		s.publish("a", "b")
		waits := tokenOf("b")
		held := true
		s.onFetch = func() { held = waits.claims != nil || waits.payload != nil }
		if _, err := r.find(t.Context(), waits); err != nil || held || waits.claims["sub"] != "alice" || len(waits.payload) == 0 {
			t.Errorf("%v, claims held: %v, then %v", err, held, waits.claims)
		}
	}, "a")
}

// A27: a kid that nobody has costs the issuer one fetch in ten seconds.
// Whoever comes earlier waits for the next one.
func TestA27_Cooldown(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.run()
		time.Sleep(4 * time.Second)
		finds(t, r, "b", "unknown after 6s") // at 10
		finds(t, r, "b", "unknown after 10s")
		time.Sleep(3 * time.Second)
		finds(t, r, "c", "unknown after 7s")
		time.Sleep(15 * time.Second)
		finds(t, r, "c", "unknown after 0s")
		wantFetches(t, s, 0, 10, 20, 30, 45)

		// a token that meets the cooldown passes if its key is there by then
		time.Sleep(time.Second)
		answer := findLater(t.Context(), r, "b")
		time.Sleep(5 * time.Second)
		s.publish("a", "b")
		answers(t, answer, "b after 9s")
		wantFetches(t, s, 0, 10, 20, 30, 45, 55)
	}, "a")
}

// A88: failures count as well. While the set is fresh, nothing else hurries.
func TestA88_FailedFetchStartsTheCooldown(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.run()
		time.Sleep(30 * time.Second)
		s.publish()
		for range 5 {
			find(t.Context(), r, "b")
			finds(t, r, "a", "a after 0s")
		}
		wantFetches(t, s, 0, 30, 40, 50, 60, 70)
		time.Sleep(10 * time.Minute)
		wantFetches(t, s, 0, 30, 40, 50, 60, 70)

		// the key comes, and with it the first token
		s.publish("a", "b")
		finds(t, r, "b", "b after 0s")
	}, "a")
}

// A fetch that began before the rotation says nothing about the new key.
func TestFetchFromBeforeTheRotation(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.run()
		time.Sleep(20 * time.Second)
		s.answersAfter(4 * time.Second)
		first := findLater(t.Context(), r, "x") // fetched with the old keys
		time.Sleep(time.Second)
		s.publish("a", "b")
		second := findLater(t.Context(), r, "b")
		answers(t, first, "unknown after 4s")
		// 3 s of the old fetch, 6 s of the cooldown, 4 s of the new fetch
		answers(t, second, "b after 13s")
		wantFetches(t, s, 0, 20, 30)
	}, "a")
}

// The worst case: the question comes with a fetch that takes all its time.
func TestLongestWait(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.run()
		time.Sleep(20 * time.Second)
		s.answersAfter(fetchTimeout - time.Millisecond)
		first := findLater(t.Context(), r, "x")
		s.publish("a", "b")
		second := findLater(t.Context(), r, "b")
		answers(t, second, "b after 14.999s")
		answers(t, first, "unknown after 4.999s")

		// nobody waits longer, whatever the issuer does
		s.answersAfter(time.Hour)
		time.Sleep(time.Minute)
		findLater(t.Context(), r, "x")
		finds(t, r, "y", "unknown after 15s")
	}, "a")
}

// The number of those who wait is bounded; the rest is refused at once, and
// who is known never waits.
func TestNumberOfWaitingTokens(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		r.maxWaiting = 3
		r.run()
		time.Sleep(time.Second)
		var waiting []<-chan asked
		for i := range 3 {
			waiting = append(waiting, findLater(t.Context(), r, fmt.Sprint("x", i)))
		}
		for range 10 {
			finds(t, r, "b", "unknown after 0s")
			finds(t, r, "a", "a after 0s")
		}
		for _, answer := range waiting {
			answers(t, answer, "unknown after 9s")
		}
		// their places are free again
		finds(t, r, "b", "unknown after 10s")

		// a client that is gone leaves its place
		ctx, cancel := context.WithCancel(t.Context())
		waiting = nil
		for i := range 3 {
			waiting = append(waiting, findLater(ctx, r, fmt.Sprint("x", i)))
		}
		finds(t, r, "b", "unknown after 0s")
		time.Sleep(time.Second)
		cancel()
		for _, answer := range waiting {
			answers(t, answer, "unknown after 1s")
		}
		s.publish("a", "b")
		finds(t, r, "b", "b after 9s")
		if r.waiting != 0 {
			t.Errorf("%d places are taken", r.waiting)
		}
	}, "a")
}

// A key that is found once and removed is found no more, by check either;
// one that stays in an unchanged set stays good.
func TestCheckAfterRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		s.freshFor = minFreshness
		r.run()
		time.Sleep(time.Second)
		a := find(t.Context(), r, "a").key
		time.Sleep(time.Minute)
		if err := r.check(a); err != nil {
			t.Errorf("the same set: %v", err)
		}
		s.publish("b")
		time.Sleep(time.Minute)
		if err := r.check(a); !errors.Is(err, errKeyReplaced) {
			t.Errorf("the key was removed: %v", err)
		}
		// another key under the same kid is another key
		s.publish("a")
		time.Sleep(time.Minute)
		if err := r.check(a); !errors.Is(err, errKeyReplaced) {
			t.Errorf("the key was replaced: %v", err)
		}
		// it is not kid alone that tells keys apart
		nameless := &key{}
		s.publishSet(&keySet{byID: map[string]*key{"": {}}, all: []*key{nameless}})
		time.Sleep(time.Minute)
		if err := r.check(nameless); err != nil {
			t.Errorf("a key without kid: %v", err)
		}
		if err := r.check(&key{}); !errors.Is(err, errKeyReplaced) {
			t.Errorf("another key without kid: %v", err)
		}
	}, "a")
}

// close ends everything, in whatever state: the bubble would find a goroutine
// that goes on.
func TestClose(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, s *fakeServer, r *remoteKeys){
		"not started":     func(*testing.T, *fakeServer, *remoteKeys) {},
		"idle":            func(_ *testing.T, _ *fakeServer, r *remoteKeys) { r.run(); time.Sleep(time.Minute) },
		"started twice":   func(_ *testing.T, _ *fakeServer, r *remoteKeys) { r.run(); r.run(); time.Sleep(time.Minute) },
		"closed twice":    func(_ *testing.T, _ *fakeServer, r *remoteKeys) { r.run(); r.close() },
		"run after close": func(_ *testing.T, _ *fakeServer, r *remoteKeys) { r.close(); r.run() },
		"during a pause":  func(_ *testing.T, s *fakeServer, r *remoteKeys) { s.publish(); r.run(); time.Sleep(20 * time.Second) },
		"during a fetch": func(_ *testing.T, s *fakeServer, r *remoteKeys) {
			s.latency = time.Hour
			r.run()
			time.Sleep(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
				test(t, s, r)
				r.close()
				synctest.Wait()
				count := s.count()
				if name == "started twice" {
					wantFetches(t, s, 0)
				}
				time.Sleep(24 * time.Hour)
				if s.count() != count {
					t.Error("fetched after it was closed")
				}
			}, "a")
		})
	}
}

// A reload replaces a source while tokens wait for it. They are told to come
// again, which is when the new source has them; nobody calls them invalid.
func TestCloseWhileTokensWait(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		first := findLater(t.Context(), r, "a")
		time.Sleep(time.Second)
		r.run()
		answers(t, first, "a after 1s")
		waits := findLater(t.Context(), r, "b")
		time.Sleep(time.Second)
		r.close()
		answers(t, waits, "503 after 1s")
		finds(t, r, "b", "503 after 0s")
		// the old configuration goes on serving those it knows
		finds(t, r, "a", "a after 0s")
	}, "a")
	inBubble(t, func(t *testing.T, _ *fakeServer, r *remoteKeys) {
		waits := findLater(t.Context(), r, "a")
		time.Sleep(time.Second)
		r.close()
		answers(t, waits, "503 after 1s")
	}, "a")
}

// Whoever observes is told of each fetch once, and of none that closing cut.
func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		var observed []string
		r := newRemoteKeys(s, 0, func(set *keySet, err error) {
			if err == nil {
				observed = append(observed, fmt.Sprint(len(set.all), " keys"))
			} else {
				observed = append(observed, err.Error())
			}
		})
		r.run()
		time.Sleep(500 * time.Millisecond)
		s.publish("a", "b")
		time.Sleep(time.Second)
		s.answersAfter(time.Minute)
		findLater(t.Context(), r, "c")
		time.Sleep(11 * time.Second) // the fetch is under way
		r.close()
		synctest.Wait()
		if want := []string{errDown.Error(), "2 keys"}; !slices.Equal(observed, want) {
			t.Errorf("observed %q, want %q", observed, want)
		}
	})
}

// Everything at once, for the race detector: refreshes, rotations, known and
// unknown kids, clients that leave.
func TestConcurrentUse(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		s.freshFor = minFreshness
		s.latency = 100 * time.Millisecond
		r.run()
		r.run()
		var group sync.WaitGroup
		for worker := range 20 {
			group.Go(func() {
				for round := range 30 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(worker+1)*time.Second)
					if got := find(ctx, r, "a"); got.err != nil || r.check(got.key) != nil {
						t.Errorf("known key: %v", got)
					}
					find(ctx, r, mcptest.JSON(worker*round))
					cancel()
				}
			})
		}
		group.Wait()
		if r.waiting != 0 {
			t.Errorf("%d places are taken", r.waiting)
		}
	}, "a")
}
