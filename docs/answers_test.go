package docs_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answerRow is what a page promises to answer in a case, or a detail of it.
// Parts in angle brackets stand for anything.
type answerRow struct {
	line   int
	status string
	// code is of a JSON-RPC error, "" for plain text.
	code  string
	texts []*regexp.Regexp
	seen  []bool
}

var rpcCode = regexp.MustCompile(`JSON-RPC error (-[0-9]+)`)

// answerRows are the rows of the tables whose header is case, status, body.
func answerRows(t *testing.T, page string) (rows []*answerRow) {
	t.Helper()
	for _, b := range blocks(t, page) {
		if len(b.rows) == 0 || b.rows[0][0] != "case" {
			continue
		}
		for i, row := range b.rows[1:] {
			r := &answerRow{line: b.line + i + 2, status: row[1]}
			if m := rpcCode.FindStringSubmatch(row[2]); m != nil {
				r.code = m[1]
			}
			for _, text := range bodies(row[2]) {
				r.texts = append(r.texts, pattern(text))
			}
			r.seen = make([]bool, len(r.texts))
			rows = append(rows, r)
		}
	}
	return rows
}

// bodies are the texts in backticks, one or two of them around each.
func bodies(cell string) []string {
	if text, ok := strings.CutPrefix(cell, "``"); ok {
		return []string{strings.TrimSpace(strings.TrimSuffix(text, "``"))}
	}
	return codes(cell)
}

var anything = regexp.MustCompile(`<[a-z]+>`)

