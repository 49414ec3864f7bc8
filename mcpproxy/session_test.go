package mcpproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

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
		return &reqctx.Identity{Issuer: alice.Issuer, Subject: alice.Subject, ClientID: id}
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
		{"a refreshed token", h, sealed, &reqctx.Identity{Issuer: alice.Issuer, Subject: alice.Subject, Claims: reqctx.Claims(`{"jti":"2"}`)}, true},
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
