package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var checkCommand = command{
	use:   "check [--config <file>] [--cases <file>]... [--replay <audit log>]",
	short: "Compiles the rules of a configuration and tries them",
	long: `Reads a configuration without starting it and compiles the rules of every
mcp_authorize in it.

With --cases, plays through tables of operations, in YAML, and compares what
becomes of them with what is expected. With --replay, judges the decisions of an
audit log again and tells which ones would have been others.

Exit codes: 0, all is as expected; 1, the configuration or a file cannot be
read or is wrong; 4, a case failed or a decision changed; 5, nothing changed as
far as the log tells, but it does not hold what some rules want to know.`,
	example: `  $ caddy mcp check --config Caddyfile
  $ caddy mcp check --config Caddyfile --cases cases.yaml
  $ caddy mcp check --config Caddyfile --replay /var/log/caddy/audit.log --json`,
	args: cobra.NoArgs,
	flags: func(flags *pflag.FlagSet) {
		configFlags(flags)
		flags.StringArray("cases", nil, "File with cases (repeatable)")
		flags.String("replay", "", "Audit log, or - for stdin")
	},
	run: check,
}

// checked is the report of check.
type checked struct {
	Config   string       `json:"config"`
	Handlers []*handler   `json:"handlers"`
	Cases    []caseResult `json:"cases,omitempty"`
	Passed   int          `json:"passed"`
	Failed   int          `json:"failed"`
	Replay   *replayed    `json:"replay,omitzero"`
}

func check(c *call) (report, int, error) {
	config, err := loadConfig(c)
	if err != nil {
		return nil, exitFailed, err
	}
	found := &checked{Config: config.file, Handlers: config.handlers}
	var failures []error
	for _, name := range c.texts("cases") {
		results, err := runCases(c.cmd.Context(), config, name, c.text("handler"))
		if err != nil {
			failures = append(failures, err)
		}
		found.Cases = append(found.Cases, results...)
	}
	if len(failures) > 0 {
		return nil, exitFailed, errors.Join(failures...)
	}
	for _, result := range found.Cases {
		if result.Passed {
			found.Passed++
		} else {
			found.Failed++
		}
	}
	if name := c.text("replay"); name != "" {
		h, err := config.choose(c.text("handler"))
		if err != nil {
			return nil, exitFailed, err
		}
		if found.Replay, err = replayFile(c, h, name); err != nil {
			return nil, exitFailed, err
		}
	}
	return found, found.status(), nil
}

func (c *checked) status() int {
	switch {
	case c.Failed > 0, c.Replay != nil && c.Replay.Changed > 0:
		return exitFound
	case c.Replay != nil && c.Replay.Undecided > 0:
		return exitUndecided
	default:
		return exitOK
	}
}

func (c *checked) show(w io.Writer) {
	for _, h := range c.Handlers {
		fmt.Fprintf(w, "mcp_authorize %s: %s\n", h, plural(len(h.Rules), "rule"))
	}
	for _, result := range c.Cases {
		result.show(w)
	}
	if c.Failed > 0 {
		fmt.Fprintln(w)
	}
	if len(c.Cases) > 0 {
		fmt.Fprintf(w, "%s, %d passed, %d failed\n", plural(len(c.Cases), "case"), c.Passed, c.Failed)
	}
	if c.Replay != nil {
		c.Replay.show(w)
	}
}

// print shows a case that failed as a diff.
func (r *caseResult) show(w io.Writer) {
	if r.Passed {
		return
	}
	fmt.Fprintf(w, "\nFAIL %s:%d: %s\n", r.File, r.Line, r.Name)
	fmt.Fprintf(w, "  %s\n", r.Operation)
	fmt.Fprintf(w, "- %s\n", r.Expected)
	fmt.Fprintf(w, "+ %s\n", r.Got)
	fmt.Fprintf(w, "  %s\n", r.Summary)
}

func plural(n int, noun string) string {
	if n != 1 {
		noun = strings.TrimSuffix(noun, "s") + "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
