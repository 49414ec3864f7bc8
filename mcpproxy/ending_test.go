package mcpproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	listen = `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}`
	event  = "event: message\ndata: {}\n\n"
)

// exitingHandler is a handler whose streams end when the test says so.
func exitingHandler(t *testing.T, address string) (h *Handler, exit func()) {
	t.Helper()
	h = fromCaddyfile(t, "mcp_proxy http://"+address+"/mcp")
	exiting := new(atomic.Bool)
	h.streams.exiting = exiting.Load
	return h, func() { exiting.Store(true) }
}

// TestStreamsEnd: what may last ends as if the server had ended it; what is cut off must not look whole.
func TestStreamsEnd(t *testing.T) {
	for _, test := range []struct {
		what, method, body string
		judged             bool
		contentType, first string
		want               string
		whole              bool
	}{
		{"GET", "GET", "", false, "text/event-stream", event, event, true},
		{"GET, within an event", "GET", "", false, "text/event-stream", event + "data: {", event, true},
		{"a subscription", "POST", listen, true, "text/event-stream; charset=utf-8", event, event, true},
		{"a message that nobody has read", "POST", message, false, "Text/Event-Stream", event, event, true},
		{"GET, no events", "GET", "", false, "application/json", `{"a":`, `{"a":`, false},
	} {
		u := newStreamed(t, test.contentType, test.first)
		h, exit := exitingHandler(t, u.address())
		f := newFront(t, h)
		response := f.send(t.Context(), test.method, "/", test.body, test.judged)
		got := make([]byte, len(test.want))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != test.want {
			t.Errorf("%s: %q, %v", test.what, got, err)
		}
		exit()
		rest, err := readAll(t, response)
		if rest != "" || (err == nil) != test.whole {
			t.Errorf("%s: ends with %q, %v", test.what, rest, err)
		}
		receive(t, test.what+": the end of the request to the upstream", u.left)
		want := error(nil)
		if !test.whole {
			want = http.ErrAbortHandler
		}
		if err := receive(t, test.what+": the end", f.returned); !errors.Is(err, want) {
			t.Errorf("%s: %v", test.what, err)
		}
	}
}

// TestStreamEndsBeforeItBegins: the server has not said anything yet.
func TestStreamEndsBeforeItBegins(t *testing.T) {
	u := newStreamed(t, "", "")
	h, exit := exitingHandler(t, u.address())
	f := newFront(t, h)
	exit()
	response := f.send(t.Context(), "GET", "/", "", false)
	body, err := readAll(t, response)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "1" || err != nil ||
		body != "the stream has ended; open it again" {
		t.Errorf("%d %q, %v", response.StatusCode, body, err)
	}
	receive(t, "the end of the request to the upstream", u.left)
}

// TestCallsGoOn: a call is answered, whatever becomes of the token or the configuration.
func TestCallsGoOn(t *testing.T) {
	for _, contentType := range []string{"application/json", "text/event-stream"} {
		u := newRecorder(t, httptest.NewServer)
		release := make(chan struct{})
		u.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, event)
		}
		h, exit := exitingHandler(t, u.address())
		f := newFront(t, h)
		exit()
		response := f.send(t.Context(), "POST", "/", message, true)
		if len(h.streams.open) != 0 {
			t.Errorf("%s: the call counts as a stream", contentType)
		}
		close(release)
		if body, err := readAll(t, response); body != event || err != nil {
			t.Errorf("%s: %q, %v", contentType, body, err)
		}
	}
}

// TestA149_ClientGone: a client that leaves closes its request to the upstream, whatever it waits for.
func TestA149_ClientGone(t *testing.T) {
	for _, test := range []struct {
		what, method, body, contentType string
		judged                          bool
	}{
		{"a call without an answer yet", "POST", message, "", true},
		{"a call that nobody has read", "POST", message, "", false},
		{"a call with half an answer", "POST", message, "application/json", true},
		{"a call with a stream", "POST", message, "text/event-stream", true},
		{"GET", "GET", "", "text/event-stream", false},
		{"GET without an answer yet", "GET", "", "", false},
		{"a subscription", "POST", listen, "text/event-stream", true},
	} {
		u := newStreamed(t, test.contentType, event)
		f := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp"))
		ctx, leave := context.WithCancel(t.Context())
		arrived := make(chan struct{})
		answer := u.answer
		u.answer = func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			answer(w, r)
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			r, _ := http.NewRequestWithContext(ctx, test.method, f.URL+"/", strings.NewReader(test.body))
			if test.judged {
				r.Header.Set("X-Judged", "1")
			}
			if response, err := f.Client().Do(r); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}()
		receive(t, test.what+": the request", arrived)
		began := time.Now()
		leave()
		receive(t, test.what+": the end of the request to the upstream", u.left)
		t.Logf("%s: %v", test.what, time.Since(began))
		<-gone
		receive(t, test.what+": the end", f.returned)
	}
}

// TestClientThatDoesNotRead: it cannot keep a stream that has ended, or Caddy from exiting. The upstream is not read
// either, so nothing piles up.
func TestClientThatDoesNotRead(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	var sent atomic.Int64
	left := make(chan struct{})
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		w.Header().Set("Content-Type", "text/event-stream")
		piece := append(append([]byte("data: "), bytes.Repeat([]byte("x"), 1<<16)...), "\n\n"...)
		for r.Context().Err() == nil {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	t.Cleanup(u.CloseClientConnections)
	h, exit := exitingHandler(t, u.address())
	f := newFront(t, h)
	response := f.send(t.Context(), "GET", "/", "", false)
	// one event, and then no more
	if _, err := bufio.NewReader(response.Body).ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}
	// it is stuck once it has filled the buffers of the kernel
	last := int64(-1)
	for now := sent.Load(); now != last; now = sent.Load() {
		last = now
		select {
		case <-time.After(300 * time.Millisecond):
		case <-left:
			t.Fatal("the upstream's request has ended by itself")
		}
	}
	exit()
	receive(t, "the end of the request to the upstream", left)
	receive(t, "the end", f.returned)
}

// TestNextRequest: a connection on which a stream was ended serves what comes next, long after.
func TestNextRequest(t *testing.T) {
	u := newStreamed(t, "text/event-stream", event)
	h, exit := exitingHandler(t, u.address())
	f := newFront(t, h)
	response := f.send(t.Context(), "GET", "/", "", false)
	exit()
	if _, err := readAll(t, response); err != nil {
		t.Fatal(err)
	}
	receive(t, "the end", f.returned)
	u.answer = func(w http.ResponseWriter, _ *http.Request) {
		<-time.After(lastWriteTimeout + 200*time.Millisecond)
		_, _ = io.WriteString(w, "answer")
	}
	if body, err := readAll(t, f.send(t.Context(), "POST", "/", message, true)); body != "answer" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}
