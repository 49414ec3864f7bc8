package cli

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// idp starts an authorization server whose documents are at place; ISSUER in
// them is its address with the path.
func idp(t *testing.T, start func(*httptest.Server), path, place, document string) (server *httptest.Server, issuer string) {
	t.Helper()
	keys := mcptest.Set(mcptest.NewKey("ES256", "a"), mcptest.NewKey("HS256", "b"))
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case place:
			fmt.Fprint(w, strings.ReplaceAll(document, "ISSUER", issuer))
		case "/keys":
			fmt.Fprint(w, keys)
		default:
			http.NotFound(w, r)
		}
	}))
	start(server)
	t.Cleanup(server.Close)
	issuer = server.URL + path
	return server, issuer
}

// adapts checks that a Caddyfile can be written like this.
func adapts(t *testing.T, text string) {
	t.Helper()
	_, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil || len(warnings) != 0 {
		t.Errorf("%v %v:\n%s", err, warnings, text)
	}
}

const idpDocument = `{"issuer":"ISSUER","jwks_uri":"ROOT/keys","authorization_endpoint":"ISSUER/auth","token_endpoint":"ISSUER/token"}`

func TestDoctor(t *testing.T) {
	_, issuer := idp(t, (*httptest.Server).Start, "", "/.well-known/openid-configuration", strings.ReplaceAll(idpDocument, "ROOT", "ISSUER"))
	r := execute(t, "", "doctor", issuer)
	r.wants(t, exitOK,
		issuer+"/.well-known/oauth-authorization-server\n    the answer has status 404\n",
		issuer+"/.well-known/openid-configuration\n    found\n",
		`EC ES256 "a": can be used`, `oct HS256 "b": is symmetric`,
		"ok       discovery: the document is this issuer's own", "warning  PKCE: S256 is not in code_challenge_methods_supported",
		"ok       keys: 1 of 2 can be used",
		"\tmcp_jwt "+issuer+" {\n\t\tresource https://mcp.example.com/mcp\n\t}\n")

	r = execute(t, "", "doctor", "--json", "--resource", "http://127.0.0.1:8080/mcp", issuer)
	found := decode[struct {
		Issuer, Caddyfile string
		OK, Discoverable  bool
		JWKS              string `json:"jwks_uri"`
		Places            []struct{ URL, Problem string }
		Keys              []struct{ Kid, Problem string }
		Findings          []struct{ Level, Subject, Message string }
	}](t, r)
	if r.status != exitOK || !found.OK || !found.Discoverable || found.Issuer != issuer || found.JWKS != issuer+"/keys" || len(found.Places) != 2 ||
		len(found.Keys) != 2 || len(found.Findings) < 5 || !strings.HasPrefix(found.Caddyfile, "http://127.0.0.1:8080 {\n") {
		t.Errorf("%+v", found)
	}
	adapts(t, found.Caddyfile)
}

// TestDoctorOptions: what was needed to reach the server is in the block.
func TestDoctorOptions(t *testing.T) {
	server, issuer := idp(t, (*httptest.Server).StartTLS, "", "/.well-known/oauth-authorization-server", strings.ReplaceAll(idpDocument, "ROOT", "ISSUER"))
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	inFolder(t, map[string]string{"ca.pem": ca, "large.pem": strings.Repeat("x", maxCAFile+1), "wrong.pem": "x"})
	server.Config.ErrorLog = nil
	execute(t, "", "doctor", issuer).wants(t, exitFound, "error    discovery: no document of this issuer was found", "x509")
	r := execute(t, "", "doctor", "--ca", "ca.pem", issuer)
	r.wants(t, exitOK, "\t\tissuer "+issuer+" {\n\t\t\tjwks discover {\n\t\t\t\ttls_ca ca.pem\n\t\t\t}\n\t\t}\n")
	if strings.Contains(r.stdout, "not https") {
		t.Error(r.stdout)
	}
	_, block, _ := strings.Cut(r.stdout, "\nmcp.example.com {\n")
	adapts(t, "mcp.example.com {\n"+block)

	proxied := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		proxied++
		http.Error(w, "no", http.StatusBadGateway)
	}))
	defer proxy.Close()
	execute(t, "", "doctor", "--proxy", proxy.URL, "http://idp.example.com").wants(t, exitFound, "the answer has status 502")
	if proxied != 2 {
		t.Errorf("the proxy was asked %d times", proxied)
	}

	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--ca", "missing.pem"}, "no such file"},
		{[]string{"--ca", "large.pem"}, "larger than"},
		{[]string{"--ca", "wrong.pem"}, "holds no certificate"},
		{[]string{"--proxy", "x"}, "proxy: not a URL"},
		{[]string{"--resource", "x"}, "--resource must be a URL"},
		{[]string{"--resource", "https://x/{y}"}, "--resource must be a URL"},
	} {
		execute(t, "", append(append([]string{"doctor"}, test.args...), issuer)...).wants(t, exitFailed, test.want)
	}
	execute(t, "", "doctor", "idp.example.com").wants(t, exitFound, "error    issuer: discovery needs an http(s) URL")
}

// TestDoctorPlaces: a document where the gateway does not look makes a block
// with the address of the keys; an address that could write more of the
// configuration than itself makes none.
func TestDoctorPlaces(t *testing.T) {
	const place = "/.well-known/openid-configuration/t"
	server, issuer := idp(t, (*httptest.Server).Start, "/t", place, "")
	root := server.URL
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case place:
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, root+"/keys")
		case "/keys":
			fmt.Fprint(w, mcptest.Set(mcptest.NewKey("ES256", "a")))
		default:
			http.NotFound(w, r)
		}
	})
	r := execute(t, "", "doctor", issuer)
	r.wants(t, exitOK, "warning  discovery: `jwks discover` does not look where the document is", "\t\tissuer "+issuer+" {\n\t\t\tjwks url "+root+"/keys\n\t\t}\n")

	for _, evil := range []string{"/keys?x=a%20b", "/keys?{env.HOME}", "/keys?\"", "/keys? }"} {
		document := strings.ReplaceAll(`{"issuer":"ISSUER","jwks_uri":"KEYS"}`, "KEYS", "ISSUER"+strings.ReplaceAll(evil, `"`, `\"`))
		_, issuer := idp(t, (*httptest.Server).Start, "", "/.well-known/openid-configuration", document)
		r := execute(t, "", "doctor", issuer)
		harmless, err := url.Parse(evil)
		if want := err == nil && !strings.ContainsAny(harmless.RawQuery, caddyfileSyntax); strings.Contains(r.stdout, "mcp_jwt") != want {
			t.Errorf("%s: %s%s", evil, r.stdout, r.stderr)
		}
	}
}
