package mcpwire

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestIsUnfiltered(t *testing.T) {
	for doc, want := range map[string]bool{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`: true,
		`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`:                                 true,
		`{"jsonrpc":"2.0","id":1,"method":"roots/list"}`:                                                true,
		`[{"method":"ping"},{"method":"x"}]`:                                                            true,
		`{"text":"resul"}`:                                                                              true,
		`{"text":"esult, ources, asks, cknowledged, unlucky, kukuk"}`:                                   true,
		``:                       true,
		`{"result":1}`:           false,
		`{"RESULT":1}`:           false,
		`{"Result" :1}`:          false,
		`{"text":"the results"}`: false,
		`{"re\u0073ult":1}`:      false,
		"{\"re\u017fult\":1}":    false,
		"{\"x\":1\n}":            false,
		"{\"x\":\"\x00\"}":       false,
		"{\"x\":\"\x7f\"}":       false,
		"\xef\xbb\xbf{}":         false,
		`{"method":"notifications/resources/updated"}`:      false,
		`{"method":"notifications/RESOURCES/list_changed"}`: false,
		`{"method":"notifications/tasks"}`:                  false,
		`{"method":"notifications/tas` + "\u212a" + `s"}`:   false,
		`result`: false,
		`k`:      true,
	} {
		if got := IsUnfiltered([]byte(doc)); got != want {
			t.Errorf("%s: %t, want %t", doc, got, want)
		}
	}
	for _, w := range tellingWords {
		if w.word[w.at] != w.anchor || w.anchor != 'u' && w.anchor != 'k' {
			t.Errorf("%+v", w)
		}
		for i := range w.word { // wherever it stands, and with any case
			odd := w.word[:i] + strings.ToUpper(w.word[i:i+1]) + w.word[i+1:]
			if IsUnfiltered([]byte(odd)) || IsUnfiltered([]byte("a"+odd)) || IsUnfiltered([]byte(odd+"a")) {
				t.Errorf("%q is not found", odd)
			}
		}
	}
	// what a filter acts on has such a word
	for _, method := range append(slices.Collect(maps.Keys(updatePlaces)), acknowledgedMethod) {
		if IsUnfiltered(fmt.Appendf(nil, `{"method":%q}`, method)) {
			t.Errorf("%s would not be filtered", method)
		}
	}
}

// FuzzIsUnfiltered: a filter that hides everything changes nothing of what is unfiltered, and a lenient reader finds nothing in it.
func FuzzIsUnfiltered(f *testing.F) {
	for _, doc := range []string{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}`, `[{"method":"ping"}]`, `{"id":1,"error":{"code":1}}`,
		`{"Result":{"tools":[{"name":"a"}]}}`, `{"result":{"tasks":[]}}`, `{"method":"notifications/tasks","params":{"taskId":"a"}}`, `{"a":1,"a":2}`,
	} {
		f.Add([]byte(doc))
	}
	filter := &Filter{Visible: func(TargetKind, string) bool { return false }, ListVisible: func(string) bool { return false }, Private: true}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if !IsUnfiltered(doc) {
			return
		}
		if out, err := filter.Message(doc); err == nil && !bytes.Equal(out, doc) {
			t.Fatalf("%q became %q", doc, out)
		}
		for _, m := range messagesOf[lenientMessage](doc) {
			if names := m.names(); len(names) > 0 {
				t.Fatalf("%q names %q", doc, names)
			}
		}
	})
}
