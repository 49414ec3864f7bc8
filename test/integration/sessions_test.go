package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

const sessionID = "Mcp-Session-Id"

// session begins one that belongs to the subject of a token, and returns the id that the client got.
func (g *gateway) session(token string) string {
	g.t.Helper()
	a := g.post(token, initialize)
	ids := a.header.Values(sessionID)
	if a.status != http.StatusOK || len(ids) != 1 {
		g.t.Fatalf("initialize: %d %s, session ids %q", a.status, a.body, ids)
	}
	return ids[0]
}

// sessionSite lets everybody in who has a token.
var sessionSite = strings.Replace(wireSite, `allow jwt.sub == "alice"`, "allow true", 1)

// requestsOf are all that a client can send in a session.
var requestsOf = []struct {
	what, method, body string
	headers            []string
}{
	{"POST", "POST", readFile, nil},
	{"a notification", "POST", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, nil},
	{"an answer", "POST", `{"jsonrpc":"2.0","id":1,"result":{}}`, nil},
	{"initialize", "POST", initialize, nil},
	{"GET", "GET", "", []string{"Accept", "text/event-stream"}},
	{"GET of what was missed", "GET", "", []string{"Accept", "text/event-stream", "Last-Event-ID", "7"}},
	{"DELETE", "DELETE", "", nil},
}

// TestForeignSession: A140. The session of another user is one that is not there, and the server hears nothing of it.
func TestForeignSession(t *testing.T) {
	g := start(t, sessionSite)
	g.upstream.sessionID = "the-servers-own-id"
	alice := g.token("alice", map[string]any{"client_id": "app"})
	id := g.session(alice)
	if strings.Contains(id, g.upstream.sessionID) {
		t.Errorf("the client got the server's own id: %s", id)
	}
	g.reached("initialize", 1)
	foreign := map[string]string{
		"another user":   g.token("bob", map[string]any{"client_id": "app"}),
		"another client": g.token("alice", map[string]any{"client_id": "other"}),
		"no client":      g.token("alice"),
	}
	own := map[string]string{
		"its owner":         alice,
		"a refreshed token": g.token("alice", map[string]any{"client_id": "app", "jti": "2", "scope": "more"}),
	}
	for _, r := range requestsOf {
		headers := append([]string{sessionID, id}, r.headers...)
		for who, token := range foreign {
			a := g.send(r.method, "/mcp", token, r.body, headers...)
			a.expect(t, r.what+" of "+who, http.StatusNotFound, "session not found")
			g.reached(r.what+" of "+who, 0)
		}
		for who, token := range own {
			a := g.send(r.method, "/mcp", token, r.body, headers...)
			if a.status >= 300 || a.header.Get(sessionID) != id {
				t.Errorf("%s of %s: %d %s, session id %q", r.what, who, a.status, a.body, a.header.Get(sessionID))
			}
			for _, seen := range g.reached(r.what+" of "+who, 1) {
				if got := seen.header.Values(sessionID); len(got) != 1 || got[0] != g.upstream.sessionID {
					t.Errorf("%s of %s: the server got the ids %q", r.what, who, got)
				}
				for i := 0; i+1 < len(r.headers); i += 2 {
					if got := seen.header.Get(r.headers[i]); got != r.headers[i+1] {
						t.Errorf("%s of %s: %s is %q", r.what, who, r.headers[i], got)
					}
				}
			}
		}
	}
	// the order of checks: no token is 401, whatever the session
	g.send("POST", "/mcp", "", readFile, sessionID, id).expect(t, "no token", http.StatusUnauthorized, "")
	g.reached("no token", 0)
}

// TestSessionGuesses: A141, A142.
func TestSessionGuesses(t *testing.T) {
	g := start(t, sessionSite)
	g.upstream.sessionID = "the-servers-own-id"
	alice := g.token("alice")
	id := g.session(alice)
	g.reached("initialize", 1)
	for i := range 200 {
		guess := fmt.Sprintf("%s%04d", id[:len(id)-4], i)
		g.send("POST", "/mcp", alice, readFile, sessionID, guess).expect(t, guess, http.StatusNotFound, "session not found")
	}
	bearer := "Authorization: Bearer " + alice
	for what, test := range map[string]struct {
		line   string
		status int
	}{
		"the server's own": {sessionID + ": the-servers-own-id", 404},
		"10 kB":            {sessionID + ": " + strings.Repeat("x", 10000), 400},
		"NUL":              {sessionID + ": a\x00b", 400},
		"a blank":          {sessionID + ": " + id + " " + id, 400},
		"8 bits":           {sessionID + ": \xe4", 400},
		"empty":            {sessionID + ":", 400},
		"twice":            {sessionID + ": " + id + "\r\n" + sessionID + ": " + id, 400},
		"folded":           {sessionID + ": " + id[:9] + "\r\n " + id[9:], 400},
		"CRLF":             {sessionID + ": " + id + "\r\nX: y\r\n" + sessionID + ": x", 400},
	} {
		g.raw(rawPost("/mcp", readFile, bearer, test.line, "Connection: close")).expect(t, what, test.status, "")
	}
	// a header whose name looks alike to some servers
	g.raw(rawPost("/mcp", readFile, bearer, "Mcp_Session_Id: the-servers-own-id", "Connection: close")).expect(t, "underscores", 200, "")
	for _, seen := range g.reached("guesses", 1) {
		for name := range seen.header {
			if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), sessionID) {
				t.Errorf("the server got %s: %q", name, seen.header[name])
			}
		}
	}
}

