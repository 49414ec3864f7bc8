package celauthz

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

func shadowOf(t testing.TB, lines ...string) *site {
	t.Helper()
	return provision(t, &Handler{Rules: rulesOf(t, lines...), Shadow: true})
}

// Nothing enforces anything, and whoever loads that should know.
func TestShadowWarns(t *testing.T) {
	for shadow, want := range map[bool]bool{true: true, false: false} {
		log := warnings(t, &Handler{Rules: rulesOf(t, "allow true"), Shadow: shadow})
		if got := strings.Contains(log, `"level":"warn"`) && strings.Contains(log, "nothing is refused"); got != want {
			t.Errorf("shadow %v: %s", shadow, log)
		}
	}
}

// What the rules refuse goes on as it came, and is counted as what it would
// have been.
func TestShadowRefusesNothing(t *testing.T) {
	s := shadowOf(t, `allow jwt.sub == "alice" && mcp.tool.name != "drop"`, `deny mcp.tool.name == "secret"`)
	s.Scopes = nil
	for _, who := range []string{alice, `{"sub":"bob"}`, ""} {
		for _, message := range []string{
			callOf("read", "{}"), callOf("drop", "{}"), callOf("secret", "{}"), messageOf("initialize", ""), messageOf("tools/list", ""),
			messageOf("made/up", ""), messageOf("ping", ""), `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		} {
			s.as(who)
			s.wantPassed(s.post(message), message)
			if got, _ := s.repl.GetString("mcp.decision"); got != "allow" && got != "deny" {
				t.Errorf("%s: the decision is %q", message, got)
			}
		}
	}
	// hopeless for Bob and for nobody at all; drop and secret for Alice
	for series, want := range map[string]float64{
		"decision=allow,method=tools/call,rule=allow#1":       1,
		"decision=shadow_deny,method=tools/call,rule=default": 5,
		"decision=shadow_deny,method=tools/call,rule=deny#1":  3,
		"decision=shadow_deny,method=initialize,rule=default": 2,
		"decision=deny,method=tools/call,rule=deny#1":         0,
	} {
		if got := s.sample("decisions_total{" + series + "}"); got != want {
			t.Errorf("%v: %v, want %v", series, got, want)
		}
	}
}

// Neither is anything that no rule could judge, whatever its size.
func TestShadowPassesWhatItCannotRead(t *testing.T) {
	s := provision(t, &Handler{Rules: rulesOf(t, "deny true"), Shadow: true, MaxBody: 1000})
	large := callOf("read", `{"a":"`+strings.Repeat("x", 100_000)+`"}`)
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	for _, test := range []struct {
		body   string
		change func(*http.Request)
	}{
		{"{", nil},
		{"", nil},
		{"[]", nil},
		{`[{"jsonrpc":"2.0","id":1,"method":"ping"}`, nil},
		{large, nil},
		{large, chunked},
		{callOf("read", "{}"), chunked},
		{"x=1", func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }},
		{"zip", header("Content-Encoding", "gzip")},
		{callOf("read", "{}"), header(mcpwire.HeaderMethod, "ping")},
		{callOf("read", "{}"), header(mcpwire.HeaderVersion, "1999-01-01")},
		{"", func(r *http.Request) { r.Method = http.MethodPut }},
		{"", func(r *http.Request) { r.Method = http.MethodGet; r.Header.Set("Upgrade", "websocket") }},
	} {
		change := test.change
		if change == nil {
			change = func(*http.Request) {}
		}
		s.wantPassed(s.post(test.body, change), test.body)
	}
	if n := s.sample("decisions_total{decision=shadow_deny,method=,rule=}"); n < 10 {
		t.Errorf("%v were counted as unreadable", n)
	}
}

// A112: a body that drips holds nothing for longer than it would without the rules, and fails for the server as well.
func TestShadowSlowBody(t *testing.T) {
	s := shadowOf(t, "allow true")
	s.bodyTimeout = time.Millisecond
	var failed error
	s.behind = func(_ http.ResponseWriter, r *http.Request) error {
		_, failed = io.ReadAll(r.Body)
		return nil
	}
	r := request("")
	r.ContentLength = -1
	body, drip := io.Pipe()
	r.Body = body
	w := &readDeadline{ResponseRecorder: httptest.NewRecorder(), passed: func() { drip.CloseWithError(os.ErrDeadlineExceeded) }}
	if err := s.ServeHTTP(w, s.prepare(r), s.next()); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(failed, slowbody.Err) {
		t.Errorf("the server got %v", failed)
	}
}

// readDeadline is a connection whose reading ends at its deadline.
type readDeadline struct {
	*httptest.ResponseRecorder
	passed func()
}

func (d *readDeadline) SetReadDeadline(time.Time) error { d.passed(); return nil }

// A body that breaks off breaks off for the server as well, at the same byte.
func TestShadowBrokenBody(t *testing.T) {
	s := shadowOf(t, "allow true")
	broken := errors.New("the client is gone")
	r := request("")
	r.ContentLength = -1
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"jsonrpc"`), failingReader{broken}))
	var got string
	var failed error
	s.behind = func(_ http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(r.Body)
		got, failed = string(body), err
		return nil
	}
	s.serve(r)
	if got != `{"jsonrpc"` || !errors.Is(failed, broken) {
		t.Errorf("the server got %q, %v", got, failed)
	}
}

