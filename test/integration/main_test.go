package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	// Caddy's standard modules, and the gateway
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/gateway"
)

// workDir is a folder for what all tests share; it goes when they are done.
var workDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mcp-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	workDir = dir
	return m.Run()
}

// caddyBinary builds cmd/caddy once, for the tests that run it.
var caddyBinary = sync.OnceValues(func() (string, error) {
	file := filepath.Join(workDir, "caddy")
	out, err := exec.Command("go", "build", "-o", file, "github.com/caddymcp/gateway/cmd/caddy").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
})
