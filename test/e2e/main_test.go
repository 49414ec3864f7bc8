package e2e

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What every test may use: the repository's root folder, and the programs built from it.
var (
	repository        string
	caddy             string
	demoServer        string
	quickstart        string
	conformanceServer string
)

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if flag.Parse(); flag.Lookup("test.list").Value.String() != "" {
		return m.Run() // runs nothing
	}
	bin, err := os.MkdirTemp("", "gateway-e2e-")
	if err == nil {
		defer func() { _ = os.RemoveAll(bin) }()
		err = prepare(bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

func prepare(bin string) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	repository = root
	if err := installNodePackages(); err != nil {
		return err
	}
	caddy = filepath.Join(bin, "caddy")
	demoServer = filepath.Join(bin, "demoserver")
	quickstart = filepath.Join(bin, "quickstart")
	conformanceServer = filepath.Join(bin, "conformance")
	return errors.Join(
		build(".", "./cmd/caddy", caddy),
		build("examples", "./demoserver", demoServer),
		build("examples", "./quickstart", quickstart),
		build("test/e2e", "github.com/modelcontextprotocol/go-sdk/conformance/everything-server", conformanceServer),
	)
}

// build compiles with the race detector: real clients make a gateway do many things at once. The packages are those
// that the unit tests are built from, so most of them come from Go's cache.
func build(module, pkg, binary string) error {
	return prepareWith(filepath.Join(repository, module), "go", "build", "-race", "-buildvcs=false", "-o", binary, pkg)
}

// installNodePackages does what the Makefile does, for those who run `go test` themselves.
func installNodePackages() error {
	installed, err := os.Stat("node_modules/.package-lock.json") // npm writes it last
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	locked, err := os.Stat("package-lock.json")
	if err != nil {
		return err
	}
	if installed != nil && !installed.ModTime().Before(locked.ModTime()) {
		return nil
	}
	return prepareWith(".", "npm", "ci", "--no-audit", "--no-fund")
}

// inRepository is the path of a file that is named from the root folder.
func inRepository(name string) string {
	return filepath.Join(repository, filepath.FromSlash(name))
}

func prepareWith(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out.Bytes())
	}
	return nil
}