func pattern(text string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)^` + anything.ReplaceAllString(regexp.QuoteMeta(text), `.+`) + `$`)
}

// check finds the row of an answer.
func check(t *testing.T, name string, rows []*answerRow, answer *httptest.ResponseRecorder) {
	t.Helper()
	text, code := answer.Body.String(), ""
	if answer.Header().Get("Content-Type") == "application/json" {
		var reply struct {
			Error struct {
				Code    int
				Message string
			}
		}
		if err := json.Unmarshal([]byte(text), &reply); err != nil {
			t.Fatal(err)
		}
		text, code = reply.Error.Message, strconv.Itoa(reply.Error.Code)
	}
	found := false
	for _, r := range rows {
		if r.code != code || !strings.Contains(r.status, strconv.Itoa(answer.Code)) {
			continue
		}
		for i, p := range r.texts {
			if p.MatchString(text) {
				r.seen[i], found = true, true
			}
		}
	}
	if !found {
		t.Errorf("%s: no row for %d %s %s", name, answer.Code, code, text)
	}
}

// complain about rows that no case has shown.
func complain(t *testing.T, page string, rows []*answerRow) {
	t.Helper()
	for _, r := range rows {
		for i, seen := range r.seen {
			if !seen {
				t.Errorf("%s:%d: no case answers %s", page, r.line, r.texts[i])
			}
		}
	}
}

// compact joins the parts of a token, encoded.
func compact(parts ...string) string {
	for i := range parts {
		parts[i] = base64.RawURLEncoding.EncodeToString([]byte(parts[i]))
	}
	return strings.Join(parts, ".")
}

// TestTokenAnswers: what the tables of mcp_jwt say is answered, and every
// answer is in them.
func TestTokenAnswers(t *testing.T) {
	const page = "mcp_jwt.md"
	g := serve(t, `mcp_jwt {
	token_from header Authorization
	token_from header X-Token
	issuer https://idp.example.com {
		jwks file /etc/caddy/idp.jwks.json
		audiences https://mcp.example.com/mcp
	}
}
`)
	rows := answerRows(t, page)
	var details []*answerRow
	for _, b := range blocks(t, page) {
		if len(b.rows) > 0 && b.rows[0][0] == "detail" {
			for i, row := range b.rows[1:] {
				details = append(details, &answerRow{line: b.line + i + 2, texts: []*regexp.Regexp{pattern(codes(row[0])[0])}, seen: []bool{false}})
			}
		}
	}
	good := signed("", `{"sub":"alice"}`)
	for name, bearer := range map[string]string{
		"not a compact JWS": "abcdefg",
		"not base64url":     "a+b.c.d",
		"header":            compact("[]", "{}", "x"),
		"payload":           compact(`{"alg":"EdDSA"}`, `{"a":1,"a":2}`, "x"),
		"too large":         strings.Repeat("a", 17<<10),
		"alg missing":       signed(`{"alg":null}`, ""),
		"typ":               signed(`{"typ":1}`, ""),
		"kid":               signed(`{"kid":1}`, ""),
		"extension":         signed(`{"crit":["exp"]}`, ""),
		"NUL":               signed("", `{"sub":"a\u0000b"}`),
		"scheme alone":      "",
		"alg none":          signed(`{"alg":"none"}`, ""),
		"alg HS256":         signed(`{"alg":"HS256","kid":"shared"}`, ""),
		"another type":      signed(`{"typ":"logout+jwt"}`, ""),
		"sender-bound":      signed("", `{"cnf":{"jkt":"x"}}`),
		"signature":         good[:strings.LastIndexByte(good, '.')] + "." + strings.Repeat("A", 86),
		"no exp":            signed("", `{"exp":null}`),
		"exp is text":       signed("", `{"exp":"tomorrow"}`),
		"exp in ms":         signed("", `{"exp":4102444800000}`),
		"expired":           signed("", `{"exp":1700000000}`),
		"not yet":           signed("", `{"nbf":4102444000}`),
		"audience":          signed("", `{"aud":"https://other.example/mcp"}`),
		"issuer":            signed("", `{"iss":"https://other.example"}`),
		"no kid":            signed(`{"kid":null}`, ""),
		"unknown kid":       signed(`{"kid":"2020-01"}`, ""),
	} {
		r := post("", callGetMe)
		r.Header.Set("Authorization", strings.TrimSpace("Bearer "+bearer))
		answer := g.ask(r)
		check(t, name, rows, answer)
		challenge := answer.Header().Get("WWW-Authenticate")
		if !strings.HasPrefix(challenge, `Bearer realm="mcp", error="invalid_token", error_description="`) {
			t.Errorf("%s: challenge %q", name, challenge)
		}
		checkDetail(t, name, details, answer.Body.String())
	}

	answer := g.ask(post("", callGetMe))
	check(t, "no credential", rows, answer)
	if got := answer.Header().Get("WWW-Authenticate"); got != `Bearer realm="mcp"` {
		t.Errorf("challenge without a credential: %q", got)
	}

	twice := post(good, callGetMe)
	twice.Header.Add("Authorization", "Bearer "+good)
	answer = g.ask(twice)
	check(t, "two headers", rows, answer)
	checkDetail(t, "two headers", details, answer.Body.String())

	two := post(good, callGetMe)
	two.Header.Set("X-Token", good)
	answer = g.ask(two)
	check(t, "two credentials", rows, answer)
	if got := answer.Header().Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_request"`) {
		t.Errorf("challenge of two credentials: %q", got)
	}

	foreign := post(good, callGetMe)
	foreign.Header.Set("Origin", "https://evil.example")
	check(t, "origin", rows, g.ask(foreign))

	keyless := serve(t, "mcp_jwt {\n\tissuer https://idp.example.com {\n\t\tjwks url https://127.0.0.1:1/\n\t}\n}\n")
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	answer = keyless.ask(post(good, callGetMe).WithContext(impatient))
	check(t, "no keys", rows, answer)
	if answer.Header().Get("Retry-After") == "" || answer.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("no keys: %v", answer.Header())
	}

	complain(t, page, rows)
	complain(t, page, details)
}

// checkDetail finds the detail that ends an answer.
func checkDetail(t *testing.T, name string, details []*answerRow, body string) {
	t.Helper()
	for _, lead := range []string{"the token header is malformed: ", "the token is invalid or malformed: "} {
		_, detail, ok := strings.Cut(body, lead)
		if !ok || detail == "issuer not accepted" {
			continue
		}
		for _, d := range details {
			if d.texts[0].MatchString(detail) {
				d.seen[0] = true
				return
			}
		}
		t.Errorf("%s: the detail %q is not on the page", name, detail)
	}
}

