package stdio

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// wantStatus checks an answer, and that its JSON-RPC id is the one of the request.
func wantStatus(t *testing.T, what string, a *reply, status int, parts ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: status %d, want %d: %q", what, a.status, status, a.messages)
	}
	for _, part := range parts {
		if !strings.Contains(a.last(), part) {
			t.Errorf("%s: %q lacks %s", what, a.last(), part)
		}
	}
}

// Two sessions are two processes, and each goes with its DELETE.
func TestSession(t *testing.T) {
	r := newRig(t, "legacy", nil)
	one, two := r.open(t, "alice"), r.open(t, "alice")
	if one.session == two.session || len(one.session) < 26 {
		t.Errorf("sessions %q and %q", one.session, two.session)
	}
	first, second := one.self(t), two.self(t)
	if first.Pid == second.Pid {
		t.Error("two sessions share a process")
	}
	a := one.post(t, one.call(`"x"`, "echo", `{"a":[1, 2.50]}`, ""))
	if a.last() != `{"jsonrpc":"2.0","id":"x","result":{"a":[1,2.50]}}` || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %q %q", a.last(), a.header)
	}
	wantStatus(t, "DELETE", one.send(t, http.MethodDelete, ""), http.StatusNoContent)
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		wantStatus(t, method+" of a session that has ended", one.send(t, method, one.call(`7`, "echo", `{}`, "")), http.StatusNotFound)
	}
	eventually(t, "the process ends", func() bool { return !alive(first.Pid) })
	if !alive(second.Pid) {
		t.Error("the other session's process has ended, too")
	}
}

// The handshake is the client's own: nothing is added to it.
func TestHandshakePassesThrough(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	seen := c.seen(t)
	want := []string{strings.Replace(initialize, `"id":0`, `"id":1`, 1), initialized}
	if len(seen) != 3 || seen[0] != want[0] || seen[1] != want[1] {
		t.Errorf("the server has seen %q", seen)
	}
}

// A140: the session of somebody else is none. Its server sees nothing of it.
func TestForeignSession(t *testing.T) {
	r := newRig(t, "legacy", nil)
	alice := r.open(t, "alice")
	bob := &client{rig: r, who: "bob", session: alice.session}
	before := len(alice.seen(t))
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		a := bob.send(t, method, bob.call(`9007199254740993`, "echo", `{}`, ""))
		wantStatus(t, method, a, http.StatusNotFound, `"code":-32600`)
		if method == http.MethodPost {
			wantStatus(t, method, a, http.StatusNotFound, `"id":9007199254740993`)
		}
	}
	if seen := alice.seen(t); len(seen) != before+1 {
		t.Errorf("the server has seen %q", seen)
	}
}

// ids are strings and integers that come back as they were written.
var ids = []string{
	`1`, `"1"`, `0`, `-1`, `9007199254740993`, `"a\u0041"`, `"\ud83d\ude00"`, `""`, `"a\"b"`, `18446744073709551616`, `" "`, `"\u2028"`,
}

// Many clients may choose the same id; each gets its own answer.
func TestIDs(t *testing.T) {
	r := newRig(t, "legacy", nil)
	session := r.open(t, "alice")
	for _, c := range []*client{session, {rig: r, who: "alice"}, {rig: r, who: "bob", modern: true}} {
		var all sync.WaitGroup
		for i, id := range ids {
			for n := range 3 {
				all.Go(func() {
					key := fmt.Sprintf(`{"key":"%d/%d"}`, i, n)
					a := c.post(t, c.call(id, "echo", key, ""))
					if want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, key); a.status != http.StatusOK || a.last() != want {
						t.Errorf("id %s: %d %s, want %s", id, a.status, a.last(), want)
					}
				})
			}
		}
		all.Wait()
	}
}

// Progress comes on the stream of its request, whatever else goes on.
func TestProgress(t *testing.T) {
	r := newRig(t, "legacy", nil)
	session := r.open(t, "alice")
	for name, c := range map[string]*client{"session": session, "stateless": {rig: r, who: "alice"}, "modern": {rig: r, who: "alice", modern: true}} {
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				id := `"same"`
				if name == "session" {
					id = fmt.Sprint(i + 100)
				}
				token := id // stateless requests know nothing of each other
				key := fmt.Sprintf("%s-%d", name, i)
				a := c.post(t, c.call(id, "progress", fmt.Sprintf(`{"key":%q,"n":5}`, key), token))
				if len(a.messages) != 6 || a.header.Get("Content-Type") != "text/event-stream" || a.header.Get("X-Accel-Buffering") != "no" {
					t.Errorf("%s: %q %q", key, a.header, a.messages)
					return
				}
				for n, message := range a.messages[:5] {
					want := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"message":%q}}`, token, n, key)
					if message != want {
						t.Errorf("%s: %s, want %s", key, message, want)
					}
				}
				if want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%q}`, id, key); a.last() != want {
					t.Errorf("%s: %s, want %s", key, a.last(), want)
				}
			})
		}
		all.Wait()
	}
}

// A client that reads nothing but JSON gets the response alone.
func TestOnlyJSON(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	a := c.post(t, c.call(`5`, "progress", `{"key":"k","n":3}`, `"t"`), "Accept", "application/json")
	if len(a.messages) != 1 || a.header.Get("Content-Type") != "application/json" || a.last() != `{"jsonrpc":"2.0","id":5,"result":"k"}` {
		t.Errorf("got %q %q", a.header, a.messages)
	}
}

