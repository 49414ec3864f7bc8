package jwtauth_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/jwtauth"
)

const (
	wellKnown  = "/.well-known/oauth-protected-resource"
	notFound   = `{"error":"not_found"}`
	mcpAddress = "https://mcp.example.com/mcp"
)

// jwtFor is an mcp_jwt with a matcher and a resource.
func jwtFor(matcher, url, options string) string {
	return "mcp_jwt " + matcher + " {\nissuer " + siteIssuer + " {\njwks inline `" + mcptest.Set(siteTokens.Key) + "`\n}\n" +
		"resource " + url + " {\n" + options + "\n}\n}\n"
}

// wantDocument wants the metadata of a resource.
func wantDocument(t *testing.T, address, host, path, resource string) {
	t.Helper()
	response, body := send(t, address, get(host, path))
	var document struct {
		Resource             string
		AuthorizationServers []string `json:"authorization_servers"`
	}
	if err := json.Unmarshal([]byte(body), &document); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %q", path, response.StatusCode, body)
	}
	if document.Resource != resource || !slices.Equal(document.AuthorizationServers, []string{siteIssuer}) {
		t.Errorf("%s: %s, want the document of %s", path, body, resource)
	}
	if h := response.Header; h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("WWW-Authenticate") != "" {
		t.Errorf("%s: headers %v", path, h)
	}
}

func wantNotFound(t *testing.T, address, host, path string, lines ...string) {
	t.Helper()
	response, body := send(t, address, get(host, path, lines...))
	if response.StatusCode != http.StatusNotFound || body != notFound || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: %d %q (%s), want a 404 in JSON", path, response.StatusCode, body, response.Header.Get("Content-Type"))
	}
	if h := response.Header; h.Get("Access-Control-Allow-Origin") != "*" || h.Get("WWW-Authenticate") != "" {
		t.Errorf("%s: headers %v", path, h)
	}
}

// The document says all that the configuration says, and the issuers that
// have a URL.
func TestDocument(t *testing.T) {
	keys := "jwks inline `" + mcptest.Set(siteTokens.Key) + "`"
	address := startSite(t, "http://mcp.example.com {\nmcp_jwt {\nissuer "+siteIssuer+" {\n"+keys+"\n}\nissuer internal {\n"+keys+"\n}\nissuer http://other.example {\n"+keys+`
	}
	resource `+mcpAddress+` {
		scopes mcp:use files:read
		name "Acme <tools> \"1\""
		documentation https://docs.example.com/mcp
		policy https://docs.example.com/policy
		tos https://docs.example.com/tos
	}
}
respond upstream
}`)
	_, body := send(t, address, get("mcp.example.com", wellKnown+"/mcp"))
	var got, want any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	err := json.Unmarshal([]byte(`{
		"resource": "https://mcp.example.com/mcp",
		"authorization_servers": ["https://idp.example.com", "http://other.example"],
		"scopes_supported": ["mcp:use", "files:read"],
		"bearer_methods_supported": ["header"],
		"resource_name": "Acme <tools> \"1\"",
		"resource_documentation": "https://docs.example.com/mcp",
		"resource_policy_uri": "https://docs.example.com/policy",
		"resource_tos_uri": "https://docs.example.com/tos"
	}`), &want)
	if err != nil {
		t.Fatal(err)
	}
	if mcptest.JSON(got) != mcptest.JSON(want) {
		t.Errorf("document %s", body)
	}
}

// The document is where RFC 9728 says, and clients that do not know the path
// find it as well. Nobody needs a token for it.
func TestDocumentPaths(t *testing.T) {
	for name, site := range map[string]string{
		"whole site":                        jwtFor("", mcpAddress, "") + "respond upstream",
		"path matcher":                      jwtFor("/mcp*", mcpAddress, "") + "respond upstream 404",
		"named":                             "@mcp path /mcp /mcp/*\n" + jwtFor("@mcp", mcpAddress, "") + "handle /mcp* {\nrespond upstream\n}",
		"route":                             "route {\n" + jwtFor("/mcp", mcpAddress, "") + "respond /mcp upstream\n}",
		"handle":                            "handle {\n" + jwtFor("", mcpAddress, "") + "respond upstream\n}",
		"behind the path of another handle": "handle /public/* {\nrespond public\n}\nhandle {\n" + jwtFor("", mcpAddress, "") + "respond upstream\n}",
		"reached by a wider path":           "handle /.well-known/* {\n" + jwtFor("", mcpAddress, "") + "}\nrespond /mcp upstream",
	} {
		t.Run(name, func(t *testing.T) {
			address := startSite(t, "http://mcp.example.com {\n"+site+"\n}\n")
			for _, path := range []string{wellKnown + "/mcp", wellKnown + "/mcp/", wellKnown + "/mcp?x=1", wellKnown, wellKnown + "/"} {
				wantDocument(t, address, "mcp.example.com", path, mcpAddress)
			}
			for _, path := range []string{"/.well-known/oauth-authorization-server", wellKnown + "/mcp/x", wellKnown + "/other", wellKnown + "mcp"} {
				wantNotFound(t, address, "mcp.example.com", path)
			}
		})
	}
}

