package mcpwire

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// call is the body most rows are a variation of.
const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":1}}}`

// refusals reads each body and wants it refused with a code.
func refusals(t *testing.T, code int, bodies map[string]string) {
	t.Helper()
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			m, err := Read([]byte(body))
			if err == nil {
				t.Fatalf("accepted %q as %+v", clip(body), m)
			}
			var format *FormatError
			if !errors.As(err, &format) {
				t.Fatalf("%v is not a FormatError", err)
			}
			if format.Code != code {
				t.Errorf("code %d (%v), want %d", format.Code, err, code)
			}
		})
	}
}

func clip(text string) string { return text[:min(len(text), 200)] }

// read wants a body accepted.
func read(t *testing.T, body string) *Message {
	t.Helper()
	m, err := Read([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", clip(body), err)
	}
	return m
}

func TestReadTargets(t *testing.T) {
	tests := []struct {
		method, params string
		kind           TargetKind
		target         string
		open           bool
	}{
		{"tools/call", `{"name":"t"}`, Tool, "t", false},
		{"prompts/get", `{"name":"p"}`, Prompt, "p", false},
		{"resources/read", `{"uri":"file:///a"}`, Resource, "file:///a", false},
		{"resources/subscribe", `{"uri":"u"}`, Resource, "u", false},
		{"resources/unsubscribe", `{"uri":"u"}`, Resource, "u", false},
		{"tasks/get", `{"taskId":"1"}`, Task, "1", false},
		{"tasks/result", `{"taskId":"1"}`, Task, "1", false},
		{"tasks/update", `{"taskId":"1"}`, Task, "1", false},
		{"tasks/cancel", `{"taskId":"1"}`, Task, "1", false},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":"y"}}`, Prompt, "p", true},
		{"completion/complete", `{"ref":{"type":"ref/resource","uri":"file:///{path}"}}`, Resource, "file:///{path}", true},
		// the target is where the method says, whatever else there is
		{"tools/call", `{"uri":"u","taskId":"1","name":"t"}`, Tool, "t", false},
		{"resources/read", `{"name":"n","uri":"u"}`, Resource, "u", false},
		{"tools/call", `{"name":""}`, Tool, "", false},
		{"initialize", `{"protocolVersion":"2025-06-18"}`, NoTarget, "", false},
		{"ping", ``, NoTarget, "", false},
		{"tools/list", `{"cursor":"c"}`, NoTarget, "", false},
		{"server/discover", `{}`, NoTarget, "", false},
	}
	for _, test := range tests {
		t.Run(test.method, func(t *testing.T) {
			body := `{"jsonrpc":"2.0","id":7,"method":"` + test.method + `"}`
			if test.params != "" {
				body = body[:len(body)-1] + `,"params":` + test.params + `}`
			}
			m := read(t, body)
			if m.Shape != Request || m.Method != test.method || !m.Known || string(m.ID) != "7" {
				t.Errorf("read %+v", m)
			}
			if m.Kind != test.kind || m.Target != test.target || m.ArgumentsOpen != test.open {
				t.Errorf("target %v %q (open: %v), want %v %q (%v)", m.Kind, m.Target, m.ArgumentsOpen, test.kind, test.target, test.open)
			}
		})
	}
	if v := read(t, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}`).ProtocolVersion; v != "2025-06-18" {
		t.Errorf("initialize asks for version %q", v)
	}
}

func TestReadArguments(t *testing.T) {
	tests := map[string]string{ // params -> arguments
		`{"name":"t"}`:                                   "",
		`{"name":"t","arguments":null}`:                  "",
		`{"name":"t","arguments":{}}`:                    "{}",
		`{"name":"t","arguments":{"a" : [1, "\u0061"]}}`: `{"a" : [1, "\u0061"]}`,
		`{"arguments":{"name":"x"},"name":"t"}`:          `{"name":"x"}`,
	}
	for params, want := range tests {
		for _, method := range []string{"tools/call", "prompts/get"} {
			m := read(t, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`)
			if string(m.Arguments) != want || m.Target != "t" {
				t.Errorf("%s %s: target %q, arguments %q, want %q", method, params, m.Target, m.Arguments, want)
			}
		}
	}
	// a resource has none that a rule could see
	if m := read(t, `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"u","arguments":{"a":1}}}`); m.Arguments != nil {
		t.Errorf("arguments of a resource: %q", m.Arguments)
	}
}

