package jwtauth

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const page = "https://app.example.com"

func withOrigins(origins ...string) func(*Handler) {
	return func(h *Handler) { h.Origins = origins }
}

// wantCORS wants the answer to be readable for a page, and for no other.
func wantCORS(t *testing.T, w *httptest.ResponseRecorder, origin string) {
	t.Helper()
	h := w.Result().Header
	if got := h["Access-Control-Allow-Origin"]; !slices.Equal(got, []string{origin}) {
		t.Errorf("Access-Control-Allow-Origin: %q, want %q", got, origin)
	}
	if got := h.Get("Access-Control-Expose-Headers"); w.Code != http.StatusNoContent && got != "WWW-Authenticate, Mcp-Session-Id" {
		t.Errorf("Access-Control-Expose-Headers: %q", got)
	}
	if !slices.Contains(h["Vary"], "Origin") {
		t.Errorf("Vary: %q", h["Vary"])
	}
	if h.Get("Access-Control-Allow-Credentials") != "" {
		t.Error("credentials are allowed")
	}
}

func TestListedOrigins(t *testing.T) {
	for _, test := range []struct {
		listed, origin string
		ok             bool
	}{
		{page, page, true},
		{page, "https://app.example.com:443", true},
		{"https://app.example.com:443", page, true},
		{"HTTPS://App.Example.com", page, true},
		{page, "HTTPS://APP.example.com", true},
		{"http://localhost:5173", "http://localhost:5173", true},
		{"vscode-webview://abc123", "vscode-webview://abc123", true},
		{"null", "null", true},
		{page, "null", false},
		{"null", page, false},
		{page, "http://app.example.com", false},
		{page, "https://app.example.com:8443", false},
		{page, "https://app.example.com.evil.example", false},
		{page, "https://evil.example", false},
		{page, "https://sub.app.example.com", false},
		{page, "https://app.example.com/", false},
		{page, "https://app.example.com, https://evil.example", false},
		{page, "https://user@app.example.com", false},
		{page, "*", false},
		{page, "", false},
		{"http://localhost:5173", "http://localhost:5174", false},
	} {
		g := newGate(t, withOrigins(test.listed))
		w := g.do(t, comingFrom(siteURL, test.origin))
		if !test.ok {
			g.foreign(t, w)
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s, listed %s: CORS headers in a refusal", test.origin, test.listed)
			}
			continue
		}
		if g.calls != 1 {
			t.Errorf("%s, listed %s: %d", test.origin, test.listed, w.Code)
		}
		wantCORS(t, w, test.origin)
	}
	g := newGate(t, withOrigins(page))
	g.foreign(t, g.do(t, comingFrom(siteURL, page, page)))
	// no page, and the site's own, are as ever
	for _, origins := range [][]string{nil, {"https://mcp.example.com"}} {
		w := g.do(t, comingFrom(siteURL, origins...))
		if g.calls != 1 || w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header().Get("Vary") != "Origin" {
			t.Errorf("%q: %d %v", origins, w.Code, w.Header())
		}
	}
}

func TestOriginsThatAreNone(t *testing.T) {
	for _, origin := range []string{
		"", "*", "app.example.com", "https://", "https://app.example.com/", "https://app.example.com/x", "https://*.example.com", "https://user@app.example.com",
		"https://app.example.com?x", "https://a b", "https://app.example.com\r\nX: y", "//app.example.com", `https://app.example.com"`, "https://ü.example",
	} {
		if _, err := tryGate(t, withOrigins(origin)); err == nil || !strings.Contains(err.Error(), "is not an origin") {
			t.Errorf("%q: %v", origin, err)
		}
	}
	_, err := tryGate(t, withOrigins("null"), func(h *Handler) { h.TokenFrom = []*TokenSource{{Source: "cookie", Name: "c"}} })
	if err == nil || !strings.Contains(err.Error(), "do not go together") {
		t.Errorf("null and a cookie: %v", err)
	}
}

// A page can read why it was refused.
func TestCORSOnRefusals(t *testing.T) {
	g := newGate(t, withOrigins(page))
	for _, token := range []string{"", "x"} {
		r := comingFrom(siteURL, page)
		r.Header.Del("Authorization")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := g.do(t, r)
		if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" || g.calls != 0 {
			t.Errorf("token %q: %d", token, w.Code)
		}
		wantCORS(t, w, page)
	}
	// an error of a handler behind that Caddy answers
	w := httptest.NewRecorder()
	r := caddyhttp.PrepareRequest(comingFrom(siteURL, page), caddy.NewReplacer(), w, &caddyhttp.Server{})
	failing := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(http.StatusForbidden, nil) })
	if err := g.ServeHTTP(w, r, failing); err == nil {
		t.Error("the error is lost")
	}
	w.WriteHeader(http.StatusForbidden)
	wantCORS(t, w, page)
}

