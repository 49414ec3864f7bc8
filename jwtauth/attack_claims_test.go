package jwtauth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// Attacks on the type of a token and on its claims.

// typed is a good token with this typ.
func typed(typ string) string {
	return rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","typ":`+typ+`}`, goodPayload())
}

// saying signs a payload of exactly these bytes.
func saying(payload string) string { return rsaOnce().Sign(trusted().Header(), payload) }

// extended adds members to the text of a good payload, duplicates too.
func extended(members string) string {
	return saying(strings.TrimSuffix(goodPayload(), "}") + "," + members + "}")
}

func TestA40_OtherKindsOfTokens(t *testing.T) {
	var attacks []attack
	for _, typ := range []string{
		"logout+jwt", "secevent+jwt", "dpop+jwt", "oauth-id-jag+jwt", "entity-statement+jwt", "openid-federation+jwt",
		"application/logout+jwt", "LOGOUT+JWT", "token-introspection+jwt", "client-authentication+jwt", "id_token", "JOSE", "JOSE+JSON",
		"jwt ", "at+jwt;v=1", "text/jwt", "application/application/jwt", "jw\u212a",
	} {
		attacks = append(attacks, attack{typ, typed(mcptest.JSON(typ)), notType})
	}
	g := newGate(t)
	g.withstands(t, attacks)
	for _, typ := range []string{"JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"} {
		g.accepts(t, typed(mcptest.JSON(typ)))
	}
	g.accepts(t, rsaOnce().Sign(`{"alg":"RS256","kid":"rsa"}`, goodPayload()))
	g.accepts(t, rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","Typ":"logout+jwt"}`, goodPayload())) // says nothing

	// what the configuration wants replaces the default
	only := newGate(t, withIssuer(func(i *Issuer) { i.TokenTypes = []string{"application/AT+JWT"} }))
	only.accepts(t, typed(`"at+jwt"`))
	only.refuses(t, typed(`"JWT"`), notType)
	only.refuses(t, rsaOnce().Sign(`{"alg":"RS256","kid":"rsa"}`, goodPayload()), notType)
}

func TestA41_IDToken(t *testing.T) {
	client := claims{"aud": "client-1", "azp": "client-1", "nonce": "n"}
	newGate(t).withstands(t, []attack{
		{"audience is the client", trusted().Token("alice", client), notAudience},
		{"audience in another claim", trusted().Token("alice", client, claims{"resource": audience, "azp": audience}), notAudience},
		{"audience in the header", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","aud":"`+audience+`"}`,
			mcptest.JSON(trusted().Claims("alice", client))), notAudience},
	})
}

func TestA42_HeaderMembers(t *testing.T) {
	var attacks []attack
	for _, typ := range []string{`null`, `1`, `true`, `["JWT"]`, `{}`} {
		attacks = append(attacks, attack{"typ " + typ, typed(typ), badTyp})
	}
	for _, members := range []string{`"zip":"DEF"`, `"zip":null`, `"zip":""`, `"cty":"JWT"`, `"cty":""`, `"cty":"json"`, `"cty":null`, `"cty":1`} {
		attacks = append(attacks, attack{members, decorated(members), extension})
	}
	for _, header := range []string{
		`[]`, `null`, `"x"`, `5`, ``, ` `, `{`, `{}{}`, `{} x`, `{"alg":"RS256",}`, `{'alg':'RS256'}`, "\ufeff{}",
		`{"alg":"RS256","kid":"rsa","x":"` + "\xff" + `"}`, `{"alg":"RS256","kid":"rsa","x":"\ud800"}`, `{"alg":"RS256","kid":"rsa","x":NaN}`,
		`{"alg":"RS256","kid":"rsa"}` + "\x00", `{"alg":"RS256","kid":"rsa"}{"alg":"none"}`, `{/**/"alg":"RS256","kid":"rsa"}`,
	} {
		want := badHeader
		if header == "" {
			want = notCompact
		}
		attacks = append(attacks, attack{"header " + header, rsaOnce().Sign(header, goodPayload()), want})
	}
	newGate(t).withstands(t, attacks)
}

