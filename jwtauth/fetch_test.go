package jwtauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// keyServer is an issuer on loopback: what it answers by path, and which
// paths it was asked for.
type keyServer struct {
	*httptest.Server

	mu      sync.Mutex
	answers map[string]http.HandlerFunc
	asked   []string
}

// newKeyServer starts a server; it knows no path yet.
func newKeyServer(t testing.TB) *keyServer { return startKeyServer(t, (*httptest.Server).Start) }

// newTLSKeyServer is newKeyServer with a certificate no system trusts.
func newTLSKeyServer(t testing.TB) *keyServer { return startKeyServer(t, (*httptest.Server).StartTLS) }

func startKeyServer(t testing.TB, start func(*httptest.Server)) *keyServer {
	t.Helper()
	s := &keyServer{answers: make(map[string]http.HandlerFunc)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.RequestURI)
		answer := s.answers[r.RequestURI]
		s.mu.Unlock()
		if answer == nil {
			http.NotFound(w, r)
			return
		}
		answer(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail, as they should
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

// on sets the answer to a path.
func (s *keyServer) on(path string, answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = answer
}

// says answers with a document.
func says(doc string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, doc)
	}
}

// wantAsked compares the paths that were asked for since the last time.
func (s *keyServer) wantAsked(t *testing.T, paths ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.asked, paths) {
		t.Errorf("asked for %q, want %q", s.asked, paths)
	}
	s.asked = nil
}

// fetcher returns a fetcher for the server's path /keys.
func (s *keyServer) fetcher(t testing.TB, options httpOptions) *httpFetcher {
	t.Helper()
	client, err := newHTTPClient(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return &httpFetcher{client: client, address: s.URL + "/keys"}
}

// discoverer returns a fetcher that begins with the name of an issuer.
func (s *keyServer) discoverer(t testing.TB, issuer string) *httpFetcher {
	t.Helper()
	f := s.fetcher(t, httpOptions{})
	f.client.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	f.issuer, f.address = issuer, ""
	return f
}

// fetches wants a set with exactly these kids.
func fetches(t *testing.T, f *httpFetcher, kids ...string) *keySet {
	t.Helper()
	fetched, err := f.fetch(t.Context(), nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	if got := fetched.set.kids(); !slices.Equal(got, kids) {
		t.Errorf("keys %q, want %q", got, kids)
	}
	return fetched.set
}

// fails wants an error with this text.
func fails(t *testing.T, f *httpFetcher, want string) {
	t.Helper()
	if fetched, err := f.fetch(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) || fetched.set != nil {
		t.Errorf("%v, set %v, want an error with %q", err, fetched.set, want)
	}
}

// kids returns the sorted kids of a set.
func (s *keySet) kids() []string {
	kids := make([]string, 0, len(s.all))
	for _, k := range s.all {
		kids = append(kids, k.kid)
	}
	slices.Sort(kids)
	return kids
}

func TestFetch(t *testing.T) {
	s := newKeyServer(t)
	var header http.Header
	s.on("/keys", func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		w.Header().Set("Cache-Control", "max-age=120")
		says(mcptest.Set(rsaOnce(), ecOnce()))(w, r)
	})
	f := s.fetcher(t, httpOptions{})
	set := fetches(t, f, "ec", "rsa")
	if header.Get("Accept") == "" || header.Get("User-Agent") != "caddy-mcp-gateway" || header.Get("Authorization") != "" {
		t.Errorf("sent %v", header)
	}
	// the same document is the same set: what was verified stays verified
	again, err := f.fetch(t.Context(), set)
	if err != nil || again.set != set || again.freshFor != 2*time.Minute {
		t.Errorf("%v, another set for the same document: %v, fresh for %s", err, again.set != set, again.freshFor)
	}
	// a document that cannot be used does not count as the last one
	s.on("/keys", says(`{"keys":[]}`))
	if _, err := f.fetch(t.Context(), set); err == nil {
		t.Error("an empty set is a set")
	}
	s.on("/keys", says(mcptest.Set(rsaOnce(), ecOnce())))
	if again, err := f.fetch(t.Context(), set); err != nil || again.set != set {
		t.Errorf("%v, another set for the same document: %v", err, again.set != set)
	}
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	other, err := f.fetch(t.Context(), set)
	if err != nil || other.set == set || !slices.Equal(other.set.kids(), []string{"rsa"}) {
		t.Errorf("%v, keys %v", err, other.set)
	}
	// keys that are left out are told of once for each document
	var warnings []string
	f.warn = func(reason error) { warnings = append(warnings, reason.Error()) }
	s.on("/keys", says(mcptest.Set(rsaOnce(), jwkOf(ecOnce(), claims{"use": "enc"}))))
	for range 3 {
		if next, err := f.fetch(t.Context(), other.set); err != nil {
			t.Error(err)
		} else {
			other = next
		}
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], `key 2 (kid "ec")`) {
		t.Errorf("warnings %q", warnings)
	}
}

