package stdio

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Stateless requests of one principal share a process, and those of another one have another.
func TestStateless(t *testing.T) {
	for _, modern := range []bool{false, true} {
		for _, mode := range []string{"legacy", "modern"} {
			r := newRig(t, mode, nil)
			pids := map[string]int{}
			for range 2 {
				for _, who := range []string{"alice", "bob", "anonymous"} {
					c := &client{rig: r, who: who, modern: modern}
					pid := c.self(t).Pid
					if pids[who] != 0 && pids[who] != pid {
						t.Errorf("%s: a second process for %s", mode, who)
					}
					pids[who] = pid
				}
			}
			if pids["alice"] == pids["bob"] || pids["bob"] == pids["anonymous"] || r.count() != 3 {
				t.Errorf("%s: %v, %d processes", mode, pids, r.count())
			}
		}
	}
}

// Requests that come at once start one process.
func TestStatelessStartsOnce(t *testing.T) {
	r := newRig(t, "legacy", nil)
	c := &client{rig: r, who: "alice", modern: true}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			wantStatus(t, "echo", c.post(t, c.call(fmt.Sprint(i), "echo", `{}`, "")), http.StatusOK, fmt.Sprintf(`"id":%d,`, i))
		})
	}
	all.Wait()
	if r.count() != 1 {
		t.Errorf("%d processes", r.count())
	}
}

// A server of the old days is initialized by the gateway, once for each process; a modern one is not. The era is found
// out once.
func TestHandshake(t *testing.T) {
	const initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	for mode, want := range map[string][]string{
		"legacy": {"server/discover", "initialize", initialized},
		"modern": {"server/discover"},
	} {
		r := newRig(t, mode, nil)
		for i, who := range []string{"alice", "bob"} {
			if i == 1 && mode == "legacy" {
				want = want[1:]
			} else if i == 1 {
				want = nil
			}
			c := &client{rig: r, who: who, modern: true}
			seen := c.seen(t)
			if len(seen) != len(want)+1 {
				t.Fatalf("%s, %s: the server has seen %q", mode, who, seen)
			}
			for i, part := range want {
				if !strings.Contains(seen[i], part) {
					t.Errorf("%s, %s: %s lacks %s", mode, who, seen[i], part)
				}
			}
		}
	}
}

// An old server may not even answer what it does not know.
func TestSilentServer(t *testing.T) {
	r := newRig(t, "silent", nil)
	r.probeTimeout = 50 * time.Millisecond
	c := &client{rig: r, who: "alice", modern: true}
	wantStatus(t, "a call", c.post(t, c.call(`1`, "echo", `{}`, "")), http.StatusOK, `"id":1,"result":{}`)
	if seen := c.seen(t); len(seen) != 5 || !strings.Contains(seen[1], `"method":"initialize"`) {
		t.Errorf("the server has seen %q", seen)
	}
}

// Of two requests with the same id and token at the same time, each gets what belongs to it.
func TestStatelessSameIDs(t *testing.T) {
	r := newRig(t, "modern", nil)
	c := &client{rig: r, who: "alice", modern: true}
	streams := map[string]*events{}
	for _, key := range []string{"one", "two"} {
		body := c.call(`"same"`, "hold", fmt.Sprintf(`{"key":%q}`, key), `"token"`)
		streams[key] = newEvents(c.do(t, c.request(t.Context(), t, http.MethodPost, body)).Body)
		want := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"token","progress":0,"message":%q}}`, key)
		if got, _ := streams[key].next(); got != want {
			t.Errorf("%s: got %s", key, got)
		}
	}
	for _, key := range []string{"two", "one"} {
		c.post(t, c.call(`"same"`, "release", fmt.Sprintf(`{"key":%q}`, key), ""))
		if got, _ := streams[key].next(); got != fmt.Sprintf(`{"jsonrpc":"2.0","id":"same","result":%q}`, key) {
			t.Errorf("%s: got %s", key, got)
		}
	}
}

// Progress that names the number of somebody else's request, which a caller could have guessed, or a token that the
// caller has not given, reaches nobody.
func TestForgedTokens(t *testing.T) {
	r := newRig(t, "modern", nil)
	c := &client{rig: r, who: "alice", modern: true}
	victim := newEvents(c.do(t, c.request(t.Context(), t, http.MethodPost, c.call(`1`, "hold", `{"key":"k"}`, `"t"`))).Body)
	if _, ok := victim.next(); !ok {
		t.Fatal("no progress")
	}
	for _, line := range []string{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":99,"progress":1}}`,
		`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`,
		`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"secret"}}`,
		`{"jsonrpc":"2.0","id":99,"result":{}}`,
		`{"jsonrpc":"2.0","id":"1","result":{}}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}`,
	} {
		a := c.post(t, c.call(`2`, "raw", fmt.Sprintf(`{"line":%q}`, line), ""))
		if len(a.messages) != 1 || a.last() != `{"jsonrpc":"2.0","id":2,"result":"raw"}` {
			t.Errorf("%s: got %q", line, a.messages)
		}
	}
	// a token of a name that lenient parsers take for the real one is refused
	for _, name := range []string{"ProgressToken", "progresstoken", `progressToken\u0000`, `progre\u017f\u017fToken`} {
		body := strings.Replace(c.call(`2`, "progress", `{"n":1}`, `1`), "progressToken", name, 1)
		wantStatus(t, name, c.post(t, body), http.StatusBadRequest, `"id":2`)
	}
	c.post(t, c.call(`3`, "release", `{"key":"k"}`, ""))
	if got, _ := victim.next(); got != `{"jsonrpc":"2.0","id":1,"result":"k"}` {
		t.Errorf("got %s", got)
	}
}

