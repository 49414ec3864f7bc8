package celauthz

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// allowsCall asks whether rules let Alice call the tool t.
func allowsCall(t *testing.T, claims, arguments string, lines ...string) bool {
	t.Helper()
	return policyOf(t, lines...).decide(context.Background(), mayCall, callerOf(t, claims), toolCall("t", arguments)).allowed
}

// failsClosed wants an expression to be an error: it must neither grant nor
// let pass.
func failsClosed(t *testing.T, claims, arguments, expression string) {
	t.Helper()
	if v := verdictOf(t, expression, callerOf(t, claims), toolCall("t", arguments)); v != isError {
		t.Errorf("%s is %s, want an error", expression, v)
	}
	if allowsCall(t, claims, arguments, "allow "+expression) {
		t.Errorf("allow %s grants", expression)
	}
	if allowsCall(t, claims, arguments, "allow true", "deny "+expression) {
		t.Errorf("deny %s lets pass", expression)
	}
	if allowsCall(t, claims, arguments, "allow true", "require "+expression) {
		t.Errorf("require %s lets pass", expression)
	}
}

func TestA128_MissingClaimInAllow(t *testing.T) {
	for _, expression := range []string{
		`jwt.role == "admin"`, `jwt.role != "guest"`, `!(jwt.role == "guest")`, `"admin" in jwt.roles`, `!("guest" in jwt.roles)`,
		`jwt.address.country == "x"`, `jwt.groups[9] == "dev"`, `jwt["role"] != "guest"`, `jwt.roles.all(r, r != "guest")`, `size(jwt.role) == 0`,
		`jwt.admin && jwt.role == "x"`, `jwt.role`, `!jwt.role`, `jwt.role ? true : true`,
	} {
		for _, claims := range []string{alice, `{}`, ``} {
			if allowsCall(t, claims, "{}", "allow "+expression) {
				t.Errorf("claims %s: allow %s grants", claims, expression)
			}
		}
		// nor is the caller let in to look around
		d := policyOf(t, "allow "+expression).decide(context.Background(), mayPass, callerOf(t, alice), &subject{method: "tools/list"})
		if d.allowed {
			t.Errorf("allow %s: %+v", expression, d)
		}
	}
}

func TestA129_MissingClaimInDeny(t *testing.T) {
	for _, expression := range []string{
		`jwt.role == "guest"`, `jwt.suspended`, `jwt.suspended == true`, `"guest" in jwt.roles`, `jwt.level < 3`, `jwt.address.country == "x"`, `jwt.roles.exists(r, r == "guest")`,
	} {
		for _, claims := range []string{alice, `{}`, ``} {
			if allowsCall(t, claims, "{}", "allow true", "deny "+expression) {
				t.Errorf("claims %s: deny %s lets pass", claims, expression)
			}
		}
	}
	// who wants it otherwise says so
	for _, expression := range []string{`jwt.?suspended.orValue(false)`, `has(jwt.suspended) && jwt.suspended`, `"guest" in jwt.?roles.orValue([])`} {
		if !allowsCall(t, alice, "{}", "allow true", "deny "+expression) {
			t.Errorf("deny %s refuses", expression)
		}
		if allowsCall(t, `{"suspended":true,"roles":["guest"]}`, "{}", "allow true", "deny "+expression) {
			t.Errorf("deny %s lets a suspended guest pass", expression)
		}
	}
}

// An error beside || and && follows CEL: what the other side settles is
// settled, everything else is an error.
func TestA130_ErrorBesideOr(t *testing.T) {
	tests := []struct {
		rule    string
		allowed bool
	}{
		{`allow jwt.role == "x" || jwt.sub == "alice"`, true},
		{`allow jwt.sub == "alice" || jwt.role == "x"`, true},
		{`allow jwt.role == "x" || jwt.sub == "bob"`, false},
		{`allow jwt.role == "x" || !(jwt.sub == "alice")`, false},
		{`allow !(jwt.role == "x" || jwt.sub == "bob")`, false},
		{`allow !(jwt.role == "x" && jwt.sub == "bob")`, true}, // Bob's role does not matter to Alice
		{`deny jwt.role == "x" || jwt.sub == "bob"`, false},
		{`deny jwt.role == "x" && jwt.sub == "bob"`, true},
		{`deny jwt.role == "x" && jwt.sub == "alice"`, false},
		{`require jwt.role == "x" || jwt.sub == "alice"`, true},
		{`require jwt.role == "x" || jwt.sub == "bob"`, false},
		{`require jwt.role != "x" && jwt.sub == "alice"`, false},
	}
	for _, test := range tests {
		if got := allowsCall(t, alice, "{}", test.rule); got != test.allowed {
			t.Errorf("%s: %v", test.rule, got)
		}
	}
}

