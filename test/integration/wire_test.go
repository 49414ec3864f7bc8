package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// wireSite stands for a whole site: no matcher that a path could dodge.
const wireSite = `http://:PORT {
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
	}
	mcp_authorize {
		allow jwt.sub == "alice"
	}
	mcp_proxy http://UPSTREAM/mcp
}
`

// TestTokenOnTheWire: A58 to A64, byte by byte, because clients and libraries would not send most of it.
func TestTokenOnTheWire(t *testing.T) {
	g := start(t, wireSite)
	alice, mallory := g.token("alice"), mcptest.NewKey("EdDSA", "k1").Sign(g.issuer.Header(), mcptest.JSON(g.issuer.Claims("alice")))
	for _, test := range []struct {
		what   string
		lines  []string
		status int
		body   string
	}{
		{"the lawful request", []string{"Authorization: Bearer " + alice}, 200, `"result"`},
		{"A60 lower case", []string{"authorization: bearer " + alice}, 200, `"result"`},
		{"A60 upper case", []string{"AUTHORIZATION: BEARER " + alice}, 200, `"result"`},
		{"A60 two blanks", []string{"Authorization: Bearer  " + alice}, 200, `"result"`},
		{"A60 blanks around the value", []string{"Authorization: \t Bearer " + alice + " \t"}, 200, `"result"`},
		{"A60 a tab", []string{"Authorization: Bearer\t" + alice}, 401, "no token follows the authentication scheme"},
		{"A60 no blank", []string{"Authorization: Bearer" + alice}, 401, "no token follows the authentication scheme"},
		{"A60 a blank inside", []string{"Authorization: Bearer " + alice[:9] + " " + alice[9:]}, 401, "not base64url"},
		{"A60 another scheme", []string{"Authorization: Basic " + alice}, 401, "no bearer token found"},
		{"A60 no token", []string{"Authorization: Bearer"}, 401, "no token follows the authentication scheme"},
		{"A60 an empty header", []string{"Authorization:"}, 401, "no bearer token found"},

		{"A58 two headers, the good one first", []string{"Authorization: Bearer " + alice, "Authorization: Bearer " + mallory}, 401, "more than one header"},
		{"A58 two headers, the good one last", []string{"Authorization: Bearer " + mallory, "Authorization: Bearer " + alice}, 401, "more than one header"},
		{"A58 twice the same", []string{"Authorization: Bearer " + alice, "authorization: Bearer " + alice}, 401, "more than one header"},
		{"A58 an empty one beside", []string{"Authorization: Bearer " + alice, "Authorization:"}, 401, "more than one header"},
		{"A58 another scheme beside", []string{"Authorization: Basic YTpi", "Authorization: Bearer " + alice}, 401, "more than one header"},
		{"A59 two tokens in one header", []string{"Authorization: Bearer " + mallory + ", Bearer " + alice}, 401, "malformed"},
		{"A59 two tokens, the good one first", []string{"Authorization: Bearer " + alice + ", Bearer " + mallory}, 401, "malformed"},

		{"A62 a cookie", []string{"Cookie: access_token=" + alice + "; token=" + alice}, 401, "no bearer token found"},
		{"A63 beside a cookie that is not configured", []string{"Authorization: Bearer " + alice, "Cookie: access_token=" + mallory}, 200, `"result"`},

		// Go joins a folded line with one blank, so it is the same header (RFC 9112 section 5.2)
		{"A64 a folded line", []string{"Authorization: Bearer\r\n\t" + alice}, 200, `"result"`},
		{"A64 a folded token", []string{"Authorization: Bearer " + alice[:9] + "\r\n " + alice[9:]}, 401, "not base64url"},
		{"A64 a folded second header", []string{"Authorization: Bearer " + alice, "X-Other: a\r\n Authorization: Bearer " + mallory}, 200, `"result"`},
		{"A64 NUL in the value", []string{"Authorization: Bearer " + alice + "\x00"}, 400, "Bad Request"},
		{"A64 NUL in the name", []string{"Authorization\x00: Bearer " + alice}, 400, "Bad Request"},
		{"A64 a blank before the colon", []string{"Authorization : Bearer " + alice}, 400, "Bad Request"},
		{"A64 a bare CR", []string{"Authorization: Bearer " + alice + "\rX: y"}, 400, "Bad Request"},
		{"A64 a bare LF ends the line", []string{"X-Other: a\nAuthorization: Bearer " + alice}, 200, `"result"`},
	} {
		g.raw(rawPost("/mcp", readFile, append(test.lines, "Connection: close")...)).expect(t, test.what, test.status, test.body)
		want := 0
		if test.status == http.StatusOK {
			want = 1
		}
		g.reached(test.what, want)
	}

	// A61: a token is read from nowhere else
	for _, path := range []string{"/mcp?access_token=" + alice, "/mcp?token=" + alice + "&bearer_token=" + alice} {
		g.raw(rawPost(path, readFile, "Connection: close")).expect(t, "A61 query", 401, "no bearer token found")
	}
	form := url.Values{"access_token": {alice}}.Encode()
	r := strings.Replace(rawPost("/mcp", form, "Connection: close"), "application/json", "application/x-www-form-urlencoded", 1)
	g.raw(r).expect(t, "A61 form", 401, "no bearer token found")
	g.reached("A61", 0)
}

