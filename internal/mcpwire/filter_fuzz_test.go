package mcpwire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// lenientMessage is what a client written in Go makes of a message: names in
// any case, the last one of several.
type lenientMessage struct {
	Method string
	Params struct {
		URI, TaskID   string
		Notifications struct {
			ResourceSubscriptions, TaskIDs []string
			PromptsListChanged             bool
		}
	}
	Result struct {
		Tools, Prompts    []struct{ Name string }
		Resources         []struct{ URI string }
		ResourceTemplates []struct{ URITemplate string }
		Tasks             []struct{ TaskID string }
	}
}

// names are those by which the message would make something known.
func (m *lenientMessage) names() []string {
	var names []string
	r, n := &m.Result, &m.Params.Notifications
	for _, entry := range append(r.Tools, r.Prompts...) {
		names = append(names, entry.Name)
	}
	for _, entry := range r.Resources {
		names = append(names, entry.URI)
	}
	for _, entry := range r.ResourceTemplates {
		names = append(names, entry.URITemplate)
	}
	for _, entry := range r.Tasks {
		names = append(names, entry.TaskID)
	}
	switch m.Method {
	case "notifications/resources/updated":
		names = append(names, m.Params.URI)
	case "notifications/tasks/status", "notifications/tasks":
		names = append(names, m.Params.TaskID)
	case "notifications/subscriptions/acknowledged":
		names = append(append(names, n.ResourceSubscriptions...), n.TaskIDs...)
		if n.PromptsListChanged {
			names = append(names, "prompts/list")
		}
	}
	return names
}

// messagesOf reads a message, or an array of them, into what T is.
func messagesOf[T any](doc []byte) []T {
	var one T
	var many []T
	// of what does not fit T, it reads as much as does
	if first := bytes.TrimLeft(doc, " \t\r\n"); len(first) > 0 && first[0] == '[' {
		_ = json.Unmarshal(doc, &many)
		return many
	}
	_ = json.Unmarshal(doc, &one)
	return []T{one}
}

// rawLists holds the entries of lists as they are written.
type rawLists struct {
	Method string
	Result struct {
		Tools, Prompts, Resources, ResourceTemplates, Tasks []json.RawMessage
	}
}

func (r *rawLists) entries(member string) []json.RawMessage {
	switch member {
	case "tools":
		return r.Result.Tools
	case "prompts":
		return r.Result.Prompts
	case "resources":
		return r.Result.Resources
	case "resourceTemplates":
		return r.Result.ResourceTemplates
	default:
		return r.Result.Tasks
	}
}

// entryNames says by which member the entries of each list are judged.
var entryNames = map[string]string{
	"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate", "tasks": "taskId",
}

// isSeen is what okFilter decides.
func isSeen(name string) bool { return strings.HasPrefix(name, "ok") }

// reference filters a message the slow way, as a tree, and returns nil for
// one that it leaves to other checks.
func reference(doc []byte, private bool) any {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var tree any
	if dec.Decode(&tree) != nil {
		return nil
	}
	message, _ := tree.(map[string]any)
	method, _ := message["method"].(string)
	if message == nil || strings.HasPrefix(method, "notifications/") {
		return nil
	}
	result, ok := message["result"].(map[string]any)
	if !ok {
		return tree
	}
	lists := 0
	for member, by := range entryNames {
		value, found := result[member]
		if !found {
			continue
		}
		lists++
		entries, ok := value.([]any)
		if !ok {
			continue
		}
		kept := []any{}
		for _, entry := range entries {
			if isSeen(entry.(map[string]any)[by].(string)) {
				kept = append(kept, entry)
			}
		}
		result[member] = kept
	}
	if _, ok := result["cacheScope"]; private || ok && lists > 0 {
		result["cacheScope"] = "private"
	}
	return tree
}

func FuzzFilter(f *testing.F) {
	for _, doc := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok_1","x":[1.0e5]},{"name":"secret"}],"nextCursor":"n"}}`,
		` { "result" : { "prompts" : [ { "name" : "secret" } , { "name" : "ok" } ] , "tools":[] , "cacheScope" : "public" } } `,
		`{"result":{"resources":[{"uri":"ok"}],"resourceTemplates":[{"uriTemplate":"secret"}],"tasks":[{"taskId":"secret"}]}}`,
		`{"Result":{"tools":[{"name":"secret"}]}}`, `{"result":{"tools":[],"t\u006fols":[{"name":"secret"}]}}`,
		`{"result":{"tool\u017f":[{"name":"secret"}],"tas\u212as":[{"taskId":"secret"}]}}`, `{"result":{"tools":[{"name":"ok","Name":"secret"}]}}`,
		`[{"result":{"tools":[{"name":"secret"}]}},{"method":"notifications/resources/updated","params":{"uri":"secret"}},{"id":2}]`,
		`{"method":"notifications/tasks/status","params":{"taskId":"secret"}}`, `{"method":"notifications/tasks","params":{"taskId":"ok"}}`,
		`{"method":"notifications/resources/updated","params":{"uri":"ok"},"result":{"tools":[{"name":"secret"}]}}`,
		`{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":["ok","secret"],"taskIds":["secret"],"promptsListChanged":true}}}`,
		`{"result":{"tools":null,"prompts":{}}}`, `{"result":[{"tools":[{"name":"secret"}]}]}`, `{"result":{}}`, `{"result":{ }}`, `{"id":1,"error":{}}`,
		`{"result":{"tools":[{"name":"secret","name":"ok"}]}}`, `{"result":{}} {"result":{"tools":[{"name":"secret"}]}}`, `{"method":null,"result":{"tools":[{"name":"secret"}]}}`,
	} {
		f.Add([]byte(doc), false)
		f.Add([]byte(doc), true)
	}
	f.Fuzz(func(t *testing.T, doc []byte, private bool) {
		filter := okFilter()
		filter.Private = private
		before := bytes.Clone(doc)
		out, err := filter.Message(doc)
		if !bytes.Equal(doc, before) {
			t.Fatalf("%q has become %q", before, doc)
		}
		if out == nil || err != nil {
			if out != nil {
				t.Fatalf("%q gave both %q and %v", doc, out, err)
			}
			return
		}
		if !json.Valid(doc) || !json.Valid(out) {
			t.Fatalf("%q became %q, which is valid: %v", doc, out, json.Valid(out))
		}
		for _, m := range messagesOf[lenientMessage](out) {
			for _, name := range m.names() {
				if !isSeen(name) {
					t.Fatalf("%q of %q is in %q", name, doc, out)
				}
			}
		}
		if again, err := filter.Message(out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q became %q, and that %q, %v", doc, out, again, err)
		}
		if want := reference(doc, private); want != nil {
			dec := json.NewDecoder(bytes.NewReader(out))
			dec.UseNumber()
			var got any
			if err := dec.Decode(&got); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%q became %q", doc, out)
			}
			entriesKeepTheirBytes(t, doc, out)
		}
	})
}

// entriesKeepTheirBytes wants the entries that are seen in the same order and
// in the same bytes.
func entriesKeepTheirBytes(t *testing.T, doc, out []byte) {
	t.Helper()
	in, left := messagesOf[rawLists](doc)[0], messagesOf[rawLists](out)[0]
	for member, by := range entryNames {
		var want []json.RawMessage
		for _, entry := range in.entries(member) {
			var members map[string]any
			if json.Unmarshal(entry, &members) != nil {
				continue
			}
			if name, _ := members[by].(string); isSeen(name) {
				want = append(want, entry)
			}
		}
		if got := left.entries(member); len(want) != len(got) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("%s of %q became %q", member, doc, out)
		}
	}
}
