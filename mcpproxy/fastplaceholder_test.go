package mcpproxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// judge prepares a call as Caddy's server and mcp_authorize do.
func judge(t *testing.T, w http.ResponseWriter) (*http.Request, *caddy.Replacer) {
	t.Helper()
	repl := caddy.NewReplacer()
	r, state := reqctx.Ensure(caddyhttp.PrepareRequest(post("/mcp", toolCall), repl, w, new(caddyhttp.Server)))
	var err error
	if state.Message, err = mcpwire.Read([]byte(toolCall)); err != nil {
		t.Fatal(err)
	}
	state.Identity = alice
	r.Body = reqctx.NewBody([]byte(toolCall))
	return r, repl
}

// TestFastPlaceholders: each of those that reverse_proxy documents is there, before and after the answer.
func TestFastPlaceholders(t *testing.T) {
	before, after := map[string]string{}, map[string]string{}
	test := twoWays{what: "placeholders", before: func(_ http.ResponseWriter, r *http.Request) {
		// something that another proxy has left
		repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		for _, key := range []string{"status_code", "header.X-Server", "upstream.hostport", "retries"} {
			repl.Set("http.reverse_proxy."+key, "stale")
		}
	}}
	u := newRawUpstream(t, answerWith("200 OK", "Content-Length: 0\r\nX-Server: 1\r\nX-Server: 2\r\nConnection: keep-alive\r\n"), false)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.Addr().String())
	fast, slow := test.pass(t, h, u), test.pass(t, slowly(t, h), u)
	compare(t, test.what, fast, slow)
	for _, key := range placeholderKeys[:16] {
		if fast.placeholders[key] == "" || strings.Contains(fast.placeholders[key], "stale") {
			t.Errorf("%s: %q", key, fast.placeholders[key])
		}
	}
	if got := fast.placeholders["header.X-Server"]; got != "string 1,2" {
		t.Errorf("header.X-Server: %s", got)
	}

	now := time.Now()
	for _, test := range []struct {
		c     *fastCall
		known map[string]string
	}{
		{&fastCall{fastPath: h.fast, began: now}, before},
		{&fastCall{fastPath: h.fast, began: now, answeredAt: now.Add(time.Second), ended: now.Add(2 * time.Second), response: &http.Response{}}, after},
	} {
		for _, key := range placeholderKeys {
			if value, known := test.c.placeholder("http.reverse_proxy." + key); known {
				test.known[key] = fmt.Sprint(value)
			}
			if _, known := test.c.placeholder(key); known {
				t.Errorf("%s is known, without its beginning", key)
			}
		}
	}
	for _, key := range []string{"upstream.latency", "upstream.duration_ms", "duration", "retries", "status_code"} {
		if _, known := before[key]; known {
			t.Errorf("%s is known before the answer", key)
		}
	}
	if after["upstream.latency"] != "1s" || after["upstream.latency_ms"] != "1000" || after["upstream.duration"] != "2s" || after["duration_ms"] != "2000" {
		t.Errorf("after the answer: %v", after)
	}
}

// TestFastAgain: an error route asks another server for the same request. The placeholders are those of the later call,
// whichever ways the two take.
func TestFastAgain(t *testing.T) {
	down := fromCaddyfile(t, "mcp_proxy http://"+deadAddress(t)+" {\nheader_up X-Up {http.reverse_proxy.upstream.hostport}\n}")
	u := newRecorder(t, httptest.NewServer)
	up := fromCaddyfile(t, "mcp_proxy http://"+u.address()+" {\nheader_up X-Up {http.reverse_proxy.upstream.hostport}\n}")
	for what, proxies := range map[string][]*Handler{
		"fast, fast":                     {down, up},
		"fast, fast, fast":               {down, down, up},
		"other, fast":                    {slowly(t, down), up},
		"fast, other":                    {down, slowly(t, up)},
		"other, fast, fast, other, fast": {slowly(t, down), down, down, slowly(t, up), up},
	} {
		r, repl := judge(t, httptest.NewRecorder())
		var w *httptest.ResponseRecorder
		for i, h := range proxies {
			if i > 0 {
				if status, known := repl.Get("http.reverse_proxy.status_code"); known && h == down {
					t.Errorf("%s: status %v", what, status)
				}
			}
			w = httptest.NewRecorder()
			if err := h.ServeHTTP(w, r, nil); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		requests, bodies := u.take()
		last := len(requests) - 1
		if last < 0 || w.Code != http.StatusOK || requests[last].Header.Get("X-Up") != u.address() || bodies[last] != toolCall {
			t.Errorf("%s: %d, %d requests, %q", what, w.Code, len(requests), bodies)
		}
		for key, want := range map[string]string{"upstream.hostport": u.address(), "status_code": "200", "upstream.address": "tcp/" + u.address()} {
			if got, _ := repl.GetString("http.reverse_proxy." + key); got != want {
				t.Errorf("%s: %s is %q, want %q", what, key, got, want)
			}
		}
	}
}

// closable is a body that cannot be read once it has been closed, as those beyond smallBodySize are.
type closable struct {
	io.Reader
	closed bool
}

func (c *closable) Read(p []byte) (int, error) {
	if c.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return c.Reader.Read(p)
}

func (c *closable) Close() error {
	c.closed = true
	return nil
}

// TestFastBodyLeft: a server that cannot be dialed leaves the body to the one that an error route asks next; one that
// has read of it does not.
func TestFastBodyLeft(t *testing.T) {
	down := fromCaddyfile(t, "mcp_proxy http://"+deadAddress(t))
	u := newRecorder(t, httptest.NewServer)
	up := fromCaddyfile(t, "mcp_proxy http://"+u.address())
	for what, proxies := range map[string][]*Handler{
		"fast, fast":   {down, up},
		"fast, other":  {down, slowly(t, up)},
		"other, fast":  {slowly(t, down), up},
		"other, other": {slowly(t, down), slowly(t, up)},
	} {
		r, _ := judge(t, httptest.NewRecorder())
		body := &closable{Reader: strings.NewReader(toolCall)}
		r.Body = body
		var w *httptest.ResponseRecorder
		for i, h := range proxies {
			w = httptest.NewRecorder()
			if err := h.ServeHTTP(w, r, nil); err != nil || i == 0 && w.Code != http.StatusBadGateway {
				t.Errorf("%s: server %d: %d, %v", what, i, w.Code, err)
			}
		}
		if _, bodies := u.take(); w.Code != http.StatusOK || len(bodies) != 1 || bodies[0] != toolCall {
			t.Errorf("%s: %d %q", what, w.Code, bodies)
		}
	}
	read := &unreadBody{ReadCloser: &closable{Reader: strings.NewReader("ab")}}
	if n, err := read.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(n, err)
	}
	if err := read.Close(); err != nil {
		t.Error(err)
	}
	if n, err := read.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes of a body that is closed", n)
	}
}