// TestTwoSources: A63, one credential a request (RFC 6750 section 2), whichever of them is configured.
func TestTwoSources(t *testing.T) {
	source := func(lines string) string {
		return strings.Replace(wireSite, "\tmcp_jwt {\n", "\tmcp_jwt {\n"+lines, 1)
	}
	both := "\t\ttoken_from header Authorization Bearer\n\t\ttoken_from header X-Api-Token\n\t\ttoken_from cookie session\n"
	only := "\t\ttoken_from header X-Api-Token\n"
	for _, test := range []struct {
		what, lines string
		headers     func(token string) []string
		status      int
	}{
		{"the first", both, func(token string) []string { return []string{"Authorization", "Bearer " + token} }, 200},
		{"the second", both, func(token string) []string { return []string{"X-Api-Token", token} }, 200},
		{"the first and the second", both, func(token string) []string {
			return []string{"Authorization", "Bearer " + token, "X-Api-Token", token}
		}, 400},
		{"the second and the cookie", both, func(token string) []string {
			return []string{"Cookie", "session=" + token, "X-Api-Token", token}
		}, 400},
		{"a twin with an underscore", only, func(token string) []string { return []string{"X_Api_Token", token} }, 401},
		{"only the other is configured", only, func(token string) []string { return []string{"X-Api-Token", token} }, 200},
		{"a bearer token beside the configured one", only, func(token string) []string {
			return []string{"Authorization", "Bearer " + token, "X-Api-Token", token}
		}, 400},
		{"a bearer token, but it is not configured", only, func(token string) []string {
			return []string{"Authorization", "Bearer " + token}
		}, 401},
		{"a cookie without an origin", both, func(token string) []string { return []string{"Cookie", "session=" + token} }, 403},
	} {
		t.Run(test.what, func(t *testing.T) {
			g := start(t, source(test.lines))
			headers := test.headers(g.token("alice"))
			a := g.send("POST", "/mcp", "", readFile, headers...)
			a.expect(t, test.what, test.status, "")
			want := 0
			if test.status == http.StatusOK {
				want = 1
			}
			for _, r := range g.reached(test.what, want) {
				if r.header.Get("Authorization") != "" || r.header.Get("X-Api-Token") != "" {
					t.Errorf("the token has been passed on: %v", r.header)
				}
			}
		})
	}
}

