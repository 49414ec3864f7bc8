package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// observedSite has a log for each kind of line; in its text, ACCESS and AUDIT are their files.
const observedSite = `http://:PORT {
	log {
		output file ACCESS {
			roll_disabled
		}
		format json
	}
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
	}
	mcp_authorize {
		OPTIONS
		deny {
			name no-drops
			match_expressions mcp.tool.name.startsWith("drop_")
		}
		allow jwt.sub == "alice"
	}
	mcp_proxy http://UPSTREAM/mcp
}
`

// observed is a gateway with an access log and an audit log.
type observed struct {
	*gateway
	access, audit string
}

// observe runs a site with these options of mcp_authorize, and these global options.
func observe(t *testing.T, global, options string) *observed {
	t.Helper()
	dir := t.TempDir()
	o := &observed{access: filepath.Join(dir, "access.json"), audit: filepath.Join(dir, "audit.json")}
	o.gateway = start(t, "http://:PORT {\n\tmcp_jwt {\n\t\tissuer https://idp.example.com {\n\t\t\tjwks file KEYS\n\t\t}\n\t}\n}\n")
	sites := strings.NewReplacer("ACCESS", o.access, "OPTIONS", options).Replace(observedSite)
	text := strings.Replace(o.caddyfile(sites), "{\n", "{\n"+strings.ReplaceAll(global, "AUDIT", o.audit), 1)
	o.load(adaptText(t, text))
	return o
}

// auditLog is the recipe of docs/metrics.md.
const auditLog = `	log audit {
		include http.handlers.mcp_authorize.audit
		output file AUDIT {
			roll_disabled
		}
		format json
		level DEBUG
	}
`

// scrape reads the metrics of the gateway as Prometheus does: by name and labels, without caddy_mcp_.
func (g *gateway) scrape() map[string]string {
	g.t.Helper()
	a := g.push("GET", "/metrics", "", nil)
	if a.status != http.StatusOK {
		g.t.Fatalf("GET /metrics: %d %s", a.status, a.body)
	}
	values := make(map[string]string)
	for line := range strings.Lines(a.body) {
		if series, ok := strings.CutPrefix(strings.TrimSpace(line), "caddy_mcp_"); ok {
			i := strings.LastIndexByte(series, ' ')
			values[series[:i]] = series[i+1:]
		}
	}
	return values
}

// counts waits for the metrics to be these: an answer arrives before the handlers are done with it.
func (g *gateway) counts(want map[string]string) {
	g.t.Helper()
	wrong := ""
	defer func() {
		if wrong != "" {
			g.t.Error(wrong)
		}
	}()
	waitFor(g.t, "the metrics", func() bool {
		got := g.scrape()
		wrong = ""
		for series, value := range want {
			if got[series] != value {
				wrong = fmt.Sprintf("%s is %q, want %s", series, got[series], value)
			}
		}
		return wrong == ""
	})
}

