package jwtauth

import (
	"bytes"
	"compress/flate"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// Attacks on the form of a token. Nothing but three base64url parts may reach
// a parser.

// stray sets the lowest of the bits at the end of a part that no byte uses.
func stray(part string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, part[len(part)-1]) | 1
	return part[:len(part)-1] + alphabet[last:last+1]
}

func TestA12_Base64(t *testing.T) {
	good := goodToken()
	p := strings.Split(good, ".")
	if len(p[2])%4 != 2 || stray(p[2]) == p[2] {
		t.Fatal("the signature has no unused bits")
	}
	var attacks []attack
	add := func(name string, change func(string) string) {
		for i, part := range []string{"header", "payload", "signature"} {
			changed := []string{p[0], p[1], p[2]}
			changed[i] = change(changed[i])
			attacks = append(attacks, attack{name + " in the " + part, strings.Join(changed, "."), notBase64})
		}
	}
	for _, inserted := range []string{"=", "==", "\n", "\r", "\r\n", "\t", "\x00", "\x7f", "%", "+", "/", "é", "\u00a0", "\ufeff"} {
		add("inserted "+inserted, func(part string) string { return part[:4] + inserted + part[4:] })
		add("appended "+inserted, func(part string) string { return part + inserted })
	}
	add("a blank", func(part string) string { return part + " " })
	add("a blank inside", func(part string) string { return part[:8] + " " + part[8:] })
	add("one character too many", func(part string) string { return part + strings.Repeat("A", (5-len(part)%4)%4) })
	attacks = append(attacks, []attack{
		{"leading blank", "\t" + good, notBase64},
		{"trailing CR LF", good + "\r\n", notBase64},
		{"stray bits in the signature", p[0] + "." + p[1] + "." + stray(p[2]), notBase64},
		{"right padding", p[0] + "." + p[1] + "." + p[2] + "==", notBase64},
		{"percent-encoded dot", strings.ReplaceAll(good, ".", "%2e"), notCompact},
		{"full-width dot", strings.ReplaceAll(good, ".", "．"), notCompact},
	}...)
	// the standard alphabet, in a token that has both of its characters
	for _, char := range []string{"-", "_"} {
		token := good
		for sub := "a"; !strings.Contains(token[strings.LastIndexByte(token, '.'):], char); sub += "a" {
			token = trusted().Token(sub, forUs)
		}
		standard := strings.NewReplacer("-", "+", "_", "/").Replace(token)
		attacks = append(attacks, attack{"standard alphabet for " + char, standard, notBase64})
	}
	newGate(t).withstands(t, attacks)
}

// Stray bits in header and payload would let two tokens with different bytes
// pass for one, in a cache for instance.
func TestA12_StrayBitsInSignedParts(t *testing.T) {
	g := newGate(t)
	for _, pad := range []string{"", " ", "  "} { // a length of each kind
		header := mcptest.Base64([]byte(trusted().Header() + pad))
		payload := mcptest.Base64([]byte(goodPayload() + pad))
		signed := func(header, payload string) string {
			input := header + "." + payload
			return input + "." + mcptest.Base64(rsaOnce().Signature(input))
		}
		g.accepts(t, signed(header, payload))
		if len(header)%4 != 0 {
			g.refuses(t, signed(stray(header), payload), notBase64)
		}
		if len(payload)%4 != 0 {
			g.refuses(t, signed(header, stray(payload)), notBase64)
		}
	}
}

func TestA13_NumberOfParts(t *testing.T) {
	good := goodToken()
	p := strings.Split(good, ".")
	attacks := []attack{
		{"one part", p[0], notCompact},
		{"two parts", p[0] + "." + p[1], notCompact},
		{"four parts", good + "." + p[2], notCompact},
		{"five parts", good + "." + p[2] + "." + p[2], notCompact},
		{"dot behind", good + ".", notCompact},
		{"dot before", "." + good, notCompact},
		{"two dots inside", p[0] + ".." + p[1] + "." + p[2], notCompact},
		{"empty header", "." + p[1] + "." + p[2], notCompact},
		{"empty payload", p[0] + ".." + p[2], notCompact},
		{"only dots", "..", notCompact},
		{"one dot", ".", notCompact},
		{"no dot", "abc", notCompact},
		{"16,000 dots", strings.Repeat(".", 16_000), notCompact},
		{"100,000 dots", strings.Repeat(".", 100_000), malformed + "the token is too large"},
	}
	newGate(t).withstands(t, attacks)

	// as much as the configuration can allow, still for free
	large := newGate(t, func(h *Handler) { h.MaxTokenSize = maxMaxTokenSize })
	large.withstands(t, []attack{{"100,000 dots", strings.Repeat(".", 100_000), notCompact}})
	for _, raw := range []string{
		strings.Repeat(".", 100_000),
		strings.Repeat("a.", 100_000),
		strings.Repeat("A", 1<<20),
		strings.Repeat("A", 300_000) + "." + strings.Repeat("A", 300_000) + "." + strings.Repeat(".", 300_000),
	} {
		allocations := testing.AllocsPerRun(10, func() {
			if _, err := readToken(raw, maxMaxTokenSize); err == nil {
				t.Error("accepted")
			}
		})
		if allocations != 0 {
			t.Errorf("%.20s...: %v allocations for what is no token", raw, allocations)
		}
	}
}

