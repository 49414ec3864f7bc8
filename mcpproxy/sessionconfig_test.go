package mcpproxy

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// TestSessionsAreLazy: a configuration that is only checked touches no storage.
func TestSessionsAreLazy(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	m := new(memory)
	h := fromCaddyfile(t, "mcp_proxy "+u.address())
	k, err := newSessionKey("", m, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	h.sessions.key = k
	serve(t, h, post("/", message), alice)
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
	if len(m.calls) != 0 {
		t.Errorf("the storage was asked: %q", m.calls)
	}
}

// TestSessionConfig: what cannot be used is refused when it loads, and never shown.
func TestSessionConfig(t *testing.T) {
	t.Setenv("MCP_TEST_KEY", goodKey)
	t.Setenv("MCP_TEST_SHORT", "c2VjcmV0")
	load := func(options string) error {
		config := `{"upstreams":[{"dial":"127.0.0.1:1"}],` + options + `}`
		_, err := newContext(t).LoadModuleByID("http.handlers.mcp_proxy", json.RawMessage(config))
		return err
	}
	for _, options := range []string{`"session_key":"{env.MCP_TEST_KEY}"`, `"session_binding":true`, `"session_binding":false`} {
		if err := load(options); err != nil {
			t.Errorf("%s: %v", options, err)
		}
	}
	for options, want := range map[string]string{
		`"session_key":"{env.MCP_TEST_SHORT}"`: "session_key must be at least 32 bytes",
		`"session_key":"{env.MCP_TEST_NONE}"`:  "session_key: placeholder {env.MCP_TEST_NONE} is empty",
		`"session_key":"c2VjcmV0"`:             "session_key must be at least 32 bytes",
	} {
		if err := load(options); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", options, err)
		}
	}
	// what was written stays a placeholder
	h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}],"session_key":"{env.MCP_TEST_KEY}"}`)
	if h.SessionKey != "{env.MCP_TEST_KEY}" {
		t.Error("the key has got into the configuration")
	}
}

// TestIdentity: what makes another proxy of it, and what does not.
func TestIdentity(t *testing.T) {
	identity := func(config string) string {
		h := fromJSON(t, `{"upstreams":[{"dial":"127.0.0.1:1"}]`+config+`}`)
		return h.sessions.proxy
	}
	base := identity(``)
	for what, config := range map[string]string{
		"load balancing":        `,"load_balancing":{"selection_policy":{"policy":"first"}}`,
		"health checks":         `,"health_checks":{"passive":{"fail_duration":"1s"}}`,
		"timeouts":              `,"transport":{"protocol":"http","dial_timeout":"1s"}`,
		"headers of the answer": `,"headers":{"response":{"set":{"X-A":["b"]}}}`,
	} {
		if got := identity(config); got != base {
			t.Errorf("%s: another proxy: %s, %s", what, got, base)
		}
	}
	seen := map[string]string{base: "nothing"}
	for what, config := range map[string]string{
		"path":        `,"rewrite":{"uri":"/mcp"}`,
		"other path":  `,"rewrite":{"uri":"/other"}`,
		"TLS":         `,"transport":{"protocol":"http","tls":{}}`,
		"certificate": `,"transport":{"protocol":"http","tls":{"server_name":"a"}}`,
		"credential":  `,"headers":{"request":{"set":{"Authorization":["a"]}}}`,
		"tenant":      `,"headers":{"request":{"set":{"X-Tenant":["a"]}}}`,
	} {
		got := identity(config)
		if other, taken := seen[got]; taken {
			t.Errorf("%s and %s are the same proxy", what, other)
		}
		seen[got] = what
	}
}
