package cfutil

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap/zapcore"
)

// A68: a text of a client can neither start a line, nor move a cursor, nor
// turn the direction of writing, nor fill the disk.
func TestLogText(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"read_file":                    "read_file",
		"Grüße, 世界 🙂":                  "Grüße, 世界 🙂",
		"a\nb\r\tc\x00":                "a\ufffdb\ufffd\ufffdc\ufffd",
		"\x1b[2J":                      "\ufffd[2J",
		"\u009b2J\u0085":               "\ufffd2J\ufffd",
		"a\u2028b\u2029":               "a\ufffdb\ufffd",
		"\u202eevil\u2066":             "\ufffdevil\ufffd",
		"zero\u200bwidth\ufeff":        "zero\ufffdwidth\ufffd",
		"\xff\xfe":                     "\ufffd\ufffd",
		`{env.HOME} "quoted" \`:        `{env.HOME} "quoted" \`,
		strings.Repeat("a", 512):       strings.Repeat("a", 512),
		strings.Repeat("a", 513):       strings.Repeat("a", 512) + "…",
		strings.Repeat("é", 300):       strings.Repeat("é", 256) + "…",
		"x" + strings.Repeat("é", 300): "x" + strings.Repeat("é", 255) + "…",
		strings.Repeat("\x80", 600):    strings.Repeat("\ufffd", 512) + "…",
	} {
		got := LogText(text)
		// bytes that belong to no character are cut wherever that is
		if strings.HasPrefix(text, "\x80") {
			if !utf8.ValidString(got) || len(got) > 4*maxLoggedText {
				t.Errorf("%.20q became %d bytes", text, len(got))
			}
			continue
		}
		if got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { LogText("tools/call") }); n != 0 {
		t.Errorf("an ordinary text costs %v allocations", n)
	}
}

func FuzzLogText(f *testing.F) {
	for _, seed := range []string{"", "a", "\x1b", "é", strings.Repeat("é", 300), "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := LogText(text)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) || len(got) > 3*maxLoggedText+len("…") {
			t.Errorf("%q became %q", text, got)
		}
		if again := LogText(got); len(got) <= maxLoggedText && again != got {
			t.Errorf("%q became %q, and then %q", text, got, again)
		}
	})
}

func TestLogEntryFields(t *testing.T) {
	for name, test := range map[string]struct {
		entry LogEntry
		want  map[string]any
	}{
		"nothing": {LogEntry{}, map[string]any{}},
		"everything": {
			LogEntry{Method: "tools/call", Target: "a\nb", Version: "2025-06-18", Decision: Deny, Rule: "deny#1", Reason: "denied", Shadow: true},
			map[string]any{
				"mcp.method": "tools/call", "mcp.target": "a\ufffdb", "mcp.version": "2025-06-18",
				"mcp.decision": "deny", "mcp.rule": "deny#1", "mcp.reason": "denied", "mcp.shadow": true,
			},
		},
	} {
		encoder := zapcore.NewMapObjectEncoder()
		if err := test.entry.MarshalLogObject(encoder); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(encoder.Fields, test.want) {
			t.Errorf("%s: %v", name, encoder.Fields)
		}
	}
}

// Where no line will be written, none is prepared, and nothing is missing
// that a request of Caddy has.
func TestNoAccessLog(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	LogEntry{Method: "ping"}.AddTo(r)
	with := func(server *caddyhttp.Server) func() {
		ctx := context.WithValue(r.Context(), caddyhttp.ExtraLogFieldsCtxKey, new(caddyhttp.ExtraLogFields))
		r := r.WithContext(context.WithValue(ctx, caddyhttp.ServerCtxKey, server))
		return func() { LogEntry{Method: "ping"}.AddTo(r) }
	}
	if n := testing.AllocsPerRun(100, with(new(caddyhttp.Server))); n != 0 {
		t.Errorf("%v allocations without an access log", n)
	}
	if n := testing.AllocsPerRun(100, with(&caddyhttp.Server{Logs: new(caddyhttp.ServerLogConfig)})); n == 0 {
		t.Error("no field is added with an access log")
	}
}
