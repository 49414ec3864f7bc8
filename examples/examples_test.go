package examples

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/gateway/examples/demo"
	"github.com/caddymcp/gateway/examples/internal/readme"
)

// Every Caddyfile here is formatted, adapts without a warning and loads.
func TestCaddyfiles(t *testing.T) {
	files, err := filepath.Glob("*/Caddyfile")
	if err != nil || len(files) < 3 {
		t.Fatalf("found only %v (%v)", files, err)
	}
	t.Chdir("..")
	for _, file := range files {
		t.Run(filepath.Dir(file), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("examples", file))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(caddyfile.Format(text), text) {
				t.Error("run caddy fmt")
			}
			validate(t, adapt(t, string(text)))
		})
	}
}

func TestReverseProxy(t *testing.T) {
	upstream := httptest.NewServer(demo.Handler(demo.Options{}))
	defer upstream.Close()
	gateway := freeAddress(t)
	t.Setenv("UPSTREAM", upstream.Listener.Addr().String())
	t.Setenv("GATEWAY_PORT", portOf(gateway))

	t.Chdir("..")
	runCaddyfile(t, "examples/reverse_proxy/Caddyfile")
	readme.Run(t, "examples/reverse_proxy/README.md", "## Try it", ".", "127.0.0.1:8080", gateway)
}

func TestAdminAPI(t *testing.T) {
	upstream := httptest.NewServer(demo.Handler(demo.Options{}))
	defer upstream.Close()
	gateway, admin := freeAddress(t), freeAddress(t)

	t.Chdir("..")
	validate(t, []byte(read(t, "examples/admin-api/gateway.json")))

	// the same configuration at addresses of this test
	config := filepath.Join(t.TempDir(), "gateway.json")
	text := strings.NewReplacer(
		"127.0.0.1:8080", gateway,
		"127.0.0.1:3001", upstream.Listener.Addr().String(),
		`"admin": {`, `"admin": { "listen": "`+admin+`",`,
	).Replace(read(t, "examples/admin-api/gateway.json"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	run(t, []byte(`{"admin":{"listen":"`+admin+`","config":{"persist":false}}}`))
	readme.Run(t, "examples/admin-api/README.md", "## Push the configuration", ".",
		"127.0.0.1:8080", gateway, "localhost:2019", admin, "examples/admin-api/gateway.json", config)
}
