package jwtauth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// maxNumericDate is the last second of the year 9999, the end of what RFC
// 3339 can write. A larger exp is no date: most often it is in milliseconds,
// which would make a token valid for ages.
const maxNumericDate = 253402300799

// token is one compact JWS (RFC 7515 section 7.1) whose form has been
// checked, and nothing else: its signature has not.
type token struct {
	raw    string
	alg    string
	kid    string
	hasKID bool
	typ    string // lower case, without "application/"; "" when absent
	claims map[string]any
	// payload is the JSON that the claims were read from.
	payload []byte

	signature []byte
}

// base64url is RFC 7515's: no padding, no stray bits.
var base64url = base64.RawURLEncoding.Strict()

// Details of a malformed token. They say what is wrong with the form and
// never quote the token.
var (
	errNotCompact = errors.New("not a compact JWS")
	errBase64     = errors.New("not base64url")
	errHeader     = errors.New("the header is not a JSON object that is valid")
	errPayload    = errors.New("the payload is not a JSON object that is valid")
	errTooLarge   = errors.New("the token is too large")
	errAlg        = errors.New("alg is missing or not a string")
	errTyp        = errors.New("typ is not a string")
	errKID        = errors.New("kid is not a string")
	errExtension  = errors.New("the header asks for an extension that is not supported")
	errNUL        = errors.New("a claim contains a NUL")

	errSeveralHeaders = errors.New("more than one header holds a credential")
	errNotScheme      = errors.New("no token follows the authentication scheme")
)

// readToken takes a compact JWS apart before any library sees it: exactly
// three base64url parts, header and payload strict JSON objects. Everything
// that would change how the rest is read (crit, b64, zip, cty) is refused;
// keys that come inside a token (jwk, jku, x5u, x5c) are never looked at.
func readToken(raw string, maxSize int) (*token, error) {
	if len(raw) > maxSize {
		return nil, errTooLarge
	}
	header, payload, ok := splitCompact(raw)
	if !ok {
		return nil, errNotCompact
	}
	headerJSON, err := decodePart(header)
	if err != nil {
		return nil, err
	}
	payloadJSON, err := decodePart(payload)
	if err != nil {
		return nil, err
	}
	signature, err := decodePart(raw[len(header)+len(payload)+2:])
	if err != nil {
		return nil, err
	}

	t := &token{raw: raw, signature: signature}
	if err := t.readHeader(headerJSON); err != nil {
		return nil, err
	}
	if err := t.readPayload(payloadJSON); err != nil {
		return nil, err
	}
	return t, nil
}

// splitCompact finds the two dots without allocating, however many there are.
func splitCompact(raw string) (header, payload string, ok bool) {
	header, rest, ok := strings.Cut(raw, ".")
	if !ok {
		return "", "", false
	}
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.IndexByte(signature, '.') >= 0 {
		return "", "", false
	}
	return header, payload, header != "" && payload != "" && signature != ""
}

func decodePart(part string) ([]byte, error) {
	// encoding/base64 skips CR and LF; a token has neither
	if strings.ContainsAny(part, "\r\n") {
		return nil, errBase64
	}
	decoded, err := base64url.DecodeString(part)
	if err != nil {
		return nil, errBase64
	}
	return decoded, nil
}

// readHeader reads the JOSE header. Errors of the JSON itself are one error:
// a client cannot do anything about the difference.
func (t *token) readHeader(doc []byte) error {
	hasAlg := false
	var refused error
	err := mcpwire.Object(doc, func(name string, value jsontext.Value) error {
		text, isString := mcpwire.String(value)
		switch name {
		case "alg":
			hasAlg, t.alg = isString, text
		case "kid":
			if !isString {
				refused = errKID
			}
			t.kid, t.hasKID = text, text != ""
		case "typ":
			if !isString {
				refused = errTyp
			}
			t.typ = strings.TrimPrefix(strings.ToLower(text), "application/")
		case "crit", "b64", "zip", "cty", "enc":
			refused = errExtension
		}
		return nil
	})
	switch {
	case err != nil:
		return errHeader
	case refused != nil:
		return refused
	case !hasAlg || t.alg == "":
		return errAlg
	}
	return nil
}

