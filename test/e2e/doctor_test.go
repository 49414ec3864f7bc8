package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// What `caddy mcp doctor` says of an OAuth server that others have written holds: a gateway that is configured as it
// says lets in who has a token of that server, and only for this resource.
func TestDoctor(t *testing.T) {
	provider := startOIDC(t, "", "first")

	r := run(t, caddyCommand(t, "mcp", "doctor", "--resource", oidcAudience, "--json", provider.issuer))
	var found struct {
		OK, Discoverable bool
		Caddyfile        string
		Places           []struct{ URL, Problem string }
		Keys             []struct{ Kid, Alg, Problem string }
		Findings         []struct{ Level, Subject, Message string }
	}
	if err := json.Unmarshal([]byte(r.out), &found); err != nil || r.status != 0 {
		t.Fatalf("exit %d, %v", r.status, err)
	}
	if !found.OK || !found.Discoverable || len(found.Keys) != len(oidcKinds) {
		t.Errorf("%+v", found)
	}
	for _, key := range found.Keys {
		if key.Problem != "" {
			t.Errorf("%+v", key)
		}
	}
	levels := map[string]string{}
	for _, f := range found.Findings {
		levels[f.Subject] = f.Level
	}
	for subject, want := range map[string]string{
		"discovery": "ok", "keys": "ok", "PKCE": "ok", "registration": "warning", "issuer in answers": "ok",
	} {
		if levels[subject] != want {
			t.Errorf("%s: %q, want %q: %+v", subject, levels[subject], want, found.Findings)
		}
	}

	// what it says about a server that is not there, and about one that says it is another
	if r := run(t, caddyCommand(t, "mcp", "doctor", provider.issuer+"/elsewhere")); r.status != 4 {
		t.Errorf("another place: exit %d", r.status)
	}
	liar := startOIDC(t, "https://idp.example.com", "first")
	if r := run(t, caddyCommand(t, "mcp", "doctor", liar.address)); r.status != 4 || !strings.Contains(r.out, `the document is for issuer "https://idp.example.com"`) {
		t.Errorf("another issuer: exit %d", r.status)
	}

	_, site, ok := strings.Cut(found.Caddyfile, " {\n")
	if !ok {
		t.Fatal(found.Caddyfile)
	}
	site = strings.TrimSuffix(strings.TrimSpace(site), "}")
	site = strings.Replace(site, "`jwt.sub == \"somebody\"`", "true", 1)
	g := startGateway(t, strings.Replace(site, "http://127.0.0.1:3001/mcp", startDemo(t), 1))
	good, other := provider.mustMint(t, "ES256", oidcAudience), provider.mustMint(t, "ES256", "https://other.example.com/mcp")
	for token, want := range map[string]int{good: http.StatusOK, other: http.StatusUnauthorized} {
		status, body, err := getMe(t.Context(), http.DefaultClient, g.url(), token)
		if err != nil || status != want {
			t.Errorf("status %d, want %d: %v %s", status, want, err, body)
		}
	}
}
