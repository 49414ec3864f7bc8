package celauthz

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// Conditions and operations that meet in every way, for the tests that
// compare two ways to decide.
var (
	someConditions = []string{
		`true`, `false`, `jwt.sub == "alice"`, `"dev" in jwt.groups`, `has(jwt.admin) && jwt.admin`, `jwt.age > 5`, `jwt.sub`,
		`mcp.tool.name == "read"`, `mcp.tool.name.startsWith("re") && "dev" in jwt.groups`, `mcp.tool.arguments.repo == "acme"`,
		`mcp.tool.name == "write" && mcp.tool.arguments.repo.startsWith("ac")`, `jwt.sub == "bob" && mcp.tool.arguments.n > 1`,
		`mcp.prompt.name == "greet"`, `mcp.resource.uri.startsWith("file:///pub/")`, `mcp.resource.uri == "file:///a/secret"`,
		`mcp.task.id == "7"`, `mcp.method == "tools/call"`, `mcp.method.startsWith("x/") || jwt.admin`, `mcp.method == "initialize"`,
		`request.headers["x-env"] == "prod"`, `request.host == "mcp.example.com"`, `source.address == "192.0.2.1"`,
		`"repo:read" in scopes`, `scopes.exists(s, s.startsWith("repo:"))`, `mcp.version >= "2025-06-18"`, `jwt[mcp.method] == 1`,
		`jwt["sub"] == "alice" || mcp.tool.name == "read"`, `now > timestamp("2026-01-01T00:00:00Z")`, `size(jwt) > 2`,
		`["read", "write"].exists(n, mcp.tool.name == n)`, `jwt.?team.orValue("x") == "x"`, `mcp.tool.target == "files"`,
	}
	someCallers = []string{
		``, `{}`, alice, `{"sub":"bob","groups":["ops"],"scope":"repo:read"}`, `{"sub":"alice","iss":"i","scope":"repo:read repo:write"}`,
		`{"sub":"carol","iss":"i","admin":true,"groups":["dev"],"age":3,"team":"t"}`,
	}
	someOperations = []Operation{
		{Method: "tools/call", Target: "read", Arguments: jsontext.Value(`{"repo":"acme","n":2}`)},
		{Method: "tools/call", Target: "write", Arguments: jsontext.Value(`{"repo":"other"}`)},
		{Method: "tools/call", Target: "write"},
		{Method: "prompts/get", Target: "greet", Arguments: jsontext.Value(`{"n":"1"}`)},
		{Method: "resources/read", Target: "file:///pub/../a/secret"},
		{Method: "resources/read", Target: "file:///pub/x", Version: "2025-06-18"},
		{Method: "tasks/get", Target: "7"},
		{Method: "initialize"},
		{Method: "initialize", Params: jsontext.Value(`{"protocolVersion":"2025-11-25"}`)},
		{Method: "tools/list"},
		{Method: "ping"},
		{Method: "x/y"},
		{Method: "notifications/initialized"},
		{Method: "GET"},
		{Method: "DELETE"},
		{Method: "completion/complete", Params: jsontext.Value(`{"ref":{"type":"ref/prompt","name":"greet"}}`)},
		{Method: "subscriptions/listen", Params: jsontext.Value(`{"notifications":{"resourceSubscriptions":["file:///pub/x"]}}`)},
	}
)

// someHandler makes a handler of some rules; nil when they do not compile,
// because two kinds of targets do not go together.
func someHandler(random *rand.Rand) *Handler {
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	h := &Handler{Target: "files", OnDeny: pick([]string{OnDenyHide, OnDenyForbid})}
	for range 1 + random.IntN(4) {
		rule := &Rule{Action: Action(pick([]string{"allow", "allow", "allow", "deny", "require"}))}
		for range 1 + random.IntN(2) {
			condition := pick(someConditions)
			if random.IntN(3) == 0 {
				condition = "(" + condition + ")" + pick([]string{" && ", " || "}) + "(" + pick(someConditions) + ")"
			}
			rule.MatchExpressions = append(rule.MatchExpressions, condition)
		}
		h.Rules = append(h.Rules, rule)
	}
	if random.IntN(3) == 0 {
		h.Scopes = []*Scope{{"repo:read", pick(someConditions)}, {"repo:write", pick(someConditions)}}
		h.ScopeImplies = map[string][]string{"repo:write": {"repo:read"}}
	}
	if h.Compile() != nil {
		return nil
	}
	return h
}

