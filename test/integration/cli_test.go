package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// commandLine runs `caddy mcp` as a user types it, in one folder.
type commandLine struct {
	t   *testing.T
	dir string
}

type ended struct {
	t              *testing.T
	args           []string
	code           int
	stdout, stderr string
}

func newCommandLine(t *testing.T, files map[string]string) *commandLine {
	t.Helper()
	c := &commandLine{t, t.TempDir()}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *commandLine) run(args ...string) *ended { return c.runWith("", args...) }

func (c *commandLine) runWith(stdin string, args ...string) *ended {
	c.t.Helper()
	binary, err := caddyBinary()
	if err != nil {
		c.t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(c.t.Context(), binary, append([]string{"mcp"}, args...)...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		c.t.Fatal(err)
	}
	return &ended{c.t, args, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// wants checks the exit code and texts of stdout.
func (e *ended) wants(code int, texts ...string) *ended {
	e.t.Helper()
	if e.code != code {
		e.t.Errorf("%q exits with %d, want %d\n%s%s", e.args, e.code, code, e.stdout, e.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(e.stdout, text) {
			e.t.Errorf("%q does not say %q:\n%s%s", e.args, text, e.stdout, e.stderr)
		}
	}
	if strings.Contains(e.stderr, "goroutine ") || strings.Contains(e.stdout, "exiting with status") || strings.Contains(e.stderr, "exiting with status") {
		e.t.Errorf("%q:\n%s%s", e.args, e.stdout, e.stderr)
	}
	return e
}

// json is the output as JSON, and nothing else.
func (e *ended) json() map[string]any {
	e.t.Helper()
	var value map[string]any
	if err := json.Unmarshal([]byte(e.stdout), &value); err != nil {
		e.t.Fatalf("%q: %v\n%s", e.args, err, e.stdout)
	}
	return value
}

// TestCommandLineHelp: every command explains itself, with an example.
func TestCommandLineHelp(t *testing.T) {
	c := newCommandLine(t, nil)
	c.run().wants(0, "keygen", "token", "check", "explain", "doctor")
	for _, name := range []string{"keygen", "token", "check", "explain", "doctor"} {
		c.run(name, "--help").wants(0, "Usage:\n  caddy mcp "+name, "Examples:\n  $ caddy mcp "+name, "--json")
		if e := c.run(name, "--nonsense").wants(1); !strings.Contains(e.stderr, "unknown flag: --nonsense") {
			t.Errorf("%s: %s", name, e.stderr)
		}
	}
	if e := c.run("chekc").wants(1); !strings.Contains(e.stderr, `unknown command "chekc" for "caddy mcp"`) {
		t.Error(e.stderr)
	}
}

// TestCommandLineKeys: what keygen and token make, a gateway accepts.
func TestCommandLineKeys(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			c := newCommandLine(t, nil)
			c.run("keygen", "--alg", alg).wants(0, "jwks file jwks.json")
			if e := c.run("keygen", "--alg", alg).wants(1); !strings.Contains(e.stderr, "private.jwk is already there; --force replaces it") {
				t.Error(e.stderr)
			}
			if got := c.run("keygen", "--json").wants(1).json()["error"]; got != "private.jwk is already there; --force replaces it" {
				t.Errorf("%v", got)
			}
			made := c.run("keygen", "--alg", alg, "--force", "--json").wants(0).json()
			if made["alg"] != alg || made["jwks"] != "jwks.json" {
				t.Errorf("%v", made)
			}
			g := start(t, strings.ReplaceAll(storySite, "KEYS", filepath.Join(c.dir, "jwks.json")))
			token := func(args ...string) string {
				args = append([]string{"token", "--iss", "https://idp.example.com", "--aud", "https://mcp.example.com/mcp", "--sub", "alice"}, args...)
				return strings.TrimSpace(c.run(args...).wants(0).stdout)
			}
			g.post(token("--claim", `groups=["dev"]`), initialize).expect(t, "a developer", http.StatusOK, `"result"`)
			g.post(token("--claim", `groups=["sales"]`), initialize).expect(t, "sales", http.StatusForbidden, "authorization failed")
			g.post(token("--expires=-2m"), initialize).expect(t, "expired", http.StatusUnauthorized, "token expired")
			g.post(token("--expires", "never"), initialize).expect(t, "without exp", http.StatusUnauthorized, `missing required claim "exp"`)
			g.post(token("--typ", "dpop+jwt"), initialize).expect(t, "another type", http.StatusUnauthorized, "token type not accepted")
			signed := c.run("token", "--json", "--claim", "x=1").wants(0).json()
			if claims := signed["claims"].(map[string]any); claims["x"] != 1.0 || len(strings.Split(signed["token"].(string), ".")) != 3 {
				t.Errorf("%v", signed)
			}
		})
	}
	c := newCommandLine(t, nil)
	if e := c.run("token").wants(1); !strings.Contains(e.stderr, "private.jwk: no such file") {
		t.Error(e.stderr)
	}
}

const checkedSite = `http://mcp.example.com {
	mcp_authorize {
		allow jwt.sub == "alice"
		allow mcp.tool.name.startsWith("read_") && "dev" in jwt.groups
	}
	mcp_proxy http://127.0.0.1:3001/mcp
}
`

// TestCommandLineCheck: in CI the exit code is what counts.
func TestCommandLineCheck(t *testing.T) {
	const cases = "cases:\n  - {claims: {sub: alice}, method: tools/call, target: x, expect: allow, rule: allow#1}\n" +
		"  - {claims: {sub: bob}, method: tools/call, target: read_x, expect: %s}\n"
	const line = `{"ts":1785585600,"iss":"i","sub":"%s","mcp.method":"tools/call","mcp.target":"%s","mcp.decision":"%s","mcp.version":"2025-06-18"}` + "\n"
	c := newCommandLine(t, map[string]string{
		"Caddyfile": checkedSite, "wrong.caddyfile": strings.Replace(checkedSite, "jwt.sub", "jwt.sub ==", 1),
		"good.yaml": fmt.Sprintf(cases, "deny"), "bad.yaml": fmt.Sprintf(cases, "allow"), "broken.yaml": "cases: {",
		"same.log":    fmt.Sprintf(line, "alice", "x", "allow") + fmt.Sprintf(line, "bob", "x", "deny"),
		"changed.log": fmt.Sprintf(line, "bob", "x", "allow"),
		"open.log":    fmt.Sprintf(line, "bob", "read_x", "allow"),
	})
	c.run("check").wants(0, "mcp_authorize 1 at /apps/http/servers/srv0/routes/0/handle/0", ": 2 rules")
	c.run("check", "--config", "Caddyfile", "--cases", "good.yaml").wants(0, "2 cases, 2 passed, 0 failed")
	c.run("check", "--cases", "bad.yaml").wants(4, "FAIL bad.yaml:3: tools/call read_x\n", "\n- allow\n+ deny by default\n", "2 cases, 1 passed, 1 failed")
	if found := c.run("check", "--json", "--cases", "bad.yaml").wants(4).json(); found["failed"] != 1.0 || found["passed"] != 1.0 {
		t.Errorf("%v", found)
	}
	if e := c.run("check", "--config", "wrong.caddyfile").wants(1); !strings.Contains(e.stderr, "at wrong.caddyfile:3") {
		t.Error(e.stderr)
	}
	if e := c.run("check", "--cases", "broken.yaml").wants(1); !strings.Contains(e.stderr, "broken.yaml") {
		t.Error(e.stderr)
	}
	if got := c.run("check", "--json", "--config", "missing").wants(1).json()["error"]; !strings.Contains(fmt.Sprint(got), "no such file") {
		t.Errorf("%v", got)
	}
	adapted, err := exec.CommandContext(t.Context(), must(caddyBinary()), "adapt", "--config", filepath.Join(c.dir, "Caddyfile")).Output()
	if err != nil {
		t.Fatal(err)
	}
	c.runWith(string(adapted), "check", "--config", "-").wants(0, "mcp_authorize 1 at")

	c.run("check", "--replay", "same.log").wants(0, "2 decisions, 2 unchanged, 0 changed, 0 undecided")
	c.run("check", "--replay", "open.log").wants(5, "0 changed, 1 undecided", "allow#2 depends on jwt.groups")
	c.run("check", "--replay", "changed.log").wants(4, "1 changed", "1x tools/call x, by bob of i\n- allow\n+ deny by default\n")
	if found := c.run("check", "--json", "--replay", "open.log").wants(5).json()["replay"].(map[string]any); found["undecided"] != 1.0 {
		t.Errorf("%v", found)
	}
}

func must(text string, err error) string {
	if err != nil {
		panic(err)
	}
	return text
}

func TestCommandLineExplain(t *testing.T) {
	c := newCommandLine(t, map[string]string{"Caddyfile": checkedSite})
	c.run("keygen").wants(0)
	token := c.run("token", "--sub", "alice").wants(0).stdout
	c.runWith(token, "explain", "--token", "-", "tools/call", "x").wants(0, "NOT verified", "allow by allow#1", "it goes on to the server")
	c.run("explain", "--claims", `{"sub":"bob"}`, "tools/call", "x", `{"a":1}`).wants(0, "deny by default", "allow#2 (allow) has no effect", "= error, no such key: groups")
	found := c.run("explain", "--json", "--claims", `{"sub":"bob"}`, "initialize").wants(0).json()
	if found["decision"] != "deny" || found["outcome"] != "deny" || found["answer"].(map[string]any)["status"] != 403.0 || found["token_verified"] != nil {
		t.Errorf("%v", found)
	}
	if e := c.run("explain", "tools/call", "x", "{").wants(1); !strings.Contains(e.stderr, "the arguments must be a JSON object") {
		t.Error(e.stderr)
	}
}

func TestCommandLineDoctor(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			issuer := "http://" + r.Host
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/keys","code_challenge_methods_supported":["S256"]}`, issuer, issuer)
		case "/keys":
			fmt.Fprint(w, mcptest.Set(mcptest.NewKey("ES256", "k")))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	issuer := server.URL
	c := newCommandLine(t, nil)
	e := c.run("doctor", issuer).wants(0, "ok       PKCE: S256 is announced", "warning  registration:", `EC ES256 "k": can be used`, "mcp_jwt "+issuer+" {")
	// the block it writes loads
	_, block, _ := strings.Cut(e.stdout, "\nmcp.example.com {\n")
	code, out := runCaddy(t, map[string]string{"Caddyfile": "{\n\tadmin off\n\tauto_https off\n}\nhttp://mcp.example.com {\n" + block}, "validate")
	if code != 0 {
		t.Errorf("%d\n%s\n%s", code, block, out)
	}
	if found := c.run("doctor", "--json", issuer).wants(0).json(); fmt.Sprint(found["ok"]) != "true" || found["jwks_uri"] != issuer+"/keys" {
		t.Errorf("%v", found)
	}
	c.run("doctor", issuer+"/").wants(4, "error    discovery: no document of this issuer was found", `the document is for issuer "`+issuer+`"`)
	if found := c.run("doctor", "--json", issuer+"/x").wants(4).json(); fmt.Sprint(found["ok"]) != "false" || found["caddyfile"] != nil {
		t.Errorf("%v", found)
	}
	if e := c.run("doctor").wants(1); !strings.Contains(e.stderr, "accepts 1 arg(s)") {
		t.Error(e.stderr)
	}
}

// TestExampleCases: every example with rules ships cases, and they hold.
func TestExampleCases(t *testing.T) {
	const examples = "../../examples"
	t.Setenv("SESSION_KEY", strings.Repeat("A", 43)+"=")
	folders, err := filepath.Glob(examples + "/*")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c := &commandLine{t, root} // which the paths in the examples are relative to
	checked := 0
	for _, folder := range folders {
		name := filepath.Base(folder)
		var configs []string
		for _, pattern := range []string{"Caddyfile", "*.caddyfile", "*.json"} {
			found, err := filepath.Glob(filepath.Join(folder, pattern))
			if err != nil {
				t.Fatal(err)
			}
			configs = append(configs, found...)
		}
		for _, config := range configs {
			text, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(text, []byte("mcp_authorize")) {
				continue
			}
			cases := "cases.yaml" // of the Caddyfile; others are named after their configuration
			if base := filepath.Base(config); base != "Caddyfile" {
				cases = strings.TrimSuffix(base, filepath.Ext(base)) + ".cases.yaml"
			}
			if _, err := os.Stat(filepath.Join(folder, cases)); err != nil {
				t.Errorf("examples/%s/%s has an mcp_authorize and no %s", name, filepath.Base(config), cases)
				continue
			}
			checked++
			c.run("check", "--config", filepath.Join("examples", name, filepath.Base(config)), "--cases", filepath.Join("examples", name, cases)).wants(0, " 0 failed")
		}
	}
	if checked < 14 {
		t.Errorf("only %d configurations have cases", checked)
	}
}
