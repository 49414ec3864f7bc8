package jwtauth

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// diagnosedServer is an authorization server with documents; ISSUER in them
// is its address with the path.
type diagnosedServer struct {
	*keyServer
	issuer string
}

func newDiagnosedServer(t *testing.T, path string, documents map[string]string) *diagnosedServer {
	t.Helper()
	s := &diagnosedServer{keyServer: newKeyServer(t)}
	s.issuer = s.URL + path
	for path, document := range documents {
		s.on(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=120")
			says(strings.ReplaceAll(document, "ISSUER", s.issuer))(w, r)
		})
	}
	return s
}

func (s *diagnosedServer) diagnose(t *testing.T) *Diagnosis {
	t.Helper()
	d, err := Diagnose(t.Context(), s.issuer, DiagnoseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// finding is what a diagnosis says about a subject, "level: message" each.
func finding(d *Diagnosis, subject string) string {
	var list []string
	for _, f := range d.Findings {
		if f.Subject == subject {
			list = append(list, f.Level+": "+f.Message)
		}
	}
	return strings.Join(list, "\n")
}

const goodMetadata = `{"issuer":"ISSUER","jwks_uri":"ISSUER/keys","authorization_endpoint":"ISSUER/auth","token_endpoint":"ISSUER/token",
"registration_endpoint":"ISSUER/register","client_id_metadata_document_supported":true,"code_challenge_methods_supported":["plain","S256"],
"token_endpoint_auth_methods_supported":["none","client_secret_basic"],"grant_types_supported":["authorization_code","refresh_token"],
"response_types_supported":["code"],"authorization_response_iss_parameter_supported":true,"protected_resources":["https://mcp.example.com/mcp"],
"scopes_supported":["openid","mcp:use"],"id_token_signing_alg_values_supported":["HS256","ES256"]}`

func TestDiagnoseGoodServer(t *testing.T) {
	keys := mcptest.Set(mcptest.NewKey("ES256", "a"), mcptest.NewKey("EdDSA", "b"))
	s := newDiagnosedServer(t, "", map[string]string{"/.well-known/openid-configuration": goodMetadata, "/keys": keys})
	d := s.diagnose(t)
	if !d.OK() || !d.Discoverable || d.KeysURL != s.issuer+"/keys" || d.Issuer != s.issuer {
		t.Errorf("%+v", d)
	}
	for _, f := range d.Findings {
		if f.Level == LevelError || f.Level == LevelWarning && f.Subject != "issuer" {
			t.Errorf("%+v", f)
		}
	}
	for subject, want := range map[string]string{
		"issuer":            "warning: is not https",
		"discovery":         "ok: the document is this issuer's own",
		"PKCE":              "ok: S256 is announced",
		"registration":      "ok: client ID metadata documents are accepted\nok: dynamic, at " + s.issuer + "/register (RFC 7591)",
		"issuer in answers": "ok: announced (RFC 9207)",
		"resources":         "note: tokens are issued for https://mcp.example.com/mcp (RFC 9728)",
		"scopes":            "note: openid mcp:use",
		"algorithms":        "note: ID tokens are signed with HS256, ES256",
		"keys":              "ok: 2 of 2 can be used; they are fetched again every 2m0s",
	} {
		if got := finding(d, subject); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", subject, got, want)
		}
	}
	want := []DiagnosedKey{{KeyID: "a", Type: "EC", Algorithm: "ES256", Use: "sig"}, {KeyID: "b", Type: "OKP", Algorithm: "EdDSA", Use: "sig"}}
	if !slices.Equal(d.Keys, want) {
		t.Errorf("keys %+v", d.Keys)
	}
	if len(d.Places) != 2 || d.Places[0].Problem != "the answer has status 404" || d.Places[1].Problem != "" || !d.Places[0].Gateway || !d.Places[1].Gateway {
		t.Errorf("places %+v", d.Places)
	}
	// nothing is asked for twice
	s.wantAsked(t, "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/keys")
}

// TestDiagnoseBareServer: what RFC 8414 makes optional and MCP clients need.
func TestDiagnoseBareServer(t *testing.T) {
	keys := mcptest.Set(mcptest.NewKey("RS256", "a"))
	bare := `{"issuer":"ISSUER","jwks_uri":"ISSUER/keys"}`
	s := newDiagnosedServer(t, "/realms/acme", map[string]string{"/.well-known/oauth-authorization-server/realms/acme": bare, "/realms/acme/keys": keys})
	d := s.diagnose(t)
	if !d.OK() || !d.Discoverable {
		t.Errorf("%+v", d)
	}
	for subject, want := range map[string]string{
		"authorization_endpoint": "warning: is missing: clients cannot log in",
		"token_endpoint":         "warning: is missing: clients cannot log in",
		"registration":           "warning: neither client ID metadata documents nor dynamic registration",
		"PKCE":                   "warning: S256 is not in code_challenge_methods_supported",
		"clients":                "warning: `none` is not in token_endpoint_auth_methods_supported",
		"issuer in answers":      "note: ",
		"resources":              "note: no metadata announces resource indicators (RFC 8707)",
		"grants":                 "", "scopes": "", "algorithms": "",
	} {
		if got := finding(d, subject); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", subject, got, want)
		}
	}
	if len(d.Places) != 3 || d.Places[0].Problem != "" || d.Places[1].Gateway || !strings.HasSuffix(d.Places[1].URL, "/.well-known/openid-configuration/realms/acme") ||
		!strings.HasSuffix(d.Places[2].URL, "/realms/acme/.well-known/openid-configuration") {
		t.Errorf("places %+v", d.Places)
	}
}