// someOperation is an operation of a caller.
func someOperation(random *rand.Rand) *Operation {
	o := someOperations[random.IntN(len(someOperations))]
	if claims := someCallers[random.IntN(len(someCallers))]; claims != "" {
		o.Claims = jsontext.Value(claims)
	}
	o.Time = noon
	o.Request = OperationRequest{Host: "mcp.example.com", URI: "/mcp"}
	if random.IntN(2) == 0 {
		o.Request.Headers = map[string]string{"X-Env": "prod"}
	}
	o.Source = "192.0.2.1:1234"
	return &o
}

// TestExplainDecides: whatever the rules, the explanation is what a client
// gets, and its verdicts lead to its decision.
func TestExplainDecides(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for policies := 0; policies < 400; {
		h := someHandler(random)
		if h == nil {
			continue
		}
		policies++
		s := provision(t, &Handler{
			Rules: h.Rules, Scopes: h.Scopes, ScopeImplies: h.ScopeImplies, OnDeny: h.OnDeny, Target: h.Target,
		})
		for range 12 {
			o := someOperation(random)
			found, err := h.Explain(t.Context(), o)
			if err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			seen[found.Outcome]++
			what := fmt.Sprintf("%s\n%s", mustJSON(t, h), mustJSON(t, o))
			compareWithHandler(t, s, o, found, what)
			for _, q := range found.Questions {
				if allowed, rule := conclude(q); allowed != q.Allowed || rule != q.Rule {
					t.Fatalf("%s\nthe verdicts lead to %v by %s:\n%s", what, allowed, rule, mustJSON(t, q))
				}
			}
		}
	}
	for _, outcome := range []string{"allow", "deny", "hidden", "scope"} {
		if seen[outcome] < 50 {
			t.Errorf("only %d operations ended in %s", seen[outcome], outcome)
		}
	}
}

// compareWithHandler sends an operation through ServeHTTP.
func compareWithHandler(t *testing.T, s *site, o *Operation, found *Explanation, what string) {
	t.Helper()
	in, _, err := o.incoming()
	if err != nil {
		t.Fatal(err)
	}
	r := request(operationBody(o))
	if o.bodiless() {
		r, _ = http.NewRequestWithContext(context.Background(), o.Method, "https://mcp.example.com/mcp", http.NoBody)
	}
	r.RemoteAddr = o.Source
	for name, value := range o.Request.Headers {
		r.Header.Set(name, value)
	}
	if o.Version != "" {
		r.Header.Set("MCP-Protocol-Version", o.Version)
	}
	var stepUp []string
	s.identity = &reqctx.Identity{Claims: claimsOf(t, string(o.Claims)), StepUp: func(w http.ResponseWriter, _ *http.Request, scopes []string) error {
		stepUp = scopes
		w.WriteHeader(http.StatusForbidden)
		return nil
	}}
	w := s.serve(r)
	decision, _ := s.repl.GetString("mcp.decision")
	rule, _ := s.repl.GetString("mcp.rule")
	if decision != found.Decision || rule != found.Rule {
		t.Fatalf("%s\nthe handler says %s by %s, the explanation %s by %s", what, decision, rule, found.Decision, found.Rule)
	}
	if (s.passed != nil) != (found.Answer == nil) || (found.Outcome == "allow") != (found.Answer == nil) {
		t.Fatalf("%s\npassed %v, outcome %s, answer %v", what, s.passed != nil, found.Outcome, found.Answer)
	}
	if found.Answer == nil {
		return
	}
	if w.Code != found.Answer.Status || !slices.Equal(stepUp, found.Answer.Scopes) ||
		stepUp == nil && w.Body.String() != found.Answer.Body {
		t.Fatalf("%s\nanswer %d %s %v, explained as %+v (message %v)", what, w.Code, w.Body, stepUp, found.Answer, in.first())
	}
	if hidden := strings.Contains(found.Answer.Body, "Unknown ") || strings.Contains(found.Answer.Body, "not found"); hidden != (found.Outcome == "hidden") &&
		!strings.Contains(found.Answer.Body, "Method not found") {
		t.Fatalf("%s\noutcome %s, answer %s", what, found.Outcome, found.Answer.Body)
	}
}

