package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	// the adapter of Caddyfiles, and the directives
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/gateway/caddyfile"
)

// exited is the error that a command ends with when it exits with a status.
type exited int

func (e exited) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// result is how a command has ended.
type result struct {
	status         int
	stdout, stderr string
}

// execute runs `caddy mcp` with these arguments.
func execute(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	root := &cobra.Command{Use: "caddy", SilenceUsage: true}
	mcp := &cobra.Command{Use: "mcp"}
	addCommands(mcp, func(status int) error { return exited(status) })
	root.AddCommand(mcp)
	var stdout, stderr bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(append([]string{"mcp"}, args...))
	r := result{}
	var status exited
	switch err := root.ExecuteContext(context.Background()); {
	case errors.As(err, &status):
		r.status = int(status)
	case err != nil:
		r.status = exitFailed
	}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

// inFolder makes the test work in a folder with these files.
func inFolder(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// wants checks the end of a command, and that its output has these texts.
func (r result) wants(t *testing.T, status int, texts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("exit %d, want %d\n%s%s", r.status, status, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("the output lacks %q:\n%s%s", text, r.stdout, r.stderr)
		}
	}
}

// decode reads the JSON of a command.
func decode[T any](t *testing.T, r result) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), &value); err != nil {
		t.Fatalf("%v in:\n%s%s", err, r.stdout, r.stderr)
	}
	return value
}

const siteCaddyfile = `http://mcp.example.com {
	mcp_jwt {
		issuer solo.io {
			jwks file nowhere.json
		}
	}
	mcp_authorize {
		allow {
			name alice
			match_expressions ` + "`jwt.sub == \"alice\"`" + `
		}
		allow ` + "`\"dev\" in jwt.groups && mcp.tool.name.startsWith(\"read_\")`" + `
		deny ` + "`mcp.tool.name == \"drop\" && mcp.tool.arguments.all`" + `
		scope write ` + "`mcp.tool.name == \"write\"`" + `
	}
	respond ok
}
`

// TestUnknownCommands: a slip is not a success.
func TestUnknownCommands(t *testing.T) {
	execute(t, "", "foo").wants(t, exitFailed, `unknown command "foo" for "caddy mcp"`)
	execute(t, "").wants(t, exitOK, "Available Commands", "doctor")
	for _, command := range []string{"keygen", "token", "check", "explain", "doctor"} {
		execute(t, "", command, "--help").wants(t, exitOK, "Examples:\n  $ caddy mcp "+command, "--json")
		execute(t, "", command, "--nonsense").wants(t, exitFailed, "unknown flag: --nonsense")
	}
	execute(t, "", "keygen", "x").wants(t, exitFailed, "unknown command")
	execute(t, "", "doctor").wants(t, exitFailed, "accepts 1 arg(s)")
	execute(t, "", "explain").wants(t, exitFailed, "accepts between 1 and 3 arg(s)")
}

// TestPrintable: what servers and logs say does not steer the terminal.
func TestPrintable(t *testing.T) {
	var out bytes.Buffer
	fmt.Fprintf(printable{&out}, "a\x1b[31m\r\tb\u202e\n\xff")
	if got := out.String(); got != "a�[31m�\tb�\n�" {
		t.Errorf("%q", got)
	}
}