func TestFetchStatus(t *testing.T) {
	s := newKeyServer(t)
	f := s.fetcher(t, httpOptions{})
	for _, status := range []int{201, 203, 204, 206, 300, 304, 400, 401, 403, 404, 429, 500, 503} {
		s.on("/keys", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			if status >= 200 && status != 204 && status != 304 {
				_, _ = io.WriteString(w, mcptest.Set(rsaOnce()))
			}
		})
		fails(t, f, fmt.Sprint("status ", status))
	}
	s.Close()
	fails(t, f, "refused")
}

func TestFreshness(t *testing.T) {
	for _, test := range []struct {
		cacheControl, age string
		want              time.Duration
	}{
		{"", "", 15 * time.Minute},
		{"max-age=600", "", 10 * time.Minute},
		{"max-age=600", "60", 9 * time.Minute},
		{"public, max-age=600, must-revalidate", "0", 10 * time.Minute},
		{"PUBLIC,Max-Age=600", "", 10 * time.Minute},
		{`max-age="600"`, "", 10 * time.Minute},
		{"s-maxage=7200", "", 15 * time.Minute}, // we are no shared cache
		{"max-age=600, s-maxage=7200", "", 10 * time.Minute},
		{"s-maxage=7200, max-age=600", "", 10 * time.Minute},
		{"no-store", "", time.Minute},
		{"no-cache", "", time.Minute},
		{"No-Store, max-age=600", "", time.Minute},
		{"max-age=600, no-cache", "", time.Minute},
		{"private", "", 15 * time.Minute},
		// bounds
		{"max-age=0", "", time.Minute},
		{"max-age=59", "", time.Minute},
		{"max-age=61", "", 61 * time.Second},
		{"max-age=86400", "", 24 * time.Hour},
		{"max-age=86401", "", 24 * time.Hour},
		{"max-age=2147483647", "", 24 * time.Hour},
		{"max-age=600", "601", time.Minute},
		{"max-age=600", "2147483647", time.Minute},
		// garbage
		{"max-age=-1", "", time.Minute},
		{"max-age=9223372036854775808", "", 15 * time.Minute},
		{"max-age=2147483648", "", 15 * time.Minute},
		{"max-age=", "", 15 * time.Minute},
		{"max-age", "", 15 * time.Minute},
		{"max-age=1e3", "", 15 * time.Minute},
		{"max-age=ten", "", 15 * time.Minute},
		{"max-age=600", "old", 10 * time.Minute},
		{"max-age=600", "-60", 10 * time.Minute},
		{"max-age=600", "9223372036854775808", 10 * time.Minute},
		{",;=,,max-age=600,\x00", "", 10 * time.Minute},
		{"=max-age, max-age=600", "", 10 * time.Minute},
	} {
		header := http.Header{}
		if test.cacheControl != "" {
			header.Set("Cache-Control", test.cacheControl)
		}
		if test.age != "" {
			header.Set("Age", test.age)
		}
		if got := freshness(header); got != test.want {
			t.Errorf("Cache-Control %q, Age %q: fresh for %s, want %s", test.cacheControl, test.age, got, test.want)
		}
	}
	two := http.Header{"Cache-Control": {"max-age=600", "no-store"}}
	if got := freshness(two); got != minFreshness {
		t.Errorf("two headers: %s", got)
	}
}

