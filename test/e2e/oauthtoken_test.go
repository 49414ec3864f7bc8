package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

const (
	badType      = "the token is invalid or malformed: token type not accepted"
	badMalformed = "the token header is malformed"
)

// TestForeignTokens brings tokens that the OAuth server has made for something else: A40, A41, and MCP's rule that a
// token is for one server. Beside each stands the lawful one.
func TestForeignTokens(t *testing.T) {
	server := startOAuth(t)
	upstream := startRecorder(t, startDemo(t), (*httptest.Server).Start)
	g := server.startLoginGateway(t, "allow true", upstream.URL)

	mine := server.login(t, "alice", g.url(), "mcp:use")
	idToken, _ := server.login(t, "alice", "", "openid").Extra("id_token").(string)
	if idToken == "" || mine.RefreshToken == "" {
		t.Fatal("the login gave no ID token or no refresh token")
	}
	callers := map[string]caller{
		"ID token":                {token: idToken, refusal: badAudience},
		"refresh token":           {token: mine.RefreshToken, refusal: badMalformed},
		"for another server":      {token: server.login(t, "alice", "https://other.example.com/mcp", "mcp:use").AccessToken, refusal: badAudience},
		"for the site, not /mcp":  {token: server.login(t, "alice", g.origin(), "mcp:use").AccessToken, refusal: badAudience},
		"for a path below":        {token: server.login(t, "alice", g.url()+"/more", "mcp:use").AccessToken, refusal: badAudience},
		"for a slash more":        {token: server.login(t, "alice", g.url()+"/", "mcp:use").AccessToken, refusal: badAudience},
		"for no server (opaque)":  {token: server.login(t, "alice", "", "mcp:use").AccessToken, refusal: badMalformed},
		"changed after signing":   {token: withBadSignature(mine.AccessToken), refusal: badSignature},
		"signed by somebody else": {token: startOAuth(t).login(t, "alice", g.url(), "mcp:use").AccessToken, refusal: badIssuer},
	}
	claims := func(changes map[string]any) map[string]any {
		c := map[string]any{
			"iss": server.issuer, "sub": "alice", "aud": g.url(), "client_id": "c", "scope": "mcp:use",
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		}
		for name, value := range changes {
			c[name] = value
		}
		return c
	}
	// the same claims in another kind of token, signed with the same key
	for _, kind := range []string{
		"logout+jwt", "application/logout+jwt", "LOGOUT+JWT", "dpop+jwt", "secevent+jwt", "oauth-id-jag+jwt", "token-introspection+jwt",
		"oauth-authz-req+jwt", "client-authentication+jwt", "kb+jwt",
	} {
		callers["typ "+kind] = caller{token: server.sign(t, map[string]any{"typ": kind}, claims(nil)), refusal: badType}
	}
	// bound to a key that plain Bearer proves nothing about
	thumbprint := sha256.Sum256([]byte("a key"))
	for _, member := range []string{"jkt", "x5t#S256", "jwk", "kid"} {
		cnf := map[string]any{"cnf": map[string]any{member: base64.RawURLEncoding.EncodeToString(thumbprint[:])}}
		callers["bound by "+member] = caller{
			token: server.sign(t, map[string]any{"typ": "at+jwt"}, claims(cnf)), refusal: badType,
		}
	}
	wantCallers(t, g.url(), callers)
	wantCallers(t, g.url(), callers) // nor the second time
	upstream.wantNone(t)

	wantCallers(t, g.url(), map[string]caller{
		"access token":        {token: mine.AccessToken, name: "alice"},
		"signed, at+jwt":      {token: server.sign(t, map[string]any{"typ": "at+jwt"}, claims(nil)), name: "alice"},
		"signed, JWT":         {token: server.sign(t, map[string]any{"typ": "JWT"}, claims(nil)), name: "alice"},
		"for several servers": {token: server.sign(t, nil, claims(map[string]any{"aud": []string{"https://other.example.com/mcp", g.url()}})), name: "alice"},
	})
	upstream.wantWithout(t, mine.AccessToken)

	// and what is right there is wrong at another gateway in front of the same server
	other := server.startLoginGateway(t, "allow true", startDemo(t))
	if err := (caller{token: mine.AccessToken, refusal: badAudience}).check(t.Context(), http.DefaultClient, other.url()); err != nil {
		t.Error(err)
	}
}
