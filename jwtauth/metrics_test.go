package jwtauth

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// samples reads a registry: the metrics whose names begin with this, by name
// and labels. Names lose the prefix caddy_mcp_.
func samples(t *testing.T, registry prometheus.Gatherer, prefix string) map[string]float64 {
	t.Helper()
	values := mcptest.Samples(t, registry)
	maps.DeleteFunc(values, func(name string, _ float64) bool { return !strings.HasPrefix(name, prefix) })
	return values
}

// wantSamples compares all metrics with a prefix.
func wantSamples(t *testing.T, registry prometheus.Gatherer, prefix string, want map[string]float64) {
	t.Helper()
	got := samples(t, registry, prefix)
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if value, ok := want[name]; !ok || value != got[name] {
			t.Errorf("%s %v, want %v", name, got[name], value)
		}
	}
	for name, value := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing, want %v", name, value)
		}
	}
}

// Each way in which a request can end has a label of its own.
func TestResults(t *testing.T) {
	off := 0
	g := newGate(t, func(h *Handler) {
		h.TokenCache = &off
		h.TokenFrom = []*TokenSource{{Source: "header", Name: "Authorization"}, {Source: "header", Name: "X-Token"}}
		h.Issuers[0].RequiredClaims = []string{"sub"}
		h.Issuers = append(h.Issuers, &Issuer{Issuer: "https://down.example.com", JWKS: inline(rsaOnce())})
	})
	registry := prometheus.NewPedanticRegistry()
	counters, err := newMetrics(registry, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.verifier.metrics = counters
	down := newRemoteKeys(newFakeServer(), 0, nil)
	down.close()
	g.verifier.issuers["https://down.example.com"].source = down

	for _, token := range []string{
		"", goodToken(), goodToken(), "abc", trusted().Token("alice", claims{"iss": "https://x.example.com"}),
		rsaOnce().Sign(`{"alg":"RS256"}`, goodPayload()), foreign(`"kid":"ghost"`, ""), foe().Token("alice", forUs),
		trusted().Token("alice", forUs, claims{"exp": noon - 100}), trusted().Token("alice", forUs, claims{"nbf": noon + 100}),
		trusted().Token("alice", claims{"aud": "x"}), rsaOnce().Sign(`{"alg":"none","kid":"rsa"}`, goodPayload()),
		ecOnce().Sign(`{"alg":"ES256","kid":"rsa"}`, goodPayload()), typed(`"dpop+jwt"`), trusted().Token("alice", forUs, claims{"sub": nil}),
		trusted().Token("alice", claims{"aud": 5}), trusted().Token("alice", claims{"iss": 5}),
		trusted().Token("alice", forUs, claims{"iss": "https://down.example.com"}),
	} {
		g.do(t, post(token))
	}
	two := post(goodToken())
	two.Header.Set("X-Token", goodToken())
	g.do(t, two)
	// an origin that is not allowed is no question of tokens
	g.do(t, comingFrom(siteURL, "https://evil.example"))

	request := func(issuer, result string) string {
		return "jwt_requests_total{issuer=" + issuer + ",result=" + result + "}"
	}
	wantSamples(t, registry, "jwt_", map[string]float64{
		"jwt_cache_total{result=hit}":                           0,
		"jwt_cache_total{result=miss}":                          0,
		request(issuerURL, "ok"):                                2,
		request("", "no_credential"):                            1,
		request("", "several_credentials"):                      1,
		request("", "malformed"):                                1,
		request("", "unknown_issuer"):                           1,
		request("", "wrong_algorithm"):                          1,
		request("", "wrong_claim"):                              1, // iss is no text
		request(issuerURL, "no_key_id"):                         1,
		request(issuerURL, "unknown_key"):                       1,
		request(issuerURL, "bad_signature"):                     1,
		request(issuerURL, "expired"):                           1,
		request(issuerURL, "not_yet_valid"):                     1,
		request(issuerURL, "wrong_audience"):                    1,
		request(issuerURL, "wrong_algorithm"):                   1,
		request(issuerURL, "wrong_type"):                        1,
		request(issuerURL, "wrong_claim"):                       2, // sub is missing, aud is a number
		request("https://down.example.com", "keys_unavailable"): 1,
	})
}

// The cache counts look-ups, a hit for each token that is not verified again.
func TestCacheMetrics(t *testing.T) {
	g := newGate(t)
	registry := prometheus.NewPedanticRegistry()
	counters, err := newMetrics(registry, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.verifier.metrics = counters
	source := g.counted()
	for range 20 {
		g.accepts(t, goodToken())
	}
	for range 3 {
		g.do(t, post(foe().Token("alice", forUs)))
	}
	want := map[string]float64{"jwt_cache_total{result=hit}": 19, "jwt_cache_total{result=miss}": 4}
	wantSamples(t, registry, "jwt_cache", want)
	source.replaced.Store(true)
	g.accepts(t, goodToken())
	want["jwt_cache_total{result=miss}"]++
	wantSamples(t, registry, "jwt_cache", want)
	// hits are requests, too
	if got := samples(t, registry, "jwt_requests")["jwt_requests_total{issuer="+issuerURL+",result=ok}"]; got != 21 {
		t.Errorf("%v requests", got)
	}
	// without a cache there is nothing to count
	g.verifier.cache = nil
	g.accepts(t, goodToken())
	wantSamples(t, registry, "jwt_cache", want)
}

// Nothing that clients choose becomes a label: neither kid nor iss nor sub,
// whatever they try.
func TestLabelsAreClosed(t *testing.T) {
	for name, change := range map[string]func(*Handler){
		"an issuer":  func(*Handler) {},
		"any issuer": withIssuer(func(i *Issuer) { i.Issuer = "" }),
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, change)
			registry := prometheus.NewPedanticRegistry()
			counters, err := newMetrics(registry, nil)
			if err != nil {
				t.Fatal(err)
			}
			g.verifier.metrics = counters
			piece := strings.Split(goodToken(), ".")
			for i := range 500 {
				random := fmt.Sprintf("%x\x00\xff{}\"\n%d", i*7919, i)
				header := mcptest.Base64([]byte(mcptest.JSON(claims{"alg": []string{"RS256", "none", random}[i%3], "kid": random, "typ": random})))
				payload := mcptest.Base64([]byte(mcptest.JSON(claims{"iss": []any{issuerURL, random, i}[i/3%3], "sub": random, "aud": random})))
				_, _ = g.verifier.verify(t.Context(), header+"."+piece[1]+"."+piece[2], nil)
				_, _ = g.verifier.verify(t.Context(), piece[0]+"."+payload+"."+piece[2], nil)
				_, _ = g.verifier.verify(t.Context(), random, nil)
			}
			g.accepts(t, goodToken())
			got := samples(t, registry, "")
			if len(got) > 20 || len(got) < 5 {
				t.Errorf("%d series", len(got))
			}
			for series := range got {
				if strings.Contains(series, "issuer=") && !strings.Contains(series, "{issuer=,") && !strings.Contains(series, "{issuer="+issuerURL+",") {
					t.Errorf("%q", series)
				}
			}
		})
	}
	closed := []string{
		"ok", "no_credential", "several_credentials", "no_key_id", "malformed", "unknown_key", "keys_unavailable", "unknown_issuer",
		"bad_signature", "expired", "not_yet_valid", "wrong_audience", "wrong_algorithm", "wrong_type", "wrong_claim",
	}
	for _, err := range []error{
		nil, ErrNoCredential, ErrSeveralCredentials, ErrNoKeyID,
		malformedError{errTooLarge},
		unknownKeyError("x"),
		unavailableError{time.Second},
		errIssuer, errSignature, errExpired, errNotYetValid, errAudience, errAlgorithm, errTokenType, missingClaim("x"), wrongType("x"),
		errors.New("something else"), fmt.Errorf("wrapped: %w", errExpired), fmt.Errorf("wrapped: %w", unknownKeyError("x")),
	} {
		if got := resultOf(err); !slices.Contains(closed, got) {
			t.Errorf("%v: %s", err, got)
		}
	}
	if resultOf(fmt.Errorf("wrapped: %w", errExpired)) != "expired" || resultOf(fmt.Errorf("wrapped: %w", unknownKeyError("x"))) != "unknown_key" {
		t.Error("a wrapped error has another label")
	}
}

