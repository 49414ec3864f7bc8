package mcpproxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/gateway/internal/reqctx"
)

const message = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// TestPublic: a server is not open because somebody forgot a handler.
func TestPublic(t *testing.T) {
	for _, test := range []struct {
		what, options string
		identity      *reqctx.Identity
		status        int
	}{
		{"nobody has judged it", "", nil, http.StatusForbidden},
		{"a token", "", alice, http.StatusOK},
		{"anonymous, but judged", "", &reqctx.Identity{Anonymous: true}, http.StatusOK},
		{"public", "public", nil, http.StatusOK},
		{"public, with a token", "public", alice, http.StatusOK},
	} {
		u := newRecorder(t, httptest.NewServer)
		h := fromCaddyfile(t, fmt.Sprintf("mcp_proxy http://%s/mcp {\n%s\n}", u.address(), test.options))
		core, logs := observer.New(zapcore.DebugLevel)
		h.logger = zap.New(core)
		w := serve(t, h, post("/mcp?access_token=s3cret", message, "Authorization", "Bearer s3cret"), test.identity)
		requests, _ := u.take()
		if w.Code != test.status || (len(requests) == 1) != (test.status == http.StatusOK) {
			t.Errorf("%s: %d %s, %d requests reached the upstream", test.what, w.Code, w.Body, len(requests))
		}
		if test.status == http.StatusOK {
			continue
		}
		// the answer tells a stranger nothing, the log tells the operator what to do
		if w.Body.String() != "authorization failed" {
			t.Errorf("%s: body %q", test.what, w.Body)
		}
		entries := logs.All()
		if len(entries) != 1 || entries[0].Level != zapcore.ErrorLevel ||
			!strings.Contains(entries[0].Message, "put one in front of mcp_proxy, or write public") {
			t.Errorf("%s: log %v", test.what, entries)
		}
		if strings.Contains(fmt.Sprint(entries), "s3cret") {
			t.Errorf("%s: the token is in the log: %v", test.what, entries)
		}
	}
}

// TestForgedIdentity: without mcp_jwt in front, nobody else removes the headers by which a client could name itself.
func TestForgedIdentity(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	h := fromCaddyfile(t, fmt.Sprintf("mcp_proxy http://%s {\npublic\nheader_up X-User nobody\n}", u.address()))
	serve(t, h, post("/mcp", message, "Remote-User", "root", "X_User", "root", "X-Forwarded-User", "root"), nil)
	requests, _ := u.take()
	if len(requests) != 1 {
		t.Fatalf("%d requests", len(requests))
	}
	for name, values := range requests[0].Header {
		if slices.Contains(values, "root") {
			t.Errorf("%s has reached the upstream", name)
		}
	}
	if got := requests[0].Header.Get("X-User"); got != "nobody" {
		t.Errorf("X-User %q", got)
	}
}

// TestNoState: neither mcp_jwt nor mcp_authorize stand in front.
func TestNoState(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	h := fromCaddyfile(t, "mcp_proxy "+u.address())
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, post("/mcp", message), nil); err != nil || w.Code != http.StatusForbidden {
		t.Errorf("%d, %v", w.Code, err)
	}
	if requests, _ := u.take(); len(requests) != 0 {
		t.Error("the request has reached the upstream")
	}
}

