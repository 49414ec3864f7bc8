package cli

import (
	"encoding/base64"
	"strings"
	"testing"
)

func unsigned(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES256"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte("no signature"))
}

func TestExplain(t *testing.T) {
	inFolder(t, map[string]string{"Caddyfile": siteCaddyfile})
	r := execute(t, "", "explain", "--claims", `{"sub":"bob","groups":["dev"]}`, "tools/call", "drop", `{"all":true}`)
	r.wants(t, exitOK, `hidden by deny#1: this caller can never use the target: refused by deny#1
answer: HTTP 200, {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Unknown tool: drop"}}

may this call happen? tools/call drop: no, deny#1
  alice (allow) has no effect
    jwt.sub == "alice"
      = false
  allow#2 (allow) has no effect
    "dev" in jwt.groups && mcp.tool.name.startsWith("read_")
      = false
        "dev" in jwt.groups
          = true
        mcp.tool.name.startsWith("read_")
          = false
  deny#1 (deny) denies
    mcp.tool.name == "drop" && mcp.tool.arguments.all
      = true

is anything at all allowed? any operation: yes, allow#2
`, "may this be seen, whatever the arguments? tools/call drop: no, default", "scope write: needed no, granted no")
	if strings.Contains(r.stdout, "NOT verified") {
		t.Error("there was no token")
	}

	execute(t, "", "explain", "--claims", `{"sub":"alice"}`, "tools/call", "write").wants(t, exitOK,
		"scope: the rules allow it, but the token lacks a scope", "challenge: insufficient_scope, write")
	execute(t, "", "explain", "--claims", `{"sub":"alice"}`, "ping").wants(t, exitOK, "allow by alice: allowed by alice\nit goes on to the server\n",
		"may this request pass, whatever it leads to? ping: yes, alice", "= unknown, depends on mcp.tool.arguments, mcp.tool.name")
	execute(t, "", "explain", "tools/call", "x").wants(t, exitOK, "deny by default: nothing at all is allowed", "= error, no such key: sub")
	execute(t, "", "explain", "--claims", `{"sub":"bob","groups":["dev"]}`, "tools/list", "x").wants(t, exitOK, "hidden by default", "it is taken out of the list")
}

func TestExplainToken(t *testing.T) {
	inFolder(t, map[string]string{"Caddyfile": siteCaddyfile})
	token := unsigned(`{"sub":"alice"}`)
	const warning = "The signature of the token was NOT verified"
	execute(t, "", "explain", "--token", token, "ping").wants(t, exitOK, warning, "allow by alice")
	execute(t, token+"\n", "explain", "--token", "-", "ping").wants(t, exitOK, warning, "allow by alice")
	found := decode[struct {
		Decision, Outcome, Rule string
		Verified                *bool `json:"token_verified"`
		Operation               struct{ Claims map[string]string }
		Handler                 struct{ Path string }
		Questions               []struct {
			Asked string
			Rules []struct{ Name, Effect string }
		}
	}](t, execute(t, "", "explain", "--json", "--token", token, "ping"))
	if found.Decision != "allow" || found.Rule != "alice" || found.Verified == nil || *found.Verified || found.Operation.Claims["sub"] != "alice" ||
		found.Handler.Path == "" || found.Questions[0].Asked != "request" || found.Questions[0].Rules[0].Effect != "grants" {
		t.Errorf("%+v", found)
	}
	for _, bad := range []string{"x", "a.b", "a.b.c", "a." + strings.Repeat("=", 4) + ".c", unsigned(`[]`), unsigned(`{"a":1,"a":2}`), unsigned(`{}x`), token + ".x"} {
		execute(t, "", "explain", "--token", bad, "ping").wants(t, exitFailed, "--token is not a token of three parts")
	}
	execute(t, strings.Repeat("a", maxToken+1), "explain", "--token", "-", "ping").wants(t, exitFailed, "the token is larger than 1048576 bytes")
	execute(t, "", "explain", "--token", token, "--claims", "{}", "ping").wants(t, exitFailed, "not from both")
}

func TestExplainRequest(t *testing.T) {
	inFolder(t, map[string]string{"Caddyfile": "http:// {\n\tmcp_authorize {\n\t\tallow `request.scheme == \"http\" && request.host == \"h\" && request.uri == \"/p?q=1\" && " +
		"request.headers[\"x-a\"] == \"b: c\" && source.address == \"192.0.2.1\" && now == timestamp(\"2026-08-01T12:00:00Z\") && mcp.version == \"2025-11-25\" && mcp.prompt.name == \"p\"`\n\t}\n}\n"})
	args := []string{
		"explain", "--scheme", "http", "--host", "h", "--uri", "/p?q=1", "--header", "X-A: b: c", "--source", "192.0.2.1:9", "--time", "2026-08-01T12:00:00Z",
		"--mcp-version", "2025-11-25", "--params", `{"ref":{"type":"ref/prompt","name":"p"}}`, "completion/complete",
	}
	execute(t, "", args...).wants(t, exitOK, "allow by allow#1")
	for i := 1; i+1 < len(args)-2; i += 2 {
		less := append(append([]string{}, args[:i]...), args[i+2:]...)
		if r := execute(t, "", less...); strings.Contains(r.stdout, "allow by") {
			t.Errorf("without %s: %s", args[i], r.stdout)
		}
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--claims", "[]", "ping"}, "--claims must be a JSON object"},
		{[]string{"--claims", `{"a":1,"a":2}`, "ping"}, "--claims must be a JSON object without duplicate names"},
		{[]string{"tools/call", "x", "y"}, "the arguments must be a JSON object"},
		{[]string{"--params", "1", "ping"}, "--params must be a JSON object"},
		{[]string{"--header", "x", "ping"}, `--header "x": must be <name>: <value>`},
		{[]string{"--time", "noon", "ping"}, "--time: "},
		{[]string{"--uri", "x", "ping"}, "invalid URI"},
		{[]string{"ping", "x"}, "this method has no target"},
		{[]string{"--handler", "7", "ping"}, `0 mcp_authorize are called "7"`},
		{[]string{"--config", "missing", "ping"}, "no such file"},
	} {
		execute(t, "", append([]string{"explain"}, test.args...)...).wants(t, exitFailed, test.want)
	}
}
