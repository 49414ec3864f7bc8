package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The lists of a server, by the method that asks for them.
const (
	toolsList     = "tools/list"
	promptsList   = "prompts/list"
	resourcesList = "resources/list"
	templatesList = "resources/templates/list"
)

// listMembers says which member of an answer holds the entries, and which member of an entry names it.
var listMembers = map[string]struct{ entries, name string }{
	toolsList:     {"tools", "name"},
	promptsList:   {"prompts", "name"},
	resourcesList: {"resources", "uri"},
	templatesList: {"resourceTemplates", "uriTemplate"},
}

// view is what one user may see of a server: for each list its pages. A page of which nothing may be seen is there.
type view map[string][][]string

// names are the entries of a list, from all of its pages.
func (v view) names(list string) []string { return slices.Concat(v[list]...) }

// demoRules show two users different halves of the demo server.
const demoRules = `
		allow ` + "`jwt.sub == \"alice\" && mcp.tool.name in [\"add\", \"echo\"]`" + `
		allow ` + "`jwt.sub == \"bob\" && mcp.tool.name in [\"get_me\", \"list_repos\"]`" + `
		allow ` + "`mcp.prompt.name == (jwt.sub == \"alice\" ? \"greet\" : \"review_repo\")`" + `
		allow ` + "`jwt.sub == \"alice\" && mcp.resource.uri.matches(\"^(docs://internal|repo:)/\")`" + `
		allow ` + "`jwt.sub == \"bob\" && mcp.resource.uri.startsWith(\"docs://public/\")`"

// demoViews are the pages of two entries each.
var demoViews = map[string]view{
	"alice": {
		toolsList:     {{"add"}, {"echo"}, {}},
		promptsList:   {{"greet"}},
		resourcesList: {{"docs://internal/salaries"}, {}},
		templatesList: {{"repo://{owner}/{name}"}},
	},
	"bob": {
		toolsList:     {{}, {}, {"get_me", "list_repos"}},
		promptsList:   {{"review_repo"}},
		resourcesList: {{"docs://public/changelog"}, {"docs://public/handbook"}},
		templatesList: {{}},
	},
}

// demoServers are the ways in which the demo server can speak.
var demoServers = map[string][]string{
	"session, JSON":      {"-stateful", "-page-size", "2"},
	"session, stream":    {"-stateful", "-page-size", "2", "-sse"},
	"no session, JSON":   nil,
	"no session, stream": {"-page-size", "2", "-sse"},
}

// request is a call of something that the other user may see, or that nobody has.
type request struct {
	Method string         `json:"method"`
	Params map[string]any `json:"params"`
}

// answered is what the TypeScript SDK makes of an answer: a result, or an error.
type answered struct {
	Result  map[string]any
	Code    int
	Message string
}

func hiddenTool(name string) answered {
	return answered{Code: jsonrpc.CodeInvalidParams, Message: "MCP error -32602: Unknown tool: " + name}
}

func hiddenPrompt(name string) answered {
	return answered{Code: jsonrpc.CodeInvalidParams, Message: "MCP error -32602: Unknown prompt: " + name}
}

var hiddenResource = answered{Code: -32002, Message: "MCP error -32002: Resource not found"}

func hiddenTask(id string) answered {
	return answered{Code: jsonrpc.CodeInvalidParams, Message: "MCP error -32602: Unknown task: " + id}
}

func callOf(tool string) request {
	return request{"tools/call", map[string]any{"name": tool, "arguments": map[string]any{}}}
}

func promptOf(name string) request { return request{"prompts/get", map[string]any{"name": name}} }

func readOf(uri string) request { return request{"resources/read", map[string]any{"uri": uri}} }

func subscribeTo(uri string) request {
	return request{"resources/subscribe", map[string]any{"uri": uri}}
}

// completionOf asks what an argument of a prompt, or a variable of a template, may be.
func completionOf(kind, member, name string) request {
	return request{"completion/complete", map[string]any{
		"ref":      map[string]any{"type": kind, member: name},
		"argument": map[string]any{"name": "x", "value": ""},
	}}
}

