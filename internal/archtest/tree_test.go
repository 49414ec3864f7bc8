package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// modulePath is the module of the repository's root; the other modules of the tree begin with it, too.
const modulePath = "github.com/caddymcp/gateway"

// root is the repository's root folder, seen from here: tests run in the folder of their package.
const root = "../.."

// goFile is a parsed Go file; its path is relative to the root, with slashes.
type goFile struct {
	path string
	ast  *ast.File
	fset *token.FileSet
}

func (f goFile) dir() string  { return path.Dir(f.path) }
func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }
func (f goFile) line(n ast.Node) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

func (f goFile) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

// parseGo parses one file; its name decides what it counts as.
func parseGo(t *testing.T, name, text string) goFile {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return goFile{name, file, fset}
}

// goFiles parses every Go file of the repository, those of the other modules included.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	for _, name := range names(t, ".go") {
		files = append(files, parseGo(t, name, read(t, name)))
	}
	if len(files) == 0 {
		t.Fatal("no Go files found")
	}
	return files
}

// names lists the files with an extension, without what git or the go command ignores.
func names(t *testing.T, ext string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch base := d.Name(); {
			case p == root:
				return nil
			case base == "node_modules", base == "testdata", base == "bin", base[0] == '.':
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(p, ext) {
			rel, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			found = append(found, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// read returns the text of a file, named from the root.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exists tells whether there is a file or folder of that name, seen from the root.
func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil
}

// report turns complaints into test errors.
func report(t *testing.T, complaints []string) {
	t.Helper()
	for _, c := range complaints {
		t.Error(c)
	}
}

// expect compares the complaints about a broken tree with the beginnings that they should have, in that order.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		t.Errorf("complaints:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
