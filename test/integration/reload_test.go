package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// reloadSite is what the reload tests run. KIND and ACTION make equivalent configurations that differ, since Caddy
// does not reload what has not changed. Idle connections to the upstream go quickly, because a transport of an old
// configuration keeps its own until they time out.
const reloadSite = `http://:PORT {
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
		realm KIND
	}
	mcp_authorize {
		allow jwt.sub == "alice"
		deny mcp.tool.name == "KIND"
	}
	mcp_proxy http://UPSTREAM/mcp {
		transport http {
			keepalive 100ms
		}
	}
}
`

// reloads returns two configurations that decide alike.
func (g *gateway) reloads() [2][]byte {
	g.t.Helper()
	return [2][]byte{
		g.adapt(strings.ReplaceAll(reloadSite, "KIND", "even")),
		g.adapt(strings.ReplaceAll(reloadSite, "KIND", "odd")),
	}
}

// TestReloadWithCallsInFlight: A146. A call that has arrived is answered, whatever happens to the configuration.
func TestReloadWithCallsInFlight(t *testing.T) {
	const reloads, clients = 40, 8
	g := start(t, strings.ReplaceAll(reloadSite, "KIND", "first"))
	alice, configs := g.token("alice"), g.reloads()
	for i := range reloads {
		release := g.upstream.hold()
		failures := make(chan error, clients)
		for n := range clients {
			go func() {
				err := errDropped
				for errors.Is(err, errDropped) {
					err = callOnce(oneShot, g.address, alice, fmt.Sprintf("%d-%d", i, n), http.StatusOK)
				}
				failures <- err
			}()
		}
		waitFor(t, "the calls to arrive", func() bool { return g.upstream.count() == clients })
		g.load(configs[i%2])
		release()
		for range clients {
			if err := <-failures; err != nil {
				t.Error(err)
			}
		}
		g.reached("in flight", clients)
	}
}

// TestReloadUnderLoad: A146. Clients go on calling while the configuration is reloaded 40 times. Every answer is the
// right one; and where there is none, the call has not been made, so that a client may make it again.
func TestReloadUnderLoad(t *testing.T) {
	const (
		reloads = 40
		clients = 4
		// betweenReloads is how many calls are answered before the next reload.
		betweenReloads = 50
		// maxCalls bounds what one client sends.
		maxCalls = 20_000
	)
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprintf("kept connections %t", kept), func(t *testing.T) {
			g := start(t, strings.ReplaceAll(reloadSite, "KIND", "first"))
			transport := &http.Transport{DisableKeepAlives: !kept, MaxIdleConnsPerHost: clients}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			alice, bob := g.token("alice"), g.token("bob")

			var answered atomic.Int64
			var dropped sync.Map // the ids of the calls without an answer
			done := make(chan struct{})
			var running sync.WaitGroup
			for n := range clients {
				running.Go(func() {
					who, token, status := "alice", alice, http.StatusOK
					if n%2 == 1 {
						who, token, status = "bob", bob, http.StatusForbidden
					}
					for call := range maxCalls {
						select {
						case <-done:
							return
						default:
						}
						id := fmt.Sprintf("%s-%d-%d", who, n, call)
						switch err := callOnce(client, g.address, token, id, status); {
						case err == nil:
							answered.Add(1)
						case errors.Is(err, errDropped):
							dropped.Store(id, true)
						default:
							t.Error(err)
							return
						}
					}
				})
			}

			configs := g.reloads()
			for i := range reloads {
				next := answered.Load() + betweenReloads
				waitFor(t, "calls between two reloads", func() bool { return t.Failed() || answered.Load() >= next })
				if err := caddy.Load(configs[i%2], false); err != nil {
					t.Error(err)
				}
			}
			close(done)
			running.Wait()

			seen := map[string]bool{}
			for _, r := range g.upstream.take() {
				var message struct{ ID string }
				if err := json.Unmarshal([]byte(r.body), &message); err != nil {
					t.Fatal(err)
				}
				if _, ok := dropped.Load(message.ID); ok {
					t.Errorf("call %s has been made, but there was no answer", message.ID)
				}
				if seen[message.ID] {
					t.Errorf("call %s has been made twice", message.ID)
				}
				if !strings.HasPrefix(message.ID, "alice") {
					t.Errorf("call %s has been made, but is not allowed", message.ID)
				}
				seen[message.ID] = true
			}
			count := 0
			dropped.Range(func(any, any) bool { count++; return true })
			t.Logf("%d calls answered, %d dropped by a server that was shutting down", answered.Load(), count)
		})
	}
}

