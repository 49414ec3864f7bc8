package jwtauth

import (
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/gateway/internal/reqctx"
)

const userPlaceholder = "http.auth.user."

// setPlaceholders lets the rest of the request read the identity. Values are
// made when they are asked for: most requests ask for one. What a token lacks
// is known to be empty, and so is everything of an anonymous request: Caddy
// leaves the braces of a placeholder that nobody knows in a header.
func setPlaceholders(r *http.Request, identity *reqctx.Identity, userClaim string) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	repl.Map(func(name string) (any, bool) {
		if name == "mcp.issuer" {
			return identity.Issuer, true
		}
		claim, ok := strings.CutPrefix(name, userPlaceholder)
		if !ok {
			return nil, false
		}
		if claim == "id" {
			claim = userClaim
		}
		value, _ := identity.Claims.Get(claim)
		text, _ := claimText(value)
		return text, true
	})
}

// claimText writes scalars, and lists of them joined with commas. Text with
// control characters is left out: it could split a header or a log line.
func claimText(value any) (text string, ok bool) {
	list, ok := value.([]any)
	if !ok {
		return scalarText(value)
	}
	texts := make([]string, 0, len(list))
	for _, element := range list {
		text, ok := scalarText(element)
		if !ok {
			return "", false
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ","), true
}

func scalarText(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		if strings.ContainsFunc(v, unicode.IsControl) {
			return "", false
		}
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	default:
		return "", false
	}
}