// With a guard for the whole site, somebody without a token gets the 404 as
// well: a 401 would send clients round in circles.
func TestGuardedSiteAnswers404(t *testing.T) {
	address := startSite(t, "http://mcp.example.com {\n"+jwtFor("", mcpAddress, "")+"respond upstream\n}\n")
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/mcp", wellKnown + "/x"} {
		wantNotFound(t, address, "mcp.example.com", path)
		wantNotFound(t, address, "mcp.example.com", path, "Authorization: Bearer x")
		wantNotFound(t, address, "mcp.example.com", path, "Origin: https://evil.example")
	}
	// what is not metadata is guarded as ever
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/", "/mcp", "/.well-known/oauth"} {
		if response, _ := send(t, address, get("mcp.example.com", path)); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
}

// What a site handles itself stays as it is.
func TestMetadataOfTheSiteItself(t *testing.T) {
	address := startSite(t, "http://mcp.example.com {\n"+jwtFor("/mcp*", mcpAddress, "")+`
	handle /.well-known/oauth-authorization-server {
		header X-Mine yes
		header Content-Type application/json
		respond "{\"issuer\":\"x\"}"
	}
	handle /.well-known/oauth-mine {
		respond mine
	}
	handle /.well-known/oauth-gone {
		header Content-Type application/json
		respond "{\"gone\":true}" 404
	}
	handle /.well-known/oauth-text {
		respond "no such page" 404
	}
	handle /.well-known/oauth-page {
		header Content-Type "text/html; charset=utf-8"
		respond "<h1>Welcome</h1>"
	}
	handle /.well-known/oauth-broken {
		respond broken 500
	}
	handle /.well-known/oauth-error {
		error "no" 404
	}
	handle /.well-known/oauth-shaped {
		error "no" 405
	}
	handle_errors 405 {
		respond "shaped {err.status_code}"
	}
}`)
	for path, want := range map[string]string{
		"authorization-server": `200 {"issuer":"x"}`,
		"mine":                 `200 mine`,
		"gone":                 `404 {"gone":true}`,
		"text":                 `404 ` + notFound,
		"page":                 `404 ` + notFound,
		"broken":               `500 broken`,
		"error":                `404 ` + notFound,
		"shaped":               `405 shaped 405`,
		"nothing":              `404 ` + notFound,
	} {
		response, body := send(t, address, get("mcp.example.com", "/.well-known/oauth-"+path))
		if got := response.Status[:4] + body; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
		if path == "authorization-server" && response.Header.Get("X-Mine") != "yes" {
			t.Error("a header of the site is lost")
		}
	}
}

