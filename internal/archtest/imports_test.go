package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// features are the three handlers. They meet in a configuration and in the request context, never in an import.
var features = []string{"jwtauth", "celauthz", "mcpproxy"}

// deciding are the folders where every file is pure, that is, knows nothing of Caddy, unless glueFiles lists it: what decides
// can be read, tested and fuzzed without a server.
var deciding = []string{"celauthz", "internal/mcpwire", "jwtauth", "mcpproxy/stdio"}

// glueFiles lists the files of these folders that tie the core to Caddy.
var glueFiles = []string{
	"celauthz/answer.go",
	"celauthz/audit.go",
	"celauthz/caddyfile.go",
	"celauthz/handler.go",
	"celauthz/observe.go",
	"celauthz/request.go",
	"celauthz/shadow.go",
	"celauthz/status.go",
	"jwtauth/attempt.go",
	"jwtauth/caddyfile.go",
	"jwtauth/config.go",
	"jwtauth/cors.go",
	"jwtauth/handler.go",
	"jwtauth/keypool.go",
	"jwtauth/metadata.go",
	"jwtauth/origin.go",
	"jwtauth/placeholder.go",
	"jwtauth/provision.go",
	"jwtauth/status.go",
	"jwtauth/reachable.go",
}

// Layers, from the bottom up. A package imports packages of lower layers only; helpers may import one another.
const (
	wire = iota
	reqctx
	helper
	feature
	glue
	top
	outside // commands, examples, tests of the whole: nobody imports them
)

// layer tells the layer of a folder of this repository.
func layer(dir string) int {
	switch dir {
	case "internal/mcpwire":
		return wire
	case "internal/reqctx":
		return reqctx
	case "caddyfile", "internal/adminapi", "internal/cli":
		return glue
	case ".":
		return top
	}
	switch first := topFolder(dir); {
	case slices.Contains(features, first):
		return feature
	case first == "internal":
		return helper
	}
	return outside
}

