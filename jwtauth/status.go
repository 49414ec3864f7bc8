package jwtauth

import (
	"context"
	"math"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/caddymcp/gateway/internal/app"
	"github.com/caddymcp/gateway/internal/cfutil"
)

// statusSource is a key source that can tell what keys are in use.
type statusSource interface {
	// inUse returns the set, and what is known of its times; nil without one.
	inUse() *remoteSet
}

func (s staticKeys) inUse() *remoteSet { return &remoteSet{set: s.set} }

func (f *fileKeys) inUse() *remoteSet { return &remoteSet{set: f.current.Load()} }

func (r *remoteKeys) inUse() *remoteSet { return r.current.Load() }

// issuerStatus tells the admin API about an issuer of a running
// configuration.
type issuerStatus struct {
	issuer string
	jwks   *JWKS
	source keySource
	policy *issuerPolicy
}

// Status implements app.Issuer.
func (s *issuerStatus) Status() app.IssuerStatus {
	status := app.IssuerStatus{Issuer: s.issuer, Keys: []app.KeyStatus{}, State: "unavailable"}
	status.Source, status.Location = s.jwks.place()
	now := time.Now()
	if source, ok := s.source.(statusSource); ok {
		if current := source.inUse(); current != nil {
			s.addKeys(&status, current, now)
		}
	}
	pooled, ok := s.source.(*pooledKeys)
	if !ok {
		return status
	}
	counted := pooled.counts()
	if !counted.fetched.IsZero() {
		age := now.Sub(counted.fetched).Seconds()
		status.Fetched, status.AgeSeconds = &counted.fetched, &age
	}
	if status.LastError = counted.lastError; status.LastError != "" && status.State == "ok" {
		status.State = "failing"
	}
	if pooled.discovered != nil && status.Source == "discover" {
		status.Location = redactURLs(pooled.discovered())
	}
	return status
}

// addKeys adds what there is to tell about the keys in use.
func (s *issuerStatus) addKeys(status *app.IssuerStatus, current *remoteSet, now time.Time) {
	if !current.usableUntil.IsZero() {
		status.UsableUntil = &current.usableUntil
		if !now.Before(current.usableUntil) {
			return
		}
	}
	status.State, status.Keys = "ok", s.policy.keyStatuses(current.set)
	if !current.freshUntil.IsZero() && now.After(current.freshUntil) {
		status.State = "stale"
	}
}

// keyStatuses lists the keys with the algorithms that tokens may use them
// with.
func (p *issuerPolicy) keyStatuses(set *keySet) []app.KeyStatus {
	list := make([]app.KeyStatus, 0, len(set.all))
	for _, k := range set.all {
		status := app.KeyStatus{KeyID: cfutil.LogText(k.kid), Algorithms: []string{}}
		for name, algorithm := range algorithms {
			named := slices.Contains(p.algorithms, name)
			if k.fits(name) && (named || len(p.algorithms) == 0 && !algorithm.symmetric) {
				status.Algorithms = append(status.Algorithms, name)
			}
		}
		slices.Sort(status.Algorithms)
		list = append(list, status)
	}
	return list
}

// place says where keys come from.
func (j *JWKS) place() (source, location string) {
	switch {
	case len(j.Inline) > 0:
		return "inline", ""
	case j.File != "":
		return "file", j.File
	case j.URL != "":
		return "url", redactURLs(j.URL)
	default:
		return "discover", ""
	}
}

// Refresh implements app.Issuer.
func (s *issuerStatus) Refresh(ctx context.Context) app.Refresh {
	result := app.Refresh{Issuer: s.issuer, Result: app.RefreshNotNeeded}
	pooled, ok := s.source.(*pooledKeys)
	if !ok {
		return result
	}
	remote, ok := pooled.runningSource.(*remoteKeys)
	if !ok {
		return result
	}
	if after := remote.refresh(ctx); after > 0 {
		result.Result, result.RetryAfter = app.RefreshCooldown, int(math.Ceil(after.Seconds()))
		return result
	}
	result.Result = app.Refreshed
	if result.Error = pooled.counts().lastError; result.Error != "" {
		result.Result = app.RefreshFailed
	}
	return result
}

// refresh has the set fetched and waits for that, or says after how long it
// may be asked for again. A fetch that is under way is waited for.
func (r *remoteKeys) refresh(ctx context.Context) (after time.Duration) {
	r.mu.Lock()
	after = fetchCooldown - time.Since(r.lastFetch)
	if r.running != nil {
		after = 0
	}
	r.mu.Unlock()
	if after > 0 {
		return after
	}
	asked, _ := r.ask()
	r.wait(ctx, asked, fetchTimeout+time.Second)
	return 0
}

var urlInText = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)

// redactURLs takes out of the URLs in a text what may be secret: user and
// password, query and fragment. One that cannot be read is left out.
func redactURLs(text string) string {
	return urlInText.ReplaceAllStringFunc(text, func(found string) string {
		u, err := url.Parse(found)
		if err != nil || u.Host == "" {
			return "(a URL)"
		}
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	})
}
