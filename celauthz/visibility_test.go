package celauthz

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// ruleMaker makes rules at random, of parts that are true, false, errors, or
// open while an entry of a list is judged.
type ruleMaker struct{ *rand.Rand }

var (
	anyKind = []string{
		`true`, `false`, `jwt.sub == "alice"`, `jwt.admin`, `jwt.missing == 1`, `"dev" in jwt.groups`, `jwt.age > 5`, `has(jwt.missing)`,
		`mcp.method.endsWith("/call")`, `mcp.method in ["prompts/get", "tasks/get"]`, `mcp.version < "2026"`, `jwt.groups.exists(g, g == "x")`, `jwt.age`,
	}
	ofKind = map[mcpwire.TargetKind][]string{
		mcpwire.Tool: {
			`mcp.tool.name == "a"`, `mcp.tool.name.startsWith("ab")`, `mcp.tool.name in ["a", "b"]`, `mcp.tool.target == "files"`, `mcp.tool.name < "b"`,
			`mcp.tool.arguments.x == 1`, `has(mcp.tool.arguments.x)`, `"y" in mcp.tool.arguments`, `mcp.tool.arguments.size() > 1`, `mcp.tool.arguments.x > jwt.age`,
			`1 / mcp.tool.arguments.x > 0`, `[0, 1].exists(i, i == mcp.tool.arguments.x)`, `jwt.groups.all(g, g != mcp.tool.arguments.y)`, `mcp.tool.arguments.y.startsWith(mcp.tool.name)`,
			`mcp.tool.arguments.?x.orValue(7) == 7`, `jwt.missing == mcp.tool.arguments.x`, `mcp.tool.arguments.z`, `mcp.tool.arguments == {"x": 1}`,
		},
		mcpwire.Prompt: {
			`mcp.prompt.name == "a"`, `mcp.prompt.name.contains("b")`, `mcp.prompt.arguments.x == "1"`, `mcp.prompt.arguments.y != jwt.sub`, `size(mcp.prompt.arguments) == 0`,
		},
		mcpwire.Resource: {`mcp.resource.uri == "a"`, `mcp.resource.uri.startsWith("file:///a")`, `mcp.resource.name.endsWith("b")`, `mcp.resource.uri.matches("^[a-b]+$")`},
		mcpwire.Task:     {`mcp.task.id == "a"`, `mcp.task.id != "b"`, `mcp.task.name + "x" == jwt.sub`},
	}
)

func (r ruleMaker) expression(kind mcpwire.TargetKind, depth int) string {
	parts := append(slices.Clone(anyKind), append(ofKind[kind], ofKind[kind]...)...)
	if depth == 0 || r.IntN(4) == 0 {
		return parts[r.IntN(len(parts))]
	}
	a, b := r.expression(kind, depth-1), r.expression(kind, depth-1)
	switch r.IntN(8) {
	case 0, 1, 2:
		return "(" + a + " && " + b + ")"
	case 3, 4:
		return "(" + a + " || " + b + ")"
	case 5:
		return "!(" + a + ")"
	case 6:
		return "(" + a + " == " + b + ")"
	default:
		return "(" + a + " ? " + b + " : " + r.expression(kind, depth-1) + ")"
	}
}

func (r ruleMaker) rules() []string {
	rules := make([]string, 1+r.IntN(4))
	for i := range rules {
		action := []Action{Allow, Allow, Deny, Require}[r.IntN(4)]
		kind := targetKinds[r.IntN(len(targetKinds))]
		rules[i] = string(action) + " " + r.expression(kind, 3)
	}
	return rules
}

// offer says how the entries of a kind are listed, and used.
type offer struct {
	method, list, member string
	call                 func(name, arguments string) string
}

