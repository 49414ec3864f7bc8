package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The directives, and the files that read them.
var caddyfileSources = map[string]string{
	"mcp_jwt":       "../../jwtauth/caddyfile.go",
	"mcp_authorize": "../../celauthz/caddyfile.go",
	"mcp_proxy":     "../../mcpproxy/caddyfile.go",
}

func parseSource(t *testing.T, file string) *ast.File {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// adaptedText is all Caddyfiles of adapt/ that adapt, and all errors of the others.
func adaptedText(t *testing.T) (caddyfiles, failures string) {
	t.Helper()
	var good, bad strings.Builder
	for _, file := range goldenFiles(t) {
		for _, g := range readGoldens(t, file) {
			if strings.HasPrefix(g.want, "{") {
				good.WriteString(g.caddyfile)
			} else {
				bad.WriteString(g.want + "\n")
			}
		}
	}
	return good.String(), bad.String()
}

// TestEveryOptionHasAGolden wants each option that the documentation of a directive names to be in a Caddyfile that
// adapts.
func TestEveryOptionHasAGolden(t *testing.T) {
	caddyfiles, _ := adaptedText(t)
	for directive, source := range caddyfileSources {
		var doc string
		for _, decl := range parseSource(t, source).Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Name.Name == "UnmarshalCaddyfile" {
				doc = fn.Doc.Text()
			}
		}
		options := documentedOptions(doc)
		if !slices.Contains(options, directive) || len(options) < 2 {
			t.Errorf("%s: the documentation of UnmarshalCaddyfile shows only %q", directive, options)
		}
		for _, option := range options {
			if !regexp.MustCompile(`(?m)^\s*` + option + `\b`).MatchString(caddyfiles) {
				t.Errorf("%s: no Caddyfile of adapt/ uses %s", directive, option)
			}
		}
	}
}

var optionLine = regexp.MustCompile(`^\t\s*([a-z_]+(?: \| [a-z_]+)*)\b`)

// documentedOptions are the first words of the indented lines: one, or the alternatives of `allow | deny <cel>`.
func documentedOptions(doc string) []string {
	var options []string
	for line := range strings.Lines(doc) {
		if match := optionLine.FindStringSubmatch(line); match != nil {
			options = append(options, strings.Split(match[1], " | ")...)
		}
	}
	return options
}

// TestEveryErrorHasAGolden wants each message that reading a Caddyfile can end in to be seen in a golden.
func TestEveryErrorHasAGolden(t *testing.T) {
	_, failures := adaptedText(t)
	sources := maps.Clone(caddyfileSources)
	sources["the helpers of all"] = "../../internal/cfutil/args.go"
	sources["stdio of mcp_proxy"] = "../../mcpproxy/stdio_caddyfile.go"
	for directive, source := range sources {
		messages := errorMessages(t, source)
		if len(messages) < 2 {
			t.Errorf("%s: only %q", directive, messages)
		}
		for _, message := range messages {
			if !formatRegexp(message).MatchString(failures) {
				t.Errorf("%s: no golden ends in the error %q", directive, message)
			}
		}
	}
}

// errorMessages are the texts and formats of the errors that a file makes.
func errorMessages(t *testing.T, source string) []string {
	t.Helper()
	var messages []string
	ast.Inspect(parseSource(t, source), func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Err", "Errf", "New", "Errorf"}, selector.Sel.Name) {
			return true
		}
		if text, ok := constantText(call.Args[0]); ok {
			messages = append(messages, text)
		}
		return true
	})
	return messages
}

// constantText evaluates a string literal, or a sum of them.
func constantText(expr ast.Expr) (string, bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, ok := constantText(e.X)
		right, ok2 := constantText(e.Y)
		return left + right, ok && ok2
	default:
		return "", false
	}
}

var verb = regexp.MustCompile(`%[a-z]`)

// formatRegexp matches what a format can come to.
func formatRegexp(format string) *regexp.Regexp {
	parts := verb.Split(format, -1)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(strings.Join(parts, ".+"))
}

// TestEveryErrorHasALine wants every error to say where it is.
func TestEveryErrorHasALine(t *testing.T) {
	line := regexp.MustCompile(`, at Caddyfile:\d+( import chain \[.+\])?$`)
	for _, file := range goldenFiles(t) {
		for _, g := range readGoldens(t, file) {
			if !strings.HasPrefix(g.want, "{") && !line.MatchString(g.want) {
				t.Errorf("%s: %q: the error does not end in its file and line: %s", file, g.title, g.want)
			}
		}
	}
}
