package mcpproxy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/fastcgi"
	_ "github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// breaker is a circuit breaker; Caddy has none of its own.
type breaker struct{}

func init() { caddy.RegisterModule(breaker{}) }

func (breaker) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.circuit_breakers.test", New: func() caddy.Module { return new(breaker) }}
}
func (breaker) OK() bool                        { return true }
func (breaker) RecordMetric(int, time.Duration) {}

// TestFastPathOffered: whatever reverse_proxy would do more than pass on turns the fast path off.
func TestFastPathOffered(t *testing.T) {
	const one = "mcp_proxy http://127.0.0.1:9/mcp"
	with := func(options string) string { return one + " {\n" + options + "\n}" }
	for directive, fast := range map[string]bool{
		one:                       true,
		"mcp_proxy 127.0.0.1:9":   true,
		"mcp_proxy [::1]:9":       true,
		"mcp_proxy localhost":     true,
		"mcp_proxy tcp/[::1]:9":   true,
		"mcp_proxy https://a:9/b": true,
		with("public"):            true,
		with("session_binding off\nsession_key " + goodKey):                         true,
		with("header_up X-A b\nheader_up -X-B"):                                     true,
		with("header_down X-A b"):                                                   true,
		with("lb_policy random"):                                                    true,
		with("lb_try_interval 1s"):                                                  true,
		with("stream_timeout 1s\nstream_close_delay 1s"):                            true,
		with("transport http {\nresponse_header_timeout 1s\n}"):                     true,
		"mcp_proxy https://a:9 {\ntransport http {\ntls_insecure_skip_verify\n}\n}": true,
		with("transport http {\nforward_proxy_url http://a:9\n}"):                   true,
		with("transport http {\nnetwork_proxy url http://a:9\n}"):                   true,
		"mcp_proxy 127.0.0.1:9 {\nrewrite /x?{query}\n}":                            true,
		"mcp_proxy 127.0.0.1:9 127.0.0.1:8":                                         false,
		"mcp_proxy tcp4/127.0.0.1:9":                                                false,
		"mcp_proxy 127.0.0.1:9-9 127.0.0.1:8":                                       false,
		"mcp_proxy unix//run/mcp.sock":                                              false,
		"mcp_proxy {http.request.header.X-Server}:80":                               false,
		"mcp_proxy {http.vars.server}":                                              false,
		"mcp_proxy {\ndynamic a localhost 9\n}":                                     false,
		"mcp_proxy 127.0.0.1:9 {\nmethod GET\n}":                                    false,
		"mcp_proxy 127.0.0.1:9 {\nmethod POST\n}":                                   false,
		with("dynamic a localhost 9"):                                               false,
		with("lb_policy first"):                                                     false,
		with("lb_policy client_ip_hash"):                                            false,
		with("lb_policy cookie"):                                                    false,
		with("lb_policy header X-A"):                                                false,
		with("lb_policy random_choose 2"):                                           false,
		with("lb_retries 1"):                                                        false,
		with("lb_try_duration 1s"):                                                  false,
		with("lb_retry_match {\nmethod POST\n}"):                                    false,
		with("health_uri /health"):                                                  false,
		with("fail_duration 1s"):                                                    false,
		with("unhealthy_request_count 1"):                                           false,
		with("replace_status 200"):                                                  false,
		with("request_buffers 1"):                                                   false,
		with("response_buffers 1"):                                                  false,
		with("flush_interval -1"):                                                   false,
		with("trusted_proxies private_ranges"):                                      false,
		with("verbose_logs"):                                                        false,
		with("proxy_status_name a"):                                                 false,
		with("transport http {\nproxy_protocol v2\n}"):                              false,
		with("transport fastcgi"):                                                   false,
		"mcp_proxy {\nstdio true\n}":                                                false,
		"mcp_proxy {\nto 127.0.0.1:9\nto 127.0.0.1:8\n}":                            false,
		"mcp_proxy https://a:9/b https://c:9/b {\nlb_policy random\n}":              false,
	} {
		if h := fromCaddyfile(t, directive); (h.fast != nil) != fast {
			t.Errorf("%s: fast %t", directive, !fast)
		}
	}
	for config, fast := range map[string]bool{
		``:                                           true,
		`,"rewrite":{"strip_path_prefix":"/a"}`:      true,
		`,"circuit_breaker":{"type":"test"}`:         false,
		`,"handle_response":[{"routes":[]}]`:         false,
		`,"handle_response":[{"status_code":"200"}]`: false,
		`,"health_checks":{"active":{"uri":"/"}}`:    false,
		`,"health_checks":{"passive":{}}`:            false,
		`,"health_checks":{}`:                        false,
		`,"rewrite":{"uri":"/a","method":"PATCH"}`:   false,
	} {
		if h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:9"}]`+config+`}`); (h.fast != nil) != fast {
			t.Errorf("%s: fast %t", config, !fast)
		}
	}
	if h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:9","max_requests":1}]}`); h.fast != nil {
		t.Error("max_requests: fast")
	}
	for _, test := range []struct {
		level   string
		include []string
		fast    bool
	}{
		{"DEBUG", nil, false},
		{"INFO", nil, true},
		{"ERROR", nil, true},
		{"DEBUG", []string{"http.handlers.mcp_proxy"}, false},
		// the audit log
		{"DEBUG", []string{"http.handlers.mcp_authorize.audit"}, true},
	} {
		dir := t.TempDir()
		// one that is discarded has no level
		log := caddy.BaseLog{WriterRaw: json.RawMessage(fmt.Sprintf(`{"output":"file","filename":%q}`, dir+"/log")), Level: test.level}
		ctx := newLoggingContext(t, dir, caddy.CustomLog{BaseLog: log, Include: test.include})
		if h := fromCaddyfileIn(t, ctx, one); (h.fast != nil) != test.fast {
			t.Errorf("a log of level %s of %v: fast %t", test.level, test.include, !test.fast)
		}
	}
}