// TestDiagnoseMetadata: one member of the document each.
func TestDiagnoseMetadata(t *testing.T) {
	keys := mcptest.Set(mcptest.NewKey("ES256", "a"))
	for _, test := range []struct{ from, to, subject, want string }{
		{`"S256"`, `"S512"`, "PKCE", "warning: "},
		{`["plain","S256"]`, `"S256"`, "PKCE", "warning: "},
		{`"ISSUER/auth"`, `"ftp://x/"`, "authorization_endpoint", `warning: "ftp://x/" is not an https URL`},
		{`"ISSUER/token"`, `1`, "token_endpoint", "warning: is missing"},
		{`"authorization_code",`, ``, "grants", "warning: authorization_code is not in grant_types_supported"},
		{`["code"]`, `["id_token"]`, "grants", "warning: code is not in response_types_supported"},
		{`"none",`, ``, "clients", "warning: "},
		{`_supported":true,"code`, `_supported":"true","code`, "registration", "ok: dynamic"},
		{`"registration_endpoint":"ISSUER/register",`, ``, "registration", "ok: client ID metadata documents are accepted"},
		{`"ES256"`, `"none"`, "algorithms", "warning: "},
	} {
		document := strings.Replace(goodMetadata, test.from, test.to, 1)
		if document == goodMetadata {
			t.Fatalf("%s is not in the document", test.from)
		}
		d := newDiagnosedServer(t, "", map[string]string{"/.well-known/openid-configuration": document, "/keys": keys}).diagnose(t)
		if got := finding(d, test.subject); !strings.HasPrefix(got, test.want) || !d.OK() {
			t.Errorf("%s -> %s: %q, want %q", test.from, test.to, got, test.want)
		}
	}
}

// TestDiagnoseBrokenServer: what the gateway cannot work with is an error,
// and the same that a gateway would log.
func TestDiagnoseBrokenServer(t *testing.T) {
	keys := mcptest.Set(mcptest.NewKey("ES256", "a"))
	for name, test := range map[string]struct {
		document, keys, subject, want, problem string
	}{
		"nothing":         {"", keys, "discovery", "error: no document of this issuer was found", "the answer has status 404"},
		"another issuer":  {strings.Replace(goodMetadata, `"issuer":"ISSUER"`, `"issuer":"ISSUER/"`, 1), keys, "discovery", "error: ", `the document is for issuer "`},
		"no issuer":       {strings.Replace(goodMetadata, `"issuer":"ISSUER",`, ``, 1), keys, "discovery", "error: ", `the document is for issuer ""`},
		"duplicates":      {strings.Replace(goodMetadata, `{`, `{"issuer":"x",`, 1), keys, "discovery", "error: ", "duplicate member name"},
		"no JSON":         {`<html>`, keys, "discovery", "error: ", "not valid JSON"},
		"no keys address": {strings.Replace(goodMetadata, `"ISSUER/keys"`, `""`, 1), keys, "discovery", "error: ", `"" is not the URL of a key set`},
		"no keys":         {goodMetadata, "", "keys", "error: the answer has status 404", ""},
		"empty set":       {goodMetadata, `{"keys":[]}`, "keys", "error: key set has no usable key", ""},
		"no set":          {goodMetadata, `[]`, "keys", "error: key set: ", ""},
	} {
		documents := map[string]string{}
		if test.document != "" {
			documents["/.well-known/openid-configuration"] = test.document
		}
		if test.keys != "" {
			documents["/keys"] = test.keys
		}
		d := newDiagnosedServer(t, "", documents).diagnose(t)
		if got := finding(d, test.subject); d.OK() || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if problem := d.Places[1].Problem; !strings.HasPrefix(problem, test.problem) || test.problem == "" && problem != "" {
			t.Errorf("%s: problem %q, want %q", name, problem, test.problem)
		}
	}
}

