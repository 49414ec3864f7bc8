package demo

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What the quickstart shows: one POST, no initialize, one JSON document.
func TestSinglePost(t *testing.T) {
	base, _ := serve(t, Options{})
	req := newPost(t, base, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_me","arguments":{}}}`)
	req.Header.Set("X-User", "bob")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"You are bob."}],"structuredContent":{"user":"bob"}}}`
	if got := strings.TrimSpace(string(body)); got != want || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s of type %s, want %s", got, resp.Header.Get("Content-Type"), want)
	}
}

func TestServeStopsWithAnOpenStream(t *testing.T) {
	base, stop := serve(t, Options{Stateful: true, SSE: true})
	resp, err := http.DefaultClient.Do(newPost(t, base,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", resp.Header.Get("Mcp-Session-Id"))
	req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("status %d, want 200", stream.StatusCode)
	}

	if took := stop(); took > shutdownTimeout {
		t.Errorf("stopping took %v: it waited for the stream", took)
	}
	if _, err := http.Get(base + Path); err == nil {
		t.Error("the port is still open")
	}
}

// serve runs Serve until the test ends or stop is called, which tells how
// long stopping took.
func serve(t *testing.T, opts Options) (base string, stop func() time.Duration) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, Handler(opts)) }()
	stopped := false
	stop = func() time.Duration {
		if stopped {
			return 0
		}
		stopped = true
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return time.Since(start)
	}
	t.Cleanup(func() { stop() })
	return "http://" + ln.Addr().String(), stop
}

func newPost(t *testing.T, base, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+Path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	return req
}
