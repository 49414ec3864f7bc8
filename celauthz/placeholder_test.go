package celauthz

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// CONTRACT.md 3.4: logs and other handlers can read what was asked and what
// was decided, whether the request passed or not.
func TestPlaceholders(t *testing.T) {
	empty := func(more map[string]string) map[string]string {
		want := map[string]string{
			"mcp.method": "", "mcp.tool.name": "", "mcp.prompt.name": "", "mcp.resource.uri": "", "mcp.task.id": "",
			"mcp.session.id": "", "mcp.version": "2025-03-26", "mcp.decision": "allow", "mcp.rule": "allow#1",
		}
		for name, value := range more {
			want[name] = value
		}
		return want
	}
	tests := []struct {
		request *http.Request
		want    map[string]string
	}{
		{request(callOf("t", "{}")), map[string]string{"mcp.method": "tools/call", "mcp.tool.name": "t"}},
		{request(callOf("x", "{}")), map[string]string{"mcp.method": "tools/call", "mcp.tool.name": "x", "mcp.decision": "deny", "mcp.rule": "no-x"}},
		{request(messageOf("prompts/get", `{"name":"p"}`)), map[string]string{"mcp.method": "prompts/get", "mcp.prompt.name": "p"}},
		{request(messageOf("resources/read", `{"uri":"file:///a/../b"}`)), map[string]string{"mcp.method": "resources/read", "mcp.resource.uri": "file:///a/../b"}},
		{request(messageOf("tasks/get", `{"taskId":"7"}`)), map[string]string{"mcp.method": "tasks/get", "mcp.task.id": "7"}},
		{request(messageOf("completion/complete", `{"ref":{"type":"ref/prompt","name":"p"}}`)), map[string]string{"mcp.method": "completion/complete", "mcp.prompt.name": "p"}},
		{request(messageOf("initialize", `{"protocolVersion":"2025-06-18"}`)), map[string]string{"mcp.method": "initialize", "mcp.version": "2025-06-18"}},
		{request(messageOf("x/y", "")), map[string]string{"mcp.method": "x/y", "mcp.decision": "deny", "mcp.rule": "default"}},
		{request(`{"jsonrpc":"2.0","id":1,"result":{}}`), nil},
		{func() *http.Request {
			r := httptest.NewRequest(http.MethodGet, "/mcp", nil)
			r.Header.Set("Mcp-Session-Id", "s1")
			r.Header.Set("MCP-Protocol-Version", "2025-11-25")
			return r
		}(), map[string]string{"mcp.session.id": "s1", "mcp.version": "2025-11-25"}},
		{modern("tools/call", `{"name":"t"}`, "t"), map[string]string{"mcp.method": "tools/call", "mcp.tool.name": "t", "mcp.version": "2026-07-28"}},
	}
	for _, test := range tests {
		s := provision(t, &Handler{Rules: append(rulesOf(t, "allow true"),
			&Rule{Name: "no-x", Action: Deny, MatchExpressions: []string{`mcp.tool.name == "x"`}})})
		s.serve(test.request)
		for name, want := range empty(test.want) {
			got, known := s.repl.Get(name)
			if !known || got != want {
				t.Errorf("%s: {%s} is %q, want %q", s.asked, name, got, want)
			}
		}
		if _, known := s.repl.Get("mcp.nonsense"); known {
			t.Error("{mcp.nonsense} is known")
		}
	}
}

// A request that is refused before it is judged is no allowed one.
func TestPlaceholdersOfUnreadableRequests(t *testing.T) {
	s := newSite(t, "allow true")
	for _, message := range []string{"{", "", "[]", callOf("t", "1")} {
		if w := s.post(message); w.Code != 400 {
			t.Errorf("%q: answer %d", message, w.Code)
		}
		if got, _ := s.repl.Get("mcp.decision"); got == "allow" {
			t.Errorf("%q: {mcp.decision} is %q", message, got)
		}
	}
}

