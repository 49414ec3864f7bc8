package integration

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

var update = flag.Bool("update", false, "write what the goldens of adapt/ came to into them; read the difference before you believe it")

// golden is one Caddyfile and what becomes of it: JSON, or an error.
type golden struct {
	title, caddyfile, want string
}

const (
	// A file holds a Caddyfile, this line, and what is expected, like Caddy's own.
	goldenDashes = "----------\n"
	// Short cases, errors above all, stand together in one file, parted by this line.
	goldenNext = "==========\n"
)

var goldenTitle = regexp.MustCompile(`^# (.+)\n`)

// readGoldens splits a file into its cases. Each of several begins with a comment, which is its title.
func readGoldens(t *testing.T, file string) []golden {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []golden
	for section := range strings.SplitSeq(string(text), goldenNext) {
		caddyfile, want, _ := strings.Cut(section, goldenDashes)
		if want == "" && !*update {
			t.Fatalf("%s: no expectation behind %q", file, caddyfile)
		}
		g := golden{caddyfile: caddyfile, want: strings.TrimSpace(want)}
		if title := goldenTitle.FindStringSubmatch(caddyfile); title != nil {
			g.title = title[1]
		}
		list = append(list, g)
	}
	return list
}

func goldenFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	return files
}

// TestAdapt adapts every Caddyfile of adapt/ and compares the JSON, or the whole text of the error.
func TestAdapt(t *testing.T) {
	t.Setenv("MCP_TEST_ISSUER", "https://idp.example.com")
	t.Setenv("MCP_TEST_UPSTREAM", "127.0.0.1:3001")
	t.Setenv("MCP_TEST_UPSTREAM_TOKEN", "s3cret")
	t.Setenv("MCP_TEST_SESSION_KEY", "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=")
	for _, file := range goldenFiles(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".caddyfiletest")
		goldens := readGoldens(t, file)
		for i := range goldens {
			g := &goldens[i]
			t.Run(name+"/"+g.title, func(t *testing.T) {
				got := g.adapt(t)
				if *update {
					g.want = got
				}
				if got != g.want {
					t.Errorf("got:\n%s\nwant:\n%s", got, g.want)
				}
			})
		}
		if *update {
			writeGoldens(t, file, goldens)
		}
	}
}

// adapt returns the JSON, or the error's text.
func (g *golden) adapt(t *testing.T) string {
	t.Helper()
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(g.caddyfile), nil)
	if err != nil {
		return err.Error()
	}
	for _, warning := range warnings {
		t.Errorf("warning: %s", warning)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, adapted, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(g.want, "{") {
		// what adapts must load, too
		validate(t, adapted)
	}
	return indented.String()
}

// validate provisions a configuration, as `caddy validate` does, and drops its log.
func validate(t *testing.T, config []byte) {
	t.Helper()
	var cfg caddy.Config
	if err := json.Unmarshal(config, &cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Admin = &caddy.AdminConfig{Disabled: true}
	cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {
		BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)},
	}}}
	cfg.StorageRaw = jsonOf(t, map[string]string{"module": "file_system", "root": t.TempDir()})
	if err := caddy.Validate(&cfg); err != nil {
		t.Errorf("it adapts, but does not load: %v", err)
	}
}

func writeGoldens(t *testing.T, file string, goldens []golden) {
	t.Helper()
	var sections []string
	for _, g := range goldens {
		sections = append(sections, g.caddyfile+goldenDashes+g.want+"\n")
	}
	if err := os.WriteFile(file, []byte(strings.Join(sections, goldenNext)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func jsonOf(t *testing.T, value any) []byte {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}
