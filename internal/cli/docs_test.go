package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// page is docs/cli.md.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// codeBlock is the first block of a language.
func codeBlock(t *testing.T, text, lang string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n```"+lang+"\n")
	block, _, _ := strings.Cut(rest, "\n```")
	if !ok {
		t.Fatalf("docs/cli.md has no block %q", lang)
	}
	return block + "\n"
}

// TestDocsFlags: the page has every flag in its command's section, and no
// other.
func TestDocsFlags(t *testing.T) {
	text := page(t)
	flagName := regexp.MustCompile("`--([a-z-]+)`")
	for _, c := range []command{keygenCommand, tokenCommand, checkCommand, explainCommand, doctorCommand} {
		name, _, _ := strings.Cut(c.use, " ")
		_, section, ok := strings.Cut(text, "\n## caddy mcp "+name+"\n")
		if !ok {
			t.Errorf("no section about %s", name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n## ")
		flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
		c.flags(flags)
		flags.VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(section, "`--"+f.Name+"`") {
				t.Errorf("%s: --%s is not on the page", name, f.Name)
			}
		})
		for line := range strings.Lines(section) {
			if !strings.HasPrefix(line, "| `--") {
				continue
			}
			cell, _, _ := strings.Cut(line[1:], "|")
			for _, m := range flagName.FindAllStringSubmatch(cell, -1) {
				if flags.Lookup(m[1]) == nil {
					t.Errorf("%s: there is no --%s", name, m[1])
				}
			}
		}
	}
}

// TestDocsExamples: the cases on the page hold for its rules, and what it
// says is printed is printed.
func TestDocsExamples(t *testing.T) {
	text := page(t)
	cases := codeBlock(t, text, "yaml")
	inFolder(t, map[string]string{
		"Caddyfile": "http://mcp.example.com {\n" + codeBlock(t, text, "caddyfile") + "}\n", "cases.yaml": cases,
	})
	execute(t, "", "check", "--cases", "cases.yaml").wants(t, exitOK, "6 cases, 6 passed, 0 failed")

	if err := os.WriteFile("cases.yaml", []byte(strings.Replace(cases, "expect: hidden", "expect: allow", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(text, "printed as a diff:\n")
	execute(t, "", "check", "--cases", "cases.yaml").wants(t, exitFound, codeBlock(t, after, ""))

	_, after, _ = strings.Cut(text, "\n## caddy mcp explain\n")
	_, after, _ = strings.Cut(after, "or that it does not apply.\n")
	execute(t, "", "explain", "--claims", `{"sub":"dora","groups":["dev"]}`, "tools/call", "drop", `{"all":true}`).wants(t, exitOK, codeBlock(t, after, ""))
}