func TestA131_NoBoolean(t *testing.T) {
	for _, expression := range []string{`jwt`, `"claims"`, `mcp.tool.name`, `scopes`, `1`, `{}`, `[]`, `size(jwt)`, `null`, `mcp.tool.arguments`} {
		for _, action := range []string{"allow ", "deny ", "require "} {
			if _, err := compilePolicy(rulesOf(t, action+expression)); err == nil || !strings.Contains(err.Error(), "true or false") {
				t.Errorf("%s%s: %v", action, expression, err)
			}
		}
	}
	// what only turns out at run time fails closed
	for _, expression := range []string{`jwt.sub`, `jwt.groups`, `jwt.age`, `jwt.none`, `mcp.tool.arguments.a`} {
		failsClosed(t, `{"sub":"alice","groups":[],"age":1,"none":null}`, `{"a":"true"}`, expression)
	}
}

func TestA132_TypeConfusion(t *testing.T) {
	const claims = `{"sub":"alice","age":"7","scope":"read write","list":["read"],"flag":"true","none":null,"one":1}`
	for _, expression := range []string{
		`jwt.age > 5`, `jwt.age < 5`, `jwt.age + 1 > 5`, `"a" in jwt.sub`, `"read" in jwt.scope`, `jwt.list.contains("read")`, `jwt.list.startsWith("read")`,
		`jwt.flag`, `!jwt.flag`, `jwt.flag && true`, `jwt.flag || false`, `jwt.none > 1`, `jwt.none.a == 1`, `jwt.sub.a == 1`, `jwt.sub[0] == "a"`, `jwt.list["a"] == "read"`,
		`jwt.one.startsWith("1")`, `size(jwt.one) == 1`, `jwt.one.matches("1")`, `jwt.list < "z"`, `jwt.one == 1 && jwt.sub`,
	} {
		failsClosed(t, claims, "{}", expression)
	}
	// an equality between different types is no error, and false
	for _, expression := range []string{`jwt.age == 7`, `jwt.list == "read"`, `jwt.scope == ["read", "write"]`, `jwt.flag == true`, `jwt.none == ""`, `jwt.one == true`, `jwt.one == "1"`, `7 in [jwt.age]`} {
		if v := verdictOf(t, expression, callerOf(t, claims), toolCall("t", "")); v != isFalse {
			t.Errorf("%s is %s", expression, v)
		}
	}
	// scopes are a list however the token spells them
	if !allowsCall(t, claims, "{}", `allow "read" in scopes && !("rea" in scopes)`) {
		t.Error("the scope in a text is not found")
	}
}

func TestA133_IteratingAString(t *testing.T) {
	for _, expression := range []string{
		`jwt.sub.exists(c, c == "x")`, `jwt.sub.all(c, c != "x")`, `jwt.sub.exists_one(c, true)`, `jwt.sub.map(c, c) == []`, `jwt.sub.filter(c, true) == []`,
		`jwt.age.exists(x, true)`, `jwt.admin.all(x, true)`, `mcp.tool.arguments.a.exists(c, true)`, `mcp.tool.arguments.a.all(c, true)`,
	} {
		failsClosed(t, alice, `{"a":"text"}`, expression)
	}
}