func topFolder(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// ours cuts the module path off an import path, and tells whether it was there.
func ours(imported string) (dir string, ok bool) {
	if imported == modulePath {
		return ".", true
	}
	return strings.CutPrefix(imported, modulePath+"/")
}

// wrongDirections complains about imports against `mcpwire <- reqctx <- {features} <- caddyfile <- module.go`. A test
// of a lower package may use a higher one, to try itself in a whole Caddy; but features stay apart even there.
func wrongDirections(files []goFile) (complaints []string) {
	for _, f := range files {
		from := layer(f.dir())
		for _, imported := range f.imports() {
			dir, ok := ours(imported)
			if !ok || dir == f.dir() {
				continue
			}
			to := layer(dir)
			switch {
			case from == feature && to == feature && topFolder(dir) != topFolder(f.dir()):
				complaints = append(complaints, f.path+": a feature package imports another: "+dir)
			case f.isTest() || from == outside:
			case strings.HasPrefix(dir+"/", "internal/mcptest/"):
				complaints = append(complaints, f.path+": only tests import "+dir)
			case to > from, to == from && from != helper && from != feature:
				complaints = append(complaints, f.path+": imports "+dir+", which is not below it")
			}
		}
	}
	return complaints
}

// impure complains about pure files that import Caddy, by themselves or through packages of this module, and about
// names in the list that have gone: it must not grow past what is there.
func impure(files []goFile) (complaints []string) {
	gone := slices.Clone(glueFiles)
	for _, f := range files {
		if f.isTest() || !slices.Contains(deciding, f.dir()) {
			continue
		}
		if i := slices.Index(gone, f.path); i >= 0 {
			gone = slices.Delete(gone, i, i+1)
			continue
		}
		for _, imported := range f.imports() {
			if via := reachesCaddy(files, imported, nil); via != nil {
				complaints = append(complaints, f.path+": is no glue, but imports Caddy: "+strings.Join(via, " -> "))
			}
		}
	}
	for _, name := range gone {
		complaints = append(complaints, name+": is listed as glue, but is not there")
	}
	return complaints
}

// reachesCaddy returns the way from an import to Caddy, or nil.
func reachesCaddy(files []goFile, imported string, seen []string) []string {
	if strings.HasPrefix(imported, "github.com/caddyserver/") {
		return []string{imported}
	}
	dir, ok := ours(imported)
	if !ok || slices.Contains(seen, dir) {
		return nil
	}
	for _, f := range files {
		if f.isTest() || f.dir() != dir {
			continue
		}
		for _, next := range f.imports() {
			if via := reachesCaddy(files, next, append(seen, dir)); via != nil {
				return append([]string{imported}, via...)
			}
		}
	}
	return nil
}

// forbidden complains about imports that nothing may have, or nothing that decides.
func forbidden(files []goFile) (complaints []string) {
	for _, f := range files {
		for _, imported := range f.imports() {
			switch {
			case strings.HasPrefix(imported, "github.com/lestrrat-go/jwx/v2"):
				complaints = append(complaints, fmt.Sprintf("%s: imports %s; use jwx/v3", f.path, imported))
			// It accepts any case of a name, and silently takes the last of duplicates.
			case imported == "encoding/json" && !f.isTest() && slices.Contains(deciding, f.dir()):
				complaints = append(complaints, f.path+": imports encoding/json; use go-json-experiment/json")
			}
		}
	}
	return complaints
}

func TestImportDirections(t *testing.T) { report(t, wrongDirections(goFiles(t))) }
func TestPureFiles(t *testing.T)        { report(t, impure(goFiles(t))) }
func TestForbiddenImports(t *testing.T) { report(t, forbidden(goFiles(t))) }

// importing makes a file with the given imports; "~/" stands for the module.
func importing(t *testing.T, name string, imports ...string) goFile {
	t.Helper()
	text := "package p\n"
	for _, i := range imports {
		i = strings.Replace(i, "~", modulePath, 1)
		text += fmt.Sprintf("import _ %q\n", i)
	}
	return parseGo(t, name, text)
}

func TestImportDirectionsCanFail(t *testing.T) {
	expect(t, wrongDirections([]goFile{
		importing(t, "jwtauth/handler.go", "~/internal/reqctx", "~/internal/mcpwire", "~/internal/cfutil", "fmt"),
		importing(t, "caddyfile/register.go", "~/jwtauth", "~/celauthz"),
		importing(t, "internal/cli/check.go", "~/celauthz"),
		importing(t, "internal/promutil/a.go", "~/internal/cfutil"),
		importing(t, "jwtauth/a_test.go", "~", "~/internal/mcptest"),
		importing(t, "module.go", "~/caddyfile", "~/internal/cli", "~/mcpproxy"),
		importing(t, "cmd/caddy/main.go", "~"),
	}))
	expect(t,
		wrongDirections([]goFile{
			importing(t, "internal/mcpwire/a.go", "~/internal/reqctx"),
			importing(t, "internal/reqctx/a.go", "~/internal/cfutil"),
			importing(t, "internal/cfutil/a.go", "~/jwtauth"),
			importing(t, "internal/app/a.go", "~/caddyfile"),
			importing(t, "jwtauth/a.go", "~/celauthz"),
			importing(t, "jwtauth/a_test.go", "~/mcpproxy"),
			importing(t, "mcpproxy/a.go", "~/internal/adminapi"),
			importing(t, "mcpproxy/b.go", "~/internal/mcptest"),
			importing(t, "mcpproxy/c.go", "~/internal/mcptest/sockets"),
			importing(t, "caddyfile/a.go", "~"),
			importing(t, "caddyfile/b.go", "~/internal/cli"),
		}),
		"internal/mcpwire/a.go: imports internal/reqctx,",
		"internal/reqctx/a.go: imports internal/cfutil,",
		"internal/cfutil/a.go: imports jwtauth,",
		"internal/app/a.go: imports caddyfile,",
		"jwtauth/a.go: a feature package imports another: celauthz",
		"jwtauth/a_test.go: a feature package imports another: mcpproxy",
		"mcpproxy/a.go: imports internal/adminapi,",
		"mcpproxy/b.go: only tests import internal/mcptest",
		"mcpproxy/c.go: only tests import internal/mcptest/sockets",
		"caddyfile/a.go: imports .,",
		"caddyfile/b.go: imports internal/cli,",
	)
}

func TestPureFilesCanFail(t *testing.T) {
	files := []goFile{
		importing(t, "celauthz/env.go", "strings", "~/internal/promutil"),
		importing(t, "internal/cfutil/a.go", "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"),
		importing(t, "internal/mcpwire/a_test.go", "github.com/caddyserver/caddy/v2"),
		importing(t, "internal/mcpwire/sse.go", "github.com/caddyserver/caddy/v2"),
		importing(t, "internal/promutil/a.go", "strings"),
		importing(t, "jwtauth/cache.go", "~/internal/cfutil"),
	}
	for _, name := range glueFiles[1:] {
		files = append(files, importing(t, name, "github.com/caddyserver/caddy/v2", "~/internal/cfutil"))
	}
	expect(t, impure(files),
		"internal/mcpwire/sse.go: is no glue, but imports Caddy: github.com/caddyserver/caddy/v2",
		"jwtauth/cache.go: is no glue, but imports Caddy: "+modulePath+"/internal/cfutil -> github.com/caddyserver/",
		glueFiles[0]+": is listed as glue, but is not there",
	)
}

func TestForbiddenImportsCanFail(t *testing.T) {
	expect(t,
		forbidden([]goFile{
			importing(t, "jwtauth/a.go", "encoding/json", "github.com/lestrrat-go/jwx/v3/jws"),
			importing(t, "jwtauth/a_test.go", "encoding/json"),
			importing(t, "mcpproxy/a.go", "encoding/json"),
			importing(t, "test/e2e/a_test.go", "github.com/lestrrat-go/jwx/v2/jwt"),
		}),
		"jwtauth/a.go: imports encoding/json",
		"test/e2e/a_test.go: imports github.com/lestrrat-go/jwx/v2/jwt",
	)
}
