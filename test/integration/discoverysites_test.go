package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestDiscoverySlash: a resource whose URL ends with a slash, and one that is the whole site.
func TestDiscoverySlash(t *testing.T) {
	for path, want := range map[string]struct {
		metadata  string
		found     []string
		audiences []string
	}{
		"/mcp/": {
			"/.well-known/oauth-protected-resource/mcp/",
			[]string{"/.well-known/oauth-protected-resource/mcp/", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"},
			[]string{"/mcp/"},
		},
		"": {
			"/.well-known/oauth-protected-resource",
			[]string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/"},
			[]string{"", "/"},
		},
		"/": {
			"/.well-known/oauth-protected-resource",
			[]string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/"},
			[]string{"", "/"},
		},
	} {
		t.Run("resource "+path, func(t *testing.T) {
			g := start(t, "http://:PORT {"+discoveryJWT("", path)+discoveryRest+"}\n")
			challenge := fmt.Sprintf(`401 Bearer resource_metadata="HERE%s", scope="mcp:use files:read"`, want.metadata)
			if got := g.ask("2025-11-25", "POST /mcp"); got != challenge {
				t.Errorf("challenge %s, want %s", got, challenge)
			}
			for _, request := range want.found {
				if got := g.ask("2025-11-25", "GET "+request); got != "200 resource HERE"+path {
					t.Errorf("%s: %s", request, got)
				}
			}
			for _, audience := range []string{"", "/", "/mcp", "/mcp/", "/other"} {
				status := http.StatusUnauthorized
				if slices.Contains(want.audiences, audience) {
					status = http.StatusOK
				}
				token := g.token("alice", map[string]any{"aud": "http://" + g.address + audience})
				g.post(token, readFile).expect(t, "a token for "+audience, status, "")
			}
		})
	}
}

// TestDiscoverySeveral: MCP servers on one site have a document each, and tokens of their own. None is that of the site.
func TestDiscoverySeveral(t *testing.T) {
	handles := "\n	handle /a/* {" + discoveryRest + "	}\n	handle /b/* {" + discoveryRest + "	}\n"
	for name, site := range map[string]string{
		"paths":   discoveryJWT("/a/*", "/a/mcp") + discoveryJWT("/b/*", "/b/mcp") + discoveryRest,
		"handles": discoveryJWT("/a/*", "/a/mcp") + discoveryJWT("/b/*", "/b/mcp") + handles,
		"route":   "\n	route {" + discoveryJWT("/a/*", "/a/mcp") + discoveryJWT("/b/*", "/b/mcp") + discoveryRest + "	}\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, "http://:PORT {"+site+"}\n")
			for _, path := range []string{"/a/mcp", "/b/mcp"} {
				want := fmt.Sprintf(`401 Bearer resource_metadata="HERE/.well-known/oauth-protected-resource%s", scope="mcp:use files:read"`, path)
				if got := g.ask("2025-11-25", "POST "+path); got != want {
					t.Errorf("%s: %s, want %s", path, got, want)
				}
				for _, slash := range []string{"", "/"} {
					if got := g.ask("2025-11-25", "GET /.well-known/oauth-protected-resource"+path+slash); got != "200 resource HERE"+path {
						t.Errorf("%s%s: %s", path, slash, got)
					}
				}
				token := g.token("alice", map[string]any{"aud": "http://" + g.address + path})
				for _, other := range []string{"/a/mcp", "/b/mcp"} {
					status := http.StatusUnauthorized
					if path == other {
						status = http.StatusOK
					}
					g.send("POST", other, token, readFile).expect(t, "token for "+path+" at "+other, status, "")
				}
			}
			g.reached("each with its token", 2)
			for _, path := range []string{
				"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/", "/.well-known/oauth-protected-resource/a",
				"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server/a/mcp",
			} {
				if got := g.ask("2025-11-25", "GET "+path); got != absent {
					t.Errorf("%s: %s", path, got)
				}
			}
		})
	}
}

