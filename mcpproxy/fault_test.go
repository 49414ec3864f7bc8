package mcpproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

const (
	toolCall     = `{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"t"}}`
	notification = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

// faultCases are requests, and what the answer to them looks like.
var faultCases = []struct {
	what, method, body string
	judged             bool
	// want is the answer, with CODE and TEXT in it.
	contentType, want string
}{
	{"a call", "POST", toolCall, true, jsonType, `{"jsonrpc":"2.0","id":9007199254740993,"error":{"code":CODE,"message":"TEXT"}}`},
	{"an id that is text", "POST", `{"jsonrpc":"2.0","id":"\u00e9","method":"ping"}`, true, jsonType, `{"jsonrpc":"2.0","id":"\u00e9","error":{"code":CODE,"message":"TEXT"}}`},
	{"a call that nobody has read", "POST", toolCall, false, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":CODE,"message":"TEXT"}}`},
	{"a notification", "POST", notification, true, textType, "TEXT"},
	{"an answer of the client", "POST", `{"jsonrpc":"2.0","id":1,"result":{}}`, true, textType, "TEXT"},
	{"GET", "GET", "", false, textType, "TEXT"},
	{"DELETE", "DELETE", "", false, textType, "TEXT"},
}

// wantFault checks the answers to all cases.
func wantFault(t *testing.T, what string, f *front, status int, code, text string) {
	t.Helper()
	fill := strings.NewReplacer("CODE", code, "TEXT", text)
	for _, test := range faultCases {
		response := f.send(t.Context(), test.method, "/", test.body, test.judged)
		body, err := readAll(t, response)
		if response.StatusCode != status || response.Header.Get("Content-Type") != test.contentType ||
			response.Header.Get("X-Content-Type-Options") != "nosniff" || body != fill.Replace(test.want) || err != nil {
			t.Errorf("%s, %s: %d %v %q, %v", what, test.what, response.StatusCode, response.Header, body, err)
		}
		if challenge := response.Header.Get("WWW-Authenticate"); challenge != "" {
			t.Errorf("%s, %s: challenge %q", what, test.what, challenge)
		}
	}
}

// TestA148_Faults: an upstream that is down, or slow, or refuses, is told apart; and the client knows which call it was.
func TestA148_Faults(t *testing.T) {
	down := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+deadAddress(t)+"/mcp"))
	wantFault(t, "down", down, http.StatusBadGateway, "-31503", "the server cannot be reached")

	none := newFront(t, fromCaddyfile(t, "mcp_proxy {\ndynamic a 127.0.0.1 1 {\nresolvers 127.0.0.1:1\n}\n}"))
	wantFault(t, "no upstream", none, http.StatusBadGateway, "-31503", "the server cannot be reached")

	held := newStreamed(t, "", "")
	slow := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+held.address()+" {\ntransport http {\nresponse_header_timeout 20ms\n}\n}"))
	wantFault(t, "slow", slow, http.StatusGatewayTimeout, "-31504", "the server did not answer in time")

	hangs := dyingUpstream(t)
	hangUp := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+hangs.address()))
	wantFault(t, "hangs up", hangUp, http.StatusBadGateway, "-31503", "the server cannot be reached")

	refuses := newRecorder(t, httptest.NewServer)
	refuses.answer = challengeWith(http.StatusUnauthorized)
	refused := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+refuses.address()))
	wantFault(t, "refuses", refused, http.StatusBadGateway, "-31401", "the server does not accept the gateway")
}

