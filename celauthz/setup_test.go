package celauthz

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/logging" // logs in files
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// noon is when everything here happens.
var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

const alice = `{"sub":"alice","groups":["dev","ops"],"age":7,"admin":true}`

// rulesOf makes rules of lines like `allow jwt.sub == "alice"`.
func rulesOf(t testing.TB, lines ...string) []*Rule {
	t.Helper()
	list := make([]*Rule, 0, len(lines))
	for _, line := range lines {
		action, expression, ok := strings.Cut(line, " ")
		if !ok {
			t.Fatalf("no rule: %q", line)
		}
		list = append(list, &Rule{Action: Action(action), MatchExpressions: []string{expression}})
	}
	return list
}

func policyOf(t testing.TB, lines ...string) *policy {
	t.Helper()
	p, err := compilePolicy(rulesOf(t, lines...))
	if err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	return p
}

func claimsOf(t testing.TB, text string) reqctx.Claims {
	t.Helper()
	if text == "" {
		return nil
	}
	claims, err := reqctx.ReadClaims([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func callerOf(t testing.TB, claims string) *caller {
	t.Helper()
	return &caller{
		claims:  claimsOf(t, claims),
		request: httptest.NewRequest(http.MethodPost, "https://mcp.example.com/mcp", nil),
		scheme:  "https",
		version: mcpwire.Version20250326,
		target:  "files",
		now:     noon,
	}
}

// toolCall is the call of a tool, as a question sees it.
func toolCall(name, arguments string) *subject {
	return &subject{method: "tools/call", kind: mcpwire.Tool, name: name, rawArguments: jsontext.Value(arguments)}
}

// verdictOf asks one expression, nothing being open.
func verdictOf(t testing.TB, expression string, who *caller, what *subject) verdict {
	t.Helper()
	return verdictAbout(t, expression, mayCall, Allow, who, what)
}

// verdictAbout asks one expression, with that open what the question leaves
// open for an action.
func verdictAbout(t testing.TB, expression string, q question, act Action, who *caller, what *subject) verdict {
	t.Helper()
	p := partOf(t, expression)
	a := activation{caller: who, subject: what}
	a.open = q.open(act, what.kind)
	return p.eval(context.Background(), &a)
}

// partOf is an expression as one part.
func partOf(t testing.TB, text string) *part {
	t.Helper()
	e, err := (&expression{text: text}).parse()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	parts, err := e.build(leftOpen)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return parts[0]
}

func (q question) String() string {
	return [...]string{"mayCall", "isVisible", "mayPass", "mayPassUnknown", "mayAnything"}[q]
}

// site is a handler, who comes to it, and what is behind it.
type site struct {
	*Handler
	t        testing.TB
	identity *reqctx.Identity
	logs     *observer.ObservedLogs
	registry *prometheus.Registry
	repl     *caddy.Replacer
	asked    string // says in a failure what was asked
	// what the handler behind was given; nil when it was not reached
	passed *http.Request
	body   string
	// behind answers instead of it
	behind caddyhttp.HandlerFunc
}

func newSite(t testing.TB, lines ...string) *site {
	t.Helper()
	return provision(t, &Handler{Rules: rulesOf(t, lines...)})
}

func provision(t testing.TB, h *Handler) *site {
	t.Helper()
	s, err := tryProvision(t, h)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// configuration is one of Caddy's, as handlers are provisioned in.
var configuration = sync.OnceValues(func() (caddy.Context, error) {
	return caddy.ProvisionContext(&caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {
			BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)},
		}}},
	})
})

// newContext is the context of a handler; it has a registry of its own.
func newContext(t testing.TB) caddy.Context {
	t.Helper()
	root, err := configuration()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(root)
	t.Cleanup(cancel)
	return ctx
}

// sample is the value of one of the metrics.
func (s *site) sample(series string) float64 {
	s.t.Helper()
	return mcptest.Samples(s.t, s.registry)[series]
}

// warnings is what a handler writes into the log when it is provisioned.
func warnings(t *testing.T, h *Handler) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log.json")
	writer, err := json.Marshal(map[string]any{"output": "file", "filename": name, "roll": false})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: writer}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

