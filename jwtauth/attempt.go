package jwtauth

import (
	"errors"
	"maps"
	"mime"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/cfutil"
)

// attempt finds out whether something else in a site handles a request. What
// turns it away (no token, not allowed, not found) with anything but JSON
// has not handled it, nor has a page that answers for every path; they leave
// no trace in the answer.
type attempt struct {
	client http.ResponseWriter
	// header is that of the answer until it is known to be one.
	header  http.Header
	handled bool
	turned  bool
}

// turnsAway are the answers of handlers that do not know what is asked for.
var turnsAway = map[int]bool{
	http.StatusUnauthorized: true, http.StatusForbidden: true,
	http.StatusNotFound: true, http.StatusMethodNotAllowed: true,
}

// Header implements http.ResponseWriter.
func (a *attempt) Header() http.Header {
	if a.handled {
		return a.client.Header()
	}
	return a.header
}

// WriteHeader implements http.ResponseWriter.
func (a *attempt) WriteHeader(status int) {
	if a.turned {
		return
	}
	mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if !a.handled && (turnsAway[status] && mediaType != "application/json" || status == http.StatusOK && mediaType == "text/html") {
		a.turned = true
		return
	}
	if !a.handled {
		header := a.client.Header()
		clear(header)
		maps.Copy(header, a.header)
	}
	// 1xx is not the answer yet, but it comes from whoever has one
	a.handled = true
	a.client.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *attempt) Write(p []byte) (int, error) {
	if a.turned {
		return len(p), nil
	}
	if !a.handled {
		a.WriteHeader(http.StatusOK)
	}
	return a.client.Write(p)
}

// FlushError implements what http.ResponseController looks for.
func (a *attempt) FlushError() error {
	if a.turned {
		return nil
	}
	if !a.handled {
		a.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(a.client).Flush()
}

// failed reports whether an error is one that turns a request away and that
// no error route of the site wants to shape.
func (a *attempt) failed(r *http.Request, err error) bool {
	var failure caddyhttp.HandlerError
	return !a.handled && errors.As(err, &failure) && turnsAway[failure.StatusCode] && !cfutil.HasErrorRoute(r, err)
}