// TestIdentityHeader: A65 and A66. The upstream believes X-User, so nobody but the gateway may set or remove it.
func TestIdentityHeader(t *testing.T) {
	sites := map[string]string{
		"request_header": strings.Replace(wireSite, "\tmcp_authorize", "\trequest_header X-User {http.auth.user.id}\n\tmcp_authorize", 1),
		"header_up":      strings.Replace(wireSite, "/mcp\n}", "/mcp {\n\t\theader_up X-User {http.auth.user.id}\n\t}\n}", 1),
	}
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			g := start(t, site)
			token := "Authorization: Bearer " + g.token("alice")
			for _, test := range []struct {
				what  string
				lines []string
			}{
				{"the lawful request", nil},
				{"A65 the header named in Connection", []string{"Connection: X-User"}},
				{"A65 among others", []string{"Connection: close, x-user, Authorization"}},
				{"A65 twice", []string{"Connection: keep-alive", "Connection: X-User"}},
				{"A65 Authorization", []string{"Connection: Authorization"}},
				{"A65 with blanks", []string{"Connection:  \tX-User\t ,"}},
				{"A65 quoted", []string{`Connection: "X-User"`}},
				{"A65 Keep-Alive", []string{"Connection: keep-alive, X-User", "Keep-Alive: timeout=5"}},
				{"A65 Proxy-Connection", []string{"Proxy-Connection: X-User"}},
				{"A66 the header itself", []string{"X-User: root"}},
				{"A66 in lower case", []string{"x-user: root"}},
				{"A66 in mixed case", []string{"x-UsEr: root", "X-USER: admin"}},
				{"A66 with an underscore", []string{"X_User: root", "x_user: admin"}},
				{"A66 with a trailing underscore", []string{"X-User_: root"}},
				{"A66 many", []string{"X-User: root", "X-User: admin", "X_USER: root", "Connection: close, X-User"}},
				{"A66 the names that others use", []string{
					"Remote-User: root", "X-Forwarded-User: root", "X-Forwarded-Email: root", "X-Auth-Request-User: root",
					"X-Remote-User: root", "X-Webauth-User: root", "Remote_User: root",
				}},
				{"A66 as a trailer", []string{"Trailer: X-User"}},
			} {
				g.raw(rawPost("/mcp", readFile, append(test.lines, token)...)).expect(t, test.what, 200, `"result"`)
				for _, r := range g.reached(test.what, 1) {
					if got := r.header["X-User"]; len(got) != 1 || got[0] != "alice" {
						t.Errorf("%s: X-User is %q", test.what, got)
					}
					for header, values := range r.header {
						text := strings.Join(values, ",")
						if strings.Contains(text, "root") || strings.Contains(text, "admin") {
							t.Errorf("%s: %s: %s has reached the upstream", test.what, header, text)
						}
						if strings.Contains(header, "_") {
							t.Errorf("%s: %s has reached the upstream", test.what, header)
						}
					}
				}
			}

			// A67: a claim that could split a header is left out, and so is the header
			for _, sub := range []string{"alice\r\nX-Admin: 1", "alice\nX-Admin: 1", "alice\x7f"} {
				site := strings.Replace(site, `jwt.sub == "alice"`, "true", 1)
				a := g.push("POST", "/load", "text/caddyfile", []byte(g.caddyfile(site)))
				a.expect(t, "load", http.StatusOK, "")
				g.post(g.token(sub), readFile).expect(t, "A67", http.StatusOK, "")
				for _, r := range g.reached("A67", 1) {
					if strings.Contains(r.header.Get("X-User"), "alice") || r.header.Get("X-Admin") != "" {
						t.Errorf("A67: %q has reached the upstream as %q", sub, r.header)
					}
				}
			}
		})
	}
}

