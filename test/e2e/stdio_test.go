package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// stdioSite is a site whose server is a program. Options are those of stdio.
func stdioSite(rules string, command []string, options ...string) string {
	for i := range command {
		command[i] = fmt.Sprintf("%q", command[i])
	}
	return fmt.Sprintf(`	mcp_jwt {
		%s
	}
	mcp_authorize {
		%s
	}
	mcp_proxy {
		stdio %s {
			%s
		}
	}`, quickstartIssuer(), rules, strings.Join(command, " "), strings.Join(options, "\n\t\t\t"))
}

// nodeServer is the command of a server of the MCP project.
func nodeServer(t *testing.T, name string, args ...string) []string {
	t.Helper()
	node := nodeCommand(t).Path
	return append([]string{node, nodeModules(t, "@modelcontextprotocol/server-"+name+"/dist/index.js")}, args...)
}

// startStdio starts a gateway with such a server, and makes sure that no process is left of it when the gateway has
// ended.
func startStdio(t *testing.T, site string) *gateway {
	t.Helper()
	g := startGateway(t, site)
	t.Cleanup(func() {
		servers := g.children(t)
		g.stop(t)
		for _, pid := range servers {
			if err := syscall.Kill(pid, 0); err == nil {
				t.Errorf("process %d is still there behind the end of the gateway", pid)
			}
		}
	})
	return g
}

