package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// asProgram makes the test binary be the program that it tests.
const asProgram = "DEMOSERVER_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(args ...string) *exec.Cmd {
	command := exec.Command(os.Args[0], args...)
	command.Env = append(os.Environ(), asProgram+"=1")
	return command
}

func TestServesUntilSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			server := program("-listen", "127.0.0.1:0", "-page-size", "1")
			stdout, err := server.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Process.Kill() })
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			url, ok := strings.CutPrefix(strings.TrimSpace(line), "demoserver: ready at ")
			if !ok {
				t.Fatalf("the first line is %q", line)
			}

			if tools := toolList(t, url); strings.Count(tools, `"inputSchema"`) != 1 {
				t.Errorf("a page of one entry is %s", tools)
			}
			if err := server.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := server.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"-page-size", "-1"}, {"more"}, {"-unknown"}} {
		command := program(args...)
		_ = command.Run()
		if code := command.ProcessState.ExitCode(); code != 2 {
			t.Errorf("%v: exit status %d, want 2", args, code)
		}
	}
}

func toolList(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url,
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
