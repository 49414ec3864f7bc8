package jwtauth

import (
	"net/http"
	"testing"

	"github.com/caddymcp/gateway/internal/reqctx"
)

func TestModes(t *testing.T) {
	const (
		refused = iota // 401, 400
		anonymous
		alice
	)
	good := goodToken()
	for _, test := range []struct {
		name                         string
		authorization                []string
		strict, optional, permissive int
	}{
		{"no token", nil, refused, anonymous, anonymous},
		{"good token", []string{"Bearer " + good}, alice, alice, alice},
		{"bad signature", []string{"Bearer " + foe().Token("alice", forUs)}, refused, refused, anonymous},
		{"expired", []string{"Bearer " + trusted().Token("alice", forUs, claims{"exp": 1})}, refused, refused, anonymous},
		{"no JWS", []string{"Bearer x"}, refused, refused, anonymous},
		{"empty", []string{"Bearer "}, refused, refused, anonymous},
		{"two", []string{"Bearer " + good, "Bearer " + good}, refused, refused, anonymous},
		{"another scheme", []string{"Basic eDp5"}, refused, anonymous, anonymous},
	} {
		for mode, want := range map[string]int{"": test.strict, ModeStrict: test.strict, ModeOptional: test.optional, ModePermissive: test.permissive} {
			t.Run(test.name+" "+mode, func(t *testing.T) {
				g := newGate(t, func(h *Handler) { h.Mode = mode })
				w := g.do(t, with(http.Header{"Authorization": test.authorization}))
				if want == refused {
					if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" || g.calls != 0 {
						t.Errorf("%d %q, upstream called %d times", w.Code, w.Body, g.calls)
					}
					return
				}
				if w.Code != http.StatusOK || g.calls != 1 {
					t.Fatalf("%d %q", w.Code, w.Body)
				}
				if _, ok := g.seen.Header["Authorization"]; ok {
					t.Error("the credential travels on")
				}
				if g.identity.Anonymous != (want == anonymous) {
					t.Errorf("identity %+v", g.identity)
				}
				if want == alice {
					if g.identity.Subject != "alice" || g.placeholder("http.auth.user.id") != "alice" {
						t.Errorf("identity %+v", g.identity)
					}
					return
				}
				// anonymous: nothing of a token that was not accepted stays
				i := g.identity
				if i.Issuer != "" || i.Subject != "" || i.Claims != nil || !i.Expires.IsZero() || i.ForwardCredential || i.Login == nil {
					t.Errorf("identity %+v", i)
				}
				for _, name := range []string{"http.auth.user.id", "http.auth.user.sub", "http.auth.user.aud", "mcp.issuer"} {
					if text := g.placeholder(name); text != "" {
						t.Errorf("{%s} is %q", name, text)
					}
				}
			})
		}
	}
}

// Whatever the request context holds already, mcp_jwt says it anew.
func TestIdentityIsNotInherited(t *testing.T) {
	for _, mode := range []string{ModeOptional, ModePermissive} {
		g := newGate(t, func(h *Handler) { h.Mode = mode })
		r, state := reqctx.Ensure(post(""))
		state.Identity = &reqctx.Identity{Subject: "admin", Claims: reqctx.Claims(`{"sub":"admin"}`)}
		if g.do(t, r); g.calls != 1 || !g.identity.Anonymous || g.identity.Subject != "" {
			t.Errorf("%s: identity %+v", mode, g.identity)
		}
	}
	g := newGate(t)
	r, state := reqctx.Ensure(post(""))
	state.Identity = &reqctx.Identity{Subject: "admin"}
	g.ignored(t, g.do(t, r))
	if state.Identity != nil {
		t.Errorf("identity %+v", state.Identity)
	}
}