// TestFastPathOf: the path is compared only where nothing else is rewritten.
func TestFastPathOf(t *testing.T) {
	for config, want := range map[string]string{
		`{"uri":"/mcp"}`: "/mcp", `{"uri":"/a b"}`: "/a b", `{}`: "", `{"uri":"/a?b"}`: "", `{"uri":"?b"}`: "", `{"uri":"/a#b"}`: "",
		`{"uri":"/a%20b"}`: "", `{"uri":"/{b}"}`: "", `{"uri":"/a\\}"}`: "",
		`{"uri":"/a","strip_path_prefix":"/a"}`:                     "",
		`{"uri":"/a","strip_path_suffix":"/a"}`:                     "",
		`{"uri":"/a","uri_substring":[{"find":"a","replace":"b"}]}`: "",
		`{"uri":"/a","path_regexp":[{"find":"a","replace":"b"}]}`:   "",
		`{"uri":"/a","query":{"set":[{"key":"a","val":"b"}]}}`:      "",
	} {
		h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:9"}],"rewrite":`+config+`}`)
		if h.fast == nil || h.fast.path != want {
			t.Errorf("%s: %+v, want the path %q", config, h.fast, want)
		}
	}
}

// TestFastPathTakes: whatever is more than a call with a header and a body goes the other way.
func TestFastPathTakes(t *testing.T) {
	f := fromCaddyfile(t, "mcp_proxy 127.0.0.1:9").fast
	type call struct {
		*http.Request
		state *reqctx.State
	}
	header := func(lines ...string) func(*call) {
		return func(c *call) {
			for i := 0; i+1 < len(lines); i += 2 {
				c.Header.Add(lines[i], lines[i+1])
			}
		}
	}
	message := func(text string) func(*call) {
		return func(c *call) {
			var err error
			if c.state.Message, err = mcpwire.Read([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		what   string
		change func(*call)
		fast   bool
	}{
		{"a call", func(*call) {}, true},
		{"a notification", message(notification), true},
		{"an answer of the client", message(`{"jsonrpc":"2.0","id":1,"result":{}}`), true},
		{"initialize", message(initializeMessage), true},
		{"no token", func(c *call) { c.state.Identity = nil }, true},
		{"a query", func(c *call) { c.URL.RawQuery = "a=1" }, true},
		{"keep-alive", header("Connection", "Keep-Alive"), true},
		{"a session, many headers", header(sessionHeader, "x", "Accept", "text/event-stream", "Cookie", "a", "Expect", "100-continue"), true},
		{"over TLS", func(c *call) { c.TLS = &tls.ConnectionState{HandshakeComplete: true} }, true},
		{"IPv6", func(c *call) { c.RemoteAddr = "[fe80::1%eth0]:1" }, true},

		{"GET", func(c *call) { c.Method = http.MethodGet }, false},
		{"DELETE", func(c *call) { c.Method = http.MethodDelete }, false},
		{"PUT", func(c *call) { c.Method = http.MethodPut }, false},
		{"CONNECT", func(c *call) { c.Method = http.MethodConnect }, false},
		{"no handler in front", func(c *call) { c.state = nil }, false},
		{"nobody has read the message", func(c *call) { c.state.Message = nil }, false},
		{"subscriptions/listen", message(`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}`), false},
		{"a body that is not in memory", func(c *call) { c.Body = onlyReader{strings.NewReader(toolCall)} }, true},
		{"a body that something is around", func(c *call) { c.Body = onlyReader{c.Body} }, true},
		{"no body", func(c *call) { c.Body, c.ContentLength = http.NoBody, 0 }, true},
		{"a body of another length", func(c *call) { c.ContentLength++ }, false},
		{"a body of unknown length", func(c *call) { c.ContentLength = -1 }, false},
		{"Connection: close", header("Connection", "close"), false},
		{"Connection: another header", header("Connection", "X-Secret"), false},
		{"Connection: two values in one", header("Connection", "keep-alive, X-Secret"), false},
		{"Connection: two values", header("Connection", "keep-alive", "Connection", "keep-alive"), false},
		{"Connection: empty", header("Connection", ""), false},
		{"Upgrade", header("Connection", "Upgrade", "Upgrade", "websocket"), false},
		{"Upgrade alone", header("Upgrade", "h2c"), false},
		{"Keep-Alive", header("Keep-Alive", "timeout=5"), false},
		{"Proxy-Connection", header("Proxy-Connection", "keep-alive"), false},
		{"Proxy-Authenticate", header("Proxy-Authenticate", "Basic"), false},
		{"Proxy-Authorization", header("Proxy-Authorization", "Basic x"), false},
		{"TE", header("TE", "trailers"), false},
		{"Trailer", header("Trailer", "X-A"), false},
		{"Transfer-Encoding", header("Transfer-Encoding", "chunked"), false},
		{"Alt-Svc", header("Alt-Svc", "clear"), false},
		{"Incremental", header("Incremental", "?1"), false},
		{"Incremental, no", header("Incremental", "?0"), false},
		{"a trailer", func(c *call) { c.Trailer = http.Header{"X-A": nil} }, false},
		{"a sealed endpoint", func(c *call) { c.URL.RawQuery = "a=1&" + mcpwire.EndpointQuery + "=x" }, false},
		{"no address", func(c *call) { c.RemoteAddr = "" }, false},
		{"a Unix socket", func(c *call) { c.RemoteAddr = "@" }, false},
		{"an address without a port", func(c *call) { c.RemoteAddr = "127.0.0.1" }, false},
		{"a port without an address", func(c *call) { c.RemoteAddr = ":1" }, false},
		{"early data", func(c *call) { c.TLS = new(tls.ConnectionState) }, false},
	} {
		c := &call{post("/mcp", toolCall), &reqctx.State{Identity: alice}}
		message(toolCall)(c)
		c.Body = reqctx.NewBody([]byte(toolCall))
		test.change(c)
		if got := f.takes(c.Request, c.state); got != test.fast {
			t.Errorf("%s: fast %t", test.what, got)
		}
		if (*fastPath)(nil).takes(c.Request, c.state) {
			t.Errorf("%s: without a fast path, it is taken", test.what)
		}
	}
}

// TestFastHopByHop: the list is complete. Whatever of it a client sends gets no further, by whichever way.
func TestFastHopByHop(t *testing.T) {
	u := newRawUpstream(t, plainAnswer, false)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.Addr().String())
	for _, name := range hopByHop {
		r := post("/mcp", toolCall, name, "x")
		if name == "Te" { // reverse_proxy passes trailers on
			r.Header.Set(name, "gzip")
		}
		serve(t, h, r, alice)
		if got := u.take(); !strings.Contains(got, "POST /mcp") || strings.Contains(got, name+": ") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestFastUpstreamError: the statuses are those of reverse_proxy.
func TestFastUpstreamError(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("dial tcp: lookup a: no such host"), http.StatusBadGateway},
		{context.DeadlineExceeded, http.StatusGatewayTimeout},
		{fmt.Errorf("wrapped: %w", context.DeadlineExceeded), http.StatusGatewayTimeout},
		{fmt.Errorf("dial tcp 127.0.0.1:9: operation was canceled"), statusClientGone},
		{canceled.Err(), http.StatusBadGateway}, // which serve has looked for before
	} {
		if got := fmt.Sprint(upstreamError(test.err)); !strings.Contains(got, fmt.Sprintf("HTTP %d", test.status)) {
			t.Errorf("%v: %s, want %d", test.err, got, test.status)
		}
	}
}
