package integration

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// ourModules are the modules of the gateway that are registered.
func ourModules(t *testing.T) []caddy.ModuleInfo {
	t.Helper()
	var modules []caddy.ModuleInfo
	for _, id := range caddy.Modules() {
		if id != "mcp" && !strings.HasPrefix(id, "http.handlers.mcp_") {
			continue
		}
		module, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		modules = append(modules, module)
	}
	if len(modules) < 3 {
		t.Fatalf("only %v", modules)
	}
	return modules
}

// TestZeroValues: Caddy may clean up or stop what it never provisioned, and provision what nobody has configured.
func TestZeroValues(t *testing.T) {
	for _, module := range ourModules(t) {
		t.Run(string(module.ID), func(t *testing.T) {
			zero := module.New()
			if zero == module.New() {
				t.Error("New returns the same value twice")
			}
			finish := func() {
				if stopped, ok := zero.(interface{ Stop() error }); ok {
					if err := stopped.Stop(); err != nil {
						t.Error(err)
					}
				}
				if cleaned, ok := zero.(caddy.CleanerUpper); ok {
					if err := cleaned.Cleanup(); err != nil {
						t.Error(err)
					}
				}
			}
			finish()

			root, err := caddy.ProvisionContext(&caddy.Config{
				Admin: &caddy.AdminConfig{Disabled: true},
				Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {
					BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)},
				}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := caddy.NewContext(root)
			defer cancel()
			// an empty handler guards nothing, so it must not load; the app is only what handlers make of it
			if provisioned, ok := zero.(caddy.Provisioner); ok {
				err := provisioned.Provision(ctx)
				if isHandler := strings.HasPrefix(string(module.ID), "http."); isHandler == (err == nil) {
					t.Errorf("Provision: %v", err)
				}
			}
			finish()
			finish()

			for _, config := range []string{`{}`, `null`, `[]`, `""`, `{"unknown":1}`} {
				// whatever comes of it, there is no panic, and no handler that lets everything pass
				loaded, err := ctx.LoadModuleByID(string(module.ID), json.RawMessage(config))
				if err == nil && strings.HasPrefix(string(module.ID), "http.") {
					t.Errorf("%s has been loaded: %v", config, loaded)
				}
			}
		})
	}
}

// TestReplicas: A148, with a policy in front that has read the body. It goes to another replica only where it cannot
// have arrived.
func TestReplicas(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	site := func(replica, options string) string {
		return strings.Replace(wireSite, "mcp_proxy http://UPSTREAM/mcp",
			"mcp_proxy http://"+replica+"/mcp http://UPSTREAM/mcp {\n\t\tlb_policy first\n\t\t"+options+"\n\t}", 1)
	}
	large := strings.Replace(readFile, "README.md", strings.Repeat("x", 1<<20), 1)

	g := start(t, site(dead.Addr().String(), "lb_retries 1\n\t\tfail_duration 1m"))
	alice := g.token("alice")
	g.send("POST", "/mcp", alice, large, "Idempotency-Key", "1").expect(t, "the first replica is down", http.StatusOK, `"result"`)
	for _, r := range g.reached("the first replica is down", 1) {
		if r.body != large || r.header.Get("Content-Length") == "" {
			t.Errorf("%d bytes of %d have arrived: %v", len(r.body), len(large), r.header)
		}
	}

	// this one reads the request, and hangs up: once for each connection after its first request
	dying := newUpstream(t)
	var hangUp atomic.Bool
	handler := dying.Config.Handler
	dying.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hangUp.Load() {
			handler.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(discard{}, r)
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
	})
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		hangUp.Store(false)
		g.load(g.adapt(site(dying.Listener.Addr().String(), "lb_retries 3\n\t\theader_up X-Key "+key)))
		g.post(alice, readFile).expect(t, "the first replica is up", http.StatusOK, `"result"`)
		dying.take()
		hangUp.Store(true)
		g.send("POST", "/mcp", alice, readFile, key, "1").expect(t, key, http.StatusBadGateway, "")
		if n := len(dying.take()); n != 1 {
			t.Errorf("%s: the call has been made %d times", key, n)
		}
		g.reached(key, 0)
	}
}

// discard is a client that reads nothing.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
