package celauthz

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// withAccessLog lets handlers add fields to a line of the access log.
func withAccessLog(r *http.Request) *http.Request {
	return r.WithContext(contextWith(r, caddyhttp.ExtraLogFieldsCtxKey, new(caddyhttp.ExtraLogFields)))
}

// logged is what the access log would say: one field, which holds all.
func logged(t *testing.T, r *http.Request) map[string]any {
	t.Helper()
	extra := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	// Caddy lets nobody read them before the line is written
	fields := *(*[]zapcore.Field)(reflect.ValueOf(extra).Elem().FieldByName("fields").Addr().UnsafePointer())
	if len(fields) != 1 {
		t.Fatalf("%d fields: %v", len(fields), fields)
	}
	encoder := zapcore.NewMapObjectEncoder()
	fields[0].AddTo(encoder)
	return encoder.Fields
}

func wantFields(t *testing.T, r *http.Request, want map[string]any) {
	t.Helper()
	if got := logged(t, r); !maps.Equal(got, want) {
		t.Errorf("the access log says\n%v\nwant\n%v", got, want)
	}
}

// Each outcome has its own reason, of a closed set; and the fields are those
// of the message that decided.
func TestReasons(t *testing.T) {
	s := provision(t, &Handler{
		Rules: rulesOf(t,
			`deny mcp.tool.name == "denied"`, `deny mcp.tool.name == "broken" && jwt.missing == 1`,
			`require mcp.tool.name != "unmet"`, `require mcp.tool.name != "failing" || jwt.missing == 1`,
			`allow jwt.sub == "alice" && mcp.tool.name != "unallowed"`,
		),
		Scopes: []*Scope{{Scope: "write", When: `mcp.tool.name == "scoped"`}}, MaxBody: 2000,
	})
	named := func(tool, rule, reason string) map[string]any {
		fields := map[string]any{
			"mcp.method": "tools/call", "mcp.target": tool, "mcp.version": "2025-03-26",
			"mcp.decision": "deny", "mcp.rule": rule, "mcp.reason": reason,
		}
		if reason == "" {
			delete(fields, "mcp.reason")
			fields["mcp.decision"] = "allow"
		}
		return fields
	}
	unread := func(reason string) map[string]any {
		return map[string]any{"mcp.decision": "deny", "mcp.reason": reason}
	}
	for name, test := range map[string]struct {
		message string
		change  func(*http.Request)
		want    map[string]any
	}{
		"allowed":    {callOf("read", "{}"), nil, named("read", "allow#1", "")},
		"denied":     {callOf("denied", "{}"), nil, named("denied", "deny#1", "denied")},
		"deny error": {callOf("broken", "{}"), nil, named("broken", "deny#2", "rule_error")},
		"require":    {callOf("unmet", "{}"), nil, named("unmet", "require#1", "required")},
		"an error":   {callOf("failing", "{}"), nil, named("failing", "require#2", "rule_error")},
		"no allow":   {callOf("unallowed", "{}"), nil, named("unallowed", "default", "not_allowed")},
		"a scope":    {callOf("scoped", "{}"), nil, named("scoped", "scope", "missing_scope")},
		"unknown": {messageOf("made/up", ""), nil, map[string]any{
			"mcp.method": "made/up", "mcp.version": "2025-03-26", "mcp.decision": "deny", "mcp.rule": "default", "mcp.reason": "unknown_method",
		}},
		"no target": {messageOf("ping", ""), header(mcpwire.HeaderVersion, "2025-06-18"), map[string]any{
			"mcp.method": "ping", "mcp.version": "2025-06-18", "mcp.decision": "allow", "mcp.rule": "allow#1",
		}},
		"not JSON":         {"{", nil, unread("malformed_message")},
		"other headers":    {callOf("read", "{}"), header(mcpwire.HeaderMethod, "ping"), unread("malformed_message")},
		"a form":           {"x=1", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, unread("unsupported_media_type")},
		"PUT":              {"", func(r *http.Request) { r.Method = http.MethodPut }, unread("method_not_allowed")},
		"an upgrade":       {"", header("Upgrade", "websocket"), unread("malformed_request")},
		"too large":        {strings.Repeat(" ", 3000), nil, unread("body_too_large")},
		"a batch, refused": {"[" + callOf("read", "{}") + "," + callOf("denied", "{}") + "]", nil, named("denied", "deny#1", "denied")},
		"a batch":          {"[" + callOf("read", "{}") + "," + callOf("also", "{}") + "]", nil, named("read", "allow#1", "")},
	} {
		t.Run(name, func(t *testing.T) {
			s.as(alice)
			r := withAccessLog(request(test.message))
			if test.change != nil {
				test.change(r)
			}
			s.serve(r)
			wantFields(t, r, test.want)
		})
	}
}