// demoHidden are requests for what a user may not see, each followed by one for what is not there at all.
var demoHidden = map[string][]exchange{
	"alice": {
		{callOf("delete_repo"), hiddenTool("delete_repo")},
		{callOf("no_such_tool"), hiddenTool("no_such_tool")},
		{promptOf("review_repo"), hiddenPrompt("review_repo")},
		{promptOf("no_such_prompt"), hiddenPrompt("no_such_prompt")},
		{readOf("docs://public/handbook"), hiddenResource},
		{readOf("docs://no/such"), hiddenResource},
		{completionOf("ref/prompt", "name", "review_repo"), hiddenPrompt("review_repo")},
		{completionOf("ref/prompt", "name", "no_such_prompt"), hiddenPrompt("no_such_prompt")},
	},
	"bob": {
		{callOf("add"), hiddenTool("add")},
		{callOf("no_such_tool"), hiddenTool("no_such_tool")},
		{promptOf("greet"), hiddenPrompt("greet")},
		{promptOf("no_such_prompt"), hiddenPrompt("no_such_prompt")},
		{readOf("repo://acme/api"), hiddenResource},
		{readOf("docs://internal/salaries"), hiddenResource},
		{readOf("docs://no/such"), hiddenResource},
		{subscribeTo("repo://acme/api"), hiddenResource},
		{subscribeTo("docs://no/such"), hiddenResource},
		{completionOf("ref/resource", "uri", "repo://{owner}/{name}"), hiddenResource},
		{completionOf("ref/resource", "uri", "no://such/{template}"), hiddenResource},
	},
}

// exchange is a request and what it is answered.
type exchange struct {
	request request
	want    answered
}

// TestLists lets two users page through all lists of the demo server with the TypeScript SDK. Each sees exactly what
// the rules show, and the rest answers as if it did not exist.
func TestLists(t *testing.T) {
	for name, args := range demoServers {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, site(demoRules, startDemo(t, args...)))
			for user, want := range demoViews {
				got := runLists(t, g.url(), user, demoHidden[user])
				if !slices.Contains(args, "-page-size") {
					want = want.onOnePage()
				}
				wantView(t, user, got.Pages, want)
				wantAnswers(t, user, got.Answers, demoHidden[user])
			}
		})
	}
}

// onOnePage is the same view of a server whose lists have one page each.
func (v view) onOnePage() view {
	one := view{}
	for list := range v {
		one[list] = [][]string{append([]string{}, v.names(list)...)}
	}
	return one
}

// listed is what lists.mjs prints.
type listed struct {
	Pages   view
	Answers []answered
}

// runLists reads all lists and makes some requests with the TypeScript SDK.
func runLists(t *testing.T, url, user string, exchanges []exchange) listed {
	t.Helper()
	requests := make([]request, 0, len(exchanges))
	for _, e := range exchanges {
		requests = append(requests, e.request)
	}
	text, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	cmd := nodeCommand(t, "lists.mjs", url)
	cmd.Env = append(cmd.Env, "TOKEN="+token(t, user), "REQUESTS="+string(text))
	r := run(t, cmd)
	var got listed
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.status != 0 {
		t.Fatalf("%s: exit status %d, %v:\n%s", user, r.status, err, r.out)
	}
	return got
}

func wantView(t *testing.T, user string, got, want view) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s sees %q, want %q", user, got, want)
	}
}

func wantAnswers(t *testing.T, user string, got []answered, exchanges []exchange) {
	t.Helper()
	if len(got) != len(exchanges) {
		t.Fatalf("%s: %d answers to %d requests", user, len(got), len(exchanges))
	}
	for i, e := range exchanges {
		if e.want.Code == 0 {
			if got[i].Code != 0 || got[i].Message != "" {
				t.Errorf("%s: %+v was refused: %+v", user, e.request, got[i])
			}
			continue
		}
		if !reflect.DeepEqual(got[i], e.want) {
			t.Errorf("%s: %+v was answered %+v, want %+v", user, e.request, got[i], e.want)
		}
	}
}

// everythingListRules do the same for the reference server, which has tasks as well. Both users may start one, but only
// Alice may look at any.
const everythingListRules = `
		allow ` + "`jwt.sub == \"alice\" && mcp.tool.name in [\"echo\", \"get-sum\"]`" + `
		allow ` + "`jwt.sub == \"bob\" && mcp.tool.name == \"get-tiny-image\"`" + `
		allow ` + "`mcp.tool.name == \"simulate-research-query\"`" + `
		allow ` + "`mcp.prompt.name == (jwt.sub == \"alice\" ? \"simple-prompt\" : \"completable-prompt\")`" + `
		allow ` + "`jwt.sub == \"alice\" && mcp.resource.uri.endsWith(\"/features.md\")`" + `
		allow ` + "`jwt.sub == \"alice\" && mcp.resource.uri.contains(\"/dynamic/text/\")`" + `
		allow ` + "`jwt.sub == \"bob\" && mcp.resource.uri.endsWith(\"/structure.md\")`" + `
		allow ` + "`jwt.sub == \"bob\" && mcp.resource.uri.contains(\"/dynamic/blob/\")`" + `
		allow ` + "`jwt.sub == \"alice\" && mcp.task.id != \"\"`"

