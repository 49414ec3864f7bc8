package celauthz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// completions are ways in which open arguments could be filled in.
var completions = []string{
	`{}`, `{"a":true}`, `{"a":false}`, `{"a":1}`, `{"b":true}`, `{"b":false}`,
	`{"a":true,"b":true}`, `{"a":true,"b":false}`, `{"a":false,"b":true}`, `{"a":false,"b":false}`, `{"a":1,"b":true}`, `{"a":1,"b":false}`,
}

// someCompletionPasses asks whether some call would be allowed, by trying.
func someCompletionPasses(t *testing.T, p *policy, who *caller) (bool, string) {
	t.Helper()
	for _, arguments := range completions {
		if p.decide(context.Background(), mayCall, who, toolCall("t", arguments)).allowed {
			return true, arguments
		}
	}
	return false, ""
}

// Whatever could be called is visible, and its caller gets as far as the
// list: the partial answer of every small expression is compared with what
// trying all arguments says.
func TestOpenArgumentsByBruteForce(t *testing.T) {
	atoms := []string{
		`true`, `false`, `jwt.missing`, `mcp.tool.arguments.a`, `mcp.tool.arguments.b`,
		`mcp.tool.arguments.a == 1`, `has(mcp.tool.arguments.a)`, `!mcp.tool.arguments.?b.orValue(false)`,
	}
	var expressions []string
	for _, x := range atoms {
		expressions = append(expressions, x, "!("+x+")")
		for _, y := range atoms {
			for _, outer := range []string{"&&", "||"} {
				expressions = append(expressions, fmt.Sprintf("(%s) %s (%s)", x, outer, y))
				for _, z := range atoms[2:5] {
					inner := map[string]string{"&&": "||", "||": "&&"}[outer]
					expressions = append(expressions,
						fmt.Sprintf("(%s) %s ((%s) %s (%s))", x, outer, y, inner, z),
						fmt.Sprintf("!((%s) %s (%s)) %s (%s)", x, outer, y, inner, z))
				}
			}
			expressions = append(expressions, fmt.Sprintf("(%s) ? (%s) : (%s)", x, y, atoms[3]))
		}
	}
	who := callerOf(t, alice)
	visible, hidden := 0, 0
	for _, expression := range expressions {
		for _, action := range []Action{Allow, Deny, Require} {
			p := policyOf(t, string(action)+" "+expression)
			if checkVisible(t, p, who, string(action)+" "+expression) {
				visible++
			} else {
				hidden++
			}
		}
	}
	// or the comparison would prove nothing
	if visible < 300 || hidden < 300 {
		t.Errorf("%d rules leave the tool visible, %d hide it", visible, hidden)
	}
}

// checkVisible compares one policy with its completions.
func checkVisible(t *testing.T, p *policy, who *caller, rule string) bool {
	t.Helper()
	visible := p.visible(context.Background(), who, mcpwire.Tool, "t").allowed
	callable, arguments := someCompletionPasses(t, p, who)
	if callable && !visible {
		t.Errorf("%s: hidden, but may be called with %s", rule, arguments)
	}
	if callable && !p.decide(context.Background(), mayPass, who, &subject{method: "tools/list"}).allowed {
		t.Errorf("%s: may be called with %s, but not listed", rule, arguments)
	}
	if callable && !p.decide(context.Background(), mayAnything, who, &subject{method: "tools/list"}).allowed {
		t.Errorf("%s: may be called with %s, but the caller is hopeless", rule, arguments)
	}
	// nothing is shown in vain, as far as that can be known: without an
	// error, and with each argument read once
	exact := !strings.Contains(rule, "missing") && !strings.Contains(rule, "== 1") &&
		strings.Count(rule, "arguments.a") <= 1 && strings.Count(rule, "b") <= 1
	if exact && visible && !callable {
		t.Errorf("%s: visible, but never callable", rule)
	}
	return visible
}

