package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// discoveryJWT is an mcp_jwt with a matcher and the path of its resource.
func discoveryJWT(matcher, path string) string {
	return fmt.Sprintf(`
	mcp_jwt %s {
		issuer https://idp.example.com {
			jwks file KEYS
		}
		resource http://127.0.0.1:PORT%s {
			scopes mcp:use files:read
		}
	}`, matcher, path)
}

// discoveryRest is what stands behind it.
const discoveryRest = `
	mcp_authorize {
		allow true
	}
	mcp_proxy http://UPSTREAM/mcp
`

// ask makes one request as clients do that look for metadata, and says in short what the answer was. HERE stands for
// the gateway's origin.
func (g *gateway) ask(version, request string) string {
	g.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	body, headers := "", []string{"Accept", "application/json", "Mcp-Protocol-Version", version}
	if method == http.MethodPost {
		body = initialize
	}
	a := g.send(method, path, "", body, headers...)
	short := func(text string) string { return strings.ReplaceAll(text, "http://"+g.address, "HERE") }
	if strings.HasPrefix(path, "/.well-known/oauth-") && a.header.Get("Access-Control-Allow-Origin") != "*" {
		g.t.Errorf("%s: pages cannot read the answer", request)
	}
	if challenge := a.header.Get("WWW-Authenticate"); challenge != "" {
		return short(fmt.Sprintf("%d %s", a.status, challenge))
	}
	var document struct {
		Resource string
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported"`
	}
	if a.header.Get("Content-Type") != "application/json" || json.Unmarshal([]byte(a.body), &document) != nil {
		return fmt.Sprintf("%d %q", a.status, a.body)
	}
	if a.status != http.StatusOK {
		return fmt.Sprintf("%d JSON", a.status)
	}
	if !slices.Equal(document.Servers, []string{"https://idp.example.com"}) || !slices.Equal(document.Scopes, []string{"mcp:use", "files:read"}) {
		g.t.Errorf("%s: %s", request, a.body)
	}
	return short("200 resource " + document.Resource)
}

// The requests of clients, in their order, that look for the authorization server of HERE/mcp, and the answers.
// A client ends when it has found a document; here each goes on to the end.
const (
	challenged = `401 Bearer resource_metadata="HERE/.well-known/oauth-protected-resource/mcp", scope="mcp:use files:read"`
	found      = "200 resource HERE/mcp"
	absent     = "404 JSON"
)

type exchange struct{ request, answer string }

var discoveries = []struct {
	client, version string
	exchanges       []exchange
}{
	// The MCP server's origin is where the authorization server must be. The document is not there, and its absence
	// must be a 404: then a client takes the paths that the specification names, and asks there for a token.
	{"base URL", "2025-03-26", []exchange{
		{"POST /mcp", challenged},
		{"GET /.well-known/oauth-authorization-server", absent},
	}},
	// The challenge names the document.
	{"challenge", "2025-06-18", []exchange{
		{"POST /mcp", challenged},
		{"GET /.well-known/oauth-protected-resource/mcp", found},
	}},
	// Clients of that time that did not read challenges, and those that began with the root.
	{"root form", "2025-06-18", []exchange{
		{"GET /.well-known/oauth-protected-resource", found},
	}},
	{"root form, then the base URL", "2025-06-18", []exchange{
		{"GET /.well-known/oauth-protected-resource", found},
		{"GET /.well-known/oauth-authorization-server/mcp", absent},
		{"GET /.well-known/oauth-authorization-server", absent},
	}},
	// The challenge first; without, the form with the path and then the root form.
	{"challenge", "2025-11-25", []exchange{
		{"POST /mcp", challenged},
		{"GET /.well-known/oauth-protected-resource/mcp", found},
	}},
	{"path form, then root form", "2025-11-25", []exchange{
		{"GET /.well-known/oauth-protected-resource/mcp", found},
		{"GET /.well-known/oauth-protected-resource", found},
	}},
	{"challenge", "2026-07-28", []exchange{
		{"POST /mcp", challenged},
		{"GET /.well-known/oauth-protected-resource/mcp", found},
	}},
	{"path form, then root form", "2026-07-28", []exchange{
		{"GET /.well-known/oauth-protected-resource/mcp", found},
		{"GET /.well-known/oauth-protected-resource", found},
	}},
	// With a slash at the end: of the MCP server's URL, which the SDK for Go keeps, or of any of the forms.
	{"slashes", "2025-11-25", []exchange{
		{"POST /mcp/", challenged},
		{"GET /.well-known/oauth-protected-resource/mcp/", found},
		{"GET /.well-known/oauth-protected-resource/", found},
		{"GET /.well-known/oauth-authorization-server/mcp/", absent},
		{"GET /.well-known/oauth-authorization-server/", absent},
	}},
	// The SDK for TypeScript takes the query along; other resources are none of this site's.
	{"others", "2025-11-25", []exchange{
		{"GET /.well-known/oauth-protected-resource/mcp?a=b", found},
		{"GET /.well-known/oauth-protected-resource/mcp/more", absent},
		{"GET /.well-known/oauth-protected-resource/other", absent},
		{"GET /.well-known/oauth-protected-resources", absent},
		{"GET /.well-known/oauth-client-metadata", absent},
	}},
}

