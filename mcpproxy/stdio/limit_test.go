package stdio

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func levelError(e observer.LoggedEntry) bool { return e.Level == zapcore.ErrorLevel }

// No principal takes all processes, and all together take no more than there may be.
func TestMaxProcesses(t *testing.T) {
	r := newRig(t, "legacy", func(cfg *Config) { cfg.MaxProcesses = maxPerPrincipal + 2 })
	var sessions []*client
	for range maxPerPrincipal {
		sessions = append(sessions, r.open(t, "alice"))
	}
	refused := func(what string, c *client, body string) {
		t.Helper()
		a := c.post(t, body)
		wantStatus(t, what, a, http.StatusServiceUnavailable, `"error":{"code":-31429,"message":"too many processes run"}`)
		if a.header.Get("Retry-After") != "10" || a.header.Get(headerSession) != "" {
			t.Errorf("%s: %q", what, a.header)
		}
	}
	alice := &client{rig: r, who: "alice", modern: true}
	refused("one session more", &client{rig: r, who: "alice"}, initialize)
	refused("a stateless request", alice, alice.call(`"id"`, "echo", `{}`, ""))
	r.open(t, "bob")
	r.open(t, "carol")
	refused("one principal more", &client{rig: r, who: "dave"}, initialize)

	sessions[0].send(t, http.MethodDelete, "")
	eventually(t, "there is a place", func() bool {
		return alice.post(t, alice.call(`1`, "echo", `{}`, "")).status == http.StatusOK
	})
	if n := r.count(); n != maxPerPrincipal+2 {
		t.Errorf("%d processes", n)
	}
}

// A session that its client has left without a word makes room for another one of the same principal.
func TestAbandonedSession(t *testing.T) {
	r := newRig(t, "legacy", nil)
	var sessions []*client
	for range maxPerPrincipal {
		sessions = append(sessions, r.open(t, "alice"))
	}
	// the first one has a stream, the second one is the one that has been silent for longest, apart from that
	stream := sessions[0].do(t, sessions[0].request(t.Context(), t, http.MethodGet, ""))
	if stream.StatusCode != http.StatusOK {
		t.Fatal(stream.Status)
	}
	for i, c := range sessions[:3] {
		s, err := r.find("alice", c.session)
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.used = time.Now().Add(-abandonedTimeout).Add(time.Duration(i-3) * time.Minute)
		s.mu.Unlock()
	}
	r.open(t, "alice")
	for i, c := range sessions {
		want := http.StatusOK
		if i == 1 {
			want = http.StatusNotFound
		}
		wantStatus(t, fmt.Sprint(i), c.post(t, c.call(`1`, "echo", `{}`, "")), want)
	}
}

// A client that is gone by the time its process has started leaves none behind, although nothing was sent to it.
func TestClientGoneBeforeItsSession(t *testing.T) {
	r := newRig(t, "modern", nil) // so that there is no session if the message arrives, either
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range maxPerPrincipal { // which of the two it is, is chance
		c := &client{rig: r, who: "alice"}
		r.ServeHTTP(httptest.NewRecorder(), c.request(ctx, t, http.MethodPost, initialize), Caller{Principal: c.who})
	}
	eventually(t, "the processes end", func() bool { return r.count() == 0 })
}

// A process answers so many requests at a time.
func TestMaxPending(t *testing.T) {
	r := newRig(t, "legacy", nil)
	c := r.open(t, "alice")
	s, err := r.find("alice", c.session)
	if err != nil {
		t.Fatal(err)
	}
	var streams []*events
	for i := range maxPending {
		body := c.call(fmt.Sprint(i), "hold", `{"key":"k"}`, fmt.Sprint(i))
		streams = append(streams, newEvents(c.do(t, c.request(t.Context(), t, http.MethodPost, body)).Body))
	}
	s.mu.Lock()
	pending := len(s.pending)
	s.mu.Unlock()
	if pending != maxPending {
		t.Fatalf("%d requests wait", pending)
	}
	a := c.post(t, c.call(`"more"`, "echo", `{}`, ""))
	wantStatus(t, "one more", a, http.StatusServiceUnavailable, `"id":"more","error":{"code":-31429`)
	if a.header.Get("Retry-After") != "10" {
		t.Errorf("%q", a.header)
	}
	c.send(t, http.MethodDelete, "")
	for i, stream := range streams {
		last := ""
		for message, ok := stream.next(); ok; message, ok = stream.next() {
			last = message
		}
		if !strings.Contains(last, fmt.Sprintf(`"id":%d,"error":{"code":-31503`, i)) {
			t.Errorf("the session has ended, but request %d got %s", i, last)
		}
	}
}

