package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// From returns the app of a configuration.
func From(ctx caddy.Context) (*App, error) {
	loaded, err := ctx.App(ID)
	if err != nil {
		return nil, err
	}
	app, ok := loaded.(*App)
	if !ok {
		return nil, fmt.Errorf("the app %s is a %T", ID, loaded)
	}
	return app, nil
}

// KeyStatus is what can be told about a key: never the key.
type KeyStatus struct {
	// The key's `kid`; empty when it has none.
	KeyID string `json:"kid"`
	// The algorithms it may be used with.
	Algorithms []string `json:"algorithms"`
}

// IssuerStatus is what can be told about an issuer and its keys.
type IssuerStatus struct {
	// The issuer's `iss`; empty for the one that accepts any.
	Issuer string `json:"issuer"`
	// `inline`, `file`, `url` or `discover`.
	Source string `json:"source"`
	// The file or the address, without user, password and query.
	Location string `json:"location,omitempty"`
	// `ok`: the keys are in use. `failing`: they are, but the last try to
	// get them anew failed. `stale`: they are, although they should have been
	// refreshed by now. `unavailable`: there are none, or none that may still
	// be used.
	State string `json:"state"`
	// The keys in use.
	Keys []KeyStatus `json:"keys"`
	// When the keys were last fetched or read, and how long ago that is.
	Fetched    *time.Time `json:"fetched,omitempty"`
	AgeSeconds *float64   `json:"age_seconds,omitempty"`
	// Until when the keys may be used unless they are fetched again.
	UsableUntil *time.Time `json:"usable_until,omitempty"`
	// Why the last try failed; empty when it did not.
	LastError string `json:"last_error,omitempty"`
}

// Results of a refresh.
const (
	// Refreshed: the keys were fetched.
	Refreshed = "ok"
	// RefreshFailed: the fetch failed.
	RefreshFailed = "error"
	// RefreshCooldown: the last fetch was a moment ago.
	RefreshCooldown = "cooldown"
	// RefreshNotNeeded: the keys are not fetched, but part of the
	// configuration, or in a file that is watched.
	RefreshNotNeeded = "not_needed"
)

// Refresh is what became of a wish to fetch the keys of an issuer.
type Refresh struct {
	Issuer string `json:"issuer"`
	Result string `json:"result"`
	// After how many seconds a refresh may be asked for again.
	RetryAfter int    `json:"retry_after_seconds,omitempty"`
	Error      string `json:"error,omitempty"`
}

// Issuer is one issuer of a running configuration.
type Issuer interface {
	Status() IssuerStatus
	// Refresh fetches the keys now, unless they were fetched a moment ago.
	Refresh(ctx context.Context) Refresh
}

// Policy is one mcp_authorize of a running configuration.
type Policy interface {
	// Status is the policy as it was written, before placeholders were
	// replaced: something that becomes JSON.
	Status() any
	// ExplainJSON reads an operation and says what the rules make of it:
	// something that becomes JSON. Its errors are the caller's.
	ExplainJSON(ctx context.Context, operation []byte) (any, error)
}

// AddIssuer lets the admin API see an issuer.
func (a *App) AddIssuer(issuer Issuer) {
	a.state.mu.Lock()
	defer a.state.mu.Unlock()
	a.state.issuers = append(a.state.issuers, issuer)
}

// AddPolicy lets the admin API see a policy.
func (a *App) AddPolicy(policy Policy) {
	a.state.mu.Lock()
	defer a.state.mu.Unlock()
	a.state.policies = append(a.state.policies, policy)
}

// Issuers are the issuers of the configuration, in its order.
func (a *App) Issuers() []Issuer {
	a.state.mu.Lock()
	defer a.state.mu.Unlock()
	return slices.Clone(a.state.issuers)
}

// Policies are the policies of the configuration, in its order.
func (a *App) Policies() []Policy {
	a.state.mu.Lock()
	defer a.state.mu.Unlock()
	return slices.Clone(a.state.policies)
}
