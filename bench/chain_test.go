package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/caddymcp/gateway" // the handlers
	"github.com/caddymcp/gateway/internal/mcptest"
)

// chain is mcp_jwt and mcp_authorize in a row.
type chain struct {
	jwt, authorize caddyhttp.MiddlewareHandler
	token          string
	// server is the one that all requests come through, as in a gateway
	server caddyhttp.Server
}

func newChain(t testing.TB) *chain {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	key := mcptest.NewKey("RS256", "bench")
	load := func(id, config string) caddyhttp.MiddlewareHandler {
		module, err := ctx.LoadModuleByID(id, json.RawMessage(config))
		if err != nil {
			t.Fatal(err)
		}
		return module.(caddyhttp.MiddlewareHandler)
	}
	issuerOf := &mcptest.Issuer{Name: issuer, Key: key}
	return &chain{
		jwt: load("http.handlers.mcp_jwt", fmt.Sprintf(`{"issuers": [{"issuer": %q, "audiences": [%q], "jwks": {"inline": %s}}]}`,
			issuer, audience, mcptest.Set(key))),
		authorize: load("http.handlers.mcp_authorize", string(rulesAsJSON(t))),
		token:     issuerOf.Token("alice", map[string]any{"aud": audience, "groups": []string{"dev", "ops"}, "client_id": "agent"}),
	}
}

// rulesAsJSON adapts the rules of the benchmark.
func rulesAsJSON(t testing.TB) []byte {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":80 {\n\tmcp_authorize {\n"+ruleLines(10, byName)+"\t}\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var adapted struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct {
						Handle []map[string]any `json:"handle"`
					} `json:"routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &adapted); err != nil {
		t.Fatal(err)
	}
	handler := adapted.Apps.HTTP.Servers["srv0"].Routes[0].Handle[0]
	delete(handler, "handler")
	return []byte(mcptest.JSON(handler))
}

// discard is a client that reads nothing, so that only the handlers allocate.
type discard struct {
	header http.Header
	status int
	bytes  int
}

func (d *discard) Header() http.Header    { return d.header }
func (d *discard) WriteHeader(status int) { d.status = status }
func (d *discard) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}

// call sends a message through the handlers to a server that answers in
// pieces, as a proxy passes them on. With no handlers it is what the
// benchmark itself costs.
func (c *chain) call(t testing.TB, message string, answer []byte, handlers ...caddyhttp.MiddlewareHandler) *discard {
	t.Helper()
	w := &discard{header: http.Header{}}
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "https://mcp.example.com/mcp", strings.NewReader(message))
	r.Header["Content-Type"] = []string{jsonType}
	r.Header["Accept"] = []string{jsonType + ", " + sseType}
	r.Header["Mcp-Protocol-Version"] = []string{protocolVersion}
	r.Header["Authorization"] = []string{"Bearer " + c.token}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &c.server)
	next := caddyhttp.Handler(caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header()["Content-Type"] = []string{jsonType}
		w.WriteHeader(http.StatusOK)
		for piece := range slices.Chunk(answer, 32<<10) {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, handler := range slices.Backward(handlers) {
		inner := next
		next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return handler.ServeHTTP(w, r, inner) })
	}
	if err := next.ServeHTTP(w, r); err != nil {
		t.Fatal(err)
	}
	if w.status != http.StatusOK {
		t.Fatalf("status %d", w.status)
	}
	return w
}

func TestChain(t *testing.T) {
	c := newChain(t)
	if got := c.call(t, groups()[0].message(), []byte(callAnswer), c.jwt, c.authorize).bytes; got != len(callAnswer) {
		t.Errorf("%d bytes of %d have passed", got, len(callAnswer))
	}
	list := toolList(10)
	if got := c.call(t, listMessage, list, c.jwt, c.authorize).bytes; got < len(list)/3 || got > len(list)*2/3 {
		t.Errorf("%d bytes of %d have passed, of a list that is half hidden", got, len(list))
	}
	if got := c.call(t, listMessage, list).bytes; got != len(list) {
		t.Errorf("%d bytes of %d have passed without handlers", got, len(list))
	}
}

// BenchmarkChain is the warm path of one call, and of lists. What its request
// costs is in `nothing`.
func BenchmarkChain(b *testing.B) {
	c := newChain(b)
	run := func(name, message string, answer []byte, handlers ...caddyhttp.MiddlewareHandler) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.call(b, message, answer, handlers...)
			}
			b.ReportMetric(float64(len(answer)), metricBody)
		})
	}
	call := groups()[0].message()
	answer := []byte(callAnswer)
	run("nothing", call, answer)
	run("jwt", call, answer, c.jwt)
	run("call", call, answer, c.jwt, c.authorize)
	for _, n := range toolCounts {
		run(fmt.Sprintf("list_%d", n), listMessage, toolList(n), c.jwt, c.authorize)
	}
}
