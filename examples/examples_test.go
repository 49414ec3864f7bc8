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
	var files []string
	for _, pattern := range []string{"*/Caddyfile", "*/*.caddyfile"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) < 3 {
			t.Fatalf("%s: found only %v (%v)", pattern, found, err)
		}
		files = append(files, found...)
	}
	t.Chdir("..")
	t.Setenv("SESSION_KEY", strings.Repeat("A", 43)+"=")
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
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