func TestA134_RegularExpressions(t *testing.T) {
	// one that no rule should hold does not load
	for _, expression := range []string{`jwt.sub.matches("(")`, `"a".matches("[")`, `jwt.sub.matches("(?=a)")`, `jwt.sub.matches("(a)\\1")`} {
		if _, err := compilePolicy(rulesOf(t, "deny "+expression)); err == nil {
			t.Errorf("%s loads", expression)
		}
	}
	// one from a claim or an argument turns out at run time
	for _, pattern := range []string{"(", "[", "(?=a)", `(a)\\1`, "a{2000}", "*"} {
		failsClosed(t, `{"sub":"alice","pattern":"`+pattern+`"}`, "{}", `jwt.sub.matches(jwt.pattern)`)
		failsClosed(t, alice, `{"p":"`+pattern+`"}`, `jwt.sub.matches(mcp.tool.arguments.p)`)
	}
	// RE2 takes linear time: this one would take others for ever
	slow := strings.Repeat("a", 10_000) + "!"
	start := time.Now()
	if allowsCall(t, alice, `{"x":"`+slow+`"}`, `allow mcp.tool.arguments.x.matches("^(a+)+$")`) {
		t.Error("matched")
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

// A search through a long text ends by itself, but many of them could take
// long: once the deadline has passed, there is no next one.
func TestA134_SearchesWatchTheDeadline(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, expression := range []string{
		`jwt.sub.matches("^a")`, `jwt.sub.matches(mcp.tool.arguments.p)`, `matches(jwt.sub, "^a")`, `regex.replace(jwt.sub, "x", "y") == "alice"`,
		`regex.extract(jwt.sub, "^a") == optional.of("a")`, `regex.extractAll(jwt.sub, "i").size() == 1`, `jwt.age == 7 && jwt.sub.matches("^a")`,
	} {
		for _, rules := range [][]string{{"allow " + expression}, {"allow true", "deny !(" + expression + ")"}, {"allow true", "require " + expression}} {
			p := policyOf(t, rules...)
			who, what := callerOf(t, alice), toolCall("t", `{"p":"^a"}`)
			if d := p.decide(context.Background(), mayCall, who, what); !d.allowed {
				t.Errorf("%q: %+v in time", rules, d)
			}
			if d := p.decide(gone, mayCall, who, what); d.allowed {
				t.Errorf("%q: %+v too late", rules, d)
			}
		}
	}
}

// numbers is a JSON list of n numbers.
func numbers(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return "[" + strings.Join(list, ",") + "]"
}

func TestA135_NestedLoops(t *testing.T) {
	arguments := `{"l":` + numbers(300) + `}`
	const l = "mcp.tool.arguments.l"
	// 300^3 steps, all of them true: only a bound can stop it
	failsClosed(t, alice, arguments, l+`.all(a, `+l+`.all(b, `+l+`.all(c, a + b + c >= 0)))`)
	failsClosed(t, alice, arguments, `!`+l+`.exists(a, `+l+`.exists(b, a + b < 0))`)
	failsClosed(t, alice, arguments, l+`.map(a, `+l+`.map(b, [a, b])).size() > 0`)
	failsClosed(t, alice, arguments, `lists.range(1000000).all(x, x >= 0)`)
	// one loop over the same list is well within it
	if !allowsCall(t, alice, arguments, `allow `+l+`.all(a, a >= 0)`) {
		t.Error("a single loop is refused")
	}
}

// The deadline of the decision, and the client's going away, stop a loop that
// the cost limit would let go on.
func TestA135_Deadline(t *testing.T) {
	arguments := `{"l":` + numbers(3*interruptEvery) + `}`
	const expression = `mcp.tool.arguments.l.all(a, a >= 0)`
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, rules := range [][]string{{"allow " + expression}, {"allow true", "deny !" + expression}, {"allow true", "require " + expression}} {
		p := policyOf(t, rules...)
		if !p.loops {
			t.Errorf("%q: nobody knows that it loops", rules)
		}
		who, what := callerOf(t, alice), toolCall("t", arguments)
		if d := p.decide(context.Background(), mayCall, who, what); !d.allowed {
			t.Errorf("%q: %+v in time", rules, d)
		}
		if d := p.decide(gone, mayCall, who, what); d.allowed {
			t.Errorf("%q: %+v too late", rules, d)
		}
	}
	if policyOf(t, `allow jwt.sub == "alice" && jwt.groups[0] == "dev"`).loops {
		t.Error("a rule without a loop is said to loop")
	}
}

func TestA136_LongLists(t *testing.T) {
	long := `{"l":` + numbers(20_000) + `}`
	for _, rules := range [][]string{
		{`allow mcp.tool.arguments.l.exists(x, x == 19999 || x == -1)`},
		{"allow true", `deny mcp.tool.arguments.l.exists(x, x == -1)`},
		{"allow true", `require mcp.tool.arguments.l.all(x, x != -1)`},
		{"allow true", `deny mcp.tool.arguments.l.exists(x, mcp.tool.arguments.l.exists(y, y == x - 1000000))`},
	} {
		if allowsCall(t, alice, long, rules...) {
			t.Errorf("%q: passes", rules)
		}
	}
	// the last element of a list of ordinary length is found
	ordinary := `{"l":` + numbers(1_000) + `}`
	if allowsCall(t, alice, ordinary, "allow true", `deny mcp.tool.arguments.l.exists(x, x == 999)`) {
		t.Error("the last element of a thousand is not found")
	}
	if !allowsCall(t, alice, ordinary, "allow true", `deny mcp.tool.arguments.l.exists(x, x == -1)`) {
		t.Error("a list of a thousand elements is refused")
	}
}

// The cost limit is on, and nothing tracks state beside it, in every program
// that input of any size is for, but for those whose cost does not grow with it.
func TestA137_CostLimitWithoutState(t *testing.T) {
	p := policyOf(t,
		`allow jwt.groups.exists(g, g == "dev") && mcp.tool.arguments.a == 1`,
		`deny mcp.tool.name == "x" || mcp.prompt.arguments.exists(a, a == "x")`,
		`require mcp.tool.arguments.?a.orValue(1) == 1 && jwt.sub != ""`)
	var parts []*part
	for _, c := range p.denies.list {
		parts = append(parts, c.part)
	}
	for _, c := range p.requires.list {
		parts = append(parts, c.part)
	}
	for _, c := range p.allows.list {
		parts = append(parts, c.parts...)
	}
	if len(parts) != 6 {
		t.Fatalf("%d parts", len(parts))
	}
	bounded := 0
	for i, part := range parts {
		if part.counted == nil {
			bounded++
			continue
		}
		a := &activation{caller: callerOf(t, alice), subject: toolCall("t", `{"a":1}`)}
		_, details, _ := part.counted.ContextEval(context.Background(), a)
		if details == nil || details.ActualCost() == nil {
			t.Errorf("part %d: no cost is tracked", i)
			continue
		}
		if details.State() != nil {
			t.Errorf("part %d: state is tracked", i)
		}
	}
	if bounded != 3 {
		t.Errorf("%d parts are not counted", bounded)
	}
}

// bomb is a claim that cannot be compared.
type bomb struct{}

func (bomb) NativeToValue(any) ref.Val { panic("bomb") }

// A panic while a rule is judged is an error of that rule.
func TestA138_Panic(t *testing.T) {
	claims := rawObject{raw: []byte("{}"), whole: types.NewStringInterfaceMap(insideContainers, map[string]any{
		"sub": "alice", "x": types.NewDynamicList(bomb{}, []any{1}),
	})}
	broken := map[string]*caller{
		"a claim":    {request: callerOf(t, "").request, jwt: claims},
		"no request": {claims: claimsOf(t, `{"sub":"alice"}`)},
	}
	expressions := map[string][]string{
		"a claim":    {`jwt.x == [1]`, `jwt.x[0] == 1`, `jwt.x.exists(e, e == 1)`, `1 in jwt.x`, `jwt.x.all(e, true)`},
		"no request": {`request.method == "POST"`, `["POST"].exists(m, m == request.method)`, `request.headers.a == "b"`},
	}
	for name, who := range broken {
		for _, expression := range expressions[name] {
			if v := verdictOf(t, expression, who, toolCall("t", "")); v != isError {
				t.Errorf("%s: %s is %s", name, expression, v)
			}
			for rules, allowed := range map[string]bool{
				"allow " + expression:                        false,
				"allow true\ndeny " + expression:             false,
				"allow true\nrequire " + expression:          false,
				"allow " + expression + "\nallow true":       true, // nobody else is hurt
				"allow true\ndeny false && " + expression:    true,
				"allow " + expression + " || jwt.sub == 'a'": false,
			} {
				for _, q := range []question{mayCall, isVisible} {
					d := policyOf(t, strings.Split(rules, "\n")...).decide(context.Background(), q, who, toolCall("t", ""))
					if d.allowed != allowed {
						t.Errorf("%s, %s: %q: %+v", name, q, rules, d)
					}
				}
			}
		}
	}
}

// explosive is a program whose panic the library does not catch.
type explosive struct{ cel.Program }

func (explosive) Eval(any) (ref.Val, *cel.EvalDetails, error) { panic("explosive") }

func (explosive) ContextEval(context.Context, any) (ref.Val, *cel.EvalDetails, error) {
	panic("explosive")
}

func TestA138_PanicOutsideTheLibrary(t *testing.T) {
	for _, loops := range []bool{false, true} {
		broken := &part{counted: explosive{}, relevance: relevance{dependsOn: readsTool | readsArguments}, loops: loops}
		deny, require, allow := new(policy), new(policy), new(policy)
		deny.denies.add(clause{"r", broken}, broken.relevance)
		require.requires.add(clause{"r", broken}, broken.relevance)
		allow.allows.add(newAllowClause("r", []*part{broken}), broken.relevance)
		for name, p := range map[string]*policy{"deny": deny, "require": require, "allow": allow} {
			for _, q := range []question{mayCall, isVisible, mayPass, mayAnything} {
				if d := p.decide(context.Background(), q, callerOf(t, alice), subjectOf(q)); d.allowed {
					t.Errorf("%s, %s: %+v", q, name, d)
				}
			}
		}
	}
}

func TestA139_ManyRules(t *testing.T) {
	var lines []string
	for i := range 1000 {
		switch action := []string{"allow", "deny", "require"}[i%3]; action {
		case "require":
			lines = append(lines, fmt.Sprintf(`require mcp.tool.name != "no_%d" && jwt.sub != "mallory_%d"`, i, i))
		default:
			lines = append(lines, fmt.Sprintf(`%s mcp.tool.name == "%s_%d" && "group_%d" in jwt.groups`, action, action, i, i))
		}
	}
	start := time.Now()
	p := policyOf(t, lines...)
	// a tenth of a second on an idle machine
	if took := time.Since(start); took > time.Minute {
		t.Errorf("compiling took %v", took)
	}
	ask := func(name string) decision {
		return p.decide(context.Background(), mayCall, callerOf(t, `{"sub":"alice","groups":["group_999","group_1"]}`), toolCall(name, "{}"))
	}
	if d := ask("allow_999"); !d.allowed || d.rule != "allow#334" {
		t.Errorf("%+v", d)
	}
	if d := ask("deny_1"); d.allowed || d.rule != "deny#1" {
		t.Errorf("%+v", d)
	}
	if d := ask("no_2"); d.allowed || d.rule != "require#1" {
		t.Errorf("%+v", d)
	}
	if d := ask("allow_0"); d.allowed || d.rule != DefaultRule {
		t.Errorf("%+v", d)
	}
}

func TestA139_LongChains(t *testing.T) {
	for action, operator := range map[string]string{"allow": " && ", "deny": " || ", "require": " && "} {
		terms := make([]string, 500)
		for i := range terms {
			comparison := map[string]string{"allow": "!=", "deny": "==", "require": "!="}[action]
			terms[i] = fmt.Sprintf(`mcp.tool.name %s "x%d"`, comparison, i)
		}
		p := policyOf(t, action+" "+strings.Join(terms, operator))
		for name, allowed := range map[string]bool{"y": true, "x0": false, "x499": false} {
			for _, q := range []question{mayCall, isVisible} {
				d := p.decide(context.Background(), q, callerOf(t, alice), &subject{method: "tools/call", kind: mcpwire.Tool, name: name})
				if d.allowed != allowed {
					t.Errorf("%s, %s of 500 terms, %s: %+v", q, action, name, d)
				}
			}
		}
	}
	// what nests too deep does not load, instead of growing the stack
	if _, err := compile(strings.Repeat("!(", 10_000) + "true" + strings.Repeat(")", 10_000)); err == nil {
		t.Error("10,000 parentheses compile")
	}
	if _, err := compile(strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000) + " == []"); err == nil {
		t.Error("5,000 brackets compile")
	}
}
