package celauthz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// subjects of the questions, about a tool where the question has a target.
func subjectOf(q question) *subject {
	switch q {
	case mayCall:
		return toolCall("t", `{"a":1}`)
	case isVisible:
		return &subject{method: "tools/call", kind: mcpwire.Tool, name: "t"}
	case mayPassUnknown:
		return &subject{method: "x/y"}
	default:
		return &subject{method: "initialize"}
	}
}

// The table of CONTRACT.md 3.2: one rule, one verdict, one decision.
func TestDecideTable(t *testing.T) {
	const (
		holds  = `jwt.sub == "alice"`
		fails  = `jwt.sub == "bob"`
		errs   = `jwt.missing == 1`
		noBool = `jwt.sub` // an error as well: it is not true or false
	)
	// what is open, by question; a call leaves nothing open
	open := map[question]string{
		isVisible:      `mcp.tool.arguments.a == 1`,
		mayPass:        `mcp.tool.name == "t"`,
		mayPassUnknown: `mcp.tool.name == "t"`,
		mayAnything:    `mcp.tool.name == "t"`,
	}
	type row struct {
		action     Action
		expression string
		allowed    bool
	}
	for _, q := range []question{mayCall, isVisible, mayPass, mayAnything} {
		rows := []row{
			{Deny, holds, false},
			{Deny, fails, true},
			{Deny, errs, false},
			{Deny, noBool, false},
			{Require, holds, true},
			{Require, fails, false},
			{Require, errs, false},
			{Require, noBool, false},
			{Allow, holds, true},
			{Allow, fails, false},
			{Allow, errs, false},
			{Allow, noBool, false},
		}
		if unknown := open[q]; unknown != "" {
			rows = append(rows, row{Deny, unknown, true}, row{Require, unknown, true}, row{Allow, unknown, true})
		}
		for _, row := range rows {
			decides(t, q, row.action, row.expression, row.allowed)
		}
	}

	// an unknown method needs an allow that is true and names mcp.method
	const unknown = `mcp.tool.name == "t"`
	for _, row := range []row{
		{Deny, holds, false},
		{Deny, fails, false},
		{Deny, errs, false},
		{Deny, unknown, false},
		{Require, holds, false},
		{Require, fails, false},
		{Require, errs, false},
		{Require, unknown, false},
		{Allow, holds, false},
		{Allow, fails, false},
		{Allow, errs, false},
		{Allow, unknown, false},
		{Allow, `true`, false},
		{Allow, `mcp.method == "x/y"`, true},
		{Allow, `mcp.method == "x/z"`, false},
		{Allow, `mcp.method.startsWith("x/")`, true},
		{Allow, `mcp.method != "tools/call"`, true},
		{Allow, holds + ` && mcp.method == "x/y"`, true},
		{Allow, holds + ` || mcp.method == "x/z"`, true},
		{Allow, fails + ` && mcp.method == "x/y"`, false},
		{Allow, errs + ` && mcp.method == "x/y"`, false},
		{Allow, unknown + ` && mcp.method == "x/y"`, false},
		{Allow, unknown + ` || mcp.method == "x/z"`, false},
	} {
		decides(t, mayPassUnknown, row.action, row.expression, row.allowed)
	}

	// the method is open for allows, and for every rule when it is asked
	// whether there is anything at all
	const method = `mcp.method == "tools/call"`
	for _, row := range []struct {
		q       question
		action  Action
		allowed bool
	}{
		{mayPass, Allow, true},
		{mayPass, Deny, true},
		{mayPass, Require, false},
		{mayAnything, Allow, true},
		{mayAnything, Deny, true},
		{mayAnything, Require, true},
		{isVisible, Allow, true},
		{isVisible, Deny, false},
		{isVisible, Require, true},
	} {
		decides(t, row.q, row.action, method, row.allowed)
	}
	decides(t, mayPass, Deny, `mcp.method == "initialize"`, false)
	decides(t, mayAnything, Deny, `mcp.method == "initialize"`, true)
}

