package mcpwire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// What refers to a request is found, and replaced in its place; everything else stays as it came.
func TestRelayed(t *testing.T) {
	to := Correlation{ID: jsontext.Value(`71`), Progress: jsontext.Value(`72`), Cancelled: jsontext.Value(`73`), Subscription: jsontext.Value(`74`)}
	for _, test := range []struct{ in, want string }{
		{
			` {"params" : {"name":"t","_meta":{"progressToken" : "p", "x":1}} ,"jsonrpc":"2.0","id": "a\u0041","method":"tools/call"}`,
			` {"params" : {"name":"t","_meta":{"progressToken" : 72, "x":1}} ,"jsonrpc":"2.0","id": 71,"method":"tools/call"}`,
		},
		{
			`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":9007199254740993,"progress":1.50}}`,
			`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":72,"progress":1.50}}`,
		},
		{
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"r","requestId":"x"}}`,
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"r","requestId":73}}`,
		},
		{
			`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"s"}}}`,
			`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":74}}}`,
		},
		{
			`{"jsonrpc":"2.0","id":5,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":5},"tools":[]}}`,
			`{"jsonrpc":"2.0","id":71,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":74},"tools":[]}}`,
		},
		{`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}`, `{"jsonrpc":"2.0","id":71,"error":{"code":-32700,"message":"m"}}`},
		// not the places that count
		{
			`{"jsonrpc":"2.0","method":"notifications/x","params":{"progressToken":1,"requestId":2,"a":{"_meta":{"progressToken":3}}}}`,
			`{"jsonrpc":"2.0","method":"notifications/x","params":{"progressToken":1,"requestId":2,"a":{"_meta":{"progressToken":3}}}}`,
		},
		{`{"jsonrpc":"2.0","id":1,"result":[1]}`, `{"jsonrpc":"2.0","id":71,"result":[1]}`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":[]}}`, `{"jsonrpc":"2.0","id":71,"method":"ping","params":{"_meta":[]}}`},
	} {
		m, err := ReadRelayed([]byte(test.in))
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if got := m.With(Correlation{}); string(got) != test.in {
			t.Errorf("%s: without a change it is %s", test.in, got)
		}
		if got := m.With(to); string(got) != test.want {
			t.Errorf("%s: got %s, want %s", test.in, got, test.want)
		}
	}
}

// Shapes and errors are told apart.
func TestRelayedShape(t *testing.T) {
	for _, test := range []struct {
		in     string
		shape  Shape
		method string
		code   int64
	}{
		{`{"jsonrpc":"2.0","id":1,"method":"ping"}`, Request, "ping", 0},
		{`{"jsonrpc":"2.0","method":"notifications\/x"}`, Notification, "notifications/x", 0},
		{`{"jsonrpc":"2.0","id":1,"result":null}`, Response, "", 0},
		{`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m"}}`, Response, "", -32601},
		{`{"jsonrpc":"2.0","id":1,"error":{"message":"m"}}`, Response, "", CodeInvalidRequest},
		{`{"jsonrpc":"2.0","id":1,"error":{"code":0}}`, Response, "", CodeInvalidRequest},
		{`{"jsonrpc":"2.0","id":1,"error":"text"}`, Response, "", CodeInvalidRequest},
	} {
		m, err := ReadRelayed([]byte(test.in))
		if err != nil || m.Shape != test.shape || m.Method != test.method || m.ErrorCode != test.code {
			t.Errorf("%s: %+v, %v", test.in, m, err)
		}
	}
}

// What two readers could take for two messages is none.
func TestRelayedRefuses(t *testing.T) {
	for _, in := range []string{
		``, `{`, `[]`, `1`, `{}`, `{"jsonrpc":"2.0"}`, `{"jsonrpc":"2.0","id":1}`, `{"jsonrpc":"1.0","id":1,"result":1}`,
		`{"jsonrpc":"2.0","id":1,"id":2,"result":1}`, `{"jsonrpc":"2.0","id":1,"ID":2,"result":1}`, `{"jsonrpc":"2.0","id":1,"result":1} {}`,
		`{"jsonrpc":"2.0","id":1,"result":1,"error":{}}`, `{"jsonrpc":"2.0","id":1,"method":"m","result":1}`,
		`{"jsonrpc":"2.0","id":1.5,"method":"m"}`, `{"jsonrpc":"2.0","id":null,"method":"m"}`, `{"jsonrpc":"2.0","id":1,"method":""}`,
		`{"jsonrpc":"2.0","id":1,"method":1}`, `{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}`,
		`{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"ProgressToken":1}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken\u0000":1}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"m","params":{"_Meta":{}}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"PROGRESSTOKEN":1}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestid":1}}`,
		`{"jsonrpc":"2.0","id":1,"result":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`,
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\xff\"}",
	} {
		if m, err := ReadRelayed([]byte(in)); err == nil {
			t.Errorf("%s: read as %+v", in, m)
		}
	}
}

// A line has no line ends, and says what the message says.
func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"\n"}`:               `{"a":"\n"}`,
		"{\r\n\t\"a\":\n1\r}":      "{  \t\"a\": 1 }",
		"{\"a\":\"x\u2028y\"}":     `{"a":"x\u2028y"}`,
		"{\"\u2029\":\"\u0085\"}":  `{"\u2029":"\u0085"}`,
		"{\"a\":\"\u0084\u2027\"}": "{\"a\":\"\u0084\u2027\"}",
	} {
		original := []byte(in)
		if got := Line(original); string(got) != want || string(original) != in {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzRelayed: what is read can be replaced and comes back, and a line is one that says the same.
func FuzzRelayed(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":"a\u0041","method":"tools/call","params":{"_meta":{"progressToken":1}}}`,
		`{"jsonrpc":"2.0","id":9007199254740993,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":9007199254740993}}}`,
		"{\"jsonrpc\":\"2.0\",\r\n\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":\"\u2028\"}}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		m, err := ReadRelayed(bytes.Clone(doc))
		if err != nil {
			return
		}
		own := jsontext.Value(`4711`)
		changed, err := ReadRelayed(m.With(Correlation{own, own, own, own}))
		if err != nil {
			t.Fatalf("%q: with other values: %v", doc, err)
		}
		if back := changed.With(m.Correlation); !bytes.Equal(back, doc) {
			t.Errorf("%q came back as %q", doc, back)
		}
		line := Line(doc)
		if bytes.ContainsAny(line, "\r\n\u2028\u2029\u0085") {
			t.Errorf("%q: the line %q has a line end", doc, line)
		}
		var want, got any
		if json.Unmarshal(doc, &want) != nil || json.Unmarshal(line, &got) != nil {
			t.Fatalf("%q or its line %q is no JSON", doc, line)
		}
		encodedWant, _ := json.Marshal(want)
		encodedGot, _ := json.Marshal(got)
		if !bytes.Equal(encodedWant, encodedGot) {
			t.Errorf("%q: the line says %s", doc, encodedGot)
		}
	})
}
