package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var inspectorReady = regexp.MustCompile(`(?m)^\s*(http://\S+MCP_PROXY_AUTH_TOKEN=\S+)$`)

// startInspector starts MCP Inspector as it is meant to be used, in a browser, and returns the URL of its page.
func startInspector(t *testing.T) string {
	t.Helper()
	page, proxy := freePort(t), freePort(t)
	cmd := nodeCommand(t, nodeModules(t, ".bin/mcp-inspector"))
	cmd.Env = append(cmd.Env, "HOST=127.0.0.1", "MCP_AUTO_OPEN_ENABLED=false",
		fmt.Sprintf("CLIENT_PORT=%d", page), fmt.Sprintf("SERVER_PORT=%d", proxy), "ALLOWED_ORIGINS=http://"+loopback(page))
	p := start(t, cmd)
	match, err := p.out.wait(inspectorReady, p.done, startLimit)
	if err != nil {
		t.Fatal(err)
	}
	p.waitForPort(t, page)
	p.waitForPort(t, proxy)
	return match[1]
}

// TestInspectorPage logs in with MCP Inspector, the way people try out an MCP server: all it is told is the gateway's
// URL, and the rest happens in the browser.
func TestInspectorPage(t *testing.T) {
	server := startOAuth(t)
	rules := "allow `jwt.sub == \"alice\"`\n\t\tdeny `mcp.tool.name == \"delete_repo\"`"
	g := server.startLoginGateway(t, rules, startDemo(t, "-stateful"))
	cmd := nodeCommand(t, "inspector.mjs", startInspector(t), g.url(), "Who am I?")
	cmd.Env = append(cmd.Env, "LOGIN=alice", "TMPDIR="+t.TempDir())
	p := start(t, cmd)
	done, err := p.out.wait(loginDone, p.done, runLimit)
	if err != nil {
		t.Fatal(err)
	}
	var seen struct{ Text string }
	if err := json.Unmarshal([]byte(done[1]), &seen); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(seen.Text, greeting) || !strings.Contains(seen.Text, "Create a repository") || strings.Contains(seen.Text, "Delete a repository") {
		t.Errorf("Inspector shows:\n%s", seen.Text)
	}
	if status := p.wait(t, runLimit); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