// Several resources of one site keep their documents apart, and none of them
// is the site's one resource.
func TestSeveralResources(t *testing.T) {
	a, b := "https://mcp.example.com/a/mcp", "https://mcp.example.com/b/mcp"
	for name, site := range map[string]string{
		"paths": jwtFor("/a/*", a, "") + jwtFor("/b/*", b, "") + "respond upstream 404",
		"names": "@a path /a /a/*\n@b path /b /b/*\n" + jwtFor("@a", a, "") + jwtFor("@b", b, "") + "respond upstream 404",
		"route": "route {\n" + jwtFor("/a/*", a, "") + jwtFor("/b/*", b, "") + "respond upstream 404\n}",
	} {
		t.Run(name, func(t *testing.T) {
			address := startSite(t, "http://mcp.example.com {\n"+site+"\n}\n")
			wantDocument(t, address, "mcp.example.com", wellKnown+"/a/mcp", a)
			wantDocument(t, address, "mcp.example.com", wellKnown+"/b/mcp", b)
			for _, path := range []string{wellKnown, wellKnown + "/", wellKnown + "/a", wellKnown + "/c/mcp"} {
				wantNotFound(t, address, "mcp.example.com", path)
			}
			for path, metadata := range map[string]string{"/a/x": "/a/mcp", "/b/x": "/b/mcp"} {
				response, _ := send(t, address, get("mcp.example.com", path))
				want := `Bearer resource_metadata="https://mcp.example.com` + wellKnown + metadata + `"`
				if got := response.Header.Get("WWW-Authenticate"); got != want {
					t.Errorf("%s: %s, want %s", path, got, want)
				}
			}
		})
	}
	t.Run("sites", func(t *testing.T) {
		address := startSite(t, "http://a.example {\n"+jwtFor("", "https://a.example/mcp", "")+"}\nhttp://b.example {\n"+jwtFor("", "https://b.example/mcp", "")+"}\n")
		wantDocument(t, address, "a.example", wellKnown, "https://a.example/mcp")
		wantDocument(t, address, "b.example", wellKnown, "https://b.example/mcp")
	})
	t.Run("root and path", func(t *testing.T) {
		address := startSite(t, "http://mcp.example.com {\n"+jwtFor("/a/*", a, "")+jwtFor("/b/*", "https://mcp.example.com", "")+"respond upstream 404\n}\n")
		wantDocument(t, address, "mcp.example.com", wellKnown+"/a/mcp", a)
		wantDocument(t, address, "mcp.example.com", wellKnown, "https://mcp.example.com")
	})
}

// The audience of a token is the resource, if nothing else is said.
func TestResourceIsTheAudience(t *testing.T) {
	for resource, audiences := range map[string]map[string]bool{
		mcpAddress:                     {mcpAddress: true, mcpAddress + "/": false, "https://mcp.example.com": false, "https://mcp.example.com/MCP": false},
		"https://mcp.example.com":      {"https://mcp.example.com": true, "https://mcp.example.com/": true, mcpAddress: false},
		"https://mcp.example.com/":     {"https://mcp.example.com": true, "https://mcp.example.com/": true, "https://mcp.example.com//": false},
		"https://mcp.example.com/mcp/": {"https://mcp.example.com/mcp/": true, mcpAddress: false},
	} {
		address := startSite(t, "http://mcp.example.com {\n"+jwtFor("", resource, "")+"respond upstream\n}\n")
		for audience, ok := range audiences {
			token := siteTokens.Token("alice", map[string]any{"aud": audience})
			response, body := send(t, address, get("mcp.example.com", "/mcp", "Authorization: Bearer "+token))
			if (response.StatusCode == http.StatusOK) != ok {
				t.Errorf("%s, a token for %s: %d %q", resource, audience, response.StatusCode, body)
			}
		}
		noAudience, _ := send(t, address, get("mcp.example.com", "/mcp", "Authorization: Bearer "+siteTokens.Token("alice", map[string]any{"aud": nil})))
		if noAudience.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: a token without audience: %d", resource, noAudience.StatusCode)
		}
	}
}