func tryProvision(t testing.TB, h *Handler) (*site, error) {
	t.Helper()
	ctx := newContext(t)
	if err := h.Provision(ctx); err != nil {
		return nil, err
	}
	core, logs := observer.New(zap.DebugLevel)
	h.logger = zap.New(core)
	h.now = func() time.Time { return noon }
	return &site{Handler: h, t: t, logs: logs, registry: ctx.GetMetricsRegistry()}, nil
}

// as sets the claims of whoever comes next.
func (s *site) as(claims string) *site {
	s.identity = &reqctx.Identity{Claims: claimsOf(s.t, claims)}
	return s
}

// request makes the POST of a message, as a server gets it.
func request(message string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://mcp.example.com/mcp", strings.NewReader(message))
	r.Header.Set("Content-Type", "application/json")
	return r
}

func (s *site) post(message string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	s.t.Helper()
	r := request(message)
	for _, f := range change {
		f(r)
	}
	w := s.serve(r)
	s.asked += " " + clip(message)
	return w
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

// serve lets a request through the handler, as Caddy would.
func (s *site) serve(r *http.Request) *httptest.ResponseRecorder {
	s.t.Helper()
	w := httptest.NewRecorder()
	if err := s.try(w, r); err != nil {
		s.t.Fatalf("ServeHTTP: %v", err)
	}
	return w
}

func (s *site) try(w http.ResponseWriter, r *http.Request) error {
	s.passed, s.body = nil, ""
	s.asked = fmt.Sprintf("%s %s %q", r.Method, r.URL, r.Header)
	return s.ServeHTTP(w, s.prepare(r), s.next())
}

// prepare adds what the server and mcp_jwt put into the context.
func (s *site) prepare(r *http.Request) *http.Request {
	s.repl = caddy.NewReplacer()
	ctx := context.WithValue(r.Context(), caddy.ReplacerCtxKey, s.repl)
	if ctx.Value(caddyhttp.VarsCtxKey) == nil {
		ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{})
	}
	r, state := reqctx.Ensure(r.WithContext(ctx))
	state.Identity = s.identity
	return r
}

func (s *site) next() caddyhttp.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		s.passed = r
		if s.behind != nil {
			return s.behind(w, r)
		}
		if r.Body != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				s.t.Errorf("the handler behind cannot read the body: %v", err)
			}
			s.body = string(body)
			if err := r.Body.Close(); err != nil {
				s.t.Errorf("the handler behind cannot close the body: %v", err)
			}
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
}

// wantRefused checks status and body of an answer that this handler gave.
func (s *site) wantRefused(w *httptest.ResponseRecorder, status int, body string) {
	s.t.Helper()
	if s.passed != nil {
		s.t.Errorf("%s: the handler behind was reached", s.asked)
	}
	if w.Code != status || w.Body.String() != body {
		s.t.Errorf("%s:\nanswer %d %s\nwant   %d %s", s.asked, w.Code, clip(w.Body.String()), status, clip(body))
	}
	wantType := "text/plain; charset=utf-8"
	if strings.HasPrefix(body, "{") {
		wantType = "application/json"
	}
	if got := w.Header().Get("Content-Type"); got != wantType {
		s.t.Errorf("%s: answered with Content-Type %q, want %q", s.asked, got, wantType)
	}
	if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
		s.t.Errorf("%s: answered with X-Content-Type-Options %q", s.asked, got)
	}
}

// wantPassed checks that a message went on as it came.
func (s *site) wantPassed(w *httptest.ResponseRecorder, message string) {
	s.t.Helper()
	if s.passed == nil {
		s.t.Errorf("%s: refused: %d %s", s.asked, w.Code, clip(w.Body.String()))
		return
	}
	if s.body != message {
		s.t.Errorf("%s: became %q\nwant   %q", s.asked, clip(s.body), clip(message))
	}
}

// clip keeps failures readable.
func clip(text string) string { return text[:min(len(text), 300)] }

// callOf is the message that calls a tool.
func callOf(name, arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + name + `","arguments":` + arguments + `}}`
}

// messageOf is a request with params, which may be empty.
func messageOf(method, params string) string {
	if params != "" {
		params = `,"params":` + params
	}
	return `{"jsonrpc":"2.0","id":1,"method":"` + method + `"` + params + `}`
}

func contextWith(r *http.Request, key caddy.CtxKey, value any) context.Context {
	return context.WithValue(r.Context(), key, value)
}
