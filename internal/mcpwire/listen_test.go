package mcpwire

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// listenBody is a subscriptions/listen request with the given notifications.
func listenBody(notifications string) string {
	return " {\"jsonrpc\":\"2.0\",\t\"id\":9007199254740993,\"method\":\"subscriptions/listen\",\n" +
		`"params" : {"a":[1],"notifications" : ` + notifications + ` , "_meta":{"x":"notifications"}}, "z":{"notifications":1}}` + "\r\n"
}

func TestListen(t *testing.T) {
	cases := map[string]struct{ in, want string }{
		"nothing":              {`{}`, `{}`},
		"blanks":               {"{ \n}", `{}`},
		"all of it is seen":    {`{"resourceSubscriptions":["ok://1","ok://2"],"taskIds":["ok"],"toolsListChanged":true}`, `{"resourceSubscriptions":["ok://1","ok://2"],"taskIds":["ok"],"toolsListChanged":true}`},
		"URIs":                 {`{ "resourceSubscriptions" : [ "secret://1" , "ok://1" ,"secret://2"] }`, `{"resourceSubscriptions":["ok://1"]}`},
		"no URI is left":       {`{"resourceSubscriptions":["secret://1"]}`, `{"resourceSubscriptions":[]}`},
		"task ids":             {`{"taskIds":["ok_2","secret","ok_1"]}`, `{"taskIds":["ok_2","ok_1"]}`},
		"a list of a type":     {`{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}`, `{"toolsListChanged":true,"resourcesListChanged":true}`},
		"one that is not want": {`{"promptsListChanged":false}`, `{"promptsListChanged":false}`},
		"another switch":       {`{"tasksListChanged":true,"x":false}`, `{"tasksListChanged":true,"x":false}`},
		"what is no switch":    {`{"x":["secret"],"toolsListChanged":true,"y":{"uri":"secret"},"z":"secret","n":1,"o":null}`, `{"toolsListChanged":true}`},
		"null for a switch":    {`{"toolsListChanged":null,"promptsListChanged":"true"}`, `{}`},
		"escapes":              {`{"r\u0065sourceSubscriptions":["s\u0065cret","\u006fk:\/\/\"\u00e9\u2028"]}`, "{\"resourceSubscriptions\":[\"ok://\\\"\u00e9\u2028\"]}"},
		"a name with escapes":  {`{"a\"\u0000b":true}`, `{"a\"\u0000b":true}`},
		"the same twice":       {`{"taskIds":["ok","ok"]}`, `{"taskIds":["ok","ok"]}`},
	}
	f := okFilter()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			body := listenBody(c.in)
			m := read(t, body)
			f.Keep(m.Listen)
			got := string(m.Listen.Splice([]byte(body)))
			if got != listenBody(c.want) {
				t.Errorf("got  %s\nwant %s", got, listenBody(c.want))
			}
			if !json.Valid([]byte(got)) {
				t.Error("no JSON")
			}
		})
	}
}

// What is written is read again as what was kept.
func TestListenMembers(t *testing.T) {
	m := read(t, listenBody(`{"resourceSubscriptions":["a","b"],"taskIds":["c"],"toolsListChanged":true,"promptsListChanged":false,"resourcesListChanged":true}`))
	l := m.Listen
	if !slices.Equal(l.Resources, []string{"a", "b"}) || !slices.Equal(l.Tasks, []string{"c"}) ||
		!slices.Equal(l.Lists, []string{"tools/list", "resources/list"}) {
		t.Errorf("%+v", l)
	}
	if m := read(t, call); m.Listen != nil {
		t.Error("a call subscribes to something")
	}
}

func TestListenRefuses(t *testing.T) {
	texts := func(n int) string { return `["a"` + strings.Repeat(`,"a"`, n-1) + `]` }
	if _, err := Read([]byte(listenBody(`{"taskIds":` + texts(maxSubscriptions) + `}`))); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	cases := map[string]struct {
		notifications string
		want          error
	}{
		"no object":           {`["a"]`, errNotifications},
		"null":                {`null`, errNotifications},
		"URIs that are none":  {`{"resourceSubscriptions":"a"}`, errNotifications},
		"an object of URIs":   {`{"resourceSubscriptions":{"a":true}}`, errNotifications},
		"null for URIs":       {`{"resourceSubscriptions":null}`, errNotifications},
		"a number among them": {`{"resourceSubscriptions":["a",1]}`, errNotifications},
		"a list among them":   {`{"taskIds":["a",["b"]]}`, errNotifications},
		"too many":            {`{"taskIds":` + texts(maxSubscriptions+1) + `}`, errNotifications},
		"two lists":           {`{"taskIds":["a"],"taskIds":["b"]}`, ErrDuplicate},
		"two behind escapes":  {`{"taskIds":["a"],"task\u0049ds":["b"]}`, ErrDuplicate},
		"a twin":              {`{"taskIds":["a"],"TaskIDs":["b"]}`, errMember},
		"a twin of a switch":  {`{"toolslistchanged":true}`, errMember},
		"a twin with a NUL":   {`{"taskIds\u0000":["b"]}`, errMember},
		"a Kelvin sign":       {`{"tas\u212aIds":["b"]}`, errMember},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Read([]byte(listenBody(c.notifications)))
			var format *FormatError
			if !errors.Is(err, c.want) || !errors.As(err, &format) {
				t.Fatalf("got %v", err)
			}
		})
	}
	for name, body := range map[string]string{
		"no notifications": `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}`,
		"no params":        `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}`,
		"a twin of it":     `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{},"Notifications":{}}}`,
	} {
		if _, err := Read([]byte(body)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Whatever is kept, what goes on is the same document but for the hidden
// names, and reads as such.
func TestListenProperty(t *testing.T) {
	uris := []string{"ok://a", "secret://b", `ok"\`, "", "ok\u2028\u00e9", "secret\n"}
	f := okFilter()
	for bits := range 1 << len(uris) {
		var wanted, kept []string
		for i, uri := range uris {
			if bits&(1<<i) != 0 {
				wanted = append(wanted, uri)
				if strings.HasPrefix(uri, "ok") {
					kept = append(kept, uri)
				}
			}
		}
		encoded, err := json.Marshal(wanted)
		if err != nil || wanted == nil {
			encoded = []byte("[]")
		}
		body := listenBody(fmt.Sprintf(`{"x":true,"resourceSubscriptions":%s,"y":[1]}`, encoded))
		m := read(t, body)
		f.Keep(m.Listen)
		again := read(t, string(m.Listen.Splice([]byte(body))))
		if !slices.Equal(again.Listen.Resources, kept) || string(again.ID) != "9007199254740993" {
			t.Errorf("%q became %q", wanted, again.Listen.Resources)
		}
	}
}
