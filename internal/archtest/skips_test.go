package archtest

import (
	"go/ast"
	"go/build/constraint"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// harmlessEnv are variables that a test may read anywhere: they say where things are, not what to leave out.
var harmlessEnv = []string{"GOFLAGS", "HOME", "PATH", "TMPDIR"}

// platforms are the build tags a test file may have, because they hold somewhere without anybody setting them.
var platforms = []string{"aix", "darwin", "freebsd", "linux", "unix", "windows", "amd64", "arm64", "race"}

// skips complains about the ways in which a test does not run: it skips itself, asks for -short, asks the
// environment (but a TestMain may, to run itself as another program), or hides behind a build tag. Helpers outside of
// test files may not skip either.
func skips(files []goFile) (complaints []string) {
	for _, f := range files {
		if f.isTest() {
			complaints = append(complaints, hidden(f)...)
		}
		for _, decl := range f.ast.Decls {
			fn, _ := decl.(*ast.FuncDecl)
			inMain := fn != nil && fn.Name.Name == "TestMain"
			ast.Inspect(decl, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				receiver, _ := sel.X.(*ast.Ident)
				switch name := sel.Sel.Name; {
				case name == "Skip" || name == "Skipf" || name == "SkipNow":
					complaints = append(complaints, f.line(n)+": skips a test")
				case !f.isTest() || receiver == nil:
				case receiver.Name == "testing" && name == "Short":
					complaints = append(complaints, f.line(n)+": a test asks for -short")
				case receiver.Name == "os" && (name == "Getenv" || name == "LookupEnv") && !inMain && !harmless(call):
					complaints = append(complaints, f.line(n)+": a test asks the environment")
				}
				return true
			})
		}
	}
	return complaints
}

func harmless(call *ast.CallExpr) bool {
	if len(call.Args) != 1 {
		return false
	}
	lit, ok := call.Args[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return false
	}
	name, _ := strconv.Unquote(lit.Value)
	return slices.Contains(harmlessEnv, name)
}

// hidden complains about build tags that somebody would have to set.
func hidden(f goFile) (complaints []string) {
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if c.Pos() > f.ast.Package || !constraint.IsGoBuild(c.Text) {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			if err != nil {
				complaints = append(complaints, f.line(c)+": "+err.Error())
				continue
			}
			expr.Eval(func(tag string) bool {
				if !slices.Contains(platforms, tag) && !strings.HasPrefix(tag, "go1.") {
					complaints = append(complaints, f.line(c)+": a test hides behind the build tag "+tag)
				}
				return true
			})
		}
	}
	return complaints
}

func TestNoTestIsSkipped(t *testing.T) { report(t, skips(goFiles(t))) }

func TestNoTestIsSkippedCanFail(t *testing.T) {
	expect(t, skips([]goFile{parseGo(t, "good_test.go", `//go:build linux && !race

package p

func TestMain(m *testing.M) {
	if os.Getenv("BE_THE_SERVER") != "" {
		serve()
	}
	os.Exit(m.Run())
}

func TestA(t *testing.T) {
	run("PATH="+os.Getenv("PATH"), dec.SkipValue(), filepath.SkipDir) // not t.Skip
}`)}))
	expect(t,
		skips([]goFile{
			parseGo(t, "tags_test.go", `//go:build integration || linux

package p`),
			parseGo(t, "bad_test.go", `package p

func TestA(t *testing.T) { t.Skip("later") }
func TestB(t *testing.T) { t.Run("x", func(t *testing.T) { t.SkipNow() }) }
func TestC(tb testing.TB) { if testing.Short() { return } }
func TestD(t *testing.T) { if os.Getenv("E2E") == "" { return } }
func TestE(t *testing.T) { if _, ok := os.LookupEnv(name); !ok { return } }
var f = func(t *testing.T) { t.Skipf("%d", 1) }`),
			parseGo(t, "helper.go", `package p

func Need(t testing.TB) { t.Skip() }
func Home() string { return os.Getenv("MCP_HOME") }`),
		}),
		"tags_test.go:1: a test hides behind the build tag integration",
		"bad_test.go:3: skips a test",
		"bad_test.go:4: skips a test",
		"bad_test.go:5: a test asks for -short",
		"bad_test.go:6: a test asks the environment",
		"bad_test.go:7: a test asks the environment",
		"bad_test.go:8: skips a test",
		"helper.go:3: skips a test",
	)
}
