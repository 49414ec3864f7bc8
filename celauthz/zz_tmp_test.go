package celauthz

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTmpTunnel(t *testing.T) {
	s := newSite(t, "allow true")
	got := make(chan string, 1)
	url := s.proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\nsecret")
		_ = buffered.Flush()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		b := make([]byte, 100)
		n, _ := buffered.Read(b)
		got <- string(b[:n])
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 46\r\n\r\n"+list)
	b := make([]byte, 1000)
	n, err := conn.Read(b)
	t.Logf("%q %v", b[:n], err)
	io.WriteString(conn, "tunnelled")
	t.Logf("upstream got %q", <-got)
	n, err = conn.Read(b)
	t.Logf("%q %v", b[:n], err)
}
