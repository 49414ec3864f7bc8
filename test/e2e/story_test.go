package e2e

import (
	"strings"
	"testing"
)

// TestStory is the story that the documentation tells, with the client it tells it with: who has no valid token does
// not get in, who has one is known to the server behind, and a rule keeps one of them out.
func TestStory(t *testing.T) {
	for name, demoArgs := range map[string][]string{
		"stateless": nil,
		"stateful":  {"-stateful"},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := startDemo(t, demoArgs...)
			g := startGateway(t, site("allow true", upstream))
			tellStory(t, g.url(), []chapter{
				{"nobody", "", 1, "authentication failure: no bearer token found"},
				{"a forger", "abcdefg", 1, "authentication failure: the token header is malformed"},
				{"Alice", token(t, "alice"), 0, "You are alice."},
				{"Bob", token(t, "bob"), 0, "You are bob."},
			})
			g.reload(t, site("allow `jwt.sub == \"alice\"`", upstream))
			tellStory(t, g.url(), []chapter{
				{"Alice, of the rule", token(t, "alice"), 0, "You are alice."},
				{"Bob, whom no rule names", token(t, "bob"), 1, "authorization failed"},
				{"nobody, after the reload", "", 1, "authentication failure: no bearer token found"},
			})
		})
	}
}

// chapter is one call of get_me, and what the caller reads.
type chapter struct {
	who, credential string
	status          int
	want            string
}

func tellStory(t *testing.T, url string, chapters []chapter) {
	t.Helper()
	for _, c := range chapters {
		r := callTool(t, url, c.credential, "get_me")
		if r.status != c.status || !strings.Contains(r.out, c.want) {
			t.Errorf("%s: exit status %d, want %d and %q:\n%s", c.who, r.status, c.status, c.want, r.out)
		}
	}
}
