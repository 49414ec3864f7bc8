package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const oidcAudience = "https://mcp.example.com/mcp"

// oidcKinds are the algorithms that oidc.mjs signs with. Its clients have the same names.
var oidcKinds = []string{"RS256", "ES256", "EdDSA"}

// oidcProvider is a running oidc.mjs.
type oidcProvider struct {
	address string // where it is reached
	issuer  string // who it says it is
}

var oidcReady = regexp.MustCompile(`(?m)^ready at (\S+)$`)

// startOIDC starts an OAuth server with a key of each kind. An empty issuer is its own address.
func startOIDC(t *testing.T, issuer, kid string) *oidcProvider {
	t.Helper()
	cmd := nodeCommand(t, "oidc.mjs")
	cmd.Env = append(cmd.Env, "PORT=0")
	if issuer != "" {
		cmd.Env = append(cmd.Env, "ISSUER="+issuer)
	}
	p := start(t, cmd)
	match, err := p.out.wait(oidcReady, p.done, startLimit)
	if err != nil {
		t.Fatal(err)
	}
	if issuer == "" {
		issuer = match[1]
	}
	provider := &oidcProvider{address: match[1], issuer: issuer}
	provider.publish(t, kid)
	return provider
}

// keyID is how the key of a kind is called.
func keyID(kid, kind string) string { return kid + " " + kind }

// publish makes the server have keys of these names and no others, of each kind one. The first of them signs.
func (p *oidcProvider) publish(t *testing.T, kids ...string) {
	t.Helper()
	var keys []map[string]string
	for _, kid := range kids {
		for _, kind := range oidcKinds {
			keys = append(keys, map[string]string{"kid": keyID(kid, kind), "alg": kind})
		}
	}
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(p.address+"/test/keys", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("publishing keys: status %d", resp.StatusCode)
	}
}

// wantAskedOnce checks that the gateway has looked once for where the keys are, and once at the keys.
func (p *oidcProvider) wantAskedOnce(t *testing.T) {
	t.Helper()
	var counts map[string]int
	resp, err := http.Get(p.address + "/test/requests")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&counts); err != nil {
		t.Fatal(err)
	}
	delete(counts, "/token") // the test itself
	want := map[string]int{"/.well-known/openid-configuration": 1, "/jwks": 1}
	if !maps.Equal(counts, want) {
		t.Errorf("the gateway has asked for %v, want %v", counts, want)
	}
}

// mint gets a token of a kind from the server.
func (p *oidcProvider) mint(ctx context.Context, kind, audience string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {audience}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.address+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(kind, "secret")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.AccessToken == "" {
		return "", fmt.Errorf("status %d, %w: %s", resp.StatusCode, err, body)
	}
	return answer.AccessToken, nil
}

func (p *oidcProvider) mustMint(t *testing.T, kind, audience string) string {
	t.Helper()
	token, err := p.mint(t.Context(), kind, audience)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// block is the part of mcp_jwt that names this server as an issuer.
func (p *oidcProvider) block() string {
	return fmt.Sprintf("issuer %s {\n\t\t\taudiences %s\n\t\t}", p.issuer, oidcAudience)
}

// withBadSignature is a token that somebody has changed after it was signed.
func withBadSignature(token string) string {
	at := strings.LastIndexByte(token, '.') + 1
	first := byte('A')
	if token[at] == first {
		first = 'B'
	}
	return token[:at] + string(first) + token[at+1:]
}

// wantNoTokens checks that the gateway has not printed a token.
func (g *gateway) wantNoTokens(t *testing.T, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		if strings.Contains(g.out.String(), token[strings.LastIndexByte(token, '.')+1:]) {
			t.Error("the gateway printed a token")
		}
	}
}

// getMe calls the tool that tells who is calling.
func getMe(ctx context.Context, client *http.Client, url, token string) (status int, body string, err error) {
	const message = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_me"}}`
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(message))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// caller is somebody with a token, and what the gateway answers them: a name that the server behind greets them by, or
// why they do not get in.
type caller struct {
	token, name, refusal string
}

// errNoAnswer is of a call whose connection has ended before any answer.
var errNoAnswer = errors.New("no answer")