// A client's names in the metrics: none, however many it makes up.
func TestDecisionCardinality(t *testing.T) {
	s := newSite(t, `allow jwt.sub == "alice" && mcp.method != "x"`, `deny mcp.tool.name.startsWith("b")`)
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		b := make([]byte, 1+random.IntN(30))
		for i := range b {
			b[i] = byte('!' + random.IntN(90))
		}
		return strings.NewReplacer(`"`, "", `\`, "").Replace(string(b)) + "x"
	}
	for range 10_000 {
		s.as([]string{alice, "", `{"sub":"` + text() + `"}`}[random.IntN(3)])
		s.post([]string{
			callOf(text(), "{}"), messageOf(text(), ""), messageOf("notifications/"+text(), ""), messageOf("resources/read", `{"uri":"`+text()+`"}`),
			text(),
		}[random.IntN(5)], header("Mcp-Protocol-Version", []string{"2025-06-18", text()}[random.IntN(2)]))
	}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "caddy_mcp_") {
			continue
		}
		series += len(family.GetMetric())
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				known := slices.Concat(methodLabels, effectLabels[:], kindLabels[:],
					[]string{"allow#1", "deny#1", "default", "scope", "visible", "hidden", "shadow_hidden", "replaced", "broken_off", "mcp_authorize"})
				if !slices.Contains(known, label.GetValue()) {
					t.Errorf("%s{%s=%q}", family.GetName(), label.GetName(), label.GetValue())
				}
			}
		}
	}
	if series < 10 || series > 60 {
		t.Errorf("%d series", series)
	}
	if n := s.sample("decisions_total{decision=deny,method=other,rule=default}"); n < 1000 {
		t.Errorf("%v of other methods", n)
	}
}

// Every method that a client can name has a label of its own, once.
func TestMethodLabels(t *testing.T) {
	if len(slices.Compact(slices.Sorted(slices.Values(methodLabels)))) != len(methodLabels) {
		t.Errorf("%q", methodLabels)
	}
	for _, method := range []string{"initialize", "tools/call", "subscriptions/listen", "completion/complete", "notifications/initialized"} {
		if methodNumbers[method] < 2 {
			t.Errorf("%s has no label", method)
		}
	}
}

func TestDecisionsAreCountedConcurrently(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, err := newMetrics(registry, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 500 {
				m.decided("ping", allows, "a")
				m.decided("x", denies, "a")
				m.decided("ping", denies, "no such rule")
			}
		})
	}
	group.Wait()
	for series, got := range mcptest.Samples(t, registry) {
		want, ok := map[string]float64{
			"decisions_total{decision=allow,method=ping,rule=a}": 10_000, "decisions_total{decision=deny,method=other,rule=a}": 10_000,
		}[series]
		if strings.HasPrefix(series, "decisions") && (!ok || got != want) {
			t.Errorf("%s %v, want %v", series, got, want)
		}
	}
}

// Without metrics, and without logs, the handler works all the same.
func TestNothingObserves(t *testing.T) {
	s := newSite(t, `deny mcp.tool.name == "drop"`, "allow true")
	s.metrics, s.audit = nil, nil
	s.wantPassed(s.post(callOf("read", "{}")), callOf("read", "{}"))
	s.behind = listing(`"tools":[{"name":"read"},{"name":"drop"}]`)
	if got := s.post(messageOf("tools/list", "")).Body.String(); strings.Contains(got, "drop") {
		t.Error(got)
	}
	if err := new(Handler).Cleanup(); err != nil {
		t.Error(err)
	}
}

func listing(result string) caddyhttp.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{` + result + `}}`))
		return err
	}
}

