package cfutil

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap/zapcore"
)

// maxLoggedText bounds a text of a client in a log line, in bytes: names and
// URIs are shorter, and nobody may fill a disk with one request.
const maxLoggedText = 512

// What the log fields `mcp.decision` and the metrics say.
const (
	Allow = "allow"
	Deny  = "deny"
)

// LogEntry is what log lines say about one message. Empty fields are left
// out. Decision, Rule and Reason come from the configuration or from closed
// sets; the others are the client's.
type LogEntry struct {
	Method, Target, Version string
	Decision, Rule, Reason  string
	// Shadow: the decision had no effect.
	Shadow bool
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *LogEntry) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	for _, field := range [...]struct{ key, value string }{
		{"mcp.method", LogText(e.Method)},
		{"mcp.target", LogText(e.Target)},
		{"mcp.decision", e.Decision},
		{"mcp.rule", e.Rule},
		{"mcp.reason", e.Reason},
		{"mcp.version", LogText(e.Version)},
	} {
		if field.value != "" {
			enc.AddString(field.key, field.value)
		}
	}
	if e.Shadow {
		enc.AddBool("mcp.shadow", true)
	}
	return nil
}

// AddTo adds the fields to the request's line of the access log, if there is
// going to be one. They replace those that a handler before has added.
func (e LogEntry) AddTo(r *http.Request) {
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server.Logs == nil {
		return
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		kept := e // so that only a line that is written costs an allocation
		// the key of an inlined object is not written; by it, Set finds an older one
		extra.Set(zapcore.Field{Key: "mcp", Type: zapcore.InlineMarshalerType, Interface: &kept})
	}
}

// LogText makes a text of a client fit for log lines and spans, whatever
// writes them out and whatever shows them: it is cut, and what cannot be
// printed (control characters, line and paragraph separators, marks that turn
// the direction of writing) becomes U+FFFD.
func LogText(text string) string {
	cut := len(text) > maxLoggedText
	if cut {
		end := maxLoggedText
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	if strings.ContainsFunc(text, unprintable) || !utf8.ValidString(text) {
		text = strings.Map(func(r rune) rune {
			if unprintable(r) {
				return utf8.RuneError
			}
			return r
		}, text)
	}
	if cut {
		text += "…"
	}
	return text
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
