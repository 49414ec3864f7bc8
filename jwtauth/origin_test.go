package jwtauth

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// foreign wants a 403 for the page that made the request.
func (g *gate) foreign(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusForbidden || w.Body.String() != "origin not allowed" || g.calls != 0 {
		t.Errorf("%d %q, upstream called %d times", w.Code, w.Body, g.calls)
	}
	if w.Header().Get("WWW-Authenticate") != "" || w.Header().Get("X-Content-Type-Options") != "nosniff" ||
		w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("headers %v", w.Header())
	}
}

// comingFrom is a good request to a URL from pages with these origins.
func comingFrom(url string, origins ...string) *http.Request {
	r := post(goodToken())
	at := httptest.NewRequest(http.MethodPost, url, nil)
	r.URL, r.Host, r.TLS = at.URL, at.Host, at.TLS
	if len(origins) > 0 {
		r.Header["Origin"] = origins
	}
	return r
}

func TestOrigin(t *testing.T) {
	const https, http, odd = "https://mcp.example.com/mcp", "http://mcp.example.com/mcp", "https://mcp.example.com:8443/mcp"
	for _, test := range []struct {
		name, url string
		origins   []string
		ok        bool
	}{
		{"absent", https, nil, true},
		{"same", https, []string{"https://mcp.example.com"}, true},
		{"same with the default port", https, []string{"https://mcp.example.com:443"}, true},
		{"same in capitals", https, []string{"HTTPS://MCP.example.com"}, true},
		{"same, plain http", http, []string{"http://mcp.example.com"}, true},
		{"same, plain http with port", http, []string{"http://mcp.example.com:80"}, true},
		{"same, odd port", odd, []string{"https://mcp.example.com:8443"}, true},
		{"same, IPv6", "http://[::1]:8080/mcp", []string{"http://[::1]:8080"}, true},
		{"same, IPv6 without port", "http://[::1]/mcp", []string{"http://[::1]"}, true},
		{"other host", https, []string{"https://evil.example"}, false},
		{"other scheme", https, []string{"http://mcp.example.com"}, false},
		{"other scheme on plain http", http, []string{"https://mcp.example.com"}, false},
		{"other port", https, []string{"https://mcp.example.com:8443"}, false},
		{"no port", odd, []string{"https://mcp.example.com"}, false},
		{"port of the other scheme", https, []string{"https://mcp.example.com:80"}, false},
		{"subdomain", https, []string{"https://a.mcp.example.com"}, false},
		{"parent domain", https, []string{"https://example.com"}, false},
		{"prefix", https, []string{"https://mcp.example.com.evil.example"}, false},
		{"suffix", https, []string{"https://evilmcp.example.com"}, false},
		{"user before", https, []string{"https://mcp.example.com@evil.example"}, false},
		{"trailing dot", https, []string{"https://mcp.example.com."}, false},
		{"null", https, []string{"null"}, false},
		{"empty", https, []string{""}, false},
		{"star", https, []string{"*"}, false},
		{"no scheme", https, []string{"mcp.example.com"}, false},
		{"no scheme, slashes", https, []string{"//mcp.example.com"}, false},
		{"file", https, []string{"file://"}, false},
		{"extension", https, []string{"chrome-extension://mcp.example.com"}, false},
		{"list", https, []string{"https://mcp.example.com https://evil.example"}, false},
		{"twice", https, []string{"https://mcp.example.com", "https://mcp.example.com"}, false},
		{"two", https, []string{"https://mcp.example.com", "https://evil.example"}, false},
		{"line break", https, []string{"https://mcp.example.com\r\n"}, false},
		{"bad escape", https, []string{"https://mcp.example.com%zz"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGate(t)
			w := g.do(t, comingFrom(test.url, test.origins...))
			if !test.ok {
				g.foreign(t, w)
			} else if g.calls != 1 {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		})
	}
}

// The origin comes first, before the token is looked at, and in every mode.
func TestOriginComesFirst(t *testing.T) {
	for _, mode := range []string{ModeStrict, ModeOptional, ModePermissive} {
		g := newGate(t, func(h *Handler) { h.Mode = mode })
		for _, token := range []string{"", "x", goodToken()} {
			r := post(token)
			r.Header.Set("Origin", "https://evil.example")
			g.foreign(t, g.do(t, r))
		}
	}
}

func TestOriginBehindTrustedProxy(t *testing.T) {
	for _, test := range []struct {
		name, proto, origin string
		tls, ok             bool
	}{
		{"https outside, http inside", "https", "https://mcp.example.com", false, true},
		{"http outside", "http", "http://mcp.example.com", false, true},
		{"http page of an https site", "https", "http://mcp.example.com", false, false},
		{"https inside, http outside", "http", "http://mcp.example.com", true, true},
		{"proxy says nothing", "", "http://mcp.example.com", false, true},
		{"proxy says nothing, https page", "", "https://mcp.example.com", false, false},
		{"proxy says nonsense", "gopher", "gopher://mcp.example.com", false, false},
		{"other host", "https", "https://evil.example", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGate(t)
			r := comingFrom("http://mcp.example.com/mcp", test.origin)
			if test.tls {
				r.TLS = new(tls.ConnectionState)
			}
			if test.proto != "" {
				r.Header.Set("X-Forwarded-Proto", test.proto)
			}
			r.Header.Set("X-Forwarded-Host", "evil.example")
			w := g.throughProxy(t, &caddyhttp.Server{}, r)
			if !test.ok {
				g.foreign(t, w)
			} else if g.calls != 1 {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		})
	}
}

// throughProxy is doOn for a peer that trusted_proxies hold.
func (g *gate) throughProxy(t *testing.T, server *caddyhttp.Server, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	g.calls = 0
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
	if err := g.ServeHTTP(w, r, caddyhttp.HandlerFunc(g.upstream)); err != nil {
		t.Fatal(err)
	}
	return w
}

// DNS rebinding: a page gives its own name the address 127.0.0.1, and so
// becomes the same origin as whatever listens there. Only Host tells.
func TestDNSRebinding(t *testing.T) {
	loopback := [][]string{{"127.0.0.1:8080"}, {"localhost:8080"}, {"[::1]:8080"}, {"tcp/127.0.0.1:8080", "tcp6/[::1]:8080"}, {"127.1.2.3:80"}}
	public := [][]string{{":8080"}, {"0.0.0.0:8080"}, {"192.0.2.1:8080"}, {"127.0.0.1:8080", "192.0.2.1:8080"}, {"unix//run/caddy.sock"}, nil}
	local := []string{"localhost", "localhost:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]", "LOCALHOST:8080", "app.localhost", "localhost."}
	foreign := []string{
		"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evillocalhost", "192.0.2.1", "0.0.0.0", "",
		"[::ffff:192.0.2.1]", "2130706433", "127.1",
	}
	g := newGate(t)
	try := func(listen []string, host string, origins ...string) *httptest.ResponseRecorder {
		r := comingFrom("http://localhost:8080/mcp", origins...)
		r.Host = host
		return g.doOn(t, &caddyhttp.Server{Listen: listen}, r)
	}
	for _, listen := range loopback {
		for _, host := range local {
			if w := try(listen, host); g.calls != 1 {
				t.Errorf("listening on %v, host %q: %d", listen, host, w.Code)
			}
		}
		for _, host := range foreign {
			g.foreign(t, try(listen, host))
			g.foreign(t, try(listen, host, "http://"+host)) // same origin, that is the point
		}
	}
	for _, listen := range public {
		for _, host := range []string{"mcp.example.com", "localhost:8080"} {
			if w := try(listen, host); g.calls != 1 {
				t.Errorf("listening on %v, host %q: %d", listen, host, w.Code)
			}
		}
	}
	// a proxy in front, on the same machine, names the site
	r := comingFrom("http://mcp.example.com/mcp")
	if w := g.throughProxy(t, &caddyhttp.Server{Listen: loopback[0]}, r); g.calls != 1 {
		t.Errorf("behind a trusted proxy: %d", w.Code)
	}
}

// A cookie goes along with requests of every page, so a request that carries
// its token there has to say which page it comes from.
func TestCookieNeedsOrigin(t *testing.T) {
	for _, mode := range []string{ModeStrict, ModeOptional, ModePermissive} {
		g := newGate(t, func(h *Handler) { h.Mode, h.TokenFrom = mode, []*TokenSource{{Source: "cookie", Name: "token"}} })
		at := func(token string, origins ...string) *http.Request {
			r := comingFrom(siteURL, origins...)
			r.Header.Del("Authorization")
			r.Header.Set("Cookie", "token="+token)
			return r
		}
		if g.do(t, at(goodToken(), "https://mcp.example.com")); g.calls != 1 || g.identity.Subject != "alice" {
			t.Errorf("%s: a cookie of the site's own page is refused", mode)
		}
		for _, token := range []string{goodToken(), "x"} {
			g.foreign(t, g.do(t, at(token)))
			g.foreign(t, g.do(t, at(token, "https://evil.example")))
			g.foreign(t, g.do(t, at(token, "null")))
			g.foreign(t, g.do(t, at(token, "")))
		}
	}
}
