package stdio

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// patience is how long a test waits for what must happen. Only one that fails waits that long.
const patience = 60 * time.Second

// rig is a bridge behind an HTTP server. The header X-Principal says who is asking.
type rig struct {
	*Bridge
	url  string
	logs *observer.ObservedLogs
}

func newRig(t *testing.T, mode string, change func(*Config)) *rig {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Command: binary, Env: []string{fakeMode + "=" + mode},
		IdleTimeout: DefaultIdleTimeout, MaxProcesses: DefaultMaxProcesses,
	}
	if change != nil {
		change(&cfg)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	r := &rig{Bridge: New(cfg, func() *zap.Logger { return zap.New(core) }), logs: logs}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		answer := &statusWriter{ResponseWriter: w}
		reason := r.ServeHTTP(answer, req, Caller{Principal: req.Header.Get("X-Principal")})
		if !slices.Contains(reasons[answer.status], reason) {
			t.Errorf("%s answered %d: the reason is %q", req.Method, answer.status, reason)
		}
	}))
	r.url = srv.URL
	t.Cleanup(func() {
		r.Close()
		srv.Close()
		if n := r.count(); n != 0 {
			t.Errorf("%d processes are left", n)
		}
		if t.Failed() {
			all := logs.All()
			for _, entry := range all[:min(len(all), 30)] {
				t.Log(entry.Level, entry.Message, entry.ContextMap())
			}
		}
	})
	return r
}

// reasons are why a status is answered, "" if it may be a process that answers so.
var reasons = map[int][]string{
	http.StatusOK: {""}, http.StatusAccepted: {""}, http.StatusNoContent: {""},
	http.StatusBadRequest: {"", "malformed_message"}, http.StatusNotFound: {"", "unknown_session"},
	http.StatusMethodNotAllowed: {"method_not_allowed"}, http.StatusNotAcceptable: {"not_acceptable"},
	http.StatusRequestTimeout: {"body_timeout"}, http.StatusRequestEntityTooLarge: {"body_too_large"},
	http.StatusUnsupportedMediaType: {"unsupported_media_type"}, http.StatusServiceUnavailable: {"upstream_busy"},
	http.StatusBadGateway: {"upstream_down", "bad_upstream_answer"},
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (r *rig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// client is somebody who asks, perhaps in a session.
type client struct {
	*rig
	who, session string
	modern       bool
}

func (c *client) request(ctx context.Context, t *testing.T, method, body string, headers ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Principal", c.who)
	req.Header.Set("Accept", "application/json, text/event-stream")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.session != "" {
		req.Header.Set(headerSession, c.session)
	}
	if c.modern {
		var m struct {
			Method string
			Params struct{ Name string }
		}
		_ = json.Unmarshal([]byte(body), &m)
		req.Header.Set("MCP-Protocol-Version", "2026-07-28")
		req.Header.Set("Mcp-Method", m.Method)
		if m.Params.Name != "" {
			req.Header.Set("Mcp-Name", m.Params.Name)
		}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

func (c *client) do(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// reply is an answer that has ended.
type reply struct {
	status   int
	header   http.Header
	messages []string
}

// last is the last message, which is the response.
func (a *reply) last() string {
	if len(a.messages) == 0 {
		return ""
	}
	return a.messages[len(a.messages)-1]
}

func (c *client) send(t *testing.T, method, body string, headers ...string) *reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	response := c.do(t, c.request(ctx, t, method, body, headers...))
	a := &reply{status: response.StatusCode, header: response.Header}
	if response.Header.Get("Content-Type") == "text/event-stream" {
		events := newEvents(response.Body)
		for message, ok := events.next(); ok; message, ok = events.next() {
			a.messages = append(a.messages, message)
		}
		return a
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 {
		a.messages = append(a.messages, string(text))
	}
	return a
}

func (c *client) post(t *testing.T, body string, headers ...string) *reply {
	t.Helper()
	return c.send(t, http.MethodPost, body, headers...)
}

// events reads server-sent events.
type events struct{ lines *bufio.Reader }

func newEvents(r io.Reader) *events { return &events{bufio.NewReader(r)} }

func (e *events) next() (message string, ok bool) {
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			return "", false
		}
		if data, isData := strings.CutPrefix(line, "data: "); isData {
			return strings.TrimSuffix(data, "\n"), true
		}
	}
}

// call is a tools/call. Its id, and its progress token, are JSON.
func (c *client) call(id, tool, arguments, token string) string {
	var meta []string
	if token != "" {
		meta = append(meta, `"progressToken":`+token)
	}
	if c.modern {
		meta = append(meta, `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`, `"io.modelcontextprotocol/clientCapabilities":{}`)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{%s}}}`,
		id, tool, arguments, strings.Join(meta, ","))
}

// open opens a session.
func (r *rig) open(t *testing.T, who string) *client {
	t.Helper()
	c := &client{rig: r, who: who}
	a := c.post(t, initialize)
	if a.status != http.StatusOK || a.header.Get(headerSession) == "" || !strings.Contains(a.last(), `"id":0,"result"`) {
		t.Fatalf("initialize: %d %q %q", a.status, a.header, a.messages)
	}
	c.session = a.header.Get(headerSession)
	if a := c.post(t, initialized); a.status != http.StatusAccepted || len(a.messages) != 0 {
		t.Fatalf("initialized: %d %q", a.status, a.messages)
	}
	return c
}

const (
	initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

// self is what a server says of itself.
type self struct {
	Pid       int
	Dir       string
	Env, Args []string
}

func (c *client) self(t *testing.T) (s self) {
	t.Helper()
	a := c.post(t, c.call(`1`, "self", `{}`, ""))
	var m struct{ Result *self }
	if err := json.Unmarshal([]byte(a.last()), &m); err != nil || m.Result == nil {
		t.Fatalf("self: %v %d %q", err, a.status, a.messages)
	}
	return *m.Result
}

// seen are the lines that have reached the server.
func (c *client) seen(t *testing.T) (lines []string) {
	t.Helper()
	a := c.post(t, c.call(`"seen"`, "seen", `{}`, ""))
	var m struct{ Result []string }
	if err := json.Unmarshal([]byte(a.last()), &m); err != nil {
		t.Fatalf("seen: %v %q", err, a.messages)
	}
	return m.Result
}

// eventually waits for something that takes a moment.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ask(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// alive reports whether a process is there, be it as a zombie.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && len(status) > 0
}

// running reports whether a process is there and no zombie: one that this process has not started is collected by
// somebody else, some time.
func running(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := status[bytes.LastIndexByte(status, ')')+1:]
	return !bytes.HasPrefix(after, []byte(" Z")) && !bytes.HasPrefix(after, []byte(" X"))
}