// A client that does not read loses its stream, and nobody else waits for it.
func TestSlowReader(t *testing.T) {
	r := newRig(t, "legacy", nil)
	c := r.open(t, "alice")
	slow := c.do(t, c.request(t.Context(), t, http.MethodPost, c.call(`1`, "flood", `{"n":1000}`, `1`)))
	eventually(t, "its stream is ended", func() bool {
		return r.logs.FilterMessage("a client reads too slowly; its stream is ended").Len() > 0
	})
	wantStatus(t, "somebody else", c.post(t, c.call(`2`, "echo", `{}`, "")), http.StatusOK, `"id":2`)
	s, err := r.find("alice", c.session)
	if err != nil {
		t.Fatal(err)
	}
	stream := newEvents(slow.Body)
	got := 0
	for _, ok := stream.next(); ok; _, ok = stream.next() {
		got++
	}
	if got >= 1000 {
		t.Errorf("got all %d messages", got)
	}
	eventually(t, "nothing waits", func() bool {
		s.budget.mu.Lock()
		defer s.budget.mu.Unlock()
		return s.budget.size == 0
	})
}

// What waits for a GET that does not come is bounded, too.
func TestNobodyReads(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	line := `{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}`
	lines := strings.Repeat(line+`\n`, 2*maxQueued) + line
	wantStatus(t, "raw", c.post(t, c.call(`1`, "raw", `{"line":"`+lines+`"}`, "")), http.StatusOK)
	s, err := c.find("alice", c.session)
	if err != nil {
		t.Fatal(err)
	}
	if queue, _ := s.events.take(); len(queue) != maxQueued {
		t.Errorf("%d messages wait", len(queue))
	}
}

// Bounds of a message that nobody in front has judged.
func TestUnjudgedMessage(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	before := len(c.seen(t))
	call := c.call(`1`, "echo", `{}`, "")
	for _, test := range []struct {
		what, body string
		headers    []string
		status     int
	}{
		{"too large", c.call(`1`, "echo", `{"a":"`+strings.Repeat("x", maxBody)+`"}`, ""), nil, http.StatusRequestEntityTooLarge},
		{"no JSON", "hello", nil, http.StatusBadRequest},
		{"nothing", "", nil, http.StatusBadRequest},
		{"a duplicate", strings.Replace(call, `"id":1`, `"id":1,"id":2`, 1), nil, http.StatusBadRequest},
		{"an id that is none", strings.Replace(call, `"id":1`, `"id":1.5`, 1), nil, http.StatusBadRequest},
		{"more behind it", call + call, nil, http.StatusBadRequest},
		{"another type", call, []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType},
		{"another charset", call, []string{"Content-Type", "application/json; charset=utf-7"}, http.StatusUnsupportedMediaType},
		{"encoded", call, []string{"Content-Encoding", "gzip"}, http.StatusUnsupportedMediaType},
		{"another name", call, []string{"Mcp-Name", "other"}, http.StatusBadRequest},
		{"an unknown version", call, []string{"MCP-Protocol-Version", "2020-01-01"}, http.StatusBadRequest},
	} {
		wantStatus(t, test.what, c.post(t, test.body, test.headers...), test.status, `"error":`)
	}
	two := c.request(t.Context(), t, http.MethodPost, call)
	two.Header.Add(headerSession, c.session)
	if response := c.do(t, two); response.StatusCode != http.StatusBadRequest {
		t.Errorf("two sessions: %s", response.Status)
	}
	if seen := c.seen(t); len(seen) != before+1 {
		t.Errorf("the server has seen %q", seen[before:])
	}
}

// When the gateway is about to exit, there are no new processes, and calls go on.
func TestStartNoMore(t *testing.T) {
	r := newRig(t, "legacy", nil)
	c := r.open(t, "alice")
	held := newEvents(c.do(t, c.request(t.Context(), t, http.MethodPost, c.call(`1`, "hold", `{"key":"k"}`, `1`))).Body)
	if _, ok := held.next(); !ok {
		t.Fatal("no progress")
	}
	r.StartNoMore()
	wantStatus(t, "a new session", (&client{rig: r, who: "bob"}).post(t, initialize), http.StatusServiceUnavailable)
	wantStatus(t, "a call", c.post(t, c.call(`2`, "release", `{"key":"k"}`, "")), http.StatusOK)
	if got, _ := held.next(); !strings.Contains(got, `"id":1,"result":"k"`) {
		t.Errorf("got %s", got)
	}
}
