package mcpproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// twoWays is a call that takes the fast path and reverse_proxy's, which must come to the same.
type twoWays struct {
	what string
	// path and options are those of the upstream.
	path, options string
	// target and header are the client's; SEALED in it is the session "raw".
	target, header string
	// stream: it is a GET; unread: nobody has read its message.
	stream, unread bool
	// before is what happens in front of the proxy.
	before func(w http.ResponseWriter, r *http.Request)
	// answer is the server's, plainAnswer by default; cut: it hangs up behind it.
	answer string
	cut    bool
	// want, if it is not nil, looks at the fast way for itself.
	want func(t *testing.T, got passage)
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

// passage is what can be seen of a call from outside.
type passage struct {
	upstream     string
	interim      []string
	status       int
	length       int64
	header       http.Header
	body         string
	cut          bool
	trailer      http.Header
	err          string
	placeholders map[string]string
}

// slowly is the same handler, without the fast path.
func slowly(t *testing.T, h *Handler) *Handler {
	t.Helper()
	if h.fast == nil {
		t.Fatal("there is no fast path")
	}
	slow := *h
	slow.fast = nil
	return &slow
}

func (test twoWays) run(t *testing.T) {
	t.Helper()
	answer := test.answer
	if answer == "" {
		answer = plainAnswer
	}
	u := newRawUpstream(t, answer, test.cut)
	h := fromCaddyfile(t, fmt.Sprintf("mcp_proxy http://%s%s {\nsession_key %s\n%s\n}", u.Addr(), test.path, goodKey, test.options))
	fast := test.pass(t, h, u)
	slow := test.pass(t, slowly(t, h), u)
	compare(t, test.what, fast, slow)
	if test.want != nil {
		test.want(t, fast)
	}
}

func compare(t *testing.T, what string, fast, slow passage) {
	t.Helper()
	for _, key := range []string{"retries", "upstream.duration", "upstream.duration_ms"} {
		if _, known := slow.placeholders[key]; !known { // it does not get that far where an id cannot be sealed
			delete(fast.placeholders, key)
		}
	}
	for _, one := range []struct{ of, fast, slow string }{
		{"what the server got", fast.upstream, slow.upstream},
		{"interim answers", fmt.Sprintf("%q", fast.interim), fmt.Sprintf("%q", slow.interim)},
		{"status", fmt.Sprint(fast.status, fast.length), fmt.Sprint(slow.status, slow.length)},
		{"header", fmt.Sprintf("%q", fast.header), fmt.Sprintf("%q", slow.header)},
		{"body", fast.body, slow.body},
		{"cut", fmt.Sprint(fast.cut), fmt.Sprint(slow.cut)},
		{"trailer", fmt.Sprintf("%q", fast.trailer), fmt.Sprintf("%q", slow.trailer)},
		{"error", fast.err, slow.err},
		{"placeholders", fmt.Sprintf("%q", fast.placeholders), fmt.Sprintf("%q", slow.placeholders)},
	} {
		if one.fast != one.slow {
			t.Errorf("%s: %s:\n fast %s\nother %s", what, one.of, one.fast, one.slow)
		}
	}
}

// pass sends the call through a handler.
func (test twoWays) pass(t *testing.T, h *Handler, u *rawUpstream) (p passage) {
	t.Helper()
	f := newFront(t, h)
	f.before = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "Caddy")
		if test.before != nil {
			test.before(w, r)
		}
		taken := h.fast.takes(r, reqctx.From(r.Context()))
		if test.stream {
			taken = h.fast.carries(&exchange{lifetime: longLived}, r)
		}
		if h.fast != nil && !taken && !test.unread {
			t.Errorf("%s: it does not take the fast path", test.what)
		}
	}
	f.after = func(_ http.ResponseWriter, r *http.Request) { p.placeholders = placeholdersOf(t, r) }

	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	target := test.target
	if target == "" {
		target = "/mcp"
	}
	header := strings.ReplaceAll(strings.ReplaceAll(test.header, "SEALED", sealedFor(t, h, u)), "\n", "\r\n")
	if !test.unread && !test.stream {
		header += "X-Judged: 1\r\n"
	}
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: mcp.example.com\r\n%sContent-Length: %d\r\n\r\n%s",
		target, header, len(toolCall), toolCall)
	if test.stream {
		request = fmt.Sprintf("GET %s HTTP/1.1\r\nHost: mcp.example.com\r\n%s\r\n", target, header)
	}
	if _, err = io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	p.read(t, test.what, h, conn)
	if err := receive(t, "the end of the request", f.returned); err != nil {
		p.err = err.Error()
		var failure caddyhttp.HandlerError
		if errors.As(err, &failure) { // it has an id of its own
			p.err = fmt.Sprint(failure.StatusCode, failure.Err)
		}
	}
	p.upstream = u.take()
	return p
}

