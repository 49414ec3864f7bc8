package e2e

import (
	"os/exec"
	"regexp"
	"testing"
)

var demoReady = regexp.MustCompile(`(?m)^demoserver: ready at (\S+)$`)

// startDemo starts the demo MCP server, on any port unless the arguments say otherwise, and returns its URL.
func startDemo(t *testing.T, args ...string) string {
	t.Helper()
	p := start(t, exec.Command(demoServer, append([]string{"-listen", "127.0.0.1:0"}, args...)...))
	match, err := p.out.wait(demoReady, p.done, startLimit)
	if err != nil {
		t.Fatal(err)
	}
	return match[1]
}