// The state of the key sets, as a scrape finds it, with what a reload must
// not set back.
func TestKeyMetrics(t *testing.T) {
	s, down := newKeyServer(t), newKeyServer(t)
	down.Close()
	s.on("/keys", says(mcptest.Set(rsaOnce(), ecOnce())))
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(mcptest.Set(rsaOnce())), 0o600); err != nil {
		t.Fatal(err)
	}
	issuers := func() []*Issuer {
		return []*Issuer{
			from(s, issuerURL), from(down, "https://down.example.com"),
			{Issuer: "file", JWKS: &JWKS{File: file}},
			{Issuer: "inline", JWKS: inline(rsaOnce())},
		}
	}
	want := func(fetched bool) map[string]float64 {
		ok := 0.0
		if fetched {
			ok = 1
		}
		return map[string]float64{
			"jwks_refreshes_total{issuer=" + issuerURL + ",result=ok}":           ok,
			"jwks_refreshes_total{issuer=" + issuerURL + ",result=error}":        0,
			"jwks_keys{issuer=" + issuerURL + "}":                                2 * ok,
			"jwks_refreshes_total{issuer=https://down.example.com,result=ok}":    0,
			"jwks_refreshes_total{issuer=https://down.example.com,result=error}": ok,
			"jwks_keys{issuer=https://down.example.com}":                         0,
			"jwks_refreshes_total{issuer=file,result=ok}":                        1,
			"jwks_refreshes_total{issuer=file,result=error}":                     0,
			"jwks_keys{issuer=file}":                                             1,
		}
	}
	// ages change while the test looks
	check := func(c *configuration, fetched bool, ages ...string) {
		t.Helper()
		registry := c.ctx.GetMetricsRegistry()
		wantSamples(t, registry, "jwks_refreshes", only(want(fetched), "jwks_refreshes"))
		wantSamples(t, registry, "jwks_keys", only(want(fetched), "jwks_keys"))
		got := samples(t, registry, "jwks_age")
		if len(got) != len(ages) {
			t.Errorf("ages %v", got)
		}
		for _, issuer := range ages {
			if age, ok := got["jwks_age_seconds{issuer="+issuer+"}"]; !ok || age < 0 || age > 60 {
				t.Errorf("age of the keys of %s: %v", issuer, age)
			}
		}
	}
	first := load(t, issuers()...)
	check(first, false, "file")
	first.start(t)
	first.accepts(t, goodToken())
	first.unavailable(t, first.do(t, post(trusted().Token("alice", forUs, claims{"iss": "https://down.example.com"}))))
	check(first, true, "file", issuerURL)

	second := load(t, issuers()...).start(t)
	first.unload(t)
	check(second, true, "file", issuerURL)

	// issuers of two handlers are collected by one collector
	other := &Handler{Issuers: []*Issuer{{Issuer: "file2", JWKS: &JWKS{File: file}}}}
	if err := other.Provision(second.ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Cleanup() }()
	if got := samples(t, second.ctx.GetMetricsRegistry(), "jwks_keys"); got["jwks_keys{issuer=file2}"] != 1 || len(got) != 4 {
		t.Errorf("%v", got)
	}
}