// TestDiscoveryOutOfReach: where no client could get to the document, the configuration does not load, and the old one
// goes on. The message says what to write.
func TestDiscoveryOutOfReach(t *testing.T) {
	g := start(t, "http://:PORT {"+discoveryJWT("", "/mcp")+discoveryRest+"}\n")
	for name, site := range map[string]string{
		"handle":           "\n	handle /mcp* {" + discoveryJWT("", "/mcp") + discoveryRest + "	}\n",
		"handle_path":      "\n	handle_path /mcp* {" + discoveryJWT("", "/mcp") + discoveryRest + "	}\n",
		"route":            "\n	route /mcp* {" + discoveryJWT("", "/mcp") + discoveryRest + "	}\n",
		"handle in handle": "\n	handle {\n	handle /mcp* {" + discoveryJWT("", "/mcp") + discoveryRest + "	}\n	}\n",
		"one of two":       discoveryJWT("/a*", "/a") + "\n	handle /mcp* {" + discoveryJWT("", "/mcp") + discoveryRest + "	}\n",
	} {
		err := caddy.Load(g.adapt("http://:PORT {"+site+"}\n"), true)
		if err == nil || !strings.Contains(err.Error(), "/.well-known/oauth-protected-resource/mcp") || !strings.Contains(err.Error(), "mcp_jwt <matcher>") {
			t.Errorf("%s: %v", name, err)
		}
		if got := g.ask("2025-11-25", "GET /.well-known/oauth-protected-resource/mcp"); got != found {
			t.Errorf("%s: after the failure: %s", name, got)
		}
	}
}

// TestDiscoveryIssuerDown: clients learn where to log in although nobody is there right now. Without a token there is
// nothing to check, so that is no reason for a 503 either.
func TestDiscoveryIssuerDown(t *testing.T) {
	nobody := "http://127.0.0.1:" + freePort(t)
	g := start(t, "http://:PORT {\n	mcp_jwt "+nobody+" {\n		resource http://127.0.0.1:PORT/mcp\n	}"+discoveryRest+"}\n")
	for _, path := range []string{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"} {
		a := g.send("GET", path, "", "")
		a.expect(t, path, http.StatusOK, fmt.Sprintf(`"authorization_servers":[%q]`, nobody))
		if strings.Contains(a.body, "scopes_supported") {
			t.Errorf("scopes that nobody has configured: %s", a.body)
		}
	}
	want := `401 Bearer resource_metadata="HERE/.well-known/oauth-protected-resource/mcp"`
	if got := g.ask("2025-11-25", "POST /mcp"); got != want {
		t.Errorf("challenge %s, want %s", got, want)
	}
	g.reached("without a token", 0)
}

// TestDiscoveryOptional: where a token is not needed for everything, a refusal leads to one, and nothing else does.
func TestDiscoveryOptional(t *testing.T) {
	site := strings.Replace(discoveryJWT("", "/mcp"), "mcp_jwt  {", "mcp_jwt {\n		mode optional", 1) +
		strings.Replace(discoveryRest, "allow true", "allow `mcp.tool.name == \"read_file\" || jwt.sub == \"alice\"`", 1)
	g := start(t, "http://:PORT {"+site+"}\n")
	g.post("", readFile).expect(t, "what anybody may do", http.StatusOK, `"result"`)
	g.reached("what anybody may do", 1)
	other := strings.Replace(readFile, "read_file", "write_file", 1)
	a := g.post("", other)
	a.expect(t, "what alice may do, by nobody", http.StatusUnauthorized, "authentication failure: no bearer token found")
	if got := strings.ReplaceAll("401 "+a.header.Get("WWW-Authenticate"), "http://"+g.address, "HERE"); got != challenged {
		t.Errorf("challenge %s", got)
	}
	aud := map[string]any{"aud": "http://" + g.address + "/mcp"}
	// somebody who has logged in is not sent to do it again
	b := g.post(g.token("bob", aud), other)
	b.expect(t, "what alice may do, by bob", http.StatusOK, "Unknown tool: write_file")
	if challenge := b.header.Get("WWW-Authenticate"); challenge != "" {
		t.Errorf("bob is asked for another token: %s", challenge)
	}
	g.reached("refused", 0)
	g.post(g.token("alice", aud), other).expect(t, "what alice may do", http.StatusOK, `"result"`)
	g.reached("alice", 1)
}
