package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a throwaway module with one test file and returns its folder.
func module(t *testing.T, body string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"go.mod":    "module example.test/m\n\ngo 1.26.0\n",
		"m_test.go": "package m\n\n" + body,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, body string
		good       bool
		says       []string
		saysNot    []string
	}{
		{
			"passes", `import "testing"
func TestA(t *testing.T) { t.Log("quiet"); t.Run("b", func(*testing.T) {}) }`, true,
			[]string{"ok  \texample.test/m", "2 passed, 0 failed, 0 skipped\n"},
			[]string{"quiet", "=== RUN"},
		},
		{
			"fails", `import "testing"
func TestA(t *testing.T) { t.Error("why it failed") }
func TestB(t *testing.T) {}`, false,
			[]string{"why it failed", "1 passed, 1 failed, 0 skipped\n"},
			nil,
		},
		{
			"skips", `import "testing"
func TestA(t *testing.T) { t.Skip("not today") }
func TestB(t *testing.T) {}`, false,
			[]string{"a skipped test is a failure: example.test/m TestA", "not today", "1 passed, 0 failed, 1 skipped\n"},
			nil,
		},
		{
			"panics", `import "testing"
func TestA(t *testing.T) { println("last words"); panic("bang") }`, false,
			[]string{"bang", "0 passed, 1 failed, 0 skipped\n"},
			nil,
		},
		{
			"exits early", `import ("os"; "testing")
func TestA(t *testing.T) { os.Exit(0) }`, false,
			[]string{"0 passed, 1 failed, 0 skipped\n"},
			nil,
		},
		{
			"does not build", `import "testing"
func TestA(t *testing.T) { nonsense() }`, false,
			[]string{"undefined: nonsense", "0 passed, 0 failed, 0 skipped\n"},
			nil,
		},
		{
			"has no test", `import _ "testing"`, false,
			[]string{"no test ran", "0 passed, 0 failed, 0 skipped\n"},
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if good := run(&out, []string{module(t, c.body)}, []string{"./..."}); good != c.good {
				t.Errorf("run = %v, want %v", good, c.good)
			}
			for _, s := range c.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("the output lacks %q", s)
				}
			}
			for _, s := range c.saysNot {
				if strings.Contains(out.String(), s) {
					t.Errorf("the output has %q", s)
				}
			}
			if t.Failed() {
				t.Logf("output:\n%s", out.String())
			}
		})
	}
}

// One bad folder is enough, and the last line counts all of them.
func TestRunAddsUp(t *testing.T) {
	good := module(t, "import \"testing\"\nfunc TestA(t *testing.T) {}")
	bad := module(t, "import \"testing\"\nfunc TestA(t *testing.T) { t.Fail() }")
	var out strings.Builder
	if run(&out, []string{bad, good}, []string{"./..."}) {
		t.Error("a failing folder went unnoticed")
	}
	if !strings.HasSuffix(out.String(), "\n1 passed, 1 failed, 0 skipped\n") {
		t.Errorf("output:\n%s", out.String())
	}
}

func TestSplit(t *testing.T) {
	dirs, args, err := split([]string{".", "examples", "--", "-race", "./..."})
	if err != nil || strings.Join(dirs, " ") != ". examples" || strings.Join(args, " ") != "-race ./..." {
		t.Errorf("got %q, %q, %v", dirs, args, err)
	}
	for _, argv := range [][]string{nil, {"./..."}, {"--", "./..."}} {
		if _, _, err := split(argv); err == nil {
			t.Errorf("%q: no error", argv)
		}
	}
}
