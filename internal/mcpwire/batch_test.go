package mcpwire

import (
	"errors"
	"strings"
	"testing"
)

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// repeated is a JSON array of n times an element.
func repeated(element string, n int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
}

func TestReadAll(t *testing.T) {
	cases := map[string]struct {
		body    string
		batch   bool
		methods []string
	}{
		"one message":           {ping, false, []string{"ping"}},
		"blanks before it":      {" \r\n\t" + ping, false, []string{"ping"}},
		"a batch of one":        {"[" + ping + "]", true, []string{"ping"}},
		"blanks before a batch": {" \r\n\t[" + ping + "]\n", true, []string{"ping"}},
		"several": {
			`[{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"t"}},{"jsonrpc":"2.0","method":"notifications/x"} , {"jsonrpc":"2.0","id":2,"result":{}}]`,
			true,
			[]string{"tools/call", "notifications/x", ""},
		},
		"as many as may be": {repeated(ping, MaxBatch), true, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			messages, batch, err := ReadAll([]byte(c.body))
			if err != nil || batch != c.batch {
				t.Fatalf("batch %v, %v", batch, err)
			}
			for i, method := range c.methods {
				if messages[i].Method != method {
					t.Errorf("message %d is %q", i, messages[i].Method)
				}
			}
			if c.methods != nil && len(messages) != len(c.methods) {
				t.Errorf("%d messages", len(messages))
			}
		})
	}
}

func TestReadAllRefuses(t *testing.T) {
	cases := map[string]struct {
		body string
		code int
		id   string
		want error
	}{
		"nothing":                 {" ", CodeParseError, "", errEmpty},
		"an empty batch":          {" [ ] ", CodeInvalidRequest, "", errEmptyBatch},
		"too many":                {repeated(ping, MaxBatch+1), CodeInvalidRequest, "", ErrTooMany},
		"a batch in a batch":      {"[" + ping + ",[" + ping + "]]", CodeInvalidRequest, "", errBatch},
		"an empty one":            {"[[]]", CodeInvalidRequest, "", errBatch},
		"a number":                {"[1]", CodeParseError, "", ErrSyntax},
		"null":                    {"[" + ping + ",null]", CodeParseError, "", ErrSyntax},
		"initialize":              {"[" + ping + `,{"jsonrpc":"2.0","id":"i","method":"initialize"}]`, CodeInvalidRequest, `"i"`, errBatchInit},
		"initialize in disguise":  {`[{"jsonrpc":"2.0","id":"i","m\u0065thod":"initi\u0061lize"}]`, CodeInvalidRequest, `"i"`, errBatchInit},
		"initialize without id":   {`[{"jsonrpc":"2.0","method":"initialize"}]`, CodeInvalidRequest, "", errBatchInit},
		"a subscription":          {"[" + ping + `,{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{"notifications":{}}}]`, CodeInvalidRequest, "7", errBatchListen},
		"one that is malformed":   {"[" + ping + `,{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":1}}]`, CodeInvalidRequest, "7", errTargetAbsent},
		"one with two methods":    {`[{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/call","params":{"name":"t"}}]`, CodeInvalidRequest, "", ErrDuplicate},
		"one with a twin":         {`[{"jsonrpc":"2.0","id":7,"method":"ping","Method":"tools/call"}]`, CodeInvalidRequest, "", errMember},
		"one deeper than may be":  {`[{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":` + deepJSON(MaxDepth) + `}}]`, CodeParseError, "", ErrTooDeep},
		"a hundred thousand deep": {deepJSON(100_000), CodeParseError, "", ErrTooDeep},
		"no end":                  {"[" + ping, CodeParseError, "", ErrSyntax},
		"no comma":                {"[" + ping + ping + "]", CodeParseError, "", ErrSyntax},
		"a comma at the end":      {"[" + ping + ",]", CodeParseError, "", ErrSyntax},
		"a value behind it":       {"[" + ping + "]" + ping, CodeParseError, "", ErrTrailing},
		"a batch behind it":       {"[" + ping + "][" + ping + "]", CodeParseError, "", ErrTrailing},
		"a batch behind a single": {ping + "[" + ping + "]", CodeParseError, "", ErrTrailing},
		"a byte order mark":       {"\ufeff[" + ping + "]", CodeParseError, "", ErrSyntax},
		"another blank":           {"\u00a0[" + ping + "]", CodeParseError, "", ErrSyntax},
		"a form feed":             {"\f[" + ping + "]", CodeParseError, "", ErrSyntax},
		"bytes that are no UTF-8": {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\xff\"}]", CodeParseError, "", ErrSyntax},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, _, err := ReadAll([]byte(c.body))
			var format *FormatError
			if !errors.As(err, &format) || !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if format.Code != c.code || string(format.ID) != c.id {
				t.Errorf("code %d and id %q, want %d and %q", format.Code, format.ID, c.code, c.id)
			}
		})
	}
}