// TestFastTLS: a server behind TLS gets its own name, and is asked for compressed answers, by either way.
func TestFastTLS(t *testing.T) {
	u := newRecorder(t, httptest.NewTLSServer)
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Encoding", r.Header.Get("Accept-Encoding"))
		_, _ = io.WriteString(w, r.Host)
	}
	h := fromCaddyfile(t, "mcp_proxy https://"+u.address()+"/x {\nheader_up X-Host {http.request.host}\ntransport http {\ntls_insecure_skip_verify\n}\n}")
	var seen []string
	for _, h := range []*Handler{h, slowly(t, h)} {
		w := httptest.NewRecorder()
		r, _ := judge(t, w)
		if err := h.ServeHTTP(w, r, nil); err != nil {
			t.Fatal(err)
		}
		one := u.one(t)
		w.Header().Del("Date")
		seen = append(seen, fmt.Sprint(one.Host, one.RequestURI, one.Header, w.Code, w.Header(), w.Body))
		if w.Body.String() != u.address() || w.Header().Get("X-Encoding") != "gzip" {
			t.Errorf("%s, %v", w.Body, w.Header())
		}
	}
	if seen[0] != seen[1] {
		t.Errorf("\n fast %s\nother %s", seen[0], seen[1])
	}
}

// TestFastForwardProxy: a proxy on the way to the server is asked by either way.
func TestFastForwardProxy(t *testing.T) {
	proxy := newRawUpstream(t, plainAnswer, false)
	h := fromCaddyfile(t, "mcp_proxy http://mcp.invalid:81/x {\ntransport http {\nnetwork_proxy url http://"+proxy.Addr().String()+"\n}\n}")
	test := twoWays{what: "a forward proxy"}
	fast, slow := test.pass(t, h, proxy), test.pass(t, slowly(t, h), proxy)
	compare(t, test.what, fast, slow)
	wantLine("POST http://mcp.example.com/x HTTP/1.1")(t, fast)
}

// TestFastConcurrent: calls know nothing of each other.
func TestFastConcurrent(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", r.URL.RawQuery)
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set(sessionHeader, r.URL.RawQuery)
		for range 3 {
			_, _ = io.WriteString(w, r.URL.RawQuery)
			_ = http.NewResponseController(w).Flush()
		}
	}
	f := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp {\nheader_up X-Up {http.reverse_proxy.upstream.port}\nheader_down X-Down {http.reverse_proxy.header.Link}\n}"))
	var all sync.WaitGroup
	for client := range 8 {
		all.Go(func() {
			for i := range 10 {
				id := fmt.Sprintf("%d-%d", client, i)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL+"/?"+id, strings.NewReader(toolCall))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("X-Judged", "1")
				response, err := f.Client().Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := readAll(t, response)
				_ = response.Body.Close()
				if err != nil || body != id+id+id || response.Header.Get("X-Down") != id || response.Header.Get(sessionHeader) == "" {
					t.Errorf("%s: %q %v, %v", id, body, response.Header, err)
				}
			}
		})
	}
	all.Wait()
}
