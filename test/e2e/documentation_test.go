package e2e

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDocumentation types what the pages of this repository tell their readers to type, where a marker says so. What
// the marker means stands at consoleBlocks.
func TestDocumentation(t *testing.T) {
	tested := false
	for _, page := range pages(t) {
		text, err := os.ReadFile(inRepository(page))
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := consoleBlocks(string(text))
		if err != nil {
			t.Errorf("%s: %v", page, err)
		}
		blocks = slices.DeleteFunc(blocks, func(b block) bool { return b.marker == "" })
		if len(blocks) > 0 {
			tested = tested || page == "README.md"
			t.Run(page, func(t *testing.T) { followPage(t, blocks) })
		}
	}
	if !tested {
		t.Error("README.md marks no console block: the first commands that anybody tries are not tested")
	}
}

// followPage types the blocks of a page into one shell, beside one quickstart.
func followPage(t *testing.T, blocks []block) {
	t.Helper()
	for _, b := range blocks {
		if b.marker != "quickstart" {
			t.Fatalf("block of line %d: unknown marker %q", b.line, b.marker)
		}
	}
	startQuickstart(t)
	s := startShell(t, repository)
	for _, b := range blocks {
		s.follow(t, b)
	}
}

// pages lists the Markdown files of the repository.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(repository), ".", func(name string, d fs.DirEntry, err error) error {
		switch base := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (base == "node_modules" || base == "testdata" || base == "bin" || name != "." && base[0] == '.'):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(base, ".md"):
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
