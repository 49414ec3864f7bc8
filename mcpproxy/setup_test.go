package mcpproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// newContext returns a context in which modules can be provisioned. What was provisioned in it is cleaned up with the
// test, as Caddy does.
func newContext(t *testing.T) caddy.Context {
	t.Helper()
	return newContextIn(t, t.TempDir())
}

// newContextIn is newContext with a folder for Caddy's storage.
func newContextIn(t *testing.T, storage string) caddy.Context {
	t.Helper()
	return newLoggingContext(t, storage, caddy.CustomLog{BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}})
}

// newLoggingContext is newContextIn with a log.
func newLoggingContext(t *testing.T, storage string, log caddy.CustomLog) caddy.Context {
	t.Helper()
	root, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: json.RawMessage(fmt.Sprintf(`{"module":"file_system","root":%q}`, storage)),
		Logging:    &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": &log}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(root)
	t.Cleanup(cancel)
	return ctx
}

// fromJSON loads a handler as Caddy does.
func fromJSON(t *testing.T, config string) *Handler {
	t.Helper()
	return fromJSONIn(t, newContext(t), config)
}

func fromJSONIn(t *testing.T, ctx caddy.Context, config string) *Handler {
	t.Helper()
	module, err := ctx.LoadModuleByID("http.handlers.mcp_proxy", json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	return module.(*Handler)
}

// fromCaddyfile reads a directive, and loads what it comes to.
func fromCaddyfile(t *testing.T, directive string) *Handler {
	t.Helper()
	return fromCaddyfileIn(t, newContext(t), directive)
}

func fromCaddyfileIn(t *testing.T, ctx caddy.Context, directive string) *Handler {
	t.Helper()
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(directive)); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return fromJSONIn(t, ctx, string(config))
}

// alice is somebody whom a mcp_jwt has let in.
var alice = &reqctx.Identity{Issuer: "https://idp.example.com", Subject: "alice"}

// serve sends a request through the handler. Without an identity, no mcp_jwt has judged it.
func serve(t *testing.T, h *Handler, r *http.Request, identity *reqctx.Identity) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := serveTo(t, h, finalHead{w}, r, identity); err != nil {
		var failure caddyhttp.HandlerError
		if !errors.As(err, &failure) {
			t.Error(err)
		}
		w.Code = failure.StatusCode
	}
	return w
}

// finalHead leaves out informational answers, which a recorder takes for the last word.
type finalHead struct{ *httptest.ResponseRecorder }

func (w finalHead) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.ResponseRecorder.WriteHeader(status)
	}
}

// serveTo prepares a request as Caddy's server does.
func serveTo(t *testing.T, h *Handler, w http.ResponseWriter, r *http.Request, identity *reqctx.Identity) error {
	t.Helper()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	r, state := reqctx.Ensure(r)
	state.Identity = identity
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		t.Error("the handler behind the proxy was called")
		return nil
	})
	return h.ServeHTTP(w, r, next)
}

// onlyReader is a body that cannot be read again, as those of a server are.
type onlyReader struct{ io.Reader }

func (onlyReader) Close() error { return nil }

func post(target, body string, headers ...string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, target, onlyReader{strings.NewReader(body)})
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// recorder is an upstream that remembers its requests, and answers as it is told.
type recorder struct {
	*httptest.Server
	answer http.HandlerFunc

	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func newRecorder(t *testing.T, start func(http.Handler) *httptest.Server) *recorder {
	t.Helper()
	u := &recorder{answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") }}
	u.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		u.mu.Lock()
		u.requests, u.bodies = append(u.requests, r), append(u.bodies, string(body))
		u.mu.Unlock()
		u.answer(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

// address is host and port.
func (u *recorder) address() string { return u.Listener.Addr().String() }

// take returns the requests and their bodies since the last call.
func (u *recorder) take() ([]*http.Request, []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	requests, bodies := u.requests, u.bodies
	u.requests, u.bodies = nil, nil
	return requests, bodies
}

// one wants exactly one request to have arrived.
func (u *recorder) one(t *testing.T) *http.Request {
	t.Helper()
	requests, _ := u.take()
	if len(requests) != 1 {
		t.Fatalf("%d requests reached the upstream, want 1", len(requests))
	}
	return requests[0]
}
