package jwtauth

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// A token that is bound to its sender is no bearer token; only a certificate
// is a proof that is understood.
func TestSenderBoundToken(t *testing.T) {
	thumb := mcptest.Base64(make([]byte, 32))
	var attacks []attack
	for name, cnf := range map[string]any{
		"DPoP": claims{"jkt": thumb}, "both": claims{"jkt": thumb, "x5t#S256": thumb}, "certificate": claims{"x5t#S256": thumb},
		"key": claims{"jwk": foe().Key.JWK()}, "something new": claims{"x": 1}, "no object": "x", "list": []any{claims{"jkt": thumb}},
		"nothing": claims{}, "no text": claims{"x5t#S256": 1}, "empty": claims{"x5t#S256": ""}, "too short": claims{"x5t#S256": thumb[:40]},
		"hex": claims{"x5t#S256": "0000000000000000000000000000000000000000000000000000000000000000"}, "SHA-1": claims{"x5t": thumb},
	} {
		attacks = append(attacks, attack{name, trusted().Token("alice", forUs, claims{"cnf": cnf}), notType})
	}
	attacks = append(attacks, attack{"null", extended(`"cnf":null`), notType})
	newGate(t).withstands(t, attacks)
	// only the claim binds, not one that is called so elsewhere
	newGate(t).accepts(t, extended(`"Cnf":{"jkt":"x"},"act":{"cnf":{"jkt":"x"}}`))
}

// withCertificate is a request on a connection whose client has shown it.
func withCertificate(token string, raw ...string) *http.Request {
	r := post(token)
	r.TLS = new(tls.ConnectionState)
	for _, text := range raw {
		r.TLS.PeerCertificates = append(r.TLS.PeerCertificates, &x509.Certificate{Raw: []byte(text)})
	}
	return r
}

// A token that is bound to a certificate works on a connection that was made
// with it (RFC 8705 section 3), in the cache and out of it.
func TestCertificateBoundToken(t *testing.T) {
	sum := sha256.Sum256([]byte("mine"))
	bound := trusted().Token("alice", forUs, claims{"cnf": claims{"x5t#S256": mcptest.Base64(sum[:])}})
	off := 0
	for name, entries := range map[string]*int{"cached": nil, "not cached": &off} {
		g := newGate(t, func(h *Handler) { h.TokenCache = entries })
		for range 2 {
			for _, r := range []*http.Request{
				post(bound), withCertificate(bound), withCertificate(bound, "another"), withCertificate(bound, "another", "mine"), withCertificate(bound, ""),
			} {
				g.checkRefused(t, g.do(t, r), notType)
			}
			if w := g.do(t, withCertificate(bound, "mine")); g.calls != 1 || g.identity.Subject != "alice" {
				t.Errorf("%s: %d %q", name, w.Code, w.Body)
			}
			if g.do(t, withCertificate(bound, "mine", "its issuer")); g.calls != 1 {
				t.Errorf("%s: a chain is refused", name)
			}
			// a certificate changes nothing for a token that is not bound
			if g.do(t, withCertificate(goodToken(), "another")); g.calls != 1 {
				t.Errorf("%s: a plain token is refused", name)
			}
		}
	}
	// modes: permissive passes it without claims, optional does not
	g := newGate(t, func(h *Handler) { h.Mode = ModeOptional })
	g.checkRefused(t, g.do(t, post(bound)), notType)
	g = newGate(t, func(h *Handler) { h.Mode = ModePermissive })
	if g.do(t, post(bound)); g.calls != 1 || !g.identity.Anonymous || g.identity.Claims != nil {
		t.Errorf("permissive: %+v", g.identity)
	}
}
