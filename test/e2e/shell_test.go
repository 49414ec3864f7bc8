package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shell is a bash that commands are typed into, one after the other.
type shell struct {
	*process
	dir   string // holds the commands
	input io.Writer
	count int
	end   int // of the output of the last command
}

// startShell starts a shell in a folder. Its npx runs what package-lock.json has installed: nothing is fetched from a
// registry while tests run.
func startShell(t *testing.T, folder string) *shell {
	t.Helper()
	s := &shell{dir: t.TempDir()}
	writeNpx(t, s.dir)
	cmd := exec.Command("bash", "--noprofile", "--norc", "-s")
	cmd.Dir = folder
	node := nodeCommand(t)
	cmd.Env = slices.Concat(node.Env, []string{"PATH=" + s.dir + ":" + pathOf(node)})
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.input = input
	s.process = start(t, cmd)
	return s
}

// pathOf is the PATH in the environment of a command.
func pathOf(cmd *exec.Cmd) string {
	var path string
	for _, variable := range cmd.Environ() {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	return path
}

// writeNpx writes an npx that knows one package: MCP Inspector, in the version that is installed.
func writeNpx(t *testing.T, dir string) {
	t.Helper()
	script := fmt.Sprintf(`#!/bin/bash
while [[ $1 == -y || $1 == --yes ]]; do shift; done
if [[ $1 != @modelcontextprotocol/inspector@%s ]]; then
	echo "npx: the tests have no $1" >&2
	exit 1
fi
exec %q "${@:2}"
`, lockedVersion(t, "@modelcontextprotocol/inspector"), nodeModules(t, ".bin/mcp-inspector"))
	if err := os.WriteFile(filepath.Join(dir, "npx"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}

// typeIn runs a command in the shell and returns what it has printed, to stdout and stderr.
func (s *shell) typeIn(t *testing.T, command string) string {
	t.Helper()
	s.count++
	file := filepath.Join(s.dir, fmt.Sprintf("command%d", s.count))
	if err := os.WriteFile(file, []byte(command+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The file is read by the shell itself, so that variables and functions stay. Zero bytes end the output.
	if _, err := fmt.Fprintf(s.input, ". %q 2>&1 </dev/null; printf '\\0%%s\\0' %d\n", file, s.count); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	ended := regexp.MustCompile(fmt.Sprintf(`\x00%d\x00`, s.count))
	if _, err := s.out.wait(ended, s.done, runLimit); err != nil {
		t.Fatalf("%s: %v:\n%s", command, err, s.out)
	}
	all := s.out.String()
	at := ended.FindStringIndex(all)
	text := all[s.end:at[0]]
	s.end = at[1]
	return text
}

// follow types the commands of a block and compares what they print with what the page says.
func (s *shell) follow(t *testing.T, b block) {
	t.Helper()
	for _, step := range b.steps {
		got := s.typeIn(t, step.command)
		waitForReload(t, quickstartPort, quickstartAdminPort) // people type more slowly
		if strings.TrimRight(got, "\n") != strings.TrimRight(step.output, "\n") {
			t.Errorf("block of line %d: %s\nprinted:\n%s\nwant:\n%s", b.line, step.command, got, step.output)
		}
	}
}

func TestShell(t *testing.T) {
	s := startShell(t, repository)
	for _, c := range []struct{ command, want string }{
		{"a=1", ""},
		{"f() { echo \"$a\" \\\n  \"$@\"; }", ""},
		{"f 2", "1 2\n"},
		{"f oops >&2; false", "1 oops\n"},
		{"cat", ""}, // it does not read the commands to come
		{"printf 'a\\n\\nb'", "a\n\nb"},
		{"pwd", repository + "\n"},
		{"npx --yes cowsay", "npx: the tests have no cowsay\n"},
	} {
		if got := s.typeIn(t, c.command); got != c.want {
			t.Errorf("%s: got %q, want %q", c.command, got, c.want)
		}
	}
}