// read reads the answers.
func (p *passage) read(t *testing.T, what string, h *Handler, conn net.Conn) {
	t.Helper()
	reader := bufio.NewReader(conn)
	for {
		response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		response.Header.Del("Date")
		if response.StatusCode < 200 && response.StatusCode != http.StatusSwitchingProtocols {
			p.interim = append(p.interim, fmt.Sprintf("%d %q", response.StatusCode, response.Header))
			continue
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		p.status, p.length, p.header, p.body, p.cut, p.trailer =
			response.StatusCode, response.ContentLength, response.Header, string(body), err != nil, response.Trailer
		for _, from := range []http.Header{p.header, p.trailer} {
			for i, id := range from[sessionHeader] {
				from[sessionHeader][i] = unsealed(t, h, id)
			}
		}
		return
	}
}

// sealedFor is the session "raw" on a server, as alice has it.
func sealedFor(t *testing.T, h *Handler, u *rawUpstream) string {
	t.Helper()
	if h.sessions == nil {
		return ""
	}
	sealer, err := h.sessions.ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := sealer.seal(upstreamSession{"raw", u.Addr().String()}, alice.Principal())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// unsealed is what a session id holds.
func unsealed(t *testing.T, h *Handler, id string) string {
	t.Helper()
	if h.sessions == nil {
		return id
	}
	sealer, err := h.sessions.ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session, err := sealer.open(id, alice.Principal())
	switch {
	case err == nil:
		return fmt.Sprint("sealed ", session)
	case id != "own": // which no server has sent
		t.Errorf("the session id %q: %v", id, err)
	}
	return id
}

// placeholderKeys are those that reverse_proxy documents, and the headers of the answers in the tests.
var placeholderKeys = []string{
	"upstream.address", "upstream.hostport", "upstream.host", "upstream.port", "upstream.requests", "upstream.max_requests",
	"upstream.fails", "upstream.latency", "upstream.latency_ms", "upstream.duration", "upstream.duration_ms", "duration",
	"duration_ms", "retries", "status_code", "status_text", "header.Content-Type", "header.X-Server", "header.X-Added", "header.Connection",
	"header.Keep-Alive", "header.Via", "header.Content-Length", "header.Mcp-Session-Id", "header.x-server", "header.", "nothing", "",
}

// placeholdersOf returns those of reverse_proxy that are known, with their types. How long something took is nothing to
// compare.
func placeholdersOf(t *testing.T, r *http.Request) map[string]string {
	t.Helper()
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		t.Fatal("no replacer")
	}
	known := map[string]string{}
	for _, key := range placeholderKeys {
		value, ok := repl.Get("http.reverse_proxy." + key)
		if !ok {
			continue
		}
		known[key] = fmt.Sprintf("%T", value)
		if !strings.Contains(key, "duration") && !strings.Contains(key, "latency") {
			known[key] += fmt.Sprintf(" %v", value)
		}
	}
	return known
}

// wantLine is for twoWays.want: the server got this line.
func wantLine(line string) func(*testing.T, passage) {
	return func(t *testing.T, got passage) {
		t.Helper()
		if !slices.Contains(strings.Split(got.upstream, "\r\n"), line) {
			t.Errorf("no line %q in %q", line, got.upstream)
		}
	}
}

// wantHeader is for twoWays.want: the client got these values.
func wantHeader(name string, values ...string) func(*testing.T, passage) {
	return func(t *testing.T, got passage) {
		t.Helper()
		if name = textproto.CanonicalMIMEHeaderKey(name); !slices.Equal(got.header[name], values) {
			t.Errorf("%s: %q of %q, want %q", name, got.header[name], slices.Sorted(maps.Keys(got.header)), values)
		}
	}
}
