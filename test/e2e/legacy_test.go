package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestLegacySSE guards a server of protocol version 2024-11-05, which tells its clients in the stream where to post: it
// must not lead them past the gateway.
func TestLegacySSE(t *testing.T) {
	server, address := startEverythingAs(t, "sse")
	g := startGateway(t, site(everythingRules, "http://"+address+"/sse"))
	cmd := nodeCommand(t, "legacy.mjs", g.url())
	cmd.Env = append(cmd.Env, "TOKEN="+token(t, "alice"), "OTHER_TOKEN="+token(t, "bob"))
	r := run(t, cmd)
	var seen struct {
		Server, Echo                          string
		Tools, Posted                         []string
		Hidden                                tsError
		Own, Foreign, Broken, Unauthenticated int
	}
	if err := json.Unmarshal([]byte(r.out), &seen); err != nil || r.status != 0 {
		t.Fatalf("exit status %d, %v:\n%s", r.status, err, r.out)
	}
	if slices.Sort(seen.Tools); !slices.Equal(seen.Tools, []string{"echo", "get-sum"}) || seen.Echo != "Echo: hi" {
		t.Errorf("tools %q, echo %q", seen.Tools, seen.Echo)
	}
	if !strings.Contains(seen.Hidden.Message, "Unknown tool: get-env") {
		t.Errorf("a hidden tool: %+v", seen.Hidden)
	}
	for _, url := range seen.Posted {
		if !strings.HasPrefix(url, g.url()+"?mcp_endpoint=") {
			t.Errorf("the client has posted to %s", url)
		}
	}
	if len(seen.Posted) < 4 || strings.Count(server.out.String(), "Client Message from") < 4 {
		t.Errorf("%d messages posted; the server printed:\n%s", len(seen.Posted), server.out)
	}
	if seen.Own != http.StatusAccepted || seen.Foreign != http.StatusNotFound || seen.Broken != http.StatusNotFound ||
		seen.Unauthenticated != http.StatusUnauthorized {
		t.Errorf("its endpoint answers %d, to others %d, cut %d, without a token %d", seen.Own, seen.Foreign, seen.Broken, seen.Unauthenticated)
	}
}
