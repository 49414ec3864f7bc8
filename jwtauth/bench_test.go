package jwtauth

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// tokensToVerify are the tokens of the benchmarks, with the claims that
// access tokens usually have.
func tokensToVerify() map[string]string {
	usual := claims{
		"aud": audience, "jti": "4f8e0f4e-6f0a-4b0f-8f0d-0f4e6f0a4b0f", "client_id": "agent", "scope": "tools:read tools:write",
		"groups": []string{"dev", "ops"}, "email": "alice@example.com", "email_verified": true,
	}
	return map[string]string{"RS256": trusted().Token("alice", usual), "ES256": trustedEC().Token("alice", usual)}
}

// BenchmarkVerify verifies a token that has not been seen before.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			off := 0
			g := newGate(b, func(h *Handler) { h.TokenCache = &off })
			raw := tokensToVerify()[alg]
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.verifier.verify(b.Context(), raw, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBareRSA is the part of verifying an RS256 token that nothing can
// save: its hash, and RSA.
func BenchmarkBareRSA(b *testing.B) {
	raw := tokensToVerify()["RS256"]
	dot := strings.LastIndexByte(raw, '.')
	signature, err := base64.RawURLEncoding.DecodeString(raw[dot+1:])
	if err != nil {
		b.Fatal(err)
	}
	key := &rsaOnce().Private.(*rsa.PrivateKey).PublicKey
	signed := []byte(raw[:dot])
	b.ReportAllocs()
	for b.Loop() {
		digest := sha256.Sum256(signed)
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServe is what mcp_jwt costs a request, with a token it knows.
func BenchmarkServe(b *testing.B) {
	g := newGate(b)
	raw := tokensToVerify()["RS256"]
	server := new(caddyhttp.Server) // one for all requests, as in a gateway
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(mcptest.Request(siteURL, raw, mcptest.Ping), caddy.NewReplacer(), w, server)
		b.StartTimer()
		if err := g.ServeHTTP(w, r, caddyhttp.HandlerFunc(g.upstream)); err != nil || g.calls == 0 {
			b.Fatal(err)
		}
	}
}
