package celauthz

import (
	"fmt"
	"sync"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// groupRules allow each group one tool; each third rule is open to all.
func groupRules(n int) (lines []string) {
	for i := range n {
		gate := fmt.Sprintf(`"group_%d" in jwt.groups && `, i)
		if i%3 == 0 {
			gate = ""
		}
		lines = append(lines, fmt.Sprintf(`allow %smcp.tool.name.contains("tool_%d_") && mcp.tool.arguments.x == 1`, gate, i))
	}
	return lines
}

// TestGates: what a token cannot use stays closed for it, and for no other one, whoever asks first, in whatever order.
func TestGates(t *testing.T) {
	const n = 150
	p, other := policyOf(t, groupRules(n)...), policyOf(t, append(groupRules(n), "allow jwt.all == true")...)
	allowed := func(p *policy, identity *reqctx.Identity, i int) (called, seen bool) {
		who := callerOf(t, "{}")
		who.claims, who.identity = nil, identity
		if identity != nil {
			who.claims = identity.Claims
		}
		name := fmt.Sprintf("tool_%d_", i)
		called = p.decide(t.Context(), mayCall, who, toolCall(name, `{"x":1}`)).allowed
		return called, p.visible(t.Context(), who, mcpwire.Tool, name).allowed
	}
	token := func(claims string) *reqctx.Identity { return &reqctx.Identity{Claims: claimsOf(t, claims)} }
	tokens := []*reqctx.Identity{
		token(`{"groups":["group_1","group_100"]}`), token(`{"groups":[]}`), token(`{}`), token(`{"groups":"group_1"}`), {Anonymous: true}, nil,
	}
	all := token(`{"groups":["group_7"],"all":true}`)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range n {
				for at, identity := range tokens {
					want := i%3 == 0 || at == 0 && (i == 1 || i == 100)
					for _, p := range []*policy{p, other} {
						if called, seen := allowed(p, identity, i); called != want || seen != want {
							t.Errorf("token %d, tool %d: called %t, seen %t, want %t", at, i, called, seen, want)
						}
					}
				}
				if called, _ := allowed(other, all, i); !called {
					t.Errorf("tool %d: not for all", i)
				}
				if called, _ := allowed(p, all, i); called != (i%3 == 0 || i == 7) {
					t.Errorf("tool %d: the rules of another policy count", i)
				}
			}
		})
	}
	wait.Wait()

	known := p.gatesFor(&caller{identity: tokens[0]})
	if closed := known.words[1].Load(); known.words[0].Load()&0b111 != 0b111 || closed&0b11 != 0 || closed&0b100 == 0 {
		t.Errorf("known: %b, closed: %b", known.words[0].Load(), closed)
	}
	for _, nobody := range []*reqctx.Identity{{Anonymous: true}, nil} {
		if p.gatesFor(&caller{identity: nobody}) != nil {
			t.Error("something is remembered about nobody")
		}
	}
}

// TestGatesAreBounded: policies that share a token each remember something about it, up to a bound, and decide alike behind it.
func TestGatesAreBounded(t *testing.T) {
	identity := &reqctx.Identity{Claims: claimsOf(t, `{"sub":"alice"}`)}
	for i := range maxGates + 3 {
		open, shut := policyOf(t, `allow jwt.sub == "alice"`), policyOf(t, `allow jwt.sub == "bob"`)
		for range 2 {
			for p, want := range map[*policy]bool{open: true, shut: false} {
				who := callerOf(t, "")
				who.claims, who.identity = identity.Claims, identity
				if got := p.decide(t.Context(), mayCall, who, toolCall("t", "{}")).allowed; got != want {
					t.Errorf("policy %d: %t, want %t", i, got, want)
				}
			}
		}
		if n := 2 * (i + 1); (open.gatesFor(&caller{identity: identity}) != nil) != (n <= maxGates) {
			t.Errorf("policies %d and %d: wrong bound", n-1, n)
		}
	}
}

// TestNoGates: what more than the token decides is no gate.
func TestNoGates(t *testing.T) {
	for expression, want := range map[string]int{
		`jwt.sub == "a" && "b" in scopes`:                                   2,
		`jwt.sub == "a" && mcp.tool.name == "a"`:                            1,
		`jwt.sub == "a" || mcp.tool.name == "a"`:                            0,
		`true && mcp.tool.name == "a"`:                                      0,
		`source.address == "::1" && request.headers["x"] == jwt.sub`:        0,
		`now < timestamp(jwt.until) && mcp.method == jwt.method`:            0,
		`jwt.groups.exists(g, g == "a") && jwt.sub.matches("a")`:            0,
		`mcp.tool.arguments.owner == jwt.sub && mcp.version == jwt.version`: 0,
	} {
		parts, err := compileParts(expression, Allow)
		if err != nil {
			t.Fatal(err)
		}
		gates, others := gatesOf(parts)
		if got := len(gates); got != want || len(others) != len(parts)-want {
			t.Errorf("%s: %d gates, want %d", expression, got, want)
		}
	}
}
