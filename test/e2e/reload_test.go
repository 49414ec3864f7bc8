package e2e

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// reloadCount is how many reloads TestReloads makes.
	reloadCount = 1000
	// A connection that comes in the moment in which Caddy changes its listeners may break, whatever the site is made of:
	// with a hundred reloads of a lone `respond` in a second, one of ten does. Nothing has been answered then.
	triesWhileReloading = 20
	// goroutineLeeway is how many goroutines there may be more than before: connections that are kept open.
	goroutineLeeway = 10
	// heapLeeway is how much more of the heap may be in use than before, in bytes: a thousandth of it for each reload
	// would be a leak of a few buffers.
	heapLeeway = 16 << 20
)

// TestReloads reloads the configuration again and again while clients call, with tokens of an issuer whose keys are
// fetched and of one whose keys are a file. The rules change, the issuers do not. No call is answered wrongly, the keys
// are fetched once, and nothing is left behind.
func TestReloads(t *testing.T) {
	provider := startOIDC(t, "", "k")
	demo := startRecorder(t, startDemo(t), (*httptest.Server).Start)
	issuers := provider.block() + "\n\t\t" + quickstartIssuer()
	sites := []string{
		siteOf(issuers, "allow true", demo.URL), siteOf(issuers, "allow `mcp.tool.name == \"get_me\"`", demo.URL),
	}
	g := startGateway(t, sites[0])

	forAnother := provider.mustMint(t, "ES256", "https://other.example.com/mcp")
	callers := []caller{
		{token: token(t, "alice"), name: "alice"},
		{token: withBadSignature(token(t, "bob")), refusal: badSignature},
		{token: forAnother, refusal: badAudience},
	}
	for _, kind := range oidcKinds {
		minted := provider.mustMint(t, kind, oidcAudience)
		callers = append(callers, caller{token: minted, name: kind}, caller{token: withBadSignature(minted), refusal: badSignature})
	}
	load := &traffic{url: g.url(), tries: triesWhileReloading, next: func(_ context.Context, client, call int) (caller, error) {
		return callers[(client+call)%len(callers)], nil
	}}
	load.start(t)
	load.wantMore(t, 20)
	before, heapBefore := g.goroutines(t), g.heap(t)

	began := time.Now()
	for i := range reloadCount {
		g.post(t, sites[i%len(sites)])
	}
	took := time.Since(began)
	load.wantMore(t, 20)
	load.end(t)
	t.Logf("%d reloads in %s, %d calls meanwhile, %d connections broken", reloadCount, took.Round(time.Millisecond), load.made(), load.broken)

	provider.wantAskedOnce(t)
	for _, r := range demo.seen(t) {
		if user := r.Header.Get("X-User"); user != "alice" && !slices.Contains(oidcKinds, user) {
			t.Errorf("a call of %q has reached the server", user)
		}
	}
	// A proxy that was replaced keeps connections that were in use then for two minutes, as every proxy of Caddy does.
	demo.CloseClientConnections()
	var after int
	gone := poll(stopLimit, func() bool { after = g.goroutines(t); return after <= before+goroutineLeeway })
	t.Logf("%d goroutines, %d before", after, before)
	if !gone {
		t.Error("goroutines are left")
	}
	var heapAfter int
	gone = poll(stopLimit, func() bool { heapAfter = g.heap(t); return heapAfter <= heapBefore+heapLeeway })
	t.Logf("%d bytes of the heap in use, %d before", heapAfter, heapBefore)
	if !gone {
		t.Error("the heap has grown")
	}
	for _, c := range callers {
		g.wantNoTokens(t, c.token)
	}
}

// post loads another site by the admin API.
func (g *gateway) post(t *testing.T, site string) {
	t.Helper()
	var resp *http.Response
	var err error
	for range triesWhileReloading {
		resp, err = http.Post("http://"+loopback(g.admin)+"/load", "text/caddyfile", strings.NewReader(g.config(site)))
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		t.Fatalf("loading a configuration: status %d, %v: %s", resp.StatusCode, err, body)
	}
}

var (
	goroutineTotal = regexp.MustCompile(`^goroutine profile: total (\d+)\n`)
	heapAlloc      = regexp.MustCompile(`\n# HeapAlloc = (\d+)\n`)
)

// goroutines is how many goroutines the gateway has.
func (g *gateway) goroutines(t *testing.T) int {
	t.Helper()
	return g.profile(t, "goroutine?debug=1", goroutineTotal)
}

// heap is how many bytes of the gateway's heap are in use after a collection.
func (g *gateway) heap(t *testing.T) int {
	t.Helper()
	return g.profile(t, "heap?gc=1&debug=1", heapAlloc)
}

// profile reads a number from one of the profiles that Caddy's admin API offers.
func (g *gateway) profile(t *testing.T, name string, number *regexp.Regexp) int {
	t.Helper()
	resp, err := http.Get("http://" + loopback(g.admin) + "/debug/pprof/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	match := number.FindSubmatch(body)
	if match == nil {
		t.Fatalf("%s: no number: %.100s", name, body)
	}
	total, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return total
}