// message is a JSON-RPC request with params.
func message(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":{%s}}`, method, params)
}

// meta is what requests of protocol version 2026-07-28 carry.
const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// modern makes a request one of protocol version 2026-07-28.
func modern(r *http.Request, method, name string) *http.Request {
	r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
	r.Header.Set("Mcp-Method", method)
	if name != "" {
		r.Header.Set("Mcp-Name", name)
	}
	return r
}

// change applies a change to a request.
func change(r *http.Request, f func(r *http.Request)) *http.Request {
	f(r)
	return r
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

// slowBody is a body that does not end.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) {
	time.Sleep(time.Minute) // in a synctest bubble, where it takes no time
	return 0, errors.New("interrupted")
}

// TestRuleAnswers: what the tables of mcp_authorize say is answered, and every
// answer is in them.
func TestRuleAnswers(t *testing.T) {
	const page = "mcp_authorize.md"
	g := serve(t, `mcp_authorize {
	allow `+"`"+`mcp.tool.name == "pay" && mcp.tool.arguments.amount <= 10 || mcp.prompt.name == "p"`+"`"+`
	deny `+"`"+`mcp.method == "logging/setLevel"`+"`"+`
	deny `+"`"+`mcp.method == "notifications/progress"`+"`"+`
	require `+"`"+`jwt.sub == "alice"`+"`"+`
	scope s `+"`"+`mcp.prompt.arguments.x == 1`+"`"+`
	max_body 2kB
	max_event 1kB
}
`)
	alice, bob := signed("", `{"sub":"alice"}`), signed("", `{"sub":"bob"}`)
	say := func(method, params string) *http.Request { return post(alice, message(method, params)) }
	plain := func(method string) *http.Request {
		r := httptest.NewRequest(method, "/mcp", http.NoBody)
		r.Header.Set("Authorization", "Bearer "+alice)
		return r
	}
	rows := answerRows(t, page)
	for name, r := range map[string]*http.Request{
		"hopeless":          post(bob, message("initialize", "")),
		"refused method":    say("logging/setLevel", ""),
		"notification":      post(alice, `{"jsonrpc":"2.0","method":"notifications/progress"}`),
		"batch":             post(alice, "["+message("ping", "")+","+message("logging/setLevel", "")+"]"),
		"tool":              say("tools/call", `"name":"x"`),
		"prompt":            say("prompts/get", `"name":"x"`),
		"task":              say("tasks/get", `"taskId":"x"`),
		"resource":          modern(say("resources/read", `"uri":"x:y",`+meta), "resources/read", "x:y"),
		"old resource":      say("resources/read", `"uri":"x:y"`),
		"arguments":         say("tools/call", `"name":"pay","arguments":{"amount":11}`),
		"method":            say("acme/x", ""),
		"modern method":     modern(say("acme/x", meta), "acme/x", ""),
		"PUT":               plain(http.MethodPut),
		"modern GET":        change(plain(http.MethodGet), header("Mcp-Protocol-Version", "2026-07-28")),
		"upgrade":           change(plain(http.MethodGet), header("Upgrade", "websocket")),
		"header twice":      change(plain(http.MethodGet), header("Mcp-Session-Id", "a", "b")),
		"GET with a body":   change(plain(http.MethodGet), func(r *http.Request) { r.ContentLength = 3 }),
		"GET version":       change(plain(http.MethodGet), header("Mcp-Protocol-Version", "2000-01-01")),
		"type":              change(say("ping", ""), header("Content-Type", "text/plain")),
		"encoding":          change(say("ping", ""), header("Content-Encoding", "gzip")),
		"large":             say("ping", `"x":"`+strings.Repeat("x", 3000)+`"`),
		"no JSON":           post(alice, `{"jsonrpc"`),
		"no message":        post(alice, `{"jsonrpc":"2.0","id":null,"method":"ping"}`),
		"two readings":      post(alice, `{"jsonrpc":"2.0","id":7,"method":"ping","Method":"tools/call"}`),
		"mismatch":          change(say("tools/call", `"name":"pay"`), header("Mcp-Name", "echo")),
		"version":           change(say("ping", ""), header("Mcp-Protocol-Version", "2000-01-01")),
		"no meta":           modern(say("ping", ""), "ping", ""),
		"scope":             say("prompts/get", `"name":"p","arguments":{"x":1}`),
		"an encoded answer": change(say("prompts/get", `"name":"p","arguments":{"x":2}`), header("Break", "encoding")),
	} {
		check(t, name, rows, g.ask(r))
	}

	var late *httptest.ResponseRecorder
	synctest.Test(t, func(*testing.T) {
		r := httptest.NewRequest(http.MethodPost, "/mcp", slowBody{})
		r.Header = post(alice, "").Header
		late = g.ask(r)
	})
	check(t, "slow", rows, late)

	complain(t, page, rows)
}