// pemOf writes a certificate as tls_ca wants it.
func pemOf(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

// otherCA makes a certificate that has signed nothing.
func otherCA(t *testing.T) []byte {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTLS(t *testing.T) {
	s := newTLSKeyServer(t)
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	own := pemOf(s.Certificate())

	fetches(t, s.fetcher(t, httpOptions{ca: own}), "rsa")
	fetches(t, s.fetcher(t, httpOptions{ca: slices.Concat(otherCA(t), own)}), "rsa")
	s.wantAsked(t, "/keys", "/keys")

	// whom the system does not trust, and whom tls_ca does not name
	fails(t, s.fetcher(t, httpOptions{}), "x509: ")
	fails(t, s.fetcher(t, httpOptions{ca: otherCA(t)}), "x509: ")
	// a good certificate of somebody else
	elsewhere := s.fetcher(t, httpOptions{ca: own})
	elsewhere.address = "https://keys.example.net/keys"
	s.dials(elsewhere)
	fails(t, elsewhere, "x509: ")
	s.wantAsked(t)

	for name, text := range map[string]string{
		"nothing": "", "no PEM": "hello", "a key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		if _, err := newHTTPClient(httpOptions{ca: []byte(text)}); err == nil || !strings.Contains(err.Error(), "tls_ca") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// dials sends every connection of a fetcher to the server, and returns the
// addresses that were asked for.
func (s *keyServer) dials(f *httpFetcher) *[]string {
	asked := new([]string)
	f.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		*asked = append(*asked, address)
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
	return asked
}

func TestProxy(t *testing.T) {
	plain, secure := newKeyServer(t), newTLSKeyServer(t)
	plain.on("http://keys.example.com/keys", says(mcptest.Set(rsaOnce()))) // what a proxy is asked for
	secure.on("/keys", says(mcptest.Set(ecOnce())))

	f := plain.fetcher(t, httpOptions{proxy: plain.URL})
	f.address = "http://keys.example.com/keys"
	fetches(t, f, "rsa")
	plain.wantAsked(t, "http://keys.example.com/keys")

	// https goes through a tunnel, and is checked as ever
	var tunnels []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnels = append(tunnels, r.Method+" "+r.Host)
		upstream, err := net.Dial("tcp", secure.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(upstream, conn); upstream.Close() }()
		go func() { _, _ = io.Copy(conn, upstream); conn.Close() }()
	}))
	defer proxy.Close()
	f = secure.fetcher(t, httpOptions{proxy: proxy.URL, ca: pemOf(secure.Certificate())})
	f.address = "https://example.com/keys" // a name of the test certificate
	fetches(t, f, "ec")
	if !slices.Equal(tunnels, []string{"CONNECT example.com:443"}) {
		t.Errorf("the proxy was asked for %q", tunnels)
	}
	f = secure.fetcher(t, httpOptions{proxy: proxy.URL})
	f.address = "https://example.com/keys"
	fails(t, f, "x509: ")

	for _, text := range []string{"127.0.0.1:3128", "proxy", "/proxy", "http://", "ftp://proxy", "http://user:hunter2@pro xy", "://"} {
		if _, err := newHTTPClient(httpOptions{proxy: text}); err == nil || !strings.Contains(err.Error(), "proxy") ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"http://proxy:3128", "https://user:pass@proxy", "socks5://proxy:1080", "socks5h://[::1]:1080"} {
		if _, err := newHTTPClient(httpOptions{proxy: text}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	// the environment has no say in where keys come from
	client, err := newHTTPClient(httpOptions{})
	if err != nil || client.Transport.(*http.Transport).Proxy != nil {
		t.Errorf("%v, a proxy nobody configured", err)
	}
}

// discovery is a discovery document with changes; nil removes a member.
func discovery(issuer, keys string, changes ...claims) string {
	doc := claims{"issuer": issuer, "jwks_uri": keys, "authorization_endpoint": issuer + "/auth", "response_types_supported": []string{"code"}}
	for _, change := range changes {
		for name, value := range change {
			doc[name] = value
			if value == nil {
				delete(doc, name)
			}
		}
	}
	return mcptest.JSON(doc)
}

func TestDiscovery(t *testing.T) {
	const openID, oauth = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
	for name, test := range map[string]struct {
		path  string // of the issuer
		at    string // where its document is
		asked []string
	}{
		"OpenID Connect":             {"", openID, []string{openID, "/keys"}},
		"OpenID Connect, with path":  {"/realms/acme", "/realms/acme" + openID, []string{"/realms/acme" + openID, "/keys"}},
		"OpenID Connect, with slash": {"/", openID, []string{openID, "/keys"}},
		"OpenID Connect, path/":      {"/acme/", "/acme" + openID, []string{"/acme" + openID, "/keys"}},
		"OpenID Connect, escapes":    {"/a%2Fb", "/a%2Fb" + openID, []string{"/a%2Fb" + openID, "/keys"}},
		"RFC 8414":                   {"", oauth, []string{openID, oauth, "/keys"}},
		"RFC 8414, with path":        {"/realms/acme", oauth + "/realms/acme", []string{"/realms/acme" + openID, oauth + "/realms/acme", "/keys"}},
		"RFC 8414, path/":            {"/acme/", oauth + "/acme", []string{"/acme" + openID, oauth + "/acme", "/keys"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newKeyServer(t)
			issuer := s.URL + test.path
			s.on(test.at, says(discovery(issuer, s.URL+"/keys")))
			s.on("/keys", says(mcptest.Set(rsaOnce())))
			f := s.discoverer(t, issuer)
			fetches(t, f, "rsa")
			s.wantAsked(t, test.asked...)
			// the address is remembered
			fetches(t, f, "rsa")
			s.wantAsked(t, "/keys")
			// for a day
			f.discovered = f.discovered.Add(-rediscoverAfter)
			fetches(t, f, "rsa")
			s.wantAsked(t, test.asked...)
		})
	}
}

// An issuer that moves its keys is found again by the next fetch.
func TestDiscoveryAfterFailure(t *testing.T) {
	s := newKeyServer(t)
	const at = "/.well-known/openid-configuration"
	s.on(at, says(discovery(s.URL, s.URL+"/old")))
	s.on("/old", says(mcptest.Set(rsaOnce())))
	f := s.discoverer(t, s.URL)
	fetches(t, f, "rsa")
	s.on("/old", nil)
	s.on("/new", says(mcptest.Set(ecOnce())))
	s.on(at, says(discovery(s.URL, s.URL+"/new")))
	fails(t, f, "404")
	fetches(t, f, "ec")
	s.wantAsked(t, at, "/old", "/old", at, "/new")

	// where the configuration names the address, nothing is discovered
	direct := s.fetcher(t, httpOptions{})
	fails(t, direct, "404")
	fails(t, direct, "404")
	s.wantAsked(t, "/keys", "/keys")
}

// A90: a document is the issuer's own, or it counts for nothing.
func TestA90_DiscoveryOfAnotherIssuer(t *testing.T) {
	s := newKeyServer(t)
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	issuer := s.URL + "/acme"
	both := func(answer http.HandlerFunc) {
		s.on("/acme/.well-known/openid-configuration", answer)
		s.on("/.well-known/oauth-authorization-server/acme", answer)
	}
	keys := s.URL + "/keys"
	twice := strings.TrimSuffix(discovery(issuer, keys), "}")
	for name, test := range map[string]struct{ doc, want string }{
		"slash":             {discovery(issuer+"/", keys), "is for issuer"},
		"prefix":            {discovery(s.URL, keys), "is for issuer"},
		"longer":            {discovery(issuer+"2", keys), "is for issuer"},
		"case":              {discovery(strings.ToUpper(issuer), keys), "is for issuer"},
		"default port":      {discovery("http://127.0.0.1/acme", keys), "is for issuer"},
		"another":           {discovery("https://evil.example", keys), "is for issuer"},
		"blank":             {discovery(issuer+" ", keys), "is for issuer"},
		"none":              {discovery(issuer, keys, claims{"issuer": nil}), "is for issuer"},
		"null":              {strings.Replace(discovery(issuer, keys), mcptest.JSON(issuer)+",", "null,", 1), "is for issuer"},
		"a number":          {discovery(issuer, keys, claims{"issuer": 1}), "is for issuer"},
		"a list":            {discovery(issuer, keys, claims{"issuer": []string{issuer}}), "is for issuer"},
		"twin in capitals":  {discovery("x", keys, claims{"Issuer": issuer}), "is for issuer"},
		"twice":             {twice + `,"issuer":"https://evil.example"}`, "duplicate"},
		"keys twice":        {twice + `,"jwks_uri":"https://evil.example/"}`, "duplicate"},
		"no keys":           {discovery(issuer, keys, claims{"jwks_uri": nil}), "not the URL of a key set"},
		"keys are a number": {discovery(issuer, keys, claims{"jwks_uri": 1}), "not the URL of a key set"},
		"keys are relative": {discovery(issuer, "/keys"), "not the URL of a key set"},
		"keys on no host":   {discovery(issuer, "file:///etc/keys.json"), "not the URL of a key set"},
		"keys inline":       {discovery(issuer, "data:application/json,{}"), "not the URL of a key set"},
		"keys of a user":    {discovery(issuer, "https://a:b@keys.example.com/"), "not the URL of a key set"},
		"keys by ftp":       {discovery(issuer, "ftp://keys.example.com/"), "not https"},
		"garbage behind":    {discovery(issuer, keys) + "x", "data after"},
		"no JSON":           {"<html>", "JSON"},
		"empty":             {"", "JSON"},
		"a list of itself":  {"[" + discovery(issuer, keys) + "]", "not an object"},
		"too large":         {strings.Repeat(" ", maxKeySetSize) + discovery(issuer, keys), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			s.wantAsked(t)
			both(says(test.doc))
			fails(t, s.discoverer(t, issuer), test.want)
			s.wantAsked(t, "/acme/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/acme")
		})
	}
	t.Run("redirect", func(t *testing.T) {
		s.on("/elsewhere", says(discovery(issuer, keys)))
		both(http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP)
		fails(t, s.discoverer(t, issuer), "status 302")
		s.wantAsked(t, "/acme/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/acme")
	})
	t.Run("HTML", func(t *testing.T) {
		both(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, discovery(issuer, keys))
		})
		fails(t, s.discoverer(t, issuer), "HTML")
		s.wantAsked(t, "/acme/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/acme")
	})
	t.Run("one of two", func(t *testing.T) {
		s.on("/acme/.well-known/openid-configuration", says(discovery(issuer+"/", s.URL+"/evil")))
		s.on("/.well-known/oauth-authorization-server/acme", says(discovery(issuer, keys)))
		fetches(t, s.discoverer(t, issuer), "rsa")
		s.wantAsked(t, "/acme/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/acme", "/keys")
	})
}