// The same for what goes beyond && and ||.
func TestOpenArgumentsInFunctions(t *testing.T) {
	const a = "mcp.tool.arguments"
	expressions := []string{
		`has(A.a)`, `!has(A.a)`, `has(A.a.b)`, `"a" in A`, `!("a" in A)`, `size(A) == 2`, `A == {"a": 1}`, `A != {"a": 1}`, `A == {}`,
		`A.?a.orValue(false)`, `A.?a.orValue("") == ""`, `A.?a.hasValue()`, `A.?a.hasValue(1)`, `A[?"a"].orValue(0) == 1`, `A.?a.?b.hasValue()`,
		`A.?a.optMap(v, v == 1).orValue(false)`, `A.?a.or(A.?b).hasValue()`, `optional.of(A.a).value() == 1`, `A.?a == optional.none()`,
		`[?A.?a].size() == 1`, `{?"x": A.?a}.size() == 1`, `[A.a] == [1]`, `{"x": A.a} == {"x": 1}`, `jwt.?missing.orValue(A.a) == 1`,
		`A.exists(k, k == "a")`, `A.all(k, k == "a")`, `A.exists_one(k, A[k] == true)`, `A.map(k, k).size() == 2`, `A.filter(k, A[k] == true).size() == 2`,
		`["a", "b"].all(k, A[k] == true)`, `["a", "b"].exists(k, A[k] == true)`, `["a", "b"].exists_one(k, has(A.a) && k == "a")`,
		`["a", "b"].filter(k, k in A).size() == 1`, `["a", "b"].map(k, A[?k].orValue(1)) == [1, true]`, `jwt.groups.exists(g, g == "dev" && A.a == 1)`,
		`jwt.groups.all(g, g == "none" || A.a == 1)`, `A.a in [1, 2]`, `A.a in [true]`, `!(A.a in [1])`, `string(A.a) == "1"`, `string(A.a).matches("^tr")`,
		`type(A.a) == int`, `type(A.a) == bool`, `A.a ? A.b : false`, `A.a == 1 ? A.b : !A.b`, `jwt.admin ? A.b : jwt.missing`,
		`math.greatest(A.a, 0) == 1`, `sets.contains([1], [A.a])`, `"%s".format([A.a]) == "true"`, `{"true": A.b}[string(A.a)]`, `dyn(A.a) == 1`,
		`A.a < 2`, `A.a > 5`, `A.a + 1 == 2`, `-A.a == -1`, `A["a"] == 1`, `jwt[A.a] == 1`, `jwt.groups[A.a] == "ops"`,
		`mcp.tool.name == "t" && A.a == 1`, `mcp.tool.name == "u" && A.a == 1`, `mcp.tool.name == "u" || A.a == 1`, `jwt.sub == "bob" && A.a == 1`,
		`[1].exists(mcp, .mcp.tool.arguments.a == 1)`, `A.a == jwt.age`, `A.a != jwt.age`, `A.b == jwt.admin`,
	}
	who := callerOf(t, alice)
	for _, expression := range expressions {
		expression = strings.ReplaceAll(expression, "A", a)
		for _, action := range []Action{Allow, Deny, Require} {
			rule := string(action) + " " + expression
			checkVisible(t, policyOf(t, rule), who, rule+" // arguments.a arguments.a")
		}
		// each of these reads what is open, and none may be certain of it,
		// unless something else settles it
		if v := verdictAbout(t, expression, isVisible, Allow, who, toolCall("t", "")); v != isUnknown && !settled[expression] {
			t.Errorf("%s: %s before the arguments are known", expression, v)
		}
	}
}

// settled are the expressions that no argument changes.
var settled = map[string]bool{
	`jwt.sub == "bob" && mcp.tool.arguments.a == 1`:     true,
	`mcp.tool.name == "u" && mcp.tool.arguments.a == 1`: true,
}

// The same for targets and methods: whoever may call anything at all gets
// past initialize.
func TestOpenTargetsByBruteForce(t *testing.T) {
	atoms := []string{
		`mcp.tool.name == "t"`, `mcp.prompt.name == "p"`, `mcp.method == "tools/call"`, `mcp.method.startsWith("prompts/")`,
		`mcp.tool.arguments.a == 1`, `jwt.missing`, `jwt.sub == "alice"`, `jwt.sub == "bob"`,
	}
	calls := []*subject{
		toolCall("t", `{}`), toolCall("t", `{"a":1}`), toolCall("u", `{}`), toolCall("u", `{"a":1}`),
		{method: "prompts/get", kind: mcpwire.Prompt, name: "p"},
		{method: "prompts/get", kind: mcpwire.Prompt, name: "q"},
	}
	var expressions []string
	for _, x := range atoms {
		expressions = append(expressions, x, "!("+x+")")
		for _, y := range atoms {
			for _, operator := range []string{"&&", "||"} {
				expressions = append(expressions, fmt.Sprintf("%s %s %s", x, operator, y), fmt.Sprintf("!(%s %s %s)", x, operator, y))
			}
		}
	}
	who := callerOf(t, alice)
	passes, refuses := 0, 0
	for _, expression := range expressions {
		for _, action := range []Action{Allow, Deny, Require} {
			p, err := compilePolicy(rulesOf(t, string(action)+" "+expression))
			if errors.Is(err, errTwoKinds) && action != Allow {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			ask := func(q question, what *subject) bool {
				return p.decide(context.Background(), q, who, what).allowed
			}
			callable := false
			for _, call := range calls {
				// a rule about tools means initialize even when it means no
				// prompt
				if action != Allow && strings.Contains(expression, "mcp.") && !strings.Contains(expression, "mcp."+call.kind.String()) {
					continue
				}
				fresh := *call
				callable = callable || ask(mayCall, &fresh)
			}
			initialize := ask(mayPass, &subject{method: "initialize"})
			if initialize {
				passes++
			} else {
				refuses++
			}
			// a deny or a require about methods means initialize as well
			if callable && !initialize && (action == Allow || !strings.Contains(expression, "mcp.method")) {
				t.Errorf("%s %s: something may be called, but initialize is refused", action, expression)
			}
			if callable && !ask(mayAnything, &subject{method: "initialize"}) {
				t.Errorf("%s %s: something may be called, but the caller is hopeless", action, expression)
			}
			if initialize && !ask(mayAnything, &subject{method: "initialize"}) {
				t.Errorf("%s %s: initialize passes, but the caller is hopeless", action, expression)
			}
		}
	}
	if passes < 100 || refuses < 100 {
		t.Errorf("initialize passes %d times and is refused %d times", passes, refuses)
	}
}

// Only the arguments of the kind that is judged are open.
func TestArgumentsOfAnotherKind(t *testing.T) {
	for _, expression := range []string{
		`mcp.prompt.arguments.a == 1`,
		`mcp.prompt.arguments.a == 1 || mcp.tool.name == "u"`,
		`mcp.tool.name == "t" && mcp.prompt.arguments.a == 1`,
	} {
		p := policyOf(t, "allow "+expression)
		if d := p.visible(context.Background(), callerOf(t, alice), mcpwire.Tool, "t"); d.allowed {
			t.Errorf("%s: visible, but never callable", expression)
		}
	}
}
