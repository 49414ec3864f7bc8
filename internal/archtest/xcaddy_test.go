package archtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const caddyModule = "github.com/caddyserver/caddy/v2"

// modulesWanted are the module IDs that a Caddy with this plugin lists.
var modulesWanted = []string{
	"http.handlers.mcp_authorize",
	"http.handlers.mcp_jwt",
	"http.handlers.mcp_proxy",
}

// command runs a program in a folder and returns what it printed to stdout.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	// What a developer has set for this tree must not hold for the module made here.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod -buildvcs=false")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

func caddyVersion(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(command(t, root, "go", "list", "-m", "-f", "{{.Version}}", caddyModule))
}

// TestXcaddyBuild does what `xcaddy build --with` does: a main package and a module of its own, into which the plugin
// comes as one dependency among others. That finds what a build inside of this module cannot: a replace that is needed,
// a package that module.go forgot, a version of Caddy other than the one we test with. Unlike xcaddy it keeps paths in
// the binary, so that the packages which other tests have compiled need not be compiled again.
func TestXcaddyBuild(t *testing.T) {
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	caddy := caddyVersion(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", fmt.Sprintf("module caddy\n\ngo 1.26.0\n\nrequire (\n\t%s %s\n\t%s v0.0.0\n)\n\nreplace %[3]s => %s\n",
		caddyModule, caddy, modulePath, here))
	write("go.sum", read(t, "go.sum")) // saves asking for the checksums we have
	write("main.go", fmt.Sprintf("package main\n\nimport (\n\tcaddycmd %q\n\n\t_ %q\n\t_ %q\n)\n\nfunc main() { caddycmd.Main() }\n",
		caddyModule+"/cmd", caddyModule+"/modules/standard", modulePath))

	binary := filepath.Join(dir, "caddy.bin")
	command(t, dir, "go", "build", "-o", binary, ".")

	if got := strings.TrimSpace(command(t, dir, "go", "list", "-m", "-f", "{{.Version}}", caddyModule)); got != caddy {
		t.Errorf("built with Caddy %s, want %s", got, caddy)
	}
	listed := strings.Fields(command(t, dir, binary, "list-modules"))
	for _, id := range modulesWanted {
		if !slices.Contains(listed, id) {
			t.Errorf("list-modules does not list %s", id)
		}
	}
}

// Whoever copies the line from xcaddy.txt gets the Caddy that was tested.
func TestXcaddyLine(t *testing.T) {
	want := fmt.Sprintf("xcaddy build %s --with %s", caddyVersion(t), modulePath)
	if !slices.Contains(strings.Split(read(t, "xcaddy.txt"), "\n"), want) {
		t.Errorf("xcaddy.txt lacks the line %q", want)
	}
}