func TestA43_DuplicateClaims(t *testing.T) {
	var attacks []attack
	for name, twin := range map[string]string{
		"sub": `"sub":"admin"`,
		"exp": fmt.Sprintf(`"exp":%d`, noon+9_000_000),
		"aud": `"aud":"https://other.example"`,
		"iss": `"iss":"https://other.example"`,
		"nbf": `"nbf":1,"nbf":2`,
		"x":   `"x":null,"x":null`,
	} {
		escaped := strings.Replace(twin, `"`+name[:1], fmt.Sprintf(`"\u%04x`, name[0]), 1)
		first := "{" + twin + "," + strings.TrimPrefix(goodPayload(), "{")
		attacks = append(attacks,
			attack{name + ", other last", extended(twin), badPayload},
			attack{name + ", other first", saying(first), badPayload},
			attack{name + ", escaped", extended(escaped), badPayload},
		)
		if name == "nbf" || name == "x" { // not in a good payload: the twin alone is the duplicate
			attacks = attacks[:len(attacks)-1]
		}
	}
	attacks = append(attacks,
		attack{"deep inside", extended(`"realm_access":{"roles":["user"],"roles":["admin"]}`), badPayload},
		attack{"in a list", extended(`"x":[[{"a":1,"a":1}]]`), badPayload})
	newGate(t).withstands(t, attacks)
}

func TestA44_CaseTwins(t *testing.T) {
	without := func(claim string) string {
		return strings.TrimSuffix(mcptest.JSON(trusted().Claims("alice", forUs, claims{claim: nil})), "}")
	}
	later := fmt.Sprint(noon + 3600)
	g := newGate(t)
	g.withstands(t, []attack{
		{"Exp alone", saying(without("exp") + `,"Exp":` + later + `}`), missing("exp")},
		{"EXP beside an exp that has passed", saying(without("exp") + `,"exp":1,"EXP":` + later + `}`), expired},
		{"Iss alone", saying(without("iss") + `,"Iss":"` + issuerURL + `"}`), notIssuer},
		{"i\u017f\u017f (long s)", saying(without("iss") + `,"i` + "\u017f\u017f" + `":"` + issuerURL + `"}`), notIssuer},
		{"Aud alone", saying(without("aud") + `,"Aud":"` + audience + `"}`), missing("aud")},
		{"Aud beside a wrong aud", saying(without("aud") + `,"aud":"x","Aud":"` + audience + `"}`), notAudience},
		{"iss with NUL", saying(without("iss") + `,"iss\u0000":"` + issuerURL + `"}`), malformed + "a claim contains a NUL"},
	})
	g.accepts(t, saying(without("sub")+`,"Sub":"admin","`+"\u017fub"+`":"admin","SUB":"admin"}`))
	if _, present := g.identity.Claims.Get("sub"); present || g.identity.Subject != "" {
		t.Errorf("a twin became the subject: %q", g.identity.Subject)
	}
	if user := g.placeholder("http.auth.user.id"); user != "" {
		t.Errorf("a twin became the user: %q", user)
	}
	// beside the claim itself it is just another claim
	g.accepts(t, extended(`"Sub":"admin","NBF":9999999999`))
	if g.identity.Subject != "alice" || g.claim("Sub") != "admin" {
		t.Errorf("identity %+v", g.identity)
	}
}

