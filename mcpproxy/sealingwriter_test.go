package mcpproxy

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

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
			w.(http.Flusher).Flush() // or there would be a length, and no trailer
			w.Header().Add(http.TrailerPrefix+sessionHeader, "raw")
		}, 200, "a"},
		"nothing": {func(http.ResponseWriter) {}, 200, ""},
	} {
		h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"session_key":"`+goodKey+`"}`)
		h.sessions.affinity = nil
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			err := serveSession(h, w, r, func(w http.ResponseWriter, _ *http.Request) error {
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

// serveSession lets a backend answer in the session of a request.
func serveSession(h *Handler, w http.ResponseWriter, r *http.Request, backend func(http.ResponseWriter, *http.Request) error) error {
	session, done, err := h.sessions.open(w, r, nil)
	if done {
		return err
	}
	return session.run(w, r, backend)
}

// TestOtherPanics go on: only the writer's own is stopped.
func TestOtherPanics(t *testing.T) {
	h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"session_key":"`+goodKey+`"}`)
	defer func() {
		if got, ok := recover().(error); !ok || !errors.Is(got, http.ErrAbortHandler) {
			t.Errorf("recovered %v", got)
		}
	}()
	_ = serveSession(h, httptest.NewRecorder(), post("/", message), func(http.ResponseWriter, *http.Request) error {
		panic(http.ErrAbortHandler)
	})
}

// TestErrorsKeepNoID: an error route must not send what the backend had prepared.
func TestErrorsKeepNoID(t *testing.T) {
	h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"session_key":"`+goodKey+`"}`)
	w := httptest.NewRecorder()
	want := errors.New("of the backend")
	err := serveSession(h, w, post("/", message), func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set(sessionHeader, "raw")
		return want
	})
	if !errors.Is(err, want) || w.Header()[sessionHeader] != nil {
		t.Errorf("%v, %v", err, maps.Collect(maps.All(w.Header())))
	}
}