// decides asks a policy of one rule about the subject of the question.
func decides(t *testing.T, q question, action Action, expression string, allowed bool) {
	t.Helper()
	p := policyOf(t, string(action)+" "+expression)
	d := p.decide(context.Background(), q, callerOf(t, alice), subjectOf(q))
	if d.allowed != allowed {
		t.Errorf("%s, %s %s: allowed %v, want %v", q, action, expression, d.allowed, allowed)
	}
	if q == mayPassUnknown && !allowed {
		return // refused by a rule, or for want of one
	}
	// an allow is named when it grants, the others when they refuse
	want := DefaultRule
	if (action == Allow) == allowed {
		want = string(action) + "#1"
	}
	if d.rule != want {
		t.Errorf("%s, %s %s: decided by %q, want %q", q, action, expression, d.rule, want)
	}
}

// Deny comes before require, and require before allow; the first that decides
// is named.
func TestDecideOrder(t *testing.T) {
	tests := []struct {
		rules   []string
		allowed bool
		rule    string
	}{
		{[]string{"allow true", "deny true"}, false, "deny#1"},
		{[]string{"allow true", "require false", "deny false"}, false, "require#1"},
		{[]string{"require false", "deny true"}, false, "deny#1"},
		{[]string{"allow false", "allow true", "allow true"}, true, "allow#2"},
		{[]string{"deny false", "deny true", "deny true"}, false, "deny#2"},
		{[]string{"require true", "require jwt.missing"}, false, "require#2"},
		{[]string{"allow false", "require true", "deny false"}, false, DefaultRule},
		{[]string{"require true"}, true, DefaultRule},
		{[]string{"deny false"}, true, DefaultRule},
		{[]string{"allow jwt.missing", "allow true"}, true, "allow#2"}, // an error grants nothing, and hinders nobody
		{[]string{"allow true", "deny jwt.missing"}, false, "deny#1"},
	}
	for _, test := range tests {
		p := policyOf(t, test.rules...)
		d := p.decide(context.Background(), mayCall, callerOf(t, alice), toolCall("t", "{}"))
		if d.allowed != test.allowed || d.rule != test.rule {
			t.Errorf("%q: %+v, want %v by %q", test.rules, d, test.allowed, test.rule)
		}
	}
}

// Several expressions in one rule: any of them for allow and deny, each of
// them for require.
func TestSeveralExpressions(t *testing.T) {
	tests := []struct {
		action      Action
		expressions []string
		allowed     bool
	}{
		{Allow, []string{"false", "true"}, true},
		{Allow, []string{"jwt.missing", "true"}, true},
		{Allow, []string{"false", "false"}, false},
		{Deny, []string{"false", "true"}, false},
		{Deny, []string{"false", "jwt.missing"}, false},
		{Deny, []string{"false", "false"}, true},
		{Require, []string{"true", "true"}, true},
		{Require, []string{"true", "false"}, false},
		{Require, []string{"jwt.missing", "true"}, false},
	}
	for _, test := range tests {
		p, err := compilePolicy([]*Rule{{Name: "r", Action: test.action, MatchExpressions: test.expressions}})
		if err != nil {
			t.Fatal(err)
		}
		d := p.decide(context.Background(), mayCall, callerOf(t, alice), toolCall("t", "{}"))
		if d.allowed != test.allowed {
			t.Errorf("%s %q: %+v", test.action, test.expressions, d)
		}
		if d.rule != "r" && d.rule != DefaultRule {
			t.Errorf("%s %q: rule %q", test.action, test.expressions, d.rule)
		}
	}
}

