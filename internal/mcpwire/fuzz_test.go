package mcpwire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// lenient is a message as a server written in Go would declare it. Its reader
// takes any case of a name and the last of duplicates.
type lenient struct {
	JSONRPC string
	ID      json.RawMessage
	Method  string
	Params  struct {
		Name      string
		URI       string
		TaskID    string
		Arguments json.RawMessage
		Ref       struct{ Type, Name, URI string }
	}
	Result, Error json.RawMessage
}

func (l *lenient) target(m *Message) string {
	switch {
	case m.ArgumentsOpen && m.Kind == Prompt:
		return l.Params.Ref.Name
	case m.ArgumentsOpen:
		return l.Params.Ref.URI
	case m.Kind == Tool, m.Kind == Prompt:
		return l.Params.Name
	case m.Kind == Resource:
		return l.Params.URI
	case m.Kind == Task:
		return l.Params.TaskID
	default:
		return ""
	}
}

// Whatever Read accepts, a lenient parser behind the gateway reads the same
// way: the same method, target, id and arguments.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		call,
		`{"jsonrpc":"2.0","id":"\u0061","method":"tools\u002fcall","params":{"name":"\ud83d\ude00"}}`,
		`{"jsonrpc":"2.0","id":1,"Method":"tools/call","method":"ping","params":{"name":"a","Name":"b"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","ta` + "\u017f\u212a" + `Id":"b"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name\u0000":"b","name":"a"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"file:///{p}"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a/../b","name":null}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
		`{"jsonrpc":"2.0","id":9007199254740993,"result":{"tools":[{"name":"t"}]}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":""}}`,
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["u"]}}}`,
		"[" + call + "]",
		"\xef\xbb\xbf{}",
		`{"a":[[[[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		m, err := Read(body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			var format *FormatError
			if !errors.As(err, &format) || format.Code == 0 {
				t.Fatalf("%v is not a FormatError with a code", err)
			}
			if answer := ErrorResponse(format.ID, format.Code, err.Error(), nil); !json.Valid(answer) {
				t.Fatalf("the answer is no JSON: %s", answer)
			}
			return
		}
		var l lenient
		// a member that Read has no use for may be of a type that lenient
		// has not got; what matters is what was filled in
		if err := json.Unmarshal(body, &l); err != nil && !isTypeError(err) {
			t.Fatalf("only Read accepts it: %v", err)
		}
		if l.Method != m.Method || l.target(m) != m.Target || !bytes.Equal(l.ID, m.ID) {
			t.Fatalf("read method %q, target %q, id %s; lenient: %+v", m.Method, m.Target, m.ID, l)
		}
		if m.Arguments != nil && !bytes.Equal(l.Params.Arguments, m.Arguments) {
			t.Fatalf("arguments %s, lenient: %s", m.Arguments, l.Params.Arguments)
		}
		if (m.Shape == Response) != (l.Method == "") || m.Shape == Response && l.Result == nil && l.Error == nil {
			t.Fatalf("shape %v, lenient: %+v", m.Shape, l)
		}
		if m.Arguments != nil {
			if _, err := Decode(m.Arguments); err != nil {
				t.Fatalf("accepted arguments cannot be decoded: %v", err)
			}
		}
	})
}

func isTypeError(err error) bool {
	var kind *json.UnmarshalTypeError
	return errors.As(err, &kind)
}

// Decode agrees with encoding/json about everything that is valid, and never
// changes the value of a number.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		" 0", "\t\"a\" ",
		"0", "-0", "9007199254740993", "18446744073709551617", "9223372036854775808", "1e400", "1e-400", "0.1", "1E2",
		`{"a":[1,{"b":null}],"":"\ud83d\ude00"}`, "[[[[]]]]", `{"a":1,"a":2}`, `"\ud800"`, "[1 2]", "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if CheckDepth(doc) != nil || !jsontext.Value(doc).IsValid() {
			// nobody decodes such a thing, but it must not do harm either
			_, _ = Decode(doc)
			return
		}
		got, err := Decode(doc)
		if err != nil {
			t.Fatalf("%v", err)
		}
		dec := json.NewDecoder(bytes.NewReader(doc))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if err := same(got, want); err != nil {
			t.Fatal(err)
		}
	})
}

func same(got, want any) error {
	switch w := want.(type) {
	case json.Number:
		return sameNumber(got, w.String())
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(w) {
			return fmt.Errorf("%#v, want %#v", got, want)
		}
		for i := range w {
			if err := same(list[i], w[i]); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok || len(object) != len(w) {
			return fmt.Errorf("%#v, want %#v", got, want)
		}
		for name := range w {
			if err := same(object[name], w[name]); err != nil {
				return err
			}
		}
		return nil
	default:
		if got != want {
			return fmt.Errorf("%#v, want %#v", got, want)
		}
		return nil
	}
}

func sameNumber(got any, text string) error {
	switch n := got.(type) {
	case int64:
		if want, ok := new(big.Int).SetString(text, 10); !ok || !want.IsInt64() || want.Int64() != n {
			return fmt.Errorf("int %d for %s", n, text)
		}
	case float64:
		// a whole number without exponent must be held exactly
		if want, ok := new(big.Int).SetString(text, 10); ok {
			if held, _ := big.NewFloat(n).Int(nil); held.Cmp(want) != 0 {
				return fmt.Errorf("float %v for %s", n, text)
			}
		}
	case InexactNumber:
		if string(n) != text {
			return fmt.Errorf("%q for %s", n, text)
		}
	default:
		return fmt.Errorf("%#v for the number %s", got, text)
	}
	return nil
}