// TestDiscovery plays what clients of each version of the specification ask, with mcp_jwt wherever it may stand.
func TestDiscovery(t *testing.T) {
	for name, site := range map[string]string{
		"site":           discoveryJWT("", "/mcp") + discoveryRest,
		"path matcher":   discoveryJWT("/mcp*", "/mcp") + discoveryRest,
		"named matcher":  "\n	@mcp path /mcp /mcp/*" + discoveryJWT("@mcp", "/mcp") + discoveryRest,
		"route":          "\n	route {" + discoveryJWT("/mcp*", "/mcp") + discoveryRest + "	}\n",
		"handle":         "\n	handle {" + discoveryJWT("", "/mcp") + discoveryRest + "	}\n",
		"before handles": discoveryJWT("/mcp*", "/mcp") + "\n	handle /mcp* {" + discoveryRest + "	}\n	handle /page* {\n		respond \"a page\"\n	}\n",
		"among pages":    discoveryJWT("/mcp*", "/mcp") + "\n	handle /mcp* {" + discoveryRest + "	}\n	handle {\n		respond \"<h1>Not found</h1>\" 404\n	}\n",
		"one page for all": discoveryJWT("/mcp*", "/mcp") + "\n	handle /mcp* {" + discoveryRest + "	}\n" +
			"	handle {\n		header Content-Type text/html\n		respond \"<h1>Welcome</h1>\"\n	}\n",
		"error pages": discoveryJWT("", "/mcp") + discoveryRest +
			"\n	handle_errors 404 {\n		respond \"<h1>Not found</h1>\"\n	}\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, "http://:PORT {"+site+"}\n")
			for _, d := range discoveries {
				for _, e := range d.exchanges {
					if got := g.ask(d.version, e.request); got != e.answer {
						t.Errorf("%s, %s: %s: %s, want %s", d.version, d.client, e.request, got, e.answer)
					}
				}
			}
			g.expectPreflights("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server")
			g.reached("looking for metadata", 0)
			g.post(g.token("alice", map[string]any{"aud": "http://" + g.address + "/mcp"}), readFile).expect(t, "alice", http.StatusOK, `"result"`)
			g.reached("with a token", 1)
		})
	}
}

// expectPreflights: a page of any site may read metadata, with the header that clients send.
func (g *gateway) expectPreflights(paths ...string) {
	g.t.Helper()
	for _, path := range paths {
		a := g.send("OPTIONS", path, "", "", "Origin", "https://inspector.example.com",
			"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "mcp-protocol-version")
		allowed := a.header.Get("Access-Control-Allow-Headers")
		if a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "GET") || !strings.HasPrefix(allowed, "*") {
			g.t.Errorf("OPTIONS %s: %d %v", path, a.status, a.header)
		}
	}
}

// TestDiscoveryFallback: a client of 2025-03-26 that found no document asks for tokens at these paths of the MCP
// server's origin. It must not take what is behind the gateway for an authorization server.
func TestDiscoveryFallback(t *testing.T) {
	g := start(t, "http://:PORT {"+discoveryJWT("", "/mcp")+discoveryRest+"}\n")
	for _, request := range []string{
		"GET /authorize?response_type=code", "POST /token", "POST /register",
		// those of OpenID Connect
		"GET /.well-known/openid-configuration", "GET /.well-known/openid-configuration/mcp", "GET /mcp/.well-known/openid-configuration",
	} {
		if got := g.ask("2025-03-26", request); got != challenged {
			t.Errorf("%s: %s", request, got)
		}
	}
	g.reached("without a token", 0)
}
