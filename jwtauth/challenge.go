package jwtauth

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// answerPrefix starts every answer of mcp_jwt.
const answerPrefix = "authentication failure: "

// answer is how a refused credential is answered: RFC 6750 section 3.
type answer struct {
	status    int
	body      string
	challenge string
	// retryAfter is set when only time helps.
	retryAfter time.Duration
}

// challenger builds the WWW-Authenticate header from the configuration only:
// nothing of the request but the reason of the refusal gets into it.
type challenger struct {
	// where is the parameter every challenge starts with: where the metadata
	// are (RFC 9728 section 5.1), or the realm if there are none.
	where string
	// scope is that of the resource, for clients that have no token yet.
	scope string
}

// newChallenger names a realm, which must consist of characters that a quoted
// string can hold.
func newChallenger(realm string) (challenger, error) {
	for _, r := range realm {
		if r < ' ' || r > '~' {
			return challenger{}, errors.New("realm holds a character that a header cannot carry")
		}
	}
	return challenger{where: "realm=" + quoteParam(realm)}, nil
}

// withResource leads clients to the metadata of a resource instead.
func (challenger) withResource(metadata string, scopes []string) challenger {
	c := challenger{where: "resource_metadata=" + quoteParam(metadata)}
	if len(scopes) > 0 {
		c.scope = ", scope=" + quoteParam(strings.Join(scopes, " "))
	}
	return c
}

// answerTo maps a failure to its answer. A challenge carries an error only
// if a credential was sent (RFC 6750 section 3.1).
func (c challenger) answerTo(failure error) answer {
	a := answer{status: http.StatusUnauthorized, body: answerPrefix + failure.Error(), challenge: "Bearer " + c.where + c.scope}
	var unavailable unavailableError
	switch {
	case errors.Is(failure, ErrNoCredential):
		return a
	case errors.As(failure, &unavailable):
		// no fault of the token, which may be good
		return answer{status: http.StatusServiceUnavailable, body: a.body, retryAfter: unavailable.retryAfter}
	case errors.Is(failure, ErrSeveralCredentials):
		a.status = http.StatusBadRequest
		a.challenge += `, error="invalid_request"`
	default:
		a.challenge += `, error="invalid_token"`
	}
	a.challenge += ", error_description=" + quoteParam(descriptionText(failure.Error()))
	return a
}

// insufficientScope asks for a token with all of these scopes (RFC 6750
// section 3.1).
func (c challenger) insufficientScope(scopes []string) answer {
	return answer{
		status: http.StatusForbidden,
		body:   "authorization failed: the token lacks a scope",
		challenge: "Bearer " + c.where + `, error="insufficient_scope", scope=` +
			quoteParam(strings.Join(scopes, " ")),
	}
}

// quoteParam writes a quoted-string (RFC 9110 section 5.6.4).
func quoteParam(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// descriptionText keeps to the characters RFC 6750 section 3 allows in an
// error_description.
func descriptionText(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '`':
			return '\''
		case r == '\\' || r < ' ' || r > '~':
			return '?'
		default:
			return r
		}
	}, text)
}
