package e2e

import (
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// harmless is a value for variables of which nothing is known; it is a session key as well.
const harmless = "aGFybWxlc3MsIGhhcm1sZXNzIGFuZCBoYXJtbGVzcy4="

// TestExamplesAreValid loads every configuration in examples/, without a network. A variable of the environment that
// has no default gets a harmless value.
func TestExamplesAreValid(t *testing.T) {
	files := exampleConfigs(t)
	if len(files) < 4 {
		t.Errorf("only %d configurations found: %q", len(files), files)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			args := []string{"validate", "--config", file}
			if !strings.HasSuffix(file, ".json") {
				args = append(args, "--adapter", "caddyfile")
			}
			cmd := caddyCommand(t, args...)
			cmd.Env = append(cmd.Env, harmlessVariables(t, file)...)
			r := run(t, cmd)
			if r.status != 0 || !strings.Contains(r.out, "Valid configuration") {
				t.Errorf("exit status %d:\n%s", r.status, r.out)
			}
			if strings.Contains(r.out, "not formatted") {
				t.Errorf("`caddy fmt` would change it:\n%s", r.out)
			}
		})
	}
}

// exampleConfigs lists the Caddyfiles in examples/, and the JSON files that hold a whole configuration.
func exampleConfigs(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(inRepository("examples"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		base := strings.ToLower(d.Name())
		whole := strings.HasPrefix(base, "caddyfile") || strings.HasSuffix(base, ".caddyfile")
		if strings.HasSuffix(base, ".json") {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			whole = strings.Contains(string(text), `"apps"`)
		}
		if whole {
			name, err := filepath.Rel(repository, path)
			if err != nil {
				return err
			}
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// variable is {$NAME} or {env.NAME}, without a default.
var variable = regexp.MustCompile(`\{(?:\$|env\.)(\w+)\}`)

func harmlessVariables(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(inRepository(file))
	if err != nil {
		t.Fatal(err)
	}
	var variables []string
	for _, match := range variable.FindAllStringSubmatch(string(text), -1) {
		variables = append(variables, match[1]+"="+harmless)
	}
	return variables
}

// startExample starts the gateway with the Caddyfile of an example, on a port of its own, and returns its URL.
func startExample(t *testing.T, name string, env ...string) string {
	t.Helper()
	port, admin := freePort(t), freePort(t)
	cmd := caddyCommand(t, "run", "--config", "examples/"+name+"/Caddyfile")
	cmd.Env = append(cmd.Env, fmt.Sprintf("GATEWAY_PORT=%d", port), "CADDY_ADMIN="+loopback(admin))
	cmd.Env = append(cmd.Env, env...)
	p := startServing(t, cmd)
	p.waitForPort(t, admin)
	p.waitForPort(t, port)
	return "http://" + loopback(port) + "/mcp"
}

// TestGitHub puts an HTTPS server of this machine in GitHub's place, with a certificate that the gateway trusts because
// its environment says so: the example itself is used as it is.
func TestGitHub(t *testing.T) {
	const githubToken = "github_pat_of_the_gateway"
	github := startRecorder(t, startDemo(t), func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
	authority := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: github.Certificate().Raw})
	if err := os.WriteFile(authority, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	url := startExample(t, "github",
		"GITHUB_TOKEN="+githubToken, "GITHUB_MCP_URL="+github.URL+"/mcp/", "SSL_CERT_FILE="+authority)

	alice, bob := token(t, "alice"), token(t, "bob")
	tellStory(t, url, []chapter{
		{"nobody", "", 1, "authentication failure: no bearer token found"},
		{"Alice", alice, 0, "You are nobody in particular."},
		{"Bob", bob, 0, "You are nobody in particular."},
	})
	if r := callTool(t, url, alice, "delete_repo", "repo=acme/api"); !strings.Contains(r.out, "Unknown tool: delete_repo") {
		t.Errorf("a tool that writes: exit status %d:\n%s", r.status, r.out)
	}
	for _, r := range github.seen(t) {
		if got := r.Header.Values("Authorization"); len(got) != 1 || got[0] != "Bearer "+githubToken {
			t.Errorf("%s: Authorization is %q, want the token of the gateway", r.Method, got)
		}
		if r.URL.Path != "/mcp/" || "https://"+r.Host != github.URL {
			t.Errorf("the request went to %s%s, want %s/mcp/", r.Host, r.URL.Path, github.URL)
		}
	}
	github.wantWithout(t, alice)
	github.wantWithout(t, bob)
}

// TestReverseProxy is the story of examples/reverse_proxy.
func TestReverseProxy(t *testing.T) {
	demo := startRecorder(t, startDemo(t), (*httptest.Server).Start)
	upstream := strings.TrimPrefix(demo.URL, "http://")
	url := startExample(t, "reverse_proxy", "UPSTREAM="+upstream)
	alice, bob := token(t, "alice"), token(t, "bob")
	tellStory(t, url, []chapter{
		{"nobody", "", 1, "authentication failure: no bearer token found"},
		{"Alice", alice, 0, "You are alice."},
		{"Bob", bob, 0, "You are bob."},
	})
	if r := callTool(t, url, bob, "delete_repo", "repo=acme/api"); !strings.Contains(r.out, "Unknown tool: delete_repo") {
		t.Errorf("Bob deletes: exit status %d:\n%s", r.status, r.out)
	}
	if r := callTool(t, url, alice, "delete_repo", "repo=acme/api"); r.status != 0 || !strings.Contains(r.out, "Deleted acme/api.") {
		t.Errorf("Alice deletes: exit status %d:\n%s", r.status, r.out)
	}
	demo.wantWithout(t, alice)
	demo.wantWithout(t, bob)
}

// TestExamplePages types what the READMEs of the examples tell to type, all of it, at the ports that stand there.
func TestExamplePages(t *testing.T) {
	for example, args := range map[string][]string{
		"admin-api":     {"run"},
		"browser":       {"run", "--config", "examples/browser/Caddyfile"},
		"reverse_proxy": {"run", "--config", "examples/reverse_proxy/Caddyfile"},
	} {
		t.Run(example, func(t *testing.T) {
			wantFixedPorts(t)
			startDemo(t, "-listen", loopback(quickstartDemoPort))
			p := startServing(t, caddyCommand(t, args...))
			p.waitForPort(t, quickstartAdminPort)
			if example != "admin-api" { // which has no site yet
				p.waitForPort(t, quickstartPort)
			}
			s := startShell(t, repository)
			for _, b := range exampleBlocks(t, example) {
				s.follow(t, b)
			}
		})
	}
}

// TestReplicasPage types what the README of examples/replicas tells to type, at the ports that stand there.
func TestReplicasPage(t *testing.T) {
	wantFixedPorts(t)
	for _, port := range []int{quickstartDemoPort, quickstartDemoPort + 1} {
		startDemo(t, "-stateful", "-listen", loopback(port))
	}
	for i := range 2 {
		cmd := caddyCommand(t, "run", "--config", "examples/replicas/Caddyfile")
		cmd.Env = append(cmd.Env, "SESSION_KEY="+harmless, fmt.Sprintf("GATEWAY_PORT=%d", quickstartPort+i),
			"CADDY_ADMIN="+loopback(quickstartAdminPort+i))
		startServing(t, cmd).waitForPort(t, quickstartPort+i)
	}
	s := startShell(t, repository)
	for _, b := range exampleBlocks(t, "replicas") {
		s.follow(t, b)
	}
}

// exampleBlocks reads what the README of an example tells to type.
func exampleBlocks(t *testing.T, example string) []block {
	t.Helper()
	page, err := os.ReadFile(inRepository("examples/" + example + "/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := consoleBlocks(string(page))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("%d console blocks, %v", len(blocks), err)
	}
	return blocks
}

// TestQuickstartPage types what the README of the quickstart tells to type. Half way it tells to change a rule in the
// Caddyfile: here the reader has a copy of the files.
func TestQuickstartPage(t *testing.T) {
	const caddyfile, original, changed = "Caddyfile", "\t\tallow true\n\t\t# allow", "\t\tallow"
	startQuickstart(t)
	home := t.TempDir()
	files := filepath.Join(home, "examples", "quickstart")
	if err := os.CopyFS(files, os.DirFS(inRepository("examples/quickstart"))); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(files, caddyfile))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), original) != 1 {
		t.Fatal("the rule that readers change is not in the Caddyfile")
	}
	edited := strings.Replace(string(text), original, changed, 1)

	s := startShell(t, home)
	loaded := false
	for _, b := range exampleBlocks(t, "quickstart") {
		if !loaded && strings.Contains(b.steps[0].command, "/load") {
			loaded = true
			if err := os.WriteFile(filepath.Join(files, caddyfile), []byte(edited), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.follow(t, b)
	}
	if !loaded {
		t.Error("nobody is told to load the changed Caddyfile")
	}
}