// TestMetrics: every metric, from a scrape of a gateway that has been used.
func TestMetrics(t *testing.T) {
	g := observe(t, "", "")
	alice := g.token("alice")
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	drop := strings.Replace(readFile, "read_file", "drop_table", 1)
	g.upstream.answer(`{"tools":[{"name":"read_file"},{"name":"drop_table"},{"name":"write_file"}]}`)
	g.post(alice, list).expect(t, "list", http.StatusOK, "write_file")
	g.upstream.answer(`{"content":[],"prompts":[]}`)
	if _, err := oneShot.Do(g.request(t, alice, readFile)); err == nil {
		t.Log("the answer has been sent before the list in it was seen") // it is broken off
	}
	g.upstream.answer("")
	g.post(alice, readFile).expect(t, "call", http.StatusOK, "the file")
	g.post(alice, drop).expect(t, "drop", http.StatusOK, "Unknown tool")
	g.post(g.token("bob"), readFile).expect(t, "bob", http.StatusForbidden, "")
	g.post(alice, "{").expect(t, "no JSON", http.StatusBadRequest, "")
	g.post("", readFile).expect(t, "no token", http.StatusUnauthorized, "")
	g.send("POST", "/mcp", alice, readFile, "Origin", "https://evil.example").expect(t, "origin", http.StatusForbidden, "")

	const issuer = `issuer="https://idp.example.com"`
	g.counts(map[string]string{
		`jwt_requests_total{` + issuer + `,result="ok"}`:                       "6",
		`jwt_requests_total{issuer="",result="no_credential"}`:                 "1",
		`jwt_cache_total{result="hit"}`:                                        "4",
		`jwt_cache_total{result="miss"}`:                                       "2",
		`jwks_refreshes_total{` + issuer + `,result="ok"}`:                     "1",
		`jwks_refreshes_total{` + issuer + `,result="error"}`:                  "0",
		`jwks_keys{` + issuer + `}`:                                            "1",
		`decisions_total{decision="allow",method="tools/list",rule="allow#1"}`: "1",
		`decisions_total{decision="allow",method="tools/call",rule="allow#1"}`: "2",
		`decisions_total{decision="deny",method="tools/call",rule="no-drops"}`: "1",
		`decisions_total{decision="deny",method="tools/call",rule="default"}`:  "1",
		`decisions_total{decision="deny",method="",rule=""}`:                   "1",
		`list_entries_total{kind="tool",result="visible"}`:                     "2",
		`list_entries_total{kind="tool",result="hidden"}`:                      "1",
		`list_entries_total{kind="tool",result="shadow_hidden"}`:               "0",
		`list_entries_total{kind="prompt",result="visible"}`:                   "0",
		`audit_dropped_total`:                                                  "0",
		`answers_refused_total{result="replaced"}`:                             "0",
		`answers_refused_total{result="broken_off"}`:                           "1",
		`handler_duration_seconds_count{handler="mcp_jwt"}`:                    "8",
		`handler_duration_seconds_count{handler="mcp_authorize"}`:              "6",
		`handler_duration_seconds_count{handler="mcp_proxy"}`:                  "3",
		`handler_duration_seconds_bucket{handler="mcp_authorize",le="+Inf"}`:   "6",
	})
	if age := g.scrape()[`jwks_age_seconds{`+issuer+`}`]; age == "" || strings.HasPrefix(age, "-") {
		t.Errorf("the age of the keys is %q", age)
	}
}

// TestOwnTime: the time of the upstream is not the handlers'.
func TestOwnTime(t *testing.T) {
	g := observe(t, "", "")
	const held = "handler_duration_seconds_count{handler=\"mcp_authorize\"}"
	release := g.upstream.hold()
	done := make(chan answer)
	go func() { done <- g.post(g.token("alice"), readFile) }()
	waitFor(t, "the request to arrive", func() bool { return g.upstream.count() == 1 })
	before := g.scrape()
	if got := before[`handler_duration_seconds_count{handler="mcp_proxy"}`]; got != "1" {
		t.Errorf("mcp_proxy is done when the upstream begins, but has counted %q", got)
	}
	release()
	(<-done).expect(t, "call", http.StatusOK, "the file")
	waitFor(t, "the handler to be done", func() bool { return g.scrape()[held] == "1" })
}

// TestMetricsCardinality: however many names clients make up, the number of series stays as it is.
func TestMetricsCardinality(t *testing.T) {
	g := observe(t, "", "")
	alice := g.token("alice")
	random := rand.New(rand.NewPCG(7, 7))
	text := func() string { return fmt.Sprintf("x%x", random.Uint64()) }
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer client.CloseIdleConnections()
	parts := strings.Split(alice, ".")
	for i := range 10_000 {
		token, message := alice, ""
		switch i % 4 {
		case 0: // a tool
			message = strings.Replace(readFile, "read_file", text(), 1)
		case 1: // a method
			message = strings.Replace(ping, "ping", []string{"", "notifications/", "tools/"}[i/4%3]+text(), 1)
		case 2: // a key
			header := mcptest.Base64([]byte(mcptest.JSON(map[string]string{"alg": "EdDSA", "kid": text(), "typ": text()})))
			token, message = header+"."+parts[1]+"."+parts[2], ping
		case 3: // an issuer
			claims := g.issuer.Claims("alice")
			claims["iss"] = text()
			token, message = g.issuer.Key.Sign(`{"alg":"EdDSA","kid":"k1"}`, mcptest.JSON(claims)), ping
		}
		r := g.request(t, token, message)
		r.Header.Set("Mcp-Session-Id", text())
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		readAnswer(t, response)
	}
	series := g.scrape()
	if len(series) > 120 {
		t.Errorf("%d series", len(series))
	}
	made := regexp.MustCompile(`x[0-9a-f]{8}`)
	for name := range series {
		if made.MatchString(name) {
			t.Errorf("a client's name is in %s", name)
		}
	}
	if n := series[`decisions_total{decision="deny",method="other",rule="default"}`]; len(n) < 4 {
		t.Errorf("%s of other methods", n)
	}
}

