package jwtauth

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// What the JSON of a configuration says about keys that are fetched.
func TestJSONOfRemoteKeys(t *testing.T) {
	const text = `{"issuers":[{"issuer":"https://a.example.com"},` +
		`{"issuer":"https://b.example.com","jwks":{"discover":true,"tls_ca":"/ca.pem","proxy":"http://proxy:3128"},"max_stale":"90m"},` +
		`{"issuer":"c","jwks":{"url":"https://keys.example.com/c"},"max_stale":0}],"token_cache":0}`
	h := new(Handler)
	if err := caddy.StrictUnmarshalJSON([]byte(text), h); err != nil {
		t.Fatal(err)
	}
	b := h.Issuers[1]
	if h.TokenCache == nil || *h.TokenCache != 0 || time.Duration(*b.MaxStale) != 90*time.Minute || *h.Issuers[2].MaxStale != 0 ||
		!b.JWKS.Discover || b.JWKS.TLSCA != "/ca.pem" || b.JWKS.Proxy != "http://proxy:3128" || !h.Issuers[0].keys().Discover {
		t.Errorf("read %+v", h)
	}
	if err := h.check(); err != nil {
		t.Error(err)
	}
	again, err := json.Marshal(h)
	if want := strings.Replace(text, `"90m"`, "5400000000000", 1); err != nil || string(again) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, again, want)
	}
	if err := caddy.StrictUnmarshalJSON([]byte(`{"issuers":[{"jwks":{"ca":"x"}}]}`), new(Handler)); err == nil {
		t.Error("an unknown member of jwks is read")
	}
}

// Every form of the options about keys that are fetched, and the JSON it
// stands for.
func TestCaddyfileOfRemoteKeys(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"an argument":      {"mcp_jwt https://a.example.com", `{"issuers":[{"issuer":"https://a.example.com"}]}`},
		"two arguments":    {"mcp_jwt https://a.example.com http://b/c", `{"issuers":[{"issuer":"https://a.example.com"},{"issuer":"http://b/c"}]}`},
		"argument, block":  {"mcp_jwt https://a.example.com {\nmode optional\n}", `{"mode":"optional","issuers":[{"issuer":"https://a.example.com"}]}`},
		"argument, issuer": {"mcp_jwt https://a.example.com {\nissuer https://b.example.com\n}", `{"issuers":[{"issuer":"https://a.example.com"},{"issuer":"https://b.example.com"}]}`},
		"a placeholder":    {"mcp_jwt {env.ISSUER}", `{"issuers":[{"issuer":"{env.ISSUER}"}]}`},
		"without jwks": {
			"mcp_jwt {\nissuer https://a.example.com {\naudiences x\nmax_stale 90m\n}\n}",
			`{"issuers":[{"issuer":"https://a.example.com","audiences":["x"],"max_stale":5400000000000}]}`,
		},
		"discover": {
			"mcp_jwt {\nissuer https://a.example.com {\njwks discover\n}\n}",
			`{"issuers":[{"issuer":"https://a.example.com","jwks":{"discover":true}}]}`,
		},
		"discover with options": {
			"mcp_jwt {\nissuer https://a.example.com {\njwks discover {\nproxy http://proxy:3128\ntls_ca /ca.pem\n}\nmax_stale 0\n}\n}",
			`{"issuers":[{"issuer":"https://a.example.com","jwks":{"discover":true,"tls_ca":"/ca.pem","proxy":"http://proxy:3128"},"max_stale":0}]}`,
		},
		"url": {
			"mcp_jwt {\nissuer urn:acme {\njwks url http://10.0.0.1/keys\n}\n}",
			`{"issuers":[{"issuer":"urn:acme","jwks":{"url":"http://10.0.0.1/keys"}}]}`,
		},
		"url with options": {
			"mcp_jwt {\nissuer {\njwks url https://a.example.com/keys {\ntls_ca {env.CA}\n}\nmax_stale 1d\n}\n}",
			`{"issuers":[{"jwks":{"url":"https://a.example.com/keys","tls_ca":"{env.CA}"},"max_stale":86400000000000}]}`,
		},
		"url with an empty block": {
			"mcp_jwt {\nissuer x {\njwks url https://a.example.com/keys {\n}\n}\n}",
			`{"issuers":[{"issuer":"x","jwks":{"url":"https://a.example.com/keys"}}]}`,
		},
		"cache":      {"mcp_jwt https://a.example.com {\ntoken_cache 50000\n}", `{"issuers":[{"issuer":"https://a.example.com"}],"token_cache":50000}`},
		"no cache":   {"mcp_jwt https://a.example.com {\ntoken_cache off\n}", `{"issuers":[{"issuer":"https://a.example.com"}],"token_cache":0}`},
		"full cache": {"mcp_jwt https://a.example.com {\ntoken_cache 1000000\n}", `{"issuers":[{"issuer":"https://a.example.com"}],"token_cache":1000000}`},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := parse(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := json.Marshal(h); err != nil || string(got) != test.want {
				t.Errorf("%v\ngot  %s\nwant %s", err, got, test.want)
			}
		})
	}
}

