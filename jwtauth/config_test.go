package jwtauth

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// parse reads a directive; its first line is line 1.
func parse(text string) (*Handler, error) {
	h := new(Handler)
	return h, h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
}

func TestCaddyfile(t *testing.T) {
	set := mcptest.Set(ecOnce())
	h, err := parse("mcp_jwt {\n" +
		"mode optional\n" +
		"issuer https://idp.example.com {\n" +
		"  jwks inline `" + set + "`\n" +
		"  audiences a b\n audiences c\n" +
		"  audience_claim client_id\n" +
		"  algorithms ES256 RS256\n" +
		"  required_claims sub jti\n" +
		"  token_types JWT at+jwt\n" +
		"  leeway 30s\n" +
		"  allow_missing_kid\n" +
		"}\n" +
		"issuer b {\n jwks file /keys/{env.NAME}.json\n leeway 0\n}\n" +
		"token_from header Authorization Bearer\n" +
		"token_from header X-Token\n" +
		"token_from cookie token\n" +
		"forward_token\n" +
		"user_claim email\n" +
		"realm \"the tools\"\n" +
		"max_token_size 8KiB\n" +
		"}")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"mode":"optional","issuers":[{"issuer":"https://idp.example.com","jwks":{"inline":` + set + `},"audiences":["a","b","c"],` +
		`"audience_claim":"client_id","algorithms":["ES256","RS256"],"required_claims":["sub","jti"],"token_types":["JWT","at+jwt"],` +
		`"leeway":30000000000,"allow_missing_kid":true},{"issuer":"b","jwks":{"file":"/keys/{env.NAME}.json"},"leeway":0}],` +
		`"token_from":[{"source":"header","name":"Authorization","scheme":"Bearer"},{"source":"header","name":"X-Token"},` +
		`{"source":"cookie","name":"token"}],"forward_token":true,"user_claim":"email","realm":"the tools","max_token_size":8192}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// and it is what a JSON configuration says
	again := new(Handler)
	if err := caddy.StrictUnmarshalJSON(got, again); err != nil {
		t.Fatal(err)
	}
	if back, _ := json.Marshal(again); string(back) != want {
		t.Errorf("read back: %s", back)
	}
}

