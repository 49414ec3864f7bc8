package mcpproxy

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestZeroValue: Caddy may clean up what it never provisioned.
func TestZeroValue(t *testing.T) {
	h := new(Handler)
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
	if err := h.Provision(newContext(t)); err == nil || !strings.Contains(err.Error(), "needs an upstream") {
		t.Errorf("Provision: %v", err)
	}
	for range 2 {
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
	}
}

// TestFailedProvision: Caddy cleans up after a Provision that failed, at whatever point that was.
func TestFailedProvision(t *testing.T) {
	for config, want := range map[string]string{
		`{}`:                   "mcp_proxy needs an upstream",
		`{"upstreams":[]}`:     "mcp_proxy needs an upstream",
		`{"upstreams":[null]}`: "an upstream is null",
		`{"upstreams":[{"dial":"127.0.0.1:1"},null]}`:                                                        "an upstream is null",
		`{"upstreams":[{"dial":"{env.MCP_TEST_UNSET}"}]}`:                                                    "placeholder {env.MCP_TEST_UNSET} is empty",
		`{"upstreams":[{"dial":"http://127.0.0.1:1"}]}`:                                                      `upstream "http://127.0.0.1:1" is a URL`,
		`{"upstreams":[{"dial":"127.0.0.1:1"}],"transport":[]}`:                                              "transport: json",
		`{"upstreams":[{"dial":"127.0.0.1:1"}],"transport":null}`:                                            "module name not specified",
		`{"upstreams":[{"dial":"127.0.0.1:1"}],"transport":{"protocol":"pigeon"}}`:                           "unknown module",
		`{"upstreams":[{"dial":"127.0.0.1:1"}],"stream_close_delay":"1s","transport":{"protocol":"pigeon"}}`: "unknown module",
		`{"upstreams":[{"dial":"127.0.0.1:1"}],"trusted_proxies":["here"]}`:                                  "invalid IP address",
		`{"dynamic_upstreams":{"source":"pigeon"}}`:                                                          "unknown module",
	} {
		_, err := newContext(t).LoadModuleByID("http.handlers.mcp_proxy", json.RawMessage(config))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

// TestPlaceholder: an address can come from the environment.
func TestPlaceholder(t *testing.T) {
	t.Setenv("MCP_TEST_UPSTREAM", "127.0.0.1:3001")
	h := fromCaddyfile(t, "mcp_proxy {env.MCP_TEST_UPSTREAM}")
	if got := h.Upstreams[0].Dial; got != "127.0.0.1:3001" {
		t.Errorf("dial %q", got)
	}
}