// TestTokenIsNotPassedOn: A70, and what the configuration can do about it.
func TestTokenIsNotPassedOn(t *testing.T) {
	for _, test := range []struct {
		what, from, to string
		// want is the Authorization header that reaches the upstream; TOKEN stands for the client's token.
		want string
	}{
		{"by default", "", "", ""},
		{"forward_token", "mcp_jwt {", "mcp_jwt {\n\t\tforward_token", "Bearer TOKEN"},
		{"a token of its own", "/mcp\n}", "/mcp {\n\t\theader_up Authorization \"Bearer own\"\n\t}\n}", "Bearer own"},
		{
			"forward_token, and a token of its own", "mcp_proxy http://UPSTREAM/mcp",
			"mcp_proxy http://UPSTREAM/mcp {\n\t\theader_up Authorization \"Bearer own\"\n\t}", "Bearer own",
		},
		{"a plain reverse_proxy", "mcp_proxy http://UPSTREAM/mcp", "reverse_proxy UPSTREAM", ""},
	} {
		g := start(t, strings.Replace(wireSite, test.from, test.to, 1))
		token := g.token("alice")
		for _, scheme := range []string{"Bearer", "bEARER"} {
			a := g.send("POST", "/mcp", "", readFile, "Authorization", scheme+" "+token)
			a.expect(t, test.what, http.StatusOK, `"result"`)
			for _, r := range g.reached(test.what, 1) {
				got, want := r.header.Get("Authorization"), strings.Replace(test.want, "TOKEN", token, 1)
				if !strings.EqualFold(got, want) {
					t.Errorf("%s: Authorization is %q, want %q", test.what, got, want)
				}
				for header, values := range r.header {
					if header != "Authorization" && strings.Contains(strings.Join(values, ""), token) {
						t.Errorf("%s: the token has reached the upstream in %s", test.what, header)
					}
				}
			}
		}
	}
}

