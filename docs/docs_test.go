// Package docs_test tries what the documentation says: every Caddyfile in it
// loads, every table of rules is played through, and the lists of options,
// answers and bounds are those of the code.
//
// What it reads is written like this:
//
//   - A block tagged caddyfile is a whole Caddyfile, or the inside of a site.
//     Files below /etc/caddy/ hold the key set of the tests, or a certificate.
//   - A block tagged json is the handler that the caddyfile block before it
//     adapts to.
//   - A table with the columns claims, operation and answer tries the
//     caddyfile block before it. docs/rules.md says how it is read.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is a code block or a table of a page.
type block struct {
	page string
	line int
	// lang and text are of a code block.
	lang, text string
	// rows are of a table, the header first; nil for a code block.
	rows [][]string
}

// pages are the pages with examples.
func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 4 {
		t.Fatalf("only %d pages found", len(names))
	}
	return append(names, "../README.md")
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks takes a page apart.
func blocks(t *testing.T, page string) (list []*block) {
	t.Helper()
	var open *block
	for i, line := range strings.Split(read(t, page), "\n") {
		lang, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open != nil && open.rows == nil:
			open = nil
		case isFence:
			open = &block{page: page, line: i + 1, lang: lang}
			list = append(list, open)
		case open != nil && open.rows == nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "|"):
			if open == nil {
				open = &block{page: page, line: i + 1}
				list = append(list, open)
			}
			open.rows = append(open.rows, cells(line))
		default:
			open = nil
		}
	}
	for _, b := range list {
		if len(b.rows) > 1 {
			b.rows = slices.Delete(b.rows, 1, 2) // |---|---|
		}
	}
	return list
}

var separator = regexp.MustCompile(`[^\\]\|`)

// cells splits a row of a table at the bars that have no backslash.
func cells(line string) (list []string) {
	line = strings.TrimPrefix(line, "|")
	for {
		at := separator.FindStringIndex(" " + line)
		if at == nil {
			return list
		}
		list = append(list, strings.TrimSpace(strings.ReplaceAll(line[:at[0]], `\|`, "|")))
		line = line[at[1]-1:]
	}
}

func TestCells(t *testing.T) {
	got := cells("| a | | `b \\| c` |d|")
	if want := []string{"a", "", "`b | c`", "d"}; !slices.Equal(got, want) {
		t.Errorf("cells: %q, want %q", got, want)
	}
}

// codes are the texts in backticks.
func codes(text string) (list []string) {
	parts := strings.Split(text, "`")
	for i := 1; i < len(parts); i += 2 {
		list = append(list, parts[i])
	}
	return list
}