// TestAccessLogFields: each line says what was asked, and what became of it and why.
func TestAccessLogFields(t *testing.T) {
	g := observe(t, "", "")
	alice := g.token("alice")
	drop := strings.Replace(readFile, "read_file", "drop_table", 1)
	for _, test := range []struct {
		what, token, message string
		headers              []string
		want                 map[string]any
	}{
		{"allowed", alice, readFile, []string{"Mcp-Protocol-Version", "2025-06-18"}, map[string]any{
			"user_id": "alice", "mcp.method": "tools/call", "mcp.target": "read_file",
			"mcp.decision": "allow", "mcp.rule": "allow#1", "mcp.version": "2025-06-18",
		}},
		{"denied", alice, drop, nil, map[string]any{
			"user_id": "alice", "mcp.method": "tools/call", "mcp.target": "drop_table",
			"mcp.decision": "deny", "mcp.rule": "no-drops", "mcp.reason": "denied", "mcp.version": "2025-03-26",
		}},
		{"nothing allowed", g.token("bob"), initialize, nil, map[string]any{
			"user_id": "bob", "mcp.method": "initialize",
			"mcp.decision": "deny", "mcp.rule": "default", "mcp.reason": "not_allowed", "mcp.version": "2025-06-18",
		}},
		{"malformed", alice, "{", nil, map[string]any{"user_id": "alice", "mcp.decision": "deny", "mcp.reason": "malformed_message"}},
		{"no token", "", readFile, nil, map[string]any{"user_id": "", "mcp.decision": "deny", "mcp.reason": "no_credential"}},
		{"expired", g.token("alice", map[string]any{"exp": 1}), readFile, nil, map[string]any{
			"user_id": "", "mcp.decision": "deny", "mcp.reason": "expired",
		}},
		{"origin", alice, readFile, []string{"Origin", "https://evil.example"}, map[string]any{
			"user_id": "", "mcp.decision": "deny", "mcp.reason": "origin_not_allowed",
		}},
	} {
		before := len(readLogIfAny(t, g.access))
		g.send("POST", "/mcp", test.token, test.message, test.headers...)
		var entries []map[string]any
		waitFor(t, test.what+" to be logged", func() bool {
			entries = readLogIfAny(t, g.access)
			return len(entries) > before
		})
		got := map[string]any{}
		for key, value := range entries[len(entries)-1] {
			if strings.HasPrefix(key, "mcp.") || key == "user_id" {
				got[key] = value
			}
		}
		if mcptest.JSON(got) != mcptest.JSON(test.want) {
			t.Errorf("%s: the log says\n%v\nwant\n%v", test.what, got, test.want)
		}
	}
}

func readLogIfAny(t *testing.T, file string) []map[string]any {
	t.Helper()
	if _, err := os.Stat(file); os.IsNotExist(err) {
		return nil
	}
	return readLog(t, file)
}

