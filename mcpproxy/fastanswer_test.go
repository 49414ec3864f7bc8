package mcpproxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// ownHeaders are set by handlers in front of the proxy.
func ownHeaders(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("X-Own", "own")
	header.Set("X-Server", "own")
	header.Set("Via", "1.0 own")
	header.Set(sessionHeader, "own")
}

// plain is the type of an answer that comes in parts. Without one, net/http guesses it, unless the head leaves first.
const plain = "Content-Type: text/plain\r\n"

// chunked is an answer in chunks, with what comes behind them.
func chunked(header, behind string) string {
	if !strings.Contains(header, "Content-Type") {
		header += plain
	}
	return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + header + "\r\n5\r\nfirst\r\n6\r\nsecond\r\n0\r\n" + behind + "\r\n"
}

func answerWith(status, header string) string {
	return "HTTP/1.1 " + status + "\r\n" + header + "\r\n"
}

const (
	earlyHints  = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Server: early\r\nConnection: X-Hop\r\nX-Hop: 1\r\nMcp-Session-Id: raw\r\n\r\n"
	hopByHopTwo = "Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nAlt-Svc: h3\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\n" +
		"Proxy-Connection: close\r\nTe: trailers\r\n"
)

// TestFastAnswer: a client gets the same answer either way, in particular no id of a server (A140), and nothing else where
// a server is slow or hangs up (A148).
func TestFastAnswer(t *testing.T) {
	const ok, empty = "200 OK", "Content-Length: 0\r\n"
	for _, test := range []twoWays{
		{what: "a server that says who it is", answer: answerWith(ok, empty+"Server: x\r\nVia: 1.0 x\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n"), want: wantHeader("Server", "x")},
		{what: "connection headers", answer: answerWith(ok, empty+hopByHopTwo), want: wantHeader("X-Hop")},
		{what: "only keep-alive", answer: answerWith(ok, empty+"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"), want: wantHeader("Keep-Alive")},
		{what: "connection headers that nothing names", answer: answerWith(ok, empty+"Keep-Alive: timeout=5\r\nAlt-Svc: h3\r\nX-Hop: 1\r\n"), want: wantHeader("X-Hop", "1")},
		{what: "an id for one connection only", answer: answerWith(ok, empty+"Connection: Mcp-Session-Id\r\nMcp-Session-Id: raw\r\n"), want: wantHeader(sessionHeader)},
		{what: "close", answer: answerWith(ok, plain+"Connection: close\r\n") + "until the end", cut: true},
		{what: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\n" + plain + "X-Server: 1\r\n\r\nuntil the end", cut: true, want: wantHeader("Via", "1.0 Caddy")},
		{what: "connection headers, and header_down", answer: answerWith(ok, empty+hopByHopTwo), options: "header_down Connection close\nheader_down X-Hop 2"},
		{what: "Set-Cookie", answer: answerWith(ok, empty+"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Empty: \r\n")},
		{what: "an empty body", answer: answerWith(ok, empty)},
		{what: "202", answer: answerWith("202 Accepted", empty)},
		{what: "204", answer: answerWith("204 No Content", "X-Server: 1\r\n")},
		{what: "304", answer: answerWith("304 Not Modified", "Etag: x\r\nContent-Length: 7\r\n")},
		{what: "404", answer: answerWith("404 Not Found", "Content-Length: 4\r\n") + "gone"},
		{what: "500", answer: answerWith("500 Oh no", "Content-Length: 4\r\nWWW-Authenticate: Bearer\r\n") + "sick"},
		{what: "a status of its own", answer: answerWith("299 Whatever", empty)},
		{what: "401", answer: answerWith("401 Unauthorized", empty+"WWW-Authenticate: Bearer\r\nX-Server: 1\r\n")},
		{what: "more than a buffer", answer: answerWith(ok, "Content-Length: 100000\r\n") + strings.Repeat("0123456789", 10000)},
		{what: "chunks", answer: chunked("", "")},
		{what: "events", answer: chunked("Content-Type: text/event-stream\r\n", ""), want: wantHeader("X-Accel-Buffering", "no")},
		{what: "events of a known length", answer: answerWith(ok, "Content-Type: text/event-stream; charset=utf-8\r\nContent-Length: 9\r\n") + "data: x\n\n"},
		{what: "incremental", answer: answerWith(ok, plain+"Incremental: ?1\r\nContent-Length: 1\r\n") + "x"},
		{what: "a trailer", answer: chunked("Trailer: X-Late\r\n", "X-Late: 1\r\nX-Late: 2\r\n")},
		{what: "two trailers", answer: chunked("Trailer: X-Late\r\nTrailer: X-Later\r\n", "X-Late: 1\r\n")},
		{what: "an unannounced trailer", answer: chunked("", "X-Late: 1\r\n")},
		{what: "both", answer: chunked("Trailer: X-Late\r\n", "X-Late: 1\r\nX-More: 1\r\n")},

		{what: "own headers", before: ownHeaders, options: "session_binding off", answer: answerWith(ok, empty+"X-Server: 1\r\nVia: 1.0 x\r\n"), want: wantHeader("Via", "1.0 own", "1.1 Caddy", "1.0 x")},
		{what: "early hints", answer: earlyHints + plainAnswer, want: wantHeader("Link")},
		{what: "early hints twice, own headers", before: ownHeaders, answer: earlyHints + earlyHints + plainAnswer},
		{what: "early hints, unbound", before: ownHeaders, options: "session_binding off", answer: earlyHints + plainAnswer},
		{what: "102, 100", answer: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + plainAnswer},

		{
			what: "header_down of all kinds", answer: answerWith(ok, empty+"X-Drop: 1\r\nX-Server: old\r\nSet-Cookie: a\r\nX-Also: 1\r\n"), before: ownHeaders,
			options: "session_binding off\nheader_down -X-Drop\nheader_down +X-Also 2\nheader_down X-Server old new\nheader_down X-Added " +
				"{http.reverse_proxy.status_code}-{http.reverse_proxy.header.X-Server}-{http.reverse_proxy.upstream.hostport}-{http.reverse_proxy.retries}",
			want: wantHeader("X-Server", "own", "new"),
		},
		{what: "header_down to a stream", options: "header_down Content-Type text/event-stream", answer: answerWith(ok, "Content-Length: 2\r\n") + "ab"},
		{what: "header_down Mcp-Session-Id", options: "header_down Mcp-Session-Id raw", answer: answerWith(ok, empty)},
		{what: "header_down, 401", options: "header_down X-Added {http.reverse_proxy.status_code}", answer: answerWith("401 Unauthorized", empty)},

		{what: "a session begins", answer: answerWith(ok, empty+"Mcp-Session-Id: raw\r\n")},
		{what: "a session goes on", header: "Mcp-Session-Id: SEALED\n", answer: answerWith(ok, empty+"Mcp-Session-Id: raw\r\n")},
		{what: "a session gets another id", header: "Mcp-Session-Id: SEALED\n", answer: answerWith(ok, empty+"Mcp-Session-Id: other\r\n")},
		{what: "a session, unbound", options: "session_binding off", answer: answerWith(ok, empty+"Mcp-Session-Id: raw\r\n"), want: wantHeader(sessionHeader, "raw")},
		{what: "an empty id", answer: answerWith(ok, empty+"Mcp-Session-Id: \r\n")},
		{what: "own id", before: ownHeaders, answer: answerWith(ok, empty)},
		{what: "own id and that of the server", before: ownHeaders, answer: answerWith(ok, empty+"Mcp-Session-Id: raw\r\nX-Server: 1\r\n"), want: wantHeader("X-Server", "own")},
		{what: "two ids", answer: answerWith(ok, empty+"Mcp-Session-Id: raw\r\nMcp-Session-Id: raw2\r\nX-Server: 1\r\n"), want: wantHeader("X-Server")},
		{what: "an id with a blank", answer: answerWith(ok, empty+"Mcp-Session-Id: r aw\r\n")},
		{what: "an id in a trailer that has come unannounced", answer: chunked("", "Mcp-Session-Id: raw\r\nX-Late: 1\r\n")},

		{what: "cut", answer: answerWith(ok, "Content-Length: 10\r\n") + "abc", cut: true, want: wantCut},
		{what: "cut in a chunk", answer: "HTTP/1.1 200 OK\r\n" + plain + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", cut: true, want: wantCut},
		{what: "cut in an event", answer: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n", cut: true, want: wantCut},
		{what: "hangs up", answer: " ", cut: true},
		{what: "hangs up, own headers", answer: " ", cut: true, before: ownHeaders},
		{what: "hangs up, own headers, unbound", answer: " ", cut: true, before: ownHeaders, options: "session_binding off"},
		{what: "hangs up in a session", answer: " ", cut: true, header: "Mcp-Session-Id: SEALED\n"},
		{what: "no HTTP", answer: "SSH-2.0\r\n\r\n", cut: true},
		{what: "slow", answer: " ", options: "transport http {\nresponse_header_timeout 50ms\n}"},
	} {
		test.run(t)
	}
}

func wantCut(t *testing.T, got passage) {
	t.Helper()
	if !got.cut || got.err != http.ErrAbortHandler.Error() {
		t.Errorf("cut %t, %s", got.cut, got.err)
	}
}

// TestFastDown: A148. There is no server.
func TestFastDown(t *testing.T) {
	u := newRawUpstream(t, "", false)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.Addr().String())
	_ = u.Close()
	test := twoWays{what: "down"}
	compare(t, test.what, test.pass(t, h, u), test.pass(t, slowly(t, h), u))
}

// TestFastAnnouncedID: that a trailer will hold the server's own id is not announced, which reverse_proxy does; neither
// sends it.
func TestFastAnnouncedID(t *testing.T) {
	test := twoWays{what: "trailer"}
	u := newRawUpstream(t, chunked("Trailer: Mcp-Session-Id\r\nTrailer: X-Late\r\n", "Mcp-Session-Id: raw\r\nX-Late: 1\r\n"), false)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.Addr().String())
	fast, slow := test.pass(t, h, u), test.pass(t, slowly(t, h), u)
	if delete(slow.trailer, sessionHeader); fmt.Sprint(fast.trailer) != "map[X-Late:[1]]" {
		t.Errorf("trailer %v", fast.trailer)
	}
	compare(t, test.what, fast, slow)
}

// TestFastSwitching: a server that switches protocols without being asked to answers nothing that could be passed on.
// Through reverse_proxy it would be an empty 200; here it is an error of the server.
func TestFastSwitching(t *testing.T) {
	test := twoWays{what: "101"}
	u := newRawUpstream(t, answerWith("101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: websocket\r\n"), false)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.Addr().String())
	fast, slow := test.pass(t, h, u), test.pass(t, slowly(t, h), u)
	if fast.status != http.StatusBadGateway || !strings.Contains(fast.err, "switched protocols") || fast.body != "" {
		t.Errorf("%d %q, %s", fast.status, fast.body, fast.err)
	}
	if slow.status != http.StatusOK || fast.upstream != slow.upstream {
		t.Errorf("the other way: %d, %q", slow.status, slow.upstream)
	}
}

