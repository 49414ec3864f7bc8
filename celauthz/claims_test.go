package celauthz

import (
	"fmt"
	"sync"
	"testing"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// Claims mean the same in every form they are kept in.
func TestClaimsInExpressions(t *testing.T) {
	const claims = `{"sub":"alice","age":7,"ratio":0.5,"admin":true,"none":null,"big":18446744073709551617.5e-1,"huge":123456789012345678901,
		"groups":["dev",["deep"],{"a":1}],"realm":{"roles":["r1"],"n":{"m":[1,2.5,null,true]}},"huges":[1,123456789012345678901]}`
	for expression, want := range map[string]verdict{
		`jwt.sub == "alice" && jwt.age == 7 && jwt.age < 7.5 && jwt.ratio == 0.5 && jwt.admin`: isTrue,
		`jwt.none == null`:                   isTrue,
		`has(jwt.none) && !has(jwt.nothing)`: isTrue,
		`"dev" in jwt.groups`:                isTrue,
		`"deep" in jwt.groups[1]`:            isTrue,
		`jwt.groups[2].a == 1`:               isTrue,
		`jwt.groups[2] == {"a": 1}`:          isTrue,
		`jwt.realm == {"roles": ["r1"], "n": {"m": [1, 2.5, null, true]}}`: isTrue,
		`"r1" in jwt.realm.roles`:                                                    isTrue,
		`jwt.realm.n.m[3]`:                                                           isTrue,
		`jwt["realm"]["roles"][0] == "r1"`:                                           isTrue,
		`"sub" in jwt && !("nothing" in jwt)`:                                        isTrue,
		`size(jwt) == 10 && size(jwt.realm) == 2`:                                    isTrue,
		`jwt.exists(k, k == "sub")`:                                                  isTrue,
		`jwt.groups.exists(g, g == "dev")`:                                           isTrue,
		`jwt.?realm.?roles.orValue([]) == ["r1"]`:                                    isTrue,
		`type(jwt.age) == int && type(jwt.realm) == map && type(jwt.groups) == list`: isTrue,
		`jwt.nothing == 1`:                                                           isError,
		`jwt.sub`:                                                                    isError,
		`jwt.huge > 1`:                                                               isError,
		`jwt.huges[0] == 1`:                                                          isTrue,
		`jwt.huges[1] == 1`:                                                          isError,
		`jwt.huges == [1, 1]`:                                                        isFalse,
		`jwt.sub in jwt.realm`:                                                       isFalse,
	} {
		whole := partOf(t, expression)
		parsed, err := readClaims([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		identity := &reqctx.Identity{Claims: parsed}
		for form, who := range map[string]*caller{"of a token": {claims: parsed, identity: identity}, "alone": {claims: parsed}} {
			for range 2 {
				a := &activation{caller: who, subject: &subject{kind: mcpwire.Tool, name: "x"}}
				if got := whole.eval(t.Context(), a); got != want {
					t.Errorf("%s, claims %s: %v, want %v", expression, form, got, want)
				}
			}
		}
	}
}

// What one request has found in a token is there for the next one, whoever comes first.
func TestClaimsAreShared(t *testing.T) {
	identity := &reqctx.Identity{Claims: claimsOf(t, `{"sub":"alice","groups":["dev"],"\u0061ge":7,"none":null}`)}
	find := func(name string) (ref.Val, bool) {
		who := &caller{claims: identity.Claims, identity: identity}
		return who.claimsMap().Find(types.String(name))
	}
	var groups [8]ref.Val
	var wait sync.WaitGroup
	for i := range groups {
		wait.Go(func() {
			for _, name := range []string{"age", "none", "missing", "sub"} {
				if value, found := find(name); found == (name == "missing") {
					t.Errorf("%s: %v", name, value)
				}
			}
			groups[i], _ = find("groups")
		})
	}
	wait.Wait()
	first, _ := find("groups")
	if again, _ := find("groups"); again != first || first.Equal(groups[0]) != types.True {
		t.Error("they are converted again")
	}
	memory := (&caller{claims: identity.Claims, identity: identity}).memory()
	if found := *memory.claims.found.Load(); len(found) != 4 {
		t.Errorf("%d claims are kept of 4 that were found", len(found))
	}
	for name, identity := range map[string]*reqctx.Identity{"nobody": nil, "anonymous": {Anonymous: true}} {
		who := &caller{identity: identity}
		if got := who.claimsMap(); got.Size() != types.IntZero || got.shared != nil {
			t.Errorf("%s: %v", name, got.Value())
		}
	}
}

// TestClaimsAreSharedUpToABound: rules that look at many claims look at all of them in the end, and find the same.
func TestClaimsAreSharedUpToABound(t *testing.T) {
	const n = 5 * maxLooks
	text := []byte("{")
	for i := range n {
		text = fmt.Appendf(text, `"c%d":%d,`, i, i)
	}
	identity := &reqctx.Identity{Claims: claimsOf(t, string(text)+`"last":true}`)}
	someone := func() *caller { return &caller{claims: identity.Claims, identity: identity} }
	look := func(i int, who *caller) {
		value, found := who.claimsMap().Find(types.String(fmt.Sprint("c", i)))
		if !found || value != types.Int(i) {
			t.Errorf("claim %d: %v", i, value)
		}
		if _, found := who.claimsMap().Find(types.String(fmt.Sprint("d", i))); found {
			t.Errorf("claim %d: found under another name", i)
		}
	}
	for i := range n {
		look(i, someone())
	}
	shared := &someone().memory().claims
	if found := *shared.found.Load(); len(found) != maxLooks {
		t.Errorf("%d claims are kept, want %d", len(found), maxLooks)
	}
	one := someone()
	for i := range n {
		look(i, one)
	}
	if whole := *shared.whole.Load(); whole.Size() != types.Int(n+1) {
		t.Errorf("%v claims in all", whole.Size())
	}
	for i := range n {
		look(i, someone())
	}
	if shared.found.Load() != nil {
		t.Error("claims are kept twice")
	}
}
