package docs_test

import (
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/gateway/internal/mcptest"
)

const providersPage = "identity-providers.md"

// TestProviders sends each token on the page through the configuration below
// it, and plays the table: so the names of the claims in the rules are those
// in the token. A key of the test signs it with the header on the page.
func TestProviders(t *testing.T) {
	var token, config *block
	tables := 0
	for _, b := range blocks(t, providersPage) {
		switch {
		case b.lang == "jsonc":
			token, config = b, nil
		case b.lang == "caddyfile":
			config = b
		case len(b.rows) > 0 && slices.Equal(b.rows[0], []string{"token", "operation", "answer"}):
			tables++
			if token == nil || config == nil {
				t.Fatalf("%s:%d: no token and Caddyfile precede the table", b.page, b.line)
			}
			t.Run(exampleOf(t, config.text), func(t *testing.T) { playProvider(t, token, config, b) })
		}
	}
	if tables < 7 {
		t.Errorf("only %d tables found", tables)
	}
}

// playProvider plays a table. A cell of its first column is "as above",
// changes of the claims, or "header" with changes of the header; an empty one
// repeats the cell above.
func playProvider(t *testing.T, token, config, table *block) {
	header, claims := tokenOf(t, token)
	key := mcptest.NewKey(header["alg"].(string), header["kid"].(string))
	g := serve(t, config.text, trust(t, key))

	changes := ""
	var answers []string
	for i, row := range table.rows[1:] {
		if row[0] != "" {
			changes = row[0]
		}
		head, body := maps.Clone(header), maps.Clone(claims)
		switch change, isHeader := strings.CutPrefix(changes, "header "); {
		case isHeader:
			merge(head, codes(change)[0])
		case changes != "as above":
			merge(body, codes(changes)[0])
		}
		bearer := key.Sign(mcptest.JSON(head), mcptest.JSON(body))
		got := describe(g.ask(operationRequest(codes(row[1])[0], bearer)))
		if got != row[2] {
			t.Errorf("%s:%d: %s | %s | %s, got %s", table.page, table.line+i+2, changes, row[1], row[2], got)
		}
		answers = append(answers, got)
	}
	for _, want := range []string{"allowed", "unknown", "401"} {
		if !slices.Contains(answers, want) {
			t.Errorf("%s:%d: no operation is answered %s", table.page, table.line, want)
		}
	}
}

// tokenOf reads the header and the claims of a token, and lets it be valid
// now.
func tokenOf(t *testing.T, b *block) (header, claims map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(b.text))
	if err := decoder.Decode(&header); err != nil {
		t.Fatalf("%s:%d: %v", b.page, b.line, err)
	}
	if err := decoder.Decode(&claims); err != nil {
		t.Fatalf("%s:%d: %v", b.page, b.line, err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		t.Fatalf("%s:%d: more than a header and claims", b.page, b.line)
	}
	now := time.Now()
	for name, at := range map[string]time.Time{"exp": now.Add(time.Hour), "iat": now, "nbf": now} {
		if _, has := claims[name]; has {
			claims[name] = at.Unix()
		}
	}
	return header, claims
}

// trust replaces the keys of every issuer, which are fetched otherwise.
func trust(t *testing.T, key *mcptest.Key) func(*caddy.Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, []byte(mcptest.Set(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(cfg *caddy.Config) {
		var app any
		if err := json.Unmarshal(cfg.AppsRaw["http"], &app); err != nil {
			t.Fatal(err)
		}
		for _, handler := range find(app, "mcp_jwt") {
			for _, issuer := range handler["issuers"].([]any) {
				issuer.(map[string]any)["jwks"] = map[string]any{"file": file}
			}
		}
		cfg.AppsRaw["http"] = json.RawMessage(mcptest.JSON(app))
	}
}

var (
	placeholder = regexp.MustCompile(`\{\$[A-Z_]+:([^}]*)\}`)
	indentation = regexp.MustCompile(`(?m)^\t`)
)

// exampleOf names the file in examples/ whose site is a Caddyfile of the page
// and a proxy behind it.
func exampleOf(t *testing.T, text string) string {
	t.Helper()
	files, err := filepath.Glob("../examples/identity-provider/*.caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		site := indentation.ReplaceAllString(placeholder.ReplaceAllString(read(t, file), "$1"), "")
		if strings.Contains(site, text) {
			return strings.TrimSuffix(filepath.Base(file), ".caddyfile")
		}
	}
	t.Errorf("no file in examples/identity-provider has this site:\n%s", text)
	return "none"
}

// TestProviderExamples: every file is on the page.
func TestProviderExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/identity-provider/*.caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, b := range blocks(t, providersPage) {
		if b.lang == "caddyfile" {
			shown = append(shown, "../examples/identity-provider/"+exampleOf(t, b.text)+".caddyfile")
		}
	}
	sameSet(t, providersPage+": examples", shown, files)
}
