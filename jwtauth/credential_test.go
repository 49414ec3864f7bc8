package jwtauth

import (
	"net/http"
	"testing"
)

func TestTokenSources(t *testing.T) {
	good := goodToken()
	for _, test := range []struct {
		name   string
		source TokenSource
		header string
		value  string
		ok     bool
	}{
		{"bare header", TokenSource{Source: "header", Name: "X-Token"}, "X-Token", good, true},
		{"bare header, name in lower case", TokenSource{Source: "header", Name: "x-token"}, "X-Token", good, true},
		{"bare header, with a scheme", TokenSource{Source: "header", Name: "X-Token"}, "X-Token", "Bearer " + good, false},
		{"bare header, empty", TokenSource{Source: "header", Name: "X-Token"}, "X-Token", "", false},
		{"header with scheme", TokenSource{Source: "header", Name: "X-Token", Scheme: "Token"}, "X-Token", "Token " + good, true},
		{"header with scheme, other case", TokenSource{Source: "header", Name: "X-Token", Scheme: "Token"}, "X-Token", "tOKEN " + good, true},
		{"header with scheme, without", TokenSource{Source: "header", Name: "X-Token", Scheme: "Token"}, "X-Token", good, false},
		{"header with scheme, another", TokenSource{Source: "header", Name: "X-Token", Scheme: "Token"}, "X-Token", "Bearer " + good, false},
		{"Authorization means Bearer", TokenSource{Source: "header", Name: "authorization"}, "Authorization", "Bearer " + good, true},
		{"Authorization, bare", TokenSource{Source: "header", Name: "Authorization"}, "Authorization", good, false},
		{"Authorization with scheme", TokenSource{Source: "header", Name: "Authorization", Scheme: "JWT"}, "Authorization", "JWT " + good, true},
		{"Authorization with scheme, Bearer", TokenSource{Source: "header", Name: "Authorization", Scheme: "JWT"}, "Authorization", "Bearer " + good, false},
		{"cookie", TokenSource{Source: "cookie", Name: "token"}, "Cookie", "token=" + good, true},
		{"cookie among others", TokenSource{Source: "cookie", Name: "token"}, "Cookie", "a=b; token=" + good + "; c=d", true},
		{"cookie in quotes", TokenSource{Source: "cookie", Name: "token"}, "Cookie", `token="` + good + `"`, true},
		{"cookie in other case", TokenSource{Source: "cookie", Name: "token"}, "Cookie", "Token=" + good, false},
		{"cookie, empty", TokenSource{Source: "cookie", Name: "token"}, "Cookie", "token=", false},
		{"cookie, bad token", TokenSource{Source: "cookie", Name: "token"}, "Cookie", "token=x" + good, false},
		{"not that header", TokenSource{Source: "header", Name: "X-Token"}, "Authorization", "Bearer " + good, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGate(t, func(h *Handler) { h.TokenFrom = []*TokenSource{&test.source} })
			r := with(http.Header{"Origin": {"https://mcp.example.com"}, test.header: {test.value}})
			w := g.do(t, r)
			if (g.calls == 1) != test.ok {
				t.Errorf("%d %q", w.Code, w.Body)
			}
			if !test.ok && w.Code != http.StatusUnauthorized {
				t.Errorf("status %d", w.Code)
			}
		})
	}
}

// Several sources are several ways to send one credential.
func TestFirstOfSeveralSources(t *testing.T) {
	g := newGate(t, func(h *Handler) {
		h.TokenFrom = []*TokenSource{
			{Source: "header", Name: "X-First"}, {Source: "header", Name: "X-Second", Scheme: "Token"}, {Source: "cookie", Name: "token"},
		}
	})
	good := goodToken()
	for name, value := range map[string]string{"X-First": good, "X-Second": "Token " + good, "Cookie": "token=" + good} {
		r := with(http.Header{"Origin": {"https://mcp.example.com"}, name: {value}})
		if w := g.do(t, r); g.calls != 1 {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
	}
	// one of them configured is not the default any more
	g.ignored(t, g.do(t, post(good)))
}
