package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMetrics: the page has each metric that a gateway exports which has been
// used, with its labels, and no other.
func TestMetrics(t *testing.T) {
	g := serve(t, example(t, "metrics.md", "log audit"))
	g.ask(post(signed("", `{"groups":["dev"]}`), callGetMe))
	g.ask(post("", callGetMe))
	families, err := g.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "caddy_mcp_") {
			continue
		}
		labels := []string{family.GetName()}
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		slices.Sort(labels[1:])
		got = append(got, strings.Join(labels, " "))
	}
	var documented []string
	for _, b := range blocks(t, "metrics.md") {
		if len(b.rows) == 0 || b.rows[0][0] != "metric" {
			continue
		}
		for _, row := range b.rows[1:] {
			labels := codes(row[1])
			slices.Sort(labels)
			documented = append(documented, strings.Join(append(codes(row[0]), labels...), " "))
		}
	}
	sameSet(t, "metrics", documented, got)
}

// inSource finds what a pattern matches in files of the code.
func inSource(t *testing.T, pattern string, names ...string) (found []string) {
	t.Helper()
	for _, name := range names {
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, name), -1) {
			found = append(found, match[1])
		}
	}
	return found
}

// TestReasons: the page has each reason, and no other.
func TestReasons(t *testing.T) {
	reasons := slices.Concat(
		inSource(t, `\treturn "([a-z_]+)"`, "../jwtauth/metrics.go"),
		inSource(t, `Reason: "([a-z_]+)"`, "../jwtauth/handler.go"),
		inSource(t, `reason[A-Z]\w+ += "([a-z_]+)"`, "../mcpproxy/refuse.go"),
		inSource(t, `return "([a-z_]+)"`, "../mcpproxy/stdio/refusal.go"),
		inSource(t, `reason[A-Z]\w+ += "([a-z_]+)"`, "../celauthz/policy.go"),
		inSource(t, `\t\treturn "([a-z_]+)"\n`, "../celauthz/answer.go"),
	)
	reasons = slices.DeleteFunc(reasons, func(reason string) bool { return reason == "ok" })
	sameSet(t, "reasons", column(blocks(t, "metrics.md"), "reason", 0), reasons)
}

// TestLogFields: the page has each field and each attribute, and no other.
func TestLogFields(t *testing.T) {
	fields := slices.Concat(
		inSource(t, `"(mcp\.[a-z]+)"`, "../internal/cfutil/accesslog.go"),
		inSource(t, `AddString\("([a-z_]+)"`, "../celauthz/audit.go"),
	)
	list := blocks(t, "metrics.md")
	sameSet(t, "fields", column(list, "field", 0), fields)
	sameSet(t, "attributes", column(list, "attribute", 0), inSource(t, `"((?:mcp|gen_ai)\.[a-z._]+)"`, "../celauthz/observe.go"))
}

// TestStates: the page has each state of an issuer and each result of a
// refresh, and no other.
func TestStates(t *testing.T) {
	list := blocks(t, "operations.md")
	sameSet(t, "states", column(list, "state", 0), inSource(t, `"(ok|failing|stale|unavailable)"`, "../jwtauth/status.go"))
	sameSet(t, "results", column(list, "result", 0), inSource(t, `\tRefresh\w+ = "([a-z_]+)"`, "../internal/app/registry.go"))
	var endpoints []string
	for _, endpoint := range column(list, "endpoint", 0) {
		_, path, _ := strings.Cut(endpoint, " ")
		endpoints = append(endpoints, path)
	}
	sameSet(t, "endpoints", endpoints, inSource(t, `\t"(/mcp/[a-z/]+)":`, "../internal/adminapi/adminapi.go"))
}

// TestAuditRecipe: the log that the page shows gets a line for each decision.
func TestAuditRecipe(t *testing.T) {
	g := serve(t, example(t, "metrics.md", "log audit"))
	g.ask(post(signed("", `{"sub":"alice","client_id":"app","groups":["dev"]}`), callGetMe))
	file := filepath.Join(g.logs, "audit.log")
	for deadline := time.Now().Add(time.Minute); ; {
		line, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if strings.HasSuffix(string(line), "\n") {
			for _, want := range []string{`"sub":"alice"`, `"client_id":"app"`, `"mcp.target":"get_me"`, `"mcp.decision":"allow"`} {
				if !strings.Contains(string(line), want) {
					t.Errorf("%s is missing in %s", want, line)
				}
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("there is no line")
		}
	}
}

// TestShadowRecipe: the rules of the page that are tried refuse nothing.
func TestShadowRecipe(t *testing.T) {
	g := serve(t, example(t, "operations.md", "shadow"))
	answer := g.ask(post(signed("", `{"groups":["dev"]}`), callGetMe))
	if answer.Header().Get(reached) == "" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}
