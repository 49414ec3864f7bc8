package mcpproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/reqctx"
)

const sessionHeader = "Mcp-Session-Id"

// sessions binds the sessions of a proxy to who began them, and to the replica
// that has them.
type sessions struct {
	key      *sessionKey
	proxy    string
	affinity *affinity
	logger   *zap.Logger

	sealer atomic.Pointer[sealer] // nil until it is needed
}

// provisionSessions sets up what binds sessions. Nothing is fetched yet.
func (h *Handler) provisionSessions(ctx caddy.Context) error {
	configured := h.SessionKey
	if err := cfutil.Expand(&configured); err != nil {
		return fmt.Errorf("session_key: %w", err)
	}
	var err error
	if h.key, err = newSessionKey(configured, ctx.Storage(), h.logger); err != nil {
		return err
	}
	if h.identity, err = h.describe(); err != nil {
		return err
	}
	if h.SessionBinding == nil || *h.SessionBinding {
		h.sessions = &sessions{key: h.key, proxy: h.identity, logger: h.logger}
	}
	return nil
}

// bindReplicas puts the replicas of sessions and endpoints before the
// configured selection policy, once reverse_proxy has set that up.
func (h *Handler) bindReplicas() {
	if h.LoadBalancing == nil || h.LoadBalancing.SelectionPolicy == nil {
		return
	}
	chooser := &affinity{configured: h.LoadBalancing.SelectionPolicy}
	if h.DynamicUpstreams == nil {
		chooser.static = h.Upstreams
	}
	h.LoadBalancing.SelectionPolicy = chooser
	if h.sessions != nil {
		h.sessions.affinity = chooser
	}
}

// describe tells proxies apart whose sessions must not be mixed: a session is
// good at each that reaches the same servers in the same way. The addresses of
// the servers are not part of it. They are in each session, and a proxy takes
// only those it knows, so that servers can come and go.
func (h *Handler) describe() (string, error) {
	var transport struct {
		Protocol string          `json:"protocol"`
		TLS      json.RawMessage `json:"tls"`
	}
	if h.TransportRaw != nil {
		if err := json.Unmarshal(h.TransportRaw, &transport); err != nil {
			return "", fmt.Errorf("transport: %w", err)
		}
	}
	if transport.Protocol == "" {
		transport.Protocol = "http"
	}
	parts := map[string]any{"rewrite": h.Rewrite, "transport": transport}
	if h.Headers != nil && h.Headers.Request != nil {
		// credentials of the gateway, and tenants
		parts["headers"] = h.Headers.Request
	}
	if h.Stdio != nil {
		parts["stdio"] = h.Stdio
	}
	identity, err := json.Marshal(parts)
	return string(identity), err
}

// ready returns the sealer, once there is a key for it.
func (s *sessions) ready(ctx context.Context) (*sealer, error) {
	if ready := s.sealer.Load(); ready != nil {
		return ready, nil
	}
	sealKey, err := s.key.derive(ctx, "session id")
	if err != nil {
		return nil, err
	}
	nonceKey, err := s.key.derive(ctx, "session id nonce")
	if err != nil {
		return nil, err
	}
	ready, err := newSealer(sealKey, nonceKey, s.proxy)
	if err == nil {
		s.sealer.Store(ready)
	}
	return ready, err
}

// open opens the session id of a request, or refuses the request, which done
// says. It does nothing on nil.
func (s *sessions) open(w http.ResponseWriter, r *http.Request, state *reqctx.State) (e *opening, done bool, err error) {
	if s == nil {
		return nil, false, nil
	}
	if state == nil {
		state = new(reqctx.State)
	}
	e = &opening{sessions: s, principal: state.Identity.Principal()}
	ids := r.Header[sessionHeader]
	if len(ids) > 1 || len(ids) == 1 && (len(ids[0]) > maxSealedID || !isVisible(ids[0])) {
		return nil, true, refuse(w, r, http.StatusBadRequest, reasonBadSession, "malformed Mcp-Session-Id")
	}
	// the server need not begin a session that could not be sealed
	begins := state.Message != nil && state.Message.Method == "initialize"
	if len(ids) == 0 && !begins {
		return e, false, nil
	}
	sealer, err := s.ready(r.Context())
	if err != nil {
		return nil, true, refuseWithoutKey(w, r)
	}
	if len(ids) == 0 {
		return e, false, nil
	}
	if e.opened, err = sealer.open(ids[0], e.principal); err != nil {
		return nil, true, refuse(w, r, http.StatusNotFound, reasonNoSession, errNotSealed.Error())
	}
	e.sealed = ids[0]
	e.route = route{bound: true, replica: e.opened.replica}
	if s.affinity != nil && s.affinity.gone(&e.route, r) {
		return nil, true, refuse(w, r, http.StatusNotFound, reasonNoSession, errNotSealed.Error())
	}
	return e, false, nil
}

