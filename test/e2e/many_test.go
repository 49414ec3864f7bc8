package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// manyClients is how many connections these tests open.
	manyClients = 1000
	// slowBodyLimit is what the documentation gives a body, with some patience for a busy machine.
	slowBodyLimit = 45 * time.Second
	// memoryLimit is how much more memory an idle stream may take than with a plain reverse_proxy. The aim is a few
	// percent; this is where something is wrong.
	memoryLimit = 2.0
)

// TestSlowClients: A112. A thousand clients send their bodies byte by byte. They are cut off, and cost the others
// nothing; with and without mcp_authorize in front of mcp_proxy.
func TestSlowClients(t *testing.T) {
	demo := startDemo(t)
	withRules := site("allow true", demo)
	withoutRules := regexp.MustCompile(`(?s)\tmcp_authorize \{.*?\n\t\}\n`).ReplaceAllString(withRules, "")
	if withRules == withoutRules {
		t.Fatal("the rules are still there")
	}
	for name, text := range map[string]string{"rules": withRules, "no rules": withoutRules} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, text)
			alice := token(t, "alice")
			c := rawClient{url: g.url(), token: alice}
			before := c.latencies(t, 200)

			began := time.Now()
			var open, answered atomic.Int64
			var clients sync.WaitGroup
			for range manyClients / 2 {
				clients.Go(func() {
					conn, err := net.Dial("tcp", loopback(g.port))
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					open.Add(1)
					defer open.Add(-1)
					if status, ok := drip(conn, alice, began.Add(slowBodyLimit)); !ok {
						t.Errorf("a slow client is still there after %v", slowBodyLimit)
					} else if status == http.StatusRequestTimeout {
						answered.Add(1)
					}
				})
			}
			poll(startLimit, func() bool { return open.Load() == manyClients/2 })
			during := c.latencies(t, 200)
			clients.Wait()
			t.Logf("%d slow clients, %d of them answered 408, gone after %v", manyClients/2, answered.Load(), time.Since(began))
			t.Logf("others waited %v and %v before, %v and %v meanwhile (median, 99th of 100)", before[100], before[198], during[100], during[198])
			if answered.Load() == 0 {
				t.Error("no slow client was told why")
			}
		})
	}
}

// drip sends a request whose body comes at one byte a second, and returns the status of the answer; it is not ok when
// the connection is still open then.
func drip(conn net.Conn, token string, until time.Time) (status int, ok bool) {
	fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n", token)
	done := make(chan int, 1)
	go func() {
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			done <- 0
			return
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		done <- response.StatusCode
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case status = <-done:
			return status, true
		case now := <-tick.C:
			if now.After(until) {
				return 0, false
			}
			_, _ = io.WriteString(conn, " ")
		}
	}
}

// latencies makes calls, one after the other, and returns how long each took, sorted.
func (c *rawClient) latencies(t *testing.T, calls int) (took []time.Duration) {
	t.Helper()
	for range calls {
		began := time.Now()
		if got := c.post(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_me"}}`); got.status != http.StatusOK {
			t.Fatalf("%+v", got)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

// TestIdleStreams compares the memory of a stream that has nothing to tell with what a plain reverse_proxy takes.
func TestIdleStreams(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(upstream.Close)
	t.Cleanup(upstream.CloseClientConnections)
	plain := streamMemory(t, fmt.Sprintf("\treverse_proxy %s", upstream.URL))
	guarded := streamMemory(t, site("allow `mcp.tool.name.startsWith(\"read_\") && jwt.sub == \"alice\"`", upstream.URL))
	ratio := float64(guarded) / float64(plain)
	t.Logf("an idle stream takes %d bytes through reverse_proxy, %d through the gateway: %.2f times as much", plain, guarded, ratio)
	if ratio > memoryLimit {
		t.Errorf("more than %.1f times as much", memoryLimit)
	}
}

// streamMemory is how many bytes an idle stream takes in a gateway with this site.
func streamMemory(t *testing.T, text string) int {
	t.Helper()
	g := startGateway(t, text)
	alice := token(t, "alice")
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	open := func(count int) {
		var opening sync.WaitGroup
		for range count {
			opening.Go(func() {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url(), http.NoBody)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer "+alice)
				response, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = response.Body.Close() })
				line, err := bufio.NewReaderSize(response.Body, 16).ReadString('\n')
				if err != nil || !strings.HasPrefix(line, "data:") {
					t.Errorf("%q, %v", line, err)
				}
			})
		}
		opening.Wait()
	}
	open(50) // what is made once
	before := g.memory(t)
	for range 10 {
		open(manyClients / 10)
	}
	return (g.memory(t) - before) / manyClients
}

var (
	heapInUse  = regexp.MustCompile(`\n# HeapAlloc = (\d+)\n`)
	stackInUse = regexp.MustCompile(`\n# Stack = (\d+) /`)
)

// memory is how many bytes of heap and stacks the gateway uses after a collection. What pools hold is gone after two.
func (g *gateway) memory(t *testing.T) int {
	t.Helper()
	for range 2 {
		g.heap(t)
	}
	return g.profile(t, "heap?gc=1&debug=1", heapInUse) + g.profile(t, "heap?debug=1", stackInUse)
}