// A rule that mentions only targets of another kind neither grants, nor
// denies, nor fails.
func TestOtherKinds(t *testing.T) {
	kinds := map[mcpwire.TargetKind]string{
		mcpwire.Tool:     `mcp.tool.name == "x"`,
		mcpwire.Prompt:   `mcp.prompt.name == "x"`,
		mcpwire.Resource: `mcp.resource.uri == "x"`,
		mcpwire.Task:     `mcp.task.id == "x"`,
	}
	ask := func(q question, kind mcpwire.TargetKind, lines ...string) decision {
		t.Helper()
		return policyOf(t, lines...).decide(context.Background(), q, callerOf(t, alice),
			&subject{method: kind.Call(), kind: kind, name: "x"})
	}
	for _, q := range []question{mayCall, isVisible} {
		for kind := range kinds {
			for about, expression := range kinds {
				same := kind == about
				if d := ask(q, kind, "allow "+expression); d.allowed != same {
					t.Errorf("%s: allow %s, asked about a %s: %+v", q, expression, kind, d)
				}
				if d := ask(q, kind, "deny "+expression); d.allowed == same {
					t.Errorf("%s: deny %s, asked about a %s: %+v", q, expression, kind, d)
				}
				negated := strings.Replace(expression, "==", "!=", 1)
				if d := ask(q, kind, "require "+negated); d.allowed == same {
					t.Errorf("%s: require %s, asked about a %s: %+v", q, negated, kind, d)
				}
				// nor does an error in it do anything
				if d := ask(q, kind, "deny "+expression+" && jwt.missing"); d.allowed == same {
					t.Errorf("%s: deny %s && jwt.missing, asked about a %s: %+v", q, expression, kind, d)
				}
			}
		}
	}
	// what an allow says about the other kind is an error, which grants
	// nothing and takes nothing away
	tests := map[string]map[mcpwire.TargetKind]bool{
		`mcp.tool.name == "x" || mcp.prompt.name == "x"`:           {mcpwire.Tool: true, mcpwire.Prompt: true, mcpwire.Resource: false},
		`mcp.tool.name == "x" && mcp.prompt.name == "x"`:           {mcpwire.Tool: false, mcpwire.Prompt: false, mcpwire.Resource: false},
		`mcp.tool.name != "x" || mcp.prompt.name == "x"`:           {mcpwire.Tool: false, mcpwire.Prompt: true},
		`!(mcp.tool.name == "y") || !(mcp.prompt.name == "x")`:     {mcpwire.Tool: true, mcpwire.Prompt: false},
		`mcp.tool.name == "x" ? true : mcp.prompt.name == "x"`:     {mcpwire.Tool: true, mcpwire.Prompt: false},
		`mcp.tool.name == "y" || mcp.prompt.arguments.p == "x"`:    {mcpwire.Tool: false},
		`mcp.prompt.arguments.p == "x" || mcp.task.id == "x"`:      {mcpwire.Task: true, mcpwire.Tool: false},
		`[mcp.tool.name, jwt.sub].exists(n, n == "x") || jwt.nope`: {mcpwire.Tool: true, mcpwire.Prompt: false},
	}
	for expression, kinds := range tests {
		for kind, allowed := range kinds {
			for _, q := range []question{mayCall, isVisible} {
				if d := ask(q, kind, "allow "+expression); d.allowed != allowed {
					t.Errorf("%s: allow %s, asked about a %s: %+v", q, expression, kind, d)
				}
			}
		}
	}
}

