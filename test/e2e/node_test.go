package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// nodeCommand is a command for Node.js 22, which MCP Inspector needs and Debian 12 lacks: package.json brings it as a
// package, there is one for 64-bit PCs only. Elsewhere the Node.js of the machine has to do.
func nodeCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	bin := nodeModules(t, ".bin")
	node := filepath.Join(bin, "node")
	if runtime.GOARCH != "amd64" {
		node = "node"
	}
	cmd := exec.Command(node, args...)
	// Inspector starts itself once more, with the `node` it finds
	cmd.Env = environ("PATH=" + bin + ":" + os.Getenv("PATH"))
	return cmd
}

// nodeModules is the absolute path of something in node_modules.
func nodeModules(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("node_modules", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// lockedPackage is what package-lock.json says about a package.
type lockedPackage struct{ Version, Resolved, Integrity string }

func lockedPackages(t *testing.T) map[string]lockedPackage {
	t.Helper()
	text, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var lock struct{ Packages map[string]lockedPackage }
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	return lock.Packages
}

// lockedVersion is the version of a package that package-lock.json pins.
func lockedVersion(t *testing.T, name string) string {
	t.Helper()
	version := lockedPackages(t)["node_modules/"+name].Version
	if version == "" {
		t.Fatalf("package-lock.json does not pin %s", name)
	}
	return version
}

// The lock file works with any registry, and with none that hands out other packages.
func TestLockFile(t *testing.T) {
	for name, p := range lockedPackages(t) {
		if p.Resolved != "" {
			t.Errorf("%s: the lock file says where it was fetched; see .npmrc", name)
		}
		if name != "" && p.Integrity == "" {
			t.Errorf("%s: the lock file has no checksum", name)
		}
	}
}
