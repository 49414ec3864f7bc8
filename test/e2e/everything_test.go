package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var everythingReady = regexp.MustCompile(`(?m)^listening on (127\.0\.0\.1:\d+)$`)

// startEverything starts the reference server of the MCP project, which shows every feature of the protocol, by
// streamable HTTP, and returns it and its URL.
func startEverything(t *testing.T) (server *process, url string) {
	t.Helper()
	p, address := startEverythingAs(t, "streamableHttp")
	return p, "http://" + address + "/mcp"
}

// startEverythingAs starts it with another transport, and returns it and its address.
func startEverythingAs(t *testing.T, transport string) (server *process, address string) {
	t.Helper()
	// by itself it listens on every interface
	preload, err := filepath.Abs("loopback.cjs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := nodeCommand(t, "--require", preload, nodeModules(t, ".bin/mcp-server-everything"), transport)
	cmd.Env = append(cmd.Env, "PORT=0")
	p := start(t, cmd)
	match, err := p.out.wait(everythingReady, p.done, startLimit)
	if err != nil {
		t.Fatal(err)
	}
	address = match[1]
	if got := listeningOn(t, p.cmd.Process.Pid); len(got) != 1 || got[0] != address {
		t.Fatalf("the server listens on %q, want only %s", got, address)
	}
	return p, address
}

// everythingRules let everybody add numbers up to ten, nobody but Alice echo, and nobody look into the environment.
const everythingRules = `
		allow {
			name small-sums
			match_expressions ` + "`mcp.tool.name == \"get-sum\" && mcp.tool.arguments.a <= 10`" + `
		}
		allow ` + "`mcp.tool.name == \"echo\" && jwt.sub == \"alice\"`" + `
		deny {
			name no-thirteen
			match_expressions ` + "`mcp.tool.name == \"get-sum\" && mcp.tool.arguments.b == 13`" + `
		}`

// TestEverything guards a server that this project has not written.
func TestEverything(t *testing.T) {
	_, upstream := startEverything(t)
	checkEverything(t, startGateway(t, site(everythingRules, upstream)))
}

func checkEverything(t *testing.T, g *gateway) {
	t.Helper()
	alice, bob := token(t, "alice"), token(t, "bob")
	for _, c := range []struct {
		name, credential, tool, arguments string
		status                            int
		want                              string
	}{
		{"no token", "", "echo", "message=hi", 1, "authentication failure: no bearer token found"},
		{"a tool by name", alice, "echo", "message=hi", 0, "Echo: hi"},
		{"a tool hidden from this caller", bob, "echo", "message=hi", 1, "Unknown tool: echo"},
		{"a tool hidden from everybody", alice, "get-env", "", 1, "Unknown tool: get-env"},
		{"a tool that is not there", alice, "no-such-tool", "", 1, "Unknown tool: no-such-tool"},
		{"arguments of a rule", bob, "get-sum", "a=10 b=32", 0, "The sum of 10 and 32 is 42."},
		{"arguments of no rule", bob, "get-sum", "a=11 b=32", 1, deniedBy("default")},
		{"denied arguments", bob, "get-sum", "a=1 b=13", 1, deniedBy("no-thirteen")},
	} {
		r := callTool(t, g.url(), c.credential, c.tool, strings.Fields(c.arguments)...)
		if r.status != c.status || !strings.Contains(r.out, c.want) {
			t.Errorf("%s: exit status %d, want %d and %q:\n%s", c.name, r.status, c.status, c.want, r.out)
		}
	}
}

// TestEverythingList looks at what a caller sees of the tools.
func TestEverythingList(t *testing.T) {
	_, upstream := startEverything(t)
	checkEverythingList(t, startGateway(t, site(everythingRules, upstream)))
}

func checkEverythingList(t *testing.T, g *gateway) {
	t.Helper()
	for user, want := range map[string][]string{
		"alice": {"echo", "get-sum"},
		"bob":   {"get-sum"},
	} {
		r := inspect(t, g.url(), token(t, user), "--method", "tools/list")
		var listed struct{ Tools []struct{ Name string } }
		if err := json.Unmarshal([]byte(r.out), &listed); err != nil || r.status != 0 {
			t.Fatalf("%s: exit status %d, %v:\n%s", user, r.status, err, r.out)
		}
		var names []string
		for _, tool := range listed.Tools {
			names = append(names, tool.Name)
		}
		if slices.Sort(names); !slices.Equal(names, want) {
			t.Errorf("%s sees %q, want %q", user, names, want)
		}
	}
}

// deniedBy is how the answer to refused arguments looks in what Inspector prints.
func deniedBy(rule string) string {
	return `"code":-31403,"message":"denied by rule \"` + rule + `\""`
}

// TestRefusedArguments looks at the answer itself, and at what the server behind has seen of the call.
func TestRefusedArguments(t *testing.T) {
	server, upstream := startEverything(t)
	g := startGateway(t, site(everythingRules, upstream))
	c := rawClient{url: g.url(), token: token(t, "bob")}
	c.open(t)
	seen := func() int { return strings.Count(server.out.String(), "Received MCP POST request") }
	before := seen()

	got := c.post(t, `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"get-sum","arguments":{"a":11,"b":1}}}`)
	const want = `{"jsonrpc":"2.0","id":"x","error":{"code":-31403,"message":"denied by rule \"default\""}}`
	if got.status != http.StatusForbidden || got.contentType != "application/json" || got.body != want {
		t.Errorf("got %+v, want 403 and %s", got, want)
	}
	if after := seen(); after != before {
		t.Errorf("the refused call reached the server: it has seen %d more", after-before)
	}

	got = c.post(t, `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"get-sum","arguments":{"a":10,"b":1}}}`)
	if got.status != http.StatusOK || !strings.Contains(got.body, "The sum of 10 and 1 is 11.") {
		t.Errorf("got %+v, want the sum", got)
	}
	if after := seen(); after != before+1 {
		t.Errorf("the server has seen %d calls, want 1", after-before)
	}
}
