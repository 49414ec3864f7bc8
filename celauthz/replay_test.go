package celauthz

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// auditLine is what the audit log holds of an operation: no arguments, and
// of the claims only iss and sub.
func auditLine(t *testing.T, o *Operation, decision, rule string) string {
	t.Helper()
	line := map[string]any{
		"level": "info", "ts": float64(o.Time.UnixMicro()) / 1e6, "logger": "http.handlers.mcp_authorize.audit", "msg": "decision",
		"mcp.method": o.Method, "mcp.target": o.Target, "mcp.decision": decision, "mcp.rule": rule, "mcp.version": o.Version,
		"mcp.reason": "denied", "client_id": "c",
	}
	claims := claimsOf(t, string(o.Claims))
	for _, name := range []string{"iss", "sub"} {
		if value, ok := claims.Get(name); ok {
			line[name] = value
		}
	}
	return mustJSON(t, line)
}

func replayerOf(t *testing.T, h *Handler) *Replayer {
	t.Helper()
	if err := h.Compile(); err != nil {
		t.Fatal(err)
	}
	return newReplayer(t, h)
}

func newReplayer(t *testing.T, h *Handler) *Replayer {
	t.Helper()
	r, err := NewReplayer(h)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReplayIsSound: what a replay decides is what the rules decide about
// the whole operation. What it does not know, it leaves undecided.
func TestReplayIsSound(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	counts := map[string]int{}
	for policies := 0; policies < 600; {
		h := someHandler(random)
		if h == nil {
			continue
		}
		policies++
		r := newReplayer(t, h)
		for range 12 {
			o := someOperation(random)
			if kind, _ := mcpwire.TargetOf(o.Method); kind == mcpwire.NoTarget {
				continue
			}
			if o.Version == "" {
				o.Version = mcpwire.Version20250326 // what the handler logs then
			}
			found, err := h.Explain(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			line := auditLine(t, o, "allow", "old")
			again, err := r.Replay(t.Context(), []byte(line))
			if err != nil {
				t.Fatal(err)
			}
			counts[again.After]++
			if again.After != found.Decision && again.After != Undecided {
				t.Fatalf("%s\n%s\n%s by %s, replayed as %s by %s\n%s", mustJSON(t, h), mustJSON(t, o), found.Decision, found.Rule, again.After, again.AfterRule, line)
			}
			if (again.Detail != "") != (again.After == Undecided) {
				t.Fatalf("%s is explained with %q", again.After, again.Detail)
			}
		}
	}
	for _, after := range []string{"allow", "deny", Undecided} {
		if counts[after] < 200 {
			t.Errorf("only %d replays ended in %s: %v", counts[after], after, counts)
		}
	}
}

func TestReplay(t *testing.T) {
	const line = `{"ts":1785585600.5,"mcp.method":"tools/call","mcp.target":"read","mcp.decision":"allow","mcp.rule":"old","mcp.version":"2025-06-18","iss":"i","sub":"alice","client_id":"c"}`
	change := func(pairs ...string) string {
		text := line
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Fatalf("%q is not in the line", pairs[i])
			}
			text = strings.Replace(text, pairs[i], pairs[i+1], 1)
		}
		return text
	}
	for _, test := range []struct {
		rules, line, after, rule, detail string
	}{
		{`allow jwt.sub == "alice"`, line, "allow", "allow#1", ""},
		{`allow jwt.sub == "bob"`, line, "deny", "default", ""},
		{`allow jwt["sub"] == "alice" && jwt.iss == "i"`, line, "allow", "allow#1", ""},
		{`allow has(jwt.sub)`, line, "allow", "allow#1", ""},
		{`allow mcp.tool.name == "read"; deny mcp.tool.name.startsWith("re") && jwt.sub != "bob"`, line, "deny", "deny#1", ""},
		{`allow mcp.version == "2025-06-18" && mcp.method == "tools/call"`, line, "allow", "allow#1", ""},
		{`allow now > timestamp("2026-08-01T11:59:59Z") && now < timestamp("2026-08-01T12:00:01Z")`, line, "allow", "allow#1", ""},
		{`allow mcp.prompt.name == "read"`, line, "deny", "default", ""},
		// what decides whatever the log leaves out
		{`allow "dev" in jwt.groups && jwt.sub == "bob"`, line, "deny", "default", ""},
		{`allow "dev" in jwt.groups || jwt.sub == "alice"`, line, "allow", "allow#1", ""},
		{`allow "dev" in jwt.groups; allow true`, line, "allow", "allow#2", ""},
		{`deny "dev" in jwt.groups; deny mcp.tool.name == "read"`, line, "deny", "deny#2", ""},
		{`require jwt.sub == "bob" && jwt.admin; allow true`, line, "deny", "require#1", ""},
		// what the log leaves out
		{`allow "dev" in jwt.groups`, line, Undecided, "", "allow#1 depends on jwt.groups"},
		{`deny jwt.banned; allow true`, line, Undecided, "", "deny#1 depends on jwt.banned"},
		{`require jwt.admin; allow true`, line, Undecided, "", "require#1 depends on jwt.admin"},
		{`allow !has(jwt.banned)`, line, Undecided, "", "allow#1 depends on jwt.banned"},
		{`deny has(jwt.banned); allow true`, line, Undecided, "", "deny#1 depends on jwt.banned"},
		{`allow jwt.?team.orValue("x") == "x"`, line, Undecided, "", "allow#1 depends on jwt"},
		{`allow "banned" in jwt == false`, line, Undecided, "", "allow#1 depends on jwt"},
		{`allow size(jwt) == 2`, line, Undecided, "", "allow#1 depends on jwt"},
		{`allow jwt == {"iss": "i", "sub": "alice"}`, line, Undecided, "", "allow#1 depends on jwt"},
		{`allow jwt.exists(c, c == "sub")`, line, Undecided, "", "allow#1 depends on jwt"},
		{`allow jwt.all(c, c in ["iss", "sub"])`, line, Undecided, "", "allow#1 depends on jwt"},
		{`deny jwt[mcp.tool.name] == 1; allow true`, line, Undecided, "", "deny#1 depends on jwt"},
		{`allow jwt["a" + "b"] == 1`, line, Undecided, "", "allow#1 depends on jwt"},
		// azp is logged as client_id, too, and is not that claim
		{`allow jwt.client_id == "c"`, line, Undecided, "", "allow#1 depends on jwt.client_id"},
		{`allow mcp.tool.arguments.repo == "acme"`, line, Undecided, "", "allow#1 depends on mcp.tool.arguments"},
		{`allow request.host == ""`, line, Undecided, "", "allow#1 depends on request.host"},
		{`allow source.address == ""`, line, Undecided, "", "allow#1 depends on source.address"},
		{`deny size(scopes) > 0; allow true`, line, Undecided, "", "deny#1 depends on scopes"},
		{`scope a mcp.tool.name == "read"; allow true`, line, Undecided, "", "scope depends on the token having a"},
		{`scope a mcp.tool.name == "write"; allow true`, line, "allow", "allow#1", ""},
		// texts that the log has cut or cleaned
		{`allow true`, change(`"read"`, `"read…"`), Undecided, "", "the log does not hold the whole target"},
		{`allow true`, change(`"read"`, `"re�ad"`), Undecided, "", "the log does not hold the whole target"},
		{`allow jwt.sub != "alice2"`, change(`"alice"`, `"alice…"`), Undecided, "", "allow#1 depends on jwt.sub"},
		{`allow jwt.sub == ""`, change(`"sub":"alice",`, ``), Undecided, "", "allow#1 depends on jwt.sub"},
		{`allow jwt.iss == ""`, change(`"iss":"i"`, `"iss":""`), Undecided, "", "allow#1 depends on jwt.iss"},
		{`allow mcp.version == ""`, change(`"mcp.version":"2025-06-18",`, ``), Undecided, "", "allow#1 depends on mcp.version"},
		{`allow now > timestamp("2020-01-01T00:00:00Z")`, change(`"ts":1785585600.5`, `"ts":"1.785"`), Undecided, "", "allow#1 depends on now"},
		{`allow now == timestamp("2026-08-01T12:00:00Z")`, change(`1785585600.5`, `"2026-08-01T12:00:00Z"`), "allow", "allow#1", ""},
		{`allow now == timestamp("2026-08-01T12:00:00Z")`, change(`1785585600.5`, `1785585600`), "allow", "allow#1", ""},
		// a resource in its other form
		{`allow mcp.resource.uri.startsWith("file:///a/")`, change("tools/call", "resources/read", `"read"`, `"file:///a/../b"`), "deny", "default", ""},
		{`deny mcp.resource.uri == "file:///b" && jwt.x; allow true`, change("tools/call", "resources/read", `"read"`, `"file:///a/../b"`), Undecided, "", "deny#1 depends on jwt.x"},
		{`allow true`, change("tools/call", "completion/complete"), Undecided, "", "the log does not say what kind of target it is"},
		{`allow true`, change("tools/call", "subscriptions/listen"), Undecided, "", "the log does not say what kind of target it is"},
	} {
		h := &Handler{}
		for line := range strings.SplitSeq(test.rules, "; ") {
			if rest, isScope := strings.CutPrefix(line, "scope a "); isScope {
				h.Scopes = append(h.Scopes, &Scope{"a", rest})
				continue
			}
			h.Rules = append(h.Rules, rulesOf(t, line)...)
		}
		got, err := replayerOf(t, h).Replay(t.Context(), []byte(test.line))
		if err != nil {
			t.Fatalf("%s: %v", test.rules, err)
		}
		if got.After != test.after || got.AfterRule != test.rule || got.Detail != test.detail {
			t.Errorf("%s\n%s\n%s by %q: %q\nwant %s by %q: %q", test.rules, test.line, got.After, got.AfterRule, got.Detail, test.after, test.rule, test.detail)
		}
		if got.Before != "allow" || got.BeforeRule != "old" {
			t.Errorf("before: %s by %s", got.Before, got.BeforeRule)
		}
	}
}

