package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// slowLimit is when a client that sends a byte a second must be gone, counted from its head.
	slowLimit = 30 * time.Second
	// slowCalls is how many calls of others are measured, so that the slowest hundredth of them says something.
	slowCalls = 1000
	// The aim is that the slowest calls of others take less than twice as long as without slow clients. Whether they do
	// depends on what else a machine is doing; beyond both of these, something is wrong.
	slowRatio = 10.0
	slowP99   = 250 * time.Millisecond
)

// TestSlowClients: A112. A thousand clients send their bodies at a byte a second. They are cut off, and others hardly
// notice them: with and without mcp_authorize in front of mcp_proxy, and where they have no token. The figures of a
// plain reverse_proxy, which cuts nobody off, say how much of that is not the gateway's doing.
func TestSlowClients(t *testing.T) {
	demo := startDemo(t)
	upstream, err := url.Parse(demo)
	if err != nil {
		t.Fatal(err)
	}
	alice := token(t, "alice")
	withRules := site("allow true", demo)
	withoutRules := regexp.MustCompile(`(?s)\tmcp_authorize \{.*?\n\t\}\n`).ReplaceAllString(withRules, "")
	if withRules == withoutRules {
		t.Fatal("the rules are still there")
	}
	for _, test := range []struct {
		name, site, token string
		status            int // 0: nobody is cut off
	}{
		{"rules", withRules, alice, http.StatusRequestTimeout},
		{"no rules", withoutRules, alice, http.StatusRequestTimeout},
		{"no token", withRules, "none", http.StatusUnauthorized},
		{"reverse_proxy", "\treverse_proxy " + upstream.Host, alice, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := startGateway(t, test.site)
			others := rawClient{url: g.url(), token: alice}
			others.latencies(t, slowCalls/2) // connections, and what is made once
			before := others.latencies(t, slowCalls)
			slow := startSlowClients(t, g, test.token)
			during := others.latencies(t, slowCalls)
			there := slow.open.Load()
			if test.status == 0 {
				slow.leave()
			}
			clients := slow.wait()
			compareLatencies(t, test.name, before, during)
			t.Logf("%s: %d of %d slow clients were there until the last of these calls", test.name, there, len(clients))
			if test.status != 0 {
				checkSlowClients(t, test.name, clients, test.status)
			}
		})
	}
}

// compareLatencies says how long calls took, and fails if they took far too long.
func compareLatencies(t *testing.T, name string, before, during []time.Duration) {
	t.Helper()
	median, slowest := slowCalls/2, slowCalls*99/100
	ratio := func(i int) float64 { return float64(during[i]) / float64(before[i]) }
	t.Logf("%s: others waited %v and %v before, %v and %v meanwhile (median and 99th of 100 of %d calls), %.2f and %.2f times as long", name,
		before[median], before[slowest], during[median], during[slowest], slowCalls, ratio(median), ratio(slowest))
	if ratio(slowest) > slowRatio && during[slowest] > slowP99 {
		t.Errorf("%s: that is more than %v times as long, and more than %v", name, slowRatio, slowP99)
	}
}

// checkSlowClients checks that all were cut off in time, and knew why.
func checkSlowClients(t *testing.T, name string, clients []slowClient, status int) {
	t.Helper()
	answered := 0
	var longest time.Duration
	for _, c := range clients {
		if c.err != nil {
			t.Errorf("%s: a slow client: %v", name, c.err)
		}
		if c.status == status {
			answered++
		}
		longest = max(longest, c.lasted)
	}
	t.Logf("%s: the last of them was gone %v after its head, %d were answered %d", name, longest, answered, status)
	if answered == 0 {
		t.Errorf("%s: no slow client was told why", name)
	}
}

// slowClients are connections that send a byte a second, each at a time of its own.
type slowClients struct {
	clients []slowClient
	open    atomic.Int64
	leave   context.CancelFunc
	running sync.WaitGroup
}

// slowClient is how one of them fared.
type slowClient struct {
	status int           // of the answer, 0 if there was none
	lasted time.Duration // from its head to the end of its connection
	err    error
}

// startSlowClients starts them, and waits until all have sent their heads.
func startSlowClients(t *testing.T, g *gateway, token string) *slowClients {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	t.Cleanup(leave)
	s := &slowClients{clients: make([]slowClient, manyClients), leave: leave}
	head := fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"+
		"Content-Length: 1000\r\n\r\n", token)
	var starting sync.WaitGroup
	for i := range s.clients {
		starting.Add(1)
		s.running.Go(func() {
			time.Sleep(time.Duration(i) * time.Second / manyClients) // clients are not in step
			conn, err := net.Dial("tcp", loopback(g.port))
			if err == nil {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				_, err = io.WriteString(conn, head)
			}
			s.open.Add(1)
			defer s.open.Add(-1)
			starting.Done()
			if s.clients[i].err = err; err == nil {
				s.clients[i].drip(conn)
			}
		})
	}
	starting.Wait()
	return s
}

// wait waits until all are gone.
func (s *slowClients) wait() []slowClient {
	s.running.Wait()
	return s.clients
}

// drip sends a body, a byte a second, until the connection has ended.
func (c *slowClient) drip(conn net.Conn) {
	began := time.Now()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				_, _ = io.WriteString(conn, " ")
			}
		}
	}()
	if c.err = conn.SetReadDeadline(began.Add(slowLimit)); c.err != nil {
		return
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err == nil {
		c.status = response.StatusCode
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		_, err = reader.ReadByte()
	}
	c.lasted = time.Since(began)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.err = fmt.Errorf("still there after %v, answered %d", c.lasted, c.status)
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
