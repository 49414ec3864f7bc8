package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// streamPatience is the bound that the documentation gives a stream, and what a busy machine adds to it.
const streamPatience = 60 * time.Second

// eventSource is an upstream that sends an event to every open stream when it is told to.
type eventSource struct {
	next chan struct{}
	left chan struct{}
}

func newEventSource(u *upstream) *eventSource {
	s := &eventSource{next: make(chan struct{}), left: make(chan struct{}, 100)}
	answer := u.Config.Handler
	u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			answer.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-s.next:
			case <-r.Context().Done():
				s.left <- struct{}{}
				return
			}
		}
	})
	return s
}

// openStream opens one, and waits for its first event.
func (g *gateway) openStream(token string) *clientStream {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+g.address+"/mcp", http.NoBody)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	// no timeout: it may last
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		g.t.Fatalf("GET: %d", response.StatusCode)
	}
	s := &clientStream{events: make(chan string, 100), ended: make(chan error, 1)}
	go func() {
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data:") {
				s.events <- lines.Text()
			}
		}
		s.ended <- lines.Err()
	}()
	s.event(g.t)
	return s
}

type clientStream struct {
	events chan string
	ended  chan error
}

func (s *clientStream) event(t *testing.T) {
	t.Helper()
	select {
	case <-s.events:
	case err := <-s.ended:
		t.Fatalf("the stream has ended: %v", err)
	case <-time.After(patience):
		t.Fatal("no event")
	}
}

// end waits for the end, which must look as if the server had ended the stream.
func (s *clientStream) end(t *testing.T, what string) {
	t.Helper()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("%s: the stream breaks off: %v", what, err)
		}
	case <-time.After(streamPatience):
		t.Fatalf("%s: the stream is still open", what)
	}
}

// TestA143_ReloadWithOpenStreams, A144, A145: a stream lives through reloads that change nothing of its, and through
// those that fail; it ends after one that narrows its rules, and the next request is judged by the new ones at once.
func TestA143_ReloadWithOpenStreams(t *testing.T) {
	const site = `http://:PORT {
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
	}
	mcp_authorize {
		RULES
	}
	mcp_proxy http://UPSTREAM/mcp
	header X-Round ROUND
}
`
	config := func(g *gateway, rules string, round int) []byte {
		return g.adapt(strings.NewReplacer("RULES", rules, "ROUND", fmt.Sprint(round)).Replace(site))
	}
	const wide = "allow `jwt.sub == \"alice\"`"
	g := start(t, strings.NewReplacer("RULES", wide, "ROUND", "first").Replace(site))
	source := newEventSource(g.upstream)
	alice := g.token("alice")
	stream := g.openStream(alice)
	for round := range 20 {
		g.load(config(g, wide, round))
		if round%5 == 0 {
			wrong := g.push("POST", "/load", "application/json", []byte(strings.Replace(string(config(g, wide, -1)), "jwt.sub ==", "jwt.sub =", 1)))
			wrong.expect(t, "A145: a wrong rule", http.StatusBadRequest, "")
			g.post(alice, ping).expect(t, "A145: after a wrong rule", http.StatusOK, "")
		}
		source.next <- struct{}{}
		stream.event(t)
	}

	g.load(config(g, "allow `jwt.sub == \"bob\"`", 0))
	g.post(alice, ping).expect(t, "A144: the next request", http.StatusForbidden, "")
	began := time.Now()
	stream.end(t, "A144")
	t.Logf("the stream ended %v after the reload", time.Since(began))
	select {
	case <-source.left:
	case <-time.After(patience):
		t.Error("the request to the upstream goes on")
	}
}

// TestA73_StreamEndsWithItsToken: through the whole gateway.
func TestA73_StreamEndsWithItsToken(t *testing.T) {
	g := start(t, wireSite)
	newEventSource(g.upstream)
	expires := time.Now().Add(3 * time.Second)
	short := g.openStream(g.token("alice", map[string]any{"exp": expires.Unix()}))
	long := g.openStream(g.token("alice"))
	short.end(t, "A73")
	if time.Now().Before(expires.Add(-time.Second)) {
		t.Error("the stream has ended before its token")
	}
	select {
	case err := <-long.ended:
		t.Errorf("the other stream has ended as well: %v", err)
	default:
	}
}

// TestA148_ErrorRoutes: where the site shapes its errors, it shapes these.
func TestA148_ErrorRoutes(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	down := strings.Replace(wireSite, "UPSTREAM", dead.Addr().String(), 1)
	g := start(t, down)
	alice := g.token("alice")
	g.post(alice, readFile).expect(t, "no error route", http.StatusBadGateway,
		`{"jsonrpc":"2.0","id":3,"error":{"code":-31503,"message":"the server cannot be reached"}}`)
	g.load(g.adapt(strings.TrimSuffix(strings.TrimSpace(down), "}") + `
	handle_errors 502 {
		respond "shaped {err.status_code}"
	}
}
`))
	g.post(alice, readFile).expect(t, "an error route", http.StatusBadGateway, "shaped 502")
	g.send("GET", "/mcp", alice, "").expect(t, "an error route for GET", http.StatusBadGateway, "shaped 502")
}

// TestExitWithOpenStreams: Caddy stops at once, although a stream of the configuration in use and one of an older
// configuration are open, and a client does not read.
func TestExitWithOpenStreams(t *testing.T) {
	binary, err := caddyBinary()
	if err != nil {
		t.Fatal(err)
	}
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/mcp" && r.Header.Get("X-Flood") != "" {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, "data: "+strings.Repeat("x", 1<<16)+"\n\n"); err != nil {
					return
				}
			}
		}
		<-r.Context().Done()
	}))
	t.Cleanup(behind.Close)
	t.Cleanup(behind.CloseClientConnections)
	port, admin := freePort(t), freePort(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	write := func(round string) {
		text := fmt.Sprintf("{\n\tadmin 127.0.0.1:%s\n\tpersist_config off\n\tauto_https off\n}\nhttp://127.0.0.1:%s {\n\tbind 127.0.0.1\n\theader X-Round %s\n\tmcp_proxy %s/mcp {\n\t\tpublic\n\t}\n}\n",
			admin, port, round, behind.URL)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary, args...)
		cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
		return cmd
	}
	open := func(headers ...string) {
		var response *http.Response
		waitFor(t, "Caddy", func() bool {
			r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://127.0.0.1:"+port+"/mcp", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i+1 < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			response, err = http.DefaultTransport.RoundTrip(r)
			return err == nil
		})
		t.Cleanup(func() { response.Body.Close() })
		if _, err := io.ReadFull(response.Body, make([]byte, 9)); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%d, %v", response.StatusCode, err)
		}
	}

	write("1")
	caddy := command("run", "--config", file)
	var log strings.Builder
	caddy.Stdout, caddy.Stderr = &log, &log
	caddy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := caddy.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Wait() }()
	open()
	write("2")
	if out, err := command("reload", "--config", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	open()
	open("X-Flood", "1")
	began := time.Now()
	if err := caddy.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stopped:
		var exit *exec.ExitError
		if errors.As(err, &exit) || err != nil {
			t.Errorf("%v\n%s", err, log.String())
		}
		t.Logf("it took %v", time.Since(began))
	case <-time.After(patience):
		_ = caddy.Process.Kill()
		t.Fatalf("Caddy waits for its streams\n%s", log.String())
	}
	if strings.Contains(log.String(), "panic") || strings.Contains(log.String(), "goroutine ") {
		t.Errorf("a panic:\n%s", log.String())
	}
}
