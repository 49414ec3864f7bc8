package jwtauth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/internal/slowbody"
)

// TestA112_AnswersWithoutTheBody: who has no token cannot keep a connection by sending a body that nobody wants.
func TestA112_AnswersWithoutTheBody(t *testing.T) {
	withBody := func(r *http.Request) *http.Request {
		other := httptest.NewRequest(r.Method, r.URL.String(), strings.NewReader("{}"))
		other.Header = r.Header
		return other
	}
	notFound := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return caddyhttp.Error(http.StatusNotFound, nil)
	})
	g := newGate(t, withOrigins(page))
	metadata := func(method, path string) *http.Request {
		return httptest.NewRequest(method, "http://mcp.example.com"+path, http.NoBody)
	}
	documents := &Metadata{path: wellKnownResource + "/mcp", document: []byte("{}")}
	for name, test := range map[string]struct {
		handler caddyhttp.MiddlewareHandler
		request *http.Request
		status  int
	}{
		"no token":        {g, httptest.NewRequest(http.MethodPost, siteURL, http.NoBody), http.StatusUnauthorized},
		"foreign page":    {g, preflight("https://evil.example", ""), http.StatusForbidden},
		"preflight":       {g, preflight(page, ""), http.StatusNoContent},
		"metadata":        {documents, metadata(http.MethodGet, wellKnownResource+"/mcp"), http.StatusOK},
		"no metadata":     {documents, metadata(http.MethodGet, wellKnownResource+"/x"), http.StatusNotFound},
		"their preflight": {documents, metadata(http.MethodOptions, wellKnownResource), http.StatusNoContent},
	} {
		for _, empty := range []bool{false, true} {
			r, want := withBody(test.request), 1
			if empty {
				r, want = test.request, 0
			}
			w := &mcptest.Deadlines{ResponseRecorder: httptest.NewRecorder()}
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
			began := time.Now()
			if err := test.handler.ServeHTTP(w, r, notFound); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if w.Code != test.status || len(w.Until) != want {
				t.Errorf("%s, without a body %t: %d, may read until %v", name, empty, w.Code, w.Until)
			}
			for _, until := range w.Until {
				if until.Before(began.Add(slowbody.Timeout)) || until.After(time.Now().Add(slowbody.Timeout)) {
					t.Errorf("%s: may read until %v", name, until)
				}
			}
		}
	}
}