// operationBody is the message of an operation, written without its help.
func operationBody(o *Operation) string {
	message := map[string]any{"jsonrpc": "2.0", "method": o.Method}
	if !strings.HasPrefix(o.Method, "notifications/") {
		message["id"] = 1
	}
	params := map[string]any{}
	switch member := map[string]string{
		"tools/call": "name", "prompts/get": "name", "resources/read": "uri", "tasks/get": "taskId",
	}[o.Method]; {
	case o.Params != nil:
		message["params"] = o.Params
	case member != "":
		params[member] = o.Target
		if o.Arguments != nil {
			params["arguments"] = o.Arguments
		}
		message["params"] = params
	}
	text, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// conclude decides by the effects of rules, as docs/rules.md tells it.
func conclude(q Question) (allowed bool, rule string) {
	anyAllow := false
	for _, action := range []Action{Deny, Require, Allow} {
		for _, r := range q.Rules {
			anyAllow = anyAllow || r.Action == Allow
			if r.Action == action && r.Effect != "none" {
				return action == Allow, r.Name
			}
		}
	}
	return !anyAllow && q.Asked != "unknown_method", DefaultRule
}

func mustJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExplainParts: every rule and each of its parts is there, whatever
// decided before, with the reason for errors and unknowns.
func TestExplainParts(t *testing.T) {
	h := &Handler{Rules: []*Rule{
		{Action: Deny, MatchExpressions: []string{`mcp.tool.name == "drop" || jwt.banned`}},
		{Name: "people", Action: Allow, MatchExpressions: []string{`jwt.sub == 'alice' && mcp.tool.arguments.a == 1`, `"x" in jwt.groups`, `jwt.sub`}},
		{Action: Require, MatchExpressions: []string{`jwt.age > 3 && [1, 2].all(n, n < 3)`}},
		{Action: Allow, MatchExpressions: []string{`mcp.prompt.name == "p"`}},
		{Action: Allow, MatchExpressions: []string{`mcp.tool.name == "drop" && mcp.prompt.name == "p"`}},
	}}
	if err := h.Compile(); err != nil {
		t.Fatal(err)
	}
	found, err := h.Explain(t.Context(), &Operation{Claims: jsontext.Value(alice), Method: "tools/call", Target: "drop"})
	if err != nil {
		t.Fatal(err)
	}
	if found.Rule != "deny#1" || found.Outcome != "deny" || found.Answer.Body != "authorization failed" {
		t.Errorf("%s by %s: %+v", found.Outcome, found.Rule, found.Answer)
	}
	want := []RuleVerdict{
		{"deny#1", Deny, "denies", []ExpressionVerdict{{
			`mcp.tool.name == "drop" || jwt.banned`, "true", "", []ExpressionVerdict{
				{`mcp.tool.name == "drop"`, "true", "", nil},
				{`jwt.banned`, "error", "no such key: banned", nil},
			},
		}}},
		{"people", Allow, "none", []ExpressionVerdict{
			{`jwt.sub == 'alice' && mcp.tool.arguments.a == 1`, "error", "no such key: a", []ExpressionVerdict{
				{`jwt.sub == "alice"`, "true", "", nil},
				{`mcp.tool.arguments.a == 1`, "error", "no such key: a", nil},
			}},
			{`"x" in jwt.groups`, "false", "", nil},
			{`jwt.sub`, "error", "is not true or false, but string", nil},
		}},
		{"require#1", Require, "none", []ExpressionVerdict{{
			`jwt.age > 3 && [1, 2].all(n, n < 3)`, "true", "", []ExpressionVerdict{
				{`jwt.age > 3`, "true", "", nil},
				{`[1, 2].all(n, n < 3)`, "true", "", nil},
			},
		}}},
		{"allow#1", Allow, "none", []ExpressionVerdict{{`mcp.prompt.name == "p"`, "does-not-apply", "", nil}}},
		// no operation has both
		{"allow#3", Allow, "none", []ExpressionVerdict{{
			`mcp.tool.name == "drop" && mcp.prompt.name == "p"`, "error", "no such attribute(s): mcp.prompt.name", []ExpressionVerdict{
				{`mcp.tool.name == "drop"`, "true", "", nil},
				{`mcp.prompt.name == "p"`, "error", "no such attribute(s): mcp.prompt.name", nil},
			},
		}}},
	}
	want[3].Name = "allow#2"
	if got := found.Questions[0]; got.Asked != "call" || got.Target != "drop" || mustJSON(t, got.Rules) != mustJSON(t, want) {
		t.Errorf("got  %s\nwant %s", mustJSON(t, got), mustJSON(t, want))
	}
	anything := found.Questions[1]
	if anything.Asked != "anything" || anything.Allowed {
		t.Errorf("%s", mustJSON(t, anything))
	}
	if detail := anything.Rules[0].Expressions[0].Parts[0].Detail; detail != "depends on mcp.tool.name" {
		t.Errorf("detail %q", detail)
	}
}

// TestExplainEntries: lists are asked about entry by entry.
func TestExplainEntries(t *testing.T) {
	h := &Handler{OnDeny: OnDenyForbid, Rules: rulesOf(t,
		`allow mcp.tool.name == "a" && mcp.tool.arguments.x == 1`, `allow mcp.resource.uri == "file:///{name}"`, `deny mcp.prompt.name == "p"`,
		`allow mcp.prompt.name != ""`)}
	if err := h.Compile(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ method, entry, outcome, rule string }{
		{"tools/list", "a", "allow", "allow#1"},
		{"tools/list", "b", "hidden", "default"},
		{"tools/list", "", "allow", "allow#1"},
		{"resources/templates/list", "file:///{name}", "allow", "allow#2"},
		{"resources/list", "file:///{other}", "hidden", "default"},
		{"prompts/list", "p", "hidden", "deny#1"},
		{"prompts/list", "q", "allow", "allow#3"},
		{"tasks/list", "1", "hidden", "default"},
	} {
		found, err := h.Explain(t.Context(), &Operation{Method: test.method, Target: test.entry})
		if err != nil {
			t.Fatal(err)
		}
		if found.Outcome != test.outcome || found.Rule != test.rule || found.Answer != nil {
			t.Errorf("%s %s: %s by %s, answer %v", test.method, test.entry, found.Outcome, found.Rule, found.Answer)
		}
	}
}

// TestExplainAnswers: what a refused caller gets, and why, in words.
func TestExplainAnswers(t *testing.T) {
	h := &Handler{
		Rules:        rulesOf(t, `allow jwt.sub == "alice"`, `deny mcp.tool.arguments.bad`, `deny mcp.tool.name == "x"`, `deny mcp.resource.uri == "a:b"`),
		Scopes:       []*Scope{{"write", `mcp.tool.name == "w"`}},
		ScopeImplies: map[string][]string{"all": {"write"}},
	}
	if err := h.Compile(); err != nil {
		t.Fatal(err)
	}
	arguments := jsontext.Value(`{"bad":false}`)
	for _, test := range []struct {
		o                      Operation
		outcome, rule, summary string
		answer                 string
	}{
		{Operation{Method: "tools/call", Target: "t", Arguments: arguments}, "allow", "allow#1", "allowed by allow#1", "null"},
		{
			Operation{Method: "tools/call", Target: "t"},
			"deny", "deny#1", "this caller may use the target, but not like this: refused by deny#1",
			`{"status":403,"body":"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-31403,\"message\":\"denied by rule \\\"deny#1\\\"\"}}"}`,
		},
		{
			Operation{Method: "tools/call", Target: "x", Arguments: arguments},
			"hidden", "deny#2", "this caller can never use the target: refused by deny#2",
			`{"status":200,"body":"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"Unknown tool: x\"}}"}`,
		},
		{
			Operation{Method: "resources/read", Target: "a:b", Version: "2026-07-28"},
			"hidden", "deny#3", "this caller can never use the target: refused by deny#3",
			`{"status":200,"body":"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"Unknown resource: a:b\"}}"}`,
		},
		{
			Operation{Method: "tools/call", Target: "w", Arguments: arguments},
			"scope", "scope", "the rules allow it, but the token lacks a scope",
			`{"status":403,"body":"authorization failed: the token lacks a scope","scopes":["write"]}`,
		},
		{
			Operation{Claims: jsontext.Value(`{"sub":"alice","scope":"all"}`), Method: "tools/call", Target: "w", Arguments: arguments},
			"allow", "allow#1", "allowed by allow#1", "null",
		},
		{
			Operation{Method: "x/y"},
			"deny", "default", "the specification does not have this method: no allow grants it",
			`{"status":200,"body":"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}"}`,
		},
		{
			Operation{Claims: jsontext.Value(`null`), Method: "initialize"},
			"deny", "default",
			"nothing at all is allowed to this caller: no allow grants it", `{"status":403,"body":"authorization failed"}`,
		},
	} {
		if test.o.Claims == nil {
			test.o.Claims = jsontext.Value(`{"sub":"alice"}`)
		}
		found, err := h.Explain(t.Context(), &test.o)
		if err != nil {
			t.Fatal(err)
		}
		if answer := mustJSON(t, found.Answer); found.Outcome != test.outcome || found.Rule != test.rule || found.Summary != test.summary || answer != test.answer {
			t.Errorf("%s %s:\n%s by %s: %s\n%s", test.o.Method, test.o.Target, found.Outcome, found.Rule, found.Summary, answer)
		}
	}
	found, err := h.Explain(t.Context(), &Operation{Claims: jsontext.Value(`{"sub":"alice","scope":"all"}`), Method: "tools/call", Target: "w", Arguments: arguments})
	if err != nil || len(found.Scopes) != 1 || found.Scopes[0] != (ScopeVerdict{"write", true, true}) {
		t.Errorf("scopes %v, %v", found.Scopes, err)
	}
	onlyDeny := &Handler{Rules: rulesOf(t, `deny mcp.tool.name == "x"`)}
	if err := onlyDeny.Compile(); err != nil {
		t.Fatal(err)
	}
	if found, err = onlyDeny.Explain(t.Context(), &Operation{Method: "ping"}); err != nil || found.Summary != "nothing denies it, and there is no allow" {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestExplainRefusesNonsense: an operation is read as strictly as a message.
func TestExplainRefusesNonsense(t *testing.T) {
	h := &Handler{Rules: rulesOf(t, `allow true`)}
	if err := h.Compile(); err != nil {
		t.Fatal(err)
	}
	value := func(text string) jsontext.Value { return jsontext.Value(text) }
	for _, test := range []struct {
		o    Operation
		want string
	}{
		{Operation{}, "an operation needs a method"},
		{Operation{Method: "GET", Target: "x"}, "carry no message"},
		{Operation{Method: "tools/call", Target: "x", Params: value(`{}`)}, "params hold target and arguments already"},
		{Operation{Method: "ping", Target: "x"}, "this method has no target"},
		{Operation{Method: "completion/complete", Target: "x"}, "say with params"},
		{Operation{Method: "resources/read", Target: "x", Arguments: value(`{}`)}, "only tools/call and prompts/get"},
		{Operation{Method: "tools/call", Target: "x", Arguments: value(`[]`)}, "arguments: not valid JSON: not an object"},
		{Operation{Method: "tools/call", Target: "x", Arguments: value(`{"a":1,"a":2}`)}, "duplicate member name"},
		{Operation{Method: "tools/call", Target: "x", Arguments: value(`{}},"x":{`)}, "arguments: data after the JSON value"},
		{Operation{Method: "tools/call", Params: value(`{"Name":"x"}`)}, "differs from one of the specification only by case"},
		{Operation{Method: "ping", Claims: value(`[]`)}, "claims: "},
		{Operation{Method: "ping", Claims: value(`{"sub":"a","sub":"b"}`)}, "claims: duplicate member name"},
		{Operation{Method: "ping", Request: OperationRequest{URI: "x"}}, "invalid URI"},
		{Operation{Method: "ping", Source: "1.2.3.4:x"}, "parsing"},
	} {
		found, err := h.Explain(t.Context(), &test.o)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q (%+v)", test.o, err, test.want, found)
		}
	}
}

// TestOperationJSON: what the command line and the admin API read is what
// they print.
func TestOperationJSON(t *testing.T) {
	const text = `{"claims":{"sub":"a"},"method":"tools/call","target":"t","arguments":{"n":9007199254740993},"version":"2025-06-18",` +
		`"request":{"scheme":"http","host":"h","uri":"/p?q=1","headers":{"X-A":"b"}},"source":"192.0.2.1:5","time":"2026-08-01T12:00:00Z"}`
	var o Operation
	if err := json.Unmarshal([]byte(text), &o, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if got := mustJSON(t, &o); got != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
	h := &Handler{Rules: rulesOf(t, `allow jwt.sub == "a" && mcp.tool.arguments.n == 9007199254740993 && mcp.version == "2025-06-18" && `+
		`request.scheme == "http" && request.host == "h" && request.uri == "/p?q=1" && request.query.q == ["1"] && request.headers["x-a"] == "b" && `+
		`request.method == "POST" && source.address == "192.0.2.1" && source.port == 5 && now == timestamp("2026-08-01T12:00:00Z")`)}
	if err := h.Compile(); err != nil {
		t.Fatal(err)
	}
	if found, err := h.Explain(t.Context(), &o); err != nil || found.Decision != "allow" {
		t.Errorf("%s %v", mustJSON(t, found), err)
	}
}
