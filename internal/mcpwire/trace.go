package mcpwire

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// traceParent reads a traceparent of version 00 (W3C Trace Context, section
// 3.2): version, trace id, parent id and flags, in lower-case hexadecimal
// with dashes between. Anything else is no trace context, and no fault: it
// decides nothing.
func traceParent(value jsontext.Value) string {
	const form = "00-tttttttttttttttttttttttttttttttt-pppppppppppppppp-ff"
	if len(value) != len(form)+2 {
		return "" // the text with its quotes: no other text has this length without an escape
	}
	text, _ := String(value)
	if len(text) != len(form) || !strings.HasPrefix(text, "00-") {
		return ""
	}
	for i := range len(form) {
		c := text[i]
		isHex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if isDash := form[i] == '-'; isDash && c != '-' || !isDash && !isHex {
			return ""
		}
	}
	if trace, parent := text[3:35], text[36:52]; strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" {
		return "" // these mean: none
	}
	return text
}
