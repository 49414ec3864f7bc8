package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
)

const (
	// manyClients is how many connections these tests open.
	manyClients = 1000
	// memoryLimit is how much more memory an idle stream may take than with a plain reverse_proxy. The aim is a few
	// percent; this is where something is wrong.
	memoryLimit = 2.0
)

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