// Entries are counted by kind, and by whether they were seen.
func TestListEntries(t *testing.T) {
	s := newSite(t, `deny mcp.tool.name == "b" || mcp.resource.uri == "r:2"`, "allow true")
	for method, result := range map[string]string{
		"tools/list":               `"tools":[{"name":"a"},{"name":"b"},{"name":"c"}]`,
		"resources/list":           `"resources":[{"uri":"r:1"},{"uri":"r:2"}]`,
		"resources/templates/list": `"resourceTemplates":[{"uriTemplate":"r:{x}"}]`,
		"prompts/list":             `"prompts":[]`,
	} {
		s.behind = listing(result)
		s.post(messageOf(method, ""))
	}
	for series, want := range map[string]float64{
		"kind=tool,result=visible": 2, "kind=tool,result=hidden": 1, "kind=resource,result=visible": 2, "kind=resource,result=hidden": 1,
		"kind=prompt,result=visible": 0, "kind=task,result=hidden": 0, "kind=tool,result=shadow_hidden": 0,
	} {
		if got := s.sample("list_entries_total{" + series + "}"); got != want {
			t.Errorf("%s: %v, want %v", series, got, want)
		}
	}
	s.behind = listing(`"tools":5`)
	s.post(messageOf("tools/list", ""))
	if n := s.sample("answers_refused_total{result=replaced}"); n != 1 {
		t.Errorf("%v answers were replaced", n)
	}
	s.behind = listing(`"x":1,"tools":[]`) // no list belongs into the answer to a call
	if err := s.try(httptest.NewRecorder(), request(callOf("a", "{}"))); err == nil {
		t.Error("the answer has been passed on")
	}
	if n := s.sample("answers_refused_total{result=broken_off}"); n != 1 {
		t.Errorf("%v answers were broken off", n)
	}
}

// auditOf lets a site write its audit log where the test can read it.
func auditOf(t *testing.T, s *site) func() []map[string]any {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	s.audit = newAuditLog(zap.New(core).Named("audit"), s.metrics.auditLost)
	return func() []map[string]any {
		t.Helper()
		s.audit.close()
		var lines []map[string]any
		for _, entry := range logs.All() {
			if entry.Message != "decision" || entry.Level != zap.DebugLevel || entry.LoggerName != "audit" {
				t.Errorf("%v", entry)
			}
			lines = append(lines, entry.ContextMap())
		}
		return lines
	}
}