func (t *token) readPayload(doc []byte) error {
	t.claims, t.payload = make(map[string]any), doc
	var refused error
	err := mcpwire.Object(doc, func(name string, value jsontext.Value) error {
		decoded, err := mcpwire.Decode(value)
		if err != nil {
			return err
		}
		if strings.Contains(name, "\x00") || containsNUL(decoded) {
			refused = errNUL
		}
		t.claims[name] = decoded
		return nil
	})
	if err != nil {
		return errPayload
	}
	return refused
}

// forgetClaims frees the claims, which may be many times as large as the
// token's text, while the token waits for its key.
func (t *token) forgetClaims() { t.claims, t.payload = nil, nil }

// recallClaims reads them again.
func (t *token) recallClaims() error {
	again, err := readToken(t.raw, len(t.raw))
	if err != nil {
		return err
	}
	t.claims, t.payload = again.claims, again.payload
	return nil
}

// containsNUL finds NULs, at which other software would cut a claim short.
func containsNUL(value any) bool {
	switch v := value.(type) {
	case string:
		return strings.Contains(v, "\x00")
	case []any:
		for _, element := range v {
			if containsNUL(element) {
				return true
			}
		}
	case map[string]any:
		for name, element := range v {
			if strings.Contains(name, "\x00") || containsNUL(element) {
				return true
			}
		}
	}
	return false
}

// numericDate reads a NumericDate (RFC 7519 section 2): seconds since the
// epoch, fractions and exponents allowed.
func (t *token) numericDate(claim string) (date time.Time, present bool, err error) {
	value, present := t.claims[claim]
	if !present {
		return time.Time{}, false, nil
	}
	var seconds float64
	switch v := value.(type) {
	case int64:
		seconds = float64(v)
	case float64:
		seconds = v
	default:
		return time.Time{}, true, wrongType(claim)
	}
	if seconds < 0 || seconds > maxNumericDate {
		return time.Time{}, true, wrongType(claim)
	}
	whole := int64(seconds)
	return time.Unix(whole, int64((seconds-float64(whole))*1e9)), true, nil
}

// text reads a claim that has to be a string where it is present.
func (t *token) text(claim string) (string, error) {
	value, present := t.claims[claim]
	if !present {
		return "", nil
	}
	text, ok := value.(string)
	if !ok {
		return "", wrongType(claim)
	}
	return text, nil
}

// textOrList reads a claim that is one string or a list of strings, such as
// aud.
func (t *token) textOrList(claim string) (texts []string, present bool, err error) {
	value, present := t.claims[claim]
	if !present {
		return nil, false, nil
	}
	switch v := value.(type) {
	case string:
		return []string{v}, true, nil
	case []any:
		for _, element := range v {
			text, ok := element.(string)
			if !ok {
				return nil, true, wrongType(claim)
			}
			texts = append(texts, text)
		}
		return texts, true, nil
	default:
		return nil, true, wrongType(claim)
	}
}

func wrongType(claim string) error {
	return invalidError(fmt.Sprintf("claim %q has the wrong type", claim))
}

// clientClaims are the names by which issuers call the OAuth client that got
// the token: RFC 9068 section 2.2, OpenID Connect, Okta.
var clientClaims = [...]string{"client_id", "azp", "cid"}

// clientID is the OAuth client that got the token, "" if it does not say.
func (t *token) clientID() string {
	for _, claim := range clientClaims {
		if id, ok := t.claims[claim].(string); ok {
			return id
		}
	}
	return ""
}

// signed is what the signature signs: header and payload as they came.
func (t *token) signed() []byte {
	return []byte(t.raw[:strings.LastIndexByte(t.raw, '.')])
}
