package mcpwire

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// okFilter shows what starts with "ok" and hides the rest, and the list of
// prompts as a whole.
func okFilter() *Filter {
	return &Filter{
		Visible:     func(_ TargetKind, name string) bool { return strings.HasPrefix(name, "ok") },
		ListVisible: func(method string) bool { return method != "prompts/list" },
	}
}

// privateFilter is okFilter for a modern answer that could be cached.
func privateFilter() *Filter {
	f := okFilter()
	f.Private = true
	return f
}

// deepJSON is an array that nests depth levels deep.
func deepJSON(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

// manyTools is a list of n tools, of which every second one is hidden.
func manyTools(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"jsonrpc":"2.0","id":1,"result":{"tools":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		name := "ok_"
		if i%2 == 1 {
			name = "secret_"
		}
		fmt.Fprintf(&b, `{"name":"%s%d","description":"Reads a file of the project, by its path.",`+
			`"inputSchema":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}`, name, i)
	}
	b.WriteString(`]}}`)
	return b.Bytes()
}

// What nobody has to hide something of comes back as the very same bytes.
func TestFilterLeavesAlone(t *testing.T) {
	cases := map[string]string{
		"a result without lists":      `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"tools"}]}}`,
		"an empty result":             `{"jsonrpc":"2.0","id":1,"result":{}}`,
		"an error":                    `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Unknown tool: secret"}}`,
		"a request of the server":     `{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{"tools":[{"name":"secret"}]}}`,
		"list_changed":                `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`,
		"progress":                    `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.5}}`,
		"a completion":                `{"jsonrpc":"2.0","id":1,"result":{"completion":{"values":["a"],"total":1,"hasMore":false}}}`,
		"a list deeper down":          `{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"tools":[{"name":"secret"}]}}}`,
		"tools as text":               `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"{\"result\":{\"tools\":[{\"name\":\"secret\"}]}}"}]}}`,
		"nothing hidden":              `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok_1"},{"name":"ok_2"}],"nextCursor":"n"}}`,
		"odd blanks":                  " {\t\"id\" : 1 ,\r\n \"result\":{ \"tools\" : [ { \"name\"\n:\t\"ok_1\" } ] } }\n",
		"no entries":                  `{"id":1,"result":{"tools":[ ]}}`,
		"null for a list":             `{"id":1,"result":{"tools":null,"prompts":[]}}`,
		"null for a result":           `{"id":1,"result":null}`,
		"nulls of a chatty encoder":   `{"jsonrpc":"2.0","id":1,"method":null,"params":null,"result":{"tools":[{"name":"ok"}]},"error":null}`,
		"a result that is a list":     `{"id":1,"result":[{"name":"secret"}]}`,
		"a number beyond all types":   `{"id":9007199254740993,"result":{"tools":[{"name":"ok","x":123456789012345678901234567890.10e+400}]}}`,
		"a batch":                     ` [ {"id":1,"result":{"tools":[{"name":"ok"}]}} , {"method":"notifications/progress"} ] `,
		"an update of what is seen":   `{"method":"notifications/resources/updated","params":{"uri":"ok://1","title":"x"}}`,
		"a task that is seen":         `{"method":"notifications/tasks/status","params":{"taskId":"ok_1","status":"working"}}`,
		"an acknowledgement":          `{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":["ok://1"],"x":[1]}}}`,
		"one without notifications":   `{"method":"notifications/subscriptions/acknowledged","params":{}}`,
		"one without params":          `{"method":"notifications/subscriptions/acknowledged"}`,
		"private already":             `{"id":1,"result":{"tools":[{"name":"ok"}],"cacheScope":"private"}}`,
		"a public scope without list": `{"id":1,"result":{"cacheScope":"public"}}`,
	}
	for name, message := range cases {
		t.Run(name, func(t *testing.T) {
			out, err := okFilter().Message([]byte(message))
			if err != nil || string(out) != message {
				t.Errorf("got %s, %v", out, err)
			}
		})
	}
}

func TestFilterTakesOut(t *testing.T) {
	cases := map[string]struct{ message, want string }{
		"tools, in order": {
			`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok_b"},{"name":"secret"},{"name":"ok_a"}]}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok_b"},{"name":"ok_a"}]}}`,
		},
		"prompts":   {`{"result":{"prompts":[{"name":"secret"},{"name":"ok"}]}}`, `{"result":{"prompts":[{"name":"ok"}]}}`},
		"resources": {`{"result":{"resources":[{"name":"ok","uri":"secret://1"},{"name":"secret","uri":"ok://1"}]}}`, `{"result":{"resources":[{"name":"secret","uri":"ok://1"}]}}`},
		"templates": {`{"result":{"resourceTemplates":[{"uriTemplate":"secret://{x}"},{"uriTemplate":"ok://{x}"}]}}`, `{"result":{"resourceTemplates":[{"uriTemplate":"ok://{x}"}]}}`},
		"tasks":     {`{"result":{"tasks":[{"taskId":"secret"},{"taskId":"ok"}]}}`, `{"result":{"tasks":[{"taskId":"ok"}]}}`},
		"two lists of one result": {
			`{"result":{"prompts":[{"name":"secret"}],"x":1,"tools":[{"name":"secret"},{"name":"ok"}]},"id":1}`,
			`{"result":{"prompts":[],"x":1,"tools":[{"name":"ok"}]},"id":1}`,
		},
		"a page that becomes empty keeps its cursor": {
			`{"id":1,"result":{"tools":[{"name":"secret"}],"nextCursor":"page2","_meta":{"a":[1]}}}`,
			`{"id":1,"result":{"tools":[],"nextCursor":"page2","_meta":{"a":[1]}}}`,
		},
		"entries keep their bytes, and so does the rest": {
			"{ \"id\":9007199254740993,\n\"result\" :{\"tools\":[ { \"name\" :\"ok\", \"x\":1.0e1, \"y\":\"\\u0041\\/\" } , {\"name\":\"secret\"} ] , \"z\" : null } }\n",
			"{ \"id\":9007199254740993,\n\"result\" :{\"tools\":[{ \"name\" :\"ok\", \"x\":1.0e1, \"y\":\"\\u0041\\/\" }] , \"z\" : null } }\n",
		},
		"names behind escapes": {
			`{"r\u0065sult":{"t\u006fols":[{"n\u0061me":"s\u0065cret"},{"n\u0061me":"\u006fk"}]}}`,
			`{"r\u0065sult":{"t\u006fols":[{"n\u0061me":"\u006fk"}]}}`,
		},
		"a name that is empty": {`{"result":{"tools":[{"name":""}]}}`, `{"result":{"tools":[]}}`},
		"a method beside a list": {
			`{"method":"x","result":{"tools":[{"name":"secret"}]}}`,
			`{"method":"x","result":{"tools":[]}}`,
		},
		"a batch": {
			`[{"id":1,"result":{"tools":[{"name":"secret"}]}}, {"method":"notifications/resources/updated","params":{"uri":"secret://1"}}, {"id":"2","result":{}}]`,
			`[{"id":1,"result":{"tools":[]}},{"id":"2","result":{}}]`,
		},
		"an update of what is hidden": {`{"method":"notifications/resources/updated","params":{"uri":"secret://1"}}`, ""},
		"a task that is hidden":       {`{"method":"notifications/tasks/status","params":{"taskId":"secret"}}`, ""},
		"the modern form of it":       {`{"method":"notifications/tasks","params":{"taskId":"secret"}}`, ""},
		"a method behind escapes":     {`{"m\u0065thod":"notifications\/resources\/upd\u0061ted","params":{"uri":"secret://1"}}`, ""},
		"a batch of them":             {`[{"method":"notifications/resources/updated","params":{"uri":"secret://1"}}]`, ""},
		"an acknowledgement shrinks": {
			`{"method":"notifications/subscriptions/acknowledged","params":{"a":1,"notifications":{"resourceSubscriptions":["ok://1","secret://1"],"taskIds":["secret"],"toolsListChanged":true,"promptsListChanged":true,"other":["secret"]},"b":2}}`,
			`{"method":"notifications/subscriptions/acknowledged","params":{"a":1,"notifications":{"resourceSubscriptions":["ok://1"],"taskIds":[],"toolsListChanged":true},"b":2}}`,
		},
		"a scope that is there": {`{"result":{"cacheScope":"public","tools":[]}}`, `{"result":{"cacheScope":"private","tools":[]}}`},
		"one behind a list that shrinks": {
			`{"result":{"tools":[{"name":"secret"}],"cacheScope" : "public" }}`,
			`{"result":{"tools":[],"cacheScope" : "private" }}`,
		},
		"one before a list that shrinks": {
			`{"result":{"cacheScope":{"a":1},"tools":[{"name":"secret"}]}}`,
			`{"result":{"cacheScope":"private","tools":[]}}`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, err := okFilter().Message([]byte(c.message))
			if err != nil || string(out) != c.want || (out == nil) != (c.want == "") {
				t.Fatalf("got  %s, %v\nwant %s", out, err, c.want)
			}
			if out == nil {
				return
			}
			again, err := okFilter().Message(out)
			if err != nil || string(again) != c.want {
				t.Errorf("filtered twice: %s, %v", again, err)
			}
		})
	}
}

