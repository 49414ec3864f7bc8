package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary be the program that it tests.
const asProgram = "QUICKSTART_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const root = "../.." // of the repository, where the program is started

func TestStory(t *testing.T) {
	q := newQuickstart(t)
	q.start(t)

	for _, test := range []struct{ caller, want string }{
		{"nobody", "authentication failure: no bearer token found"},
		{"Alice", "You are alice."},
		{"Bob", "You are bob."},
	} {
		if got := q.shell(t, q.printed(t, "# "+test.caller+": ")); !strings.Contains(got, test.want) {
			t.Errorf("the printed command for %s: got %q, want %q", test.caller, got, test.want)
		}
	}

	q.edit(t, "\t\tallow true\n\t\t# allow", "\t\tallow")
	load := q.printed(t, "without building anything:")
	if got := q.shell(t, load); got != "" {
		t.Errorf("a new rule was answered with %q", got)
	}
	if got := q.shell(t, q.printed(t, "# Alice: ")); !strings.Contains(got, "You are alice.") {
		t.Errorf("the only one who may is told %q", got)
	}
	if got := q.shell(t, q.printed(t, "# Bob: ")); got != "authorization failed\n" {
		t.Errorf("after the new rule Bob gets %q", got)
	}

	// a wrong file is refused, and the rule stays
	q.edit(t, "jwt.sub ==", "jwt.sub =")
	if got := q.shell(t, load); !strings.Contains(got, "Syntax error") {
		t.Errorf("a wrong rule was answered with %q", got)
	}
	if got := q.shell(t, q.printed(t, "# Bob: ")); got != "authorization failed\n" {
		t.Errorf("after a wrong rule Bob gets %q", got)
	}

	// an open stream does not delay the end
	stream := q.listen(t)
	defer stream.Close()
	q.stop(t, syscall.SIGINT)
}

func TestStopsOnSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			q := newQuickstart(t)
			q.start(t)
			q.stop(t, sig)
		})
	}
}

func TestTakenPort(t *testing.T) {
	for what, address := range map[string]func(*quickstart) string{
		"gateway":     func(q *quickstart) string { return q.gateway },
		"demo server": func(q *quickstart) string { return q.demo },
		"admin API":   func(q *quickstart) string { return q.admin },
	} {
		t.Run(what, func(t *testing.T) {
			q := newQuickstart(t)
			ln, err := net.Listen("tcp", address(q))
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			_, port, _ := net.SplitHostPort(address(q))
			got := q.fail(t)
			if want := "port " + port + " is taken: the " + what; !strings.Contains(got, want) {
				t.Errorf("got %q, want it to say %q", got, want)
			}
		})
	}
}

func TestNoCaddyfile(t *testing.T) {
	q := newQuickstart(t)
	q.file = "no/such/Caddyfile"
	if got := q.fail(t); !strings.Contains(got, "no/such/Caddyfile") || !strings.Contains(got, "root folder") {
		t.Errorf("got %q", got)
	}
}

// quickstart is the program with a configuration folder, a Caddyfile and ports
// of its own.
type quickstart struct {
	file                 string
	gateway, demo, admin string
	command              *exec.Cmd
	welcome              string
}

func newQuickstart(t *testing.T) *quickstart {
	t.Helper()
	q := &quickstart{
		file:    filepath.Join(t.TempDir(), "Caddyfile"),
		gateway: freeAddress(t), demo: freeAddress(t), admin: freeAddress(t),
	}
	_, port, _ := net.SplitHostPort(q.gateway)
	original, err := os.ReadFile("Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(q.file, original, 0o600); err != nil {
		t.Fatal(err)
	}
	q.edit(t, "persist_config off", "admin "+q.admin+"\n\tpersist_config off")
	q.edit(t, ":8080", ":"+port)
	q.edit(t, "127.0.0.1:3001", q.demo)

	home := t.TempDir()
	q.command = exec.Command(os.Args[0], "-demo-listen", q.demo, "-config")
	q.command.Dir = root
	q.command.Env = append(os.Environ(), asProgram+"=1", "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(home, "caddy", "autosave.json")); err == nil {
			t.Error("the configuration was saved for the next Caddy")
		}
	})
	return q
}

// edit changes the Caddyfile.
func (q *quickstart) edit(t *testing.T, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(q.file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		t.Fatalf("%q is not in the Caddyfile just once", old)
	}
	if err := os.WriteFile(q.file, []byte(strings.Replace(string(text), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start starts the program and waits until it is ready.
func (q *quickstart) start(t *testing.T) {
	t.Helper()
	q.command.Args = append(q.command.Args, q.file)
	stdout, err := q.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	q.command.Stderr = t.Output()
	if err := q.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.command.Process.Kill() })

	var welcome strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		welcome.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Ctrl-C") {
			q.welcome = welcome.String()
			go io.Copy(io.Discard, stdout)
			return
		}
	}
	t.Fatalf("not ready: %s", welcome.String())
}

// stop sends the signal and checks that nothing is left.
func (q *quickstart) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := q.command.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- q.command.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("did not stop within ten seconds")
	}
	for _, address := range []string{q.gateway, q.demo, q.admin} {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			t.Errorf("%s is still open", address)
		}
	}
}

// fail runs the program, which is to end with status 1, and returns what it
// says.
func (q *quickstart) fail(t *testing.T) string {
	t.Helper()
	q.command.Args = append(q.command.Args, q.file)
	output, err := q.command.CombinedOutput()
	if code := q.command.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d (%v), want 1: %s", code, err, output)
	}
	return string(output)
}

// printed is the first command of the welcome text after the given words.
func (q *quickstart) printed(t *testing.T, after string) string {
	t.Helper()
	_, rest, ok := strings.Cut(q.welcome, after)
	_, rest, indented := strings.Cut(rest, "\n  ")
	if !ok || !indented {
		t.Fatalf("no command after %q in %s", after, q.welcome)
	}
	command, _, _ := strings.Cut(rest, "\n\n")
	return command
}

// shell runs a command as a reader would, in the root folder.
func (q *quickstart) shell(t *testing.T, command string) string {
	t.Helper()
	shell := exec.CommandContext(t.Context(), "bash", "-c", command)
	shell.Dir = root
	output, err := shell.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}
	return string(output)
}

// listen opens a stream that the server never ends by itself.
func (q *quickstart) listen(t *testing.T) io.Closer {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+q.gateway+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,
		"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["repo://acme/api"]},"_meta":{
		"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile("alice.jwt")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization":        "Bearer " + strings.TrimSpace(string(token)),
		"Content-Type":         "application/json",
		"Accept":               "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28",
		"Mcp-Method":           "subscriptions/listen",
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d: %s", resp.StatusCode, body)
	}
	return resp.Body
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
