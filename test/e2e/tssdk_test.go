package e2e

import (
	"encoding/json"
	"slices"
	"testing"
)

// seen is what client.mjs prints.
type seen struct {
	Statuses                  map[string][]int
	Server                    string
	Session                   bool
	Stream, Me, Prompt        string
	Resource, Update          string
	Tools, Prompts, Resources []string
	HiddenTool                tsError
	HiddenResource            tsError
}

type tsError struct {
	Code    int
	Message string
}

// TestTypeScriptSDK drives the gateway with the SDK that most clients are made with: a session with a stream of its own,
// by which the server tells what has changed.
func TestTypeScriptSDK(t *testing.T) {
	for name, demo := range map[string][]string{
		"JSON":   {"-stateful"},
		"stream": {"-stateful", "-sse"},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, site(sdkRules, startDemo(t, demo...)))
			checkSeen(t, runClient(t, g.url(), token(t, "alice")))
		})
	}
}

func runClient(t *testing.T, url, token string) seen {
	t.Helper()
	cmd := nodeCommand(t, "client.mjs", url)
	cmd.Env = append(cmd.Env, "TOKEN="+token)
	r := run(t, cmd)
	var s seen
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || r.status != 0 {
		t.Fatalf("exit status %d, %v:\n%s", r.status, err, r.out)
	}
	return s
}

func checkSeen(t *testing.T, s seen) {
	t.Helper()
	for _, c := range []struct{ what, got, want string }{
		{"server", s.Server, "demo"},
		{"type of the stream", s.Stream, "text/event-stream"},
		{"get_me", s.Me, "You are alice."},
		{"prompt", s.Prompt, "Write a short greeting of Zoë in English."},
		{"resource", s.Resource, "# Handbook\n\nBe kind, and write tests.\n"},
		{"update", s.Update, "repo://acme/new"},
		{"hidden tool", s.HiddenTool.Message, "MCP error -32602: Unknown tool: delete_repo"},
		{"hidden resource", s.HiddenResource.Message, "MCP error -32002: Resource not found"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	if s.HiddenTool.Code != -32602 || s.HiddenResource.Code != -32002 {
		t.Errorf("codes of what is hidden: %d, %d", s.HiddenTool.Code, s.HiddenResource.Code)
	}
	if !s.Session {
		t.Error("there was no session")
	}
	wantListed(t, s.Tools, "get_me", "delete_repo")
	wantListed(t, s.Prompts, "greet", "review_repo")
	wantListed(t, s.Resources, "docs://public/handbook", "docs://internal/salaries")
	if got := s.Statuses["GET"]; !slices.Equal(got, []int{200}) {
		t.Errorf("GET was answered %v, want one 200", got)
	}
	if got := s.Statuses["DELETE"]; len(got) != 1 || got[0]/100 != 2 {
		t.Errorf("DELETE was answered %v, want one success", got)
	}
}
