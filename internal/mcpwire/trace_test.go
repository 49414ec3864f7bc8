package mcpwire

import (
	"slices"
	"strings"
	"testing"
)

// Only a traceparent of version 00 is one; anything else is no fault, since
// it decides nothing.
func TestTraceParent(t *testing.T) {
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for value, want := range map[string]string{
		`"` + valid + `"`: valid,
		`"` + strings.Replace(valid, "-01", "-00", 1) + `"`:   strings.Replace(valid, "-01", "-00", 1),
		`"` + strings.Replace(valid, "00-", "01-", 1) + `"`:   "",
		`"` + strings.Replace(valid, "00-", "ff-", 1) + `"`:   "",
		`"` + strings.ToUpper(valid) + `"`:                    "",
		`"` + strings.Replace(valid, "b7ad", "b7 d", 1) + `"`: "",
		`"` + strings.Replace(valid, "-b7", "0b7", 1) + `"`:   "",
		`"` + strings.Replace(valid, "0af", "0a-", 1) + `"`:   "",
		`"` + valid + `-x"`:      "",
		`"` + valid[:54] + `"`:   "",
		`"` + valid[:53] + `\n"`: "",
		`"` + strings.Replace(valid, "0af", `\u0030af`, 1) + `"`:    "", // nobody writes it so
		`"00-00000000000000000000000000000000-b7ad6b7169203331-01"`: "",
		`"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"`: "",
		`null`: "", `7`: "", `{}`: "", `[]`: "", `""`: "",
		`[` + strings.Repeat("1,", 27) + `1 ]`: "", // as long as one
	} {
		m, err := Read([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"traceparent":` + value + `}}}`))
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		if m.Meta.TraceParent != want {
			t.Errorf("%s: %q, want %q", value, m.Meta.TraceParent, want)
		}
	}
	// twice is refused like every member
	if _, err := Read([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"traceparent":"","traceparent":""}}}`)); err == nil {
		t.Error("a duplicate member is accepted")
	}
}

// Methods are known, sorted and there once; whatever else is known begins
// like a notification.
func TestMethods(t *testing.T) {
	if !slices.IsSorted(Methods) || len(slices.Compact(slices.Clone(Methods))) != len(Methods) || len(Methods) < 25 {
		t.Errorf("%q", Methods)
	}
	for _, method := range Methods {
		if !known(method) {
			t.Errorf("%s is not known", method)
		}
	}
}

// Listed is told of every list, and of nothing that is none.
func TestListed(t *testing.T) {
	type list struct {
		kind            TargetKind
		visible, hidden int
	}
	for doc, want := range map[string][]list{
		`{"result":{"tools":[{"name":"a"},{"name":"b"},{"name":"c"}]}}`:               {{Tool, 2, 1}},
		`{"result":{"tools":[],"prompts":[{"name":"b"}]}}`:                            {{Tool, 0, 0}, {Prompt, 0, 1}},
		`{"result":{"resourceTemplates":[{"uriTemplate":"a"}]}}`:                      {{Resource, 1, 0}},
		`{"method":"notifications/resources/updated","params":{"uri":"b"}}`:           nil,
		`{"result":{"content":[]}}`:                                                   nil,
		`[{"result":{"tools":[{"name":"a"}]}},{"result":{"tasks":[{"taskId":"b"}]}}]`: {{Tool, 1, 0}, {Task, 0, 1}},
	} {
		var got []list
		f := Filter{
			Visible: func(_ TargetKind, name string) bool { return name != "b" },
			Listed:  func(kind TargetKind, visible, hidden int) { got = append(got, list{kind, visible, hidden}) },
		}
		if _, err := f.Message([]byte(doc)); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", doc, got, want)
		}
	}
}