// TestAuthorization: a client's credential is for this server (MCP forbids passing it on), unless the configuration
// makes something of it.
func TestAuthorization(t *testing.T) {
	forwarded := &reqctx.Identity{Subject: "alice", ForwardCredential: true}
	for _, test := range []struct {
		what     string
		headers  string // JSON of header_up's
		identity *reqctx.Identity
		want     string
	}{
		{"by default", `{}`, alice, ""},
		{"nobody has judged it", `{}`, nil, ""},
		{"anonymous", `{}`, &reqctx.Identity{Anonymous: true}, ""},
		{"forward_token", `{}`, forwarded, "Bearer client"},
		{"another header is set", `{"set":{"X-User":["alice"]}}`, alice, ""},
		{"it is set", `{"set":{"Authorization":["Bearer own"]}}`, alice, "Bearer own"},
		{"it is set from the client's", `{"set":{"Authorization":["{http.request.header.Authorization}"]}}`, alice, "Bearer client"},
		{"it is set, in lower case", `{"set":{"authorization":["{http.request.header.Authorization}"]}}`, alice, "Bearer client"},
		{"it is replaced", `{"replace":{"Authorization":[{"search":"Bearer","replace":"Token"}]}}`, alice, "Token client"},
		{"it is added to", `{"add":{"Authorization":["Bearer own"]}}`, alice, "Bearer client, Bearer own"},
		{"it is copied, but not set", `{"set":{"X-Token":["{http.request.header.Authorization}"]}}`, alice, ""},
		{"it is removed", `{"delete":["Authorization"]}`, forwarded, ""},
		{"it is set, and forwarded", `{"set":{"Authorization":["Bearer own"]}}`, forwarded, "Bearer own"},
	} {
		u := newRecorder(t, httptest.NewServer)
		h := fromJSON(t, fmt.Sprintf(`{"public":true,"upstreams":[{"dial":%q}],"headers":{"request":%s}}`, u.address(), test.headers))
		w := serve(t, h, post("/mcp", message, "Authorization", "Bearer client", "Proxy-Authorization", "Bearer client"), test.identity)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d", test.what, w.Code)
		}
		r := u.one(t)
		if got := strings.Join(r.Header.Values("Authorization"), ", "); got != test.want {
			t.Errorf("%s: Authorization %q, want %q", test.what, got, test.want)
		}
		if got := r.Header.Get("Proxy-Authorization"); got != "" {
			t.Errorf("%s: Proxy-Authorization %q", test.what, got)
		}
		if got := r.Header.Get("X-Token"); got != "" {
			t.Errorf("%s: the credential has got out as X-Token: %q", test.what, got)
		}
	}
}

// TestDefaults: what MCP needs is set, and whatever the configuration says wins.
func TestDefaults(t *testing.T) {
	for _, test := range []struct {
		what, config string
		flush        caddy.Duration
		idle         int
		timeout      caddy.Duration
	}{
		{"by default", ``, 0, 512, 0},
		{"flush_interval", `,"flush_interval":"100ms"`, caddy.Duration(100 * time.Millisecond), 512, 0},
		{"an empty transport", `,"transport":{"protocol":"http"}`, 0, 512, 0},
		{"max_idle_conns_per_host", `,"transport":{"protocol":"http","keep_alive":{"max_idle_conns_per_host":7}}`, 0, 7, 0},
		{"another option of keep_alive", `,"transport":{"protocol":"http","keep_alive":{"idle_timeout":"5s"}}`, 0, 512, caddy.Duration(5 * time.Second)},
		{"keep_alive is null", `,"transport":{"protocol":"http","keep_alive":null}`, 0, 512, 0},
		{"everything", `,"flush_interval":"1s","transport":{"protocol":"http","keep_alive":{"max_idle_conns_per_host":1,"idle_timeout":"1s"}}`, caddy.Duration(time.Second), 1, caddy.Duration(time.Second)},
	} {
		h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}]`+test.config+`}`)
		if h.FlushInterval != test.flush {
			t.Errorf("%s: flush_interval %v, want %v", test.what, h.FlushInterval, test.flush)
		}
		transport, ok := httpTransport(h)
		if !ok || transport.KeepAlive == nil {
			t.Errorf("%s: transport %#v", test.what, h.Transport)
			continue
		}
		if got := transport.KeepAlive.MaxIdleConnsPerHost; got != test.idle {
			t.Errorf("%s: max_idle_conns_per_host %d, want %d", test.what, got, test.idle)
		}
		// Caddy's own default stays where nothing is said
		if got := transport.KeepAlive.IdleConnTimeout; test.timeout != 0 && got != test.timeout {
			t.Errorf("%s: idle_timeout %v, want %v", test.what, got, test.timeout)
		}
		if got := transport.Transport.MaxIdleConnsPerHost; got != test.idle {
			t.Errorf("%s: the transport keeps %d idle connections, want %d", test.what, got, test.idle)
		}
		if transport.Transport.DisableKeepAlives {
			t.Errorf("%s: connections are not kept", test.what)
		}
	}

	off := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"transport":{"protocol":"http","keep_alive":{"enabled":false}}}`)
	if transport, ok := httpTransport(off); !ok || !transport.Transport.DisableKeepAlives {
		t.Error("connections are kept although keep_alive is off")
	}
}

