package jwtauth

import (
	"strings"
	"testing"
)

func never(string) bool { return false }

func TestResourceURL(t *testing.T) {
	for text, metadata := range map[string]string{
		"https://mcp.example.com":          "https://mcp.example.com/.well-known/oauth-protected-resource",
		"https://mcp.example.com/":         "https://mcp.example.com/.well-known/oauth-protected-resource",
		"https://mcp.example.com/mcp":      "https://mcp.example.com/.well-known/oauth-protected-resource/mcp",
		"https://mcp.example.com/mcp/":     "https://mcp.example.com/.well-known/oauth-protected-resource/mcp/",
		"https://mcp.example.com:8443/a/b": "https://mcp.example.com:8443/.well-known/oauth-protected-resource/a/b",
		"http://127.0.0.1:8080/mcp":        "http://127.0.0.1:8080/.well-known/oauth-protected-resource/mcp",
		"http://[::1]:8080/mcp":            "http://[::1]:8080/.well-known/oauth-protected-resource/mcp",
		"https://mcp.example.com/a,b;c=1":  "https://mcp.example.com/.well-known/oauth-protected-resource/a,b;c=1",
	} {
		u, err := parseResourceURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := metadataURL(u); got != metadata {
			t.Errorf("%s: %s, want %s", text, got, metadata)
		}
	}
	for _, text := range []string{
		"", "mcp", "/mcp", "mcp.example.com/mcp", "ftp://mcp.example.com", "https:///mcp", "https:mcp", "//mcp.example.com/mcp",
		"https://user@mcp.example.com", "https://mcp.example.com/mcp?x", "https://mcp.example.com/mcp?", "https://mcp.example.com/mcp#x", "https://mcp.example.com/mcp#",
		"https://mcp.example.com/a/../b", "https://mcp.example.com/./a", "https://mcp.example.com//a", "https://mcp.example.com/a//", "https://mcp.example.com/a%2fb",
		`https://mcp.example.com/"`, `https://mcp.example.com/\`, "https://mcp.example.com/a b", "https://mcp.example.com/a\r\nX: y", "https://mcp.example.com/ü", "https://mcp.example.com/\x00",
	} {
		if u, err := parseResourceURL(text); err == nil {
			t.Errorf("%q is taken for %s", text, u)
		}
	}
}

func TestResourceCheck(t *testing.T) {
	good := Resource{URL: audience, Scopes: []string{"a:b", "c"}, Documentation: "https://x.example/", Policy: "http://x.example/p", TOS: "https://x.example/t?v=1"}
	if err := good.check(never); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Resource){
		"url":            func(r *Resource) { r.URL = "x" },
		"scope":          func(r *Resource) { r.Scopes = []string{"a b"} },
		"empty scope":    func(r *Resource) { r.Scopes = []string{""} },
		"quoted scope":   func(r *Resource) { r.Scopes = []string{`a"`} },
		"offline access": func(r *Resource) { r.Scopes = []string{"a", "offline_access"} },
		"documentation":  func(r *Resource) { r.Documentation = "x" },
		"policy":         func(r *Resource) { r.Policy = "javascript:alert(1)" },
		"tos":            func(r *Resource) { r.TOS = "https://" },
	} {
		r := good
		change(&r)
		if r.check(never) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestResourceNeedsIssuers(t *testing.T) {
	withResource := func(h *Handler) { h.Resource = &Resource{URL: audience} }
	for name, test := range map[string]struct {
		change  func(*Issuer)
		problem string
	}{
		"no URL":        {func(i *Issuer) { i.Issuer = "internal" }, "issuer whose name is an http(s) URL"},
		"no name":       {func(i *Issuer) { i.Issuer = "" }, "issuer whose name is an http(s) URL"},
		"another claim": {func(i *Issuer) { i.AudienceClaim, i.Audiences = "client_id", nil }, "audiences must be given"},
	} {
		_, err := tryGate(t, withResource, withIssuer(test.change))
		if err == nil || !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*Issuer){
		"another claim, with audiences": func(i *Issuer) { i.AudienceClaim = "client_id" },
		"the usual claim":               func(i *Issuer) { i.AudienceClaim, i.Audiences = "aud", nil },
	} {
		if _, err := tryGate(t, withResource, withIssuer(change)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The scopes a token lacks are named alone: those of the resource are for the
// first token.
func TestStepUpNamesTheResource(t *testing.T) {
	g := newGate(t, func(h *Handler) { h.Resource = &Resource{URL: audience, Scopes: []string{"mcp:use"}} })
	got := g.challenger.insufficientScope([]string{"a", "b"})
	want := `Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp", error="insufficient_scope", scope="a b"`
	if got.status != 403 || got.challenge != want {
		t.Errorf("%d %s, want %s", got.status, got.challenge, want)
	}
}
