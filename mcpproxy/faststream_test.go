package mcpproxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/reqctx"
)

const eventsHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"

// TestFastStream: a stream is the same either way, whatever its server makes of it.
func TestFastStream(t *testing.T) {
	endpoint := "event: endpoint\ndata: /messages?session=1\n\n"
	for _, test := range []twoWays{
		{what: "refused", answer: "HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n"},
		{
			what: "events", header: "Accept: text/event-stream\nAccept-Encoding: gzip\nLast-Event-ID: 7\n", answer: eventsHead + "Connection: close\r\n\r\nid: 8\ndata: {}\n\n", cut: true,
			want: func(t *testing.T, got passage) {
				t.Helper()
				if strings.Contains(got.upstream, "gzip") || !strings.Contains(got.body, "id: 8") || got.cut {
					t.Errorf("%+v", got)
				}
			},
		},
		{what: "a session", header: "Mcp-Session-Id: SEALED\n", answer: eventsHead + "Mcp-Session-Id: raw\r\nContent-Length: 9\r\n\r\ndata: 1\n\n", want: wantLine("Mcp-Session-Id: raw")},
		{what: "a session begins", answer: eventsHead + "Mcp-Session-Id: raw\r\nContent-Length: 9\r\n\r\ndata: 1\n\n"},
		{what: "two sessions", answer: eventsHead + "Mcp-Session-Id: a\r\nMcp-Session-Id: b\r\nContent-Length: 9\r\n\r\ndata: 1\n\n"},
		{what: "an endpoint", answer: eventsHead + "Connection: close\r\n\r\n" + endpoint + "data: {}\n\n", cut: true, want: func(t *testing.T, got passage) {
			t.Helper()
			if strings.Contains(got.body, "session=1") || !strings.Contains(got.body, "data: /mcp?") {
				t.Errorf("%q", got.body)
			}
		}},
		{what: "an endpoint elsewhere", answer: eventsHead + "Connection: close\r\n\r\nevent: endpoint\ndata: https://other.example/\n\n", cut: true},
		{what: "chunks", answer: eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"},
		{what: "broken off", answer: eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata", cut: true},
		{what: "long", answer: eventsHead + "Connection: close\r\n\r\ndata: " + strings.Repeat("x", 5*streamBufferSize) + "\n\n", cut: true},
		{what: "no events", answer: plainAnswer},
		{what: "a challenge", answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"},
		{what: "an answer that is none", answer: "nonsense\r\n\r\n", cut: true},
		{what: "an early hint", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + plainAnswer, before: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Own", "1")
		}},
	} {
		test.stream = true
		test.run(t)
	}
}

// TestFastUnread: so is a message that nobody has read, which may be answered with a stream.
func TestFastUnread(t *testing.T) {
	for _, test := range []twoWays{
		{what: "a message", want: wantLine("POST /mcp HTTP/1.1")},
		{what: "a session", header: "Mcp-Session-Id: SEALED\n", answer: eventsHead + "Mcp-Session-Id: raw\r\nContent-Length: 9\r\n\r\ndata: 1\n\n"},
		{what: "chunks", answer: eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"},
		{what: "broken off", answer: eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata", cut: true},
		{what: "an answer that is none", answer: "nonsense\r\n\r\n", cut: true},
	} {
		test.unread = true
		test.run(t)
	}

	h := fromCaddyfile(t, "mcp_proxy http://127.0.0.1:1")
	held, unheld := post("/mcp", toolCall), post("/mcp", toolCall)
	held.Body = reqctx.NewBody([]byte(toolCall))
	for lifetime, want := range map[lifetime][2]bool{ordinary: {false, false}, undecided: {true, false}, longLived: {true, true}} {
		x := &exchange{lifetime: lifetime}
		if got := [2]bool{h.fast.carries(x, held), h.fast.carries(x, unheld)}; got != want {
			t.Errorf("lifetime %d: %v, want %v", lifetime, got, want)
		}
		x.endpoint = new(endpoint)
		if h.fast.carries(x, held) || (*fastPath)(nil).carries(new(exchange), held) {
			t.Errorf("lifetime %d: carried to an endpoint, or without a fast path", lifetime)
		}
	}
}