// TestProxyAnswers: likewise for mcp_proxy.
func TestProxyAnswers(t *testing.T) {
	const page = "mcp_proxy.md"
	rows := answerRows(t, page)
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// only behind the body does the server notice that a client has gone
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
	}))
	defer behind.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()

	unjudged := serve(t, "mcp_jwt /never {\n\tissuer {\n\t\tjwks file /etc/caddy/idp.jwks.json\n\t}\n}\nmcp_proxy "+behind.URL+"\n")
	check(t, "no mcp_jwt", rows, unjudged.ask(post("", callGetMe)))
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer refusing.Close()
	notification := `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	for _, url := range []string{closed.URL, behind.URL, refusing.URL} {
		g := serve(t, "mcp_authorize {\n\tallow true\n}\nmcp_proxy "+url+" {\n\ttransport http {\n\t\tresponse_header_timeout 10ms\n\t}\n}\n")
		check(t, url+" call", rows, g.ask(post(signed("", ""), callGetMe)))
		check(t, url+" notification", rows, g.ask(post(signed("", ""), notification)))
	}
	unread := serve(t, "mcp_proxy "+behind.URL+"\n")
	check(t, "half a body", rows, unread.ask(change(post(signed("", ""), callGetMe), func(r *http.Request) { r.ContentLength++ })))
	check(t, "an endpoint", rows, unread.ask(change(post(signed("", ""), callGetMe), func(r *http.Request) {
		r.URL.RawQuery = "mcp_endpoint=x"
	})))
	// the rest is tried where a key can be broken, a body slow and a stream ended: in mcpproxy
	const elsewhere = 4
	seen := rows[:0:0]
	for _, r := range rows {
		if r.status != "408" && r.status != "503" {
			seen = append(seen, r)
		}
	}

	session := header("Mcp-Session-Id", "a")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Mcp-Session-Id", "a b") }))
	defer server.Close()
	g := serve(t, "mcp_proxy "+server.URL+" {\n\tsession_key "+sessionKey+"\n}\n")
	ask := func() *http.Request { return post(signed("", ""), callGetMe) }
	check(t, "malformed id", rows, g.ask(change(ask(), header("Mcp-Session-Id", "a b"))))
	check(t, "foreign id", rows, g.ask(change(ask(), session)))
	check(t, "id of the server", rows, g.ask(ask()))
	keyless := serve(t, `{
	storage file_system `+os.DevNull+`
}
:80 {
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file /etc/caddy/idp.jwks.json
		}
	}
	mcp_proxy `+server.URL+`
}
`)
	answer := keyless.ask(change(ask(), session))
	check(t, "no session key", rows, answer)
	if answer.Header().Get("Retry-After") == "" {
		t.Errorf("no session key: %v", answer.Header())
	}
	if len(seen) != len(rows)-elsewhere {
		t.Errorf("%d rows, of which %d are tried here", len(rows), len(seen))
	}
	complain(t, page, seen)
}
