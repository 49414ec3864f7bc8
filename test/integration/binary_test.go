package integration

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// fullCaddyfile uses all three directives. KEYSERVER is a server of ours that counts who asks it.
const fullCaddyfile = `{
	admin off
	auto_https off
	persist_config off
}

http://mcp.example.com {
	encode
	mcp_jwt https://idp.example.com {
		issuer http://KEYSERVER {
			audiences https://mcp.example.com/mcp
		}
		issuer https://keys.example.com {
			jwks url http://KEYSERVER/keys
		}
		issuer solo.io {
			jwks file keys.json
		}
		mode optional
	}
	mcp_authorize {
		allow {
			name readers
			match_expressions <<CEL
				"dev" in jwt.groups &&
				mcp.tool.name.startsWith("read_")
				CEL
		}
		deny mcp.tool.name == "drop"
		on_deny forbid
	}
	mcp_proxy http://KEYSERVER/mcp http://127.0.0.1:3002/mcp {
		lb_policy header Mcp-Session-Id
		lb_retries 1
		header_up X-User {http.auth.user.id}
		transport http {
			dial_timeout 2s
		}
	}
}
`

const goodKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// runCaddy runs the built binary in a folder with these files, and returns its exit code and all it has written.
func runCaddy(t *testing.T, files map[string]string, args ...string) (code int, output string) {
	t.Helper()
	binary, err := caddyBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// fullFiles are the files of fullCaddyfile; asked counts the requests to its key server.
func fullFiles(t *testing.T) (files map[string]string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(server.Close)
	caddyfile := strings.ReplaceAll(fullCaddyfile, "KEYSERVER", server.Listener.Addr().String())
	return map[string]string{"Caddyfile": caddyfile, "keys.json": goodKeys}, asked
}

// TestCommandsOffline: checking a configuration asks nobody.
func TestCommandsOffline(t *testing.T) {
	files, asked := fullFiles(t)

	code, out := runCaddy(t, files, "validate", "--config", "Caddyfile")
	if code != 0 || !strings.Contains(out, "Valid configuration") {
		t.Errorf("validate: %d\n%s", code, out)
	}

	code, out = runCaddy(t, files, "adapt", "--config", "Caddyfile", "--validate")
	if code != 0 {
		t.Fatalf("adapt: %d\n%s", code, out)
	}
	adapted := ""
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, `{"admin"`) {
			adapted = line
		}
	}
	var tree any
	if err := json.Unmarshal([]byte(adapted), &tree); err != nil {
		t.Fatalf("adapt: %v\n%s", err, out)
	}
	for _, handler := range []string{"mcp_jwt", "mcp_authorize", "mcp_proxy"} {
		if _, ok := findHandler(tree, handler); !ok {
			t.Errorf("adapt: no %s in %s", handler, adapted)
		}
	}
	// what it writes, it accepts
	code, out = runCaddy(t, map[string]string{"caddy.json": adapted, "keys.json": goodKeys}, "validate", "--config", "caddy.json")
	if code != 0 || !strings.Contains(out, "Valid configuration") {
		t.Errorf("validate of the JSON: %d\n%s", code, out)
	}

	code, out = runCaddy(t, files, "fmt", "--diff", "Caddyfile")
	if code != 0 || strings.Contains(out, "\n+") || strings.Contains(out, "\n-") {
		t.Errorf("fmt: %d\n%s", code, out)
	}
	files["Caddyfile"] = strings.Replace(files["Caddyfile"], "\tmcp_authorize {\n\t\tallow {", "mcp_authorize  {\n allow {", 1)
	code, out = runCaddy(t, files, "fmt", "--diff", "Caddyfile")
	if code == 0 || !strings.Contains(out, "\n+ \tmcp_authorize {\n") {
		t.Errorf("fmt of what is not formatted: %d\n%s", code, out)
	}

	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// TestValidateSaysWhatIsWrong: a configuration that cannot work is no surprise at night.
func TestValidateSaysWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		what string
		// from is replaced with to in the Caddyfile; keys is the key file, none when it is empty
		from, to, keys string
		want           []string
	}{
		{"no key file", "", "", "", []string{`issuer \"solo.io\"`, "jwks file: stat keys.json: no such file or directory"}},
		{"a key file that is no JSON", "", "", `{"keys":`, []string{`issuer \"solo.io\"`, "key set: not valid JSON at byte 8"}},
		{"a key file without keys", "", "", `{"keys":[]}`, []string{`issuer \"solo.io\"`, "key set has no usable key"}},
		{
			"a key file with a private key", "", "",
			`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
			[]string{`issuer \"solo.io\"`, `key 1 (kid \"k1\"): is a private key; configure its public half`},
		},
		{
			"a key file with a weak key", "", "", `{"keys":[{"kty":"RSA","kid":"old","e":"AQAB","n":"` + strings.Repeat("q", 171) + `"}]}`,
			[]string{`key 1 (kid \"old\")`, "1024 bits"},
		},
		{"a folder for a key file", "file keys.json", "file .", goodKeys, []string{"jwks file: . is not a regular file"}},
		{
			"no certificate file", "jwks url http://KEYSERVER/keys", "jwks url https://idp.example.com/keys {\n\t\t\t\ttls_ca nowhere.pem\n\t\t\t}", goodKeys,
			[]string{`issuer \"https://keys.example.com\"`, "nowhere.pem: no such file or directory"},
		},
		{
			"a certificate file without certificates", "jwks url http://KEYSERVER/keys",
			"jwks url https://idp.example.com/keys {\n\t\t\t\ttls_ca keys.json\n\t\t\t}", goodKeys,
			[]string{`issuer \"https://keys.example.com\"`, "tls_ca"},
		},
		{
			"a proxy that is no URL", "jwks url http://KEYSERVER/keys", "jwks url https://idp.example.com/keys {\n\t\t\t\tproxy ://\n\t\t\t}", goodKeys,
			[]string{`issuer \"https://keys.example.com\"`, "proxy"},
		},
		{
			"a wrong rule", `"dev" in jwt.groups &&`, `"dev" in jwt.groups &`, goodKeys,
			[]string{`rule "readers": line 1, column 21: Syntax error`, "at Caddyfile:22"},
		},
		{
			"a rule with a placeholder that makes it wrong", `"drop"`, `{env.HOME}`, goodKeys,
			[]string{`rule \"deny#1\": line 1, column 18: Syntax error`},
		},
		{"a placeholder that is empty", `"drop"`, `"{env.MCP_TEST_UNSET}"`, goodKeys, []string{"placeholder {env.MCP_TEST_UNSET} is empty"}},
		{"an unknown option", "on_deny forbid", "on_denied forbid", goodKeys, []string{`unrecognized option "on_denied" of mcp_authorize, at Caddyfile:30`}},
		{"a wrong transport", "dial_timeout 2s", "dial_timeout soon", goodKeys, []string{"bad timeout value 'soon'", "at Caddyfile:37"}},
	} {
		files, asked := fullFiles(t)
		address := strings.Split(strings.SplitAfter(files["Caddyfile"], "issuer http://")[1], " ")[0]
		if !strings.Contains(files["Caddyfile"], strings.ReplaceAll(test.from, "KEYSERVER", address)) {
			t.Fatalf("%s: %q is not in the Caddyfile", test.what, test.from)
		}
		if test.from != "" {
			files["Caddyfile"] = strings.Replace(files["Caddyfile"], strings.ReplaceAll(test.from, "KEYSERVER", address), test.to, 1)
		}
		files["keys.json"] = test.keys
		if test.keys == "" {
			delete(files, "keys.json")
		}
		for _, args := range [][]string{{"validate", "--config", "Caddyfile"}, {"adapt", "--config", "Caddyfile", "--validate"}} {
			code, out := runCaddy(t, files, args...)
			if code != 1 {
				t.Errorf("%s: %s exits with %d:\n%s", test.what, args[0], code, out)
			}
			for _, want := range test.want {
				if !strings.Contains(strings.ReplaceAll(out, `\"`, `"`), strings.ReplaceAll(want, `\"`, `"`)) {
					t.Errorf("%s: %s does not say %s:\n%s", test.what, args[0], want, out)
				}
			}
			if strings.Contains(out, "goroutine ") || strings.Contains(out, "panic") {
				t.Errorf("%s: %s panics:\n%s", test.what, args[0], out)
			}
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("%s: %d requests were made", test.what, n)
		}
	}
}

// TestListModules: the binary has what it is for.
func TestListModules(t *testing.T) {
	code, out := runCaddy(t, nil, "list-modules")
	modules := strings.Fields(out)
	for _, module := range []string{"http.handlers.mcp_jwt", "http.handlers.mcp_authorize", "http.handlers.mcp_proxy"} {
		if code != 0 || !slices.Contains(modules, module) {
			t.Errorf("list-modules: %d, without %s", code, module)
		}
	}
}