// TestAuditLog: the documented recipe turns it on, in a file of its own; without it nothing is written anywhere, and
// with it the default log, which is at INFO, stays as it is.
func TestAuditLog(t *testing.T) {
	g := observe(t, auditLog, "")
	g.post(g.token("alice", map[string]any{"client_id": "app"}), readFile).expect(t, "call", http.StatusOK, "")
	g.post(g.token("alice"), ping).expect(t, "ping", http.StatusOK, "")
	g.post(g.token("bob"), readFile).expect(t, "bob", http.StatusForbidden, "")
	var entries []map[string]any
	waitFor(t, "two lines", func() bool {
		entries = readLogIfAny(t, g.audit)
		return len(entries) >= 2
	})
	want := []map[string]any{
		{
			"level": "debug", "logger": "http.handlers.mcp_authorize.audit", "msg": "decision",
			"user_id": "alice", "iss": "https://idp.example.com", "sub": "alice", "client_id": "app", "mcp.method": "tools/call",
			"mcp.target": "read_file", "mcp.decision": "allow", "mcp.rule": "allow#1", "mcp.version": "2025-03-26",
		},
		{
			"level": "debug", "logger": "http.handlers.mcp_authorize.audit", "msg": "decision",
			"user_id": "bob", "iss": "https://idp.example.com", "sub": "bob", "client_id": "", "mcp.method": "tools/call",
			"mcp.target": "read_file", "mcp.decision": "deny", "mcp.rule": "default", "mcp.reason": "not_allowed", "mcp.version": "2025-03-26",
		},
	}
	for i, entry := range entries {
		delete(entry, "ts")
		if i >= len(want) || mcptest.JSON(entry) != mcptest.JSON(want[i]) {
			t.Errorf("line %d: %v", i, entry)
		}
	}
	log, err := os.ReadFile(g.audit)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(log, []byte("README.md")) {
		t.Errorf("an argument is in the log: %s", log)
	}

	// a reload without it: no line is lost before, none is written after
	for range 50 {
		g.post(g.token("alice"), readFile)
	}
	off := strings.NewReplacer("ACCESS", g.access, "OPTIONS", "").Replace(observedSite)
	quiet := strings.Replace(g.caddyfile(off), "level DEBUG", "level INFO", 1)
	g.load(adaptText(t, quiet))
	waitFor(t, "all lines", func() bool { return len(readLogIfAny(t, g.audit)) == 52 })
	before := len(readLog(t, g.logFile))
	for range 5 {
		g.post(g.token("alice"), readFile).expect(t, "call", http.StatusOK, "")
		g.post(g.token("bob"), readFile).expect(t, "bob", http.StatusForbidden, "")
		g.post("x", readFile).expect(t, "no token", http.StatusUnauthorized, "")
	}
	for _, entry := range readLog(t, g.logFile)[before:] {
		if logger, _ := entry["logger"].(string); strings.HasPrefix(logger, "http.handlers.mcp_") {
			t.Errorf("the default log has %v", entry)
		}
	}
	if n := len(readLog(t, g.audit)); n != 52 {
		t.Errorf("%d lines in the audit log", n)
	}
}

// colouredLevel is what the console encoder itself writes for terminals.
var colouredLevel = regexp.MustCompile("\x1b\\[[0-9]+m(INFO|DEBUG|ERROR)\x1b\\[0m")

// TestObservedLogInjection: A68, for the fields of the access log and the audit log, and for encoders that write for
// terminals: whatever a client sends, each line is one entry, and none holds what a terminal would obey.
func TestObservedLogInjection(t *testing.T) {
	const forged = "\"}\n{\"level\":\"info\",\"msg\":\"forged\"}\r\n\x1b[2J\x00\u2028\u0085\u009b2J\u202e{\"a\":\""
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			g := observe(t, strings.Replace(auditLog, "format json", "format "+format, 1), "")
			g.load(adaptText(t, strings.ReplaceAll(strings.Replace(g.caddyfile(strings.NewReplacer("ACCESS", g.access, "OPTIONS", "").Replace(observedSite)),
				"{\n", "{\n"+strings.ReplaceAll(auditLog, "AUDIT", g.audit), 1), "format json", "format "+format)))
			alice := g.token("alice", map[string]any{"client_id": strings.ReplaceAll(forged, "\x00", "")})
			sent := 0
			for _, target := range []string{forged, strings.Repeat("é", 100_000), "\ufeff", "drop_" + forged} {
				for _, message := range []map[string]any{
					{"method": "tools/call", "params": map[string]any{"name": target}},
					{"method": "resources/read", "params": map[string]any{"uri": target}},
					{"method": target},
				} {
					message["jsonrpc"], message["id"] = "2.0", 1
					g.send("POST", "/mcp", alice, mcptest.JSON(message))
					sent++
				}
			}
			g.send("POST", "/mcp", g.issuer.Key.Sign(mcptest.JSON(map[string]string{"alg": "EdDSA", "kid": forged}), "{}"), ping)
			sent++
			read := func(file string) []byte {
				log, err := os.ReadFile(file)
				if err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				return log
			}
			waitFor(t, "all lines of the access log", func() bool { return bytes.Count(read(g.access), []byte("\n")) == sent })
			waitFor(t, "all lines of the audit log", func() bool { return bytes.Count(read(g.audit), []byte("\n")) >= 8 })
			for name, log := range map[string][]byte{"access": read(g.access), "audit": read(g.audit)} {
				if name == "access" && bytes.Count(log, []byte("\n")) != sent || name == "audit" && bytes.Count(log, []byte("\n")) != 8 {
					t.Errorf("%s: %d lines for %d requests", name, bytes.Count(log, []byte("\n")), sent)
				}
				log = colouredLevel.ReplaceAll(log, nil)
				if i := bytes.IndexAny(log, "\x00\x1b\r\u0085\u009b\u2028\u202e"); i >= 0 {
					t.Errorf("%s: a raw control character: %q", name, log[max(0, i-100):i+20])
				}
				for line := range bytes.Lines(log) {
					if len(line) > 6000 {
						t.Errorf("%s: a line of %d bytes: %.300q", name, len(line), line)
					}
				}
			}
			if format == "json" {
				targets := map[any]bool{}
				for _, entry := range readLog(t, g.audit) {
					targets[entry["mcp.target"]] = true
				}
				if !targets[strings.Repeat("é", 256)+"…"] {
					t.Errorf("targets %v", targets)
				}
			}
		})
	}
}

