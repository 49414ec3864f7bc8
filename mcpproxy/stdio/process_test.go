//go:build unix

package stdio

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
)

// The environment, the folder and the arguments are those of the configuration, and nothing is inherited.
func TestEnvironment(t *testing.T) {
	t.Setenv("MCP_TEST_SECRET", "s3cret")
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, "legacy", func(cfg *Config) {
		cfg.Dir = dir
		cfg.Args = []string{"one", "two words", "$HOME"}
		cfg.Env = append(cfg.Env, "NAME=va=lue", "EMPTY=")
	})
	for _, c := range []*client{r.open(t, "alice"), {rig: r, who: "alice"}} {
		got := c.self(t)
		if want := []string{fakeMode + "=legacy", raceOptions, "NAME=va=lue", "EMPTY="}; !slices.Equal(got.Env, want) {
			t.Errorf("environment %q, want %q", got.Env, want)
		}
		if got.Dir != dir || !slices.Equal(got.Args, r.cfg.Args) {
			t.Errorf("folder %s, arguments %q", got.Dir, got.Args)
		}
	}
}

// Without any variable there is an empty environment, not all of ours.
func TestEmptyEnvironment(t *testing.T) {
	core := newRig(t, "legacy", nil)
	var lines []string
	done := make(chan struct{})
	c, err := startChild(&Config{Command: "/usr/bin/env"}, core.log(), func(line []byte) error {
		lines = append(lines, string(line))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-c.done; close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if len(lines) != 0 {
		t.Errorf("the environment is %q", lines)
	}
}

// A server that ends by itself answers with an error what it has not answered; its session is gone, and the next
// stateless request starts another one.
func TestCrash(t *testing.T) {
	r := newRig(t, "legacy", nil)
	c := r.open(t, "alice")
	held := newEvents(c.do(t, c.request(t.Context(), t, http.MethodPost, c.call(`"held"`, "hold", `{"key":"k"}`, `1`))).Body)
	if _, ok := held.next(); !ok {
		t.Fatal("no progress")
	}
	a := c.post(t, c.call(`9007199254740993`, "exit", `{}`, ""))
	wantStatus(t, "the call that ends it", a, http.StatusBadGateway, `{"jsonrpc":"2.0","id":9007199254740993,"error":{"code":-31503`)
	if got, _ := held.next(); !strings.Contains(got, `"id":"held","error":{"code":-31503`) {
		t.Errorf("the other call got %s", got)
	}
	wantStatus(t, "the session", c.post(t, c.call(`1`, "echo", `{}`, "")), http.StatusNotFound, `"id":1`)

	c = &client{rig: r, who: "alice", modern: true}
	before := c.self(t).Pid
	wantStatus(t, "the call that ends it", c.post(t, c.call(`1`, "exit", `{}`, "")), http.StatusBadGateway, `"id":1`)
	eventually(t, "another process", func() bool {
		a = c.post(t, c.call(`1`, "self", `{}`, ""))
		return a.status == http.StatusOK && !strings.Contains(a.last(), fmt.Sprintf(`"pid":%d`, before))
	})
	if errors := r.logs.FilterMessage("the server has ended by itself").Filter(levelError); errors.Len() != 2 {
		t.Errorf("%d log lines of the end", errors.Len())
	}
}

// A server that always ends at once is started more and more rarely.
func TestCrashLoop(t *testing.T) {
	r := newRig(t, "crash", nil)
	for _, c := range []*client{{rig: r, who: "alice", modern: true}, {rig: r, who: "bob"}} {
		starts, refused := 0, 0
		for range 50 {
			body := c.call(`"x"`, "echo", `{}`, "")
			if !c.modern {
				body = strings.Replace(initialize, `"id":0`, `"id":"x"`, 1)
			}
			a := c.post(t, body)
			switch a.status {
			case http.StatusBadGateway:
				starts++
			case http.StatusServiceUnavailable:
				refused++
				if a.header.Get("Retry-After") == "" || !strings.Contains(a.last(), `"id":"x","error":{"code":-31429`) {
					t.Errorf("refused with %q %q", a.header, a.messages)
				}
			default:
				t.Fatalf("%d %q", a.status, a.messages)
			}
			if a.header.Get(headerSession) != "" {
				t.Error("there is a session")
			}
			eventually(t, "the process is gone", func() bool { return r.count() == 0 })
		}
		// after 0 s, 0 s, 1 s, 2 s, 4 s, ...: the machine may be slow, but not that slow
		if starts < 2 || starts > 8 || refused < 40 {
			t.Errorf("%s: %d starts and %d refusals", c.who, starts, refused)
		}
	}
}

// A program that is not there is the operator's mistake.
func TestMissingCommand(t *testing.T) {
	for _, command := range []string{"mcp-no-such-program", "/no/such/program", "./no-such-program"} {
		r := newRig(t, "legacy", func(cfg *Config) { cfg.Command = command })
		c := &client{rig: r, who: "alice"}
		wantStatus(t, "initialize", c.post(t, initialize), http.StatusBadGateway, `"id":0,"error":{"code":-31503,"message":"the server could not be started"}`)
		wantStatus(t, "a call", c.post(t, c.call(`1`, "echo", `{}`, "")), http.StatusBadGateway, `"id":1`)
		errors := r.logs.FilterMessage("the server could not be started").Filter(levelError)
		if errors.Len() != 2 || errors.All()[0].ContextMap()["command"] != command {
			t.Errorf("%s: log %v", command, errors.All())
		}
	}
}

// What is no message is logged and left out; what looks like one and is none ends the server, since nobody could say
// which request it was to answer.
func TestGarbage(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	for _, line := range []string{"hello", "  ", `\u001b[31mred`, "123", `\"text\"`, strings.Repeat("x", 100_000)} {
		a := c.post(t, c.call(`1`, "raw", `{"line":"`+line+`"}`, ""))
		wantStatus(t, line[:2], a, http.StatusOK, `"result":"raw"`)
	}
	for _, entry := range c.logs.FilterMessage("the server wrote").All() {
		line, _ := entry.ContextMap()["line"].(string)
		if len(line) > maxLogged || strings.Contains(line, "\x1b") || entry.ContextMap()["pid"] == nil || entry.ContextMap()["command"] == nil {
			t.Errorf("logged %v", entry.ContextMap())
		}
	}
	for _, line := range []string{
		`{`, `{}`, `{\"jsonrpc\":\"2.0\",\"id\":2,\"id\":2,\"result\":1}`, `{\"jsonrpc\":\"1.0\",\"id\":2,\"result\":1}`,
		`{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":1,\"error\":{}}`, `{\"jsonrpc\":\"2.0\",\"ID\":2,\"result\":1}`, `[1]`,
		`{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
	} {
		r := newRig(t, "legacy", nil)
		c := r.open(t, "alice")
		pid := c.self(t).Pid
		c.post(t, c.call(`1`, "raw", `{"line":"`+line+`"}`, ""))
		eventually(t, line+": the process ends", func() bool { return !alive(pid) })
		wantStatus(t, line, c.post(t, c.call(`1`, "echo", `{}`, "")), http.StatusNotFound)
	}
}

// An array is a batch of a server, as older versions had them.
func TestServerBatch(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	line := `[{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"},{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":1}]`
	wantStatus(t, "a batch", c.post(t, c.call(`1`, "raw", `{"line":"`+line+`"}`, "")), http.StatusOK, `"result":"raw"`)
	stream := newEvents(c.do(t, c.request(t.Context(), t, http.MethodGet, "")).Body)
	if got, _ := stream.next(); got != `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}` {
		t.Errorf("got %s", got)
	}
}

// A line over the bound ends the server; one below it passes.
func TestLongLine(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	wantStatus(t, "a long line", c.post(t, c.call(`1`, "long", fmt.Sprintf(`{"n":%d}`, maxLine-1), "")), http.StatusOK)
	wantStatus(t, "a longer one", c.post(t, c.call(`2`, "long", fmt.Sprintf(`{"n":%d}`, maxLine), "")), http.StatusBadGateway, `"id":2`)
}

// What the server says on stderr is logged: line by line, bounded, escaped.
func TestStderr(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	text := `plain\ntwo \u001b[2J\u202e\u0000\n` + strings.Repeat("y", 2*maxLogged) + `\nlast\n`
	c.post(t, c.call(`1`, "stderr", `{"key":"`+text+`"}`, ""))
	want := []string{"plain", `two \x1b[2J\u202e\x00`, strings.Repeat("y", maxLogged), "last"}
	var got []string
	eventually(t, "the lines", func() bool {
		got = nil
		for _, entry := range c.logs.FilterMessage("the server wrote").All() {
			line, _ := entry.ContextMap()["line"].(string)
			got = append(got, line)
			if entry.Level != zapcore.WarnLevel || entry.ContextMap()["stream"] != "stderr" {
				t.Errorf("logged %v", entry)
			}
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("logged %q", got)
	}
	c.post(t, c.call(`1`, "stderr", `{"key":"`+strings.Repeat(`z\n`, 1000)+`"}`, ""))
	c.post(t, c.call(`1`, "stderr", `{"key":"end\n"}`, ""))
	// a second may pass in between, on a slow machine more than one
	if n := c.logs.FilterMessage("the server wrote").Len(); n > 10*maxLogRate {
		t.Errorf("%d lines were logged", n)
	}
}

// Messages that are text over several lines, or hold what some take for a line end, reach the server as one line.
func TestOneLine(t *testing.T) {
	c := newRig(t, "legacy", nil).open(t, "alice")
	body := "{\r\n\"jsonrpc\":\"2.0\",\n\"id\":1,\r\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"arguments\":{\"a\":\"\u2028\u2029\u0085\\n\"}}}\n"
	wantStatus(t, "echo", c.post(t, body), http.StatusOK, `"result":{"a":"\u2028\u2029\u0085\n"}`)
	line := c.seen(t)[2]
	want := `{  "jsonrpc":"2.0", "id":2, "method":"tools/call","params":{"name":"echo","arguments":{"a":"\u2028\u2029\u0085\n"}}} `
	if line != want {
		t.Errorf("the server has seen %q, want %q", line, want)
	}
}

// What a server has started ends with it, also when the server ends by itself; nobody stays behind as a zombie.
func TestNoOrphan(t *testing.T) {
	for name, end := range map[string]func(*client, int){
		"DELETE": func(c *client, _ int) { c.send(t, http.MethodDelete, "") },
		"close":  func(c *client, _ int) { c.Close() },
		"exit":   func(c *client, _ int) { c.post(t, c.call(`1`, "exit", `{}`, "")) },
		"killed": func(_ *client, pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) },
		"broken": func(c *client, _ int) { c.post(t, c.call(`1`, "raw", `{"line":"{"}`, "")) },
	} {
		for _, mode := range []string{"legacy", "stubborn"} {
			if mode == "stubborn" && name != "close" {
				continue
			}
			r := newRig(t, mode, nil)
			c := r.open(t, "alice")
			pid := c.self(t).Pid
			a := c.post(t, c.call(`1`, "spawn", `{}`, ""))
			var grandchild int
			if _, err := fmt.Sscanf(a.last(), `{"jsonrpc":"2.0","id":1,"result":{"pid":%d}}`, &grandchild); err != nil {
				t.Fatal(a.last(), err)
			}
			if !running(pid) || !running(grandchild) {
				t.Fatal("they do not run")
			}
			end(c, pid)
			eventually(t, name+": the server is gone", func() bool { return !alive(pid) })
			eventually(t, name+": what it started has ended", func() bool { return !running(grandchild) })
			eventually(t, name+": its place is free", func() bool { return r.count() == 0 })
		}
	}
}

// A process that nobody talks to ends; one that works on a request does not.
func TestIdle(t *testing.T) {
	r := newRig(t, "legacy", func(cfg *Config) { cfg.IdleTimeout = 300 * time.Millisecond })
	c := r.open(t, "alice")
	pid := c.self(t).Pid
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := newEvents(c.do(t, c.request(ctx, t, http.MethodPost, c.call(`5`, "hold", `{"key":"k"}`, `1`))).Body)
	if _, ok := held.next(); !ok {
		t.Fatal("no progress")
	}
	// another process shows that the time has passed
	other := r.open(t, "bob")
	otherPid := other.self(t).Pid
	eventually(t, "the idle one ends", func() bool { return !alive(otherPid) })
	if !alive(pid) {
		t.Fatal("the busy one has ended")
	}
	wantStatus(t, "the idle one's session", other.post(t, other.call(`1`, "echo", `{}`, "")), http.StatusNotFound)
	wantStatus(t, "release", c.post(t, c.call(`6`, "release", `{"key":"k"}`, "")), http.StatusOK)
	if got, _ := held.next(); !strings.Contains(got, `"id":5,"result":"k"`) {
		t.Errorf("got %s", got)
	}
	eventually(t, "the other one ends, too", func() bool { return !alive(pid) })
	eventually(t, "no process is left", func() bool { return r.count() == 0 })
	stateless := &client{rig: r, who: "carol", modern: true}
	pid = stateless.self(t).Pid
	eventually(t, "the shared one ends", func() bool { return !alive(pid) })
	if again := stateless.self(t).Pid; again == pid {
		t.Error("there is no new process")
	}
}

// A file that is kept open, or a thread that waits, would be one too many after a thousand sessions.
func TestNothingLeaks(t *testing.T) {
	r := newRig(t, "legacy", nil)
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	cycle := func() {
		c := r.open(t, "alice")
		c.post(t, c.call(`1`, "echo", `{}`, ""))
		c.send(t, http.MethodDelete, "")
		eventually(t, "the process is gone", func() bool { return r.count() == 0 })
	}
	cycle()
	before := files()
	for range 20 {
		cycle()
	}
	if after := files(); after > before+4 { // connections come and go
		t.Errorf("%d open files, %d before", after, before)
	}
}
