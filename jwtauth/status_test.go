package jwtauth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/app"
)

// What may be secret in an address is not told, wherever it stands in a text.
func TestRedactURLs(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"connection refused":                "connection refused",
		"https://idp.example.com/keys":      "https://idp.example.com/keys",
		"https://a:b@idp/keys?key=x#y":      "https://idp/keys",
		`Get "http://u:p@h:1/k?t=x": EOF`:   `Get "http://h:1/k": EOF`,
		"a http://h?x=1 and http://h?y=2 b": "a http://h and http://h b",
		"http://h/a%2Fb?q":                  "http://h/a%2Fb",
		"http://%zz/secret":                 "(a URL)",
		"socks5://user:pw@proxy:1080":       "socks5://proxy:1080",
		"://x":                              "://x",
	} {
		if got := redactURLs(text); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

// scriptedFetcher answers as it is told.
type scriptedFetcher struct {
	asked   chan struct{}
	answers chan error
	set     *keySet
}

func (f *scriptedFetcher) fetch(ctx context.Context, _ *keySet) (fetchedKeys, error) {
	f.asked <- struct{}{}
	select {
	case err := <-f.answers:
		return fetchedKeys{f.set, time.Hour}, err
	case <-ctx.Done():
		return fetchedKeys{}, ctx.Err()
	}
}

// The states of a set that is fetched: none yet, in use, failing, stale, and
// too old; and a refresh that keeps to the cooldown.
func TestIssuerStatus(t *testing.T) {
	set, _, err := parseKeySet(inline(rsaOnce(), ecOnce()).Inline, keyPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	fetcher := &scriptedFetcher{make(chan struct{}, 1), make(chan error), set}
	pooled := &pooledKeys{issuer: issuerURL, logger: zap.NewNop}
	remote := newRemoteKeys(fetcher, time.Hour, pooled.observe)
	defer remote.close()
	pooled.runningSource = remote
	status := &issuerStatus{issuerURL, &JWKS{URL: "https://u:p@idp.example.com/keys?secret"}, pooled, &issuerPolicy{}}

	got := status.Status()
	if got.State != "unavailable" || len(got.Keys) != 0 || got.Keys == nil || got.AgeSeconds != nil || got.Location != "https://idp.example.com/keys" || got.Source != "url" {
		t.Errorf("before: %+v", got)
	}
	remote.run()
	<-fetcher.asked
	joined := make(chan app.Refresh)
	go func() { joined <- status.Refresh(t.Context()) }() // it waits for the fetch under way
	fetcher.answers <- nil
	if r := <-joined; r.Result != app.Refreshed && r.Result != app.RefreshCooldown {
		t.Errorf("refresh: %+v", r)
	}
	got = status.Status()
	var algorithms []string
	for _, k := range got.Keys {
		algorithms = append(algorithms, k.KeyID+" "+strings.Join(k.Algorithms, ","))
	}
	slices.Sort(algorithms)
	if got.State != "ok" || got.AgeSeconds == nil || got.UsableUntil == nil || len(algorithms) != 2 {
		t.Errorf("in use: %+v", got)
	}
	for _, text := range algorithms {
		if strings.Contains(text, "HS") || strings.HasSuffix(text, " ") {
			t.Errorf("algorithms %q", algorithms)
		}
	}
	if r := status.Refresh(t.Context()); r.Result != app.RefreshCooldown || r.RetryAfter < 1 || r.RetryAfter > int(fetchCooldown.Seconds()) {
		t.Errorf("within the cooldown: %+v", r)
	}
	select {
	case <-fetcher.asked:
		t.Error("it was fetched within the cooldown")
	default:
	}

	pooled.observe(nil, errors.New(`Get "https://u:p@idp.example.com/keys?secret": EOF`))
	if got = status.Status(); got.State != "failing" || strings.Contains(got.LastError, "secret") || strings.Contains(got.LastError, "u:p") {
		t.Errorf("failing: %+v", got)
	}
	now := time.Now()
	remote.current.Store(&remoteSet{set, now, now.Add(-time.Second), now.Add(time.Hour)})
	if got = status.Status(); got.State != "stale" || len(got.Keys) != 2 {
		t.Errorf("stale: %+v", got)
	}
	remote.current.Store(&remoteSet{set, now, now.Add(-time.Hour), now.Add(-time.Second)})
	if got = status.Status(); got.State != "unavailable" || len(got.Keys) != 0 {
		t.Errorf("too old: %+v", got)
	}
	pooled.observe(set, nil)
	if pooled.counts().lastError != "" {
		t.Error("the last error outlives a success")
	}
}

// A refresh that fails says why; one whose client leaves waits no longer.
func TestRefreshFails(t *testing.T) {
	fetcher := &scriptedFetcher{make(chan struct{}, 1), make(chan error), nil}
	pooled := &pooledKeys{issuer: issuerURL, logger: zap.NewNop}
	remote := newRemoteKeys(fetcher, time.Hour, pooled.observe)
	defer remote.close()
	pooled.runningSource = remote
	status := &issuerStatus{issuerURL, &JWKS{URL: "https://idp.example.com"}, pooled, &issuerPolicy{}}
	remote.run()
	<-fetcher.asked
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	status.Refresh(gone)
	done := make(chan app.Refresh)
	go func() { done <- status.Refresh(t.Context()) }()
	fetcher.answers <- errors.New("down")
	if r := <-done; r.Result == app.Refreshed || r.Result == app.RefreshFailed && r.Error != "down" {
		t.Errorf("%+v", r)
	}
}
