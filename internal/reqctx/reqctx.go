// Package reqctx is what the handlers of one request hand to each other in
// its context: who is asking (mcp_jwt) and what is asked (mcp_authorize).
package reqctx

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Identity is who a request comes from. Only mcp_jwt makes one, and only
// from a token it has verified, or to say that there is none.
type Identity struct {
	// Anonymous: mcp_jwt let the request pass without a valid token
	// (optional and permissive mode). All of the token's fields are empty.
	Anonymous bool
	// Issuer and Subject are the token's iss and sub.
	Issuer, Subject string
	// ClientID is the OAuth client that got the token, "" if it does not say.
	ClientID string
	// Claims are all claims of the token; nil for an anonymous request.
	// They are shared between requests: never change them.
	Claims Claims
	// Expires is the token's exp.
	Expires time.Time
	// ForwardCredential: the configuration wants the client's credential to
	// reach the upstream.
	ForwardCredential bool
	// Login answers 401 with a challenge; nil where logging in would not
	// help. It is how a refusal of an anonymous request tells the client to
	// get a token.
	Login func(http.ResponseWriter, *http.Request) error
	// StepUp answers 403 with a challenge that names all scopes an operation
	// needs (RFC 6750 section 3.1); nil for an anonymous request.
	StepUp func(w http.ResponseWriter, r *http.Request, scopes []string) error

	derived atomic.Value
}

// Derived returns what is made once, for all requests with this token. There
// is one maker. Two requests at a time may each make one, of which the first
// is kept.
func (i *Identity) Derived(from func() any) any {
	if known := i.derived.Load(); known != nil {
		return known
	}
	i.derived.CompareAndSwap(nil, from())
	return i.derived.Load()
}

// Principal tells callers apart: it is the same for every token that an
// issuer gives to one subject through one client, and for nothing else. All
// anonymous requests, and those that no mcp_jwt has judged, share one.
func (i *Identity) Principal() string {
	if i == nil || i.Anonymous {
		return "anonymous"
	}
	var room [128]byte // enough for most, so that they cost one allocation
	text := append(room[:0], "token"...)
	for _, part := range [...]string{i.Issuer, i.Subject, i.ClientID} {
		text = strconv.AppendInt(text, int64(len(part)), 10)
		text = append(text, ':')
		text = append(text, part...)
	}
	return string(text)
}

// State is the record of one request. The handlers run one after the other,
// so it needs no lock.
type State struct {
	// Identity is nil when no mcp_jwt has judged the request.
	Identity *Identity
	// Message is nil when no mcp_authorize has read the body, and for
	// requests without one.
	Message *mcpwire.Message

	leases []Lease
	// room for the leases of the usual handlers, so that they cost no
	// allocation
	room [3]Lease
}

// Lease tells whether what judged a request is still in the configuration.
type Lease interface{ Ended() bool }

// Hold notes that a handler with this lease has judged the request: what it
// let through must not live on for long once the lease has ended.
func (s *State) Hold(l Lease) {
	if s.leases == nil {
		s.leases = s.room[:0]
	}
	s.leases = append(s.leases, l)
}

// Leases are those of the handlers that have judged the request.
func (s *State) Leases() []Lease {
	if s == nil {
		return nil
	}
	return s.leases
}

type contextKey struct{}

// From returns the state of a request, nil when no handler made one.
func From(ctx context.Context) *State {
	state, _ := ctx.Value(contextKey{}).(*State)
	return state
}

// Ensure returns the request with its state, which it makes if need be.
func Ensure(r *http.Request) (*http.Request, *State) {
	if state := From(r.Context()); state != nil {
		return r, state
	}
	state := new(State)
	return r.WithContext(context.WithValue(r.Context(), contextKey{}, state)), state
}
