package mcpproxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// newReplica is a stateful server whose session has the name of the replica.
func newReplica(t *testing.T, name string) *recorder {
	t.Helper()
	u := newRecorder(t, httptest.NewServer)
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get(sessionHeader); got != "" && got != "session of "+name && got != name {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set(sessionHeader, name)
		_, _ = io.WriteString(w, name)
	}
	return u
}

// TestAffinity: a session stays where it began, whatever the policy for new ones.
func TestAffinity(t *testing.T) {
	one, two, three := newReplica(t, "one"), newReplica(t, "two"), newReplica(t, "three")
	all := []*recorder{one, two, three}
	for _, policy := range []string{"", "lb_policy round_robin", "lb_policy random", "lb_policy first", "lb_policy client_ip_hash", "lb_policy cookie"} {
		h := fromCaddyfile(t, replicas(policy, one.address(), two.address(), three.address()))
		began := map[string]int{}
		for range 12 {
			sealed := begin(t, h, alice)
			name := ""
			for _, u := range all {
				if requests, _ := u.take(); len(requests) == 1 {
					opened, err := h.sessions.sealer.Load().open(sealed, alice.Principal())
					if err != nil || opened.replica != u.address() {
						t.Fatalf("%q: sealed for %q, began at %s, %v", policy, opened.replica, u.address(), err)
					}
					name = opened.id
				}
			}
			began[name]++
			for range 6 {
				w := serve(t, h, post("/", message, sessionHeader, sealed), alice)
				if w.Code != http.StatusOK || w.Body.String() != name {
					t.Fatalf("%q: %d, the session of %s got to %q", policy, w.Code, name, w.Body)
				}
			}
			for _, u := range all {
				u.take()
			}
		}
		if policy == "lb_policy round_robin" && (began["one"] != 4 || began["two"] != 4 || began["three"] != 4) {
			t.Errorf("new sessions do not follow the policy: %v", began)
		}
	}
}

// TestReplicaGone: a session whose replica has left the configuration is over; those of the others go on.
func TestReplicaGone(t *testing.T) {
	one, two := newReplica(t, "one"), newReplica(t, "two")
	dir := t.TempDir()
	load := func(options string, addresses ...string) *Handler {
		return fromCaddyfileIn(t, newContextIn(t, dir), replicas(options, addresses...))
	}
	h := load("lb_policy round_robin", one.address(), two.address())
	sealed := map[string]string{}
	for range 2 {
		id := begin(t, h, alice)
		opened, err := h.sessions.sealer.Load().open(id, alice.Principal())
		if err != nil {
			t.Fatal(err)
		}
		sealed[opened.id] = id
	}
	one.take()
	two.take()
	ask := func(h *Handler, name string) *httptest.ResponseRecorder {
		return serve(t, h, post("/", message, sessionHeader, sealed[name]), alice)
	}
	// a session that is lost is told so at once, however long the proxy would wait for a replica
	for _, options := range []string{"", "lb_try_duration 1h", "lb_retries 1000000"} {
		reduced := load(options, two.address())
		if w := ask(reduced, "one"); w.Code != http.StatusNotFound || w.Body.String() != "session not found" {
			t.Errorf("%q, gone: %d %s", options, w.Code, w.Body)
		}
		if w := ask(reduced, "two"); w.Code != http.StatusOK || w.Body.String() != "two" {
			t.Errorf("%q, the other: %d %s", options, w.Code, w.Body)
		}
	}
	if requests, _ := one.take(); len(requests) != 0 {
		t.Error("a replica that is gone was asked")
	}
	two.take()
	// one more replica, and another order: sessions go on
	more := load("lb_policy first", newReplica(t, "three").address(), two.address(), one.address())
	for name := range sealed {
		if w := ask(more, name); w.Code != http.StatusOK || w.Body.String() != name {
			t.Errorf("one more replica, %s: %d %s", name, w.Code, w.Body)
		}
	}
}

// TestReplicaDown: a session never moves to another replica. Where another one could begin a new session the client is
// told that its own is lost, or else that the server is down, since it may come back.
func TestReplicaDown(t *testing.T) {
	for _, test := range []struct {
		what, options string
		spare         bool
		status        []int // of three requests one after the other
	}{
		{"alone", "", false, []int{502, 502, 502}},
		{"alone, retries", "lb_retries 2", false, []int{502, 502, 502}},
		{"alone, marked as down", "fail_duration 1h", false, []int{502, 502, 502}},
		{"one of two", "", true, []int{404, 404, 404}},
		{"one of two, retries", "lb_retries 2", true, []int{404, 404, 404}},
		{"one of two, a duration of retries", "lb_try_duration 50ms\nlb_try_interval 10ms", true, []int{404, 404, 404}},
		{"one of two, marked as down", "fail_duration 1h", true, []int{404, 404, 404}},
		{"one of two, marked as down, retries", "fail_duration 1h\nlb_retries 2", true, []int{404, 404, 404}},
	} {
		one, two := newReplica(t, "one"), newReplica(t, "two")
		addresses := []string{one.address()}
		if test.spare {
			addresses = append(addresses, two.address())
		}
		// on a connection that was open before, the request might have arrived
		h := fromCaddyfile(t, replicas("lb_policy first\ntransport http {\nkeepalive off\n}\n"+test.options, addresses...))
		sealed := begin(t, h, alice)
		one.Close()
		for i, want := range test.status {
			w := serve(t, h, post("/", message, sessionHeader, sealed), alice)
			if w.Code != want || (want == http.StatusNotFound) != (w.Body.String() == "session not found") {
				t.Errorf("%s, request %d: %d %q, want %d", test.what, i, w.Code, w.Body, want)
			}
			if requests, _ := two.take(); len(requests) != 0 {
				t.Errorf("%s, request %d: the session moved to another replica", test.what, i)
			}
		}
	}
}

