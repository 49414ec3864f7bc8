package examples

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Every Caddyfile here is formatted, adapts without a warning and loads. What
// the READMEs say is tried in test/e2e.
func TestCaddyfiles(t *testing.T) {
	files, err := filepath.Glob("*/Caddyfile")
	if err != nil || len(files) < 3 {
		t.Fatalf("found only %v (%v)", files, err)
	}
	t.Chdir("..")
	t.Setenv("SESSION_KEY", strings.Repeat("A", 43)+"=")
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

// The configuration that is pushed by the admin API is one, too.
func TestAdminAPI(t *testing.T) {
	t.Chdir("..")
	validate(t, []byte(read(t, "examples/admin-api/gateway.json")))
}
