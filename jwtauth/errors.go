package jwtauth

import (
	"errors"
	"strconv"
)

// Why a request was not let in. The challenge table maps each to status and
// body.
var (
	// ErrNoCredential: the request carries no token.
	ErrNoCredential = errors.New("no bearer token found")
	// ErrNoKeyID: the token names no key, and its issuer wants it to.
	ErrNoKeyID = errors.New("the token header does not specify a `kid`")
	// ErrSeveralCredentials: more than one place holds a credential
	// (RFC 6750 section 2).
	ErrSeveralCredentials = errors.New("more than one credential was sent")
)

// malformedError: not a compact JWS that could be read at all.
type malformedError struct{ detail error }

func (e malformedError) Error() string { return "the token header is malformed: " + e.detail.Error() }
func (e malformedError) Unwrap() error { return e.detail }

// invalidError: a well-formed token that is not accepted. Its text is one of
// the details of the documentation.
type invalidError string

func (e invalidError) Error() string { return "the token is invalid or malformed: " + string(e) }

// The details that name no claim.
const (
	errIssuer       = invalidError("issuer not accepted")
	errSignature    = invalidError("signature invalid")
	errExpired      = invalidError("token expired")
	errNotYetValid  = invalidError("token not yet valid")
	errAudience     = invalidError("audience not accepted")
	errAlgorithm    = invalidError("algorithm not accepted")
	errTokenType    = invalidError("token type not accepted")
	errMissingClaim = "missing required claim "
)

func missingClaim(claim string) error { return invalidError(errMissingClaim + strconv.Quote(claim)) }

// maxQuotedKeyID is how many characters of a kid an answer repeats. A kid
// comes from the client, and an answer is no place for 5 kB of it.
const maxQuotedKeyID = 64

// unknownKeyError: no key of the issuer has the token's kid.
type unknownKeyError string

func (e unknownKeyError) Error() string {
	kid := []rune(string(e))
	if len(kid) > maxQuotedKeyID {
		kid = kid[:maxQuotedKeyID]
	}
	return "token uses the unknown key " + strconv.QuoteToASCII(string(kid))
}