// What two parsers may read differently is passed to nobody.
func TestFilterRefuses(t *testing.T) {
	many := strings.Repeat(`{"name":"ok"},`, maxListEntries) + `{"name":"ok"}`
	cases := map[string]struct {
		message string
		want    error
	}{
		"two results":                {`{"id":1,"result":{},"result":{"tools":[{"name":"secret"}]}}`, ErrDuplicate},
		"two lists of tools":         {`{"id":1,"result":{"tools":[],"tools":[{"name":"secret"}]}}`, ErrDuplicate},
		"the second one escaped":     {`{"id":1,"result":{"tools":[],"t\u006fols":[{"name":"secret"}]}}`, ErrDuplicate},
		"two names":                  {`{"id":1,"result":{"tools":[{"name":"ok","name":"secret"}]}}`, ErrDuplicate},
		"the second name escaped":    {`{"id":1,"result":{"tools":[{"name":"ok","n\u0061me":"secret"}]}}`, ErrDuplicate},
		"a duplicate far down":       {`{"id":1,"result":{"tools":[{"name":"ok","inputSchema":{"a":{"b":1,"b":2}}}]}}`, ErrDuplicate},
		"Result":                     {`{"id":1,"Result":{"tools":[{"name":"secret"}]}}`, errMember},
		"result with a long s":       {`{"id":1,"re` + "\u017f" + `ult":{"tools":[{"name":"secret"}]}}`, errMember},
		"result and a NUL":           {`{"id":1,"result\u0000":{"tools":[{"name":"secret"}]}}`, errMember},
		"Tools":                      {`{"id":1,"result":{"Tools":[{"name":"secret"}]}}`, errMember},
		"tools with a long s":        {`{"id":1,"result":{"tool\u017f":[{"name":"secret"}]}}`, errMember},
		"tasks with a Kelvin sign":   {`{"id":1,"result":{"tas\u212as":[{"taskId":"secret"}]}}`, errMember},
		"ResourceTemplates":          {`{"id":1,"result":{"resourcetemplates":[{"uriTemplate":"secret"}]}}`, errMember},
		"Name beside name":           {`{"id":1,"result":{"tools":[{"name":"ok","NAME":"secret"}]}}`, errMember},
		"name and a NUL":             {`{"id":1,"result":{"tools":[{"name":"ok","name\u0000":"secret"}]}}`, errMember},
		"Method":                     {`{"Method":"notifications/resources/updated","params":{"uri":"secret://1"}}`, errMember},
		"URI beside uri":             {`{"method":"notifications/resources/updated","params":{"uri":"ok://1","URI":"secret://1"}}`, errMember},
		"CacheScope":                 {`{"id":1,"result":{"tools":[],"CacheScope":"public"}}`, errMember},
		"an entry without a name":    {`{"id":1,"result":{"tools":[{"title":"secret"}]}}`, errEntry},
		"a name that is no text":     {`{"id":1,"result":{"tools":[{"name":["secret"]}]}}`, errEntry},
		"an entry that is a text":    {`{"id":1,"result":{"tools":["secret"]}}`, errEntry},
		"an entry that is null":      {`{"id":1,"result":{"tools":[null]}}`, errEntry},
		"a list that is an object":   {`{"id":1,"result":{"tools":{"0":{"name":"secret"}}}}`, errListShape},
		"an update of nothing":       {`{"method":"notifications/resources/updated","params":{}}`, errUpdate},
		"an update without params":   {`{"method":"notifications/resources/updated"}`, errUpdate},
		"an update of a number":      {`{"method":"notifications/tasks/status","params":{"taskId":7}}`, errUpdate},
		"an update with a list":      {`{"method":"notifications/resources/updated","params":{"uri":"ok://1"},"result":{"tools":[{"name":"secret"}]}}`, errBoth},
		"an acknowledgement with it": {`{"method":"notifications/subscriptions/acknowledged","params":{},"result":{"tools":[{"name":"secret"}]}}`, errBoth},
		"one that is no object":      {`{"method":"notifications/subscriptions/acknowledged","params":["secret"]}`, errNotifications},
		"one about no list":          {`{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":"secret"}}}`, errNotifications},
		"one with a twin":            {`{"method":"notifications/subscriptions/acknowledged","params":{"Notifications":{}}}`, errMember},
		"two values":                 {`{"id":1,"result":{}} {"id":1,"result":{"tools":[{"name":"secret"}]}}`, ErrTrailing},
		"a value behind a batch":     {`[{"id":1,"result":{}}]{"id":1,"result":{"tools":[{"name":"secret"}]}}`, ErrTrailing},
		"a batch in a batch":         {`[[{"id":1,"result":{"tools":[{"name":"secret"}]}}]]`, ErrSyntax},
		"half a message":             {`{"id":1,"result":{"tools":[{"name":"secret"}`, ErrSyntax},
		"half a batch":               {`[{"id":1}`, ErrSyntax},
		"a byte order mark":          {"\ufeff" + `{"id":1,"result":{"tools":[{"name":"secret"}]}}`, ErrSyntax},
		"a byte that is no text":     {"{\"id\":1,\"result\":{\"tools\":[{\"name\":\"ok\xff\"}]}}", ErrSyntax},
		"half a surrogate pair":      {`{"id":1,"result":{"tools":[{"name":"ok\ud800"}]}}`, ErrSyntax},
		"a text":                     {`"secret"`, ErrSyntax},
		"nothing":                    {``, ErrSyntax},
		"too deep":                   {`{"id":1,"result":{"x":` + deepJSON(MaxDepth) + `}}`, ErrTooDeep},
		"far too deep":               {deepJSON(100_000), ErrTooDeep},
		"too many entries":           {`{"id":1,"result":{"tools":[` + many + `]}}`, ErrTooMany},
		"too many messages":          {"[" + strings.Repeat("{},", maxResponseBatch) + "{}]", ErrTooMany},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, f := range []*Filter{okFilter(), privateFilter()} {
				if out, err := f.Message([]byte(c.message)); !errors.Is(err, c.want) || out != nil {
					t.Errorf("got %.100s, %v; want %v", out, err, c.want)
				}
			}
		})
	}
}