// TestFastClientGone: the call to the server ends with its client, before and within the answer.
func TestFastClientGone(t *testing.T) {
	for what, contentType := range map[string]string{"before": "", "within": "text/event-stream"} {
		u := newStreamed(t, contentType, "data: 1\n\n")
		h := fromCaddyfile(t, "mcp_proxy http://"+u.address())
		var errs []string
		for _, h := range []*Handler{h, slowly(t, h)} {
			f := newFront(t, h)
			var known map[string]string
			f.after = func(_ http.ResponseWriter, r *http.Request) { known = placeholdersOf(t, r) }
			ctx, leave := context.WithCancel(t.Context())
			if contentType == "" {
				u.answer = func(_ http.ResponseWriter, r *http.Request) {
					leave()
					<-r.Context().Done()
					u.left <- struct{}{}
				}
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL, strings.NewReader(toolCall))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("X-Judged", "1")
				response, err := f.Client().Do(r)
				if err == nil {
					_ = response.Body.Close()
					t.Errorf("%s: %d", what, response.StatusCode)
				}
			} else {
				response := f.send(ctx, http.MethodPost, "/", toolCall, true)
				first := make([]byte, 9)
				if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "data: 1\n\n" {
					t.Errorf("%s: %q, %v", what, first, err)
				}
				leave()
			}
			receive(t, "the end of the request to the server", u.left)
			errs = append(errs, fmt.Sprint(receive(t, "the end of the request", f.returned), known))
			leave()
		}
		if errs[0] != errs[1] {
			t.Errorf("%s: fast %s, other %s", what, errs[0], errs[1])
		}
	}
}

