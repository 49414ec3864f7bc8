package mcpwire

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// guarded hands a document to a guard in pieces of the given size, 0 for all
// of it at once.
func guarded(doc string, size int) error {
	var g Guard
	if size == 0 {
		size = max(len(doc), 1)
	}
	for piece := range slices.Chunk([]byte(doc), size) {
		if err := g.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

func TestGuardPasses(t *testing.T) {
	for name, doc := range map[string]string{
		"the result of a call":       `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"x"}],"isError":false}}`,
		"an error":                   `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no","data":{"tools":[]}}}`,
		"blanks":                     " \t\r\n{ \"result\" : { \"content\" : [ ] } }\r\n",
		"a list deeper down":         `{"result":{"structuredContent":{"tools":[{"name":"secret"}],"result":{"tools":[1]}}}}`,
		"a list in the content":      `{"result":{"content":[{"tools":[1]},["tools",[1]]],"x":1}}`,
		"a list beside the result":   `{"tools":[1],"result":{"x":[1]},"prompts":[1]}`,
		"a list in another member":   `{"params":{"tools":[1]},"result":{}}`,
		"a list in a text":           `{"result":{"text":"\",\"tools\":[1]","x":"\\\",","tools":"[1]"}}`,
		"tools that are no list":     `{"result":{"tools":{"list":[1]},"prompts":null,"tasks":7,"resources":"[1]"}}`,
		"names that only start so":   `{"result":{"tools2":[1],"tool":[1],"":[1],"a\"tools":[1]},"result2":{"tools":[1]}}`,
		"a very long name":           `{"result":{"` + strings.Repeat("tools", 100) + `":[1]}}`,
		"names as values":            `{"x":"result","y":{"tools":[1]},"result":{"x":"tools","y":[1]}}`,
		"a result that is a list":    `{"result":["a","tools",[1]]}`,
		"an array of names":          `{"x":["result",{"tools":[1]}],"y":["a","result",{"tools":[1]}]}`,
		"deep":                       `{"result":{"x":` + deepJSON(100_000) + `}}`,
		"numbers and literals":       `{"result":{"a":-1.5e+10,"b":true,"c":false,"d":null,"e":1E-7}}`,
		"every byte in a text":       "{\"result\":{\"x\":\"\x7f\u00e9\u2028{}[],:\"}}",
		"a server that writes NaN":   `{"result":{"x":NaN,"y":-Infinity}}`,
		"nothing":                    ``,
		"only blanks":                " \n",
		"the start of a long answer": `{"result":{"content":[{"type":"text","text":"`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{0, 1, 3} {
				if err := guarded(doc, size); err != nil {
					t.Errorf("in pieces of %d: %v", size, err)
				}
			}
		})
	}
}

func TestGuardStops(t *testing.T) {
	for name, doc := range map[string]string{
		"tools":                       `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"secret"}]}}`,
		"prompts":                     `{"result":{"prompts":[]}}`,
		"resources":                   `{"result":{"resources":[]}}`,
		"templates":                   `{"result":{"resourceTemplates":[]}}`,
		"tasks":                       `{"result":{"tasks":[]}}`,
		"blanks":                      "{ \"result\"\n:\t{ \"tools\" :\r[ ] } }",
		"behind other members":        `{"a":{"b":[{"c":"}"}]},"result":{"x":[1,{"y":"]"}],"z":"\\","tools":[]}}`,
		"behind another result":       `{"result":{},"result":{"tools":[]}}`,
		"before another result":       `{"result":{"tools":[]},"result":{}}`,
		"behind other tools":          `{"result":{"tools":null,"tools":[]}}`,
		"Result":                      `{"Result":{"TOOLS":[]}}`,
		"names behind escapes":        `{"r\u0065sult":{"t\u006Fols":[]}}`,
		"all of a name escaped":       `{"result":{"\u0072\u0065\u0073\u006f\u0075\u0072\u0063\u0065\u0054\u0065\u006d\u0070\u006c\u0061\u0074\u0065\u0073":[]}}`,
		"a long s":                    `{"re` + "\u017f" + `ult":{"tool\u017f":[]}}`,
		"a Kelvin sign":               `{"result":{"tas\u212as":[]}}`,
		"a NUL":                       `{"result\u0000":{"tools\u0000x":[]}}`,
		"a NUL behind a long name":    `{"result":{"tools\u0000` + strings.Repeat("x", 200) + `":[]}}`,
		"a name nobody can read":      `{"result":{"\ud800":[]}}`,
		"an array":                    `[{"result":{"tools":[]}}]`,
		"blanks before an array":      "\n [1]",
		"a text":                      `"tools"`,
		"a number":                    `1`,
		"an event":                    "data: {\"result\":{\"tools\":[]}}\n\n",
		"a second value":              `{}{"result":{"tools":[]}}`,
		"a second line":               "{}\n{\"result\":{\"tools\":[]}}",
		"an array behind the value":   `{}[{"result":{"tools":[]}}]`,
		"too many ends":               `{}}}{"x":{"result":{"tools":[]}}}`,
		"an end first":                `}{"result":{"tools":[]}}`,
		"a byte order mark":           "\ufeff{\"result\":{\"tools\":[]}}",
		"UTF-16":                      "{\x00\"\x00r\x00e\x00s\x00u\x00l\x00t\x00\"\x00:\x00{\x00\"\x00t\x00o\x00o\x00l\x00s\x00\"\x00:\x00[\x00",
		"UTF-16 the other way":        "\x00{\x00\"\x00r\x00e\x00s\x00u\x00l\x00t\x00\"",
		"a comment":                   `{/*"*/"result":{"tools":[]}}/*"*/`,
		"a comment to the end":        "{#\"\n\"result\":{\"tools\":[]}}",
		"quotes of another language":  `{'"':1,"result":{"tools":[]}}`,
		"backslashes outside a text":  `{\"a":1,"result":{"tools":[]}}`,
		"a blank of another language": "{\u00a0\"result\":{\"tools\":[]}}",
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{0, 1, 3} {
				if err := guarded(doc, size); err == nil {
					t.Errorf("passes in pieces of %d", size)
				}
			}
		})
	}
}