var offers = map[mcpwire.TargetKind]offer{
	mcpwire.Tool: {"tools/list", "tools", "name", callOf},
	mcpwire.Prompt: {"prompts/list", "prompts", "name", func(name, arguments string) string {
		return messageOf("prompts/get", `{"name":"`+name+`","arguments":`+arguments+`}`)
	}},
	mcpwire.Resource: {"resources/list", "resources", "uri", func(uri, _ string) string {
		return messageOf("resources/read", `{"uri":"`+uri+`"}`)
	}},
	mcpwire.Task: {"tasks/list", "tasks", "taskId", func(id, _ string) string {
		return messageOf("tasks/get", `{"taskId":"`+id+`"}`)
	}},
}

var (
	offeredNames  = []string{"a", "b", "ab", "abc", "file:///a/b", "file:///a/../b", "x"}
	someArguments = []string{
		`{}`, `{"x":1}`, `{"x":0}`, `{"x":8}`, `{"x":"1"}`, `{"x":1,"y":"a"}`, `{"y":"dev","z":true}`, `{"z":1}`, `{"x":1e400}`, `{"x":null,"y":"abc"}`,
	}
	someClaims = []string{"", alice, `{"sub":"bob","groups":[],"age":1,"admin":false}`, `{"groups":"dev","age":"7","admin":"yes"}`}
)

// listed are the names that a list shows; nil when there is none.
func (s *site) listed(kind mcpwire.TargetKind, names []string) ([]string, bool) {
	s.t.Helper()
	o := offers[kind]
	entries := make([]string, len(names))
	for i, name := range names {
		entries[i] = fmt.Sprintf(`{%q:%q}`, o.member, name)
	}
	s.behind = answers(http.StatusOK, jsonType, `{"jsonrpc":"2.0","id":1,"result":{"`+o.list+`":[`+strings.Join(entries, ",")+`]}}`)
	w := s.post(messageOf(o.method, ""))
	if s.passed == nil {
		return nil, false
	}
	var answer struct {
		Result map[string][]map[string]string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		s.t.Fatalf("%v: %s", err, w.Body)
	}
	var shown []string
	for _, entry := range answer.Result[o.list] {
		shown = append(shown, entry[o.member])
	}
	return shown, true
}

// A126: whatever the rules are, what a list hides cannot be called, and what
// can be called is listed; and the list shows just what the policy says.
func TestA126_HiddenAndCallableAgree(t *testing.T) {
	maker := ruleMaker{rand.New(rand.NewPCG(1, 2))}
	sites, hidden, called := 0, 0, 0
	for sites < 40 {
		rules := maker.rules()
		s, err := tryProvision(t, &Handler{Rules: rulesOf(t, rules...), Target: "files"})
		if err != nil {
			continue // the types do not fit
		}
		sites++
		for _, claims := range someClaims {
			s.as(claims)
			for kind := range offers {
				shown, ok := s.listed(kind, offeredNames)
				if !ok {
					continue
				}
				who := callerOf(t, claims)
				for _, name := range offeredNames {
					visible := slices.Contains(shown, name)
					if want := s.policy.visible(context.Background(), who, kind, name).allowed; visible != want {
						t.Fatalf("%q: %s %q for %s: listed %v, visible %v", rules, kind, name, claims, visible, want)
					}
					if !visible {
						hidden++
					}
					for _, arguments := range someArguments {
						s.behind = answers(http.StatusAccepted, "", "")
						s.post(offers[kind].call(name, arguments))
						if s.passed == nil {
							continue
						}
						called++
						if !visible {
							t.Fatalf("%q: %s %q is hidden from %s, but was called with %s", rules, kind, name, claims, arguments)
						}
					}
				}
			}
		}
	}
	if hidden < 500 || called < 500 {
		t.Errorf("%d entries were hidden and %d calls passed: the rules say too little", hidden, called)
	}
}