func TestA45_PayloadIsNoObject(t *testing.T) {
	var attacks []attack
	for name, payload := range map[string]string{
		"garbage behind": goodPayload() + "x",
		"second object":  goodPayload() + `{"sub":"admin"}`,
		"same again":     goodPayload() + goodPayload(),
		"comma behind":   goodPayload() + ",",
		"NUL behind":     goodPayload() + "\x00",
		"BOM":            "\ufeff" + goodPayload(),
		"array":          "[" + goodPayload() + "]",
		"null":           "null",
		"string":         `"x"`,
		"number":         "1",
		"blank":          " ",
		"cut":            goodPayload()[:len(goodPayload())-1],
		"UTF-16":         "\xfe\xff\x00{\x00}",
		"trailing comma": strings.TrimSuffix(goodPayload(), "}") + ",}",
		"comment":        "/**/" + goodPayload(),
		"single quotes":  strings.ReplaceAll(goodPayload(), `"`, `'`),
		"form feed":      "\f" + goodPayload(),
		"no-break space": "\u00a0" + goodPayload(),
	} {
		attacks = append(attacks, attack{name, saying(payload), badPayload})
	}
	attacks = append(attacks, attack{"nothing", saying(""), notCompact})
	g := newGate(t)
	g.withstands(t, attacks)
	g.accepts(t, saying(" \r\n\t"+goodPayload()+"\n")) // white space of JSON is none of these
}

