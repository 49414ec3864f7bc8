package mcpproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

const initializeMessage = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`

// newStateful is an upstream with one session; it repeats the id in every answer if it is told to.
func newStateful(t *testing.T, id string) *recorder {
	t.Helper()
	u := newRecorder(t, httptest.NewServer)
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get(sessionHeader); got != "" && got != id {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set(sessionHeader, id)
		_, _ = io.WriteString(w, "answer")
	}
	return u
}

// begin opens a session, and returns its sealed id.
func begin(t *testing.T, h *Handler, identity *reqctx.Identity) string {
	t.Helper()
	w := serve(t, h, post("/mcp", initializeMessage), identity)
	ids := w.Header().Values(sessionHeader)
	if w.Code != http.StatusOK || len(ids) != 1 || ids[0] == "" {
		t.Fatalf("initialize: %d %s, session ids %q", w.Code, w.Body, ids)
	}
	return ids[0]
}

// TestSession: the client has a sealed id, the server its own, from the first request to the last.
func TestSession(t *testing.T) {
	const id = "3f6b1c9e-0a6c-4bd0-9c6e-8a9fbd2f0a11"
	u := newStateful(t, id)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp")
	sealed := begin(t, h, alice)
	if sealed == id || strings.Contains(sealed, id) {
		t.Errorf("the client got the server's own id: %s", sealed)
	}
	if r := u.one(t); r.Header.Get(sessionHeader) != "" {
		t.Errorf("the first request has the id %q", r.Header.Get(sessionHeader))
	}
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		r := post("/mcp", message, sessionHeader, sealed, "Last-Event-ID", "7")
		r.Method = method
		w := serve(t, h, r, alice)
		if got := w.Header().Values(sessionHeader); w.Code != http.StatusOK || len(got) != 1 || got[0] != sealed {
			t.Errorf("%s: %d, session ids %q", method, w.Code, got)
		}
		seen := u.one(t)
		if got := seen.Header.Values(sessionHeader); len(got) != 1 || got[0] != id {
			t.Errorf("%s: the server got the ids %q", method, got)
		}
		if got := seen.Header.Get("Last-Event-ID"); got != "7" {
			t.Errorf("%s: Last-Event-ID %q", method, got)
		}
		// for {mcp.session.id}, logs and error routes
		if got := r.Header.Get(sessionHeader); got != sealed {
			t.Errorf("%s: the client's request was changed to the id %q", method, got)
		}
	}
}

// TestServerRenamesSession: a server may give another id at any time.
func TestServerRenamesSession(t *testing.T) {
	u := newStateful(t, "one")
	h := fromCaddyfile(t, "mcp_proxy "+u.address())
	first := begin(t, h, alice)
	u.answer = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(sessionHeader, "two") }
	second := serve(t, h, post("/", message, sessionHeader, first), alice).Header().Get(sessionHeader)
	u.take()
	serve(t, h, post("/", message, sessionHeader, second), alice)
	if got := u.one(t).Header.Get(sessionHeader); got != "two" {
		t.Errorf("the server got %q", got)
	}
}

// TestForeignSession: A140. Whoever it was not made for gets 404, and the server hears nothing of it.
func TestForeignSession(t *testing.T) {
	u := newStateful(t, "session")
	directive := "mcp_proxy http://" + u.address() + "/mcp {\npublic\nsession_key " + goodKey + "\n}"
	h := fromCaddyfile(t, directive)
	sealed := begin(t, h, alice)
	anonymous := begin(t, h, nil)
	u.take()
	client := func(id string) *reqctx.Identity {
		return &reqctx.Identity{Issuer: alice.Issuer, Subject: alice.Subject, Claims: map[string]any{"client_id": id}}
	}
	elsewhere := func(options string) *Handler {
		return fromCaddyfile(t, strings.Replace(directive, "public", "public\n"+options, 1))
	}
	for _, test := range []struct {
		what     string
		handler  *Handler
		id       string
		identity *reqctx.Identity
		passes   bool
	}{
		{"its owner", h, sealed, alice, true},
		{"a refreshed token", h, sealed, &reqctx.Identity{Issuer: alice.Issuer, Subject: alice.Subject, Claims: map[string]any{"jti": "2"}}, true},
		{"another instance", fromCaddyfile(t, directive), sealed, alice, true},
		{"another subject", h, sealed, &reqctx.Identity{Issuer: alice.Issuer, Subject: "bob"}, false},
		{"another issuer", h, sealed, &reqctx.Identity{Issuer: "https://other.example.com", Subject: alice.Subject}, false},
		{"another client", h, sealed, client("app"), false},
		{"anonymous", h, sealed, &reqctx.Identity{Anonymous: true}, false},
		{"nobody has judged it", h, sealed, nil, false},
		{"anonymous, of an anonymous one", h, anonymous, &reqctx.Identity{Anonymous: true}, true},
		{"a user, of an anonymous one", h, anonymous, alice, false},
		{"the server's own id", h, "session", alice, false},
		{"another path", fromCaddyfile(t, strings.Replace(directive, "/mcp", "/other", 1)), sealed, alice, false},
		{"another credential for the server", elsewhere("header_up Authorization secret"), sealed, alice, false},
		{"another key", fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp"), sealed, alice, false},
		{"another way of load balancing", elsewhere("lb_policy first\nflush_interval 1s"), sealed, alice, true},
		{"another server", fromCaddyfile(t, strings.Replace(directive, u.address(), deadAddress(t), 1)), sealed, alice, false},
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
			r := post("/mcp", message, sessionHeader, test.id, "Last-Event-ID", "1")
			r.Method = method
			w := serve(t, test.handler, r, test.identity)
			requests, _ := u.take()
			if test.passes {
				if w.Code != http.StatusOK || len(requests) != 1 {
					t.Errorf("%s, %s: %d %s, %d requests", method, test.what, w.Code, w.Body, len(requests))
				}
				continue
			}
			if w.Code != http.StatusNotFound || w.Body.String() != "session not found" || len(requests) != 0 {
				t.Errorf("%s, %s: %d %s, %d requests reached the upstream", method, test.what, w.Code, w.Body, len(requests))
			}
			if got := w.Header().Get(sessionHeader); got != "" {
				t.Errorf("%s, %s: the refusal has an id: %q", method, test.what, got)
			}
		}
	}
}

// TestMalformedSession: A142.
func TestMalformedSession(t *testing.T) {
	u := newStateful(t, "session")
	h := fromCaddyfile(t, "mcp_proxy "+u.address())
	sealed := begin(t, h, alice)
	u.take()
	for what, ids := range map[string][]string{
		"CRLF":          {"a\r\nX-User: root"},
		"NUL":           {"a\x00"},
		"a space":       {"a b"},
		"a list":        {sealed + ", " + sealed},
		"not ASCII":     {"ä"},
		"DEL":           {"a\x7f"},
		"empty":         {""},
		"over 4 KiB":    {strings.Repeat("a", maxSealedID+1)},
		"10 kB":         {strings.Repeat("a", 10000)},
		"twice":         {sealed, sealed},
		"two different": {sealed, "a"},
	} {
		r := post("/", message)
		r.Header[sessionHeader] = ids
		w := serve(t, h, r, alice)
		if requests, _ := u.take(); w.Code != http.StatusBadRequest || w.Body.String() != "malformed Mcp-Session-Id" || len(requests) != 0 {
			t.Errorf("%s: %d %s, %d requests reached the upstream", what, w.Code, w.Body, len(requests))
		}
	}
	// as long as may be, but sealed by nobody
	if w := serve(t, h, post("/", message, sessionHeader, strings.Repeat("A", maxSealedID)), alice); w.Code != http.StatusNotFound {
		t.Errorf("4 KiB: %d", w.Code)
	}
}

// TestUnsealableAnswer: an id that is none is not passed on, and nothing else of the answer.
func TestUnsealableAnswer(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	h := fromCaddyfile(t, "mcp_proxy "+u.address())
	stop := make(chan struct{})
	defer close(stop)
	for what, ids := range map[string][]string{
		"a space":    {"a b"},
		"not ASCII":  {"\xff"},
		"over 2 KiB": {strings.Repeat("a", maxUpstreamID+1)},
		"two":        {"a", "b"},
		"two equal":  {"a", "a"},
	} {
		u.answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header()[sessionHeader] = ids
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("X-Secret", "of the server")
			w.Header().Set("Cache-Control", "max-age=60")
			_ = http.NewResponseController(w).Flush()
			select { // a stream that says nothing for now
			case <-r.Context().Done():
			case <-stop:
			}
		}
		w := httptest.NewRecorder()
		w.Header().Set("Access-Control-Allow-Origin", "https://app.example.com")
		ctx, cancel := context.WithCancel(t.Context())
		r := post("/", message).WithContext(ctx)
		if err := serveTo(t, h, w, r, alice); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		cancel() // as a server does when the handler has returned
		if w.Code != http.StatusBadGateway || w.Body.String() != "the server's session id cannot be passed on" {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
		for _, name := range []string{sessionHeader, "X-Secret", "Cache-Control"} {
			if got := w.Header().Values(name); got != nil {
				t.Errorf("%s: %s: %q", what, name, got)
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("%s: headers that were there before are not", what)
		}
	}
	// no id at all
	u.answer = func(w http.ResponseWriter, _ *http.Request) { w.Header()[sessionHeader] = []string{""} }
	if w := serve(t, h, post("/", message), alice); w.Code != http.StatusOK || w.Header()[sessionHeader] != nil {
		t.Errorf("empty: %d, %q", w.Code, w.Header()[sessionHeader])
	}
}

// TestSessionsWithoutBinding: ids pass as they are, and the storage is left alone.
func TestSessionsWithoutBinding(t *testing.T) {
	u := newStateful(t, "session")
	h := fromCaddyfile(t, "mcp_proxy "+u.address()+" {\nsession_binding off\n}")
	m := new(memory)
	h.key.storage = m
	if got := begin(t, h, alice); got != "session" {
		t.Errorf("the client got %q", got)
	}
	bob := &reqctx.Identity{Issuer: alice.Issuer, Subject: "bob"}
	if w := serve(t, h, post("/", message, sessionHeader, "session"), bob); w.Code != http.StatusOK {
		t.Errorf("%d", w.Code)
	}
	if len(m.calls) != 0 {
		t.Errorf("the storage was asked: %q", m.calls)
	}
}

// TestBrokenStorage: without the key no session begins, and none goes on; what has no session does.
func TestBrokenStorage(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	h := fromCaddyfile(t, "mcp_proxy "+u.address())
	for what, m := range map[string]*memory{
		"broken":  {fail: failing("load", errors.New("broken"))},
		"corrupt": {values: map[string][]byte{keyPath: []byte("?")}},
	} {
		k := storedKey(t, m)
		h.key, h.sessions.key = k, k
		unavailable := func(how string, w *httptest.ResponseRecorder, reached int) {
			t.Helper()
			requests, _ := u.take()
			if w.Code != http.StatusServiceUnavailable || w.Body.String() != "the session key is not available" ||
				w.Header().Get("Retry-After") != "1" || w.Header()[sessionHeader] != nil || len(requests) != reached {
				t.Errorf("%s, %s: %d %s %v, %d requests reached the upstream", what, how, w.Code, w.Body, w.Header(), len(requests))
			}
		}
		unavailable("a session", serve(t, h, post("/", message, sessionHeader, "a"), alice), 0)
		// behind mcp_authorize it is known what the message is
		r, state := reqctx.Ensure(post("/", initializeMessage))
		state.Message = &mcpwire.Message{Method: "initialize"}
		unavailable("initialize", serve(t, h, r, alice), 0)
		// without, only the answer tells
		u.answer = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(sessionHeader, "session") }
		unavailable("an answer with an id", serve(t, h, post("/", initializeMessage), alice), 1)
		u.answer = func(http.ResponseWriter, *http.Request) {}
		w := serve(t, h, post("/", message), alice)
		if requests, _ := u.take(); w.Code != http.StatusOK || len(requests) != 1 {
			t.Errorf("%s, no session: %d, %d requests", what, w.Code, len(requests))
		}
		if m.count("store") != 0 {
			t.Errorf("%s: a fresh key was stored", what)
		}
	}
}

// TestGuessFlood: A141. Ids that nobody has given are refused one by one, and nothing is kept of them.
func TestGuessFlood(t *testing.T) {
	const guesses, mayGrow = 100_000, 1 << 20
	u := newStateful(t, "session")
	h := fromCaddyfile(t, "mcp_proxy "+u.address()+" {\nsession_key "+goodKey+"\n}")
	sealed := begin(t, h, alice)
	u.take()
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	r, state := reqctx.Ensure(post("/", message))
	state.Identity = alice
	before := heap()
	for i := range guesses {
		r.Header[sessionHeader] = []string{fmt.Sprintf("%s%06d", sealed[:len(sealed)-6], i)}
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, r, nil); err != nil || w.Code != http.StatusNotFound {
			t.Fatalf("guess %d: %d, %v", i, w.Code, err)
		}
	}
	if grown := heap() - before; grown > mayGrow {
		t.Errorf("%d bytes are kept of %d guesses", grown, guesses)
	}
	if requests, _ := u.take(); len(requests) != 0 {
		t.Errorf("%d guesses reached the upstream", len(requests))
	}
}

// TestSessionsAreLazy: a configuration that is only checked touches no storage.
func TestSessionsAreLazy(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	m := new(memory)
	h := fromCaddyfile(t, "mcp_proxy "+u.address())
	k, err := newSessionKey("", m, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	h.sessions.key = k
	serve(t, h, post("/", message), alice)
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
	if len(m.calls) != 0 {
		t.Errorf("the storage was asked: %q", m.calls)
	}
}

// TestSessionConfig: what cannot be used is refused when it loads, and never shown.
func TestSessionConfig(t *testing.T) {
	t.Setenv("MCP_TEST_KEY", goodKey)
	t.Setenv("MCP_TEST_SHORT", "c2VjcmV0")
	load := func(options string) error {
		config := `{"upstreams":[{"dial":"127.0.0.1:1"}],` + options + `}`
		_, err := newContext(t).LoadModuleByID("http.handlers.mcp_proxy", json.RawMessage(config))
		return err
	}
	for _, options := range []string{`"session_key":"{env.MCP_TEST_KEY}"`, `"session_binding":true`, `"session_binding":false`} {
		if err := load(options); err != nil {
			t.Errorf("%s: %v", options, err)
		}
	}
	for options, want := range map[string]string{
		`"session_key":"{env.MCP_TEST_SHORT}"`: "session_key must be at least 32 bytes",
		`"session_key":"{env.MCP_TEST_NONE}"`:  "session_key: placeholder {env.MCP_TEST_NONE} is empty",
		`"session_key":"c2VjcmV0"`:             "session_key must be at least 32 bytes",
	} {
		if err := load(options); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", options, err)
		}
	}
	// what was written stays a placeholder
	h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"session_key":"{env.MCP_TEST_KEY}"}`)
	if h.SessionKey != "{env.MCP_TEST_KEY}" {
		t.Error("the key has got into the configuration")
	}
}

