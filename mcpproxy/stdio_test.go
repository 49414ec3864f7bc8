package mcpproxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/mcpproxy/stdio"
)

// fakeServer makes this test binary a server that tells its process id and its environment.
const fakeServer = "MCP_FAKE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(fakeServer) == "" {
		os.Exit(m.Run())
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 8<<20)
	var held json.RawMessage
	for lines.Scan() {
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct{ Name string }
		}
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil || m.ID == nil {
			continue
		}
		switch {
		case m.Method == "subscriptions/listen": // its answer comes last, if ever
			continue
		case m.Params.Name == "hold": // until there is a ping
			held = m.ID
			fmt.Fprintln(os.Stdout, `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
			continue
		case m.Method == "ping" && held != nil:
			fmt.Fprintf(os.Stdout, `{"jsonrpc":"2.0","id":%s,"result":"held"}`+"\n", held)
		}
		self, err := json.Marshal(map[string]any{"pid": os.Getpid(), "env": os.Environ(), "line": lines.Text()})
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(os.Stdout, `{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID, self)
	}
}

// stdioConfig is the JSON of a handler whose server is this test binary.
func stdioConfig(t *testing.T, more string) string {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"public":true,"stdio":{"command":%q,"env":{%q:"1"}%s}}`, binary, fakeServer, more)
}

const initialize = `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25"}}`

// self is what the server says of itself.
type self struct {
	Pid  int
	Env  []string
	Line string
}

func selfOf(t *testing.T, w *httptest.ResponseRecorder) self {
	t.Helper()
	var m struct{ Result *self }
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || m.Result == nil {
		t.Fatalf("%v: %d %s", err, w.Code, w.Body)
	}
	return *m.Result
}

func there(pid int) bool {
	_, err := os.Stat("/proc/" + strconv.Itoa(pid))
	return err == nil
}

