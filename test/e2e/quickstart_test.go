package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The ports of the quickstart are part of what its users read and type.
const (
	quickstartPort      = 8080
	quickstartDemoPort  = 3001
	quickstartAdminPort = 2019
	quickstartURL       = "http://127.0.0.1:8080/mcp"
)

var quickstartPorts = []int{quickstartPort, quickstartDemoPort, quickstartAdminPort}

var quickstartReady = regexp.MustCompile(`(?m)^The gateway is ready\.$`)

// startQuickstart starts the quickstart in the repository's root folder, as `make run` does, once it has built it.
func startQuickstart(t *testing.T) *process {
	t.Helper()
	return startAtFixedPorts(t, exec.Command(quickstart))
}

// wantFixedPorts waits until the ports that users know are free: somebody may be trying the same just now.
func wantFixedPorts(t *testing.T) {
	t.Helper()
	for _, port := range quickstartPorts {
		if !poll(startLimit, func() bool { return !listening(port) }) {
			t.Fatalf("something else listens on %s; end it and try again", loopback(port))
		}
	}
}

// startAtFixedPorts starts a command that runs the quickstart, and waits until it is ready.
func startAtFixedPorts(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	wantFixedPorts(t)
	cmd.Dir = repository
	cmd.Env = environ("XDG_DATA_HOME=" + t.TempDir())
	p := startServing(t, cmd)
	if _, err := p.out.wait(quickstartReady, p.done, runLimit); err != nil {
		t.Fatalf("%v:\n%s", err, p.out)
	}
	return p
}

// TestMakeRun does what the first page tells a new user to do.
func TestMakeRun(t *testing.T) {
	t.Run("asked to stop", func(t *testing.T) {
		p := startAtFixedPorts(t, exec.Command("make", "run"))
		curlStory(t)
		program := onlyChild(t, p.cmd.Process.Pid)
		if err := syscall.Kill(program, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if status := p.wait(t, stopLimit); status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
		wantStopped(t, p)
	})
	// At a terminal make gets the signal, too, and ends by it however its program ends.
	t.Run("Ctrl-C", func(t *testing.T) {
		p := startAtFixedPorts(t, exec.Command("make", "run"))
		p.signal(t, syscall.SIGINT)
		p.wait(t, stopLimit)
		if strings.Contains(p.out.String(), "Error") {
			t.Errorf("Ctrl-C does not look like a good end:\n%s", p.out)
		}
		wantStopped(t, p)
	})
}

func wantStopped(t *testing.T, p *process) {
	t.Helper()
	if !strings.HasSuffix(p.out.String(), "\nStopped.\n") {
		t.Errorf("the last line is not `Stopped.`:\n%s", p.out)
	}
	for _, port := range quickstartPorts {
		wantFree(t, port)
	}
}

// curlStory asks the quickstart with curl who is calling.
func curlStory(t *testing.T) {
	t.Helper()
	for _, c := range []struct{ credential, want string }{
		{"", "authentication failure: no bearer token found 401"},
		{"abcdefg", "authentication failure: the token header is malformed"},
		{token(t, "alice"), `"text":"You are alice."`},
		{token(t, "bob"), `"text":"You are bob."`},
	} {
		args := []string{
			"-sS", "-w", " %{http_code}", quickstartURL,
			"-H", "Content-Type: application/json",
			"-H", "Accept: application/json, text/event-stream",
			"-H", "Mcp-Protocol-Version: 2025-06-18",
			"-d", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_me"}}`,
		}
		if c.credential != "" {
			args = append(args, "-H", "Authorization: Bearer "+c.credential)
		}
		if r := run(t, exec.Command("curl", args...)); r.status != 0 || !strings.Contains(r.out, c.want) {
			t.Errorf("curl: exit status %d, %s, want %s", r.status, r.out, c.want)
		}
	}
}

// onlyChild is the one process that a process has started.
func onlyChild(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("not one process: %q", text)
	}
	return child
}
