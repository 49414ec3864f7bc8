package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// TestLogInjection: A68. Whatever a client sends, a log line is one JSON object, nobody but us writes one, and no token
// and no argument of a call is in it.
func TestLogInjection(t *testing.T) {
	const site = `http://:PORT {
	log
	log_append tool {mcp.tool.name}
	log_append method {mcp.method}
	log_append session {mcp.session.id}
	log_append resource {mcp.resource.uri}
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
		token_from header Authorization Bearer
		token_from cookie session
		forward_token
	}
	mcp_authorize {
		allow mcp.tool.name != "hidden"
	}
	mcp_proxy http://UPSTREAM/mcp {
		header_up X-User {http.auth.user.id}
		verbose_logs
	}
}
`
	g := start(t, site)
	const forged = "\"}\n{\"level\":\"info\",\"msg\":\"forged\"}\r\n\x1b[2J\x00\u2028\u0085{\"a\":\""
	claims := g.issuer.Claims("alice")
	sign := func(kid string) string {
		return g.issuer.Key.Sign(mcptest.JSON(map[string]string{"alg": "EdDSA", "kid": kid}), mcptest.JSON(claims))
	}
	call := func(method, member, target string) string {
		return mcptest.JSON(map[string]any{
			"jsonrpc": "2.0", "id": forged, "method": method,
			"params": map[string]any{member: target, "arguments": map[string]any{"password": "s3cret-argument"}},
		})
	}
	alice := g.token("alice")
	loud := g.token(forged[:20], map[string]any{"email": forged[:20]})
	tokens := []string{alice, loud, sign(forged), sign(strings.Repeat(forged, 100)), sign("k2"), alice[:len(alice)-6] + "AAAAAA"}

	handled := 0
	post := func(what, token, message string, headers ...string) {
		t.Helper()
		handled++
		if a := g.send("POST", "/mcp?q=%0a%7B%22msg%22%3A%22forged%22%7D", token, message, headers...); a.status == 0 {
			t.Error(what)
		}
	}
	for _, token := range tokens {
		post("kid, sub", token, readFile)
		post("a token in a cookie", "", readFile, "Cookie", "session="+token, "Origin", "http://"+g.address)
		post("a token that is not read", "", readFile, "Proxy-Authorization", "Bearer "+token)
	}
	for _, target := range []string{forged, "hidden", "hidden" + forged, strings.Repeat("a", 100_000)} {
		post("tool", alice, call("tools/call", "name", target))
		post("prompt", alice, call("prompts/get", "name", target))
		post("resource", alice, call("resources/read", "uri", target))
		post("method", alice, call(target, "name", "x"))
	}
	for _, session := range []string{`"}{"msg":"forged"}`, "\xff\xfe\x80", "tab\tand blank", `\u000a{"msg":"forged"}`, `{env.HOME}`, strings.Repeat("s", 10_000)} {
		post("session", alice, readFile, "Mcp-Session-Id", session)
		post("version", alice, readFile, "Mcp-Protocol-Version", session)
		post("user agent", alice, readFile, "User-Agent", session)
	}
	post("not JSON", alice, forged)
	post("not an object", alice, `["s3cret-argument"]`)
	// a NUL or a line break in a header never gets past Go's server
	g.raw(rawPost("/mcp", readFile, "Mcp-Session-Id: a\x00b")).expect(t, "NUL", 400, "")
	g.raw(rawPost("/mcp", readFile, "Mcp-Session-Id: a\r\n{\"msg\":\"forged\"}")).expect(t, "line break", 400, "")
	// nor is the message of an upstream that is gone an open door
	g.upstream.Close()
	post("no upstream", alice, call("tools/call", "name", forged))

	var entries []map[string]any
	waitFor(t, "every request to be in the log", func() bool {
		entries = readLog(t, g.logFile)
		count := 0
		for _, entry := range entries {
			if entry["msg"] == "handled request" {
				count++
			}
		}
		return count == handled
	})
	tools, sessions := map[any]bool{}, map[any]bool{}
	for _, entry := range entries {
		if entry["msg"] == "forged" {
			t.Errorf("forged: %v", entry)
		}
		tools[entry["tool"]], sessions[entry["session"]] = true, true
	}
	// the names are there, as values; and a placeholder in one stays text
	if !tools[forged] || !sessions[`"}{"msg":"forged"}`] || !sessions["{env.HOME}"] {
		t.Errorf("tools %v, sessions %v", tools, sessions)
	}
	log, err := os.ReadFile(g.logFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		parts := strings.Split(token, ".")
		for _, part := range []string{parts[1], parts[2]} {
			if i := bytes.Index(log, []byte(part)); i >= 0 {
				t.Errorf("a part of a token is in the log: %q", log[max(0, i-300):i+len(part)])
			}
		}
	}
	if i := bytes.Index(log, []byte("s3cret-argument")); i >= 0 {
		t.Errorf("an argument is in the log: %q", log[max(0, i-300):i])
	}
	if bytes.ContainsAny(log, "\x00\x1b\r") {
		t.Error("there are raw control characters in the log")
	}
}

// readLog wants every line of a log to be one JSON object, with a level, a time and a message.
func readLog(t *testing.T, file string) []map[string]any {
	t.Helper()
	log, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var entries []map[string]any
	for line := range bytes.Lines(log) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var entry map[string]any
		decoder := json.NewDecoder(bytes.NewReader(line))
		if err := decoder.Decode(&entry); err != nil {
			t.Fatalf("not JSON: %v: %q", err, line)
		}
		if _, err := decoder.Token(); err != io.EOF {
			t.Fatalf("more than one value in a line: %q", line)
		}
		if entry["level"] == nil || entry["ts"] == nil || entry["msg"] == nil {
			t.Fatalf("not a log entry: %q", line)
		}
		entries = append(entries, entry)
	}
	return entries
}

// TestClientFaultsAreNoErrors: what clients do wrong is not logged as an error, and successes not as information, or
// anybody could fill the disk.
func TestClientFaultsAreNoErrors(t *testing.T) {
	g := start(t, wireSite)
	before := len(readLog(t, g.logFile))
	g.post("", readFile).expect(t, "no token", http.StatusUnauthorized, "")
	g.post("x", readFile).expect(t, "bad token", http.StatusUnauthorized, "")
	g.post(g.token("bob"), readFile).expect(t, "bob", http.StatusForbidden, "")
	g.post(g.token("alice"), "{").expect(t, "not JSON", http.StatusBadRequest, "")
	g.post(g.token("alice"), readFile).expect(t, "alice", http.StatusOK, "")
	g.send("PUT", "/mcp", g.token("alice"), "").expect(t, "PUT", http.StatusMethodNotAllowed, "")
	for _, entry := range readLog(t, g.logFile)[before:] {
		logger, _ := entry["logger"].(string)
		if strings.HasPrefix(logger, "http.handlers.mcp_") && entry["level"] != "debug" {
			t.Errorf("%v", entry)
		}
	}
}
