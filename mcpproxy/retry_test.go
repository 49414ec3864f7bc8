package mcpproxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// deadAddress is one that nobody listens on.
func deadAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// dyingUpstream answers the first request, and reads the others to their end and then hangs up: the requests may have
// done something, but nobody knows.
func dyingUpstream(t *testing.T) *recorder {
	t.Helper()
	u := newRecorder(t, httptest.NewServer)
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-First") != "" {
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	}
	return u
}

// replicas is a mcp_proxy with these upstreams.
func replicas(options string, addresses ...string) string {
	directive := "mcp_proxy"
	for _, address := range addresses {
		directive += " http://" + address + "/mcp"
	}
	return directive + " {\n" + options + "\n}"
}

// TestNoRetry: A148. Tools are not idempotent, so a POST that may have arrived is not sent again, whatever the client
// says (net/http takes Idempotency-Key for a permission) and whatever retries are configured for upstreams that are
// down.
func TestNoRetry(t *testing.T) {
	for _, options := range []string{"", "lb_retries 3", "lb_try_duration 2s\nlb_try_interval 10ms"} {
		for _, headers := range [][]string{
			nil,
			{"Idempotency-Key", "1"},
			{"X-Idempotency-Key", "1"},
			{"Expect", "100-continue", "Idempotency-Key", "1"},
		} {
			u, other := dyingUpstream(t), dyingUpstream(t)
			h := fromCaddyfile(t, replicas("lb_policy round_robin\n"+options, u.address(), other.address()))
			// net/http retries on connections that it has used before, so there has to be one to each
			for range 2 {
				if w := serve(t, h, post("/", message, "X-First", "1"), alice); w.Code != http.StatusOK {
					t.Fatalf("the first request: %d", w.Code)
				}
			}
			u.take()
			other.take()
			w := serve(t, h, post("/", message, headers...), alice)
			if w.Code != http.StatusBadGateway {
				t.Errorf("%q %v: %d, want 502", options, headers, w.Code)
			}
			requests, bodies := u.take()
			more, moreBodies := other.take()
			if len(requests)+len(more) != 1 {
				t.Errorf("%q %v: the POST arrived %d times", options, headers, len(requests)+len(more))
			}
			for _, body := range append(bodies, moreBodies...) {
				if body != message {
					t.Errorf("%q %v: body %q", options, headers, body)
				}
			}
		}
	}
}

// TestDialErrors: where nothing can have arrived, another replica may be tried.
func TestDialErrors(t *testing.T) {
	for _, test := range []struct {
		what, options string
		status        int
	}{
		{"no retries", "lb_policy first", http.StatusBadGateway},
		{"retries", "lb_policy first\nlb_retries 1\nfail_duration 1m", http.StatusOK},
		{"a duration of retries", "lb_policy first\nlb_try_duration 20s\nlb_try_interval 1ms\nfail_duration 1m", http.StatusOK},
	} {
		u := newRecorder(t, httptest.NewServer)
		h := fromCaddyfile(t, replicas(test.options, deadAddress(t), u.address()))
		large := `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 1<<20) + `"}`
		w := serve(t, h, post("/", large, "Idempotency-Key", "1"), alice)
		if w.Code != test.status {
			t.Errorf("%s: %d, want %d", test.what, w.Code, test.status)
		}
		want := 0
		if test.status == http.StatusOK {
			want = 1
		}
		requests, bodies := u.take()
		if len(requests) != want {
			t.Fatalf("%s: %d requests reached the other replica, want %d", test.what, len(requests), want)
		}
		for i, body := range bodies {
			if body != large || requests[i].URL.Path != "/mcp" {
				t.Errorf("%s: %d bytes at %s reached the other replica", test.what, len(body), requests[i].URL)
			}
		}
	}
}

// TestUpstreamFaults: A148, without a policy in front.
func TestUpstreamFaults(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp {\ntransport http {\nresponse_header_timeout 50ms\n}\n}")
	held := make(chan struct{})
	defer close(held)
	u.answer = func(http.ResponseWriter, *http.Request) { <-held }
	if w := serve(t, h, post("/", message), alice); w.Code != http.StatusGatewayTimeout {
		t.Errorf("slow: %d, want 504", w.Code)
	}
	down := fromCaddyfile(t, "mcp_proxy http://"+deadAddress(t)+"/mcp")
	if w := serve(t, down, post("/", message), alice); w.Code != http.StatusBadGateway {
		t.Errorf("down: %d, want 502", w.Code)
	}
}
