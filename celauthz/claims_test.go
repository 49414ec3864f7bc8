package celauthz

import (
	"sync"
	"testing"

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

// They are converted once for a token, whoever comes first.
func TestClaimsAreConvertedOnce(t *testing.T) {
	identity := &reqctx.Identity{Claims: map[string]any{"sub": "alice"}}
	var conversions [8]*celClaims
	var wait sync.WaitGroup
	for i := range conversions {
		wait.Go(func() { conversions[i] = claimsFor(identity) })
	}
	wait.Wait()
	for _, got := range conversions {
		if got != claimsFor(identity) {
			t.Error("they are converted again")
		}
	}
	for name, identity := range map[string]*reqctx.Identity{"nobody": nil, "anonymous": {Anonymous: true}} {
		if got := claimsFor(identity); len(got.values) != 0 {
			t.Errorf("%s: %v", name, got.values)
		}
	}
}