// Lists come through whole; what would have been hidden is counted.
func TestShadowLists(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read"},{"name":"drop"},{"name":"write"}],"nextCursor":"x"}}`
	event := "event: message\ndata: " + list + "\n\n"
	for name, test := range map[string]struct {
		contentType, encoding, body string
		visible, hidden             float64
	}{
		"JSON":          {"application/json", "", list, 2, 1},
		"events":        {"text/event-stream", "", event + event, 4, 2},
		"kept alive":    {"text/event-stream", "", ": ping\n\n" + "id: 1\n\n" + "data:\n\n" + event, 2, 1},
		"encoded":       {"application/json", "br", list, 0, 0},
		"not JSON":      {"application/json", "", "{", 0, 0},
		"a page":        {"text/html", "", "<html>", 0, 0},
		"too large":     {"application/json", "", strings.Repeat(" ", 2000) + list, 0, 0},
		"a large event": {"text/event-stream", "", "data: " + strings.Repeat("x", 2000) + "\n\n" + event, 0, 0},
		"nothing":       {"", "", "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := provision(t, &Handler{Rules: rulesOf(t, `deny mcp.tool.name == "drop"`, "allow true"), Shadow: true, MaxEvent: 1000})
			s.behind = func(w http.ResponseWriter, r *http.Request) error {
				if r.Header.Get("Accept-Encoding") != "" {
					t.Error("an encoded answer could not be counted")
				}
				w.Header().Set("Content-Type", test.contentType)
				if test.encoding != "" {
					w.Header().Set("Content-Encoding", test.encoding)
				}
				w.Header().Set("Cache-Control", "public")
				for i := range len(test.body) {
					if _, err := io.WriteString(w, test.body[i:i+1]); err != nil {
						return err
					}
					if err := http.NewResponseController(w).Flush(); err != nil {
						return fmt.Errorf("flush: %w", err)
					}
				}
				return nil
			}
			w := s.post(messageOf("tools/list", ""), header("Accept-Encoding", "gzip"))
			if w.Body.String() != test.body || w.Header().Get("Cache-Control") != "public" {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
			counted := func(result string) float64 { return s.sample("list_entries_total{kind=tool,result=" + result + "}") }
			if visible, hidden := counted("visible"), counted("shadow_hidden"); visible != test.visible || hidden != test.hidden {
				t.Errorf("%v visible, %v hidden", visible, hidden)
			}
			if n := counted("hidden"); n != 0 {
				t.Errorf("%v have been hidden", n)
			}
		})
	}
}

// What is subscribed to goes on as it came, too.
func TestShadowListen(t *testing.T) {
	s := shadowOf(t, `deny mcp.resource.uri == "file:///secret"`, "allow true")
	message := messageOf("subscriptions/listen", `{"notifications":{"resourceSubscriptions":["file:///a","file:///secret"]}}`)
	s.wantPassed(s.post(message), message)
}

// The option is in the log lines of the decision; a handler that decides
// without it is the last word.
func TestShadowIsLogged(t *testing.T) {
	r := withAccessLog(request(callOf("drop", "{}")))
	s := shadowOf(t, "deny true")
	if err := s.ServeHTTP(httptest.NewRecorder(), s.prepare(r), s.next()); err != nil {
		t.Fatal(err)
	}
	wantFields(t, r, map[string]any{
		"mcp.method": "tools/call", "mcp.target": "drop", "mcp.decision": "deny", "mcp.rule": "deny#1", "mcp.reason": "denied",
		"mcp.version": "2025-03-26", "mcp.shadow": true,
	})
	if reqctx.From(s.passed.Context()).Message.Target != "drop" {
		t.Error("the handlers behind do not know the message")
	}
	enforced := newSite(t, "allow true")
	r2 := s.passed.WithContext(s.passed.Context())
	r2.Body = io.NopCloser(strings.NewReader(callOf("drop", "{}")))
	if err := enforced.ServeHTTP(httptest.NewRecorder(), r2, enforced.next()); err != nil {
		t.Fatal(err)
	}
	wantFields(t, r, map[string]any{
		"mcp.method": "tools/call", "mcp.target": "drop", "mcp.decision": "allow", "mcp.rule": "allow#1", "mcp.version": "2025-03-26",
	})
}
