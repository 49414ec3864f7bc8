package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/celauthz"
	"github.com/caddymcp/gateway/jwtauth"
	"github.com/caddymcp/gateway/mcpproxy"
)

// directives are the pages that describe one directive each, with the folder
// of their code and the types of their JSON.
var directives = []struct {
	page, folder string
	types        []reflect.Type
}{
	{"mcp_jwt.md", "../jwtauth", []reflect.Type{
		reflect.TypeFor[jwtauth.Handler](), reflect.TypeFor[jwtauth.Issuer](),
		reflect.TypeFor[jwtauth.JWKS](), reflect.TypeFor[jwtauth.TokenSource](), reflect.TypeFor[jwtauth.Resource](),
	}},
	{"mcp_authorize.md", "../celauthz", []reflect.Type{
		reflect.TypeFor[celauthz.Handler](), reflect.TypeFor[celauthz.Rule](), reflect.TypeFor[celauthz.Scope](),
	}},
	{"mcp_proxy.md", "../mcpproxy", []reflect.Type{reflect.TypeFor[mcpproxy.Handler](), reflect.TypeFor[mcpproxy.Stdio]()}},
}

// TestSyntax: the syntax on a page is that of the code, and its tables have
// each option, and no other.
func TestSyntax(t *testing.T) {
	for _, d := range directives {
		syntax := syntaxOf(t, d.folder)
		list := blocks(t, d.page)
		if i := slices.IndexFunc(list, func(b *block) bool { return b.rows == nil }); list[i].text != syntax {
			t.Errorf("%s: the syntax of the code is\n%s", d.page, syntax)
		}
		sameSet(t, d.page+": options", column(list, "option", 0), options(syntax))
	}
}

// TestJSONFields: the tables have each field of the JSON, and no other.
func TestJSONFields(t *testing.T) {
	for _, d := range directives {
		var fields []string
		for _, typ := range d.types {
			for field := range typ.Fields() {
				if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && !field.Anonymous {
					fields = append(fields, name)
				}
			}
		}
		sameSet(t, d.page+": JSON", column(blocks(t, d.page), "option", 1), fields)
	}
}

// TestPlaceholders: the page has each placeholder that the type's
// documentation has, and no other.
func TestPlaceholders(t *testing.T) {
	placeholder := regexp.MustCompile(`\{[a-z]+\.[a-z.<>]+\}`)
	for _, d := range directives[:2] {
		doc := docOf(t, d.folder+"/handler.go", func(decl ast.Decl) *ast.CommentGroup {
			if decl, ok := decl.(*ast.GenDecl); ok && decl.Tok == token.TYPE && decl.Specs[0].(*ast.TypeSpec).Name.Name == "Handler" {
				return decl.Doc
			}
			return nil
		})
		sameSet(t, d.page+": placeholders", column(blocks(t, d.page), "placeholder", 0), placeholder.FindAllString(doc, -1))
	}
}

// TestVariables: the page has each variable, and no other.
func TestVariables(t *testing.T) {
	declaration := regexp.MustCompile(`\{"([a-z.]+)", cel\.`)
	var variables []string
	for _, match := range declaration.FindAllStringSubmatch(read(t, "../celauthz/env.go"), -1) {
		variables = append(variables, match[1])
	}
	sameSet(t, "variables", column(blocks(t, "mcp_authorize.md"), "variable", 0), variables)
}

// TestFunctions: the conditions that show functions are true.
func TestFunctions(t *testing.T) {
	conditions := column(blocks(t, "mcp_authorize.md"), "of", 1)
	if len(conditions) < 10 {
		t.Errorf("only %d conditions found", len(conditions))
	}
	for _, condition := range conditions {
		g := serve(t, "mcp_authorize {\n\tallow `"+condition+"`\n}\n")
		if got := play(t, g, "`{}`", "`ping`"); got != "allowed" {
			t.Errorf("%s is not true: %s", condition, got)
		}
	}
}

// TestInstallation: the README builds the Caddy that is tested.
func TestInstallation(t *testing.T) {
	line := strings.TrimSpace(read(t, "../xcaddy.txt"))
	if !strings.Contains(read(t, "../README.md"), "    "+line+"\n") {
		t.Errorf("the README lacks the line %q", line)
	}
}

// syntaxOf is the block in the documentation of UnmarshalCaddyfile.
func syntaxOf(t *testing.T, folder string) string {
	t.Helper()
	doc := docOf(t, folder+"/caddyfile.go", func(decl ast.Decl) *ast.CommentGroup {
		if decl, ok := decl.(*ast.FuncDecl); ok && decl.Name.Name == "UnmarshalCaddyfile" {
			return decl.Doc
		}
		return nil
	})
	var syntax strings.Builder
	for line := range strings.Lines(doc) {
		if text, ok := strings.CutPrefix(line, "\t"); ok {
			syntax.WriteString(text)
		}
	}
	return syntax.String()
}

// docOf is the text of the comment that choose finds in a file.
func docOf(t *testing.T, name string, choose func(ast.Decl) *ast.CommentGroup) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if doc := choose(decl); doc != nil {
			return doc.Text()
		}
	}
	t.Fatalf("%s has no such comment", name)
	return ""
}

// options are the first words of the lines inside the braces: each of them in
// `allow | deny | require <cel>`.
func options(syntax string) (list []string) {
	lines := strings.Split(syntax, "\n")
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		for i := 0; i < len(words) && regexp.MustCompile(`^[a-z_]+$`).MatchString(words[i]); i += 2 {
			list = append(list, words[i])
			if i+1 == len(words) || words[i+1] != "|" {
				break
			}
		}
	}
	return list
}

// column collects what stands in backticks in a column of the tables whose
// first column has the given title.
func column(list []*block, title string, n int) (texts []string) {
	for _, b := range list {
		if len(b.rows) == 0 || b.rows[0][0] != title {
			continue
		}
		for _, row := range b.rows[1:] {
			texts = append(texts, codes(row[n])...)
		}
	}
	return texts
}

// sameSet compares without regard to order and repetition.
func sameSet(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Compact(slices.Sorted(slices.Values(got))), slices.Compact(slices.Sorted(slices.Values(want)))
	if len(want) == 0 {
		t.Errorf("%s: the code has none", what)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the documentation has\n%s\nthe code\n%s", what, fmt.Sprint(got), fmt.Sprint(want))
	}
}