var everythingViews = map[string]view{
	"alice": {
		toolsList:     {{"echo", "get-sum", "simulate-research-query"}},
		promptsList:   {{"simple-prompt"}},
		resourcesList: {{"demo://resource/static/document/features.md"}},
		templatesList: {{"demo://resource/dynamic/text/{resourceId}"}},
	},
	"bob": {
		toolsList:     {{"get-tiny-image", "simulate-research-query"}},
		promptsList:   {{"completable-prompt"}},
		resourcesList: {{"demo://resource/static/document/structure.md"}},
		templatesList: {{"demo://resource/dynamic/blob/{resourceId}"}},
	},
}

var (
	startTask = request{"tools/call", map[string]any{
		"name": "simulate-research-query", "arguments": map[string]any{"topic": "tests"},
		"task": map[string]any{"ttl": 60_000},
	}}
	listTasks = request{"tasks/list", map[string]any{}}
)

func taskRequest(method, id string) request { return request{method, map[string]any{"taskId": id}} }

var everythingHidden = map[string][]exchange{
	"alice": {
		{callOf("get-env"), hiddenTool("get-env")},
		{promptOf("completable-prompt"), hiddenPrompt("completable-prompt")},
		{readOf("demo://resource/static/document/structure.md"), hiddenResource},
		{readOf("demo://resource/dynamic/blob/1"), hiddenResource},
		{readOf("demo://resource/dynamic/text/1"), answered{}},
		{completionOf("ref/resource", "uri", "demo://resource/dynamic/blob/{resourceId}"), hiddenResource},
		{completionOf("ref/resource", "uri", "demo://resource/dynamic/text/{resourceId}"), answered{}},
		{startTask, answered{}},
		{listTasks, answered{}},
		{taskRequest("tasks/get", "$task"), answered{}},
		{taskRequest("tasks/cancel", "$task"), answered{}},
	},
	"bob": {
		{callOf("echo"), hiddenTool("echo")},
		{promptOf("simple-prompt"), hiddenPrompt("simple-prompt")},
		{readOf("demo://resource/static/document/features.md"), hiddenResource},
		{subscribeTo("demo://resource/dynamic/text/1"), hiddenResource},
		{subscribeTo("demo://resource/dynamic/blob/1"), answered{}},
		{completionOf("ref/prompt", "name", "simple-prompt"), hiddenPrompt("simple-prompt")},
		{completionOf("ref/prompt", "name", "completable-prompt"), answered{}},
		{startTask, answered{}},
		{listTasks, answered{}},
		{taskRequest("tasks/get", "$task"), hiddenTask("$task")},
		{taskRequest("tasks/result", "$task"), hiddenTask("$task")},
		{taskRequest("tasks/cancel", "$task"), hiddenTask("$task")},
		{taskRequest("tasks/get", "no-such-task"), hiddenTask("no-such-task")},
	},
}

// TestEverythingLists does with the reference server what TestLists does with the demo server. It has no pages and
// speaks no version without sessions, but it has tasks: a user who may see none gets an empty list of them. No server
// here has the tasks of 2026-07-28, and the others have none at all.
func TestEverythingLists(t *testing.T) {
	_, upstream := startEverything(t)
	g := startGateway(t, site(everythingListRules, upstream))
	for user, want := range everythingViews {
		exchanges := everythingHidden[user]
		got := runLists(t, g.url(), user, exchanges)
		wantView(t, user, got.Pages, want)
		wantAnswers(t, user, got.Answers, exchanges)
		at := slices.IndexFunc(exchanges, func(e exchange) bool { return e.request.Method == listTasks.Method })
		tasks, _ := got.Answers[at].Result["tasks"].([]any)
		if seen := len(tasks) == 1; seen != (user == "alice") || !seen && (tasks == nil || len(tasks) > 0) {
			t.Errorf("%s has one task and sees %v", user, got.Answers[at])
		}
	}
}

// TestInspectorLists does it with MCP Inspector, which asks for the first page of a list and no other.
func TestInspectorLists(t *testing.T) {
	_, everything := startEverything(t)
	for name, c := range map[string]struct {
		upstream, rules string
		views           map[string]view
		prompt, uri     string // that Bob may not see
	}{
		"demo": {startDemo(t, "-sse"), demoRules, demoViews, "greet", "repo://acme/api"},
		"everything": {
			everything, everythingListRules, everythingViews,
			"simple-prompt", "demo://resource/static/document/features.md",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, site(c.rules, c.upstream))
			for user, view := range c.views {
				for list := range view {
					want := view.names(list)
					if got := inspectList(t, g.url(), user, list); !slices.Equal(got, want) {
						t.Errorf("%s: %s shows %q, want %q", user, list, got, want)
					}
				}
			}
			for want, args := range map[string][]string{
				"Unknown prompt: " + c.prompt: {"--method", "prompts/get", "--prompt-name", c.prompt},
				"Resource not found":          {"--method", "resources/read", "--uri", c.uri},
			} {
				if r := inspect(t, g.url(), token(t, "bob"), args...); r.status == 0 || !strings.Contains(r.out, want) {
					t.Errorf("%q: exit status %d, want %q:\n%s", args, r.status, want, r.out)
				}
			}
		})
	}
}

