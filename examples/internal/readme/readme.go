// Package readme runs the commands that a README shows and compares what
// they print with what the README says they print.
package readme

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Run runs the console blocks of one section of the README file, as one
// script in the folder dir, and compares their output word for word. In such a
// block a line that starts with "$ " is a command, continued as long as lines
// end in a backslash; what follows up to the next one is its output.
// Replacements (old, new, ...) are made in the text first: tests have other
// ports than readers.
func Run(t *testing.T, file, heading, dir string, replacements ...string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps := parse(section(t, string(content), heading), strings.NewReplacer(replacements...))
	if len(steps) == 0 {
		t.Fatalf("%s: no console block below %q", file, heading)
	}

	// A NUL ends the output of each command.
	var script strings.Builder
	for _, step := range steps {
		script.WriteString(step.command + "\nprintf '\\0'\n")
	}
	command := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	command.Dir = dir
	output, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v", file, err)
	}
	outputs := strings.Split(string(output), "\x00")
	for i, step := range steps {
		if i >= len(outputs)-1 {
			t.Fatalf("%s: the script ended at %q: %s", file, step.command, outputs[len(outputs)-1])
		}
		if got := strings.TrimSpace(outputs[i]); got != step.output {
			t.Errorf("%s: after %s\n got: %s\nwant: %s", file, step.command, got, step.output)
		}
	}
}

type step struct{ command, output string }

// section is what follows the heading up to the next one.
func section(t *testing.T, content, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut("\n"+content, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("there is no heading %q", heading)
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	return section
}

func parse(section string, replacer *strings.Replacer) []step {
	var (
		steps     []step
		inside    bool // a console block
		continued bool // the last line was a command that goes on
	)
	for line := range strings.Lines(section) {
		switch command, isCommand := strings.CutPrefix(line, "$ "); {
		case !inside:
			inside = line == "```console\n"
		case line == "```\n":
			inside = false
		case isCommand:
			steps = append(steps, step{command: command})
			continued = strings.HasSuffix(line, "\\\n")
		case len(steps) == 0: // output of nothing
		case continued:
			steps[len(steps)-1].command += line
			continued = strings.HasSuffix(line, "\\\n")
		default:
			steps[len(steps)-1].output += line
		}
	}
	for i := range steps {
		steps[i].command = replacer.Replace(steps[i].command)
		steps[i].output = strings.TrimSpace(replacer.Replace(steps[i].output))
	}
	return steps
}