// children are the processes that the gateway has started and not collected.
func (g *gateway) children(t *testing.T) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // a thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			var pid int
			if _, err := fmt.Sscan(field, &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestStdioEverything guards the reference server, spoken to over stdin and stdout, as TestEverything does over HTTP.
func TestStdioEverything(t *testing.T) {
	g := startStdio(t, stdioSite(everythingRules, nodeServer(t, "everything", "stdio")))
	checkEverything(t, g)
	checkEverythingList(t, g)
}

// stdioRules let Alice use some of the reference server.
const stdioRules = `
		allow ` + "`jwt.sub == \"alice\" && mcp.tool.name in [\"get-env\", \"trigger-long-running-operation\", \"trigger-sampling-request\"]`" + `
		allow ` + "`jwt.sub == \"alice\" && mcp.resource.uri.startsWith(\"demo://resource/static/\")`" + `
		deny  ` + "`mcp.resource.uri.endsWith(\"/startup.md\")`"

// TestStdioTypeScriptSDK drives a session with the SDK that most clients are made with: progress, requests of the server,
// and an environment that is the configured one.
func TestStdioTypeScriptSDK(t *testing.T) {
	t.Setenv("MCP_TEST_INHERITED", "no")
	g := startStdio(t, stdioSite(stdioRules, nodeServer(t, "everything", "stdio"), "env GREETING hello", "env EMPTY \"\"", "dir /"))
	cmd := nodeCommand(t, "stdio.mjs", g.url())
	cmd.Env = append(cmd.Env, "TOKEN="+token(t, "alice"))
	r := run(t, cmd)
	var s struct {
		Session, Resource          bool
		Server, Sampled            string
		Environment                map[string]string
		HiddenTool, HiddenResource tsError
		Resources                  []string
		Progress                   [][]string
	}
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || r.status != 0 {
		t.Fatalf("exit status %d, %v:\n%s", r.status, err, r.out)
	}
	if !s.Session || !strings.Contains(s.Server, "everything") || !s.Resource {
		t.Errorf("got %+v", s)
	}
	if len(s.Environment) != 2 || s.Environment["GREETING"] != "hello" {
		t.Errorf("the environment of the server is %q", s.Environment)
	}
	if s.HiddenTool.Message != "MCP error -32602: Unknown tool: echo" || s.HiddenResource.Message != "MCP error -32002: Resource not found" {
		t.Errorf("hidden: %+v %+v", s.HiddenTool, s.HiddenResource)
	}
	wantListed(t, s.Resources, "demo://resource/static/document/features.md", "demo://resource/static/document/startup.md")
	if want := [][]string{{"1/2", "2/2"}, {"1/3", "2/3", "3/3"}}; fmt.Sprint(s.Progress) != fmt.Sprint(want) {
		t.Errorf("progress %v, want %v", s.Progress, want)
	}
	if !strings.Contains(s.Sampled, "heard: Resource trigger-sampling-request context: Zoë?") {
		t.Errorf("sampled %q", s.Sampled)
	}
	if !poll(stopLimit, func() bool { return len(g.children(t)) == 0 }) {
		t.Error("the session has ended, but its process has not")
	}
}

// TestStdioGoSDK drives it with the Go SDK: a server of today answers without any session, one of the days before makes
// the client open one.
func TestStdioGoSDK(t *testing.T) {
	for name, c := range map[string]struct {
		command []string
		version string
	}{
		"modern server": {[]string{conformanceServer}, "2026-07-28"},
		"older server":  {nodeServer(t, "everything", "stdio"), "2025-11-25"},
	} {
		t.Run(name, func(t *testing.T) {
			g := startStdio(t, stdioSite("allow true", c.command))
			ctx, cancel := context.WithTimeout(t.Context(), runLimit)
			defer cancel()
			for _, user := range []string{"alice", "bob"} {
				session := connectAs(ctx, t, g.url(), "2026-07-28", user, nil)
				if got := session.InitializeResult().ProtocolVersion; got != c.version {
					t.Errorf("the client speaks %s, want %s", got, c.version)
				}
				listed, err := session.ListTools(ctx, nil)
				if err != nil || len(listed.Tools) < 5 {
					t.Fatalf("%v, %v", listed, err)
				}
				for range 3 {
					if _, err := session.ListPrompts(ctx, &mcp.ListPromptsParams{}); err != nil {
						t.Error(err)
					}
				}
			}
			if n := len(g.children(t)); n < 2 {
				t.Errorf("%d processes for two principals", n)
			}
		})
	}
}

// filesystemRules let everybody read below one folder and nowhere else, whatever the path looks like.
const filesystemRules = `
		allow {
			name public-files
			match_expressions ` + "`mcp.tool.name == \"read_text_file\" && mcp.tool.arguments.path.startsWith(\"%[1]s/\")`" + `
		}
		deny {
			name no-way-out
			match_expressions ` + "`mcp.tool.arguments.path.contains(\"..\") || mcp.tool.arguments.path.contains(\"%%\")`" + `
		}`

// TestStdioFilesystem guards files by the path in the arguments of a call.
func TestStdioFilesystem(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"public/a.txt": "for everybody", "private/b.txt": "s3cret", "public-too/c.txt": "s3cret"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := startStdio(t, stdioSite(fmt.Sprintf(filesystemRules, dir+"/public"), nodeServer(t, "filesystem", dir)))
	c := rawClient{url: g.url(), token: token(t, "alice")}
	c.open(t)
	read := func(path string) answer {
		return c.post(t, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read_text_file","arguments":{"path":"`+path+`"}}}`)
	}
	if got := read(dir + "/public/a.txt"); got.status != http.StatusOK || !strings.Contains(got.body, "for everybody") {
		t.Errorf("got %+v", got)
	}
	for _, path := range []string{
		dir + "/private/b.txt", dir + "/public-too/c.txt", "private/b.txt", dir + "/public",
		dir + "/public/../private/b.txt", dir + `/public/\u002e\u002e/private/b.txt`, dir + `\/public\/..\/private\/b.txt`,
		dir + "/public/%2e%2e/private/b.txt", dir + "/public/.%2E/private/b.txt", dir + "/public//..//private/b.txt",
		dir + "/./public/../private/b.txt", "/etc/passwd",
	} {
		got := read(path)
		if got.status != http.StatusForbidden || !strings.Contains(got.body, `"id":7,"error":{"code":-31403`) || strings.Contains(got.body, "s3cret") {
			t.Errorf("%s: got %+v", path, got)
		}
	}
	for _, call := range []string{
		`{"name":"list_directory","arguments":{"path":"` + dir + `/public/"}}`,
		`{"name":"read_multiple_files","arguments":{"paths":["` + dir + `/private/b.txt"]}}`,
		`{"name":"read_text_file","arguments":{"paths":["` + dir + `/public/a.txt"]}}`,
	} {
		got := c.post(t, `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":`+call+`}`)
		if !strings.Contains(got.body, `"id":8,"error"`) || strings.Contains(got.body, "s3cret") {
			t.Errorf("%s: got %+v", call, got)
		}
	}
}

// TestStdioMemory keeps something in a file that the environment names, and each principal in a process of its own.
func TestStdioMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.jsonl")
	rules := "allow `mcp.tool.name in [\"create_entities\", \"read_graph\"]`\n\t\tdeny `mcp.tool.name.startsWith(\"create_\") && jwt.sub != \"alice\"`"
	g := startStdio(t, stdioSite(rules, nodeServer(t, "memory"), "env MEMORY_FILE_PATH "+file))
	entity := `entities=[{"name":"Zoë","entityType":"person","observations":["likes tests"]}]`
	if r := callTool(t, g.url(), token(t, "bob"), "create_entities", entity); r.status == 0 || !strings.Contains(r.out, "Unknown tool: create_entities") {
		t.Errorf("bob: exit status %d:\n%s", r.status, r.out)
	}
	if r := callTool(t, g.url(), token(t, "alice"), "create_entities", entity); r.status != 0 {
		t.Errorf("alice: exit status %d:\n%s", r.status, r.out)
	}
	if r := callTool(t, g.url(), token(t, "bob"), "read_graph"); r.status != 0 || !strings.Contains(r.out, "likes tests") {
		t.Errorf("bob: exit status %d:\n%s", r.status, r.out)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "likes tests") {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

// TestStdioReload: a reload that leaves the server as it is leaves sessions alone; one that changes it ends them.
func TestStdioReload(t *testing.T) {
	command := func() []string { return nodeServer(t, "everything", "stdio") }
	g := startStdio(t, stdioSite("allow true", command()))
	c := rawClient{url: g.url(), token: token(t, "alice")}
	c.open(t)
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hi"}}}`
	before := g.children(t)
	g.reload(t, stdioSite("allow `mcp.tool.name == \"echo\"`", command()))
	if got := c.post(t, call); got.status != http.StatusOK || !strings.Contains(got.body, "Echo: hi") {
		t.Errorf("got %+v", got)
	}
	if after := g.children(t); len(before) != 1 || !slices.Equal(before, after) {
		t.Errorf("processes %v before the reload, %v after it", before, after)
	}
	g.reload(t, stdioSite("allow true", command(), "env CHANGED yes"))
	if got := c.post(t, call); got.status != http.StatusNotFound {
		t.Errorf("got %+v", got)
	}
	if !poll(stopLimit, func() bool { return len(g.children(t)) == 0 }) {
		t.Errorf("processes %v are left", g.children(t))
	}
	c.session = ""
	c.open(t)
	if got := c.post(t, call); got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
}

// TestStdioEnd: whatever ends the gateway, its servers end with it, and an open stream does not keep it.
func TestStdioEnd(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"asked": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, stdioSite("allow true", nodeServer(t, "everything", "stdio")))
			c := rawClient{url: g.url(), token: token(t, "alice")}
			c.open(t)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url(), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept", "text/event-stream")
			r.Header.Set("Authorization", "Bearer "+c.token)
			r.Header.Set("Mcp-Session-Id", c.session)
			stream, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Body.Close()
			if stream.StatusCode != http.StatusOK {
				t.Fatal(stream.Status)
			}
			c.session = ""
			c.post(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
			servers := g.children(t)
			if len(servers) != 2 {
				t.Fatalf("processes %v, want two", servers)
			}
			g.signal(t, sig)
			g.wait(t, stopLimit)
			for _, pid := range servers {
				if !poll(stopLimit, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }) {
					t.Errorf("process %d is still there", pid)
				}
			}
		})
	}
}