// TestChallengeIsConfiguration: A69. Nothing that a client sends gets into the challenge.
func TestChallengeIsConfiguration(t *testing.T) {
	g := start(t, wireSite)
	lawful := g.raw(rawPost("/mcp", ping)).header["Www-Authenticate"]
	if len(lawful) != 1 || lawful[0] != `Bearer realm="mcp"` {
		t.Fatalf("challenge %q", lawful)
	}
	for what, request := range map[string]string{
		"Host":             strings.Replace(rawPost("/mcp", ping), "Host: localhost", "Host: evil.localhost:1", 1),
		"X-Forwarded-Host": rawPost("/mcp", ping, "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "Forwarded: host=evil.example"),
		"path":             rawPost(`/mcp",%20resource_metadata="https://evil.example/%0d%0aX-Evil:%201`, ping),
		"query":            rawPost("/mcp?realm=evil%22%0d%0aX-Evil:%201", ping),
		"X-Original-URL":   rawPost("/mcp", ping, "X-Original-URL: https://evil.example/", "X-Rewrite-URL: /evil"),
		"absolute form":    rawPost("http://evil.localhost/mcp", ping),
	} {
		a := g.raw(request)
		a.expect(t, what, 401, "no bearer token found")
		if got := a.header["Www-Authenticate"]; len(got) != 1 || got[0] != lawful[0] {
			t.Errorf("%s: challenge %q", what, got)
		}
		if a.header.Get("X-Evil") != "" {
			t.Errorf("%s: a header has been split: %v", what, a.header)
		}
	}

	// what a refused token says gets only into error_description and the body, and is quoted there
	kid := "k\"\\\r\nX-Evil: 1, realm=\"evil\x00ü"
	header := mcptest.JSON(map[string]string{"alg": "EdDSA", "kid": kid})
	a := g.post(g.issuer.Key.Sign(header, mcptest.JSON(g.issuer.Claims("alice"))), ping)
	a.expect(t, "kid", 401, `token uses the unknown key "k\"\\\r\nX-Evil: 1, realm=\"evil\x00\u00fc"`)
	want := `Bearer realm="mcp", error="invalid_token", error_description="token uses the unknown key ` +
		`'k?'???r?nX-Evil: 1, realm=?'evil?x00?u00fc'"`
	if got := a.header["Www-Authenticate"]; len(got) != 1 || got[0] != want {
		t.Errorf("kid: challenge\n%q, want\n%q", got, want)
	}
	if a.header.Get("X-Evil") != "" {
		t.Errorf("kid: a header has been split: %v", a.header)
	}
	g.reached("A69", 0)
}

// TestForwardedHeadersDecideNothing: A71. Without trusted_proxies, what a client says about itself is not believed.
func TestForwardedHeadersDecideNothing(t *testing.T) {
	site := strings.Replace(wireSite, `allow jwt.sub == "alice"`,
		`allow source.address == "127.0.0.1" && request.scheme == "http" && request.host.startsWith("127.0.0.1:")`, 1)
	g := start(t, site)
	token := g.token("alice")
	forwarded := []string{
		"X-Forwarded-For", "10.1.1.1", "X-Real-Ip", "10.1.1.1", "Forwarded", "for=10.1.1.1;proto=https;host=evil.example",
		"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example", "X-Forwarded-Port", "443",
	}
	g.send("POST", "/mcp", token, readFile, forwarded...).expect(t, "untrusted", 200, `"result"`)
	g.reached("untrusted", 1)

	// a scheme that the peer may not claim makes no origin the site's own
	a := g.send("POST", "/mcp", token, readFile, append(forwarded, "Origin", "https://"+g.address)...)
	a.expect(t, "an origin of another scheme", 403, "origin not allowed")
	g.send("POST", "/mcp", token, readFile, append(forwarded, "Origin", "http://"+g.address)...).expect(t, "own origin", 200, "")
	g.reached("origin", 1)

	// the same from a proxy that is trusted
	a = g.push("POST", "/load", "text/caddyfile", []byte(strings.Replace(g.caddyfile(site),
		"\tauto_https off\n", "\tauto_https off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1\n\t}\n", 1)))
	a.expect(t, "load", 200, "")
	g.send("POST", "/mcp", token, readFile, forwarded...).expect(t, "trusted", 403, "")
	g.reached("trusted", 0)
}

// TestPathTwins: A72. With the handlers on the whole site, no spelling of a path leads around them.
func TestPathTwins(t *testing.T) {
	g := start(t, wireSite)
	alice, bob := "Authorization: Bearer "+g.token("alice"), "Authorization: Bearer "+g.token("bob")
	for _, path := range []string{
		"/mcp", "/", "//mcp", "///mcp", "/mcp/", "/mcp//", "/./mcp", "/%2e/mcp", "/x/../mcp", "/x/%2e%2e/mcp", "/%2e%2e/mcp",
		"/MCP", "/mcP", "/%6dcp", "/%6D%63%70", "/mcp%2f", "/%2fmcp", "/mcp;x=1", "/;/mcp", "/mcp%3b", "/mcp?x", "/mcp?", "/mcp%3f",
		"/mcp%00", "/mcp%20", "/mcp%0d%0a", "/mcp\\", "/mcp%5c..", "/.well-known/x", "/health", "/mcp#x", "/ünï", "/%c3%bc", "/%ff",
		"http://localhost/mcp", "http://LOCALHOST//mcp", "/" + strings.Repeat("a/", 2000),
	} {
		g.raw(rawPost(path, readFile)).expect(t, "no token "+path, 401, "no bearer token found")
		g.raw(rawPost(path, readFile, bob)).expect(t, "bob "+path, 403, "authorization failed")
		g.reached(path, 0)
		g.raw(rawPost(path, readFile, alice)).expect(t, "alice "+path, 200, `"result"`)
		for _, r := range g.reached(path, 1) {
			if target, _, _ := strings.Cut(r.uri, "?"); target != "/mcp" {
				t.Errorf("%s: the upstream has seen %s", path, r.uri)
			}
		}
	}
}

// TestMethodsOnTheWire: A113. What is neither POST nor GET nor DELETE goes nowhere, and no method goes without a token.
func TestMethodsOnTheWire(t *testing.T) {
	g := start(t, wireSite)
	alice := "Authorization: Bearer " + g.token("alice")
	for _, test := range []struct {
		line    string
		headers []string
		status  int
		reaches bool
	}{
		{"GET /mcp", nil, 202, true},
		{"DELETE /mcp", nil, 202, true},
		{"HEAD /mcp", nil, 405, false},
		{"PUT /mcp", nil, 405, false},
		{"PATCH /mcp", nil, 405, false},
		{"OPTIONS /mcp", nil, 405, false},
		{"TRACE /mcp", nil, 405, false},
		{"get /mcp", nil, 405, false},
		{"Post /mcp", nil, 405, false},
		{"CONNECT localhost:80", nil, 405, false},
		{"GET /mcp", []string{"X-Http-Method-Override: POST", "X-Method-Override: POST", "X-Http-Method: DELETE"}, 202, true},
		{"GET /mcp", []string{"Connection: Upgrade", "Upgrade: websocket"}, 400, false},
		{"GET /mcp", []string{"Upgrade: h2c"}, 400, false},
		{"GET /mcp", []string{"Connection: Upgrade"}, 400, false},
		{"POST /mcp", []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"}, 400, false},
	} {
		request := func(headers ...string) string {
			return test.line + " HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(test.headers, headers...), "\r\n") + "\r\n\r\n"
		}
		g.raw(request("X-None: x")).expect(t, test.line+" without a token", 401, "")
		g.reached(test.line+" without a token", 0)
		g.raw(request(alice)).expect(t, test.line, test.status, "")
		want := 0
		if test.reaches {
			want = 1
		}
		for _, r := range g.reached(test.line, want) {
			if method, _, _ := strings.Cut(test.line, " "); r.method != method {
				t.Errorf("%s: the upstream has seen %s", test.line, r.method)
			}
		}
	}
}

// TestErrorRoutes: refusals are shaped by the error routes of the site they happen in, and by no other's.
func TestErrorRoutes(t *testing.T) {
	site := func(name, more string) string {
		return strings.NewReplacer("http://:PORT", "http://"+name+":PORT", "\tmcp_proxy", more+"\tmcp_proxy").Replace(wireSite)
	}
	routes := "\thandle_errors {\n\t\trespond \"shaped {err.status_code}: {err.message}\"\n\t}\n"
	only403 := "\thandle_errors 403 {\n\t\trespond \"shaped {err.status_code}\"\n\t}\n"
	g := start(t, site("shaped.localhost", routes)+site("plain.localhost", "")+site("partly.localhost", only403))

	for _, test := range []struct {
		host, token, message string
		status               int
		body                 string
	}{
		{"shaped.localhost", "", readFile, 401, "shaped 401: authentication failure: no bearer token found"},
		{"shaped.localhost", "x", readFile, 401, "shaped 401: authentication failure: the token header is malformed: not a compact JWS"},
		{"shaped.localhost", g.token("bob"), readFile, 403, "shaped 403: authorization failed"},
		{"plain.localhost", "", readFile, 401, "authentication failure: no bearer token found"},
		{"plain.localhost", g.token("bob"), readFile, 403, "authorization failed"},
		{"partly.localhost", "", readFile, 401, "authentication failure: no bearer token found"},
		{"partly.localhost", g.token("bob"), readFile, 403, "shaped 403"},
		// a JSON-RPC error is an answer of the protocol, and stays one
		{"shaped.localhost", g.token("alice"), "{", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
	} {
		a := g.send("POST", "/mcp", test.token, test.message, "Host", test.host)
		what := test.host + " " + test.body
		if a.status != test.status || a.body != test.body && !strings.HasPrefix(test.body, "{") {
			t.Errorf("%s: %d %q, want %d %q", what, a.status, a.body, test.status, test.body)
		}
		if challenge := a.header.Get("WWW-Authenticate"); (challenge != "") != (test.status == 401) {
			t.Errorf("%s: challenge %q", what, challenge)
		}
	}
	g.reached("refused", 0)
	g.send("POST", "/mcp", g.token("alice"), readFile, "Host", "shaped.localhost").expect(t, "alice", 200, `"result"`)

	// an error route that stands for all sites of a server stands for these as well
	a := g.push("POST", "/load", "text/caddyfile", []byte(g.caddyfile(site("", routes))))
	a.expect(t, "load", 200, "")
	g.send("POST", "/mcp", "", readFile, "Host", "other.localhost").expect(t, "every host", 401, "shaped 401: ")
}
