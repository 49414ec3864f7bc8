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

	"github.com/caddymcp/gateway/internal/slowbody"
)

// listening is an upstream that says when a request begins, and how its body ended.
type listening struct {
	*recorder
	heads  chan string
	bodies chan string
}

func newListening(t *testing.T) *listening {
	t.Helper()
	u := &listening{newRecorder(t, httptest.NewServer), make(chan string, 100), make(chan string, 100)}
	u.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		u.heads <- r.Method
		body, err := io.ReadAll(r.Body)
		if err != nil {
			body = []byte("failed")
		}
		u.bodies <- string(body)
	})
	return u
}

// heard says what has come to the upstream so far.
func (u *listening) heard() string {
	select {
	case method := <-u.heads:
		return method
	default:
		return ""
	}
}

// client is a connection to a front, whose request comes in pieces.
type client struct {
	net.Conn
	t      *testing.T
	reader *bufio.Reader
}

func (f *front) dial(t *testing.T) *client {
	t.Helper()
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{conn, t, bufio.NewReader(conn)}
}

// head sends the head of a request with a body of this length, -1 for one in chunks.
func (c *client) head(method string, length int, more ...string) {
	c.t.Helper()
	size := fmt.Sprintf("Content-Length: %d", length)
	if length < 0 {
		size = "Transfer-Encoding: chunked"
	}
	lines := append([]string{method + " /mcp HTTP/1.1", "Host: x", "Content-Type: application/json", size}, more...)
	c.say(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

func (c *client) say(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer is status and body of the next answer.
func (c *client) answer() (int, string) {
	c.t.Helper()
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Error(err)
	}
	return response.StatusCode, string(body)
}

// wantClosed checks that the gateway has closed the connection. What comes of the body after all is no request.
func (c *client) wantClosed() {
	c.t.Helper()
	_, _ = io.WriteString(c, "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
	if more, err := c.reader.ReadByte(); err == nil {
		c.t.Errorf("the connection goes on with %q", more)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Error("the connection is still open")
	}
}

// TestA112_HeldBody: the upstream hears of a small body when all of it is there, and gets a larger one as it comes.
func TestA112_HeldBody(t *testing.T) {
	for _, test := range []struct {
		method string
		length int
		held   bool
	}{
		{"POST", 2, true},
		{"POST", len(toolCall), true},
		{"POST", maxHeldBody, true},
		{"POST", maxHeldBody + 1, false},
		{"POST", -1, false},
		{"PUT", 100, true},
		{"DELETE", 100, true},
		{"GET", 100, true},
	} {
		t.Run(fmt.Sprint(test.method, test.length), func(t *testing.T) {
			u := newListening(t)
			f := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp"))
			c := f.dial(t)
			c.head(test.method, test.length)
			body := strings.Repeat("x", max(test.length, 2))
			first, last := body[:1], body[1:]
			if test.length < 0 {
				first, last = "1\r\n"+first+"\r\n", "1\r\n"+last+"\r\n0\r\n\r\n"
			}
			c.say(first)
			if test.held {
				time.Sleep(100 * time.Millisecond)
				if heard := u.heard(); heard != "" {
					t.Fatalf("the upstream has heard of a %s", heard)
				}
			} else if heard := receive(t, "the head", u.heads); heard != test.method {
				t.Fatalf("the upstream has heard of a %s", heard)
			}
			c.say(last)
			if got := receive(t, "the body", u.bodies); got != body {
				t.Errorf("%d bytes have arrived, want %d", len(got), len(body))
			}
			if status, _ := c.answer(); status != http.StatusOK {
				t.Errorf("%d", status)
			}
			// the connection is as good as new
			c.head("POST", 2)
			c.say("{}")
			if status, _ := c.answer(); status != http.StatusOK {
				t.Errorf("the next one: %d", status)
			}
		})
	}
}

// TestA112_LateBody: a body that is late is answered 408, and the connection ends. Nothing of a small one has gone to
// the upstream, whatever the method.
func TestA112_LateBody(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "GET"} {
		for _, length := range []int{100, maxHeldBody, maxHeldBody + 1, -1} {
			t.Run(fmt.Sprint(method, length), func(t *testing.T) {
				u := newListening(t)
				h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp")
				if h.bodyTimeout != slowbody.Timeout {
					t.Errorf("a body may take %v", h.bodyTimeout)
				}
				h.bodyTimeout = 100 * time.Millisecond
				c := newFront(t, h).dial(t)
				began := time.Now()
				c.head(method, length)
				if length < 0 {
					c.say("1\r\n{\r\n")
				} else {
					c.say("{")
				}
				status, body := c.answer()
				if status != http.StatusRequestTimeout || body != slowbody.Err.Error() {
					t.Errorf("%d %q", status, body)
				}
				if took := time.Since(began); took < h.bodyTimeout {
					t.Errorf("after %v", took)
				}
				c.wantClosed()
				if 0 < length && length <= maxHeldBody {
					if heard := u.heard(); heard != "" {
						t.Errorf("the upstream has heard of a %s", heard)
					}
				} else if got := receive(t, "the end at the upstream", u.bodies); got != "failed" {
					t.Errorf("the upstream has got %q", got)
				}
			})
		}
	}
}

// TestHalfBody: a client that says no more than half of it is told so, if it still listens; nobody else hears of it.
func TestHalfBody(t *testing.T) {
	u := newListening(t)
	f := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp"))
	for _, sent := range []string{"", "{", toolCall} {
		c := f.dial(t)
		c.head("POST", len(toolCall)+1)
		c.say(sent)
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if status, body := c.answer(); status != http.StatusBadRequest || body != "the request body could not be read" {
			t.Errorf("%q: %d %q", sent, status, body)
		}
		if more, err := io.ReadAll(c.reader); len(more) > 0 {
			t.Errorf("%q: the connection goes on with %q, %v", sent, more, err)
		}

		gone := f.dial(t)
		gone.head("POST", len(toolCall)+1)
		gone.say(sent)
		gone.Close()
	}
	for range 6 {
		if err := receive(t, "the end of the request", f.returned); err != nil {
			t.Error(err)
		}
	}
	if heard := u.heard(); heard != "" {
		t.Errorf("the upstream has heard of a %s", heard)
	}
}

// TestHeldBodyLeavesAtOnce: what is in memory goes on together with the header.
func TestHeldBodyLeavesAtOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	firsts := make(chan string, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 64<<10)
		n, _ := conn.Read(buffer)
		firsts <- string(buffer[:n])
		_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
	}()
	c := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+listener.Addr().String()+"/mcp")).dial(t)
	c.head("POST", len(toolCall))
	c.say(toolCall)
	if first := receive(t, "the request", firsts); !strings.HasSuffix(first, toolCall) {
		t.Errorf("the first read at the upstream ends without the body: %q", first)
	}
	if status, _ := c.answer(); status != http.StatusAccepted {
		t.Errorf("%d", status)
	}
}

// TestExpectContinue: a client that waits until it is asked for its body is asked.
func TestExpectContinue(t *testing.T) {
	for _, length := range []int{len(toolCall), maxHeldBody + 1} {
		u := newListening(t)
		c := newFront(t, fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/mcp")).dial(t)
		c.head("POST", length, "Expect: 100-continue")
		if status, _ := c.answer(); status != http.StatusContinue {
			t.Fatalf("%d bytes: %d", length, status)
		}
		body := toolCall + strings.Repeat(" ", length-len(toolCall))
		c.say(body)
		if got := receive(t, "the body", u.bodies); got != body {
			t.Errorf("%d bytes: %d have arrived", length, len(got))
		}
		status := http.StatusContinue
		for status == http.StatusContinue { // the server says so as well
			status, _ = c.answer()
		}
		if status != http.StatusOK {
			t.Errorf("%d bytes: %d", length, status)
		}
	}
}