// deny is split at its top-level ||, require at its top-level &&, so that
// each part is judged where it applies.
func TestSplitParts(t *testing.T) {
	ask := func(kind mcpwire.TargetKind, name string, lines ...string) bool {
		t.Helper()
		return policyOf(t, lines...).decide(context.Background(), mayCall, callerOf(t, alice),
			&subject{method: kind.Call(), kind: kind, name: name}).allowed
	}
	tests := []struct {
		rule    string
		kind    mcpwire.TargetKind
		name    string
		allowed bool
	}{
		{`deny mcp.tool.name == "x" || mcp.prompt.name == "y"`, mcpwire.Tool, "x", false},
		{`deny mcp.tool.name == "x" || mcp.prompt.name == "y"`, mcpwire.Tool, "y", true},
		{`deny mcp.tool.name == "x" || mcp.prompt.name == "y"`, mcpwire.Prompt, "y", false},
		{`deny mcp.tool.name == "x" || mcp.prompt.name == "y"`, mcpwire.Resource, "x", true},
		{`deny mcp.tool.name == "x" || jwt.sub == "alice"`, mcpwire.Prompt, "p", false},
		{`deny mcp.tool.name == "x" || jwt.sub == "bob"`, mcpwire.Prompt, "p", true},
		{`deny mcp.tool.name == "x" || jwt.missing`, mcpwire.Prompt, "p", false},
		{`deny (mcp.tool.name == "x" || (mcp.task.id == "y" || mcp.prompt.name == "p"))`, mcpwire.Prompt, "p", false},
		{`deny jwt.sub == "alice" && mcp.tool.name == "x"`, mcpwire.Prompt, "x", true},
		{`require mcp.tool.name != "x" && mcp.prompt.name != "y"`, mcpwire.Tool, "x", false},
		{`require mcp.tool.name != "x" && mcp.prompt.name != "y"`, mcpwire.Tool, "y", true},
		{`require mcp.tool.name != "x" && mcp.prompt.name != "y"`, mcpwire.Prompt, "y", false},
		{`require mcp.tool.name != "x" && mcp.prompt.name != "y"`, mcpwire.Task, "y", true},
		{`require mcp.tool.name != "x" && jwt.sub == "bob"`, mcpwire.Task, "y", false},
		{`require mcp.tool.name != "x" && jwt.missing`, mcpwire.Task, "y", false},
	}
	for _, test := range tests {
		if got := ask(test.kind, test.name, test.rule); got != test.allowed {
			t.Errorf("%s, asked about the %s %q: %v", test.rule, test.kind, test.name, got)
		}
	}
}

