package celauthz

import (
	"strings"
	"testing"
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
		`request.path.startsWith("/a")`:           false, // as large as a header may be
		`request.headers["x"] == "y"`:             false,
		`jwt.a == jwt.b && mcp.version == "x"`:    false,
	} {
		whole := partOf(t, expression)
		if (whole.uncounted != nil) != bounded {
			t.Errorf("%s: uncounted %t, want %t", expression, whole.uncounted != nil, bounded)
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
