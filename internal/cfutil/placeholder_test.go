package cfutil

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_A", "alpha")
	t.Setenv("TEST_NESTED", "{env.TEST_A}")
	t.Setenv("TEST_EMPTY", "")
	for text, want := range map[string]string{
		"":                            "",
		"plain":                       "plain",
		"{env.TEST_A}":                "alpha",
		"<{env.TEST_A}-{env.TEST_A}>": "<alpha-alpha>",
		"{file." + file + "}":         "from a file",
		"{env.TEST_NESTED}":           "{env.TEST_A}", // what a value holds is text

		// every other brace stays: CEL, JSON and placeholders of requests
		`jwt.sub == "{env}"`:                `jwt.sub == "{env}"`,
		`{"keys":[{"k":"{env.TEST_A}"}]}`:   `{"keys":[{"k":"alpha"}]}`,
		`x.matches("a{2,3}")`:               `x.matches("a{2,3}")`,
		`{"a": 1}["a"] == 1`:                `{"a": 1}["a"] == 1`,
		"{http.request.header.X}{time.now}": "{http.request.header.X}{time.now}",
		"{jwt.sub}":                         "{jwt.sub}",
		"{system.hostname}":                 "{system.hostname}",
		"{$TEST_A}":                         "{$TEST_A}",
		"{env.}":                            "{env.}",
		"{env.TEST A}":                      "{env.TEST A}",
		"{env.TEST_A":                       "{env.TEST_A",
		"{{env.TEST_A}}":                    "{alpha}",
		"{ENV.TEST_A}":                      "{ENV.TEST_A}",
	} {
		got := text
		if err := Expand(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
		if HasPlaceholder(text) != (got != text) {
			t.Errorf("%s: HasPlaceholder is %t", text, HasPlaceholder(text))
		}
	}
	for text, name := range map[string]string{
		"{env.TEST_EMPTY}":                  "{env.TEST_EMPTY}",
		"x{env.TEST_UNKNOWN}":               "{env.TEST_UNKNOWN}",
		"{env.TEST_A}{env.TEST_EMPTY}":      "{env.TEST_EMPTY}",
		"{env.TEST_NO_1}{env.TEST_NO_2}":    "{env.TEST_NO_1}",
		"{file." + file + ".missing}":       "{file." + file + ".missing}",
		"{file." + filepath.Dir(file) + "}": "{file." + filepath.Dir(file) + "}",
	} {
		got := text
		if err := Expand(&got); err == nil || !strings.Contains(err.Error(), "placeholder "+name+" is empty") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

func TestExpandSeveral(t *testing.T) {
	t.Setenv("TEST_A", "alpha")
	a, b := "{env.TEST_A}", "{env.TEST_UNKNOWN}"
	if err := Expand(&a, &b); err == nil || a != "alpha" {
		t.Errorf("%q, %v", a, err)
	}
	lists := [][]string{{"x", "{env.TEST_A}"}, nil, {"{env.TEST_A}!"}}
	if err := ExpandAll(lists...); err != nil || lists[0][1] != "alpha" || lists[2][0] != "alpha!" {
		t.Errorf("%q, %v", lists, err)
	}
	if err := ExpandAll([]string{"x"}, []string{"{env.TEST_UNKNOWN}"}); err == nil {
		t.Error("an empty element is no error")
	}
}