// A90: an issuer on https cannot send us to http; one on http may do both.
func TestA90_KeysOverPlainHTTP(t *testing.T) {
	const at = "/.well-known/openid-configuration"
	plain, secure := newKeyServer(t), newTLSKeyServer(t)
	plain.on("/keys", says(mcptest.Set(foe().Key)))
	secure.on("/keys", says(mcptest.Set(ecOnce())))

	secure.on(at, says(discovery(secure.URL, plain.URL+"/keys")))
	fails(t, secure.discoverer(t, secure.URL), "is not https")
	plain.wantAsked(t)
	secure.on(at, says(discovery(secure.URL, "HTTP://"+strings.TrimPrefix(plain.URL, "http://")+"/keys")))
	fails(t, secure.discoverer(t, secure.URL), "is not https")
	plain.wantAsked(t)

	plain.on(at, says(discovery(plain.URL, secure.URL+"/keys")))
	f := secure.discoverer(t, plain.URL)
	fetches(t, f, "ec")
	plain.on(at, says(discovery(plain.URL, plain.URL+"/keys")))
	fetches(t, secure.discoverer(t, plain.URL), "rsa")
}

func TestKeysURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://keys.example.com":            "",
		"https://keys.example.com:8443/a?b=c": "",
		"HTTPS://keys.example.com":            "",
		"https://[::1]/keys":                  "",
		"https://10.0.0.1/keys":               "", // closed networks have issuers, too
		"http://keys.example.com":             "http",
		"":                                    "no",
		"keys.example.com":                    "no",
		"//keys.example.com":                  "no",
		"https:///keys":                       "no",
		"https:keys":                          "no",
		"https://a@keys.example.com":          "no",
		"https://keys.example.com:x/":         "no",
		"https://keys exa.mple":               "no",
		"ftp://keys.example.com":              "no",
		"file://localhost/keys":               "no",
		"unix:///run/keys":                    "no",
		"javascript://keys.example.com":       "no",
	} {
		strict, lax := checkKeysURL(text, false), checkKeysURL(text, true)
		if (strict == nil) != (want == "") || (lax == nil) != (want != "no") {
			t.Errorf("%q: %v, where http is allowed: %v", text, strict, lax)
		}
	}
}