// TestLogFilter: Caddy's filter finds the fields by the names they have in the log.
func TestLogFilter(t *testing.T) {
	g := observe(t, "", "")
	sites := strings.NewReplacer("ACCESS", g.access, "OPTIONS", "", "format json", "format filter {\n\t\t\tmcp.target delete\n\t\t\tmcp.rule replace HIDDEN\n\t\t}").Replace(observedSite)
	g.load(g.adapt(sites))
	g.post(g.token("alice"), readFile)
	waitFor(t, "a line", func() bool { return len(readLogIfAny(t, g.access)) == 1 })
	entry := readLog(t, g.access)[0]
	if entry["mcp.target"] != nil || entry["mcp.rule"] != "HIDDEN" || entry["mcp.method"] != "tools/call" {
		t.Errorf("%v", entry)
	}
}

// TestShadow: nothing is refused, and what would have been is in the logs and the metrics.
func TestShadow(t *testing.T) {
	g := observe(t, auditLog, "shadow")
	drop := strings.Replace(readFile, "read_file", "drop_table", 1)
	g.post(g.token("bob"), drop).expect(t, "drop", http.StatusOK, "the file")
	g.post(g.token("alice"), "{").expect(t, "malformed", http.StatusAccepted, "")
	g.send("PUT", "/mcp", g.token("alice"), "").expect(t, "PUT", http.StatusAccepted, "")
	g.post("", readFile).expect(t, "no token: mcp_jwt is no shadow", http.StatusUnauthorized, "")
	g.upstream.answer(`{"tools":[{"name":"read_file"},{"name":"drop_table"}]}`)
	g.post(g.token("alice"), `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`).expect(t, "list", http.StatusOK, "drop_table")
	g.counts(map[string]string{
		`decisions_total{decision="shadow_deny",method="tools/call",rule="no-drops"}`: "1",
		`decisions_total{decision="shadow_deny",method="",rule=""}`:                   "2",
		`list_entries_total{kind="tool",result="visible"}`:                            "1",
		`list_entries_total{kind="tool",result="shadow_hidden"}`:                      "1",
		`list_entries_total{kind="tool",result="hidden"}`:                             "0",
	})
	waitFor(t, "the audit log", func() bool { return len(readLogIfAny(t, g.audit)) == 1 })
	if entry := readLog(t, g.audit)[0]; entry["mcp.decision"] != "deny" || !reflect.DeepEqual(entry["mcp.shadow"], true) {
		t.Errorf("%v", entry)
	}
	warned := slices.ContainsFunc(readLog(t, g.logFile), func(entry map[string]any) bool {
		return entry["level"] == "warn" && strings.Contains(entry["msg"].(string), "nothing is refused")
	})
	if !warned {
		t.Error("nothing says that nothing is refused")
	}
}

// adaptText returns the JSON of a Caddyfile.
func adaptText(t *testing.T, text string) []byte {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return adapted
}

// request is a POST of a message.
func (g *gateway) request(t *testing.T, token, message string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+g.address+"/mcp", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}