// The id is what an answer echoes, and answers are written when the body's
// buffer may already hold another request.
func TestReadKeepsNoAliasOfTheID(t *testing.T) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":"mine","method":"ping"}`,
		`{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":[]}`, // refused with its id
	} {
		doc := []byte(body)
		m, err := Read(doc)
		var format *FormatError
		id := []byte(nil)
		switch {
		case err == nil:
			id = m.ID
		case errors.As(err, &format):
			id = format.ID
		}
		for i := range doc {
			doc[i] = 'x'
		}
		if string(id) != `"mine"` {
			t.Errorf("%s: the id became %q", body, id)
		}
	}
}

func TestA91_DuplicateMembers(t *testing.T) {
	refusals(t, CodeInvalidRequest, map[string]string{
		"method":               `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"t"}}`,
		"method, same value":   `{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}`,
		"params":               `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}`,
		"name":                 `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}`,
		"id":                   `{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`,
		"jsonrpc":              `{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}`,
		"escaped method":       `{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call","params":{"name":"t"}}`,
		"escaped name":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}`,
		"escaped slash":        `{"jsonrpc":"2.0","id":1,"method":"ping","a\/b":1,"a/b":2}`,
		"unknown member":       `{"jsonrpc":"2.0","id":1,"method":"ping","x":1,"x":2}`,
		"in arguments":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":1,"a":2}}}`,
		"deep in arguments":    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"l":[{"b":{"a":1,"a":2}}]}}}`,
		"in _meta":             `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"a":1,"a":2}}}`,
		"in ref":               `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a","name":"b"}}}`,
		"in an ignored member": `{"jsonrpc":"2.0","id":1,"method":"ping","x":[{"a":1,"a":2}]}`,
		"in a result":          `{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}`,
		"empty names":          `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"":1,"":2}}`,
		"surrogate pair":       `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"😀":1,"\ud83d\ude00":2}}`,
		"after many members":   `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{` + members(500) + `,"m7":0}}}`,
	})
}

func members(n int) string {
	list := make([]string, 0, n)
	for i := range n {
		list = append(list, fmt.Sprintf(`"m%d":%d`, i, i))
	}
	return strings.Join(list, ",")
}

func TestA92_CaseTwins(t *testing.T) {
	refusals(t, CodeInvalidRequest, map[string]string{
		"Method beside":          `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`,
		"Method before":          `{"jsonrpc":"2.0","id":1,"Method":"tools/call","method":"ping"}`,
		"METHOD alone":           `{"jsonrpc":"2.0","id":1,"METHOD":"ping"}`,
		"Params beside":          `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"Params":{"name":"b"}}`,
		"Params alone":           `{"jsonrpc":"2.0","id":1,"method":"tools/call","Params":{"name":"b"}}`,
		"ID beside":              `{"jsonrpc":"2.0","id":1,"ID":2,"method":"ping"}`,
		"Id alone":               `{"jsonrpc":"2.0","Id":2,"method":"ping"}`,
		"JSONRPC":                `{"jsonrpc":"2.0","JSONRPC":"1.0","id":1,"method":"ping"}`,
		"Result beside a method": `{"jsonrpc":"2.0","id":1,"method":"ping","Result":{}}`,
		"Error beside a result":  `{"jsonrpc":"2.0","id":1,"result":{},"Error":{}}`,
		"Name beside":            `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}`,
		"Name alone":             `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"b"}}`,
		"URI beside":             `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a","URI":"b"}}`,
		"taskid beside":          `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","taskid":"b"}}`,
		"Arguments beside":       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{},"Arguments":{"x":1}}}`,
		"Arguments alone":        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Arguments":{"x":1}}}`,
		"Ref beside":             `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"},"Ref":{}}}`,
		"Type in ref":            `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p","Type":"ref/resource"}}}`,
		"Name in ref":            `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p","NAME":"q"}}}`,
		"_Meta":                  `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{},"_Meta":{}}}`,
		"escaped Name":           `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","\u004eame":"b"}}`,
		"protocolversion":        `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","protocolversion":"2024-11-05"}}`,
	})
	// the arguments are the tool's business: names that differ by case are two names
	m := read(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"name":1,"Name":2}}}`)
	if string(m.Arguments) != `{"name":1,"Name":2}` {
		t.Errorf("arguments %s", m.Arguments)
	}
}

func TestA93_UnicodeTwins(t *testing.T) {
	refusals(t, CodeInvalidRequest, map[string]string{
		"param\u017f":          `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"param\u017f":{"name":"b"}}`,
		"param\u017f alone":    `{"jsonrpc":"2.0","id":1,"method":"tools/call","param` + "\u017f" + `":{"name":"b"}}`,
		"re\u017fult":          `{"jsonrpc":"2.0","id":1,"method":"ping","re\u017fult":{}}`,
		"j\u017fonrpc":         `{"j` + "\u017f" + `onrpc":"2.0","id":1,"method":"ping"}`,
		"argument\u017f":       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","argument\u017f":{"x":1}}}`,
		"ta\u017fkId":          `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","ta\u017fkId":"b"}}`,
		"tas\u212aId":          `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","tas\u212aId":"b"}}`,
		"both in one":          `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","ta` + "\u017f\u212a" + `Id":"b"}}`,
		"taskId, K for k only": `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"tas\u212aId":"b"}}`,
	})
}

