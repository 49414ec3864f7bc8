package celauthz

import (
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
)

// Where the cost is bounded without counting, nothing the size of small input
// can cost more than the limit: each such expression is evaluated with the
// largest input, and counted.
func TestUncounted(t *testing.T) {
	for expression, bounded := range map[string]bool{
		`true`:                              true,
		`jwt.sub == "alice"`:                true,
		`"dev" in jwt.groups`:               true,
		`"dev" in jwt.a.b && jwt.c != 1`:    true,
		`has(jwt.admin) && jwt.admin`:       true,
		`jwt["sub"] == jwt["name"]`:         false, // two that might be anything
		`mcp.tool.name.startsWith("read_")`: true,
		`mcp.tool.name in ["a", "b"]`:       true,
		`mcp.tool.arguments.path.startsWith("/pub/") && !mcp.tool.arguments.path.contains("..")`: true,
		`mcp.tool.name == jwt.tool`:               true,
		`"repo:read" in scopes`:                   true,
		`size(jwt.groups) > 3`:                    true,
		`now > timestamp("2026-01-01T00:00:00Z")`: false, // a function whose cost nobody knows
		`jwt.groups.exists(g, g == "dev")`:        false,
		`jwt.sub.matches("a.*")`:                  false,
		`jwt.sub + jwt.sub == "x"`:                false,
		`jwt.sub.replace("a", "bb") == "x"`:       false,
		`lists.range(1000) == jwt.x`:              false,
		`request.path.startsWith("/a")`:           true,
		`request.headers["x"] == "y"`:             true,
		`request.path.contains("/a")`:             false, // as large as a header may be
		`jwt.a == jwt.b && mcp.version == "x"`:    false,
	} {
		whole := partOf(t, expression)
		if (whole.uncounted != nil) != bounded {
			t.Errorf("%s: uncounted %t, want %t", expression, whole.uncounted != nil, bounded)
		}
	}
}

// TestBounded: what is never counted costs little, however large the input.
func TestBounded(t *testing.T) {
	huge := strings.Repeat("x", 300<<10)
	list := `["` + strings.Repeat(`x","`, 1<<15) + `x"]`
	for text, bounded := range map[string]bool{
		`true`:                                true,
		`mcp.tool.name == "x"`:                true,
		`"x" != mcp.tool.name`:                true,
		`mcp.tool.name in ["a", "x"]`:         true,
		`mcp.tool.name.startsWith("x")`:       true,
		`jwt.text.endsWith("x")`:              true,
		`jwt.text == "x" || !(jwt.list == 1)`: true,
		`jwt.list == ["x"]`:                   true,
		`mcp.tool.arguments.list == "x"`:      true,
		`mcp.tool.arguments.text == "x"`:      true,
		`has(jwt.list) && size(jwt.list) > 3`: true,
		`jwt.list[1] == "x"`:                  true,
		`mcp.tool.arguments["text"] == "x"`:   true,
		`mcp.tool.name.contains("x")`:         false,
		`jwt.text.contains("x")`:              false,
		`"y" in jwt.list`:                     false,
		`jwt.text == mcp.tool.arguments.text`: false,
		`mcp.tool.name.startsWith(jwt.text)`:  false,
		`jwt.list.exists(x, x == "y")`:        false,
		`jwt.text.matches("x")`:               false,
		`mcp.tool.arguments.list == jwt.list`: false,
		`mcp.tool.arguments == {"text": "x"}`: false,
	} {
		p := partOf(t, text)
		if (p.counted == nil) != bounded {
			t.Errorf("%s: counted %t, want %t", text, p.counted != nil, !bounded)
		}
		if !bounded {
			continue
		}
		e, err := (&expression{text, operators.LogicalAnd}).parse()
		if err != nil {
			t.Fatal(err)
		}
		program, err := e.env.PlanProgram(e.ast, cel.EvalOptions(cel.OptTrackCost))
		if err != nil {
			t.Fatal(err)
		}
		for _, input := range []string{huge, "x", ""} {
			content := `{"text":"` + input + `","list":` + list + `}`
			a := &activation{caller: callerOf(t, content), subject: toolCall(input, content)}
			_, details, err := program.Eval(a)
			if err != nil || details.ActualCost() == nil || *details.ActualCost() > 100 {
				t.Errorf("%s: cost %v, %v", text, *details.ActualCost(), err)
			}
		}
	}
}

// Large input is counted: what costs too much is an error, however simple the
// expression.
func TestLargeInputIsCounted(t *testing.T) {
	for size, want := range map[int]verdict{100: isFalse, smallInput + 1: isFalse, 3 << 20: isError} {
		text := strings.Repeat("x", size)
		got := verdictOf(t, `mcp.tool.arguments.text.contains("needle")`, callerOf(t, alice), toolCall("a", `{"text":"`+text+`"}`))
		if got != want {
			t.Errorf("an argument of %d bytes: %v, want %v", size, got, want)
		}
		got = verdictOf(t, `jwt.text.contains("needle")`, callerOf(t, `{"text":"`+text+`"}`), toolCall("a", `{}`))
		if got != want {
			t.Errorf("a claim of %d bytes: %v, want %v", size, got, want)
		}
		got = verdictOf(t, `mcp.tool.name.contains("needle")`, callerOf(t, alice), toolCall(text, `{}`))
		if got != want {
			t.Errorf("a name of %d bytes: %v, want %v", size, got, want)
		}
	}
	a := activation{caller: callerOf(t, alice), subject: toolCall("a", `{}`)}
	if !a.isSmall() {
		t.Error("a small call is large")
	}
	for name, s := range map[string]*subject{
		"name":      toolCall(strings.Repeat("n", smallInput+1), `{}`),
		"arguments": toolCall("a", `{"a":"`+strings.Repeat("a", smallInput)+`"}`),
		"method":    {method: strings.Repeat("m", smallInput+1)},
	} {
		if a := (activation{caller: callerOf(t, alice), subject: s}); a.isSmall() {
			t.Errorf("%s: a large call is small", name)
		}
	}
}