// Mistakes are found when the Caddyfile is read, and named with their line.
func TestCaddyfileErrors(t *testing.T) {
	keys := "jwks inline `" + mcptest.Set(ecOnce()) + "`"
	issuer := func(lines string) string { return "mcp_jwt {\nissuer x {\n" + keys + "\n" + lines + "\n}\n}" }
	option := func(line string) string { return "mcp_jwt {\nissuer x {\n" + keys + "\n}\n" + line + "\n}" }
	for name, test := range map[string]struct{ text, want string }{
		"nothing":                     {"mcp_jwt", "at least one issuer"},
		"empty block":                 {"mcp_jwt {\n}", "at least one issuer"},
		"unknown option":              {option("colour blue"), `Testfile:5`},
		"misspelt option":             {option("mod strict"), `unrecognized option "mod"`},
		"unknown mode":                {option("mode lax"), `unknown mode "lax"; it is strict, optional or permissive`},
		"mode in capitals":            {option("mode STRICT"), `unknown mode "STRICT"`},
		"mode without value":          {option("mode"), "Testfile:5"},
		"two modes":                   {option("mode strict optional"), "Testfile:5"},
		"mode twice":                  {option("mode strict\nmode optional"), "mode is given twice"},
		"empty mode":                  {option(`mode ""`), "Testfile:5"},
		"unknown option of issuer":    {issuer("audience x"), `unrecognized option "audience" of issuer`},
		"unknown algorithm":           {issuer("algorithms RS256 XX"), `unknown algorithm "XX"`},
		"alg none":                    {issuer("algorithms none"), `unknown algorithm "none"`},
		"algorithm in lower case":     {issuer("algorithms rs256"), `unknown algorithm "rs256"`},
		"no algorithms":               {issuer("algorithms"), "Testfile:4"},
		"no audiences":                {issuer("audiences"), "Testfile:4"},
		"leeway is no duration":       {issuer("leeway soon"), `leeway must be a duration between 0 and 5m0s, not "soon"`},
		"leeway too long":             {issuer("leeway 5m1s"), `not "5m1s"`},
		"leeway negative":             {issuer("leeway -1s"), `not "-1s"`},
		"leeway without unit":         {issuer("leeway 60"), `not "60"`},
		"leeway missing":              {issuer("leeway"), "Testfile:4"},
		"leeway twice":                {issuer("leeway 1s\nleeway 2s"), "leeway is given twice"},
		"allow_missing_kid with a no": {issuer("allow_missing_kid off"), "Testfile:4"},
		"audience_claim twice":        {issuer("audience_claim a\naudience_claim b"), "given twice"},
		"two names":                   {"mcp_jwt {\nissuer a b {\n" + keys + "\n}\n}", "Testfile:2"},
		"two blocks for one issuer":   {option("issuer x {\n" + keys + "\n}"), `two issuer blocks for "x"`},
		"two blocks without a name":   {"mcp_jwt {\nissuer {\n" + keys + "\n}\nissuer {\n" + keys + "\n}\n}", "must be the only one"},
		"nameless beside another":     {option("issuer {\n" + keys + "\n}"), "must be the only one"},
		"another beside nameless":     {"mcp_jwt {\nissuer {\n" + keys + "\n}\nissuer x {\n" + keys + "\n}\n}", "must be the only one"},
		"jwks twice":                  {issuer(keys), "jwks is given twice"},
		"jwks without source":         {"mcp_jwt {\nissuer x {\njwks\n}\n}", "Testfile:3"},
		"jwks from nowhere":           {"mcp_jwt {\nissuer x {\njwks magic x\n}\n}", "Testfile:3"},
		"jwks is no JSON":             {"mcp_jwt {\nissuer x {\njwks inline {\"keys\n}\n}", "Testfile:3"},
		"jwks without usable keys":    {"mcp_jwt {\nissuer x {\njwks inline `{\"keys\":[]}`\n}\n}", "no usable key"},
		"token_from nothing":          {option("token_from"), "token_from takes"},
		"token_from without name":     {option("token_from header"), "token_from takes"},
		"token_from the query":        {option("token_from query access_token"), `unknown token source "query"`},
		"cookie with scheme":          {option("token_from cookie a Bearer"), "a cookie has no scheme"},
		"token_from too much":         {option("token_from header a b c"), "token_from takes"},
		"forward_token with a no":     {option("forward_token off"), "Testfile:5"},
		"realm that breaks lines":     {option("realm `a\nb`"), "realm holds a character"},
		"max_token_size zero":         {option("max_token_size 0"), "between 1B and 1MiB"},
		"max_token_size too large":    {option("max_token_size 2MiB"), "between 1B and 1MiB"},
		"max_token_size is no size":   {option("max_token_size big"), "between 1B and 1MiB"},
		"max_stale twice":             {issuer("max_stale 1h\nmax_stale 2h"), "max_stale is given twice"},
		"max_stale too long":          {issuer("max_stale 25h"), `not "25h"`},
		"token_cache twice":           {option("token_cache off\ntoken_cache 5"), "token_cache is given twice"},
		"token_cache zero":            {option("token_cache 0"), `not "0"`},
		"token_cache negative":        {option("token_cache -1"), `not "-1"`},
		"token_cache is no number":    {option("token_cache on"), `not "on"`},
		"max_token_size twice":        {option("max_token_size 1KiB\nmax_token_size 2KiB"), "max_token_size is given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("%v, want %q and a line", err, test.want)
			}
		})
	}
}