func TestA94_NUL(t *testing.T) {
	refusals(t, CodeInvalidRequest, map[string]string{
		"name beside":     `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name\u0000":"b"}}`,
		"name alone":      `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name\u0000":"b"}}`,
		"name and more":   `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name\u0000x":"b"}}`,
		"case and NUL":    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME\u0000":"b"}}`,
		"method":          `{"jsonrpc":"2.0","id":1,"method":"ping","method\u0000":"tools/call"}`,
		"params":          `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params\u0000":{"name":"b"}}`,
		"uri":             `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a","uri\u0000":"b"}}`,
		"type in ref":     `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p","type\u0000":"x"}}}`,
		"the long s, NUL": `{"jsonrpc":"2.0","id":1,"method":"ping","param\u017f\u0000":{}}`,
	})
	// in values it is just a character, and no known method holds one
	if m := read(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call\u0000","params":{"name":"t"}}`); m.Known || m.Kind != NoTarget {
		t.Errorf("a method with a NUL was read as %+v", m)
	}
	if m := read(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t\u0000x"}}`); m.Target != "t\x00x" {
		t.Errorf("a name with a NUL was read as %q", m.Target)
	}
}

func TestA96_Encodings(t *testing.T) {
	utf16 := func(text string, bigEndian bool) string {
		var b strings.Builder
		for _, c := range []byte(text) {
			if bigEndian {
				b.WriteString("\x00" + string(rune(c)))
			} else {
				b.WriteString(string(rune(c)) + "\x00")
			}
		}
		return b.String()
	}
	refusals(t, CodeParseError, map[string]string{
		"BOM":                    "\xef\xbb\xbf" + call,
		"UTF-16LE":               utf16(call, false),
		"UTF-16BE":               utf16(call, true),
		"UTF-16LE with a BOM":    "\xff\xfe" + utf16(call, false),
		"UTF-32BE":               "\x00\x00\x00{\x00\x00\x00}",
		"invalid in a value":     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"t\xff\"}}",
		"invalid in a name":      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"x\xff\":1}",
		"invalid in arguments":   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"t\",\"arguments\":{\"a\":\"\xc3\x28\"}}}",
		"overlong slash":         "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools\xc0\xafcall\",\"params\":{\"name\":\"t\"}}",
		"encoded surrogate":      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"\xed\xa0\x80\"}}",
		"lone surrogate":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud800"}}`,
		"lone low surrogate":     `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\udc00"}}`,
		"surrogates turned":      `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\udc00\ud800"}}`,
		"lone one in arguments":  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":["\ud800"]}}}`,
		"lone one in a name":     `{"jsonrpc":"2.0","id":1,"method":"ping","\ud800":1}`,
		"raw control character":  "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\nb\"}}",
		"raw NUL":                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"\x00}",
		"unknown escape":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\x41"}}`,
		"single quotes":          `{'jsonrpc':'2.0','id':1,'method':'ping'}`,
		"comment":                `{"jsonrpc":"2.0","id":1,/* */"method":"ping"}`,
		"trailing comma":         `{"jsonrpc":"2.0","id":1,"method":"ping",}`,
		"unquoted name":          `{jsonrpc:"2.0","id":1,"method":"ping"}`,
		"NaN":                    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":NaN}}}`,
		"number with zero first": `{"jsonrpc":"2.0","id":01,"method":"ping"}`,
		"hexadecimal":            `{"jsonrpc":"2.0","id":0x1,"method":"ping"}`,
		"blank of Unicode":       "\u00a0" + call,
		"vertical tab":           "\v" + call,
	})
	// these are plain JSON
	if m := read(t, " \t\r\n"+`{"jsonrpc":"2.0","id":1,"method":"tools\u002fcall","params":{"name":"\ud83d\ude00"}}`+"\r\n "); m.Method != "tools/call" || m.Target != "😀" {
		t.Errorf("read %+v", m)
	}
}