// TestBusyReplica: one that has all the requests it may have is not lost.
func TestBusyReplica(t *testing.T) {
	one, two := newReplica(t, "one"), newReplica(t, "two")
	h := fromJSON(t, fmt.Sprintf(`{"upstreams":[{"dial":%q,"max_requests":1},{"dial":%q}],
		"load_balancing":{"selection_policy":{"policy":"first"}}}`, one.address(), two.address()))
	sealed := begin(t, h, alice)
	arrived, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	one.answer = func(http.ResponseWriter, *http.Request) { close(arrived); <-release }
	go func() {
		defer close(done)
		serve(t, h, post("/", message, sessionHeader, sealed), alice)
	}()
	<-arrived
	if w := serve(t, h, post("/", message, sessionHeader, sealed), alice); w.Code != http.StatusBadGateway {
		t.Errorf("%d %s, want 502", w.Code, w.Body)
	}
	close(release)
	<-done
	if requests, _ := two.take(); len(requests) != 0 {
		t.Error("the session moved to another replica")
	}
}

// changing is a source of replicas that change while the configuration stays.
type changing struct {
	addresses []string
	err       error
}

func (c *changing) GetUpstreams(*http.Request) ([]*reverseproxy.Upstream, error) {
	var pool []*reverseproxy.Upstream
	for _, address := range c.addresses {
		pool = append(pool, &reverseproxy.Upstream{Dial: address})
	}
	return pool, c.err
}

// TestDynamicReplicas: the list of the moment counts.
func TestDynamicReplicas(t *testing.T) {
	one, two := newReplica(t, "one"), newReplica(t, "two")
	h := fromCaddyfile(t, "mcp_proxy {\ndynamic a localhost 1\nlb_policy first\n}")
	source := &changing{addresses: []string{one.address(), two.address()}}
	h.DynamicUpstreams = source
	sealed := begin(t, h, alice)
	one.take()
	for _, step := range []struct {
		what      string
		addresses []string
		err       error
		status    int
	}{
		{"another order", []string{two.address(), one.address()}, nil, http.StatusOK},
		{"gone", []string{two.address()}, nil, http.StatusNotFound},
		{"nothing is known", nil, context.DeadlineExceeded, http.StatusBadGateway},
		{"none", nil, nil, http.StatusBadGateway},
		{"back", []string{two.address(), one.address()}, nil, http.StatusOK},
	} {
		source.addresses, source.err = step.addresses, step.err
		if w := serve(t, h, post("/", message, sessionHeader, sealed), alice); w.Code != step.status {
			t.Errorf("%s: %d %s, want %d", step.what, w.Code, w.Body, step.status)
		}
	}
	if requests, _ := two.take(); len(requests) != 0 {
		t.Error("the session moved to another replica")
	}
}

// TestReplicaOfPlaceholder: what is sealed is where a request went, not how that is written.
func TestReplicaOfPlaceholder(t *testing.T) {
	one, two := newReplica(t, "one"), newReplica(t, "two")
	h := fromJSON(t, `{"upstreams":[{"dial":"{http.request.header.X-Replica}"}]}`)
	ask := func(body, replica, id string) *httptest.ResponseRecorder {
		headers := []string{"X-Replica", replica}
		if id != "" {
			headers = append(headers, sessionHeader, id)
		}
		return serve(t, h, post("/", body, headers...), alice)
	}
	w := ask(initializeMessage, one.address(), "")
	sealed := w.Header().Get(sessionHeader)
	if w = ask(message, one.address(), sealed); w.Code != http.StatusOK || w.Body.String() != "one" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w = ask(message, two.address(), sealed); w.Code != http.StatusNotFound {
		t.Errorf("led to another replica: %d %s", w.Code, w.Body)
	}
	if requests, _ := two.take(); len(requests) != 0 {
		t.Error("the session moved to another replica")
	}
}

// TestSelectWithoutRoute: what does not come by way of the handler is left to the policy.
func TestSelectWithoutRoute(t *testing.T) {
	h := fromCaddyfile(t, "mcp_proxy 127.0.0.1:1")
	r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(""))
	if got := h.LoadBalancing.SelectionPolicy.Select(h.Upstreams, r, nil); got != h.Upstreams[0] {
		t.Errorf("%v", got)
	}
	rt := &route{}
	if got := h.LoadBalancing.SelectionPolicy.Select(h.Upstreams, rt.with(r), nil); got != h.Upstreams[0] || rt.replica != "127.0.0.1:1" {
		t.Errorf("%v, %+v", got, rt)
	}
	repl := caddy.NewReplacer()
	r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, repl))
	if got := h.LoadBalancing.SelectionPolicy.Select(nil, rt.with(r), nil); got != nil {
		t.Errorf("of none: %v", got)
	}
}
