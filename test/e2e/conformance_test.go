package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// startConformance starts the server that the Go SDK has for the conformance suite, and returns its URL.
func startConformance(t *testing.T, args ...string) string {
	t.Helper()
	port := freePort(t)
	start(t, exec.Command(conformanceServer, append([]string{"-http", loopback(port)}, args...)...)).waitForPort(t, port)
	return "http://" + loopback(port) + "/"
}

// TestConformance runs the conformance suite of the MCP project against a server, once directly and then through the
// gateway: nothing that a client may rely on gets lost on the way.
func TestConformance(t *testing.T) {
	for revision, server := range map[string][]string{
		"2025-11-25": {"-stateless=false"},
		"2026-07-28": nil,
	} {
		t.Run(revision, func(t *testing.T) {
			want := checkConformance(t, startConformance(t, server...), revision)
			for name, rules := range conformanceRules {
				t.Run(name, func(t *testing.T) {
					// the suite changes the server, so each run has one of its own
					g := startGateway(t, withToken("alice", site(rules, startConformance(t, server...))))
					got := checkConformance(t, g.url(), revision)
					wantSameChecks(t, got, want)
				})
			}
		})
	}
}

// conformanceRules allow everything, either without a look or only after one at every target.
var conformanceRules = map[string]string{
	"any target": "allow true",
	"each target": `
		allow ` + "`mcp.tool.name != \"\" || mcp.method != \"x\"`" + `
		allow ` + "`mcp.prompt.name != \"\"`" + `
		allow ` + "`mcp.resource.uri != \"\"`" + `
		allow ` + "`mcp.task.id != \"\" || mcp.method != \"x\"`",
}

// withToken is a site whose clients all come with the token of a user: the suite cannot be told to send one.
func withToken(user, site string) string {
	return fmt.Sprintf("\troute {\n\t\trequest_header Authorization \"Bearer {file.%s}\"\n%s\n\t}",
		inRepository("examples/quickstart/"+user+".jwt"), site)
}

// conformance is what the suite has found out: for each scenario its checks, with how each of them ended.
type conformance map[string][]conformanceCheck

type conformanceCheck struct{ ID, Status, ErrorMessage string }

var scenarioFolder = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// checkConformance runs all that the suite has for servers of one revision of the protocol.
func checkConformance(t *testing.T, url, revision string) conformance {
	t.Helper()
	dir := t.TempDir()
	r := run(t, nodeCommand(t, nodeModules(t, "@modelcontextprotocol/conformance/dist/index.js"),
		"server", "--url", url, "--requirements", revision, "--output-dir", dir))
	if r.status != 0 {
		t.Fatalf("%s: exit status %d:\n%s", revision, r.status, r.out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := conformance{}
	passed := 0
	for _, entry := range entries {
		match := scenarioFolder.FindStringSubmatch(entry.Name())
		if match == nil {
			t.Fatalf("not the folder of a scenario: %s", entry.Name())
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name(), "checks.json"))
		if err != nil {
			t.Fatal(err)
		}
		var checks []conformanceCheck
		if err := json.Unmarshal(text, &checks); err != nil {
			t.Fatalf("%s: %v", entry.Name(), err)
		}
		found[match[1]] = checks
		for _, check := range checks {
			if check.Status == "SUCCESS" {
				passed++
			}
		}
	}
	t.Logf("%d scenarios, %d checks passed", len(found), passed)
	if len(found) < 30 || passed < 80 {
		t.Errorf("%d scenarios with %d checks passed: the suite has more", len(found), passed)
	}
	return found
}

// wantSameChecks compares two runs. Of the scenarios that count for a revision all have passed, or the suite would have
// failed. It runs others, too, some of which the server does not pass; through the gateway it fails the same checks.
func wantSameChecks(t *testing.T, got, want conformance) {
	t.Helper()
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		t.Errorf("the scenarios are %q, want %q", g, w)
	}
	for scenario, checks := range want {
		same := slices.EqualFunc(got[scenario], checks, func(a, b conformanceCheck) bool {
			return a.ID == b.ID && a.Status == b.Status
		})
		if !same {
			t.Errorf("%s: through the gateway:\n%+v\nwithout it:\n%+v", scenario, got[scenario], checks)
		}
	}
}