func challengeWith(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="https://other.example/x"`)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "no")
	}
}

// TestUpstreamChallenge: a challenge of the server behind is for whoever authenticates to it. A client that got one of
// the gateway's would look for a token at the wrong place.
func TestUpstreamChallenge(t *testing.T) {
	const handled = "401, and there are routes for some answers"
	for _, test := range []struct {
		what, options string
		identity      *reqctx.Identity
		status        int
		want          int
		challenge     bool
	}{
		{"401", "", alice, 401, 502, false},
		{"401, nobody has judged", "public", nil, 401, 502, false},
		{"401, a token of the gateway", "header_up Authorization own", alice, 401, 502, false},
		{"401, forward_token", "", &reqctx.Identity{ForwardCredential: true}, 401, 401, true},
		{"401, passed on", "header_up authorization {http.request.header.Authorization}", alice, 401, 401, true},
		{"401, replaced", "header_up Authorization Bearer Token", alice, 401, 401, true},
		{handled, "", alice, 401, 401, true},
		{"403", "", alice, 403, 403, false},
		{"403, forward_token", "", &reqctx.Identity{ForwardCredential: true}, 403, 403, true},
		{"200", "", alice, 200, 200, false},
	} {
		u := newRecorder(t, httptest.NewServer)
		u.answer = challengeWith(test.status)
		h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+" {\n"+test.options+"\n}")
		if test.what == handled {
			h.HandleResponse = []caddyhttp.ResponseHandler{{Match: &caddyhttp.ResponseMatcher{StatusCode: []int{500}}}}
		}
		w := serve(t, h, post("/", toolCall), test.identity)
		if w.Code != test.want || (w.Header().Get("WWW-Authenticate") != "") != test.challenge {
			t.Errorf("%s: %d, challenge %q", test.what, w.Code, w.Header().Get("WWW-Authenticate"))
		}
		if got := w.Body.String(); (test.want != test.status) == (got == "no") {
			t.Errorf("%s: body %q", test.what, got)
		}
	}
}

func TestFaultStatus(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	for _, test := range []struct {
		what   string
		status int
		err    error
		want   int
	}{
		{"reset", 502, errors.New("connection reset by peer"), 502},
		{"dial", 502, reverseproxy.NewDialError(errors.New("connection refused")), 502},
		{"dial timeout", 502, reverseproxy.NewDialError(timeout), 504},
		{"a timeout that is wrapped", 502, fmt.Errorf("reading: %w", timeout), 504},
		{"slow", 504, timeout, 504},
		{"nobody there", 503, errors.New("no upstreams available"), 502},
		{"unavailable", 503, errors.New("maintenance"), 503},
		{"gone", 499, errors.New("context canceled"), 499},
		{"internal", 500, timeout, 500},
		{"nothing known", 502, nil, 502},
	} {
		if got := faultStatus(caddyhttp.HandlerError{StatusCode: test.status, Err: test.err}); got != test.want {
			t.Errorf("%s: %d, want %d", test.what, got, test.want)
		}
	}
}

// TestA148_HalfAnswer: a client sees that an answer is not all of it, and half an event is no event.
func TestA148_HalfAnswer(t *testing.T) {
	for _, test := range []struct{ what, method, contentType, sent, want string }{
		{"JSON", "POST", "application/json", `{"jsonrpc":"2.0","id":1,`, `{"jsonrpc":"2.0","id":1,`},
		{"events", "POST", "text/event-stream", event, event},
		{"GET", "GET", "text/event-stream", event, event},
		{"GET, half an event", "GET", "text/event-stream", event + "id: 7\ndata: {", event},
		{"GET, half an endpoint", "GET", "text/event-stream", "event: endpoint\ndata: /mess", ""},
	} {
		u := newRecorder(t, httptest.NewServer)
		u.answer = func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			// one chunk, and no end
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n",
				test.contentType, len(test.sent), test.sent)
			conn.Close()
		}
		f := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+u.address()))
		body := ""
		if test.method == "POST" {
			body = message
		}
		got, err := readAll(t, f.send(t.Context(), test.method, "/", body, body != ""))
		if got != test.want || err == nil {
			t.Errorf("%s: %q, %v", test.what, got, err)
		}
		if requests, _ := u.take(); len(requests) != 1 {
			t.Errorf("%s: %d requests", test.what, len(requests))
		}
	}
}

// sendSlowly sends the beginning of a call.
func sendSlowly(t *testing.T, f *front) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", len(toolCall))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// TestA112_SlowBodyForStdio: a body that drips does not last for a server over stdin, either.
func TestA112_SlowBodyForStdio(t *testing.T) {
	h := fromJSON(t, stdioConfig(t, ""))
	h.bodyTimeout = 100 * time.Millisecond
	response := sendSlowly(t, newFront(t, h))
	body, err := readAll(t, response)
	if response.StatusCode != http.StatusRequestTimeout || !strings.Contains(body, slowbody.Err.Error()) || err != nil {
		t.Errorf("%d %q, %v", response.StatusCode, body, err)
	}
}

// TestSlowAnswer: the time of the body is over once the body is there, however long the answer takes.
func TestSlowAnswer(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	u.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-time.After(300 * time.Millisecond)
		_, _ = io.WriteString(w, event)
	}
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address())
	h.bodyTimeout = 100 * time.Millisecond
	if body, err := readAll(t, newFront(t, h).send(t.Context(), "POST", "/", message, false)); body != event || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}