// errDropped is what isDropped describes.
var errDropped = errors.New("the server was shutting down")

// callOnce calls a tool and checks the answer, which must be to this very call.
func callOnce(client *http.Client, address, token, id string, status int) error {
	message := fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":"read_file"}}`, id)
	answering := false
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotFirstResponseByte: func() { answering = true },
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/mcp", strings.NewReader(message))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(r)
	if err != nil {
		if !answering && isDropped(err) {
			return errDropped
		}
		return fmt.Errorf("call %s: %w", id, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("call %s: the answer breaks off: %w", id, err)
	}
	if response.StatusCode != status {
		return fmt.Errorf("call %s: %d %s, want %d", id, response.StatusCode, body, status)
	}
	if status == http.StatusOK {
		var answer struct {
			ID     string         `json:"id"`
			Result map[string]any `json:"result"`
		}
		if err := json.Unmarshal(body, &answer); err != nil || answer.ID != id || answer.Result == nil {
			return fmt.Errorf("call %s: %s", id, body)
		}
	}
	return nil
}

// TestReloadsLeakNothing: A147. After 200 reloads, with calls and refused configurations in between, no goroutine of ours
// is left over; and none at all once the gateway is out of the configuration.
func TestReloadsLeakNothing(t *testing.T) {
	const reloads = 200
	g := start(t, strings.ReplaceAll(reloadSite, "KIND", "first"))
	alice := g.token("alice")
	configs := g.reloads()
	wrong := bytes.ReplaceAll(configs[0], []byte(`jwt.sub ==`), []byte(`jwt.sub =`))
	round := func(i int) {
		g.load(configs[i%2])
		if i%10 == 0 && caddy.Load(wrong, false) == nil {
			t.Fatal("a wrong rule has been loaded")
		}
		g.post(alice, readFile).expect(t, "after a reload", http.StatusOK, `"result"`)
		g.post("", readFile).expect(t, "after a reload", http.StatusUnauthorized, "")
	}
	// what starts once is not a leak
	for i := range 4 {
		round(i)
	}
	settle(t)
	base, ours := runtime.NumGoroutine(), len(ourGoroutines())
	for i := range reloads {
		round(i)
	}
	waitForGoroutines(t, "the goroutines of old configurations to end", base+10, ours)

	g.load(g.adapt("http://:PORT {\n\trespond ok\n}\n"))
	waitForGoroutines(t, "all goroutines of the gateway to end", base+10, 0)
}

// waitForGoroutines waits until there are no more goroutines than these, and no more of ours.
func waitForGoroutines(t *testing.T, what string, all, ours int) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%d goroutines, want %d; ours:\n%s", runtime.NumGoroutine(), all, strings.Join(ourGoroutines(), "\n\n"))
		}
	})
	waitFor(t, what, func() bool { return runtime.NumGoroutine() <= all && len(ourGoroutines()) <= ours })
}

// settle waits until the number of goroutines stays the same for a while.
func settle(t *testing.T) {
	t.Helper()
	last, since := -1, time.Now()
	waitFor(t, "the goroutines to settle", func() bool {
		if now := runtime.NumGoroutine(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
}

// ourGoroutines are the stacks of the goroutines with code of the gateway in them, but for those of the tests.
func ourGoroutines() []string {
	buffer := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buffer, true)
		if n < len(buffer) {
			buffer = buffer[:n]
			break
		}
		buffer = make([]byte, 2*len(buffer))
	}
	var ours []string
	for stack := range bytes.SplitSeq(buffer, []byte("\n\n")) {
		text := strings.ReplaceAll(string(stack), "github.com/caddymcp/gateway/test/", "")
		if strings.Contains(text, "github.com/caddymcp/gateway") {
			ours = append(ours, string(stack))
		}
	}
	return ours
}
