package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gateway is a running Caddy with this plugin, and one site.
type gateway struct {
	*process
	caddyfile   string
	host        string // with the scheme
	port, admin int
	storage     string
}

// startGateway starts the gateway with the directives of one site.
func startGateway(t *testing.T, site string) *gateway {
	t.Helper()
	return startGatewayAt(t, "http://127.0.0.1", func(string) string { return site })
}

// startGatewayAt starts a gateway whose directives name its URL. The host comes with the scheme.
func startGatewayAt(t *testing.T, host string, site func(url string) string) *gateway {
	t.Helper()
	return launchGateway(t, t.TempDir(), host, site)
}

// startGatewayWith is startGateway with a folder for Caddy's storage, which several may share.
func startGatewayWith(t *testing.T, storage, site string) *gateway {
	t.Helper()
	return launchGateway(t, storage, "http://127.0.0.1", func(string) string { return site })
}

func launchGateway(t *testing.T, storage, host string, site func(url string) string) *gateway {
	t.Helper()
	g := &gateway{
		caddyfile: filepath.Join(t.TempDir(), "Caddyfile"),
		host:      host,
		port:      freePort(t),
		admin:     freePort(t),
		storage:   storage,
	}
	g.write(t, site(g.url()))
	g.process = startServing(t, caddyCommand(t, "run", "--config", g.caddyfile))
	g.waitForPort(t, g.admin)
	g.waitForPort(t, g.port)
	return g
}

// url is where clients reach the MCP server behind.
func (g *gateway) url() string { return g.origin() + "/mcp" }

// origin is the scheme, the host and the port of that URL.
func (g *gateway) origin() string { return fmt.Sprintf("%s:%d", g.host, g.port) }

// reload does what somebody does who has changed the Caddyfile. What it changes is in force when reload returns.
func (g *gateway) reload(t *testing.T, site string) {
	t.Helper()
	g.write(t, site)
	r := run(t, caddyCommand(t, "reload", "--config", g.caddyfile))
	if r.status != 0 {
		t.Fatalf("caddy reload: exit status %d", r.status)
	}
	waitForReload(t, g.port, g.admin)
	http.DefaultClient.CloseIdleConnections() // they are the old configuration's
}

func (g *gateway) write(t *testing.T, site string) {
	t.Helper()
	if err := os.WriteFile(g.caddyfile, []byte(g.config(site)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// config is a whole Caddyfile.
func (g *gateway) config(site string) string {
	address := fmt.Sprintf("http://:%d", g.port)
	if strings.HasPrefix(g.host, "https:") {
		address = g.origin()
	}
	return fmt.Sprintf(`{
	admin %s
	auto_https disable_redirects
	persist_config off
	storage file_system %q
	debug
}

%s {
	bind 127.0.0.1
%s
}
`, loopback(g.admin), g.storage, address, site)
}

// startServing starts a program that is a gateway. When it ends, its log must show neither a fault nor a secret.
func startServing(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := start(t, cmd)
	t.Cleanup(func() {
		p.stop(t)
		checkLog(t, p)
	})
	return p
}

// caddyCommand is a caddy command in the repository's root folder, with a home of its own.
func caddyCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(caddy, args...)
	cmd.Dir = repository
	home := t.TempDir()
	cmd.Env = environ("HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	return cmd
}

// faults are words that a gateway must never say.
var faults = []string{"panic:", "panic serving", "goroutine ", "DATA RACE"}

// checkLog checks what a gateway has printed: no fault, and no token of a client.
func checkLog(t *testing.T, p *process) {
	t.Helper()
	log := p.out.String()
	for _, word := range faults {
		if strings.Contains(log, word) {
			t.Errorf("%s printed %q", p.name, word)
		}
	}
	for _, user := range []string{"alice", "bob"} {
		signature := token(t, user)
		signature = signature[strings.LastIndexByte(signature, '.')+1:]
		if strings.Contains(log, signature) {
			t.Errorf("%s printed the token of %s", p.name, user)
		}
	}
}

// token is the token of alice or bob that the quickstart comes with.
func token(t *testing.T, user string) string {
	t.Helper()
	text, err := os.ReadFile(inRepository("examples/quickstart/" + user + ".jwt"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// site is a site as in the quickstart, with the given rules.
func site(rules, upstream string) string {
	return siteOf(quickstartIssuer(), rules, upstream)
}

// quickstartIssuer is the issuer of the tokens of alice and bob.
func quickstartIssuer() string {
	return fmt.Sprintf("issuer solo.io {\n\t\t\tjwks file %s\n\t\t}", inRepository("examples/quickstart/jwks.json"))
}

// siteOf is a site with the given issuers and rules.
func siteOf(issuers, rules, upstream string) string {
	return fmt.Sprintf(`	mcp_jwt {
		%s
	}
	mcp_authorize {
		%s
	}
	mcp_proxy %s {
		header_up X-User {http.auth.user.id}
	}`, issuers, rules, upstream)
}