// A part that still mentions two kinds could never be judged, so it does not
// load, and the error says how to write it.
func TestTwoKindsInOnePart(t *testing.T) {
	bad := []string{
		`deny mcp.tool.name == "x" && mcp.prompt.name == "x"`,
		`deny mcp.tool.name == mcp.resource.uri`,
		`deny !(mcp.tool.name == "x" || mcp.prompt.name == "x")`,
		`deny jwt.a || (mcp.tool.name == "x" && mcp.task.id == "x")`,
		`deny [mcp.tool.name, mcp.prompt.name].exists(n, n == "x")`,
		`deny [1].exists(mcp, .mcp.tool.name == .mcp.prompt.name)`,
		`deny mcp.tool.arguments.a == mcp.prompt.arguments.a`,
		`require mcp.tool.name == "x" || mcp.prompt.name == "x"`,
		`require mcp.tool.name == "x" ? mcp.prompt.name == "x" : true`,
	}
	for _, rule := range bad {
		_, err := compilePolicy(rulesOf(t, rule))
		if !errors.Is(err, errTwoKinds) {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		for _, advice := range []string{"#1", "two rules", "|| in a deny", "&& in a require"} {
			if !strings.Contains(err.Error(), advice) {
				t.Errorf("%s: %q does not say %q", rule, err, advice)
			}
		}
	}
	policyOf(t,
		`allow mcp.tool.name == "x" && mcp.prompt.name == "x"`, // senseless, but it grants nothing
		`deny mcp.tool.name == "x" || mcp.prompt.name == "x"`,
		`require mcp.tool.name != "x" && mcp.prompt.name != "x"`,
		`deny mcp.tool.name == "x" && mcp.tool.arguments.a == mcp.tool.target`,
	)
}

// error && unknown can become false but never true: a missing claim beside
// an argument makes nothing visible.
func TestErrorBesideOpen(t *testing.T) {
	tests := []struct {
		rule    string
		q       question
		allowed bool
	}{
		{`allow jwt.missing == 1 && mcp.tool.arguments.a == 1`, isVisible, false},
		{`allow mcp.tool.arguments.a == 1 && jwt.missing == 1`, isVisible, false},
		{`allow mcp.tool.arguments.a == 1 && (mcp.tool.arguments.b == 1 && jwt.missing == 1)`, isVisible, false},
		{`allow jwt.missing == 1 || mcp.tool.arguments.a == 1`, isVisible, true}, // true once a is 1
		{`allow jwt.sub == "alice" && mcp.tool.arguments.a == 1`, isVisible, true},
		{`allow jwt.sub == "bob" && mcp.tool.arguments.a == 1`, isVisible, false},
		{`allow jwt.missing == 1 && mcp.tool.name == "t"`, mayPass, false},
		{`allow mcp.method == "tools/call" && jwt.missing == 1`, mayPass, false},
		{`allow jwt.missing == 1 || mcp.tool.name == "t"`, mayPass, true},
		{`require jwt.missing == 1 && mcp.tool.arguments.a == 1`, isVisible, false},
		{`require jwt.missing == 1 || mcp.tool.arguments.a == 1`, isVisible, true},
		{`deny jwt.missing == 1 || mcp.tool.arguments.a == 1`, isVisible, false}, // an error or true, whatever a is
		{`deny jwt.missing == 1 && mcp.tool.arguments.a == 1`, isVisible, true},  // false if a is 2
		{`deny jwt.missing == 1 || mcp.tool.name == "t"`, mayPass, false},
		{`deny jwt.missing == 1 && mcp.tool.name == "t"`, mayPass, true},
	}
	for _, test := range tests {
		d := policyOf(t, test.rule).decide(context.Background(), test.q, callerOf(t, alice), subjectOf(test.q))
		if d.allowed != test.allowed {
			t.Errorf("%s, %s: %+v", test.q, test.rule, d)
		}
	}
}

// CONTRACT.md: `allow jwt.sub == "alice"` refuses Bob at initialize.
func TestBobIsRefusedAtInitialize(t *testing.T) {
	s := newSite(t, `allow jwt.sub == "alice"`)
	for _, message := range []string{
		messageOf("initialize", `{"protocolVersion":"2025-06-18"}`),
		messageOf("ping", ""),
		messageOf("tools/list", ""),
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":1,"result":{}}`,
		callOf("t", "{}"),
	} {
		s.as(`{"sub":"bob"}`)
		s.wantRefused(s.post(message), 403, "authorization failed")
		s.as(alice)
		s.wantPassed(s.post(message), message)
	}
}

// CONTRACT.md: `allow mcp.tool.arguments.repo.startsWith("acme/")` lists the
// tool and judges each call.
func TestArgumentsJudgeEachCall(t *testing.T) {
	p := policyOf(t, `allow mcp.tool.arguments.repo.startsWith("acme/")`)
	who := callerOf(t, alice)
	if d := p.visible(context.Background(), who, mcpwire.Tool, "any"); !d.allowed {
		t.Errorf("the tool is not listed: %+v", d)
	}
	for _, kind := range []mcpwire.TargetKind{mcpwire.Prompt, mcpwire.Resource, mcpwire.Task} {
		if d := p.visible(context.Background(), who, kind, "any"); d.allowed {
			t.Errorf("a %s is listed: %+v", kind, d)
		}
	}
	for arguments, allowed := range map[string]bool{
		`{"repo":"acme/x"}`:             true,
		`{"repo":"evil/x"}`:             false,
		`{"repo":"Acme/x"}`:             false,
		`{"repo":["acme/x"]}`:           false,
		`{"repo":1}`:                    false,
		`{"repo":null}`:                 false,
		`{"Repo":"acme/x"}`:             false,
		`{}`:                            false,
		``:                              false,
		`{"x":{"repo":"acme/x"}}`:       false,
		`{"repo":"\u0061cme\/x","y":1}`: true,
	} {
		if d := p.decide(context.Background(), mayCall, who, toolCall("any", arguments)); d.allowed != allowed {
			t.Errorf("%s: %+v", arguments, d)
		}
	}
}

// An entry is judged as the call it offers.
func TestEntriesAreJudgedAsCalls(t *testing.T) {
	for kind, method := range map[mcpwire.TargetKind]string{
		mcpwire.Tool: "tools/call", mcpwire.Prompt: "prompts/get", mcpwire.Resource: "resources/read", mcpwire.Task: "tasks/get",
	} {
		p := policyOf(t, fmt.Sprintf("allow mcp.method == %q", method))
		for _, asked := range targetKinds {
			if d := p.visible(context.Background(), callerOf(t, alice), asked, "x"); d.allowed != (asked == kind) {
				t.Errorf("allow mcp.method == %q, entry of kind %s: %+v", method, asked, d)
			}
		}
	}
}

// Completion is judged like a list entry of its ref: its arguments are open.
func TestCompletion(t *testing.T) {
	s := newSite(t,
		`allow mcp.prompt.name == "p" && mcp.prompt.arguments.a == "x"`,
		`allow mcp.resource.uri.startsWith("file:///pub/")`).as(alice)
	prompt := func(name string) string {
		return messageOf("completion/complete", `{"ref":{"type":"ref/prompt","name":"`+name+`"},"argument":{"name":"a","value":"y"}}`)
	}
	resource := func(uri string) string {
		return messageOf("completion/complete", `{"ref":{"type":"ref/resource","uri":"`+uri+`"},"argument":{"name":"a","value":"y"}}`)
	}
	for _, message := range []string{prompt("p"), resource("file:///pub/{path}")} {
		s.wantPassed(s.post(message), message)
	}
	s.wantRefused(s.post(prompt("q")), 200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Unknown prompt: q"}}`)
	s.wantRefused(s.post(resource("file:///pub/../{path}")), 200,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"Resource not found","data":{"uri":"file:///pub/../{path}"}}}`)
	// a rule about the method itself holds as well
	s = newSite(t, "allow true", `deny mcp.method == "completion/complete"`).as(alice)
	s.wantRefused(s.post(prompt("p")), 403, "authorization failed")
}

func TestRulesThatDoNotLoad(t *testing.T) {
	tests := map[string]struct {
		rules []*Rule
		want  string
	}{
		"none":            {nil, "at least one rule"},
		"null":            {[]*Rule{nil}, "null"},
		"no action":       {[]*Rule{{MatchExpressions: []string{"true"}}}, "allow, deny or require"},
		"unknown action":  {[]*Rule{{Action: "Allow", MatchExpressions: []string{"true"}}}, `"Allow"`},
		"no expression":   {[]*Rule{{Action: Deny}}, `rule "deny#1": has no expression`},
		"same name":       {[]*Rule{{Name: "a", Action: Deny, MatchExpressions: []string{"true"}}, {Name: "a", Action: Allow, MatchExpressions: []string{"true"}}}, `"a" is taken`},
		"name of another": {[]*Rule{{Name: "allow#2", Action: Allow, MatchExpressions: []string{"true"}}, {Action: Allow, MatchExpressions: []string{"true"}}}, `"allow#2" is taken`},
		"name default":    {[]*Rule{{Name: "default", Action: Allow, MatchExpressions: []string{"true"}}}, `"default" is taken`},
		"second of two":   {[]*Rule{{Name: "x", Action: Require, MatchExpressions: []string{"true", "1 +"}}}, `rule "x": line 1`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := tryProvision(t, &Handler{Rules: test.rules})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// Only denies are allowed, but somebody should know: whatever none of them
// denies passes.
func TestOnlyDenies(t *testing.T) {
	warned := func(lines ...string) bool {
		t.Helper()
		return strings.Contains(warnings(t, &Handler{Rules: rulesOf(t, lines...)}), "only deny rules")
	}
	if !warned(`deny mcp.tool.name == "x"`, "deny false") {
		t.Error("no warning")
	}
	if warned(`deny mcp.tool.name == "x"`, "allow true") || warned("deny false", "require true") {
		t.Error("a warning too many")
	}
	s := newSite(t, `deny mcp.tool.name == "x"`)
	s.wantPassed(s.post(callOf("y", "{}")), callOf("y", "{}"))
	s.wantRefused(s.post(callOf("x", "{}")), 200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Unknown tool: x"}}`)
	// an unknown method needs an allow all the same
	s.wantRefused(s.post(messageOf("x/y", "")), 200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}`)
}