func TestA97_TrailingData(t *testing.T) {
	refusals(t, CodeParseError, map[string]string{
		"second document": call + call,
		"NDJSON":          call + "\n" + call + "\n",
		"letter":          call + "x",
		"comma":           call + ",",
		"brace":           call + "}",
		"NUL":             call + "\x00",
		"array":           call + "[]",
		"RS (RFC 7464)":   "\x1e" + call,
		"after a blank":   call + " \n null",
	})
}

func TestA98_Truncated(t *testing.T) {
	bodies := map[string]string{"empty": "", "blank": " \r\n\t"}
	for i := 1; i < len(call); i++ {
		bodies[fmt.Sprintf("%d bytes", i)] = call[:i]
	}
	refusals(t, CodeParseError, bodies)
}

func TestA99_Depth(t *testing.T) {
	arguments := func(depth int) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":` +
			strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}}}`
	}
	bodies := map[string]string{
		"one over":          arguments(MaxDepth - 3 + 1),
		"objects":           `{"jsonrpc":"2.0","id":1,"method":"ping","x":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000) + "}",
		"never closed":      `{"jsonrpc":"2.0","id":1,"method":"ping","x":` + strings.Repeat("[", 100_000),
		"opening arrays":    `{"x":` + strings.Repeat("[", 1_000_000),
		"hidden in a value": `{"x":"\"` + `","y":` + strings.Repeat(`[{"a":`, 1000),
	}
	for _, depth := range []int{1000, 100_000} {
		bodies[fmt.Sprint(depth)] = arguments(depth)
	}
	refusals(t, CodeParseError, bodies)
	for name, body := range bodies {
		if _, err := Read([]byte(body)); !errors.Is(err, ErrTooDeep) {
			t.Errorf("%s: %v, want %v", name, err, ErrTooDeep)
		}
	}
	read(t, arguments(MaxDepth-3)) // three objects are around it
	// brackets inside strings nest nothing
	read(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":"`+strings.Repeat(`[{\"`, 1000)+`"}}}`)
}

// Refusing a deep document must not cost memory: the check comes before any
// parser.
func TestA99_DepthCostsNoMemory(t *testing.T) {
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"ping","x":` + strings.Repeat("[", 1<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Read(body); err == nil {
		t.Fatal("accepted")
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<10 {
		t.Errorf("allocated %d bytes", used)
	}
}

// A batch is not one message; ReadAll is for those.
func TestA100_ReadTakesNoBatch(t *testing.T) {
	refusals(t, CodeInvalidRequest, map[string]string{
		"batch":  "[" + call + "]",
		"empty":  "[]",
		"nested": "[[" + call + "]]",
		"blanks": " \n\t[" + call + "]",
	})
}

func TestA101_IDs(t *testing.T) {
	refusals(t, CodeInvalidRequest, map[string]string{
		"null":          `{"jsonrpc":"2.0","id":null,"method":"ping"}`,
		"true":          `{"jsonrpc":"2.0","id":true,"method":"ping"}`,
		"false":         `{"jsonrpc":"2.0","id":false,"method":"ping"}`,
		"object":        `{"jsonrpc":"2.0","id":{},"method":"ping"}`,
		"array":         `{"jsonrpc":"2.0","id":[1],"method":"ping"}`,
		"fraction":      `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`,
		"fraction of 0": `{"jsonrpc":"2.0","id":1.0,"method":"ping"}`,
		"exponent":      `{"jsonrpc":"2.0","id":1e3,"method":"ping"}`,
		"Exponent":      `{"jsonrpc":"2.0","id":1E3,"method":"ping"}`,
		"of a response": `{"jsonrpc":"2.0","id":null,"result":{}}`,
	})
	for _, id := range []string{
		"0", "-1", "1", "9007199254740993", "18446744073709551617", `""`, `"a"`, `"\u0061\n\"\\"`, `"1"`,
		strings.Repeat("9", 1000), `"😀"`, `"\/"`,
	} {
		for _, body := range []string{
			`{"jsonrpc":"2.0","id":` + id + `,"method":"ping"}`,
			`{"method":"ping","id" : ` + id + ` ,"jsonrpc":"2.0"}`,
		} {
			if m := read(t, body); string(m.ID) != id || m.Shape != Request {
				t.Errorf("id %s was read as %s", id, m.ID)
			}
		}
	}
}

// What is wrong with a message is answered with its id where that is known.
func TestRefusedMessagesKeepTheirID(t *testing.T) {
	for body, want := range map[string]string{
		`{"jsonrpc":"1.0","id":"x","method":"ping"}`:                         `"x"`,
		`{"id":9007199254740993,"jsonrpc":"2.0"}`:                            "9007199254740993",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`:                     "1",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}`:         "1",
		`{"jsonrpc":"2.0","id":{},"method":"ping"}`:                          "",
		`{"jsonrpc":"2.0","id":1,"method":"ping","x":}`:                      "",
		`{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`:                    "",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}`: "1",
	} {
		_, err := Read([]byte(body))
		var format *FormatError
		if !errors.As(err, &format) || string(format.ID) != want {
			t.Errorf("%s: id %q, want %q (%v)", body, format.ID, want, err)
		}
	}
}

func TestA102_CallAsNotification(t *testing.T) {
	m := read(t, `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"t","arguments":{"a":1}}}`)
	if m.Shape != Notification || m.Kind != Tool || m.Target != "t" || m.ID != nil || string(m.Arguments) != `{"a":1}` {
		t.Errorf("read %+v", m)
	}
}

func TestA103_ParamsAndNames(t *testing.T) {
	refusals(t, CodeInvalidRequest, map[string]string{
		"params array":           `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["t"]}`,
		"params null":            `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}`,
		"params string":          `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"t"}`,
		"params number":          `{"jsonrpc":"2.0","id":1,"method":"ping","params":1}`,
		"params null, no target": `{"jsonrpc":"2.0","id":1,"method":"ping","params":null}`,
		"params missing":         `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`,
		"name missing":           `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`,
		"name null":              `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":null}}`,
		"name number":            `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}`,
		"name array":             `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["t"]}}`,
		"name object":            `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":{"a":"t"}}}`,
		"uri missing":            `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"name":"t"}}`,
		"uri number":             `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":1}}`,
		"taskId missing":         `{"jsonrpc":"2.0","id":1,"method":"tasks/cancel","params":{"id":"1"}}`,
		"taskId number":          `{"jsonrpc":"2.0","id":1,"method":"tasks/result","params":{"taskId":1}}`,
		"arguments array":        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":[]}}`,
		"arguments string":       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":"{}"}}`,
		"ref missing":            `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{}}`,
		"ref without params":     `{"jsonrpc":"2.0","id":1,"method":"completion/complete"}`,
		"ref string":             `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":"p"}}`,
		"ref without type":       `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"name":"p"}}}`,
		"ref of another type":    `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/tool","name":"p"}}}`,
		"ref of no type":         `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":1,"name":"p"}}}`,
		"prompt ref with uri":    `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","uri":"p"}}}`,
		"resource ref with name": `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/resource","name":"p"}}}`,
		"method number":          `{"jsonrpc":"2.0","id":1,"method":1}`,
		"method null":            `{"jsonrpc":"2.0","id":1,"method":null}`,
		"method empty":           `{"jsonrpc":"2.0","id":1,"method":""}`,
		"method array":           `{"jsonrpc":"2.0","id":1,"method":["tools/call"]}`,
		"jsonrpc missing":        `{"id":1,"method":"ping"}`,
		"jsonrpc 1.0":            `{"jsonrpc":"1.0","id":1,"method":"ping"}`,
		"jsonrpc number":         `{"jsonrpc":2.0,"id":1,"method":"ping"}`,
		"jsonrpc null":           `{"jsonrpc":null,"id":1,"method":"ping"}`,
		"empty object":           `{}`,
		"nothing but a version":  `{"jsonrpc":"2.0","id":1}`,
	})
	refusals(t, CodeParseError, map[string]string{
		"a string": `"tools/call"`,
		"a number": `1`,
		"null":     `null`,
	})
}