// What tells of a target's existence tells it only to those who see it.
func TestA127_Notifications(t *testing.T) {
	notification := func(method, params string) string {
		return `{"jsonrpc":"2.0","method":"notifications/` + method + `"` + params + `}`
	}
	for name, c := range map[string]struct {
		message string
		passes  bool
	}{
		"tools changed":        {notification("tools/list_changed", ""), true},
		"prompts changed":      {notification("prompts/list_changed", ""), true},
		"resources changed":    {notification("resources/list_changed", `,"params":{"_meta":{}}`), true},
		"a resource":           {notification("resources/updated", `,"params":{"uri":"ok://1"}`), true},
		"a hidden resource":    {notification("resources/updated", `,"params":{"uri":"secret://1"}`), false},
		"one with dots":        {notification("resources/updated", `,"params":{"uri":"ok://x/%2e%2e/../../secret"}`), true},
		"a hidden one, titled": {notification("resources/updated", `,"params":{"title":"ok://1","uri":"secret://1"}`), false},
		"a task":               {notification("tasks/status", `,"params":{"taskId":"ok","status":"completed"}`), true},
		"a hidden task":        {notification("tasks/status", `,"params":{"taskId":"secret","status":"completed"}`), false},
		"the modern form":      {notification("tasks", `,"params":{"taskId":"secret"}`), false},
		"a log":                {notification("message", `,"params":{"level":"info","data":"x"}`), true},
		"progress":             {progress, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []func() *http.Request{func() *http.Request { return get() }, func() *http.Request { return request(callOf("ok", "{}")) }} {
				s := newSite(t, okRules...)
				s.behind = answers(http.StatusOK, eventType, "id: 6\n\nid: 7\nevent: message\ndata: "+c.message+"\n\ndata: "+progress+"\n\n")
				w := s.serve(r())
				events, _, _, _ := readSSE(w.Body.String())
				want := []sseEvent{{"message", "7", c.message}, {"", "7", progress}}
				if !c.passes {
					want = want[1:] // the id stays: a client resumes behind it
				}
				if !slices.Equal(events, want) {
					t.Errorf("events %q", events)
				}
			}
		})
	}
}

// A127: a completion is judged like an entry of what it completes.
func TestA127_Completion(t *testing.T) {
	rules := append(slices.Clone(okRules[:1]), `allow mcp.prompt.name.startsWith("ok") && mcp.prompt.arguments.x == "1"`, okRules[2])
	answer := `{"jsonrpc":"2.0","id":1,"result":{"completion":{"values":["a"]}}}`
	for ref, passes := range map[string]bool{
		`{"type":"ref/prompt","name":"ok"}`:                         true,
		`{"type":"ref/prompt","name":"secret"}`:                     false,
		`{"type":"ref/prompt","name":"secret","uri":"ok://1"}`:      false,
		`{"type":"ref/resource","uri":"ok://{x}"}`:                  true,
		`{"type":"ref/resource","uri":"secret://{x}"}`:              false,
		`{"type":"ref/resource","uri":"secret://{x}","name":"ok"}`:  false,
		`{"type":"ref/prompt","n\u0061me":"s\u0065cret","x":"ok1"}`: false,
	} {
		s := newSite(t, rules...)
		s.behind = answers(http.StatusOK, jsonType, answer)
		w := s.post(messageOf("completion/complete", `{"ref":`+ref+`,"argument":{"name":"x","value":"a"}}`))
		if passed := s.passed != nil; passed != passes || passes && w.Body.String() != answer {
			t.Errorf("%s: %v, %s", ref, passed, w.Body)
		}
	}
}

