package celauthz

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// scopedSite allows everything and wants scopes for some of it.
func scopedSite(t testing.TB, implies map[string][]string, scopes ...string) *site {
	t.Helper()
	h := &Handler{Rules: rulesOf(t, `allow true`, `deny mcp.tool.name == "secret"`), ScopeImplies: implies}
	for _, line := range scopes {
		scope, when, _ := strings.Cut(line, " ")
		h.Scopes = append(h.Scopes, &Scope{Scope: scope, When: when})
	}
	return provision(t, h)
}

// with gives the next caller scopes, and records what a step-up asks for.
func (s *site) with(claims string, asked *[]string) *site {
	s.as(claims)
	s.identity.StepUp = func(w http.ResponseWriter, _ *http.Request, scopes []string) error {
		*asked = scopes
		w.WriteHeader(http.StatusForbidden)
		return nil
	}
	return s
}

func TestMissingScopes(t *testing.T) {
	const (
		create = `create_repo`
		read   = `read_repo`
	)
	scopes := []string{
		`mcp:use true`,
		`repo:write mcp.tool.name.startsWith("create_")`,
		`repo:admin mcp.tool.arguments.private == true`,
		`prompts mcp.prompt.name != "free"`,
	}
	implies := map[string][]string{"root": {"repo"}, "repo": {"repo:write", "mcp:use"}}
	for _, test := range []struct {
		claims  string
		message string
		asked   []string // nil: it passes
	}{
		// the error of an absent argument counts as a need
		{`{"scope":"mcp:use"}`, callOf(read, `{}`), []string{"mcp:use", "repo:admin"}},
		{`{"scope":"mcp:use"}`, callOf(read, `{"private":false}`), nil},
		{`{"scope":"mcp:use"}`, callOf(create, `{"private":false}`), []string{"mcp:use", "repo:write"}},
		{`{"scope":"mcp:use repo:write"}`, callOf(create, `{"private":false}`), nil},
		{`{"scp":["mcp:use","repo:write"]}`, callOf(create, `{"private":true}`), []string{"mcp:use", "repo:write", "repo:admin"}},
		// a chain of implications, which may have a loop
		{`{"scope":"root"}`, callOf(create, `{"private":false}`), nil},
		{`{"scope":"root"}`, callOf(create, `{"private":true}`), []string{"mcp:use", "repo:write", "repo:admin"}},
		{`{}`, messageOf("initialize", "{}"), []string{"mcp:use"}},
		{`{"scope":"mcp:use"}`, messageOf("initialize", "{}"), nil},
		{`{"scope":"mcp:use"}`, messageOf("tools/list", ""), nil},
		{`{"scope":"mcp:use"}`, messageOf("prompts/get", `{"name":"free"}`), nil},
		{`{"scope":"mcp:use"}`, messageOf("prompts/get", `{"name":"dear"}`), []string{"mcp:use", "prompts"}},
		{`{"scope":"mcp:use"}`, messageOf("completion/complete", `{"ref":{"type":"ref/prompt","name":"dear"}}`), []string{"mcp:use", "prompts"}},
		{
			`{"scope":"mcp:use"}`, "[" + callOf(create, `{"private":false}`) + "," + messageOf("prompts/get", `{"name":"dear"}`) + "]",
			[]string{"mcp:use", "repo:write", "prompts"},
		},
	} {
		var asked []string
		s := scopedSite(t, implies, scopes...).with(test.claims, &asked)
		s.post(test.message)
		if passed := s.passed != nil; passed != (test.asked == nil) || !slices.Equal(asked, test.asked) {
			t.Errorf("%s with %s: passed %v, asked for %q, want %q", test.message, test.claims, passed, asked, test.asked)
		}
	}
}

// What no scope can cure is never answered by asking for one: the client
// would log in again and again.
func TestScopesDoNotCureDenials(t *testing.T) {
	var asked []string
	s := scopedSite(t, nil, `x mcp.tool.name != ""`).with(`{}`, &asked)
	w := s.post(callOf("secret", `{}`))
	s.wantRefused(w, http.StatusOK, rpcError("1", -32602, `"Unknown tool: secret"`, ""))
	if asked != nil {
		t.Errorf("asked for %q", asked)
	}
}

// Guarded entries stay listed, or no client would ever ask for the scope.
func TestScopesHideNothing(t *testing.T) {
	var asked []string
	s := scopedSite(t, nil, `x mcp.tool.name != "free"`).with(`{}`, &asked)
	s.behind = func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"dear"},{"name":"secret"},{"name":"free"}]}}`))
		return err
	}
	w := s.post(messageOf("tools/list", ""))
	if want := `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"dear"},{"name":"free"}]}}`; w.Body.String() != want {
		t.Errorf("listed %s\nwant   %s", w.Body, want)
	}
}

func TestScopesWithoutAnybodyToAsk(t *testing.T) {
	s := scopedSite(t, nil, `x true`)
	s.identity = nil
	s.wantRefused(s.post(messageOf("ping", "")), http.StatusForbidden, "authorization failed")

	loggedIn := false
	s.identity = &reqctx.Identity{Anonymous: true, Login: func(http.ResponseWriter, *http.Request) error {
		loggedIn = true
		return nil
	}}
	s.post(messageOf("ping", ""))
	if s.passed != nil || !loggedIn {
		t.Error("somebody without a token was not asked to log in")
	}
}

// Rules see implied scopes as well.
func TestImpliedScopesInRules(t *testing.T) {
	h := &Handler{Rules: rulesOf(t, `allow "read" in scopes`), ScopeImplies: map[string][]string{"write": {"read"}}}
	s := provision(t, h).as(`{"scope":"write"}`)
	message := messageOf("ping", "")
	s.wantPassed(s.post(message), message)
}

func TestScopeErrors(t *testing.T) {
	for _, test := range []struct {
		handler Handler
		want    string
	}{
		{Handler{Scopes: []*Scope{{Scope: "a b", When: "true"}}}, `"a b" is not a scope`},
		{Handler{Scopes: []*Scope{{Scope: `a"`, When: "true"}}}, `is not a scope`},
		{Handler{Scopes: []*Scope{{When: "true"}}}, `"" is not a scope`},
		{Handler{Scopes: []*Scope{nil}}, `a scope is null`},
		{Handler{Scopes: []*Scope{{Scope: "a", When: "mcp.tool.nam"}}}, `undeclared reference to "mcp.tool.nam"`},
		{Handler{Scopes: []*Scope{{Scope: "a", When: "1 + 1"}}}, `must be true or false`},
		{Handler{Scopes: []*Scope{{Scope: "a", When: `mcp.tool.name == mcp.prompt.name`}}}, `targets of two kinds`},
		{Handler{ScopeImplies: map[string][]string{"a": {"b c"}}}, `"b c" is not a scope`},
	} {
		test.handler.Rules = rulesOf(t, "allow true")
		if _, err := tryProvision(t, &test.handler); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want %q", err, test.want)
		}
	}
}