// {env.X} and {file.X} are replaced when the configuration loads, and no
// other brace is touched.
func TestLoadTimePlaceholders(t *testing.T) {
	t.Setenv("MCP_TEST_PREFIX", "read_")
	t.Setenv("MCP_TEST_RULE", `mcp.tool.name == "whole"`)
	t.Setenv("MCP_TEST_NESTED", "{env.MCP_TEST_PREFIX}")
	t.Setenv("MCP_TEST_EMPTY", "")
	file := filepath.Join(t.TempDir(), "group")
	if err := os.WriteFile(file, []byte("dev"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		rule    string
		name    string
		allowed bool
	}{
		{`allow mcp.tool.name.startsWith("{env.MCP_TEST_PREFIX}")`, "read_a", true},
		{`allow mcp.tool.name.startsWith("{env.MCP_TEST_PREFIX}")`, "write_a", false},
		{`allow {env.MCP_TEST_RULE}`, "whole", true},
		{`allow {env.MCP_TEST_RULE} && "{file.` + file + `}" in jwt.groups`, "whole", true},
		{`allow mcp.tool.name == "{env.MCP_TEST_PREFIX}{env.MCP_TEST_PREFIX}"`, "read_read_", true},
		// what was put in is not looked at again
		{`allow mcp.tool.name == "{env.MCP_TEST_NESTED}"`, "{env.MCP_TEST_PREFIX}", true},
		{`allow mcp.tool.name == "{env.MCP_TEST_NESTED}"`, "read_", false},
		// braces of CEL
		{`allow mcp.tool.name.matches("^a{2,3}$")`, "aaa", true},
		{`allow mcp.tool.name.matches("^a{2,3}$")`, "a", false},
		{`allow {"a": 1}[mcp.tool.name] == 1`, "a", true},
		{`allow {"env.X": true}[mcp.tool.name]`, "env.X", true},
		{`allow mcp.tool.name in {"a": {"b": 1}}`, "a", true},
		{`allow mcp.tool.name == "{http.request.host}"`, "{http.request.host}", true},
		{`allow mcp.tool.name == "{env}"`, "{env}", true},
		{`allow mcp.tool.name == "{env.}"`, "{env.}", true},
		{`allow mcp.tool.name == "{ENV.HOME}"`, "{ENV.HOME}", true},
		{`allow mcp.tool.name == "{time.now}"`, "{time.now}", true},
	}
	for _, test := range tests {
		s := newSite(t, test.rule).as(alice)
		s.post(callOf(test.name, "{}"))
		if (s.passed != nil) != test.allowed {
			t.Errorf("%s: %q: allowed %v", test.rule, test.name, s.passed != nil)
		}
	}

	for _, rule := range []string{
		`allow mcp.tool.name == "{env.MCP_TEST_EMPTY}"`, `allow mcp.tool.name == "{env.MCP_TEST_MISSING}"`, `deny mcp.tool.name == "{file.` + file + `.missing}"`,
	} {
		if _, err := tryProvision(t, &Handler{Rules: rulesOf(t, rule)}); err == nil || !strings.Contains(err.Error(), "is empty") {
			t.Errorf("%s: %v", rule, err)
		}
	}

	// the other options as well
	t.Setenv("MCP_TEST_DENY", "forbid")
	s := provision(t, &Handler{
		Rules:  []*Rule{{Name: "{env.MCP_TEST_PREFIX}rule", Action: Allow, MatchExpressions: []string{`mcp.tool.target == "read_server"`, "false"}}},
		OnDeny: "{env.MCP_TEST_DENY}", Target: "{env.MCP_TEST_PREFIX}server",
	})
	s.wantPassed(s.post(callOf("t", "{}")), callOf("t", "{}"))
	if rule, _ := s.repl.Get("mcp.rule"); rule != "read_rule" {
		t.Errorf("the rule is called %q", rule)
	}
	s.wantRefused(s.post(messageOf("prompts/get", `{"name":"p"}`)), 403, rpcError("1", -31403, `"denied by rule \"default\""`, ""))
	if _, err := tryProvision(t, &Handler{Rules: rulesOf(t, "allow true"), OnDeny: "{env.MCP_TEST_PREFIX}"}); err == nil {
		t.Error("on_deny read_ loads")
	}
}