// inspectList lists something with MCP Inspector.
func inspectList(t *testing.T, url, user, list string) (names []string) {
	t.Helper()
	r := inspect(t, url, token(t, user), "--method", list)
	var answer map[string]any
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil || r.status != 0 {
		t.Fatalf("%s: %s: exit status %d, %v:\n%s", user, list, r.status, err, r.out)
	}
	member := listMembers[list]
	entries, ok := answer[member.entries].([]any)
	if !ok {
		t.Fatalf("%s: %s: no entries:\n%s", user, list, r.out)
	}
	for _, entry := range entries {
		names = append(names, fmt.Sprint(entry.(map[string]any)[member.name]))
	}
	return names
}

// TestModernLists does it with the Go SDK, in the version of the protocol that has no sessions.
func TestModernLists(t *testing.T) {
	for name, args := range demoServers {
		if slices.Contains(args, "-stateful") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, site(demoRules, startDemo(t, args...)))
			for user, want := range demoViews {
				ctx, cancel := context.WithTimeout(t.Context(), runLimit)
				session := connectAs(ctx, t, g.url(), "2026-07-28", user, nil)
				got := sdkView(ctx, t, session)
				for list := range want {
					if g, w := got.names(list), want.names(list); !slices.Equal(g, w) {
						t.Errorf("%s: %s shows %q, want %q", user, list, g, w)
					}
				}
				for _, e := range demoHidden[user] {
					modernRefusal(ctx, t, session, e)
				}
				cancel()
			}
		})
	}
}

// sdkView reads all lists with the Go SDK.
func sdkView(ctx context.Context, t *testing.T, session *mcp.ClientSession) view {
	t.Helper()
	return view{
		toolsList: {collect(t, session.Tools(ctx, nil), func(e *mcp.Tool) string { return e.Name })},
		promptsList: {
			collect(t, session.Prompts(ctx, nil), func(e *mcp.Prompt) string { return e.Name }),
		},
		resourcesList: {
			collect(t, session.Resources(ctx, nil), func(e *mcp.Resource) string { return e.URI }),
		},
		templatesList: {
			collect(t, session.ResourceTemplates(ctx, nil), func(e *mcp.ResourceTemplate) string { return e.URITemplate }),
		},
	}
}

func collect[E any](t *testing.T, entries iter.Seq2[E, error], name func(E) string) (names []string) {
	t.Helper()
	for entry, err := range entries {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name(entry))
	}
	return names
}

// modernRefusal makes a request that is refused, in a version where a hidden resource is answered like everything else.
func modernRefusal(ctx context.Context, t *testing.T, session *mcp.ClientSession, e exchange) {
	t.Helper()
	text := func(m map[string]any, member string) string { s, _ := m[member].(string); return s }
	name, uri := text(e.request.Params, "name"), text(e.request.Params, "uri")
	var err error
	want := "Unknown resource: " + uri
	switch e.request.Method {
	case "tools/call":
		want = "Unknown tool: " + name
		_, err = session.CallTool(ctx, &mcp.CallToolParams{Name: name})
	case "prompts/get":
		want = "Unknown prompt: " + name
		_, err = session.GetPrompt(ctx, &mcp.GetPromptParams{Name: name})
	case "resources/read":
		_, err = session.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})
	case "completion/complete":
		ref, _ := e.request.Params["ref"].(map[string]any)
		r := &mcp.CompleteReference{Type: text(ref, "type"), Name: text(ref, "name"), URI: text(ref, "uri")}
		want = "Unknown prompt: " + r.Name
		if r.URI != "" {
			want = "Unknown resource: " + r.URI
		}
		_, err = session.Complete(ctx, &mcp.CompleteParams{Ref: r, Argument: mcp.CompleteParamsArgument{Name: "x"}})
	case "resources/subscribe":
		return // gone; TestSubscriptions has what came instead
	default:
		t.Fatalf("nobody has said how to make a request %s", e.request.Method)
	}
	wantRefused(t, err, jsonrpc.CodeInvalidParams, want)
}