// check calls get_me and tells what is wrong with the answer.
func (c caller) check(ctx context.Context, client *http.Client, url string) error {
	status, body, err := getMe(ctx, client, url, c.token)
	switch {
	case err != nil && status == 0:
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	case err != nil:
		return fmt.Errorf("status %d, and then %w", status, err)
	}
	wantStatus, want := http.StatusOK, fmt.Sprintf("%q", "You are "+c.name+".")
	if c.name == "" {
		wantStatus, want = http.StatusUnauthorized, "authentication failure: "+c.refusal
	}
	if status != wantStatus || !strings.Contains(body, want) {
		return fmt.Errorf("status %d, %s, want %d, %s", status, body, wantStatus, want)
	}
	return nil
}

func wantCallers(t *testing.T, url string, callers map[string]caller) {
	t.Helper()
	for what, c := range callers {
		if err := c.check(t.Context(), http.DefaultClient, url); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

const (
	badSignature = "the token is invalid or malformed: signature invalid"
	badAudience  = "the token is invalid or malformed: audience not accepted"
	badIssuer    = "the token is invalid or malformed: issuer not accepted"
)

// TestOIDC takes tokens from an OAuth server that this project has not written, which is found by its URL alone.
func TestOIDC(t *testing.T) {
	provider := startOIDC(t, "", "k")
	g := startGateway(t, siteOf(provider.block(), "allow true", startDemo(t)))
	callers := map[string]caller{
		"another issuer": {token: token(t, "alice"), refusal: badIssuer},
	}
	for _, kind := range oidcKinds {
		minted := provider.mustMint(t, kind, oidcAudience)
		callers[kind] = caller{token: minted, name: kind}
		callers[kind+", changed"] = caller{token: withBadSignature(minted), refusal: badSignature}
		callers[kind+", for somebody else"] = caller{
			token: provider.mustMint(t, kind, "https://other.example.com/mcp"), refusal: badAudience,
		}
	}
	wantCallers(t, g.url(), callers)
	for _, c := range callers {
		g.wantNoTokens(t, c.token)
	}
	provider.wantAskedOnce(t)
}

// TestOIDCIssuers trusts three issuers at once, two of which call different keys by the same name. A fourth one says
// that it is the first.
func TestOIDCIssuers(t *testing.T) {
	first, second := startOIDC(t, "", "same"), startOIDC(t, "", "same")
	impostor := startOIDC(t, first.issuer, "same")
	stranger := startOIDC(t, "", "same")
	file := quickstartIssuer()
	g := startGateway(t, siteOf(strings.Join([]string{first.block(), file, second.block()}, "\n\t\t"), "allow true", startDemo(t)))
	callers := map[string]caller{
		"alice": {token: token(t, "alice"), name: "alice"},
		"bob":   {token: token(t, "bob"), name: "bob"},
	}
	for _, kind := range oidcKinds {
		for what, c := range map[string]caller{
			"first":    {token: first.mustMint(t, kind, oidcAudience), name: kind},
			"second":   {token: second.mustMint(t, kind, oidcAudience), name: kind},
			"impostor": {token: impostor.mustMint(t, kind, oidcAudience), refusal: badSignature},
			"stranger": {token: stranger.mustMint(t, kind, oidcAudience), refusal: badIssuer},
		} {
			callers[what+", "+kind] = c
		}
	}
	wantCallers(t, g.url(), callers)
	wantCallers(t, g.url(), callers) // what was right once does not make something else right
}

// These bound how much traffic there is.
const (
	trafficClients  = 4
	trafficInterval = 20 * time.Millisecond // of one client
	trafficTime     = 3 * time.Minute
)

// traffic is a number of clients that call get_me until they are stopped.
type traffic struct {
	url string
	// next says who calls next, and what the answer must be.
	next func(ctx context.Context, client, call int) (caller, error)
	// tries is how often a call is made whose connection ends without an answer.
	tries int

	stop     context.CancelFunc
	clients  sync.WaitGroup
	mu       sync.Mutex
	calls    int
	broken   int // connections
	failures []string
}

func (load *traffic) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), trafficTime)
	load.stop = cancel
	for client := range trafficClients {
		load.clients.Go(func() { load.run(ctx, client) })
	}
	t.Cleanup(func() { load.end(t) })
}