func TestA14_Oversize(t *testing.T) {
	// sized makes a token of exactly n bytes: one filler for the length, and
	// a header with blanks for what three bytes in four characters leave over
	sized := func(n int) string {
		for pad := range 4 {
			header := trusted().Header() + strings.Repeat(" ", pad)
			rest := len(trusted().Key.Sign(header, mcptest.JSON(trusted().Claims("alice", forUs, claims{"fill": ""}))))
			for filler := (n-rest)*3/4 - 4; filler <= (n-rest)*3/4+4; filler++ {
				payload := mcptest.JSON(trusted().Claims("alice", forUs, claims{"fill": strings.Repeat("x", filler)}))
				if token := trusted().Key.Sign(header, payload); len(token) == n {
					return token
				}
			}
		}
		t.Fatal("no token of this size")
		return ""
	}
	const tooLarge = malformed + "the token is too large"
	for limit, g := range map[int]*gate{
		16384: newGate(t),
		2000:  newGate(t, func(h *Handler) { h.MaxTokenSize = 2000 }),
	} {
		g.accepts(t, sized(limit))
		g.refuses(t, sized(limit+1), tooLarge)
		g.refuses(t, sized(limit+1000), tooLarge)
	}
	// refused before anything is decoded
	raw := sized(16385)
	if n := testing.AllocsPerRun(10, func() { readToken(raw, 16384) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// jsonForms are the other serializations of RFC 7515, of a good token.
func jsonForms(t *testing.T) map[string]string {
	t.Helper()
	p := strings.Split(goodToken(), ".")
	signature := claims{"protected": p[0], "signature": p[2]}
	bad := claims{"protected": p[0], "signature": p[2][:20]}
	return map[string]string{
		"flattened":                mcptest.JSON(claims{"payload": p[1], "protected": p[0], "signature": p[2]}),
		"general":                  mcptest.JSON(claims{"payload": p[1], "signatures": []any{signature}}),
		"two signatures, one good": mcptest.JSON(claims{"payload": p[1], "signatures": []any{bad, signature}}),
		"good one first":           mcptest.JSON(claims{"payload": p[1], "signatures": []any{signature, bad}}),
		"no signatures":            mcptest.JSON(claims{"payload": p[1], "signatures": []any{}}),
		"unprotected header":       mcptest.JSON(claims{"payload": p[1], "header": claims{"alg": "RS256", "kid": "rsa"}, "signature": p[2]}),
	}
}

func TestA15_JSONSerialization(t *testing.T) {
	g := newGate(t)
	for name, form := range jsonForms(t) {
		t.Run(name, func(t *testing.T) {
			g.refuses(t, form, notCompact)
			g.refuses(t, "\t\r\n"+form, notCompact)
			g.refuses(t, "\ufeff"+form, notCompact)
			g.refuses(t, mcptest.Base64([]byte(form)), notCompact)
		})
	}
	g.accepts(t, goodToken())
}

// Row 15b: a form that has two dots by itself gets as far as the alphabet.
func TestA15b_OnlyThreeBase64Parts(t *testing.T) {
	g := newGate(t)
	for name, form := range jsonForms(t) {
		dots := strings.TrimSuffix(form, "}") + `,"x":"a.b.c"}`
		for text, want := range map[string]string{
			dots:                        notBase64,
			form + "." + form + ".sig":  notBase64,
			"[" + form + "]":            notCompact,
			`"` + goodToken() + `"`:     notBase64,
			"<" + goodToken() + ">":     notBase64,
			goodToken() + "\x00" + form: notBase64,
		} {
			t.Run(name, func(t *testing.T) { g.refuses(t, text, want) })
		}
	}
}

func TestA16_SeveralSignatures(t *testing.T) {
	good := goodToken()
	foreign := foe().Token("alice", forUs)
	other := foreign[strings.LastIndexByte(foreign, '.')+1:]
	unsigned := good[:strings.LastIndexByte(good, '.')]
	own := good[len(unsigned)+1:]
	newGate(t).withstands(t, []attack{
		{"bad and good", unsigned + "." + other + "." + own, notCompact},
		{"good and bad", good + "." + other, notCompact},
		{"comma", unsigned + "." + other + "," + own, notBase64},
		{"tilde, as in SD-JWT", good + "~" + other + "~", notBase64},
		{"two tokens", good + "." + good, notCompact},
	})
}

func TestA17_JWE(t *testing.T) {
	pbes2 := `{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2c":2000000000,"p2s":"AAAAAAAAAAA","kid":"rsa"}`
	var bomb bytes.Buffer
	compressor, _ := flate.NewWriter(&bomb, flate.BestCompression)
	compressor.Write(bytes.Repeat([]byte{' '}, 10<<20))
	compressor.Close()
	zipped := `{"alg":"dir","enc":"A128GCM","zip":"DEF","kid":"rsa"}`
	five := parts(pbes2, "key", "iv", "text", "tag")
	newGate(t).withstands(t, []attack{
		{"PBES2, 2e9 rounds", five, notCompact},
		{"PBES2 in three parts", rsaOnce().Sign(pbes2, goodPayload()), extension},
		{"zip bomb", parts(zipped, "key", "iv", bomb.String(), "tag"), notCompact},
		{"zip bomb in three parts", rsaOnce().Sign(`{"alg":"RS256","zip":"DEF","kid":"rsa"}`, bomb.String()), extension},
		{"enc beside a good signature", rsaOnce().Sign(`{"alg":"RS256","enc":"A128GCM","kid":"rsa"}`, goodPayload()), extension},
		{"alg of a JWE", rsaOnce().Sign(`{"alg":"PBES2-HS256+A128KW","kid":"rsa"}`, goodPayload()), notAlg},
	})
	// five parts cost nothing at all, whatever they ask for
	if n := testing.AllocsPerRun(10, func() { readToken(five, 16384) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestA18_NestedToken(t *testing.T) {
	inner := goodToken()
	newGate(t).withstands(t, []attack{
		{"cty JWT", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","cty":"JWT"}`, inner), extension},
		{"cty JWT, claims inside", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","cty":"JWT"}`, goodPayload()), extension},
		{"no cty", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa"}`, inner), badPayload},
		{"as a JSON string", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa"}`, `"`+inner+`"`), badPayload},
	})
}

func TestA19_DetachedPayload(t *testing.T) {
	p := strings.Split(goodToken(), ".")
	const header = `{"alg":"RS256","kid":"rsa","b64":false,"crit":["b64"]}`
	encoded := mcptest.Base64([]byte(header))
	raw := goodPayload()
	signed := func(header, payload string) string {
		return mcptest.Base64(rsaOnce().Signature(mcptest.Base64([]byte(header)) + "." + payload))
	}
	const silent = `{"alg":"RS256","kid":"rsa","b64":false}`
	g := newGate(t)
	g.withstands(t, []attack{
		{"detached", p[0] + ".." + p[2], notCompact},
		{"b64 false, detached", encoded + ".." + signed(header, raw), notCompact},
		{"b64 false, bare payload", encoded + "." + raw + "." + signed(header, raw), notCompact}, // the dots of URLs
		{"b64 false, base64 payload", rsaOnce().Sign(header, raw), extension},
		{"b64 false without crit", rsaOnce().Sign(silent, raw), extension},
		{"b64 false, payload is its own base64", mcptest.Base64([]byte(header)) + "." + p[1] + "." + signed(header, p[1]), extension},
		{"b64 true", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","b64":true}`, raw), extension},
		{"b64 null", rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","b64":null}`, raw), extension},
	})

	// a detached payload is not looked for in the body either
	r := httptest.NewRequest(http.MethodPost, siteURL, strings.NewReader(raw))
	r.Header.Set("Authorization", "Bearer "+p[0]+".."+p[2])
	g.checkRefused(t, g.do(t, r), notCompact)
}

func TestA20_Crit(t *testing.T) {
	var attacks []attack
	for _, members := range []string{
		`"crit":["exp"],"exp":1`,
		`"crit":["http://example.com/unknown"],"http://example.com/unknown":true`,
		`"crit":["absent"]`,
		`"crit":["alg"]`,
		`"crit":["kid","alg"]`,
		`"crit":[]`,
		`"crit":[""],"":1`,
		`"crit":["x","x"],"x":1`,
		`"crit":"x","x":1`,
		`"crit":null`,
		`"crit":{}`,
		`"crit":0`,
		`"crit":[1]`,
		`"crit":["b64"],"b64":true`,
		`"\u0063rit":["x"],"x":1`,
	} {
		token := rsaOnce().Sign(`{"alg":"RS256","kid":"rsa",`+members+`}`, goodPayload())
		attacks = append(attacks, attack{members, token, extension})
	}
	g := newGate(t)
	g.withstands(t, attacks)
	// a header that only looks like it is one nobody has to understand
	g.accepts(t, rsaOnce().Sign(`{"alg":"RS256","kid":"rsa","Crit":["x"],"criT":1,"x":1}`, goodPayload()))
}