// The guard stops before it lets the list through: whoever writes a piece on
// only after the guard has seen it has sent nothing of a list.
func TestGuardStopsBeforeTheFirstEntry(t *testing.T) {
	doc := `{"result":{"tools":[{"name":"secret"}]}}`
	var g Guard
	for i := range len(doc) {
		if err := g.Write([]byte(doc[i : i+1])); err != nil {
			if doc[i] != '[' {
				t.Errorf("stopped at %q", doc[:i+1])
			}
			return
		}
	}
	t.Error("not stopped")
}

// listIn looks for a list where a lenient reader would find one: under any
// case of its name, under any of several names that are the same.
func listIn(dec *json.Decoder, depth int, inResult bool) bool {
	found := false
	token, _ := dec.Token()
	switch token {
	case json.Delim('['):
		for dec.More() {
			found = listIn(dec, depth+1, false) || found
		}
		_, _ = dec.Token()
	case json.Delim('{'):
		for dec.More() {
			token, _ := dec.Token()
			name, _ := token.(string)
			isList := inResult && slices.ContainsFunc(
				[]string{"tools", "prompts", "resources", "resourceTemplates", "tasks"},
				func(list string) bool { return strings.EqualFold(list, name) })
			isResult := depth == 0 && strings.EqualFold(name, "result")
			var raw json.RawMessage
			if dec.Decode(&raw) != nil {
				return false
			}
			found = found || isList && raw[0] == '[' || isResult && raw[0] == '{' && listIn(json.NewDecoder(bytes.NewReader(raw)), 1, true)
		}
		_, _ = dec.Token()
	}
	return found
}

func FuzzGuard(f *testing.F) {
	for _, doc := range []string{
		`{"result":{"tools":[]}}`, `{"Result":{"T\u006fol\u017f":[{}]}}`, `{"a":[{"b":"]}"}],"result":{"x":{"y":1},"tas\u212as":[]}}`,
		`{"result":{"tools":null,"tools":[1]},"result":{}}`, `{"result":["a","tools",[1]]}`, `{"x":["a","result",{"tools":[1]}]}`,
		`{"result":{"x":"\\\"tools\":[","tools":{"tools":[]}}}`, `[{"result":{"tools":[]}}]`, `{}{"result":{"tools":[]}}`, "{\"result\":{\"\\ud800\":[]}}",
		`{"result":{"resourceTemplate\u0073":[]}}`, `{"result":{"":[],"tools\u0000":[]}}`, " {\n\"result\"\t:\r{\"prompts\":[]}}",
	} {
		f.Add(doc, 1)
		f.Add(doc, 5)
	}
	f.Fuzz(func(t *testing.T, doc string, size int) {
		err := guarded(doc, 0)
		if pieces := guarded(doc, max(size, 1)); (pieces == nil) != (err == nil) {
			t.Fatalf("at once %v, in pieces of %d %v", err, size, pieces)
		}
		if !json.Valid([]byte(doc)) {
			return
		}
		var lists struct {
			Result struct {
				Tools, Prompts, Resources, ResourceTemplates, Tasks json.RawMessage
			}
		}
		_ = json.Unmarshal([]byte(doc), &lists) // what it can make of the document
		r := lists.Result
		for _, list := range []json.RawMessage{r.Tools, r.Prompts, r.Resources, r.ResourceTemplates, r.Tasks} {
			if len(list) > 0 && list[0] == '[' && err == nil {
				t.Fatalf("encoding/json finds a list in %q", doc)
			}
		}
		found := listIn(json.NewDecoder(strings.NewReader(doc)), 0, false)
		if found && err == nil {
			t.Fatalf("a list passed in %q", doc)
		}
		// and no more is stopped than must be, or calls would break
		isObject := strings.HasPrefix(strings.TrimLeft(doc, " \t\r\n"), "{")
		readable := jsontext.Value(doc).IsValid(jsontext.AllowDuplicateNames(true)) && !strings.Contains(doc, `\u0000`)
		if isObject && readable && !found && err != nil {
			t.Fatalf("%q was stopped: %v", doc, err)
		}
	})
}

func BenchmarkGuard(b *testing.B) {
	doc := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` +
		strings.Repeat("a line of a file, with \\\"quotes\\\" in it\\n", 25_000) + `"}]}}`)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		var g Guard
		for piece := range slices.Chunk(doc, 32<<10) {
			if err := g.Write(piece); err != nil {
				b.Fatal(err)
			}
		}
	}
}