// MCP 2026-07-28: what depends on who asked must not be shared by caches.
func TestFilterPrivate(t *testing.T) {
	cases := map[string]struct{ message, want string }{
		"a list": {
			`{"id":1,"result":{"tools":[{"name":"ok"}]}}`,
			`{"id":1,"result":{"cacheScope":"private","tools":[{"name":"ok"}]}}`,
		},
		"a page without entries": {
			`{"id":1,"result":{"tools":[],"nextCursor":"3"}}`,
			`{"id":1,"result":{"cacheScope":"private","tools":[],"nextCursor":"3"}}`,
		},
		"a list that shrinks, and blanks": {
			`{"id":1,"result": { "ttlMs":5, "tools":[{"name":"secret"}]} }`,
			`{"id":1,"result": {"cacheScope":"private", "ttlMs":5, "tools":[]} }`,
		},
		"a public scope": {
			`{"id":1,"result":{"tools":[{"name":"secret"}],"cacheScope":"public"}}`,
			`{"id":1,"result":{"tools":[],"cacheScope":"private"}}`,
		},
		"a scope of another type": {`{"result":{"cacheScope":null}}`, `{"result":{"cacheScope":"private"}}`},
		"the contents of a resource": {
			`{"id":1,"result":{"contents":[{"uri":"ok://1","text":"x"}],"cacheScope":"public"}}`,
			`{"id":1,"result":{"contents":[{"uri":"ok://1","text":"x"}],"cacheScope":"private"}}`,
		},
		"an empty result":       {`{"id":1,"result":{ }}`, `{"id":1,"result":{"cacheScope":"private" }}`},
		"private already":       {`{"result":{"cacheScope":"private","tools":[]}}`, `{"result":{"cacheScope":"private","tools":[]}}`},
		"an error has no scope": {`{"id":1,"error":{"code":1,"message":"x"}}`, `{"id":1,"error":{"code":1,"message":"x"}}`},
		"nor has a progress":    {`{"method":"notifications/progress"}`, `{"method":"notifications/progress"}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, err := privateFilter().Message([]byte(c.message))
			if err != nil || string(out) != c.want {
				t.Errorf("got  %s, %v\nwant %s", out, err, c.want)
			}
		})
	}
}

// Every entry is asked about once, under its kind and its own name.
func TestFilterAsks(t *testing.T) {
	var asked []string
	f := okFilter()
	f.Visible = func(kind TargetKind, name string) bool {
		asked = append(asked, kind.String()+" "+name)
		return true
	}
	message := `{"result":{"tools":[{"name":"a","title":"z"},{"title":"z","name":"b"}],"prompts":[{"name":"c"}],` +
		`"resources":[{"uri":"d","name":"z"}],"resourceTemplates":[{"uriTemplate":"e","name":"z"}],"tasks":[{"taskId":"f"}]}}`
	if _, err := f.Message([]byte(message)); err != nil {
		t.Fatal(err)
	}
	want := []string{"tool a", "tool b", "prompt c", "resource d", "resource e", "task f"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for %q", asked)
	}
}

func BenchmarkFilter(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		message := manyTools(n)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			f := okFilter()
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Message(message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