// What the upstream says about other pages does not count.
func TestCORSOfTheUpstream(t *testing.T) {
	g := newGate(t, withOrigins(page))
	for name, write := range map[string]func(http.ResponseWriter){
		"header": func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) },
		"body":   func(w http.ResponseWriter) { _, _ = w.Write([]byte("x")) },
		"copy":   func(w http.ResponseWriter) { _, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("x")) },
		"flush":  func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		"early hints": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Add("Access-Control-Allow-Origin", "https://late.example")
			w.WriteHeader(http.StatusOK)
		},
	} {
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(comingFrom(siteURL, page), caddy.NewReplacer(), w, &caddyhttp.Server{})
		err := g.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			for _, value := range []string{"*", "https://evil.example"} {
				w.Header().Add("Access-Control-Allow-Origin", value)
			}
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			w.Header().Set("Access-Control-Allow-Private-Network", "true")
			w.Header().Set("Vary", "Accept")
			write(w)
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		wantCORS(t, w, page)
		if h := w.Result().Header; h.Get("Access-Control-Allow-Private-Network") != "" || !slices.Contains(h["Vary"], "Accept") {
			t.Errorf("%s: %v", name, h)
		}
	}
}

func preflight(origin, headers string) *http.Request {
	r := httptest.NewRequest(http.MethodOptions, siteURL, nil)
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", "POST")
	if headers != "" {
		r.Header.Set("Access-Control-Request-Headers", headers)
	}
	return r
}

// params are the names of so many headers that a tool defines.
func params(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = "mcp-param-" + strconv.Itoa(i)
	}
	return strings.Join(names, ", ")
}

func TestPreflight(t *testing.T) {
	const always = "Authorization, Content-Type, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Mcp-Session-Id, Last-Event-ID"
	g := newGate(t, withOrigins(page))
	for asked, allowed := range map[string]string{
		"":                           always,
		"authorization,content-type": always,
		"x-other, mcp-param-region":  always + ", mcp-param-region",
		"Mcp-Param-A, mcp-param-b":   always + ", mcp-param-a, mcp-param-b",
		"mcp-param-a: x, mcp-param-é, mcp-param": always,
		strings.Repeat("mcp-param-x,", 1000):     always + ", mcp-param-x",
		params(1000):                             always + ", " + params(maxCORSParams),
	} {
		w := g.do(t, preflight(page, asked))
		h := w.Header()
		if w.Code != http.StatusNoContent || w.Body.Len() != 0 || g.calls != 0 || h.Get("Access-Control-Allow-Methods") != "GET, POST, DELETE" ||
			h.Get("Access-Control-Max-Age") != "7200" {
			t.Errorf("%.60q: %d %v", asked, w.Code, h)
		}
		if got := h.Get("Access-Control-Allow-Headers"); got != allowed {
			t.Errorf("%.60q: allowed %s", asked, got)
		}
		wantCORS(t, w, page)
	}
	g.foreign(t, g.do(t, preflight("https://evil.example", "")))
	// another OPTIONS is a request like any other
	r := preflight(page, "")
	r.Header.Del("Access-Control-Request-Method")
	if w := g.do(t, r); w.Code != http.StatusUnauthorized || g.calls != 0 {
		t.Errorf("OPTIONS: %d", w.Code)
	}
	// a page that is not listed cannot even ask where none is
	none := newGate(t)
	none.foreign(t, none.do(t, preflight(page, "")))
}

// A token in a header of its own may be sent; one in a cookie comes with the
// browser's credentials.
func TestCORSForOtherTokens(t *testing.T) {
	g := newGate(t, withOrigins(page), func(h *Handler) {
		h.TokenFrom = []*TokenSource{{Source: "header", Name: "X-Token"}, {Source: "cookie", Name: "token"}}
	})
	w := g.do(t, preflight(page, "x-token"))
	if got := w.Header().Get("Access-Control-Allow-Headers"); !strings.HasSuffix(got, ", X-Token") {
		t.Errorf("allowed %s", got)
	}
	r := comingFrom(siteURL, page)
	r.Header.Del("Authorization")
	r.Header.Set("Cookie", "token="+goodToken())
	w = g.do(t, r)
	if g.calls != 1 || w.Header().Get("Access-Control-Allow-Credentials") != "true" || w.Header().Get("Access-Control-Allow-Origin") != page {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	r = comingFrom(siteURL, "https://evil.example")
	r.Header.Set("Cookie", "token="+goodToken())
	g.foreign(t, g.do(t, r))
}

// The site's own pages are those of the resource, whatever the request says.
func TestOwnOriginIsTheResource(t *testing.T) {
	g := newGate(t, func(h *Handler) { h.Resource = &Resource{URL: "https://public.example.com/mcp"} })
	for origin, ok := range map[string]bool{
		"https://public.example.com":     true,
		"https://public.example.com:443": true,
		"http://public.example.com":      false,
		"https://mcp.example.com":        false, // that of the request
		"null":                           false,
	} {
		w := g.do(t, comingFrom(siteURL, origin))
		if !ok {
			g.foreign(t, w)
		} else if g.calls != 1 || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %v", origin, w.Code, w.Header())
		}
	}
	// on a loopback listener its host is as good as a loopback name
	local := &caddyhttp.Server{Listen: []string{"127.0.0.1:8080"}}
	for host, ok := range map[string]bool{"public.example.com": true, "PUBLIC.example.com:443": true, "localhost:8080": true, "public.example.com:8080": false, "evil.example": false} {
		r := comingFrom("http://localhost:8080/mcp")
		r.Host = host
		if w := g.doOn(t, local, r); (g.calls == 1) != ok {
			t.Errorf("host %s: %d", host, w.Code)
		}
	}
}