func (load *traffic) run(ctx context.Context, client int) {
	transport := &http.Client{Transport: &http.Transport{}}
	defer transport.CloseIdleConnections()
	ticker := time.NewTicker(trafficInterval)
	defer ticker.Stop()
	for call := 0; ; call++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		c, err := load.next(ctx, client, call)
		broken := 0
		if err == nil {
			err = c.check(ctx, transport, load.url)
			for errors.Is(err, errNoAnswer) && ctx.Err() == nil {
				if broken++; broken >= load.tries {
					break
				}
				err = c.check(ctx, transport, load.url)
			}
		}
		if ctx.Err() != nil {
			return
		}
		load.mu.Lock()
		load.calls++
		load.broken += broken
		if err != nil {
			load.failures = append(load.failures, fmt.Sprintf("client %d, call %d: %v", client, call, err))
		}
		load.mu.Unlock()
	}
}

// made is how many calls there were.
func (load *traffic) made() int {
	load.mu.Lock()
	defer load.mu.Unlock()
	return load.calls
}

// wantMore waits until each client has made some more calls.
func (load *traffic) wantMore(t *testing.T, each int) {
	t.Helper()
	before := load.made()
	if !poll(runLimit, func() bool { return load.made() >= before+each*trafficClients }) {
		t.Fatalf("the clients have made only %d calls within %s", load.made()-before, runLimit)
	}
}

// end stops the clients and reports what went wrong.
func (load *traffic) end(t *testing.T) {
	t.Helper()
	load.stop()
	load.clients.Wait()
	if shown := min(len(load.failures), 10); shown > 0 {
		t.Errorf("%d of %d calls went wrong:\n%s", len(load.failures), load.calls, strings.Join(load.failures[:shown], "\n"))
	}
	load.failures = nil
}

// TestOIDCRotation changes the keys of an issuer while clients call. As long as the old keys are published beside the
// new ones nobody notices, not even who brings the first token with a new key. A key that is gone stops working.
func TestOIDCRotation(t *testing.T) {
	provider := startOIDC(t, "", "old")
	g := startGateway(t, siteOf(provider.block(), "allow true", startDemo(t)))
	before := map[string]string{}
	for _, kind := range oidcKinds {
		before[kind] = provider.mustMint(t, kind, oidcAudience)
	}
	load := &traffic{url: g.url(), tries: 1, next: func(ctx context.Context, client, call int) (caller, error) {
		kind := oidcKinds[(client+call)%len(oidcKinds)]
		switch call % 5 {
		case 0: // a new one
			minted, err := provider.mint(ctx, kind, oidcAudience)
			return caller{token: minted, name: kind}, err
		case 1:
			return caller{token: withBadSignature(before[kind]), refusal: badSignature}, nil
		default:
			return caller{token: before[kind], name: kind}, nil
		}
	}}
	load.start(t)
	load.wantMore(t, 20)
	provider.publish(t, "new", "old")
	load.wantMore(t, 20)
	during := map[string]string{}
	for _, kind := range oidcKinds {
		during[kind] = provider.mustMint(t, kind, oidcAudience)
		if got, want := kidOf(t, during[kind]), keyID("new", kind); got != want {
			t.Fatalf("the server signs with %q, want %q", got, want)
		}
	}
	load.wantMore(t, 20)
	t.Logf("%d calls while the keys were changed", load.made())
	load.end(t)

	provider.publish(t, "newest", "new")
	for _, kind := range oidcKinds {
		c := caller{token: provider.mustMint(t, kind, oidcAudience), name: kind}
		if err := c.check(t.Context(), http.DefaultClient, g.url()); err != nil {
			t.Errorf("%s, the first token with the newest key: %v", kind, err)
		}
	}
	// Now the gateway has seen a set without the old keys. It asks once more before it refuses them.
	var callers sync.WaitGroup
	for _, kind := range oidcKinds {
		for token, c := range map[string]caller{
			before[kind]: {refusal: fmt.Sprintf("token uses the unknown key %q", keyID("old", kind))},
			during[kind]: {name: kind},
		} {
			c.token = token
			callers.Go(func() {
				if err := c.check(t.Context(), http.DefaultClient, g.url()); err != nil {
					t.Errorf("%s, a token from before: %v", kind, err)
				}
			})
		}
	}
	callers.Wait()
}

// kidOf is the name of the key that a token says it was signed with.
func kidOf(t *testing.T, token string) string {
	t.Helper()
	var header struct{ Kid string }
	text, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')])
	if err == nil {
		err = json.Unmarshal(text, &header)
	}
	if err != nil {
		t.Fatal(err)
	}
	return header.Kid
}