// TestStdio: requests go to the program, and credentials do not.
func TestStdio(t *testing.T) {
	t.Setenv("MCP_TEST_VALUE", "from outside")
	h := fromJSON(t, stdioConfig(t, `,"args":["{env.MCP_TEST_VALUE}"]`))
	if h.Stdio.Args[0] != "from outside" {
		t.Errorf("arguments %q", h.Stdio.Args)
	}
	w := serve(t, h, post("/mcp", initialize, "Authorization", "Bearer secret"), alice)
	if w.Code != http.StatusOK || w.Header().Get("Mcp-Session-Id") == "" {
		t.Fatalf("%d %q %s", w.Code, w.Header(), w.Body)
	}
	got := selfOf(t, w)
	if len(got.Env) != 1 || strings.Contains(got.Line, "secret") {
		t.Errorf("the server has %+v", got)
	}
	// the session is Alice's
	bob := &reqctx.Identity{Issuer: alice.Issuer, Subject: "bob"}
	request := func() *http.Request {
		return post("/mcp", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Mcp-Session-Id", w.Header().Get("Mcp-Session-Id"))
	}
	if w := serve(t, h, request(), bob); w.Code != http.StatusNotFound {
		t.Errorf("Bob: %d %s", w.Code, w.Body)
	}
	if w := serve(t, h, request(), alice); w.Code != http.StatusOK || selfOf(t, w).Pid != got.Pid {
		t.Errorf("Alice: %d %s", w.Code, w.Body)
	}
}

// TestStdioNeedsJWT: the checks of mcp_proxy come first.
func TestStdioNeedsJWT(t *testing.T) {
	h := fromJSON(t, strings.Replace(stdioConfig(t, ""), `"public":true,`, "", 1))
	if w := serve(t, h, post("/mcp", initialize), nil); w.Code != http.StatusForbidden {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestStdioJudgedMessage: what has been judged is not judged again; its bytes go on.
func TestStdioJudgedMessage(t *testing.T) {
	h := fromJSON(t, stdioConfig(t, ""))
	// its size is one that only mcp_authorize could have let pass
	body := `{"jsonrpc":"2.0","id":"big","method":"tools/call","params":{"name":"t","arguments":{"a":"` + strings.Repeat("x", 5<<20) + `"}}}`
	m, err := mcpwire.Read([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for judged, want := range map[*mcpwire.Message]int{nil: http.StatusRequestEntityTooLarge, m: http.StatusOK} {
		r, state := reqctx.Ensure(post("/mcp", body))
		state.Message = judged
		w := serve(t, h, r, alice)
		if w.Code != want {
			t.Errorf("%d, want %d", w.Code, want)
		}
		if want == http.StatusOK && !strings.Contains(selfOf(t, w).Line, body[len(`{"jsonrpc":"2.0","id":"big"`):]) {
			t.Error("the server has seen something else")
		}
	}
}

// TestStdioReload: a configuration that says the same has the same processes, and the last one that is cleaned up ends
// them.
func TestStdioReload(t *testing.T) {
	load := func(config string) (*Handler, func()) {
		ctx, cancel := caddy.NewContext(newContext(t))
		module, err := ctx.LoadModuleByID("http.handlers.mcp_proxy", json.RawMessage(config))
		if err != nil {
			t.Fatal(err)
		}
		return module.(*Handler), cancel
	}
	stateless := func(h *Handler) int {
		return selfOf(t, serve(t, h, post("/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`), alice)).Pid
	}
	first, endFirst := load(stdioConfig(t, ""))
	pid := stateless(first)
	second, endSecond := load(stdioConfig(t, `,"idle_timeout":"10m","max_processes":64`)) // the defaults
	endFirst()
	for name, h := range map[string]*Handler{"the new configuration": second, "a request that came before the reload": first} {
		if again := stateless(h); again != pid {
			t.Errorf("%s: processes %d and %d", name, pid, again)
		}
	}
	for _, more := range []string{`,"args":["a"]`, `,"dir":"/"`, `,"idle_timeout":"11m"`, `,"max_processes":63`} {
		changed, end := load(stdioConfig(t, more))
		if other := stateless(changed); other == pid {
			t.Errorf("%s: the same process", more)
		}
		end()
	}
	if !there(pid) {
		t.Error("the process has ended with another configuration")
	}
	endSecond()
	if there(pid) {
		t.Error("the process is left")
	}
	if w := serve(t, first, post("/mcp", initialize), alice); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a request that comes to a handler too late: %d %s", w.Code, w.Body)
	}
}

// TestStdioStreamsEnd: what may last ends with its token, the configuration or the gateway. A call goes on, also one that
// nobody has read.
func TestStdioStreamsEnd(t *testing.T) {
	h := fromJSON(t, stdioConfig(t, ""))
	exiting := new(atomic.Bool)
	h.streams.exiting = exiting.Load
	f := newFront(t, h)
	var session string
	send := func(method, body string) <-chan *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, f.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		if session != "" {
			r.Header.Set("Mcp-Session-Id", session)
		}
		answer := make(chan *http.Response, 1)
		go func() {
			response, err := f.Client().Do(r)
			if err != nil {
				t.Error(err)
				close(answer)
				return
			}
			t.Cleanup(func() { response.Body.Close() })
			answer <- response
		}()
		return answer
	}
	opened := receive(t, "the session", send("POST", initialize))
	if session = opened.Header.Get("Mcp-Session-Id"); session == "" {
		t.Fatal(opened.Status)
	}
	stream := receive(t, "the stream", send("GET", ""))
	subscription := receive(t, "the subscription", send("POST", listen))
	called := send("POST", strings.Replace(toolCall, `"t"`, `"hold"`, 1))
	if line, err := bufio.NewReader(stream.Body).ReadString('}'); !strings.Contains(line, "notifications/message") {
		t.Fatalf("the call has not arrived: %q, %v", line, err)
	}
	exiting.Store(true)
	for what, response := range map[string]*http.Response{"the stream": stream, "the subscription": subscription} {
		if body, err := readAll(t, response); strings.Contains(body, "result") || err != nil {
			t.Errorf("%s: %q, %v", what, body, err)
		}
	}
	receive(t, "the answer to the ping", send("POST", message))
	if body, err := readAll(t, receive(t, "the answer to the call", called)); !strings.Contains(body, `"result":"held"`) || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

// TestStdioErrors: what JSON alone can get wrong.
func TestStdioErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"stdio":{}}`: "stdio needs a command",
		`{"stdio":{"command":"a"},"upstreams":[{"dial":"127.0.0.1:1"}]}`:                     "either upstreams or stdio",
		`{"stdio":{"command":"a"},"dynamic_upstreams":{"source":"a"}}`:                       "either upstreams or stdio",
		`{"stdio":{"command":"a"},"flush_interval":-1}`:                                      "no options of reverse_proxy",
		`{"stdio":{"command":"a"},"rewrite":{"uri":"/"}}`:                                    "no options of reverse_proxy",
		`{"stdio":{"command":"a","env":{"":"x"}}}`:                                           "name of an environment variable",
		`{"stdio":{"command":"a","env":{"A=B":"x"}}}`:                                        "name of an environment variable",
		`{"stdio":{"command":"a","args":["\u0000"]}}`:                                        "NUL",
		`{"stdio":{"command":"a","env":{"A":"\u0000"}}}`:                                     "NUL",
		`{"stdio":{"command":"{env.MCP_TEST_UNSET}"}}`:                                       "placeholder {env.MCP_TEST_UNSET} is empty",
		`{"stdio":{"command":"a","env":{"A":"{env.MCP_TEST_UNSET}"}}}`:                       "placeholder {env.MCP_TEST_UNSET} is empty",
		`{"stdio":{"command":"a","args":["{file./no/such/file}"]}}`:                          "is empty",
		`{"stdio":{"command":"a","idle_timeout":-1}}`:                                        "idle_timeout must be",
		`{"stdio":{"command":"a","idle_timeout":1}}`:                                         "idle_timeout must be",
		`{"stdio":{"command":"a","idle_timeout":"721h"}}`:                                    "idle_timeout must be",
		`{"stdio":{"command":"a","max_processes":-1}}`:                                       "max_processes must be",
		fmt.Sprintf(`{"stdio":{"command":"a","max_processes":%d}}`, stdio.MaxMaxProcesses+1): "max_processes must be",
		`{"stdio":{"command":"a","shell":true}}`:                                             "unknown field",
	} {
		_, err := newContext(t).LoadModuleByID("http.handlers.mcp_proxy", json.RawMessage(config))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

// TestStdioStartsNothing: loading a configuration starts no process, not even one that could not be started.
func TestStdioStartsNothing(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "started")
	touch, err := exec.LookPath("touch")
	if err != nil {
		t.Fatal(err)
	}
	h := fromJSON(t, fmt.Sprintf(`{"public":true,"stdio":{"command":%q,"args":[%q]}}`, touch, marker))
	fromJSON(t, `{"public":true,"stdio":{"command":"/no/such/program"}}`)
	if _, err := os.Stat(marker); err == nil {
		t.Error("the program was started")
	}
	if w := serve(t, h, post("/mcp", initialize), nil); w.Code != http.StatusBadGateway {
		t.Errorf("a program that is no server: %d", w.Code)
	}
	if _, err := os.Stat(marker); err != nil {
		t.Error("the program was not started by a request")
	}
}

// toldHead tells when the head of an answer has been written.
type toldHead struct {
	*httptest.ResponseRecorder
	written atomic.Bool
}

func (w *toldHead) WriteHeader(status int) {
	w.ResponseRecorder.WriteHeader(status)
	w.written.Store(true)
}

// TestStdioStreamEnds: a subscription that no mcp_authorize has read ends when Caddy exits, as others do.
func TestStdioStreamEnds(t *testing.T) {
	h := fromJSON(t, stdioConfig(t, ""))
	w := &toldHead{ResponseRecorder: httptest.NewRecorder()}
	h.streams.exiting = w.written.Load // not while the program is starting
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := post("/mcp", `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{},"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`,
		"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen", "Accept", "text/event-stream")
	if err := serveTo(t, h, w, r.WithContext(ctx), alice); err != nil || w.Code != http.StatusOK || ctx.Err() != nil {
		t.Errorf("%d %s, %v, %v", w.Code, w.Body, err, ctx.Err())
	}
}