// only returns the samples whose names begin with this.
func only(all map[string]float64, prefix string) map[string]float64 {
	some := maps.Clone(all)
	maps.DeleteFunc(some, func(name string, _ float64) bool { return !strings.HasPrefix(name, prefix) })
	return some
}

// Two handlers of one configuration count together; those of two do not.
func TestHandlersShareCollectors(t *testing.T) {
	issuer := func() *Issuer {
		return &Issuer{Issuer: issuerURL, JWKS: inline(rsaOnce()), Audiences: []string{audience}}
	}
	one, another := load(t, issuer()), load(t, issuer())
	sibling := &gate{Handler: &Handler{Issuers: []*Issuer{issuer()}}}
	if err := sibling.Provision(one.ctx); err != nil {
		t.Fatal(err)
	}
	sibling.verifier.now = atNoon
	one.accepts(t, goodToken())
	sibling.accepts(t, goodToken())
	sibling.accepts(t, goodToken())
	another.accepts(t, goodToken())
	series := "jwt_requests_total{issuer=" + issuerURL + ",result=ok}"
	for c, want := range map[*configuration]float64{one: 3, another: 1} {
		wantSamples(t, c.ctx.GetMetricsRegistry(), "jwt_requests", map[string]float64{series: want})
	}
	// neither do they share what they have verified
	wantSamples(t, one.ctx.GetMetricsRegistry(), "jwt_cache", map[string]float64{
		"jwt_cache_total{result=hit}": 1, "jwt_cache_total{result=miss}": 2,
	})
}

// A registry that has something else under the name is an error, not a panic.
func TestMetricsThatCannotBeRegistered(t *testing.T) {
	for _, name := range []string{"requests_total", "cache_total"} {
		registry := prometheus.NewRegistry()
		registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "caddy_mcp_jwt_" + name, Help: "x"}))
		if counters, err := newMetrics(registry, nil); err == nil || counters != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// without metrics the handler works all the same
	g := newGate(t)
	g.verifier.metrics = nil
	g.accepts(t, goodToken())
	g.accepts(t, goodToken())
	g.refuses(t, foe().Token("alice", forUs), badSig)
}
