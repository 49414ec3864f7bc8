package reqctx

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Claims are the claims of a token: a JSON object that has been found to be
// valid, without blanks around it; nil where there is no token. They are kept
// as they came. Most of them nobody asks for, and a thousand tokens that are
// remembered are a thousand texts then, instead of many thousand values that
// the garbage collector has to look at.
type Claims []byte

// ReadClaims reads a JSON object of claims. It keeps doc.
func ReadClaims(doc []byte) (Claims, error) {
	err := mcpwire.Object(doc, func(string, jsontext.Value) error { return nil })
	if err != nil {
		return nil, err
	}
	return TrimClaims(doc), nil
}

// TrimClaims is ReadClaims for an object that is known to be valid.
func TrimClaims(doc []byte) Claims { return bytes.Trim(doc, " \t\r\n") }

// Get decodes one claim, as mcpwire.Decode does; false if there is none of
// that name.
func (c Claims) Get(name string) (value any, ok bool) {
	raw, ok := mcpwire.Member(jsontext.Value(c), name)
	if !ok {
		return nil, false
	}
	value, err := mcpwire.Decode(raw)
	return value, err == nil
}