// TestConnectionsAreReused: more clients at a time than Caddy's own default of idle connections, and no dialing.
func TestConnectionsAreReused(t *testing.T) {
	const clients = 64
	u := newRecorder(t, httptest.NewServer)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp")
	connections := map[string]bool{}
	for range 2 {
		// all clients' requests are at the upstream at once, so each needs a connection
		arrived := make(chan struct{}, clients)
		release := make(chan struct{})
		u.answer = func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }
		done := make(chan struct{}, clients)
		for range clients {
			go func() {
				serve(t, h, post("/", message), alice)
				done <- struct{}{}
			}()
		}
		for range clients {
			<-arrived
		}
		close(release)
		for range clients {
			<-done
		}
		requests, _ := u.take()
		for _, r := range requests {
			connections[r.RemoteAddr] = true
		}
	}
	if len(connections) >= clients*3/2 {
		t.Errorf("%d clients needed %d connections for two rounds", clients, len(connections))
	}
}

// httpTransport is what a handler sends requests with, below what it adds itself.
func httpTransport(h *Handler) (*reverseproxy.HTTPTransport, bool) {
	own, ok := h.Transport.(transport)
	if !ok {
		return nil, false
	}
	configured, ok := own.RoundTripper.(*reverseproxy.HTTPTransport)
	return configured, ok
}

