package mcpproxy

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap/zapcore"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// lineOf sends a request, and returns what the access log says of it. A body that mcp_authorize has judged is its message.
func lineOf(t *testing.T, h *Handler, r *http.Request, identity *reqctx.Identity, judged string) (status int, fields map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, w, &caddyhttp.Server{Logs: new(caddyhttp.ServerLogConfig)})
	r, state := reqctx.Ensure(r)
	state.Identity = identity
	if judged != "" {
		var err error
		if state.Message, err = mcpwire.Read([]byte(judged)); err != nil {
			t.Fatal(err)
		}
		repl.Set("mcp.method", state.Message.Method)
		repl.Set("mcp.version", "2025-06-18")
		repl.Set("mcp.rule", "allow#1")
	}
	err := h.ServeHTTP(finalHead{w}, r, nil)
	if status = w.Code; err != nil {
		var failure caddyhttp.HandlerError
		if !errors.As(err, &failure) {
			t.Error(err)
		}
		status = failure.StatusCode
	}
	extra := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	// Caddy lets nobody read them before the line is written
	list := *(*[]zapcore.Field)(reflect.ValueOf(extra).Elem().FieldByName("fields").Addr().UnsafePointer())
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range list {
		field.AddTo(encoder)
	}
	return status, encoder.Fields
}

// TestReasons: the access log says why the server has not answered, and what was asked.
func TestReasons(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`
	fine := newRecorder(t, httptest.NewServer)
	refuses := newRecorder(t, httptest.NewServer)
	refuses.answer = challengeWith(http.StatusUnauthorized)
	silent := newStreamed(t, "", "")
	proxy := func(rest string) *Handler { return fromCaddyfile(t, "mcp_proxy "+rest) }
	to := func(u *recorder) *Handler { return proxy("http://" + u.address() + "/mcp") }
	with := func(change func(*Handler)) *Handler {
		h := to(fine)
		change(h)
		return h
	}
	get := func(target string, headers ...string) *http.Request {
		r := post(target, "", headers...)
		r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
		return r
	}
	broken := storedKey(t, &memory{fail: failing("load", errors.New("broken"))})
	noKey := with(func(h *Handler) { h.key, h.sessions.key = broken, broken })
	ended := proxy("http://" + silent.address())
	exiting := new(atomic.Bool)
	exiting.Store(true)
	ended.streams.exiting = exiting.Load
	for _, test := range []struct {
		what   string
		h      *Handler
		r      *http.Request
		status int
		reason string
	}{
		{"two sessions", to(fine), post("/mcp", call, sessionHeader, "a", sessionHeader, "b"), 400, "malformed_session"},
		{"somebody's session", to(fine), post("/mcp", call, sessionHeader, "a"), 404, "unknown_session"},
		{"no key", noKey, post("/mcp", call, sessionHeader, "a"), 503, "session_key_unavailable"},
		{"an id that is none", to(newStateful(t, strings.Repeat("x", maxUpstreamID+1))), post("/mcp", call), 502, "bad_upstream_answer"},
		{"an endpoint", to(fine), post("/mcp?mcp_endpoint=x", call), 404, "unknown_endpoint"},
		{"an endpoint, no key", noKey, post("/mcp?mcp_endpoint="+strings.Repeat("A", 64), call), 503, "session_key_unavailable"},
		{"down", proxy("http://" + deadAddress(t)), post("/mcp", call), 502, "upstream_down"},
		{"slow", proxy("http://" + silent.address() + " {\ntransport http {\nresponse_header_timeout 20ms\n}\n}"), post("/mcp", call), 504, "upstream_slow"},
		{"unauthorized", to(refuses), post("/mcp", call), 502, "upstream_unauthorized"},
		{"ended", ended, get("/mcp"), 503, "stream_ended"},
		{"a program that is not there", fromJSON(t, `{"stdio":{"command":"/no/such/program"}}`), post("/mcp", call, "Accept", "*/*"), 502, "upstream_down"},
		{"a stream of no session", fromJSON(t, stdioConfig(t, "")), get("/mcp"), 400, "malformed_message"},
	} {
		judged := call
		want := map[string]any{"mcp.decision": "deny", "mcp.reason": test.reason}
		if test.r.Method == http.MethodGet {
			judged = ""
		} else {
			want["mcp.method"], want["mcp.target"], want["mcp.version"] = "tools/call", "t", "2025-06-18"
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		status, got := lineOf(t, test.h, test.r.WithContext(ctx), alice, judged)
		cancel()
		if status != test.status || !maps.Equal(got, want) {
			t.Errorf("%s: %d, the access log says\n%v\nwant %d\n%v", test.what, status, got, test.status, want)
		}
	}
}

// TestNoReason: what the server answers is no refusal, whatever it is; and what no mcp_jwt has judged is.
func TestNoReason(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	u.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address())
	if status, got := lineOf(t, h, post("/mcp", message), alice, ""); status != http.StatusBadGateway || len(got) != 0 {
		t.Errorf("an answer: %d %v", status, got)
	}
	want := map[string]any{"mcp.decision": "deny", "mcp.reason": "no_mcp_jwt"}
	if status, got := lineOf(t, h, post("/mcp", message), nil, ""); status != http.StatusForbidden || !maps.Equal(got, want) {
		t.Errorf("nobody has judged: %d %v", status, got)
	}
}