// TestSessionsOutliveReloads: the key stays, so sessions do.
func TestSessionsOutliveReloads(t *testing.T) {
	g := start(t, sessionSite)
	g.upstream.sessionID = "the-servers-own-id"
	alice := g.token("alice")
	id := g.session(alice)
	other := strings.Replace(sessionSite, "allow true", "allow jwt.sub != \"\"", 1)
	for range 2 {
		g.load(g.adapt(other))
		g.send("POST", "/mcp", alice, readFile, sessionID, id).expect(t, "after a reload", http.StatusOK, `"result"`)
		g.load(g.adapt(sessionSite))
	}
	// the key that was made is in the storage, for its owner alone, and nowhere to be seen
	file := filepath.Join(workDir, "storage", "mcp", "session_key")
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(g.logFile)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"/config/": g.config(), "the log": string(log)} {
		if strings.Contains(text, string(key)) {
			t.Errorf("the key is in %s", where)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can read the key: %v, %v", info.Mode(), err)
	}

	// another key ends them
	rotated := strings.Replace(sessionSite, "/mcp\n}", "/mcp {\n\t\tsession_key "+strings.Repeat("A", 43)+"=\n\t}\n}", 1)
	g.load(g.adapt(rotated))
	g.send("POST", "/mcp", alice, readFile, sessionID, id).expect(t, "another key", http.StatusNotFound, "session not found")
}

// TestBrokenSessionKey: without the key there are no sessions, and never another key. What needs none goes on.
func TestBrokenSessionKey(t *testing.T) {
	g := start(t, sessionSite)
	g.upstream.sessionID = "the-servers-own-id"
	alice := g.token("alice")
	id := g.session(alice)
	g.upstream.take()

	folder := t.TempDir()
	file := filepath.Join(folder, "mcp", "session_key")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(g.adapt(sessionSite)), filepath.Join(workDir, "storage"), folder, 1)
	for what, breakIt := range map[string]func() error{
		"corrupt":  func() error { return os.WriteFile(file, []byte("not a key"), 0o600) },
		"a folder": func() error { return os.Mkdir(file, 0o700) },
	} {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := breakIt(); err != nil {
			t.Fatal(err)
		}
		g.load([]byte(strings.Replace(broken, `"mcp_proxy"`, `"mcp_proxy","stream_close_delay":`+fmt.Sprint(len(what)), 1)))
		for name, a := range map[string]answer{
			"initialize": g.post(alice, initialize),
			"a session":  g.send("POST", "/mcp", alice, readFile, sessionID, id),
		} {
			a.expect(t, what+", "+name, http.StatusServiceUnavailable, "the session key is not available")
			if a.header.Get("Retry-After") != "1" || a.header.Get(sessionID) != "" {
				t.Errorf("%s, %s: %v", what, name, a.header)
			}
		}
		g.reached(what, 0)
	}
	// what is not part of a session needs no key
	g.upstream.sessionID = ""
	g.post(alice, readFile).expect(t, "no session", http.StatusOK, `"result"`)
	if text, err := os.ReadFile(filepath.Join(file, "x")); err == nil {
		t.Errorf("something was stored: %s", text)
	}
}

// TestErrorRouteOfSessions: an error route shapes the answer, and sees the client's id, never the server's.
func TestErrorRouteOfSessions(t *testing.T) {
	g := start(t, strings.Replace(sessionSite, "/mcp\n}", `/mcp
	handle_errors {
		respond "{err.status_code} {err.message} {http.request.header.Mcp-Session-Id}"
	}
}`, 1))
	g.upstream.sessionID = "the-servers-own-id"
	alice := g.token("alice")
	id := g.session(alice)
	g.send("POST", "/mcp", alice, readFile, sessionID, "x").expect(t, "foreign", http.StatusNotFound, "404 session not found x")
	g.upstream.Close()
	a := g.send("POST", "/mcp", alice, readFile, sessionID, id)
	a.expect(t, "down", http.StatusBadGateway, id)
	if strings.Contains(a.body, g.upstream.sessionID) {
		t.Errorf("the server's own id has got out: %s", a.body)
	}
}

// TestSessionPlaceholder: {mcp.session.id} is the client's.
func TestSessionPlaceholder(t *testing.T) {
	g := start(t, strings.Replace(sessionSite, "/mcp\n}", "/mcp {\n\t\theader_down X-Session {mcp.session.id}\n\t}\n}", 1))
	g.upstream.sessionID = "the-servers-own-id"
	alice := g.token("alice")
	id := g.session(alice)
	a := g.send("POST", "/mcp", alice, readFile, sessionID, id)
	if got := a.header.Get("X-Session"); got != id {
		t.Errorf("{mcp.session.id} is %q, want %q", got, id)
	}
}

// TestAnonymousSessions: those without a token share a principal, which is nobody's who has one.
func TestAnonymousSessions(t *testing.T) {
	g := start(t, strings.Replace(sessionSite, "mcp_jwt {", "mcp_jwt {\n\t\tmode optional", 1))
	g.upstream.sessionID = "the-servers-own-id"
	id := g.session("")
	g.send("POST", "/mcp", "", readFile, sessionID, id).expect(t, "anonymous", http.StatusOK, `"result"`)
	g.send("POST", "/mcp", g.token("alice"), readFile, sessionID, id).expect(t, "logged in", http.StatusNotFound, "session not found")
	other := (&mcptest.Issuer{Name: g.issuer.Name, Key: g.issuer.Key}).Token("anonymous")
	g.send("POST", "/mcp", other, readFile, sessionID, id).expect(t, "a user of that name", http.StatusNotFound, "session not found")
}