// One line for each decision about a target, and for nothing else; it says
// who, what and why, and never with which arguments.
func TestAudit(t *testing.T) {
	s := newSite(t, `deny mcp.tool.name == "drop" || mcp.resource.uri == "r:2"`, `allow jwt.sub == "alice"`)
	lines := auditOf(t, s)
	s.identity = &reqctx.Identity{Issuer: "https://idp", Subject: "alice", ClientID: "app", Claims: reqctx.Claims(`{"sub":"alice","azp":"app"}`)}
	for _, message := range []string{
		callOf("read", `{"password":"s3cret"}`), callOf("drop", `{"password":"s3cret"}`), messageOf("ping", ""), messageOf("tools/list", ""), "{",
		"[" + callOf("one", "{}") + "," + messageOf("ping", "") + "," + callOf("two", "{}") + "]",
		"[" + callOf("three", "{}") + "," + callOf("drop", "{}") + "]",
		messageOf("subscriptions/listen", `{"notifications":{"resourceSubscriptions":["r:1","r:2"],"taskIds":["t"]}}`),
		messageOf("completion/complete", `{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":"s3cret"}}`),
	} {
		s.post(message)
	}
	s.identity = nil
	s.post(callOf("read", "{}"))
	var got []string
	for _, line := range lines() {
		text, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "s3cret") {
			t.Errorf("an argument is in the log: %s", text)
		}
		who := line["iss"].(string) + " " + line["sub"].(string) + " " + line["client_id"].(string)
		if who != "https://idp alice app" && (who != "  " || line["mcp.decision"] != "deny") {
			t.Errorf("who: %s", text)
		}
		if _, ok := line["user_id"]; !ok || line["mcp.version"] != "2025-03-26" {
			t.Errorf("%s", text)
		}
		reason, _ := line["mcp.reason"].(string)
		got = append(got, strings.Join([]string{
			line["mcp.method"].(string), line["mcp.target"].(string), line["mcp.decision"].(string), line["mcp.rule"].(string), reason,
		}, " "))
	}
	want := []string{
		"tools/call read allow allow#1 ", "tools/call drop deny deny#1 denied",
		"tools/call one allow allow#1 ", "tools/call two allow allow#1 ", "tools/call drop deny deny#1 denied",
		"subscriptions/listen r:1 allow allow#1 ", "subscriptions/listen r:2 deny deny#1 denied", "subscriptions/listen t allow allow#1 ",
		"completion/complete p allow allow#1 ", "tools/call read deny default not_allowed",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the audit log says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// heldCore is a log that does not come on.
type heldCore struct {
	zapcore.LevelEnabler
	entered chan struct{}
	release chan struct{}
	mu      sync.Mutex
	written int
}

func (c *heldCore) With([]zapcore.Field) zapcore.Core { return c }
func (*heldCore) Sync() error                         { return nil }
func (c *heldCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

func (c *heldCore) Write(zapcore.Entry, []zapcore.Field) error {
	select {
	case c.entered <- struct{}{}:
	default:
	}
	<-c.release
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written++
	return nil
}

// A log that hangs holds up no request: what does not fit into the queue is
// dropped and counted, and a reload does not wait for it for long.
func TestAuditIsBounded(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, err := newMetrics(registry, nil)
	if err != nil {
		t.Fatal(err)
	}
	core := &heldCore{LevelEnabler: zap.DebugLevel, entered: make(chan struct{}, 1), release: make(chan struct{})}
	log := newAuditLog(zap.New(core), m.auditLost)
	entry := func() auditEntry { return auditEntry{} }
	log.add(entry)
	<-core.entered // one is being written, so the queue is empty
	const tooMany = 100
	for range auditQueueSize + tooMany {
		log.add(entry)
	}
	if n := mcptest.Samples(t, registry)["audit_dropped_total{}"]; n != tooMany {
		t.Errorf("%v lines were dropped, want %d", n, tooMany)
	}
	log.close()
	if n := mcptest.Samples(t, registry)["audit_dropped_total{}"]; n != tooMany+auditQueueSize {
		t.Errorf("%v lines were dropped in the end", n)
	}
	close(core.release)
	<-log.done
	log.add(entry) // by a request that outlives its configuration
	log.close()
	core.mu.Lock()
	defer core.mu.Unlock()
	if core.written != 2 {
		t.Errorf("%d lines were written", core.written)
	}
}

// Where no log wants the lines, none is made.
func TestAuditIsOff(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	log := newAuditLog(zap.New(core), func() { t.Error("lost") })
	log.add(func() auditEntry {
		t.Error("a line was made")
		return auditEntry{}
	})
	log.close()
	if logs.Len() != 0 || len(log.queue) != 0 {
		t.Error("a line was written")
	}
}

// Adding while the log is closed loses nothing and panics nowhere.
func TestAuditClosesUnderLoad(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	var mu sync.Mutex
	lost := 0
	log := newAuditLog(zap.New(core), func() { mu.Lock(); lost++; mu.Unlock() })
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 500 {
				log.add(func() auditEntry { return auditEntry{} })
			}
		})
	}
	group.Go(log.close)
	group.Wait()
	log.close()
	<-log.done
	if logs.Len()+lost != 4000 {
		t.Errorf("%d written, %d lost", logs.Len(), lost)
	}
}
