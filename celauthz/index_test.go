package celauthz

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// pinsOf are the pins of the first part of a rule.
func pinsOf(t *testing.T, act Action, expression string) *pins {
	t.Helper()
	parts, err := compileParts(expression, act)
	if err != nil {
		t.Fatal(err)
	}
	if act == Allow {
		return newAllowClause("r", parts).pins
	}
	return parts[0].pins
}

// text is the names, and then the affixes.
func (p *pins) text() string {
	text := fmt.Sprint(p.names)
	for _, affix := range p.affixes {
		text += " " + affix.text
	}
	return text
}

func TestPins(t *testing.T) {
	for _, test := range []struct {
		act        Action
		expression string
		kind       mcpwire.TargetKind
		names      string
	}{
		{Allow, `mcp.tool.name == "a"`, mcpwire.Tool, "[a]"},
		{Allow, `"a" == mcp.tool.name`, mcpwire.Tool, "[a]"},
		{Allow, `.mcp.tool.name == "a"`, mcpwire.Tool, "[a]"},
		{Allow, `mcp.tool.name in ["a", "b"]`, mcpwire.Tool, "[a b]"},
		{Allow, `mcp.tool.name in []`, mcpwire.Tool, "[]"},
		{Allow, `jwt.x == 1 && mcp.tool.name == "a" && jwt.y`, mcpwire.Tool, "[a]"},
		{Allow, `mcp.tool.name in ["a", "b"] && mcp.tool.name == "a"`, mcpwire.Tool, "[a]"},
		{Allow, `mcp.tool.name == "a" || mcp.tool.name == "b" && jwt.x`, mcpwire.Tool, "[a b]"},
		{Allow, `!(mcp.tool.name != "a" || jwt.x)`, mcpwire.Tool, "[a]"},
		{Allow, `mcp.prompt.name == "a"`, mcpwire.Prompt, "[a]"},
		{Allow, `mcp.resource.uri == "a" || mcp.resource.name == "b"`, mcpwire.Resource, "[a b]"},
		{Allow, `mcp.task.id == "a"`, mcpwire.Task, "[a]"},
		{Deny, `mcp.tool.name == "a" && jwt.x`, mcpwire.Tool, "[a]"},
		{Require, `mcp.tool.name != "a" || jwt.x`, mcpwire.Tool, "[a]"},
		{Require, `!(mcp.tool.name in ["a", "b"]) || jwt.x`, mcpwire.Tool, "[a b]"},
		{Require, `!(mcp.tool.name == "a") || mcp.tool.name != "b"`, mcpwire.Tool, "[a]"},

		{Allow, `mcp.tool.name.startsWith("a") && jwt.x`, mcpwire.Tool, "[] a"},
		{Allow, `mcp.tool.name.endsWith("a") || mcp.tool.name.contains("b") && jwt.x`, mcpwire.Tool, "[] a b"},
		{Allow, `mcp.tool.name.startsWith("a") || mcp.tool.name == "b"`, mcpwire.Tool, "[b] a"},
		// names are found without a look at each rule
		{Allow, `mcp.tool.name.startsWith("a") && mcp.tool.name in ["b", "c"]`, mcpwire.Tool, "[b c]"},
		{Allow, `mcp.tool.name in ["b", "c"] && mcp.tool.name.startsWith("a")`, mcpwire.Tool, "[b c]"},
		{Deny, `mcp.prompt.name.contains("a") && jwt.x`, mcpwire.Prompt, "[] a"},
		{Require, `!mcp.resource.uri.startsWith("a") || jwt.x`, mcpwire.Resource, "[] a"},

		// every name matters to these
		{Allow, `true`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name == jwt.tool`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name != "a"`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name == "a" || jwt.x`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name == "a" || mcp.prompt.name == "a"`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name in ["a", jwt.x]`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name in jwt.tools`, mcpwire.NoTarget, ""},
		{Allow, `"a" in jwt.tools`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.target == "a"`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name.matches("a")`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name.startsWith(jwt.x)`, mcpwire.NoTarget, ""},
		{Allow, `jwt.x.startsWith("a")`, mcpwire.NoTarget, ""},
		{Allow, `"a".startsWith(mcp.tool.name)`, mcpwire.NoTarget, ""},
		{Allow, `!mcp.tool.name.startsWith("a")`, mcpwire.NoTarget, ""},
		{Allow, `mcp.tool.name.startsWith("a") || jwt.x`, mcpwire.NoTarget, ""},
		{Require, `mcp.tool.name.startsWith("a") || jwt.x`, mcpwire.NoTarget, ""},
		{Allow, `(mcp.tool.name == "a") == false`, mcpwire.NoTarget, ""},
		{Allow, `jwt.x ? mcp.tool.name == "a" : false`, mcpwire.NoTarget, ""},
		{Allow, `["a"].exists(n, n == mcp.tool.name)`, mcpwire.NoTarget, ""},
		{Allow, `!(mcp.tool.name == "a")`, mcpwire.NoTarget, ""},
		{Deny, `mcp.tool.name != "a" && jwt.x`, mcpwire.NoTarget, ""},
		{Require, `mcp.tool.name == "a"`, mcpwire.NoTarget, ""},
		{Require, `mcp.tool.name == "a" || jwt.x`, mcpwire.NoTarget, ""},
	} {
		got := pinsOf(t, test.act, test.expression)
		if test.kind == mcpwire.NoTarget {
			if got != nil {
				t.Errorf("%s %s: pinned to %v", test.act, test.expression, got.names)
			}
			continue
		}
		if got == nil || got.kind != test.kind || got.text() != test.names {
			t.Errorf("%s %s: %+v, want %s %s", test.act, test.expression, got, test.kind, test.names)
		}
	}
}

// unindexed is a policy that asks every rule about every name.
func unindexed(p *policy) *policy {
	plain := new(policy)
	unpinned := func(x relevance) relevance {
		return relevance{dependsOn: x.dependsOn}
	}
	for _, c := range p.denies.list {
		plain.denies.add(c, unpinned(c.part.relevance))
	}
	for _, c := range p.requires.list {
		plain.requires.add(c, unpinned(c.part.relevance))
	}
	for _, c := range p.allows.list {
		plain.allows.add(c, unpinned(c.relevance))
	}
	return plain
}

// Whatever the rules, the index changes no decision, and no rule that is
// named for it.
func TestIndexChangesNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	name := func() string { return pick(`"a"`, `"b"`, `"c"`, `"ab"`) }
	var condition func(depth int) string
	condition = func(depth int) string {
		switch n := random.IntN(13); {
		case n < 3 && depth > 0:
			return "(" + condition(depth-1) + pick(" && ", " || ") + condition(depth-1) + ")"
		case n == 3 && depth > 0:
			return "!(" + condition(depth-1) + ")"
		case n == 4:
			return "mcp.tool.name in [" + name() + ", " + name() + "]"
		case n == 5:
			return "mcp.tool.name != " + name()
		case n == 6:
			return pick(`jwt.missing == 1`, `jwt.sub == "alice"`, `"ops" in jwt.groups`, `jwt.sub`)
		case n == 7:
			return `mcp.tool.arguments.x == 1`
		case n == 8:
			return name() + " == mcp.tool.name"
		case n <= 10:
			return "mcp.tool.name." + pick("startsWith", "endsWith", "contains") + "(" + pick(name(), `""`) + ")"
		default:
			return "mcp.tool.name == " + name()
		}
	}
	decisions := map[bool]int{}
	for range 3000 {
		var lines []string
		for range 1 + random.IntN(6) {
			lines = append(lines, pick("allow ", "allow ", "deny ", "require ")+condition(3))
		}
		if random.IntN(10) == 0 {
			// more than what is remembered about a token takes one word for
			for range 70 {
				lines = append(lines, "allow "+condition(1)+" && "+condition(0))
			}
		}
		p := policyOf(t, lines...)
		plain, who, nobody := unindexed(p), callerOf(t, alice), callerOf(t, alice)
		who.identity = &reqctx.Identity{Claims: who.claims}
		for _, called := range []string{"a", "b", "c", "ab", "bca", "d", ""} {
			for _, arguments := range []string{`{"x":1}`, `{}`} {
				got := p.decide(t.Context(), mayCall, who, toolCall(called, arguments))
				want := plain.decide(t.Context(), mayCall, nobody, toolCall(called, arguments))
				if got != want {
					t.Fatalf("%q: call of %s with %s: %+v, want %+v", lines, called, arguments, got, want)
				}
				decisions[got.allowed]++
			}
			// nothing is remembered for a caller who has not asked before
			got, want := p.visible(t.Context(), who, mcpwire.Tool, called), plain.visible(t.Context(), callerOf(t, alice), mcpwire.Tool, called)
			if got != want {
				t.Fatalf("%q: entry %s: %+v, want %+v", lines, called, got, want)
			}
		}
	}
	if decisions[true] < 1000 || decisions[false] < 1000 {
		t.Errorf("decisions %v prove little", decisions)
	}
}

// The walk meets each number once, in order.
func TestWalk(t *testing.T) {
	collect := func(w walk) (list []int) {
		for w.next() {
			list = append(list, w.number)
		}
		return list
	}
	begins := &pins{names: []string{"b"}, affixes: []affix{{atStart, "a"}}}
	ends := &pins{affixes: []affix{{atEnd, "c"}}}
	for _, test := range []struct {
		w    walk
		want []int
	}{
		{walk{number: -1, all: 3}, []int{0, 1, 2}},
		{walk{}, nil},
		{walk{general: []candidate{{0, nil}, {2, nil}, {5, nil}}, pinned: []int{1, 3}}, []int{0, 1, 2, 3, 5}},
		{walk{general: []candidate{{4, nil}}, pinned: []int{1, 9}}, []int{1, 4, 9}},
		{walk{name: "ab", general: []candidate{{0, begins}, {1, ends}, {4, begins}, {5, ends}}, pinned: []int{2, 3}}, []int{0, 2, 3, 4}},
		{walk{name: "b", general: []candidate{{0, begins}, {2, begins}}, pinned: []int{1}}, []int{0, 1, 2}},
		{walk{name: "x", general: []candidate{{0, begins}}}, nil},
		{walk{pinned: []int{7}}, []int{7}},
	} {
		if got := collect(test.w); !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, want %v", test.w, got, test.want)
		}
	}
	var none indexed[clause]
	if got := collect(none.about(mayPass, &subject{}, new([]int))); got != nil {
		t.Errorf("without rules: %v", got)
	}
}

// Rules that are found by how a name begins or ends are not looked at one by one.
func TestLookup(t *testing.T) {
	p := policyOf(t,
		`allow mcp.tool.name.startsWith("read_") && jwt.x`, `allow mcp.tool.name.endsWith("_file")`, `allow mcp.tool.name == "read_file"`,
		`allow mcp.tool.name.startsWith("read_") || mcp.tool.name.endsWith("_file") || mcp.tool.name == "read_file"`,
		`allow mcp.tool.name.contains("ad_f")`, `allow mcp.tool.name.startsWith("")`, `allow jwt.y`, `allow mcp.prompt.name.startsWith("read_")`,
	)
	if n := len(p.allows.general[mcpwire.Tool]); n != 2 {
		t.Errorf("%d rules are looked at for every tool, want 2", n)
	}
	room := make([]int, 0, 1)
	for name, want := range map[string][]int{
		"read_file": {0, 1, 2, 3, 4, 5, 6}, "read_x": {0, 3, 5, 6}, "a_file": {1, 3, 5, 6}, "_file": {1, 3, 5, 6}, "": {5, 6}, "xad_f": {4, 5, 6},
	} {
		var got []int
		for w := p.allows.about(isVisible, &subject{kind: mcpwire.Tool, name: name}, &room); w.next(); {
			got = append(got, w.number)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// What the name does not decide is asked once for all entries of a list, and again for another caller.
func TestRemembered(t *testing.T) {
	p := policyOf(t, `allow "ops" in jwt.groups && mcp.tool.name != "x"`, `deny jwt.suspended == true && mcp.tool.name.startsWith("a")`)
	for range 2 {
		for _, test := range []struct {
			claims, visible string
		}{
			{`{"groups":["ops"],"suspended":false}`, "[a b]"},
			{`{"groups":["ops"],"suspended":true}`, "[b]"},
			{`{"groups":["ops"]}`, "[b]"},
			{`{"groups":[],"suspended":false}`, "[]"},
			{`{}`, "[]"},
		} {
			who := callerOf(t, test.claims)
			visible := []string{}
			for _, name := range []string{"a", "b", "x"} {
				if p.visible(t.Context(), who, mcpwire.Tool, name).allowed {
					visible = append(visible, name)
				}
			}
			if fmt.Sprint(visible) != test.visible {
				t.Errorf("%v: %v, want %s", test.claims, visible, test.visible)
			}
			if len(who.remembered) == 0 {
				t.Errorf("%v: nothing is remembered", test.claims)
			}
		}
	}
}