// TestIdentity: what makes another proxy of it, and what does not.
func TestIdentity(t *testing.T) {
	identity := func(config string) string {
		h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}]`+config+`}`)
		return h.sessions.proxy
	}
	base := identity(``)
	for what, config := range map[string]string{
		"load balancing":        `,"load_balancing":{"selection_policy":{"policy":"first"}}`,
		"health checks":         `,"health_checks":{"passive":{"fail_duration":"1s"}}`,
		"timeouts":              `,"transport":{"protocol":"http","dial_timeout":"1s"}`,
		"headers of the answer": `,"headers":{"response":{"set":{"X-A":["b"]}}}`,
	} {
		if got := identity(config); got != base {
			t.Errorf("%s: another proxy: %s, %s", what, got, base)
		}
	}
	seen := map[string]string{base: "nothing"}
	for what, config := range map[string]string{
		"path":        `,"rewrite":{"uri":"/mcp"}`,
		"other path":  `,"rewrite":{"uri":"/other"}`,
		"TLS":         `,"transport":{"protocol":"http","tls":{}}`,
		"certificate": `,"transport":{"protocol":"http","tls":{"server_name":"a"}}`,
		"credential":  `,"headers":{"request":{"set":{"Authorization":["a"]}}}`,
		"tenant":      `,"headers":{"request":{"set":{"X-Tenant":["a"]}}}`,
	} {
		got := identity(config)
		if other, taken := seen[got]; taken {
			t.Errorf("%s and %s are the same proxy", what, other)
		}
		seen[got] = what
	}
}

// TestWriter: no way to send a header gets around the sealing.
func TestWriter(t *testing.T) {
	for what, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		status int
		body   string
	}{
		"WriteHeader": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }, 202, ""},
		"Write":       {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "a") }, 200, "a"},
		"ReadFrom": {func(w http.ResponseWriter) {
			_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("a"))
		}, 200, "a"},
		"Flush":     {func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 200, ""},
		"FlushCtrl": {func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }, 200, ""},
		"twice": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusOK)
			w.Header().Set(sessionHeader, "raw")
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "a")
		}, 200, "a"},
		"early hints": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set(sessionHeader, "raw")
			w.WriteHeader(http.StatusNoContent)
		}, 204, ""},
		"declared trailer": {func(w http.ResponseWriter) {
			w.Header().Set("Trailer", sessionHeader)
			_, _ = io.WriteString(w, "a")
			w.Header().Add(sessionHeader, "raw")
		}, 200, "a"},
		"trailer": {func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "a")
			w.Header().Add(http.TrailerPrefix+sessionHeader, "raw")
		}, 200, "a"},
		"nothing": {func(http.ResponseWriter) {}, 200, ""},
	} {
		h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"session_key":"`+goodKey+`"}`)
		h.sessions.affinity = nil
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			err := h.sessions.serve(w, r, func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set(sessionHeader, "raw")
				test.answer(w)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}))
		response, err := http.Get(front.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != test.status || string(body) != test.body {
			t.Errorf("%s: %d %q, %v", what, response.StatusCode, body, err)
		}
		response.Body.Close()
		front.Close()
		for _, header := range []http.Header{response.Header, response.Trailer} {
			for _, id := range header.Values(sessionHeader) {
				if opened, err := h.sessions.sealer.Load().open(id, "anonymous"); err != nil || opened.id != "raw" {
					t.Errorf("%s: the client got %q", what, id)
				}
			}
		}
		if what != "nothing" && len(response.Header.Values(sessionHeader)) != 1 {
			t.Errorf("%s: the header is %q", what, response.Header.Values(sessionHeader))
		}
	}
}

// TestOtherPanics go on: only the writer's own is stopped.
func TestOtherPanics(t *testing.T) {
	h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"session_key":"`+goodKey+`"}`)
	defer func() {
		if got, ok := recover().(error); !ok || !errors.Is(got, http.ErrAbortHandler) {
			t.Errorf("recovered %v", got)
		}
	}()
	_ = h.sessions.serve(httptest.NewRecorder(), post("/", message), func(http.ResponseWriter, *http.Request) error {
		panic(http.ErrAbortHandler)
	})
}

// TestErrorsKeepNoID: an error route must not send what the backend had prepared.
func TestErrorsKeepNoID(t *testing.T) {
	h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"session_key":"`+goodKey+`"}`)
	w := httptest.NewRecorder()
	want := errors.New("of the backend")
	err := h.sessions.serve(w, post("/", message), func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set(sessionHeader, "raw")
		return want
	})
	if !errors.Is(err, want) || w.Header()[sessionHeader] != nil {
		t.Errorf("%v, %v", err, maps.Collect(maps.All(w.Header())))
	}
}