func TestWithDefaults(t *testing.T) {
	const keeps = `"keep_alive":{"max_idle_conns_per_host":512}`
	for raw, want := range map[string]string{
		``:                                   `{"compression":false,` + keeps + `,"protocol":"http"}`,
		`{"protocol":"http"}`:                `{"compression":false,` + keeps + `,"protocol":"http"}`,
		`{"protocol":"http","tls":{}}`:       `{` + keeps + `,"protocol":"http","tls":{}}`,
		`{"protocol":"fastcgi","root":"/x"}`: `{"protocol":"fastcgi","root":"/x"}`,
		`{"protocol":"HTTP"}`:                `{"protocol":"HTTP"}`,
		`{}`:                                 `{"compression":false,` + keeps + `,"protocol":"http"}`,
		`null`:                               `null`,
		`{"protocol":"http","keep_alive":{"max_idle_conns_per_host":0}}`: `{"compression":false,"keep_alive":{"max_idle_conns_per_host":0},"protocol":"http"}`,
		`{"protocol":"http","compression":true}`:                         `{"compression":true,` + keeps + `,"protocol":"http"}`,
		`[]`:                                                             "error",
		`"http"`:                                                         "error",
		`{"protocol":"http","keep_alive":[]}`:                            "error",
	} {
		var in json.RawMessage
		if raw != "" {
			in = json.RawMessage(raw)
		}
		got, err := withDefaults(in)
		if err != nil {
			got = json.RawMessage("error")
		}
		if string(got) != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

// TestPath: the path is that of the upstream, the query that of the client.
func TestPath(t *testing.T) {
	for _, test := range []struct{ upstream, options, target, want string }{
		{"http://UPSTREAM/mcp", "", "/mcp", "/mcp"},
		{"http://UPSTREAM/mcp", "", "/", "/mcp"},
		{"http://UPSTREAM/mcp", "", "/some/where/else/", "/mcp"},
		{"http://UPSTREAM/mcp", "", "/mcp?x=1&y=%20a&x=2", "/mcp?x=1&y=%20a&x=2"},
		{"http://UPSTREAM/mcp", "", "/x?", "/mcp?"},
		{"http://UPSTREAM/mcp", "", "/a%2Fb?q=a%2Fb", "/mcp?q=a%2Fb"},
		{"http://UPSTREAM/mcp/", "", "/mcp", "/mcp/"},
		{"http://UPSTREAM/", "", "/mcp?x=1", "/?x=1"},
		{"http://UPSTREAM/a%20b%25/mcp", "", "/mcp?x=1", "/a%20b%25/mcp?x=1"},
		{"http://UPSTREAM", "", "/mcp?x=1", "/mcp?x=1"},
		{"UPSTREAM", "", "/a%2Fb", "/a%2Fb"},
		{"http://UPSTREAM/mcp", "rewrite /other", "/mcp?x=1", "/other?x=1"},
		{"http://UPSTREAM/mcp", "rewrite /other?own=1", "/mcp?x=1", "/other?own=1"},
		{"http://UPSTREAM/mcp", "method PUT", "/x?x=1", "/mcp?x=1"},
	} {
		u := newRecorder(t, httptest.NewServer)
		upstream := strings.ReplaceAll(test.upstream, "UPSTREAM", u.address())
		h := fromCaddyfile(t, "mcp_proxy "+upstream+" {\n"+test.options+"\n}")
		serve(t, h, post(test.target, message), alice)
		if got := u.one(t).RequestURI; got != test.want {
			t.Errorf("mcp_proxy %s %s: %s became %s, want %s", test.upstream, test.options, test.target, got, test.want)
		}
	}
}

// TestHost: a server behind TLS wants its own name, and any other the client's.
func TestHost(t *testing.T) {
	for _, test := range []struct{ what, config, want string }{
		{"https", `,"transport":{"protocol":"http","tls":{"insecure_skip_verify":true}}`, "UPSTREAM"},
		{
			"https, overridden",
			`,"transport":{"protocol":"http","tls":{"insecure_skip_verify":true}},"headers":{"request":{"set":{"Host":["{http.request.host}"]}}}`,
			"mcp.example.com",
		},
		{"http", ``, "mcp.example.com"},
		{"http, overridden", `,"headers":{"request":{"set":{"Host":["{http.reverse_proxy.upstream.hostport}"]}}}`, "UPSTREAM"},
	} {
		start := httptest.NewServer
		if strings.HasPrefix(test.what, "https") {
			start = httptest.NewTLSServer
		}
		u := newRecorder(t, start)
		h := fromJSON(t, fmt.Sprintf(`{"upstreams":[{"dial":%q}]%s}`, u.address(), test.config))
		if w := serve(t, h, post("http://mcp.example.com/mcp", message), alice); w.Code != http.StatusOK {
			t.Errorf("%s: %d", test.what, w.Code)
		}
		r := u.one(t)
		if want := strings.ReplaceAll(test.want, "UPSTREAM", u.address()); r.Host != want {
			t.Errorf("%s: Host %q, want %q", test.what, r.Host, want)
		}
		if got := r.Header.Get("X-Forwarded-Host"); got != "mcp.example.com" {
			t.Errorf("%s: X-Forwarded-Host %q", test.what, got)
		}
	}

	// the scheme of the upstream is enough
	h := fromCaddyfile(t, "mcp_proxy https://backend.example.com/mcp")
	transport, ok := httpTransport(h)
	if !ok || !transport.TLSEnabled() || h.Upstreams[0].Dial != "backend.example.com:443" {
		t.Errorf("https: %#v, %v", h.Transport, h.Upstreams[0])
	}
}

// TestStreaming: each event goes on at once, although the upstream says how long all of it is.
func TestStreaming(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	release := make(chan struct{})
	u.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Length", "6")
		_, _ = w.Write([]byte("one"))
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = w.Write([]byte("two"))
	}
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp")
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := serveTo(t, h, w, r, alice); err != nil {
			t.Error(err)
		}
	}))
	defer front.Close()
	finish := sync.OnceFunc(func() { close(release) })
	defer finish()
	client := &http.Client{Timeout: 10 * time.Second}
	response, err := client.Post(front.URL+"/mcp", "application/json", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got := make([]byte, 3)
	// nothing comes before the timeout if the proxy waits for more
	if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	finish()
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "two" {
		t.Errorf("%q, %v", rest, err)
	}
}