// What a server asks in the process of many gets no client's answer.
func TestServerAsksNobody(t *testing.T) {
	c := &client{rig: newRig(t, "modern", nil), who: "alice", modern: true}
	a := c.post(t, c.call(`1`, "ask", `{"key":"1"}`, ""))
	if len(a.messages) != 1 || !strings.Contains(a.last(), `"result":{"jsonrpc":"2.0","id":"q1","error":{"code":-32601`) {
		t.Errorf("got %q", a.messages)
	}
	a = c.post(t, c.call(`2`, "raw", `{"line":"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}"}`, ""))
	wantStatus(t, "ping", a, http.StatusOK, `"result":"raw"`)
	eventually(t, "the ping is answered", func() bool {
		a = c.post(t, c.call(`3`, "ask", `{"key":"2"}`, ""))
		return strings.Contains(a.last(), `{"jsonrpc":"2.0","id":7,"result":{}}`)
	})
}

// A client that leaves has cancelled its request, and the server hears the id it knows.
func TestDisconnectIsCancellation(t *testing.T) {
	c := &client{rig: newRig(t, "modern", nil), who: "alice", modern: true}
	ctx, cancel := context.WithCancel(t.Context())
	stream := newEvents(c.do(t, c.request(ctx, t, http.MethodPost, c.call(`"x"`, "hold", `{"key":"k"}`, `"t"`))).Body)
	if _, ok := stream.next(); !ok {
		t.Fatal("no progress")
	}
	cancel()
	eventually(t, "the server hears of it", func() bool {
		// 1 was the gateway's own
		return strings.Contains(strings.Join(c.seen(t), "\n"), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`)
	})
}

// Subscriptions get what is theirs, under their own id, until they end.
func TestListen(t *testing.T) {
	r := newRig(t, "modern", nil)
	c := &client{rig: r, who: "alice", modern: true}
	listen := func(id string) (*http.Response, *events) {
		body := `{"jsonrpc":"2.0","id":` + id + `,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` +
			`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
		response := c.do(t, c.request(t.Context(), t, http.MethodPost, body))
		stream := newEvents(response.Body)
		ack, _ := stream.next()
		if !strings.Contains(ack, `"io.modelcontextprotocol/subscriptionId":`+id+`}`) {
			t.Errorf("%s: acknowledged by %s", id, ack)
		}
		return response, stream
	}
	_, one := listen(`"s"`)
	_, two := listen(`7`)
	bob := &client{rig: r, who: "bob", modern: true}
	bob.post(t, bob.call(`1`, "notify", `{}`, ""))
	c.post(t, c.call(`1`, "notify", `{}`, ""))
	for id, stream := range map[string]*events{`"s"`: one, `7`: two} {
		want := `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":` + id + `}}}`
		if got, _ := stream.next(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	c.post(t, c.call(`1`, "cancel", `{}`, ""))
	if got, ok := one.next(); ok {
		t.Errorf("after its end, the subscription brought %s", got)
	}
	if got, ok := two.next(); ok {
		t.Errorf("after its end, the subscription brought %s", got)
	}
}

// The statuses of a modern answer, and of what has no place here.
func TestModernAnswers(t *testing.T) {
	legacy := &client{rig: newRig(t, "legacy", nil), who: "alice", modern: true}
	modern := &client{rig: newRig(t, "modern", nil), who: "alice", modern: true}
	meta := `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}`
	request := func(method string) string {
		return `{"jsonrpc":"2.0","id":"x","method":"` + method + `","params":` + meta + `}`
	}
	wantStatus(t, "an unknown method", modern.post(t, request("tools/list")), http.StatusNotFound, `"id":"x","error":{"code":-32601`)
	wantStatus(t, "initialize", modern.post(t, request("initialize")), http.StatusNotFound, `"id":"x"`)
	wantStatus(t, "discover", modern.post(t, request("server/discover")), http.StatusOK, `"id":"x","result"`)
	wantStatus(t, "discover of an old server", legacy.post(t, request("server/discover")), http.StatusBadRequest,
		`"id":"x","error":{"code":-32022`, `"data":{"supported":["2025-11-25"],"requested":"2026-07-28"}`)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if a := modern.send(t, method, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
			t.Errorf("%s: %d %q", method, a.status, a.header)
		}
	}
	modern.session = "anything" // is not looked at
	wantStatus(t, "with a session", modern.post(t, modern.call(`1`, "echo", `{}`, "")), http.StatusOK)
}

// Requests of older versions without a session are served if the server allows; messages about others are not.
func TestLegacyWithoutSession(t *testing.T) {
	c := &client{rig: newRig(t, "legacy", nil), who: "alice"}
	wantStatus(t, "a call", c.post(t, c.call(`1`, "echo", `{}`, "")), http.StatusOK, `"id":1,"result":{}`)
	wantStatus(t, "a notification", c.post(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`), http.StatusAccepted)
	wantStatus(t, "a response", c.post(t, `{"jsonrpc":"2.0","id":1,"result":{}}`), http.StatusBadRequest)
	wantStatus(t, "GET", c.send(t, http.MethodGet, ""), http.StatusBadRequest)
	wantStatus(t, "DELETE", c.send(t, http.MethodDelete, ""), http.StatusBadRequest)
	wantStatus(t, "PUT", c.send(t, http.MethodPut, ""), http.StatusMethodNotAllowed)
	if seen := c.seen(t); strings.Contains(strings.Join(seen, "\n"), "cancelled") {
		t.Errorf("the server has seen %q", seen)
	}
	c.session = "nobody's"
	wantStatus(t, "an unknown session", c.post(t, c.call(`1`, "echo", `{}`, "")), http.StatusNotFound)
	wantStatus(t, "initialize in a session", c.post(t, initialize), http.StatusBadRequest, `"id":0`)
}
