package cfutil

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// shape is an error page.
var shape = caddyhttp.StaticResponse{Body: "shaped"}

func route(matcher caddyhttp.RequestMatcherWithError, handlers ...caddyhttp.MiddlewareHandler) caddyhttp.Route {
	r := caddyhttp.Route{Handlers: handlers}
	if matcher != nil {
		r.MatcherSets = caddyhttp.MatcherSets{{matcher}}
	}
	return r
}

func subroute(routes ...caddyhttp.Route) caddyhttp.MiddlewareHandler {
	return &caddyhttp.Subroute{Routes: routes}
}

// onStatus matches like `handle_errors <code>` does.
func onStatus(t *testing.T, code string) *caddyhttp.MatchExpression {
	t.Helper()
	m := &caddyhttp.MatchExpression{Expr: "{http.error.status_code} == " + code}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := m.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return m
}

// broken is a matcher that cannot say.
type broken struct{}

func (broken) MatchWithError(*http.Request) (bool, error) { return true, errors.New("broken") }

func TestRefuse(t *testing.T) {
	host := caddyhttp.MatchHost{"mcp.example.com"}
	other := caddyhttp.MatchHost{"other.example.com"}
	for name, test := range map[string]struct {
		routes caddyhttp.RouteList
		shaped bool
	}{
		"no routes":                  {nil, false},
		"every request":              {caddyhttp.RouteList{route(nil, shape)}, true},
		"this host":                  {caddyhttp.RouteList{route(host, shape)}, true},
		"this host in a subroute":    {caddyhttp.RouteList{route(host, subroute(route(nil, shape)))}, true},
		"other host":                 {caddyhttp.RouteList{route(other, shape)}, false},
		"other host in a subroute":   {caddyhttp.RouteList{route(nil, subroute(route(other, shape)))}, false},
		"other host around":          {caddyhttp.RouteList{route(other, subroute(route(nil, shape)))}, false},
		"second route":               {caddyhttp.RouteList{route(other, shape), route(host, shape)}, true},
		"second handler":             {caddyhttp.RouteList{route(host, subroute(), shape)}, true},
		"no handler":                 {caddyhttp.RouteList{route(host)}, false},
		"empty subroute":             {caddyhttp.RouteList{route(host, subroute())}, false},
		"this status":                {caddyhttp.RouteList{route(onStatus(t, "401"), shape)}, true},
		"other status":               {caddyhttp.RouteList{route(onStatus(t, "404"), shape)}, false},
		"this status in a subroute":  {caddyhttp.RouteList{route(host, subroute(route(onStatus(t, "401"), shape)))}, true},
		"other status in a subroute": {caddyhttp.RouteList{route(host, subroute(route(onStatus(t, "404"), shape)))}, false},
		"matcher that fails":         {caddyhttp.RouteList{route(broken{}, shape)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := &caddyhttp.Server{Errors: &caddyhttp.HTTPErrorConfig{Routes: test.routes}}
			w := httptest.NewRecorder()
			w.Header().Set("WWW-Authenticate", "Bearer")
			r := httptest.NewRequest(http.MethodPost, "https://mcp.example.com/mcp", nil)
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
			err := Refuse(w, r, http.StatusUnauthorized, "go away")
			if w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Error("a header that was set before is gone")
			}
			if test.shaped {
				var failure caddyhttp.HandlerError
				if !errors.As(err, &failure) || failure.StatusCode != http.StatusUnauthorized || failure.Err.Error() != "go away" {
					t.Errorf("error %v", err)
				}
				if w.Body.Len() != 0 || len(w.Header()) != 1 {
					t.Errorf("wrote %q with %v", w.Body, w.Header())
				}
				return
			}
			checkText(t, w, err)
		})
	}
}

func checkText(t *testing.T, w *httptest.ResponseRecorder, err error) {
	t.Helper()
	if err != nil || w.Code != http.StatusUnauthorized || w.Body.String() != "go away" ||
		w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v: %d %q with %v", err, w.Code, w.Body, w.Header())
	}
}

// Outside of a Caddy server there is nobody to shape anything.
func TestRefuseWithoutServer(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "https://mcp.example.com/mcp", nil)
	w := httptest.NewRecorder()
	checkText(t, w, Refuse(w, r, http.StatusUnauthorized, "go away"))

	// a server, but no replacer for the matchers
	server := &caddyhttp.Server{Errors: &caddyhttp.HTTPErrorConfig{Routes: caddyhttp.RouteList{route(nil, shape)}}}
	prepared := caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
	w = httptest.NewRecorder()
	checkText(t, w, Refuse(w, prepared.WithContext(hidden{prepared.Context()}), http.StatusUnauthorized, "go away"))
}

// hidden is a context without the replacer.
type hidden struct{ context.Context }

func (h hidden) Value(key any) any {
	if key == caddy.ReplacerCtxKey {
		return nil
	}
	return h.Context.Value(key)
}

// Scheme believes X-Forwarded-Proto of a trusted proxy only.
func TestScheme(t *testing.T) {
	for _, test := range []struct {
		url     string
		trusted any
		proto   []string
		want    string
	}{
		{"http://a/", nil, nil, "http"},
		{"https://a/", nil, nil, "https"},
		{"http://a/", nil, []string{"https"}, "http"},
		{"https://a/", nil, []string{"http"}, "https"},
		{"http://a/", false, []string{"https"}, "http"},
		{"http://a/", true, []string{"https"}, "https"},
		{"https://a/", true, []string{"http"}, "http"},
		{"https://a/", true, nil, "https"},
		{"http://a/", true, []string{"HTTPS"}, "http"},
		{"http://a/", true, []string{"https, http"}, "http"},
		{"http://a/", true, []string{"wss"}, "http"},
		{"http://a/", "true", []string{"https"}, "http"},
	} {
		r := httptest.NewRequest(http.MethodGet, test.url, nil)
		r.Header["X-Forwarded-Proto"] = test.proto
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, &caddyhttp.Server{})
		if test.trusted != nil {
			caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, test.trusted)
		}
		if got := Scheme(r); got != test.want {
			t.Errorf("%s, trusted %v, %q: %s", test.url, test.trusted, test.proto, got)
		}
		want, _ := test.trusted.(bool)
		if got := FromTrustedProxy(r); got != want {
			t.Errorf("trusted %v: %t", test.trusted, got)
		}
	}
	if FromTrustedProxy(httptest.NewRequest(http.MethodGet, "http://a/", nil)) {
		t.Error("a request without a server comes from a trusted proxy")
	}
}