func TestA46_StrangeText(t *testing.T) {
	const nul = malformed + "a claim contains a NUL"
	var attacks []attack
	for _, text := range []string{
		"\xff", "\xc0\x80", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80",
		`\ud800`, `\udc00`, `\ud800\ud800`, `\udc00\ud800`, `\ud83dx`, `\u12`, `\x41`, `\`, "\n", "\x1f", "\x00",
	} {
		attacks = append(attacks,
			attack{"in a value: " + text, extended(`"x":"` + text + `"`), badPayload},
			attack{"in a name: " + text, extended(`"` + text + `":1`), badPayload},
			attack{"deep inside: " + text, extended(`"x":[{"y":["` + text + `"]}]`), badPayload},
		)
	}
	for _, members := range []string{
		`"x":"admin\u0000"`, `"x\u0000":1`, `"x":["a","\u0000"]`, `"x":{"y":{"z":"\u0000"}}`, `"x":{"y\u0000":1}`, `"x":[[["\u0000"]]]`,
	} {
		attacks = append(attacks, attack{"NUL: " + members, extended(members), nul})
	}
	g := newGate(t)
	g.withstands(t, attacks)
	g.refuses(t, saying(strings.Replace(goodPayload(), "alice", `admin\u0000@example.com`, 1)), nul)
	g.accepts(t, extended(`"x":"\ud83d\ude00 ü 漢 \u2028 \u0001"`))
	if got, want := g.claim("x"), "😀 ü 漢 \u2028 \u0001"; got != want {
		t.Errorf("claim %q, want %q", got, want)
	}
}

func TestA47_Depth(t *testing.T) {
	g := newGate(t, func(h *Handler) { h.MaxTokenSize = maxMaxTokenSize })
	var attacks []attack
	for _, n := range []int{200, 2_000, 100_000} {
		for name, value := range map[string]string{
			"arrays":         strings.Repeat("[", n) + strings.Repeat("]", n),
			"objects":        strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n),
			"opening arrays": strings.Repeat("[", n),
		} {
			attacks = append(attacks,
				attack{fmt.Sprint(n, " ", name, " in the payload"), extended(`"x":` + value), badPayload},
				attack{fmt.Sprint(n, " ", name, " in the header"), decorated(`"x":` + value), badHeader},
				attack{fmt.Sprint(n, " ", name, " as the payload"), saying(value), badPayload})
		}
	}
	g.withstands(t, attacks)
	g.accepts(t, extended(`"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)))
	// brackets in a string are no depth
	g.accepts(t, extended(`"x":"`+strings.Repeat("[{", 5000)+`\"`+`"`))
}

func TestA48_NoExpiry(t *testing.T) {
	newGate(t).withstands(t, []attack{
		{"missing", trusted().Token("alice", forUs, claims{"exp": nil}), missing("exp")},
		{"null", extendedWithout("exp", `"exp":null`), wrong("exp")},
	})
	// nor does a configuration without demands give it up
	g := newGate(t, withIssuer(func(i *Issuer) { i.Issuer, i.Audiences, i.RequiredClaims = "", nil, []string{"sub"} }))
	g.refuses(t, trusted().Token("alice", claims{"exp": nil}), missing("exp"))
}

// extendedWithout is a good payload without a claim, and with members.
func extendedWithout(claim, members string) string {
	payload := mcptest.JSON(trusted().Claims("alice", forUs, claims{claim: nil}))
	return saying(strings.TrimSuffix(payload, "}") + "," + members + "}")
}

func TestA49_ExpiryZero(t *testing.T) {
	var attacks []attack
	for _, zero := range []string{"0", "-0", "0.0", "0e0", "0e99", "1"} {
		attacks = append(attacks, attack{zero, extendedWithout("exp", `"exp":`+zero), expired})
	}
	for _, value := range []string{`"0"`, `-1`, `false`, `""`} {
		attacks = append(attacks, attack{value, extendedWithout("exp", `"exp":`+value), wrong("exp")})
	}
	newGate(t).withstands(t, attacks)
}

func TestA50_ExpiryIsNoDate(t *testing.T) {
	var attacks []attack
	later := fmt.Sprint(noon + 3600)
	for _, value := range []string{
		`"` + later + `"`, `"2099-01-01T00:00:00Z"`, `"Infinity"`, `true`, `null`, `[]`, `{}`, `[` + later + `]`, `{"$date":` + later + `}`,
		`1e400`, `-1e400`, `1e-400`, `9223372036854775807`, `9223372036854775808`, `18446744073709551616`, `1e18`, `1e300`,
		later + `000`, later + `000.0`, `253402300800`, `253402300799.5`, `99999999999999999999999999`, `-` + later, strings.Repeat("9", 400),
	} {
		attacks = append(attacks, attack{value, extendedWithout("exp", `"exp":`+value), wrong("exp")})
	}
	for _, value := range []string{`NaN`, `Infinity`, `-Infinity`, `0x7fffffff`, `01750003600`, `+1750003600`, `1.`, `.5`, `1_750_003_600`} {
		attacks = append(attacks, attack{value, extendedWithout("exp", `"exp":`+value), badPayload})
	}
	// nbf and iat decide too, so they are read as strictly
	for _, claim := range []string{"nbf", "iat"} {
		for _, value := range []string{`"1"`, `null`, `[]`, `-1`, `1e400`, `1e18`, fmt.Sprint(noon, "000"), `true`} {
			attacks = append(attacks, attack{claim + " " + value, extendedWithout(claim, `"`+claim+`":`+value), wrong(claim)})
		}
	}
	g := newGate(t)
	g.withstands(t, attacks)
	g.accepts(t, extendedWithout("exp", `"exp":253402300799`)) // the end of the year 9999
}

func TestA51_ExpiryWithFraction(t *testing.T) {
	g := newGate(t)
	for _, value := range []string{"1750003600.5", "1.7500036e9", "1.7500036E+09", "17500036e2", "1750003600.000", "17500036000e-1"} {
		g.accepts(t, extendedWithout("exp", `"exp":`+value))
	}
	g.accepts(t, extendedWithout("exp", `"exp":1750003600.5`))
	if got := g.identity.Expires.UnixMilli(); got != 1750003600500 {
		t.Errorf("expires at %d ms", got)
	}
	// the fraction counts: 60.5 s ago is over the leeway, 59.5 s ago is not
	g.refuses(t, extendedWithout("exp", `"exp":1749999939.5`), expired)
	g.accepts(t, extendedWithout("exp", `"exp":1749999940.5`))
}

func TestA52_Expired(t *testing.T) {
	for _, test := range []struct {
		leeway string
		before int // seconds since exp that are still accepted
	}{{"", 60}, {"0s", 0}, {"5s", 5}, {"5m", 300}} {
		g := newGate(t, withIssuer(func(i *Issuer) { i.Leeway = duration(t, test.leeway) }))
		at := func(ago int) string { return trusted().Token("alice", forUs, claims{"exp": noon - ago, "iat": nil}) }
		for _, ago := range []int{test.before - 1, test.before - 100, -3600} {
			g.accepts(t, at(ago))
		}
		for _, ago := range []int{test.before, test.before + 1, test.before + 3600, noon} {
			g.refuses(t, at(ago), expired)
		}
	}
}

func TestA53_NotYetValid(t *testing.T) {
	g := newGate(t)
	for _, claim := range []string{"nbf", "iat"} {
		at := func(ahead int) string {
			return trusted().Token("alice", forUs, claims{"iat": nil}, claims{claim: noon + ahead, "exp": noon + 9_000_000})
		}
		for _, ahead := range []int{-3600, 0, 59, 60} {
			g.accepts(t, at(ahead))
		}
		for _, ahead := range []int{61, 3600, 8_999_999} {
			g.refuses(t, at(ahead), notYet)
		}
	}
	g.accepts(t, trusted().Token("alice", forUs, claims{"iat": nil})) // neither is required
}

func TestA54_AudienceIsNoAudience(t *testing.T) {
	var attacks []attack
	for _, aud := range []string{
		`null`, `1`, `true`, `{}`, `{"aud":"` + audience + `"}`, `["` + audience + `",null]`, `["` + audience + `",1]`,
		`[["` + audience + `"]]`, `[{"a":"` + audience + `"}]`, `[null]`,
	} {
		attacks = append(attacks, attack{aud, extendedWithout("aud", `"aud":`+aud), wrong("aud")})
	}
	attacks = append(attacks,
		attack{"missing", trusted().Token("alice"), missing("aud")},
		attack{"empty list", extendedWithout("aud", `"aud":[]`), notAudience},
		attack{"empty text", extendedWithout("aud", `"aud":""`), notAudience},
		attack{"list of empty text", extendedWithout("aud", `"aud":[""]`), notAudience})
	newGate(t).withstands(t, attacks)

	// where every audience is accepted, it still has to be one
	g := newGate(t, withIssuer(func(i *Issuer) { i.Audiences = nil }))
	for _, a := range attacks {
		switch a.name {
		case "missing", "empty text", "list of empty text":
			g.accepts(t, a.token)
		default:
			g.refuses(t, a.token, a.want)
		}
	}
}

func TestA55_AudienceAlmostEqual(t *testing.T) {
	var attacks []attack
	for _, aud := range []any{
		audience + "/", strings.TrimSuffix(audience, "p"), audience + "?", audience + "#", strings.ToUpper(audience),
		"https://MCP.example.com/mcp", "http://mcp.example.com/mcp", "https://mcp.example.com:443/mcp", "https://mcp.example.com/mcp/tools",
		"https://mcp.example.com", "mcp", " " + audience, audience + " ", audience + " x", "x " + audience, audience + "," + audience,
		"https://mcp.example.com/%6dcp", "https://mcp.example.com/../mcp", "*", "https://mcp.example.com/*", ".*",
		[]string{audience + "/", "x"},
		[]string{audience[:10], audience[10:]},
	} {
		attacks = append(attacks, attack{fmt.Sprint(aud), trusted().Token("alice", claims{"aud": aud}), notAudience})
	}
	g := newGate(t)
	g.withstands(t, attacks)
	g.accepts(t, trusted().Token("alice", claims{"aud": []string{"x", audience}}))

	two := newGate(t, withIssuer(func(i *Issuer) { i.Audiences = []string{"a", "b"} }))
	for _, aud := range []any{"a", "b", []string{"c", "b"}} {
		two.accepts(t, trusted().Token("alice", claims{"aud": aud}))
	}
	for _, aud := range []any{"c", "a b", "ab", "A", []string{"c", "d"}} {
		two.refuses(t, trusted().Token("alice", claims{"aud": aud}), notAudience)
	}

	// Cognito names its audience otherwise
	cognito := newGate(t, withIssuer(func(i *Issuer) { i.AudienceClaim, i.Audiences = "client_id", []string{"app"} }))
	cognito.accepts(t, trusted().Token("alice", claims{"client_id": "app"}))
	cognito.refuses(t, trusted().Token("alice", claims{"aud": "app"}), missing("client_id"))
	cognito.refuses(t, trusted().Token("alice", claims{"client_id": "App"}), notAudience)
	cognito.refuses(t, trusted().Token("alice", claims{"client_id": 1}), wrong("client_id"))
}

func TestA56_IssuerAlmostEqual(t *testing.T) {
	var attacks []attack
	for _, iss := range []any{
		issuerURL + "/", issuerURL + "#", issuerURL + "?", strings.ToUpper(issuerURL), "https://IDP.example.com/realms/acme",
		"http://idp.example.com/realms/acme", "https://idp.example.com:443/realms/acme", issuerURL + "-evil", issuerURL[:20],
		"https://idp.example.com", issuerURL + " ", " " + issuerURL, issuerURL + "," + issuerURL, "", "*",
		"https://idp.example.com/realms/%61cme", "https://idp.example.com/realms/./acme", "https://evil.example/" + issuerURL,
	} {
		attacks = append(attacks, attack{fmt.Sprint(iss), trusted().Token("alice", forUs, claims{"iss": iss}), notIssuer})
	}
	for _, iss := range []any{[]string{issuerURL}, 1, true, claims{"iss": issuerURL}, []any{}} {
		attacks = append(attacks, attack{fmt.Sprint(iss), trusted().Token("alice", forUs, claims{"iss": iss}), wrong("iss")})
	}
	attacks = append(attacks,
		attack{"missing", trusted().Token("alice", forUs, claims{"iss": nil}), notIssuer},
		attack{"null", extendedWithout("iss", `"iss":null`), wrong("iss")})
	newGate(t).withstands(t, attacks)

	// a block without a name takes every iss, and none
	g := newGate(t, withIssuer(func(i *Issuer) { i.Issuer = "" }))
	g.accepts(t, trusted().Token("alice", forUs, claims{"iss": "https://anybody.example"}))
	g.accepts(t, trusted().Token("alice", forUs, claims{"iss": nil}))
	g.refuses(t, trusted().Token("alice", forUs, claims{"iss": []string{issuerURL}}), wrong("iss"))
}

// Row 57: who matches on a claim sees it as it was signed.
func TestA57_OddEmail(t *testing.T) {
	g := newGate(t, func(h *Handler) { h.UserClaim = "email" })
	for _, email := range []string{
		"alice@evil.example@example.com", `"alice@example.com"@evil.example`, "alice@example.com, admin@example.com", "@example.com",
		" alice@example.com ", "Alice@Example.COM", "alice+admin@example.com", "alice@exam\u200bple.com", "аlice@example.com",
	} {
		g.accepts(t, trusted().Token("alice", forUs, claims{"email": email}))
		if got := g.claim("email"); got != email {
			t.Errorf("claim %q, want %q", got, email)
		}
		if got := g.placeholder("http.auth.user.id"); got != email {
			t.Errorf("user %q, want %q", got, email)
		}
	}
}

func TestRequiredClaims(t *testing.T) {
	g := newGate(t, withIssuer(func(i *Issuer) { i.RequiredClaims = []string{"jti", "scope"} }))
	g.accepts(t, trusted().Token("alice", forUs, claims{"jti": "1", "scope": ""}))
	g.accepts(t, trusted().Token("alice", forUs, claims{"jti": 0, "scope": []string{}}))
	g.refuses(t, trusted().Token("alice", forUs, claims{"scope": "x"}), missing("jti"))
	g.refuses(t, trusted().Token("alice", forUs, claims{"jti": "1"}), missing("scope"))
	g.refuses(t, trusted().Token("alice", forUs, claims{"Jti": "1", "scope": "x"}), missing("jti"))
	g.refuses(t, extended(`"jti":null,"scope":"x"`), missing("jti"))
}

func TestSubjectIsText(t *testing.T) {
	g := newGate(t)
	for _, sub := range []string{`1`, `null`, `["alice"]`, `{}`, `true`} {
		g.refuses(t, extendedWithout("sub", `"sub":`+sub), wrong("sub"))
	}
}