// What the server asks while it works on a request comes on the stream of that request, and the answer reaches it.
func TestServerAsks(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	response := c.do(t, c.request(t.Context(), t, http.MethodPost, c.call(`5`, "ask", `{"key":"1"}`, "")))
	stream := newEvents(response.Body)
	if question, _ := stream.next(); question != `{"jsonrpc":"2.0","id":"q1","method":"sampling/createMessage","params":{}}` {
		t.Fatalf("asked %s", question)
	}
	answer := `{"jsonrpc":"2.0","id":"q1","result":{"text":"yes"}}`
	wantStatus(t, "the answer", c.post(t, answer), http.StatusAccepted)
	if got, _ := stream.next(); got != `{"jsonrpc":"2.0","id":5,"result":`+answer+`}` {
		t.Errorf("got %s", got)
	}
}

// The stream of a GET brings what belongs to no request, also what came before it. Of two streams, the newer one wins.
func TestGet(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	notify := func() { c.post(t, c.call(`1`, "notify", `{}`, "")) }
	const changed = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	notify()
	first := c.do(t, c.request(t.Context(), t, http.MethodGet, ""))
	old := newEvents(first.Body)
	if got, _ := old.next(); got != changed || first.StatusCode != http.StatusOK {
		t.Errorf("%d: %s", first.StatusCode, got)
	}
	second := newEvents(c.do(t, c.request(t.Context(), t, http.MethodGet, "")).Body)
	if got, ok := old.next(); ok {
		t.Errorf("the older stream brought %s", got)
	}
	notify()
	if got, _ := second.next(); got != changed {
		t.Errorf("got %s", got)
	}
	wantStatus(t, "no events wanted", c.send(t, http.MethodGet, "", "Accept", "application/json"), http.StatusNotAcceptable)
	wantStatus(t, "DELETE", c.send(t, http.MethodDelete, ""), http.StatusNoContent)
	if got, ok := second.next(); ok {
		t.Errorf("behind its session, the stream brought %s", got)
	}
}

// A stream ends with its request, which is how others end it.
func TestStreamEndsWithItsContext(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	s, err := c.find("alice", c.session)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	response := c.do(t, c.request(ctx, t, http.MethodGet, ""))
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
	reading := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.stream != nil
	}
	if !reading() {
		t.Error("nobody reads")
	}
	cancel()
	eventually(t, "the stream ends", func() bool { return !reading() })
}

// notifications/cancelled names the request as the client does, and reaches the server with the id it knows.
func TestCancelInSession(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	stream := newEvents(c.do(t, c.request(t.Context(), t, http.MethodPost, c.call(`"a\u0041"`, "hold", `{"key":"k"}`, `1`))).Body)
	if _, ok := stream.next(); !ok {
		t.Fatal("no progress")
	}
	for _, id := range []string{`"aA"`, `"other"`} {
		body := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `,"reason":"r"}}`
		wantStatus(t, id, c.post(t, body), http.StatusAccepted)
	}
	var cancelled []string
	for _, line := range c.seen(t) {
		if strings.Contains(line, "notifications/cancelled") {
			cancelled = append(cancelled, line)
		}
	}
	// the third message of this session
	if len(cancelled) != 1 || !strings.Contains(cancelled[0], `{"requestId":2,"reason":"r"}`) {
		t.Errorf("the server has seen %q", cancelled)
	}
}

// A legacy client that goes away has cancelled nothing.
func TestDisconnectInSession(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	ctx, cancel := context.WithCancel(t.Context())
	stream := newEvents(c.do(t, c.request(ctx, t, http.MethodPost, c.call(`8`, "hold", `{"key":"k"}`, `1`))).Body)
	if _, ok := stream.next(); !ok {
		t.Fatal("no progress")
	}
	cancel()
	s, err := c.find("alice", c.session)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request is forgotten", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.pending) == 0
	})
	// its answer, which now comes, is for nobody
	if a := c.post(t, c.call(`8`, "release", `{"key":"k"}`, "")); a.last() != `{"jsonrpc":"2.0","id":8,"result":"k"}` || len(a.messages) != 1 {
		t.Errorf("got %q", a.messages)
	}
	for _, line := range c.seen(t) {
		if strings.Contains(line, "cancelled") {
			t.Errorf("the server has seen %s", line)
		}
	}
}

// A batch is one answer; later versions have none.
func TestBatch(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	batch := "[" + c.call(`1`, "echo", `"a"`, "") + "," + initialized + "," + c.call(`"1"`, "echo", `"b"`, "") + "]"
	batch = strings.ReplaceAll(strings.ReplaceAll(batch, `"a"`, `{"k":"a"}`), `"b"`, `{"k":"b"}`)
	for _, accept := range []string{"application/json", "application/json, text/event-stream"} {
		a := c.post(t, batch, "Accept", accept)
		got := strings.Join(a.messages, "\n")
		if a.status != http.StatusOK || !strings.Contains(got, `{"jsonrpc":"2.0","id":1,"result":{"k":"a"}}`) ||
			!strings.Contains(got, `{"jsonrpc":"2.0","id":"1","result":{"k":"b"}}`) || strings.HasPrefix(got, "[") != (accept == "application/json") {
			t.Errorf("%s: %d %s", accept, a.status, got)
		}
	}
	wantStatus(t, "later", c.post(t, batch, "MCP-Protocol-Version", "2025-06-18"), http.StatusBadRequest, `"code":-32600`)
	wantStatus(t, "notifications", c.post(t, "["+initialized+"]"), http.StatusAccepted)
}
