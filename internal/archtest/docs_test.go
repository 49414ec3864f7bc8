package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// directives lists the Caddyfile directives that caddyfile/ registers.
func directives(files []goFile) (found []string) {
	for _, f := range files {
		if f.dir() != "caddyfile" || f.isTest() {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "RegisterHandlerDirective" && sel.Sel.Name != "RegisterDirective" {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				name, _ := strconv.Unquote(lit.Value)
				found = append(found, name)
			}
			return true
		})
	}
	return found
}

func TestEveryDirectiveHasAPage(t *testing.T) {
	names := directives(goFiles(t))
	for _, name := range []string{"mcp_jwt", "mcp_authorize", "mcp_proxy"} {
		if !slices.Contains(names, name) {
			t.Errorf("caddyfile/ does not register %s with a literal name", name)
			names = append(names, name)
		}
	}
	for _, name := range names {
		if !exists("docs/" + name + ".md") {
			t.Errorf("the directive %s has no docs/%s.md", name, name)
		}
	}
}

var (
	fence     = regexp.MustCompile("^ {0,3}(```+|~~~+)")
	codeSpan  = regexp.MustCompile("`[^`]*`")
	heading   = regexp.MustCompile(`^ {0,3}#{1,6}[ \t]+(.*?)[ \t#]*$`)
	inline    = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+["'(][^)]*)?\)`)
	reference = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)`)
	anchor    = regexp.MustCompile(`<a\s+(?:id|name)="([^"]+)"`)
	markedUp  = regexp.MustCompile(`!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])`)
	scheme    = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

// page is what of a Markdown file can be linked, and what it links.
type page struct {
	anchors []string
	links   []string
	lines   []int // of links
}

func parsePage(text string) (p page) {
	open := "" // the fence of the code block we are in
	seen := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		if m := fence.FindStringSubmatch(line); m != nil {
			switch {
			case open == "":
				open = m[1]
			case strings.HasPrefix(m[1], open):
				open = ""
			}
			continue
		}
		if open != "" {
			continue
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			s := slug(m[1])
			if n := seen[s]; n > 0 {
				p.anchors = append(p.anchors, fmt.Sprintf("%s-%d", s, n))
			} else {
				p.anchors = append(p.anchors, s)
			}
			seen[s]++
		}
		line = codeSpan.ReplaceAllString(line, "``") // a link around code stays one
		for _, m := range anchor.FindAllStringSubmatch(line, -1) {
			p.anchors = append(p.anchors, m[1])
		}
		targets := inline.FindAllStringSubmatch(line, -1)
		targets = append(targets, reference.FindAllStringSubmatch(line, -1)...)
		for _, m := range targets {
			p.links = append(p.links, m[1])
			p.lines = append(p.lines, i+1)
		}
	}
	return p
}

// slug makes the anchor that GitHub gives to a heading.
func slug(title string) string {
	title = markedUp.ReplaceAllString(title, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

// brokenLinks complains about relative links that lead nowhere. What is on other hosts is not looked at.
func brokenLinks(pages map[string]page, exists func(string) bool) (complaints []string) {
	for name, p := range pages {
		for i, link := range p.links {
			if scheme.MatchString(link) {
				continue
			}
			complain := func(why string) {
				complaints = append(complaints, fmt.Sprintf("%s:%d: %s: %s", name, p.lines[i], link, why))
			}
			file, fragment, _ := strings.Cut(link, "#")
			file, err := url.PathUnescape(file)
			if err != nil {
				complain(err.Error())
				continue
			}
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			switch other, isPage := pages[target]; {
			case strings.HasPrefix(file, "/"):
				complain("is absolute")
			case target == ".." || strings.HasPrefix(target, "../"):
				complain("leaves the repository")
			case !exists(target):
				complain("there is no such file")
			case fragment != "" && isPage && !slices.Contains(other.anchors, fragment):
				complain("there is no such heading")
			}
		}
	}
	slices.Sort(complaints)
	return complaints
}

func TestLinks(t *testing.T) {
	pages := map[string]page{}
	for _, name := range names(t, ".md") {
		pages[name] = parsePage(read(t, name))
	}
	report(t, brokenLinks(pages, exists))
}

func TestLinksCanFail(t *testing.T) {
	texts := map[string]string{
		"README.md": "# The `mcp_jwt` gate: who, what & where?\n" +
			"[a](docs/a.md) [b](docs/a.md#set-up-1) [c](#the-mcp_jwt-gate-who-what--where) [d](docs/)\n" +
			"[`e`](docs/a.md#here) [f](https://example.com/x#y) [g](<docs/a.md> \"title\") `[no](link)`\n" +
			"```md\n[no](link)\n```\n" +
			"[h]: docs/a.md#linked\n" +
			"![i](missing.png) [j](docs/a.md#nowhere)\n" +
			"[k](/docs/a.md)\n",
		"docs/a.md": "## Set up\n## Set up ##\n### [Linked](../README.md)\n<a id=\"here\"></a>\n" +
			"[l](../../x.md)\n[m]: b.md\n",
	}
	pages := map[string]page{}
	for name, text := range texts {
		pages[name] = parsePage(text)
	}
	there := func(name string) bool { return name == "docs" || texts[name] != "" }
	expect(t, brokenLinks(pages, there),
		"README.md:8: docs/a.md#nowhere: there is no such heading",
		"README.md:8: missing.png: there is no such file",
		"README.md:9: /docs/a.md: is absolute",
		"docs/a.md:5: ../../x.md: leaves the repository",
		"docs/a.md:6: b.md: there is no such file",
	)
}