// TestDiagnoseKeys: which keys are used, and why the others are not.
func TestDiagnoseKeys(t *testing.T) {
	encrypting := mcptest.NewKey("RS256", "enc").JWK()
	encrypting["use"] = "enc"
	nameless := mcptest.NewKey("ES256", "").JWK()
	good, twin := mcptest.NewKey("ES256", "good"), mcptest.NewKey("ES256", "twin")
	set := mcptest.Set(good, encrypting, nameless, mcptest.NewKey("HS256", "secret"), twin, twin, map[string]any{"kty": "XX", "kid": "odd"})
	d := newDiagnosedServer(t, "", map[string]string{"/.well-known/oauth-authorization-server": goodMetadata, "/keys": set}).diagnose(t)
	if got := finding(d, "keys"); !d.OK() || !strings.HasPrefix(got, "ok: 1 of 7 can be used") {
		t.Errorf("%q", got)
	}
	for i, want := range []string{
		"", `is not for signatures (use "enc")`, "has no kid", "is symmetric", "another key has the same kid", "another key has the same kid", "cannot be read",
	} {
		if got := d.Keys[i].Problem; !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("key %d: %q, want %q", i, got, want)
		}
	}
}

// TestDiagnosePlaces: where only clients look, and where two documents do not
// say the same.
func TestDiagnosePlaces(t *testing.T) {
	keys := mcptest.Set(mcptest.NewKey("ES256", "a"))
	s := newDiagnosedServer(t, "/t", map[string]string{"/.well-known/openid-configuration/t": goodMetadata, "/t/keys": keys})
	d := s.diagnose(t)
	if got := finding(d, "discovery"); d.Discoverable || !d.OK() || d.KeysURL != s.issuer+"/keys" || !strings.HasPrefix(got, "warning: `jwks discover` does not look") {
		t.Errorf("%q %+v", got, d)
	}
	s = newDiagnosedServer(t, "/t", map[string]string{
		"/.well-known/oauth-authorization-server/t": strings.Replace(goodMetadata, "/keys", "/other", 1),
		"/t/.well-known/openid-configuration":       goodMetadata, "/t/keys": keys,
	})
	d = s.diagnose(t)
	if got := finding(d, "discovery"); got != "warning: the documents name different places for the keys" || d.KeysURL != s.issuer+"/keys" || !d.OK() {
		t.Errorf("%q %+v", got, d)
	}
}

func TestDiagnoseRefuses(t *testing.T) {
	for _, issuer := range []string{"", "x", "ftp://x", "https://x?a", "https://x#a", "https://user@x", "https://", "//x"} {
		d, err := Diagnose(t.Context(), issuer, DiagnoseOptions{})
		if err != nil || d.OK() || !strings.HasPrefix(finding(d, "issuer"), "error: discovery needs an http(s) URL") {
			t.Errorf("%s: %v, %+v", issuer, err, d)
		}
	}
	for _, options := range []DiagnoseOptions{{CA: []byte("x")}, {Proxy: "x"}} {
		if d, err := Diagnose(t.Context(), "https://idp.example.com", options); err == nil {
			t.Errorf("%+v: %+v", options, d)
		}
	}
}