func TestA104_Responses(t *testing.T) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{}}`,
		`{"jsonrpc":"2.0","id":"a","result":null}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}`,
		// what is inside a result is never taken for a call
		`{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call","params":{"name":"t"},"content":[{"type":"tool_use","name":"t"}]}}`,
	} {
		m := read(t, body)
		if m.Shape != Response || m.Method != "" || m.Kind != NoTarget || m.Target != "" || !m.Known {
			t.Errorf("%s was read as %+v", body, m)
		}
	}
	refusals(t, CodeInvalidRequest, map[string]string{
		"method and result": `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"},"result":{}}`,
		"method and error":  `{"jsonrpc":"2.0","id":1,"method":"ping","error":{}}`,
		"method and null":   `{"jsonrpc":"2.0","id":1,"method":"ping","result":null}`,
		"result and error":  `{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`,
		"params and result": `{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"t"}}`,
		"without id":        `{"jsonrpc":"2.0","result":{}}`,
	})
}

func TestA105_UnknownMethods(t *testing.T) {
	for _, method := range []string{
		"tools/delete", "Tools/call", "tools/Call", " tools/call", "tools/call ", "tools//call", "tools", "x",
		"sampling/createMessage", "roots/list", "elicitation/create", "tools/call\u200b", "tools\uff0fcall", "notification/x", "rpc.discover",
	} {
		m := read(t, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"name":"t","uri":"u"}}`)
		if m.Known || m.Kind != NoTarget || m.Target != "" {
			t.Errorf("%q was read as %+v", method, m)
		}
	}
	for _, method := range []string{"notifications/initialized", "notifications/cancelled", "notifications/x"} {
		if m := read(t, `{"jsonrpc":"2.0","method":"`+method+`"}`); !m.Known || m.Shape != Notification {
			t.Errorf("%q was read as %+v", method, m)
		}
	}
}

func TestA106_NamesAreExact(t *testing.T) {
	for _, name := range []string{
		"read_file", "Read_File", "read_file ", " read_file", "read_file\u200b", "ｒｅａｄ_file", "read\u00adfile", "re\u0301ad", "r\u00e9ad",
	} {
		doc := append([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":`), Quote(nil, name)...)
		if m := read(t, string(append(doc, "}}"...))); m.Target != name {
			t.Errorf("%q was read as %q", name, m.Target)
		}
	}
	if m := read(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"r\u0065ad\u005ffile"}}`); m.Target != "read_file" {
		t.Errorf("escapes were read as %q", m.Target)
	}
}

// Read must leave the bytes alone: they are what goes on.
func TestReadChangesNothing(t *testing.T) {
	body := []byte("\n" + ` {"jsonrpc":"2.0" , "id":"\u0061","method":"tools\/call","params":{"name":"\u0074","arguments":{"a":1.50}}} `)
	before := bytes.Clone(body)
	if _, err := Read(body); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body, before) {
		t.Errorf("became %s", body)
	}
}

func TestErrorResponse(t *testing.T) {
	tests := []struct{ got, want string }{
		{string(ErrorResponse(nil, -32700, "x", nil)), `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}`},
		{string(ErrorResponse([]byte(`"\u0061"`), -1, "a\"b\n\u2028\xff", nil)), `{"jsonrpc":"2.0","id":"\u0061","error":{"code":-1,"message":"a\"b\n` + "\u2028\ufffd" + `"}}`},
		{string(ErrorResponse([]byte("9007199254740993"), 1, "", []byte(`{"uri":"u"}`))), `{"jsonrpc":"2.0","id":9007199254740993,"error":{"code":1,"message":"","data":{"uri":"u"}}}`},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got  %s\nwant %s", test.got, test.want)
		}
	}
}