// TestFastFlush: the head of a stream does not wait for its first event, and events do not wait for each other.
func TestFastFlush(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	proceed := make(chan struct{})
	u.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_ = http.NewResponseController(w).Flush()
			<-proceed
			_, _ = io.WriteString(w, "data: 1\n\n")
		}
	}
	f := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+u.address()))
	response := f.send(t.Context(), http.MethodPost, "/", toolCall, true)
	for range 3 {
		proceed <- struct{}{}
		event := make([]byte, 9)
		if _, err := io.ReadFull(response.Body, event); err != nil || string(event) != "data: 1\n\n" {
			t.Fatalf("%q, %v", event, err)
		}
	}
}

// unflushable is a writer that does not know how.
type unflushable struct{ w *httptest.ResponseRecorder }

func (u unflushable) Header() http.Header         { return u.w.Header() }
func (u unflushable) Write(p []byte) (int, error) { return u.w.Write(p) }
func (u unflushable) WriteHeader(status int)      { u.w.WriteHeader(status) }

// TestFastUnflushable: as through reverse_proxy, a writer that cannot flush does not end a stream.
func TestFastUnflushable(t *testing.T) {
	w := httptest.NewRecorder()
	c := &fastCall{exchange: new(exchange), w: unflushable{w}}
	if err := c.copy(strings.NewReader("data: 1\n\n"), true); err != nil || w.Body.String() != "data: 1\n\n" {
		t.Errorf("%q, %v", w.Body, err)
	}
}

// TestFastLate: an interim answer that comes with the final one is dropped, rather than mixed with it.
func TestFastLate(t *testing.T) {
	w := httptest.NewRecorder()
	c := &fastCall{w: w, final: true, began: time.Now()}
	if err := c.passInterim(http.StatusEarlyHints, map[string][]string{"Link": {"</a>"}}); err != nil || len(w.Header()) > 0 || w.Code != http.StatusOK {
		t.Errorf("%d %v, %v", w.Code, w.Header(), err)
	}
}