// The same mistakes in JSON, and those that only show when keys are read.
func TestConfigurationErrors(t *testing.T) {
	minutes := func(n int) *caddy.Duration { return durationPointer(time.Duration(n) * time.Minute) }
	sixMinutes, minusOne := minutes(6), minutes(-1)
	for name, test := range map[string]struct {
		change func(*Handler)
		want   string
	}{
		"no issuer":         {func(h *Handler) { h.Issuers = nil }, "at least one issuer"},
		"null issuer":       {func(h *Handler) { h.Issuers = append(h.Issuers, nil) }, "an issuer is null"},
		"same issuer twice": {func(h *Handler) { h.Issuers = append(h.Issuers, h.Issuers[0]) }, "two issuer blocks"},
		"nameless beside another": {func(h *Handler) {
			h.Issuers = append(h.Issuers, &Issuer{JWKS: inline(ecOnce())})
		}, "must be the only one"},
		"unknown mode":              {func(h *Handler) { h.Mode = "open" }, `unknown mode "open"`},
		"negative size":             {func(h *Handler) { h.MaxTokenSize = -1 }, "max_token_size"},
		"size too large":            {func(h *Handler) { h.MaxTokenSize = maxMaxTokenSize + 1 }, "max_token_size"},
		"null source":               {func(h *Handler) { h.TokenFrom = []*TokenSource{nil} }, "a token source is null"},
		"source without name":       {func(h *Handler) { h.TokenFrom = []*TokenSource{{Source: "header"}} }, "needs the name"},
		"source query":              {func(h *Handler) { h.TokenFrom = []*TokenSource{{Source: "query", Name: "t"}} }, "unknown token source"},
		"source empty":              {func(h *Handler) { h.TokenFrom = []*TokenSource{{Name: "t"}} }, "unknown token source"},
		"cookie with scheme":        {func(h *Handler) { h.TokenFrom = []*TokenSource{{Source: "cookie", Name: "t", Scheme: "x"}} }, "no scheme"},
		"unknown algorithm":         {withIssuer(func(i *Issuer) { i.Algorithms = []string{"none"} }), `unknown algorithm "none"`},
		"leeway too long":           {withIssuer(func(i *Issuer) { i.Leeway = sixMinutes }), "leeway"},
		"leeway negative":           {withIssuer(func(i *Issuer) { i.Leeway = minusOne }), "leeway"},
		"nothing in jwks":           {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{} }), "exactly one of"},
		"inline and file":           {withIssuer(func(i *Issuer) { i.JWKS.File = "x" }), "exactly one of"},
		"inline null":               {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{Inline: jsontext.Value("null")} }), "key set"},
		"inline number":             {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{Inline: jsontext.Value("5")} }), "key set"},
		"inline text that is empty": {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{Inline: jsontext.Value(`""`)} }), "key set"},
		"inline text, no JSON":      {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{Inline: jsontext.Value(`"x"`)} }), "key set"},
		"no usable key":             {withKeys(), "no usable key"},
		"only a secret":             {withKeys(mcptest.NewKey("HS256", "s")), "is symmetric"},
		"the issuer is named":       {withKeys(), `issuer "` + issuerURL + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tryGate(t, test.change); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestInlineKeySet(t *testing.T) {
	set := mcptest.Set(rsaOnce())
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(set+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	modulus := rsaOnce().JWK()["n"].(string)
	t.Setenv("TEST_JWKS", set)
	t.Setenv("TEST_MODULUS", modulus)
	t.Setenv("TEST_EMPTY", "")
	for name, inline := range map[string]string{
		"object":                 set,
		"string":                 string(text),
		"environment":            `"{env.TEST_JWKS}"`,
		"file":                   `"{file.` + file + `}"`,
		"part of a string":       strings.Replace(string(text), modulus, "{env.TEST_MODULUS}", 1),
		"part of an object":      strings.Replace(set, modulus, "{env.TEST_MODULUS}", 1),
		"blanks around a string": `" \n` + string(text)[1:],
	} {
		t.Run(name, func(t *testing.T) {
			g, err := tryGate(t, withIssuer(func(i *Issuer) { i.JWKS = &JWKS{Inline: jsontext.Value(inline)} }))
			if err != nil {
				t.Fatal(err)
			}
			g.accepts(t, goodToken())
			g.refuses(t, foe().Token("alice", forUs), badSig)
		})
	}
	for name, test := range map[string]struct{ inline, want string }{
		"unknown variable":    {`"{env.TEST_UNKNOWN}"`, "placeholder {env.TEST_UNKNOWN} is empty"},
		"empty variable":      {`"{env.TEST_EMPTY}"`, "placeholder {env.TEST_EMPTY} is empty"},
		"empty in an object":  {strings.Replace(set, modulus, "{env.TEST_EMPTY}", 1), "placeholder {env.TEST_EMPTY} is empty"},
		"missing file":        {`"{file.` + file + `.not}"`, "is empty"},
		"another placeholder": {`"{http.request.header.X-Keys}"`, "key set"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryGate(t, withIssuer(func(i *Issuer) { i.JWKS = &JWKS{Inline: jsontext.Value(test.inline)} }))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}

	// the same in a Caddyfile
	for name, argument := range map[string]string{
		"object": "`" + set + "`", "environment": "{env.TEST_JWKS}", "file": "{file." + file + "}",
		"part of an object": "`" + strings.Replace(set, modulus, "{env.TEST_MODULUS}", 1) + "`",
	} {
		t.Run("Caddyfile "+name, func(t *testing.T) {
			h, err := parse("mcp_jwt {\nissuer " + issuerURL + " {\njwks inline " + argument + "\naudiences " + audience + "\n}\n}")
			if err != nil {
				t.Fatal(err)
			}
			newGate(t, func(g *Handler) { g.Issuers = h.Issuers }).accepts(t, goodToken())
		})
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	from := func(path string) func(*Handler) {
		return withIssuer(func(i *Issuer) { i.JWKS = &JWKS{File: path} })
	}
	good := write("good.json", mcptest.Set(rsaOnce()))
	t.Setenv("TEST_DIR", dir)
	for _, path := range []string{good, "{env.TEST_DIR}/good.json"} {
		newGate(t, from(path)).accepts(t, goodToken())
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.json"): "missing.json",
		dir:                                "not a regular file",
		write("empty.json", ""):            "key set",
		write("broken.json", `{"keys":[`):  "key set",
		write("none.json", `{"keys":[]}`):  "no usable key",
		write("large.json", strings.Repeat(" ", maxKeySetSize+1)): "larger than",
		"{env.TEST_UNKNOWN}": "placeholder {env.TEST_UNKNOWN} is empty",
	} {
		if _, err := tryGate(t, from(path)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// Whatever a user writes may come from the environment, and nothing that
// comes from there may be empty.
func TestPlaceholdersInConfiguration(t *testing.T) {
	texts := map[string]string{
		"MODE": "optional", "ISSUER": issuerURL, "AUDIENCE": audience, "CLAIM": "aud", "ALG": "RS256", "REQUIRED": "jti", "TYPE": "JWT",
		"USER": "email", "REALM": "tools", "SOURCE": "header", "NAME": "X-Token", "SCHEME": "Token", "FILE": filepath.Join(t.TempDir(), "keys.json"),
	}
	if err := os.WriteFile(texts["FILE"], []byte(mcptest.Set(rsaOnce())), 0o600); err != nil {
		t.Fatal(err)
	}
	configure := func(t *testing.T) (*Handler, error) {
		return parse(`mcp_jwt {
			mode {env.T_MODE}
			issuer {env.T_ISSUER} {
				jwks file {env.T_FILE}
				audiences other {env.T_AUDIENCE}
				audience_claim {env.T_CLAIM}
				algorithms ES256 {env.T_ALG}
				required_claims {env.T_REQUIRED}
				token_types {env.T_TYPE}
			}
			token_from {env.T_SOURCE} {env.T_NAME} {env.T_SCHEME}
			user_claim {env.T_USER}
			realm "the {env.T_REALM}"
		}`)
	}
	for name, text := range texts {
		t.Setenv("T_"+name, text)
	}
	h, err := configure(t)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, func(g *Handler) { *g = *h })
	r := post("")
	r.Header.Set("X-Token", "Token "+trusted().Token("alice", forUs, claims{"jti": "1", "email": "alice@example.com"}))
	if w := g.do(t, r); g.calls != 1 || g.placeholder("http.auth.user.id") != "alice@example.com" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
	r = post("")
	r.Header.Set("X-Token", "Token "+goodToken()) // jti is required
	w := g.do(t, r)
	if w.Body.String() != "authentication failure: "+missing("jti") || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), `Bearer realm="the tools"`) {
		t.Errorf("%q with %v", w.Body, w.Header())
	}

	for name := range texts {
		t.Run("empty "+name, func(t *testing.T) {
			t.Setenv("T_"+name, "")
			h, err := configure(t)
			if err != nil {
				t.Fatal(err)
			}
			_, err = tryGate(t, func(g *Handler) { *g = *h })
			if want := "placeholder {env.T_" + name + "} is empty"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
	for name, bad := range map[string]string{"MODE": "open", "ALG": "none", "SOURCE": "query", "REALM": "a\nb"} {
		t.Run("wrong "+name, func(t *testing.T) {
			t.Setenv("T_"+name, bad)
			h, err := configure(t)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tryGate(t, func(g *Handler) { *g = *h }); err == nil {
				t.Errorf("%s %q loads", name, bad)
			}
		})
	}
}

// The public sample of the quickstart.
func TestSampleTokens(t *testing.T) {
	g := newGate(t, func(h *Handler) {
		h.Issuers = []*Issuer{{Issuer: "solo.io", JWKS: &JWKS{File: "testdata/jwks.json"}}}
	})
	g.verifier.now = func() time.Time { return time.Unix(1_800_000_000, 0) } // within the validity of the tokens
	for _, name := range []string{"alice", "bob"} {
		text, err := os.ReadFile("testdata/" + name + ".jwt")
		if err != nil {
			t.Fatal(err)
		}
		token := strings.TrimSpace(string(text))
		g.accepts(t, token)
		if g.identity.Subject != name || g.identity.Issuer != "solo.io" {
			t.Errorf("identity %+v", g.identity)
		}
		g.refuses(t, token[:len(token)-4]+"AAAA", badSig)
	}
}

func TestModuleID(t *testing.T) {
	info := Handler{}.CaddyModule()
	if info.ID != "http.handlers.mcp_jwt" {
		t.Errorf("ID %s", info.ID)
	}
	if first, second := info.New(), info.New(); first == second {
		t.Error("New returns the same value twice")
	}
}