// refuseWithoutKey answers where sessions can be neither opened nor sealed.
func refuseWithoutKey(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Retry-After", strconv.Itoa(int(keyCooldown/time.Second)))
	return refuse(w, r, http.StatusServiceUnavailable, reasonNoKey, "the session key is not available")
}

// opening is one request whose session is opened, and whose answer is sealed.
type opening struct {
	sessions  *sessions
	principal string
	// sealed is the id that the client sent, and opened what it holds.
	sealed string
	opened upstreamSession
	route  route
}

// run lets a backend answer, which knows only ids of servers, and seals the id
// in its answer.
func (e *opening) run(w http.ResponseWriter, r *http.Request, backend func(http.ResponseWriter, *http.Request) error) error {
	backendRequest := e.route.with(r)
	if e.sealed != "" {
		// the client's headers stay as they are for logs, placeholders and error routes
		backendRequest.Header = maps.Clone(r.Header)
		backendRequest.Header[sessionHeader] = []string{e.opened.id}
	}
	before := maps.Clone(w.Header())
	sealing := newSealingWriter(w, func(ids []string) ([]string, error) { return e.sealAll(r.Context(), ids) })
	err := call(backend, sealing, backendRequest)
	failure := sealing.failure
	lost := !sealing.wroteHeader && e.route.gaveUp(err)
	if failure != nil || lost {
		clear(w.Header())
		maps.Copy(w.Header(), before)
	}
	switch {
	case failure != nil:
		return e.refuseUnsealed(w, r, failure)
	case lost:
		return refuse(w, r, http.StatusNotFound, reasonNoSession, errNotSealed.Error())
	}
	sealing.finish()
	return err
}

// refuseUnsealed answers where the server's id could not be sealed.
func (e *opening) refuseUnsealed(w http.ResponseWriter, r *http.Request, failure error) error {
	if !errors.Is(failure, errUnsealable) {
		return refuseWithoutKey(w, r)
	}
	e.sessions.logger.Error("an answer was not passed on", zap.Error(failure))
	return refuse(w, r, http.StatusBadGateway, reasonBadAnswer, "the server's session id cannot be passed on")
}

// sealAll seals the values of the header in an answer, of which there is at
// most one.
func (e *opening) sealAll(ctx context.Context, ids []string) ([]string, error) {
	switch {
	case len(ids) > 1:
		return nil, errUnsealable
	case len(ids) == 0 || ids[0] == "":
		return nil, nil
	}
	sealed, err := e.seal(ctx, ids[0])
	if err != nil {
		return nil, err
	}
	return []string{sealed}, nil
}

// seal makes the id for the client out of the one that a server answered.
// Many servers repeat it in every answer.
func (e *opening) seal(ctx context.Context, id string) (string, error) {
	if e.sealed != "" && id == e.opened.id {
		return e.sealed, nil
	}
	sealer, err := e.sessions.ready(ctx)
	if err != nil {
		return "", err
	}
	return sealer.seal(upstreamSession{id, e.route.replica}, e.principal)
}

// call lets a backend answer. A writer that cannot seal stops it by a panic,
// since WriteHeader has no other way to end an answer that may be a stream.
func call(backend func(http.ResponseWriter, *http.Request) error, w *sealingWriter, r *http.Request) (err error) {
	defer func() {
		if w.failure != nil {
			_ = recover() // every other panic goes on
		}
	}()
	return backend(w, r)
}
