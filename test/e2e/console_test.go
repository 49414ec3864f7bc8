package e2e

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Documentation shows commands and what they print like this, in a block of the language `console`:
//
//	$ first command, which goes on while a line ends in a backslash, \
//	    without a prompt
//	what it prints
//	$ second command
//
// A marker before a block, with nothing but blank lines between, says that TestDocumentation runs it:
//
//	<!-- test: quickstart -->
//
// It means that the block works for somebody who has typed `make run` in one terminal, and types the commands into bash
// in another one, in the repository's root folder.
//
// All marked blocks of a page are typed into one shell, from the first to the last, while one quickstart runs: what a
// block sets, in the shell or by the admin API, is there in the next. What the commands print, to stdout and stderr,
// must be what the page says, letter for letter; only line ends at the end of it do not matter, nor does the exit
// status. `npx` knows MCP Inspector in the version of package-lock.json, and nothing else. A block without a marker is
// not run.

// block is a console block of a page.
type block struct {
	line   int    // of its beginning
	marker string // what its marker says after "test:", empty without one
	steps  []step
}

// step is a command, and what it prints.
type step struct{ command, output string }

const fence = "```"

var markerLine = regexp.MustCompile(`^<!--\s*test:\s*(\S.*?)\s*-->$`)

// consoleBlocks reads the console blocks of a page. A marker that marks none is an error, and so is a block that cannot
// be understood: they would silently not be tested.
func consoleBlocks(page string) (blocks []block, err error) {
	lines := strings.Split(page, "\n")
	marker := ""
	for i := 0; i < len(lines); i++ {
		match := markerLine.FindStringSubmatch(lines[i])
		language, begins := strings.CutPrefix(lines[i], fence)
		isConsole := begins && language == "console"
		switch {
		case marker != "" && !isConsole && strings.TrimSpace(lines[i]) != "":
			return nil, fmt.Errorf("line %d: a console block should follow the marker", i+1)
		case match != nil:
			marker = match[1]
		case strings.HasPrefix(lines[i], "<!-- test"):
			return nil, fmt.Errorf("line %d: not a marker: <!-- test: name -->", i+1)
		case begins:
			length := slices.Index(lines[i+1:], fence)
			if length < 0 {
				return nil, fmt.Errorf("line %d: the block has no end", i+1)
			}
			if isConsole {
				steps, err := readSteps(lines[i+1 : i+1+length])
				if err != nil {
					return nil, fmt.Errorf("line %d: %w", i+1, err)
				}
				blocks = append(blocks, block{i + 1, marker, steps})
				marker = ""
			}
			i += length + 1
		}
	}
	if marker != "" {
		return nil, errors.New("no console block follows the last marker")
	}
	return blocks, nil
}

// readSteps reads what is inside of a block.
func readSteps(lines []string) (steps []step, err error) {
	for i := 0; i < len(lines); i++ {
		command, isCommand := strings.CutPrefix(lines[i], "$ ")
		if !isCommand {
			if len(steps) == 0 {
				return nil, errors.New("a console block begins with a command, after `$ `")
			}
			steps[len(steps)-1].output += lines[i] + "\n"
			continue
		}
		for strings.HasSuffix(lines[i], `\`) && i+1 < len(lines) {
			i++
			command += "\n" + lines[i]
		}
		steps = append(steps, step{command: command})
	}
	if len(steps) == 0 {
		return nil, errors.New("a console block without a command")
	}
	return steps, nil
}

func TestConsoleBlocks(t *testing.T) {
	page := `# A page

` + fence + `sh
$ none of ours
` + fence + `

<!-- test: quickstart -->

` + fence + `console
$ a \
    b
1

2
$ c
` + fence + `
Not marked:
` + fence + `console
$ d
` + fence + `
<!-- test: something else -->
` + fence + `console
$ e
  3
` + fence + `
`
	want := []block{
		{9, "quickstart", []step{{"a \\\n    b", "1\n\n2\n"}, {"c", ""}}},
		{18, "", []step{{"d", ""}}},
		{22, "something else", []step{{"e", "  3\n"}}},
	}
	if got, err := consoleBlocks(page); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestConsoleBlocksThatWouldNotBeTested(t *testing.T) {
	const console = fence + "console\n"
	for page, want := range map[string]string{
		"<!-- test: x -->":                            "no console block follows",
		"<!-- test: x -->\ntext":                      "line 2: a console block should follow",
		"<!-- test: x -->\n<!-- test: y -->":          "line 2: a console block should follow",
		"<!-- test: x -->\n" + fence + "sh\n" + fence: "line 2: a console block should follow",
		"<!-- test: x -->\n  " + console:              "line 2: a console block should follow",
		"<!-- test -->":                               "line 1: not a marker",
		"<!-- test: -->":                              "line 1: not a marker",
		console + "$ a":                               "line 1: the block has no end",
		console + fence:                               "line 1: a console block without a command",
		console + "a\n" + fence:                       "line 1: a console block begins with a command",
	} {
		if _, err := consoleBlocks(page); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", page, err, want)
		}
	}
}
