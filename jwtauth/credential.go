package jwtauth

import (
	"net/http"
	"strings"
)

// credentialSource is one place where a request may carry its token.
type credentialSource struct {
	// header is the canonical name of a header, cookie the name of a
	// cookie; one of them is empty.
	header, cookie string
	// scheme is the authentication scheme in front of the token, compared
	// without case; "" when the header holds the bare token.
	scheme string
}

const (
	authorizationHeader = "Authorization"
	bearerScheme        = "Bearer"
)

// find returns the one credential of a request and where it was.
func findCredential(r *http.Request, sources []credentialSource) (raw string, from *credentialSource, err error) {
	bearerRead := false
	for i := range sources {
		source := &sources[i]
		bearerRead = bearerRead || source.header == authorizationHeader && strings.EqualFold(source.scheme, bearerScheme)
		value, found, err := source.read(r)
		if err != nil {
			return "", source, err
		}
		if !found {
			continue
		}
		if from != nil {
			return "", source, ErrSeveralCredentials
		}
		raw, from = value, source
	}
	if from == nil {
		return "", nil, ErrNoCredential
	}
	// a client must not use two methods at once (RFC 6750 section 2), even
	// if only one of them is read here
	if !bearerRead {
		other := credentialSource{header: authorizationHeader, scheme: bearerScheme}
		if _, found, err := other.read(r); found || err != nil {
			return "", from, ErrSeveralCredentials
		}
	}
	return raw, from, nil
}

func (s *credentialSource) read(r *http.Request) (raw string, found bool, err error) {
	if s.cookie != "" {
		return s.readCookie(r)
	}
	values := r.Header[s.header]
	switch len(values) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", true, malformedError{errSeveralHeaders}
	}
	value := values[0]
	if s.scheme == "" {
		return value, value != "", nil
	}
	scheme, rest, spaced := strings.Cut(value, " ")
	if !spaced {
		if value == "" {
			return "", false, nil
		}
		return "", true, malformedError{errNotScheme}
	}
	if !strings.EqualFold(scheme, s.scheme) {
		return "", false, nil
	}
	return strings.TrimLeft(rest, " "), true, nil
}

func (s *credentialSource) readCookie(r *http.Request) (raw string, found bool, err error) {
	cookies := r.CookiesNamed(s.cookie)
	switch len(cookies) {
	case 0:
		return "", false, nil
	case 1:
		return cookies[0].Value, true, nil
	default:
		return "", true, ErrSeveralCredentials
	}
}

// remove takes the credential out of the request, so that it does not travel
// on: a token is for this server only (MCP forbids passing it through).
func (s *credentialSource) remove(r *http.Request) {
	if s.cookie == "" {
		r.Header.Del(s.header)
		return
	}
	cookies := r.Cookies()
	r.Header.Del("Cookie")
	for _, cookie := range cookies {
		if cookie.Name != s.cookie {
			r.AddCookie(cookie)
		}
	}
}
