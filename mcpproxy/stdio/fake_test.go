package stdio

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeMode makes this test binary a server. It says which one.
const fakeMode = "MCP_FAKE_SERVER"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(fakeMode); mode {
	case "":
		os.Exit(m.Run())
	case "sleep": // somebody whom a server has started
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	default:
		(&fake{mode: mode, out: os.Stdout, held: map[string]chan struct{}{}}).run(os.Stdin)
	}
}

// fake is an MCP server over stdio. Its modes: "legacy" wants to be initialized, "modern" does not, "silent" does not
// answer what it does not know, "stubborn" ends for nothing but SIGKILL, "crash" ends at once.
type fake struct {
	mode string
	out  io.Writer

	mu          sync.Mutex
	initialized bool
	seen        []string
	listens     []json.RawMessage
	held        map[string]chan struct{}
	answers     chan json.RawMessage
}

type fakeMessage struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Name, ProtocolVersion string
		Arguments             json.RawMessage
		Meta                  struct{ ProgressToken json.RawMessage } `json:"_meta"`
	}
	Result json.RawMessage
}

func (f *fake) run(in io.Reader) {
	if f.mode == "crash" {
		fmt.Fprintln(os.Stderr, "cannot start")
		os.Exit(3)
	}
	if f.mode == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	f.answers = make(chan json.RawMessage, 10)
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if f.mode == "stubborn" {
				time.Sleep(time.Hour)
			}
			return
		}
		f.mu.Lock()
		f.seen = append(f.seen, strings.TrimSuffix(line, "\n"))
		f.mu.Unlock()
		var m fakeMessage
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			fmt.Fprintln(os.Stderr, "not JSON:", err)
			continue
		}
		if m.Method == "" {
			f.answers <- json.RawMessage(strings.TrimSpace(line))
			continue
		}
		if m.ID != nil {
			go f.answer(m)
		} else if m.Method == "notifications/initialized" {
			f.mu.Lock()
			f.initialized = true
			f.mu.Unlock()
		}
	}
}

func (f *fake) write(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(f.out, format+"\n", args...)
}

func (f *fake) result(m fakeMessage, result any) {
	encoded, err := json.Marshal(result)
	if err != nil {
		panic(err)
	}
	f.write(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, encoded)
}

func (f *fake) answer(m fakeMessage) {
	f.mu.Lock()
	ready := f.initialized || f.mode == "modern"
	f.mu.Unlock()
	switch {
	case m.Method == "initialize" && f.mode != "modern":
		f.result(m, map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "serverInfo": map[string]string{"name": "fake"}})
	case m.Method == "server/discover" && f.mode == "modern":
		f.result(m, map[string]any{"supportedVersions": []string{"2026-07-28"}})
	case f.mode == "silent" && m.Method == "server/discover":
	case m.Method == "subscriptions/listen" && f.mode == "modern":
		f.mu.Lock()
		f.listens = append(f.listens, m.ID)
		f.mu.Unlock()
		f.write(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{"toolsListChanged":true}}}`, m.ID)
	case m.Method == "tools/call" && ready:
		f.call(m)
	default:
		f.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, m.ID)
	}
}

// call does what its tools are for.
func (f *fake) call(m fakeMessage) {
	var args struct {
		Key string
		N   int
	}
	_ = json.Unmarshal(m.Params.Arguments, &args)
	token := m.Params.Meta.ProgressToken
	switch m.Params.Name {
	case "echo":
		f.result(m, m.Params.Arguments)
	case "self":
		dir, _ := os.Getwd()
		f.result(m, map[string]any{"pid": os.Getpid(), "env": os.Environ(), "dir": dir, "args": os.Args[1:]})
	case "seen":
		f.mu.Lock()
		seen := f.seen
		f.mu.Unlock()
		f.result(m, seen)
	case "progress":
		for i := range args.N {
			f.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"message":%q}}`, token, i, args.Key)
		}
		f.result(m, args.Key)
	case "hold": // until "release" with the same key
		f.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":0,"message":%q}}`, token, args.Key)
		<-f.hold(args.Key)
		f.result(m, args.Key)
	case "release":
		close(f.hold(args.Key))
		f.result(m, args.Key)
	case "ask": // the client, and answer what it answers
		f.write(`{"jsonrpc":"2.0","id":"q%s","method":"sampling/createMessage","params":{}}`, args.Key)
		f.result(m, <-f.answers)
	case "notify":
		f.write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		f.mu.Lock()
		listens := f.listens
		f.mu.Unlock()
		for _, id := range listens {
			f.write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`, id)
		}
		f.result(m, args.Key)
	case "cancel": // ends all subscriptions
		f.mu.Lock()
		listens := f.listens
		f.mu.Unlock()
		for _, id := range listens {
			f.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id)
		}
		f.result(m, args.Key)
	case "flood":
		text := strings.Repeat("x", 100_000)
		for i := range args.N {
			f.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"message":%q}}`, token, i, text)
		}
		f.result(m, args.Key)
	case "raw": // whatever the caller wants it to write
		var raw struct{ Line string }
		_ = json.Unmarshal(m.Params.Arguments, &raw)
		f.write("%s", raw.Line)
		f.result(m, "raw")
	case "long":
		f.write("%s", strings.Repeat("x", args.N))
		f.result(m, "long")
	case "stderr":
		fmt.Fprint(os.Stderr, args.Key)
		f.result(m, "stderr")
	case "spawn":
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{fakeMode + "=sleep"}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		f.result(m, map[string]int{"pid": cmd.Process.Pid})
	case "exit":
		os.Exit(3)
	default:
		f.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"Unknown tool"}}`, m.ID)
	}
}

func (f *fake) hold(key string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held[key] == nil {
		f.held[key] = make(chan struct{})
	}
	return f.held[key]
}