// TestReplayReadsStrictly: a line that is no audit line is nothing, and one
// that could be read in two ways is an error.
func TestReplayReadsStrictly(t *testing.T) {
	r := replayerOf(t, &Handler{Rules: rulesOf(t, `allow true`)})
	for _, line := range []string{`{}`, `{"msg":"handled request","mcp.method":"ping"}`, `{"mcp":{"decision":"allow"}}`} {
		if got, err := r.Replay(t.Context(), []byte(line)); got != nil || err != nil {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	for line, want := range map[string]string{
		``:                         "not valid JSON",
		`2026/08/01 INFO decision`: "not valid JSON",
		`{"mcp.decision":"allow","mcp.decision":"deny"}`: "duplicate member name",
		`{"mcp.decision":"perhaps"}`:                     `"mcp.decision" is neither allow nor deny`,
		`{"mcp.decision":1}`:                             `"mcp.decision" is not a string`,
		`{"mcp.decision":"allow","mcp.target":[]}`:       `"mcp.target" is not a string`,
	} {
		if got, err := r.Replay(t.Context(), []byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", line, got, err, want)
		}
	}
}

// TestClaimsOfParts: which claims a condition names, and whether it may read
// others.
func TestClaimsOfParts(t *testing.T) {
	for text, want := range map[string]string{
		`true`:                          "[] false",
		`jwt.sub == "a"`:                "[sub] false",
		`.jwt.sub == "a"`:               "[sub] false",
		`jwt.a.b.c == jwt["d"]`:         "[a d] false",
		`has(jwt.a) && jwt.a`:           "[a a] false",
		`jwt == {}`:                     "[] true",
		`jwt.a == jwt[mcp.tool.name]`:   "[a] true",
		`jwt.?a.hasValue()`:             "[] true",
		`jwt.exists(c, c == "a")`:       "[] true",
		`[jwt][0].a`:                    "[] true",
		`{"x": jwt}.x.a`:                "[] true",
		`["a"].exists(jwt, jwt == "a")`: "[] true", // another jwt, but who would write that
	} {
		e, err := (&expression{text: text}).parse()
		if err != nil {
			t.Fatal(err)
		}
		names, others := e.claims(e.ast.Expr())
		slices.Sort(names)
		if got := fmt.Sprint(names, others); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