func TestCaddyfileErrorsOfRemoteKeys(t *testing.T) {
	issuer := func(lines string) string { return "mcp_jwt {\nissuer https://a.example.com {\n" + lines + "\n}\n}" }
	for name, test := range map[string]struct{ text, want string }{
		"issuer is no URL":         {"mcp_jwt acme", "discovery needs an issuer whose name is an http(s) URL"},
		"issuer by another scheme": {"mcp_jwt ftp://a.example.com", "discovery needs an issuer"},
		"issuer with a user":       {"mcp_jwt https://u:p@a.example.com", "discovery needs an issuer"},
		"issuer is empty":          {`mcp_jwt ""`, "discovery needs the name of the issuer"},
		"issuer twice":             {"mcp_jwt https://a.example.com https://a.example.com", `two issuer blocks for "https://a.example.com"`},
		"issuer again in a block":  {"mcp_jwt https://a.example.com {\nissuer https://a.example.com\n}", "two issuer blocks"},
		"nameless beside it":       {"mcp_jwt https://a.example.com {\nissuer {\njwks url https://a.example.com/keys\n}\n}", "must be the only one"},
		"block is no URL":          {"mcp_jwt {\nissuer acme {\naudiences x\n}\n}", "discovery needs an issuer"},
		"block without a name":     {"mcp_jwt {\nissuer {\naudiences x\n}\n}", "discovery needs the name of the issuer"},
		"discover without a name":  {"mcp_jwt {\nissuer {\njwks discover\n}\n}", "discovery needs the name of the issuer"},
		"discover something":       {issuer("jwks discover x"), "jwks takes"},
		"url of nothing":           {issuer("jwks url"), "jwks takes"},
		"two urls":                 {issuer("jwks url https://a/ https://b/"), "jwks takes"},
		"url is no URL":            {issuer("jwks url keys"), `"keys" is not the URL of a key set`},
		"url by another scheme":    {issuer("jwks url ftp://a/keys"), "is not https"},
		"url with a user":          {issuer("jwks url https://u:p@a/keys"), "is not the URL of a key set"},
		"jwks twice":               {issuer("jwks discover\njwks url https://a/"), "jwks is given twice"},
		"unknown option":           {issuer("jwks discover {\nca /ca.pem\n}"), `unrecognized option "ca" of jwks`},
		"tls_ca of nothing":        {issuer("jwks discover {\ntls_ca\n}"), "Testfile:4"},
		"two tls_ca":               {issuer("jwks discover {\ntls_ca a b\n}"), "Testfile:4"},
		"tls_ca twice":             {issuer("jwks discover {\ntls_ca a\ntls_ca b\n}"), "Testfile:5"},
		"proxy of nothing":         {issuer("jwks url https://a/ {\nproxy\n}"), "Testfile:4"},
		"tls_ca of a file":         {issuer("jwks file /keys.json {\ntls_ca /ca.pem\n}"), "only jwks url and jwks discover have options"},
		"tls_ca of the issuer":     {issuer("tls_ca /ca.pem"), `unrecognized option "tls_ca" of issuer`},
		"max_stale negative":       {issuer("max_stale -1s"), "max_stale must be a duration between 0 and 24h"},
		"max_stale for ever":       {issuer("max_stale forever"), "max_stale must be a duration"},
		"max_stale without unit":   {issuer("max_stale 60"), `not "60"`},
		"max_stale of nothing":     {issuer("max_stale"), "Testfile:3"},
		"cache too large":          {"mcp_jwt https://a.example.com {\ntoken_cache 1000001\n}", "up to 1000000"},
		"cache with a unit":        {"mcp_jwt https://a.example.com {\ntoken_cache 10MiB\n}", `not "10MiB"`},
		"cache of nothing":         {"mcp_jwt https://a.example.com {\ntoken_cache\n}", "Testfile:2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("%v, want %q and a line", err, test.want)
			}
		})
	}
}

// What only JSON can say wrongly, and what is known when placeholders are.
func TestConfigurationErrorsOfRemoteKeys(t *testing.T) {
	t.Setenv("TEST_KEYS", "ftp://keys.example.com")
	big, negative := maxCacheEntries+1, -1
	for name, test := range map[string]struct {
		change func(*Handler)
		want   string
	}{
		"url and discover":     {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{URL: "https://a/", Discover: true} }), "exactly one of"},
		"inline and url":       {withIssuer(func(i *Issuer) { i.JWKS.URL = "https://a/" }), "exactly one of"},
		"tls_ca of inline":     {withIssuer(func(i *Issuer) { i.JWKS.TLSCA = "/ca.pem" }), "tls_ca and proxy go with"},
		"proxy of a file":      {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{File: "x", Proxy: "http://p"} }), "tls_ca and proxy go with"},
		"url is wrong later":   {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{URL: "{env.TEST_KEYS}"} }), "is not https"},
		"url is empty later":   {withIssuer(func(i *Issuer) { i.JWKS = &JWKS{URL: "{env.TEST_NO_KEYS}"} }), "is empty"},
		"issuer wrong later":   {func(h *Handler) { h.Issuers = []*Issuer{{Issuer: "{env.TEST_KEYS}"}} }, "discovery needs an issuer"},
		"max_stale too long":   {withIssuer(func(i *Issuer) { i.MaxStale = durationPointer(maxMaxStale + 1) }), "max_stale"},
		"max_stale negative":   {withIssuer(func(i *Issuer) { i.MaxStale = durationPointer(-1) }), "max_stale"},
		"token_cache negative": {func(h *Handler) { h.TokenCache = &negative }, "token_cache"},
		"token_cache too big":  {func(h *Handler) { h.TokenCache = &big }, "token_cache"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tryGate(t, test.change); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
