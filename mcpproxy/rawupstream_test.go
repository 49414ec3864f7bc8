package mcpproxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// rawUpstream answers with the bytes it is told to, and keeps those it got.
type rawUpstream struct {
	net.Listener
	answer string
	// hangsUp: the connection ends behind the answer.
	hangsUp bool

	mu  sync.Mutex
	got bytes.Buffer
}

func newRawUpstream(t *testing.T, answer string, hangsUp bool) *rawUpstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &rawUpstream{Listener: listener, answer: answer, hangsUp: hangsUp}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go u.serve(conn)
		}
	}()
	return u
}

func (u *rawUpstream) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(io.TeeReader(conn, u))
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if _, err := io.WriteString(conn, u.answer); err != nil || u.hangsUp {
			return
		}
	}
}

// Write implements io.Writer.
func (u *rawUpstream) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.got.Write(p)
}

// take returns the bytes since the last call.
func (u *rawUpstream) take() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer u.got.Reset()
	return u.got.String()
}
