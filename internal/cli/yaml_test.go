package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func mustMarshal(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestYAML: what YAML says is what the same JSON would.
func TestYAML(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1":                            `{"a":1}`,
		"a: [1, 2.50, 1e3, -0x10, 0o17]":  `{"a":[1,2.50,1e3,-16,15]}`,
		"a: 9007199254740993":             `{"a":9007199254740993}`,
		"a: 99999999999999999999999":      `{"a":99999999999999999999999}`,
		"a: .5":                           `{"a":0.5}`,
		`a: "1"`:                          `{"a":"1"}`,
		"a: yes\nb: no\nc: true\nd: null": `{"a":"yes","b":"no","c":true,"d":null}`,
		"a: ~\nb:":                        `{"a":null,"b":null}`,
		"a: 2026-08-01T12:00:00Z":         `{"a":"2026-08-01T12:00:00Z"}`,
		"a: 2026-08-01":                   `{"a":"2026-08-01"}`,
		"a: |\n  x\n  y\n":                `{"a":"x\ny\n"}`,
		"a: &x {b: 1}\nc: *x":             `{"a":{"b":1},"c":{"b":1}}`,
		"\"1\": x":                        `{"1":"x"}`,
		`{"a": [true, "\u00e9"]}`:         `{"a":[true,"é"]}`,
		"[]":                              `[]`,
	} {
		f, err := readYAML("f.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if string(f.json) != want || !jsontext.Value(f.json).IsValid() {
			t.Errorf("%s: %s, want %s", text, f.json, want)
		}
	}
}

// TestYAMLRefuses: what means nothing in JSON, or could be read in two ways,
// is an error with its line.
func TestYAMLRefuses(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	for text, want := range map[string]string{
		"":                           "f.yaml: is empty",
		"a: 1\n---\nb: 2":            "f.yaml: holds more than one document",
		"a: 1\na: 2":                 `f.yaml:2: the key "a" is there twice`,
		"b:\n  - {a: 1, a: 1}":       `f.yaml:2: the key "a" is there twice`,
		"a: 1\n1: 2":                 "f.yaml:2: the key 1 must be a string",
		"a: &x {b: 1}\nc:\n  <<: *x": "f.yaml:3: the key << must be a string",
		"a: 0xFFFFFFFFFFFFFFFF":      "f.yaml:1: 0xFFFFFFFFFFFFFFFF is not an integer of 64 bits",
		"a: .inf":                    "f.yaml:1: .inf is not a number that JSON has",
		"a: .nan":                    "f.yaml:1: .nan is not a number that JSON has",
		"a: !!binary aGk=":           "f.yaml:1: the tag !!binary has no meaning here",
		"a: !mine x":                 "f.yaml:1: the tag !mine has no meaning here",
		"a: [1":                      "f.yaml: ",
		"a: \tb: c":                  "f.yaml: ",
		"a: &a [*a]":                 "f.yaml:1: too large or nested too deeply",
		strings.Repeat("[", 200) + strings.Repeat("]", 200): "too large or nested too deeply",
		bomb: "too large or nested too deeply",
	} {
		if f, err := readYAML("f.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %s (%v)", text, err, want, f)
		}
	}
}

// FuzzYAML: what comes out is JSON, whatever goes in.
func FuzzYAML(f *testing.F) {
	for _, text := range []string{"a: 1", "a: &x [1, .5]\nb: *x", `{"a": "\u00e9"}`, "- 0x1F\n- !!str 1", "a: \xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := readYAML("f.yaml", text)
		if err == nil && !jsontext.Value(got.json).IsValid() {
			t.Errorf("%q becomes %q", text, got.json)
		}
	})
}