// Challenges lead to the document, and say which scopes to ask for.
func TestChallengesNameTheResource(t *testing.T) {
	const where = `Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"`
	address := startSite(t, "http://mcp.example.com {\n"+jwtFor("", mcpAddress, "scopes mcp:use files:read")+"respond upstream\n}\n")
	for name, test := range map[string]struct{ line, want string }{
		"no token":  {"X: y", where + `, scope="mcp:use files:read"`},
		"bad token": {"Authorization: Bearer x", where + `, scope="mcp:use files:read", error="invalid_token", error_description="the token header is malformed: not a compact JWS"`},
		// row 69: neither Host nor X-Forwarded-Host gets into it
		"forged": {"X-Forwarded-Host: evil.example", where + `, scope="mcp:use files:read"`},
	} {
		response, _ := send(t, address, get("mcp.example.com", "/mcp", test.line, "X-Forwarded-Proto: http"))
		if got := response.Header.Get("WWW-Authenticate"); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestMetadataMethods(t *testing.T) {
	address := startSite(t, "http://mcp.example.com {\n"+jwtFor("", mcpAddress, "")+"respond upstream\n}\n")
	for _, path := range []string{wellKnown + "/mcp", wellKnown, "/.well-known/oauth-authorization-server"} {
		request := strings.Replace(get("mcp.example.com", path, "Origin: https://any.example", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: mcp-protocol-version"), "GET", "OPTIONS", 1)
		response, body := send(t, address, request)
		h := response.Header
		if response.StatusCode != http.StatusNoContent || body != "" || h.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(h.Get("Access-Control-Allow-Methods"), "GET") || h.Get("Access-Control-Allow-Headers") != "*, Authorization" {
			t.Errorf("OPTIONS %s: %d %q %v", path, response.StatusCode, body, h)
		}
	}
	response, body := send(t, address, strings.Replace(get("mcp.example.com", wellKnown+"/mcp", "Content-Length: 0"), "GET", "POST", 1))
	if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET, HEAD, OPTIONS" || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("POST: %d %q", response.StatusCode, body)
	}
}

// load adapts a Caddyfile and provisions it, or says why that fails.
func load(t *testing.T, text string) error {
	t.Helper()
	doc, _, err := caddyfile.Adapter{ServerType: httpcaddyfile.ServerType{}}.Adapt([]byte("{\nadmin off\n}\n"+text), nil)
	if err != nil {
		return err
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(doc, config); err != nil {
		t.Fatal(err)
	}
	_, err = caddy.ProvisionContext(config)
	return err
}

// A document that nobody could get is an error, with what to write instead.
func TestUnreachableMetadata(t *testing.T) {
	for name, site := range map[string]string{
		"handle":           "handle /mcp* {\n" + jwtFor("", mcpAddress, "") + "}",
		"route":            "route /mcp {\n" + jwtFor("", mcpAddress, "") + "}",
		"handle_path":      "handle_path /mcp/* {\n" + jwtFor("", mcpAddress, "") + "}",
		"named":            "@m path /mcp /x\nhandle @m {\n" + jwtFor("", mcpAddress, "") + "}",
		"regular":          "@m path_regexp ^/mcp\nhandle @m {\n" + jwtFor("", mcpAddress, "") + "}",
		"handle in handle": "handle {\nhandle /mcp* {\n" + jwtFor("", mcpAddress, "") + "}\n}",
		"wrong path":       "handle /.well-known/oauth-protected-resource/other {\n" + jwtFor("", mcpAddress, "") + "}",
	} {
		err := load(t, "http://mcp.example.com {\n"+site+"\n}\n")
		if err == nil || !strings.Contains(err.Error(), "mcp_jwt <matcher>") || !strings.Contains(err.Error(), `"`+mcpAddress+`"`) ||
			!strings.Contains(err.Error(), wellKnown+"/mcp") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// what depends on the client is no reason
	for name, site := range map[string]string{
		"address": "@m remote_ip 192.0.2.0/24\nhandle @m {\n" + jwtFor("", mcpAddress, "") + "}",
		"header":  "@m header X y\nroute @m {\n" + jwtFor("", mcpAddress, "") + "}",
		"twin":    "handle /mcp* {\n" + jwtFor("", "https://x.example/mcp", "") + "}",
	} {
		err := load(t, "http://mcp.example.com {\n"+site+"\n}\n")
		if (err == nil) != (name != "twin") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The handler alone, in JSON.
func TestMetadataConfiguration(t *testing.T) {
	provision := func(m *jwtauth.Metadata) error {
		ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
		if err != nil {
			t.Fatal(err)
		}
		return m.Provision(ctx)
	}
	idp := []string{siteIssuer}
	for name, m := range map[string]*jwtauth.Metadata{
		"nothing":                 {},
		"no issuer":               {Resource: &jwtauth.Resource{URL: mcpAddress}},
		"no issuer that is a URL": {Resource: &jwtauth.Resource{URL: mcpAddress}, AuthorizationServers: []string{"internal"}},
		"no URL":                  {Resource: &jwtauth.Resource{URL: "mcp"}, AuthorizationServers: idp},
		"empty placeholder":       {Resource: &jwtauth.Resource{URL: "{env.NO_SUCH_RESOURCE}"}, AuthorizationServers: idp},
		"bad scope":               {Resource: &jwtauth.Resource{URL: mcpAddress, Scopes: []string{`a"b`}}, AuthorizationServers: idp},
	} {
		if err := provision(m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	t.Setenv("TEST_RESOURCE", mcpAddress)
	t.Setenv("TEST_ISSUER", siteIssuer)
	if err := provision(&jwtauth.Metadata{Resource: &jwtauth.Resource{URL: "{env.TEST_RESOURCE}"}, AuthorizationServers: []string{"{env.TEST_ISSUER}"}}); err != nil {
		t.Error(err)
	}
}
