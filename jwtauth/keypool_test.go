package jwtauth

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/gateway/internal/app"
	"github.com/caddymcp/gateway/internal/mcptest"
)

// configuration is a loaded configuration with one handler, as Caddy has it
// between two reloads.
type configuration struct {
	*gate
	ctx caddy.Context
}

// load provisions a configuration, which fetches nothing yet. It is unloaded
// with the test.
func load(t *testing.T, issuers ...*Issuer) *configuration {
	t.Helper()
	c, err := tryLoad(t, issuers...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryLoad(t *testing.T, issuers ...*Issuer) (*configuration, error) {
	t.Helper()
	h := &Handler{Issuers: issuers}
	c := &configuration{&gate{Handler: h}, caddyContext(t)}
	t.Cleanup(func() { c.unload(t) })
	if err := h.Provision(c.ctx); err != nil {
		return c, err
	}
	h.verifier.now = atNoon
	return c, nil
}

// start is what Caddy does once a configuration is in use.
func (c *configuration) start(t *testing.T) *configuration {
	t.Helper()
	loaded, err := c.ctx.App(app.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.(*app.App).Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// unload is what Caddy does with a configuration that is replaced. Doing it
// twice does no harm.
func (c *configuration) unload(t *testing.T) {
	t.Helper()
	if err := c.Cleanup(); err != nil {
		t.Error(err)
	}
}

// from is an issuer whose keys are at path /keys of a server.
func from(s *keyServer, name string) *Issuer {
	return &Issuer{Issuer: name, JWKS: &JWKS{URL: s.URL + "/keys"}, Audiences: []string{audience}}
}

// pooled returns a function that counts the sources which have come into the
// pool since then; other tests leave theirs there.
func pooled() func() int {
	count := func() int {
		n := 0
		keyPool.Range(func(_, _ any) bool {
			n++
			return true
		})
		return n
	}
	before := count()
	return func() int { return count() - before }
}

// Checking a configuration needs no network, and leaves nothing behind.
func TestNothingIsFetchedBeforeTheStart(t *testing.T) {
	s := newKeyServer(t)
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	sources := pooled()
	for range 3 {
		c := load(t, from(s, issuerURL), &Issuer{Issuer: s.URL})
		if sources() != 2 {
			t.Errorf("%d sources", sources())
		}
		c.unload(t)
	}
	if sources() != 0 {
		t.Errorf("%d sources are left", sources())
	}
	s.wantAsked(t)

	c := load(t, from(s, issuerURL)).start(t)
	c.accepts(t, goodToken())
	c.refuses(t, foe().Token("alice", forUs), badSig)
	s.wantAsked(t, "/keys")
}

// A74: an issuer that is down is no reason not to load. Its tokens get 503,
// those of the others pass.
func TestA74_SiteLoadsWithoutItsIssuer(t *testing.T) {
	down, up := newKeyServer(t), newKeyServer(t)
	down.Close()
	up.on("/keys", says(mcptest.Set(ecOnce())))
	const other = "https://other.example.com"
	c := load(t, from(down, issuerURL), from(up, other)).start(t)
	c.unavailable(t, c.do(t, post(goodToken())))
	c.accepts(t, trustedEC().Token("alice", forUs, claims{"iss": other}))
	c.unavailable(t, c.do(t, post(goodToken())))

	// discovery that fails is no different
	c = load(t, &Issuer{Issuer: down.URL, Audiences: []string{audience}}).start(t)
	c.unavailable(t, c.do(t, post(trusted().Token("alice", forUs, claims{"iss": down.URL}))))
}

// The whole way: an issuer URL, discovery, keys, a token.
func TestDiscoveredIssuer(t *testing.T) {
	s := newKeyServer(t)
	issuer := s.URL + "/realms/acme"
	s.on("/.well-known/oauth-authorization-server/realms/acme", says(discovery(issuer, s.URL+"/keys")))
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	c := load(t, &Issuer{Issuer: issuer, Audiences: []string{audience}}).start(t)
	c.accepts(t, trusted().Token("alice", forUs, claims{"iss": issuer}))
	c.refuses(t, trusted().Token("alice", forUs, claims{"iss": issuer + "/"}), notIssuer)
	s.wantAsked(t, "/realms/acme/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/realms/acme", "/keys")
}

// The same with a certificate of a closed network.
func TestConfiguredCA(t *testing.T) {
	s := newTLSKeyServer(t)
	s.on("/.well-known/openid-configuration", says(discovery(s.URL, s.URL+"/keys")))
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write := func(pem []byte) {
		if err := os.WriteFile(ca, pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issuer := func() *Issuer {
		return &Issuer{Issuer: s.URL, JWKS: &JWKS{Discover: true, TLSCA: "{env.TEST_CA}"}, Audiences: []string{audience}}
	}
	token := trusted().Token("alice", forUs, claims{"iss": s.URL})
	t.Setenv("TEST_CA", ca)
	write(otherCA(t))
	wrong := load(t, issuer()).start(t)
	wrong.unavailable(t, wrong.do(t, post(token)))
	s.wantAsked(t)

	// a reload reads the file again, and notices that it has changed
	write(pemOf(s.Certificate()))
	right := load(t, issuer()).start(t)
	wrong.unload(t)
	right.accepts(t, token)

	for _, content := range []string{"", "no certificate"} {
		write([]byte(content))
		if _, err := tryLoad(t, issuer()); err == nil || !strings.Contains(err.Error(), "tls_ca") {
			t.Errorf("%q: %v", content, err)
		}
	}
	t.Setenv("TEST_CA", ca+".not")
	if _, err := tryLoad(t, issuer()); err == nil || !strings.Contains(err.Error(), "tls_ca") {
		t.Errorf("missing file: %v", err)
	}
	bad := issuer()
	bad.JWKS = &JWKS{Discover: true, Proxy: "proxy:3128"}
	if _, err := tryLoad(t, bad); err == nil || !strings.Contains(err.Error(), "proxy") {
		t.Errorf("bad proxy: %v", err)
	}
}

// A reload that leaves an issuer as it was fetches nothing anew; one that
// changes it does.
func TestReload(t *testing.T) {
	s := newKeyServer(t)
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	sources := pooled()
	current := load(t, from(s, issuerURL)).start(t)
	current.accepts(t, goodToken())
	for range 5 {
		next := load(t, from(s, issuerURL)).start(t)
		current.unload(t)
		current = next
		current.accepts(t, goodToken())
	}
	s.wantAsked(t, "/keys")
	if sources() != 1 {
		t.Errorf("%d sources", sources())
	}

	// a configuration that is only checked, or broken, takes no keys away
	load(t, from(s, issuerURL)).unload(t)
	if _, err := tryLoad(t, from(s, issuerURL), &Issuer{Issuer: "x", JWKS: &JWKS{File: "missing.json"}}); err == nil {
		t.Error("a broken configuration loads")
	} else {
		current.accepts(t, goodToken())
	}
	s.wantAsked(t)

	// what does not matter to the keys changes no source; what does, does
	for name, test := range map[string]struct {
		change  func(*Issuer)
		fetches int
	}{
		"audiences": {func(i *Issuer) { i.Audiences = append(i.Audiences, "more") }, 0},
		"leeway":    {func(i *Issuer) { i.Leeway = duration(t, "10s") }, 0},
		// no secret is ever fetched, so this changes nothing either
		"algorithms":  {func(i *Issuer) { i.Algorithms = []string{"RS256", "HS256"} }, 0},
		"max_stale":   {func(i *Issuer) { i.MaxStale = duration(t, "2h") }, 1},
		"missing kid": {func(i *Issuer) { i.AllowMissingKID = true }, 1},
		"url":         {func(i *Issuer) { i.JWKS.URL += "#other" }, 1},
		"proxy":       {func(i *Issuer) { i.JWKS.Proxy = s.URL }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s.on(s.URL+"/keys", says(mcptest.Set(rsaOnce()))) // as a proxy
			issuer := from(s, issuerURL)
			test.change(issuer)
			next := load(t, issuer).start(t)
			next.accepts(t, goodToken())
			s.mu.Lock()
			if len(s.asked) != test.fetches {
				t.Errorf("%d fetches, want %d", len(s.asked), test.fetches)
			}
			s.asked = nil
			s.mu.Unlock()
		})
	}
	t.Run("another issuer at the same place", func(t *testing.T) {
		next := load(t, from(s, "https://other.example.com")).start(t)
		next.accepts(t, trusted().Token("alice", forUs, claims{"iss": "https://other.example.com"}))
		s.wantAsked(t, "/keys")
	})
}

// Two handlers of one configuration share an issuer's keys.
func TestTwoHandlersShareKeys(t *testing.T) {
	s := newKeyServer(t)
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	sources := pooled()
	first := load(t, from(s, issuerURL))
	second := &Handler{Issuers: []*Issuer{from(s, issuerURL)}}
	if err := second.Provision(first.ctx); err != nil {
		t.Fatal(err)
	}
	first.start(t)
	first.accepts(t, goodToken())
	if second.verifier.issuers[issuerURL].source != first.verifier.issuers[issuerURL].source {
		t.Error("two sources")
	}
	s.wantAsked(t, "/keys")
	if err := second.Cleanup(); err != nil || sources() != 1 {
		t.Errorf("%v, %d sources", err, sources())
	}
	first.unload(t)
	if sources() != 0 {
		t.Errorf("%d sources are left", sources())
	}
}

// A handler that was never provisioned, or only half, gives back what it has.
func TestCleanup(t *testing.T) {
	if err := new(Handler).Cleanup(); err != nil {
		t.Error(err)
	}
	sources := pooled()
	s := newKeyServer(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(file, []byte(mcptest.Set(rsaOnce())), 0o600); err != nil {
		t.Fatal(err)
	}
	good := []*Issuer{from(s, "https://a.example.com"), {Issuer: "https://b.example.com"}, {Issuer: "c", JWKS: &JWKS{File: file}}}
	for name, bad := range map[string]*Issuer{
		"missing file":   {Issuer: "x", JWKS: &JWKS{File: filepath.Join(dir, "missing")}},
		"no usable key":  {Issuer: "x", JWKS: &JWKS{Inline: jsontext.Value(`{"keys":[]}`)}},
		"bad proxy":      {Issuer: "x", JWKS: &JWKS{URL: s.URL, Proxy: "x"}},
		"not even a URL": {Issuer: "x", JWKS: &JWKS{URL: "x"}},
	} {
		c, err := tryLoad(t, append(slices.Clone(good), bad)...)
		if err == nil {
			t.Errorf("%s: loads", name)
		}
		for range 2 {
			c.unload(t)
		}
		if sources() != 0 {
			t.Errorf("%s: %d sources are left", name, sources())
		}
	}
}

// A25: three issuers at once, two of which have the same kid for different
// keys. No key speaks for another issuer.
func TestA25_ThreeIssuersShareAKeyID(t *testing.T) {
	type idp struct {
		name string
		key  *mcptest.Key
	}
	idps := []idp{
		{"https://a.example.com", rsaOnce().As("RS256", "k")},
		{"https://b.example.com", foe().Key.As("RS256", "k")},
		{"https://c.example.com", ecOnce().As("ES256", "other")},
	}
	var issuers []*Issuer
	for _, idp := range idps {
		s := newKeyServer(t)
		s.on("/keys", says(mcptest.Set(idp.key)))
		issuers = append(issuers, from(s, idp.name))
	}
	c := load(t, issuers...).start(t)
	token := func(iss string, key *mcptest.Key) string {
		return (&mcptest.Issuer{Name: iss, Key: key, Now: atNoon}).Token("alice", forUs)
	}
	for range 2 { // the second time from the cache
		for _, idp := range idps {
			c.accepts(t, token(idp.name, idp.key))
			if c.identity == nil || c.identity.Issuer != idp.name {
				t.Errorf("%s: identity %+v", idp.name, c.identity)
			}
		}
		c.refuses(t, token(idps[0].name, idps[1].key), badSig)
		c.refuses(t, token(idps[1].name, idps[0].key), badSig)
		c.refuses(t, token("https://d.example.com", idps[0].key), notIssuer)
	}
	// the key of one is unknown to another. That would ask the issuer, once
	// the cooldown is over; a client that leaves need not wait for it
	r := post(token(idps[0].name, idps[2].key))
	ctx, leave := context.WithCancel(r.Context())
	leave()
	c.checkRefused(t, c.do(t, r.WithContext(ctx)), unknown("other"))
}

// A26: what one configuration has verified, another one verifies anew.
func TestA26_NoCacheAcrossConfigurations(t *testing.T) {
	s := newKeyServer(t)
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	loose := load(t, from(s, issuerURL)).start(t)
	other, name := from(s, issuerURL), from(s, "https://other.example.com")
	other.Audiences = []string{"https://other.example.com/mcp"}
	strict, stranger := load(t, other).start(t), load(t, name).start(t)
	for range 3 {
		loose.accepts(t, goodToken())
		strict.refuses(t, goodToken(), notAudience)
		stranger.refuses(t, goodToken(), notIssuer)
	}
	s.wantAsked(t, "/keys", "/keys") // other shares the source, but nothing else
}

// A file is watched from the start on, and its keys go with it.
func TestWatchedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(mcptest.Set(rsaOnce())), 0o600); err != nil {
		t.Fatal(err)
	}
	issuer := &Issuer{Issuer: issuerURL, JWKS: &JWKS{File: path}, Audiences: []string{audience}}
	c := load(t, issuer)
	c.accepts(t, goodToken()) // the keys are there before the start
	c.start(t)
	source := c.verifier.issuers[issuerURL].source.(*pooledKeys)
	c.unload(t)
	if err := source.runningSource.(*fileKeys).ctx.Err(); err == nil {
		t.Error("watched after it was given back")
	}
	c.accepts(t, goodToken()) // requests that are still running
}

// Failures that go on are logged once a minute, and their end is.
func TestLogOfFailures(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	p := &pooledKeys{issuer: issuerURL, logger: func() *zap.Logger { return zap.New(core) }}
	synctest.Test(t, func(t *testing.T) {
		for range 180 {
			p.observe(nil, errDown)
			time.Sleep(time.Second)
		}
		p.observe(kidSet("a"), nil)
		p.observe(kidSet("a", "b"), nil)
		p.observeFile(kidSet("a"), []error{errDown, errDown}, nil)
		fetched := time.Now()
		time.Sleep(time.Second)
		p.observe(nil, errDown)
		if counted := p.counts(); counted.succeeded != 3 || counted.failed != 181 || counted.keys != 1 || !counted.fetched.Equal(fetched) {
			t.Errorf("counted %+v", counted)
		}
	})
	var got []string
	for _, entry := range logs.TakeAll() {
		got = append(got, entry.Level.String()+" "+entry.Message)
		if entry.ContextMap()["issuer"] != issuerURL {
			t.Errorf("%s: fields %v", entry.Message, entry.ContextMap())
		}
	}
	const failed = "error the issuer's keys could not be refreshed; those there are stay in use for now"
	want := []string{failed, failed, failed, "info the issuer's keys are available again", "warn key skipped", "warn key skipped", failed}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}
