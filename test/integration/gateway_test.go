package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/internal/mcptest/sockets"
)

// patience is how long a test waits for what must happen. It never is how long anything takes.
const patience = 30 * time.Second

// gateway is a running Caddy with the plugin, in this process, with a fake MCP server behind it. Only one runs at a
// time: Caddy has one configuration a process.
type gateway struct {
	t *testing.T
	// address is where it listens, 127.0.0.1:port.
	address string
	// admin is the URL of its admin API.
	admin string
	// logFile holds its log, one JSON object a line, DEBUG included.
	logFile  string
	upstream *upstream
	issuer   *mcptest.Issuer
	fill     *strings.Replacer
}

// start runs Caddy with these sites. In their text, PORT is the port to listen on, UPSTREAM the address of the MCP
// server and KEYS the file of the issuer's keys; the issuer's name is https://idp.example.com.
func start(t *testing.T, sites string) *gateway {
	t.Helper()
	dir := t.TempDir()
	key := mcptest.NewKey("EdDSA", "k1")
	keys := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(keys, []byte(mcptest.Set(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	port, adminPort := freePort(t), freePort(t)
	g := &gateway{
		t:        t,
		address:  "127.0.0.1:" + port,
		admin:    "http://127.0.0.1:" + adminPort,
		logFile:  filepath.Join(dir, "log.json"),
		upstream: newUpstream(t),
		issuer:   &mcptest.Issuer{Name: "https://idp.example.com", Key: key},
	}
	g.fill = strings.NewReplacer(
		"PORT", port, "ADMIN", adminPort, "UPSTREAM", g.upstream.Listener.Addr().String(), "KEYS", keys,
		"STORAGE", filepath.Join(workDir, "storage"), "LOG", g.logFile)
	g.load(g.adapt(sites))
	t.Cleanup(func() {
		// the admin endpoint outlives Stop, but not a configuration without it
		off := []byte(`{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}}}`)
		if err := errors.Join(caddy.Load(off, true), caddy.Stop()); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *gateway) load(config []byte) {
	g.t.Helper()
	if err := caddy.Load(config, false); err != nil {
		g.t.Fatal(err)
	}
	g.waitForReload()
}

// waitForReload waits until the configuration that a reload has replaced accepts no more connections.
func (g *gateway) waitForReload() {
	g.t.Helper()
	waitFor(g.t, "the old listeners to close", func() bool {
		replaced, err := sockets.IsReplaced(g.address, strings.TrimPrefix(g.admin, "http://"))
		if err != nil {
			g.t.Fatal(err)
		}
		return replaced
	})
}

// adapt returns the JSON of a whole configuration with these sites.
func (g *gateway) adapt(sites string) []byte {
	g.t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(g.caddyfile(sites)), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return adapted
}

func (g *gateway) caddyfile(sites string) string {
	return g.fill.Replace(`{
	admin 127.0.0.1:ADMIN
	default_bind 127.0.0.1
	auto_https off
	persist_config off
	storage file_system STORAGE
	log {
		output file LOG {
			roll_disabled
		}
		format json
		level DEBUG
	}
}

` + sites)
}

// freePort finds a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// token is one of the issuer's, for alice, say.
func (g *gateway) token(sub string, changes ...map[string]any) string {
	return g.issuer.Token(sub, changes...)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// oneShot dials anew for every request, so that no request can meet a connection of an older configuration.
var oneShot = &http.Client{
	Transport: &http.Transport{DisableKeepAlives: true},
	Timeout:   patience,
}

// post sends a message with a token, or without one when it is empty.
func (g *gateway) post(token, message string) answer {
	g.t.Helper()
	return g.send("POST", "/mcp", token, message)
}

func (g *gateway) send(method, path, token, body string, headers ...string) answer {
	g.t.Helper()
	r, err := http.NewRequest(method, "http://"+g.address+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
		}
	}
	return do(g.t, r)
}

// do sends a request, and sends it again when a server that is just being replaced by a reload drops it.
func do(t *testing.T, r *http.Request) answer {
	t.Helper()
	for {
		response, err := oneShot.Do(r)
		if err == nil {
			return readAnswer(t, response)
		}
		if !isDropped(err) {
			t.Fatal(err)
		}
		if r.Body, err = r.GetBody(); err != nil {
			t.Fatal(err)
		}
	}
}

// isDropped reports whether a request failed because the server that it was sent to was shutting down, as Caddy's old
// server does in a reload. Connections that wait to be accepted are reset by the kernel, idle ones are closed, and
// net/http closes one without an answer when it has read a request from it and then sees that it has to stop.
// TestReloadUnderLoad shows that no handler has seen such a request.
func isDropped(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), "http: server closed idle connection")
}

func readAnswer(t *testing.T, response *http.Response) answer {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// raw sends bytes as they are, one request, and reads the answer.
func (g *gateway) raw(request string) answer {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		g.t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		g.t.Fatal(err)
	}
	return readAnswer(g.t, response)
}

// rawPost is a POST of a message to a path; each of the header lines stands in it as it is.
func rawPost(path, message string, headerLines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n",
		path, len(message))
	for _, line := range headerLines {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n" + message
}

// Messages.
const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`
	ping       = `{"jsonrpc":"2.0","id":2,"method":"ping"}`
	readFile   = `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"README.md"}}}`
)

// push sends something to the admin API. What it changes is in force when push returns.
func (g *gateway) push(method, path, contentType string, body []byte) answer {
	g.t.Helper()
	r, err := http.NewRequest(method, g.admin+path, bytes.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	a := do(g.t, r)
	g.waitForReload()
	return a
}

// config is the running configuration.
func (g *gateway) config() string {
	g.t.Helper()
	a := g.push("GET", "/config/", "application/json", nil)
	if a.status != http.StatusOK {
		g.t.Fatalf("GET /config/: %d %s", a.status, a.body)
	}
	return a.body
}

// pathOf finds a handler in the running configuration and returns its path below /config.
func (g *gateway) pathOf(handler string) string {
	g.t.Helper()
	var tree any
	if err := json.Unmarshal([]byte(g.config()), &tree); err != nil {
		g.t.Fatal(err)
	}
	path, ok := findHandler(tree, handler)
	if !ok {
		g.t.Fatalf("no handler %s in the configuration", handler)
	}
	return "/config" + path
}

func findHandler(tree any, handler string) (path string, ok bool) {
	switch node := tree.(type) {
	case map[string]any:
		if node["handler"] == handler {
			return "", true
		}
		for name, value := range node {
			if rest, ok := findHandler(value, handler); ok {
				return "/" + name + rest, true
			}
		}
	case []any:
		for i, value := range node {
			if rest, ok := findHandler(value, handler); ok {
				return fmt.Sprintf("/%d%s", i, rest), true
			}
		}
	}
	return "", false
}

// upstream is a fake MCP server that remembers what reaches it.
type upstream struct {
	*httptest.Server
	mu       sync.Mutex
	requests []seen
	// held, when it is set, is what an answer waits for.
	held chan struct{}
	// sessionID, when it is set, is in the header of every answer.
	sessionID string
	// result, when it is set, is the result of every answer.
	result string
}

// seen is one request as the upstream got it.
type seen struct {
	method, uri, host string
	header            http.Header
	body              string
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := new(upstream)
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	u.requests = append(u.requests, seen{r.Method, r.RequestURI, r.Host, r.Header.Clone(), string(body)})
	held, fixed := u.held, u.result
	u.mu.Unlock()
	if held != nil {
		<-held
	}
	if u.sessionID != "" {
		w.Header().Set("Mcp-Session-Id", u.sessionID)
	}
	var message struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	if err := json.Unmarshal(body, &message); err != nil || message.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	result := `{}`
	if message.Method == "tools/call" {
		result = `{"content":[{"type":"text","text":"the file"}]}`
	}
	if fixed != "" {
		result = fixed
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, message.ID, result)
}

// take returns what has arrived since the last call.
func (u *upstream) take() []seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	requests := u.requests
	u.requests = nil
	return requests
}

// answer makes this the result of every answer from now on; "" ends that.
func (u *upstream) answer(result string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.result = result
}

// hold makes the answers to all requests from now on wait until release is called.
func (u *upstream) hold() (release func()) {
	held := make(chan struct{})
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held = held
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.held = nil
		close(held)
	}
}

// count is how many requests have arrived since the last take.
func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

// waitFor polls a condition until it holds.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// expect compares status and the text of an answer; an empty text is not compared.
func (a answer) expect(t *testing.T, what string, status int, text string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, text) {
		t.Errorf("%s: %d %q, want %d %q", what, a.status, a.body, status, text)
	}
}

// reached expects so many requests to have reached the upstream since the last look, and returns them.
func (g *gateway) reached(what string, want int) []seen {
	g.t.Helper()
	requests := g.upstream.take()
	if len(requests) != want {
		g.t.Errorf("%s: %d requests reached the upstream, want %d: %v", what, len(requests), want, requests)
	}
	return requests
}