// Where nothing can be hidden, nothing is in the way: the handler behind gets
// the writer of the server and the request as it came.
func TestNothingToHide(t *testing.T) {
	everything := map[string][]string{
		"everybody":      {`allow true`},
		"this caller":    {`allow jwt.sub == "alice"`, `deny jwt.sub == "bob"`},
		"this method":    {`allow true`, `deny mcp.method == "tools/unknown"`},
		"only by origin": {`require source.address != "10.0.0.1"`},
	}
	something := map[string][]string{
		"by name":      {`allow mcp.tool.name != "x"`},
		"by arguments": {`allow true`, `deny mcp.tool.arguments.x == 1`},
		"by time":      {`allow now < timestamp("2099-01-01T00:00:00Z")`},
		"by kind":      {`allow mcp.method != "prompts/get"`},
		"of a kind":    {`allow true`, `deny mcp.prompt.name == "x"`},
	}
	for wrapped, rules := range map[bool]map[string][]string{false: everything, true: something} {
		for name, lines := range rules {
			for _, make := range []func() *http.Request{
				func() *http.Request { return request(list) },
				func() *http.Request { return request(callOf("ok", `{"x":2}`)) },
				func() *http.Request { return get() },
				func() *http.Request { return request("[" + list + "]") },
			} {
				s := newSite(t, lines...).as(alice)
				recorder := httptest.NewRecorder()
				s.behind = func(w http.ResponseWriter, r *http.Request) error {
					if (w != recorder) != wrapped {
						t.Errorf("%s: the writer is a %T", name, w)
					}
					if asked := r.Header.Get("Accept-Encoding") != ""; asked == wrapped {
						t.Errorf("%s: Accept-Encoding: %v", name, asked)
					}
					return nil
				}
				r := make()
				r.Header.Set("Accept-Encoding", "gzip")
				if err := s.try(recorder, r); err != nil || s.passed == nil {
					t.Errorf("%s: %v, %d %s", name, err, recorder.Code, recorder.Body)
				}
			}
		}
	}
}

// Rules about the time hold on a stream that is older than its answer, also
// those that know no difference between the entries.
func TestVisibilityOverTime(t *testing.T) {
	for name, c := range map[string]struct {
		rules []string
		later string // what is listed after one o'clock
	}{
		"of a tool":    {[]string{`allow mcp.tool.name == "always"`, `allow mcp.tool.name == "morning" && now < timestamp("2026-08-01T13:00:00Z")`}, `[{"name":"always"}]`},
		"of any":       {[]string{`allow now < timestamp("2026-08-01T13:00:00Z")`}, `[]`},
		"of no prompt": {[]string{`allow now < timestamp("2026-08-01T13:00:00Z")`, `deny mcp.prompt.name == "x"`}, `[]`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, c.rules...)
			clock := noon
			s.now = func() time.Time { return clock }
			event := "data: " + resultOf("1", `[{"name":"always"},{"name":"morning"}]`) + "\n\n"
			s.behind = func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Content-Type", eventType)
				for range 2 {
					if _, err := w.Write([]byte(event)); err != nil {
						return err
					}
					clock = clock.Add(2 * time.Hour)
				}
				return nil
			}
			want := event + "data: " + resultOf("1", c.later) + "\n\n"
			if w := s.serve(get()); w.Body.String() != want {
				t.Errorf("%s", w.Body)
			}
		})
	}
}

// An entry is judged once its own kind of rule is asked, a template by its
// template, and by each name a server may take it for.
func TestVisibilityOfResources(t *testing.T) {
	s := newSite(t, `allow true`, `deny mcp.resource.uri.startsWith("file:///secret")`)
	s.behind = answers(http.StatusOK, jsonType, `{"id":1,"result":{"resources":[{"uri":"file:///a"},{"uri":"file:///a/../secret"},{"uri":"FILE:///secret"},{"uri":"file:///%73ecret"}],`+
		`"resourceTemplates":[{"uriTemplate":"file:///secret/{x}"},{"uriTemplate":"file:///{x}"}]}}`)
	want := `{"id":1,"result":{"resources":[{"uri":"file:///a"}],"resourceTemplates":[{"uriTemplate":"file:///{x}"}]}}`
	if w := s.post(messageOf("resources/list", "")); w.Body.String() != want {
		t.Errorf("%s", w.Body)
	}
}
