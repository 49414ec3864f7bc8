package jwtauth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/mcptest"
)

// Attacks on the way a token travels.

// with is a request without a token and with these headers.
func with(headers http.Header) *http.Request {
	r := post("")
	for name, values := range headers {
		r.Header[name] = values
	}
	return r
}

// ignored wants the answer to a request without any credential.
func (g *gate) ignored(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusUnauthorized || w.Body.String() != "authentication failure: no bearer token found" || g.calls != 0 {
		t.Errorf("%d %q, upstream called %d times", w.Code, w.Body, g.calls)
	}
	if got := w.Header().Get("WWW-Authenticate"); got != `Bearer realm="mcp"` {
		t.Errorf("WWW-Authenticate: %s", got)
	}
}

// several wants the answer to two credentials (RFC 6750 section 3.1).
func (g *gate) several(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusBadRequest || w.Body.String() != "authentication failure: more than one credential was sent" || g.calls != 0 {
		t.Errorf("%d %q, upstream called %d times", w.Code, w.Body, g.calls)
	}
	if got := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer realm="mcp", error="invalid_request"`) {
		t.Errorf("WWW-Authenticate: %s", got)
	}
}

func TestA58_TwoAuthorizationHeaders(t *testing.T) {
	good, bad := "Bearer "+goodToken(), "Bearer "+foe().Token("alice", forUs)
	g := newGate(t)
	for _, values := range [][]string{{good, good}, {good, bad}, {bad, good}, {good, ""}, {"", good}, {"Basic x", good}, {good, "Basic x"}} {
		w := g.do(t, with(http.Header{"Authorization": values}))
		g.checkRefused(t, w, malformed+"more than one header holds a credential")
	}
	g.accepts(t, goodToken())
}

func TestA59_TwoTokensInOneHeader(t *testing.T) {
	good := goodToken()
	g := newGate(t)
	for _, value := range []string{
		"Bearer " + good + ", Bearer " + good, "Bearer " + good + ",Bearer x", "Bearer x, Bearer " + good, "Bearer " + good + " " + good,
		"Bearer " + good + ";" + good, strings.Repeat("Bearer ", 2) + good, `Bearer "` + good + `"`, "Bearer token=" + good, "Bearer " + good + ", realm=x",
	} {
		w := g.do(t, with(http.Header{"Authorization": {value}}))
		if w.Code != http.StatusUnauthorized || g.calls != 0 || !strings.Contains(w.Body.String(), malformed) {
			t.Errorf("%.30s...: %d %q", value, w.Code, w.Body)
		}
	}
}

func TestA60_Scheme(t *testing.T) {
	good := goodToken()
	g := newGate(t)
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer  ", "Bearer     "} {
		if g.do(t, with(http.Header{"Authorization": {scheme + good}})); g.calls != 1 {
			t.Errorf("%q is refused", scheme)
		}
	}
	for value, want := range map[string]string{
		"Bearer\t" + good:       malformed + "no token follows the authentication scheme",
		"Bearer" + good:         malformed + "no token follows the authentication scheme",
		"Bearer":                malformed + "no token follows the authentication scheme",
		good:                    malformed + "no token follows the authentication scheme",
		"Bearer=" + good:        malformed + "no token follows the authentication scheme",
		"Bearer:" + good:        malformed + "no token follows the authentication scheme",
		"Bearer ":               notCompact,
		"Bearer \t" + good:      notBase64,
		"Bearer \u00a0" + good:  notBase64,
		"Bearer " + good + " ":  notBase64, // Go's server trims it, nobody else has to
		"Bearer " + good + "\t": notBase64,
	} {
		g.checkRefused(t, g.do(t, with(http.Header{"Authorization": {value}})), want)
	}
	// another scheme is somebody else's credential
	for _, value := range []string{"Basic " + good, "DPoP " + good, "Token " + good, "Bearers " + good, "Bea\u017fer " + good, " Bearer " + good, ""} {
		g.ignored(t, g.do(t, with(http.Header{"Authorization": {value}})))
	}
}

func TestA61_TokenInQueryOrBody(t *testing.T) {
	good := goodToken()
	g := newGate(t)
	query := mcptest.Request(siteURL+"?access_token="+good+"&token="+good, "", mcptest.Ping)
	g.ignored(t, g.do(t, query))

	form := url.Values{"access_token": {good}}.Encode()
	body := httptest.NewRequest(http.MethodPost, siteURL, strings.NewReader(form))
	body.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	g.ignored(t, g.do(t, body))
	if rest, _ := io.ReadAll(body.Body); string(rest) != form {
		t.Errorf("%d of %d bytes of the body were read", len(form)-len(rest), len(form))
	}

	for _, name := range []string{"X-Access-Token", "X-Api-Key", "Proxy-Authorization", "X-Forwarded-Access-Token", "Access-Token"} {
		g.ignored(t, g.do(t, with(http.Header{name: {"Bearer " + good}})))
	}
	if logged := fmt.Sprint(g.logs.All()); strings.Contains(logged, good[:40]) {
		t.Error("a token was logged")
	}
	// where a query has a token too, the header counts
	both := mcptest.Request(siteURL+"?access_token="+foe().Token("admin", forUs), good, mcptest.Ping)
	if g.do(t, both); g.calls != 1 || g.identity.Subject != "alice" {
		t.Errorf("the token of the query has an effect: %+v", g.identity)
	}
}

func TestA62_TokenInCookie(t *testing.T) {
	g := newGate(t)
	for _, name := range []string{"access_token", "Authorization", "token", "jwt", "Bearer"} {
		g.ignored(t, g.do(t, with(http.Header{"Cookie": {name + "=" + goodToken()}})))
	}
}

func TestA63_TwoSources(t *testing.T) {
	good := goodToken()
	bearer := &TokenSource{Source: "header", Name: "Authorization"}
	header := &TokenSource{Source: "header", Name: "X-Token"}
	cookie := &TokenSource{Source: "cookie", Name: "token"}
	all := http.Header{"Authorization": {"Bearer " + good}, "X-Token": {good}, "Cookie": {"token=" + good}, "Origin": {"https://mcp.example.com"}}
	pick := func(names ...string) http.Header {
		headers := http.Header{"Origin": all["Origin"]}
		for _, name := range names {
			headers[name] = all[name]
		}
		return headers
	}
	for name, sources := range map[string][]*TokenSource{
		"all are read":            {bearer, header, cookie},
		"only one is read":        {header},
		"header and cookie":       {header, cookie},
		"other scheme, header":    {{Source: "header", Name: "Authorization", Scheme: "Token"}, header},
		"other scheme, and twice": {header, {Source: "header", Name: "authorization", Scheme: "Token"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(h *Handler) { h.TokenFrom = sources })
			if g.do(t, with(pick("X-Token"))); g.calls != 1 {
				t.Error("one credential is refused")
			}
			g.several(t, g.do(t, with(pick("Authorization", "X-Token"))))
			bad := pick("Authorization", "X-Token")
			bad["X-Token"] = []string{foe().Token("alice", forUs)}
			g.several(t, g.do(t, with(bad)))
			two := pick("X-Token")
			two["X-Token"] = []string{good, good}
			g.checkRefused(t, g.do(t, with(two)), malformed+"more than one header holds a credential")
		})
	}
	g := newGate(t, func(h *Handler) { h.TokenFrom = []*TokenSource{bearer, header, cookie} })
	g.several(t, g.do(t, with(pick("X-Token", "Cookie"))))
	g.several(t, g.do(t, with(pick("Authorization", "Cookie"))))
	g.several(t, g.do(t, with(all)))
	for _, twice := range [][]string{{"token=" + good + "; token=" + good}, {"token=" + good, "token=x"}} {
		g.several(t, g.do(t, with(http.Header{"Cookie": twice, "Origin": all["Origin"]})))
	}
	for _, name := range []string{"Authorization", "X-Token", "Cookie"} {
		if g.do(t, with(pick(name))); g.calls != 1 {
			t.Errorf("%s alone is refused", name)
		}
	}
}

// listen serves the gate on a loopback port, for what only Go's own reader of
// requests can show.
func (g *gate) listen(t *testing.T) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorded := g.do(t, r)
		for name, values := range recorded.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(recorded.Body.Bytes())
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// raw sends bytes as they are, and returns the answer.
func raw(t *testing.T, address, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestA64_HeaderSyntax(t *testing.T) {
	g := newGate(t)
	address := g.listen(t)
	good := goodToken()
	for name, test := range map[string]struct {
		lines  string
		status int
	}{
		"plain":              {"Authorization: Bearer " + good, 200},
		"lower case":         {"authorization: bearer " + good, 200},
		"no blank":           {"Authorization:Bearer " + good, 200},
		"blanks around":      {"Authorization: \t Bearer " + good + " \t", 200},
		"obs-fold":           {"Authorization: Bearer\r\n " + good, 200},
		"obs-fold, bad":      {"Authorization: Bearer\r\n " + foe().Token("alice", forUs), 401},
		"obs-fold, two":      {"Authorization: Bearer " + good + "\r\n " + good, 401},
		"NUL":                {"Authorization: Bearer " + good + "\x00", 400},
		"blank before colon": {"Authorization : Bearer " + good, 400},
		"CR inside":          {"Authorization: Bearer\r" + good, 400},
		"name with a blank":  {"Authori zation: Bearer " + good, 400},
		"twice":              {"Authorization: Bearer " + good + "\r\nAUTHORIZATION: Bearer " + good, 401},
	} {
		t.Run(name, func(t *testing.T) {
			g.calls = 0
			response := raw(t, address, "POST /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\nConnection: close\r\n"+test.lines+"\r\n\r\n")
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
			if (g.calls == 1) != (test.status == 200) {
				t.Errorf("the upstream was called %d times", g.calls)
			}
		})
	}
}

// Row 65: Caddy's reverse proxy removes the headers that Connection names.
// What the configuration sets behind this handler must not be among them.
func TestA65_ConnectionOptions(t *testing.T) {
	g := newGate(t)
	for _, test := range []struct{ sent, want []string }{
		{[]string{"Authorization"}, nil},
		{[]string{"X-User-Id"}, nil},
		{[]string{"close, X-User-Id"}, []string{"close"}},
		{[]string{"X-User-Id ,\tKeep-Alive"}, []string{"Keep-Alive"}},
		{[]string{"close", "X-User-Id", "x-user-id, TE"}, []string{"close, TE"}},
		{[]string{"Upgrade, HTTP2-Settings"}, []string{"Upgrade"}},
		{[]string{"content-type,host,content-length,mcp-session-id"}, nil},
		{[]string{""}, nil},
		{[]string{",,,"}, nil},
		{nil, nil},
	} {
		r := post(goodToken())
		if test.sent != nil {
			r.Header["Connection"] = test.sent
		}
		g.do(t, r)
		if g.calls != 1 || !slices.Equal(g.seen.Header["Connection"], test.want) {
			t.Errorf("%q became %q, want %q", test.sent, g.seen.Header["Connection"], test.want)
		}
	}
}

func TestA66_IdentityHeadersOfTheClient(t *testing.T) {
	g := newGate(t, func(h *Handler) { h.Mode = ModeOptional })
	address := g.listen(t)
	var lines strings.Builder
	for _, name := range cfutil.IdentityHeaders {
		for _, twin := range []string{name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.Replace(name, "-", "_", 1)} {
			fmt.Fprintf(&lines, "%s: admin\r\n", twin)
		}
	}
	lines.WriteString("X_User_Id: admin\r\nAUTHORIZATION_: x\r\nMcp_Session_Id: x\r\nX-Harmless: stays\r\n")
	for _, authorization := range []string{"", "Authorization: Bearer " + goodToken() + "\r\n"} {
		response := raw(t, address, "POST /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n"+authorization+lines.String()+"\r\n")
		if response.StatusCode != http.StatusOK {
			t.Fatalf("status %d", response.StatusCode)
		}
		for name, values := range g.seen.Header {
			if slices.Contains(values, "admin") || strings.Contains(name, "_") {
				t.Errorf("the upstream sees %s: %q", name, values)
			}
		}
		if g.seen.Header.Get("X-Harmless") != "stays" {
			t.Error("a harmless header is gone")
		}
	}
}

// Row 67: what a placeholder writes into a header or a log line has no
// control characters, whoever wrote the claim.
func TestA67_ClaimWithLineBreaks(t *testing.T) {
	g := newGate(t)
	for _, text := range []string{"a\r\nX-Admin: 1", "a\nb", "a\rb", "\t", "\x1b[0m", "\x7f", "a\u0085b", "a\u009bb"} {
		g.accepts(t, trusted().Token("x"+text, forUs, claims{"name": text, "list": []string{"a", text}}))
		for _, name := range []string{"id", "sub", "name", "list"} {
			if got := g.placeholder("http.auth.user." + name); got != "" {
				t.Errorf("%q: {http.auth.user.%s} is %q", text, name, got)
			}
		}
	}
	// letters of other scripts are no control characters
	g.accepts(t, trusted().Token("jürgen", forUs, claims{"name": "漢字 😀"}))
	if id, name := g.placeholder("http.auth.user.id"), g.placeholder("http.auth.user.name"); id != "jürgen" || name != "漢字 😀" {
		t.Errorf("%q, %q", id, name)
	}
}

// Row 68, for mcp_jwt: one line of JSON for each refusal, whatever it is about,
// and no token in it.
func TestA68_LogInjection(t *testing.T) {
	var out bytes.Buffer
	g := newGate(t)
	g.logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zap.DebugLevel))
	for _, kid := range []string{"a\nb", "a\r\n" + `{"level":"info","msg":"forged"}`, `","level":"x`, "\x1b[2J", "\u2028", strings.Repeat("k", 9000), "\x00"} {
		out.Reset()
		token := rsaOnce().Sign(mcptest.JSON(claims{"alg": "RS256", "kid": kid}), goodPayload())
		w := g.do(t, post(token))
		if w.Code != http.StatusUnauthorized {
			t.Errorf("status %d", w.Code)
		}
		line := strings.TrimSuffix(out.String(), "\n")
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || strings.ContainsAny(line, "\n\r\x1b\u2028") {
			t.Errorf("kid %.20q: log %q: %v", kid, line, err)
		}
		if reason, _ := entry["reason"].(string); len(reason) > 500 || strings.Contains(line, token[:40]) || len(entry) != 4 {
			t.Errorf("kid %.20q: log %q", kid, line)
		}
		// the same in the answer
		if body := w.Body.String(); strings.ContainsFunc(body, func(r rune) bool { return r < ' ' || r > '~' }) || len(body) > 500 {
			t.Errorf("kid %.20q: answer %q", kid, body)
		}
		if challenge := w.Header().Get("WWW-Authenticate"); strings.ContainsFunc(challenge, func(r rune) bool { return r < ' ' || r > '~' }) ||
			strings.Count(challenge, `"`) != 6 {
			t.Errorf("kid %.20q: challenge %q", kid, challenge)
		}
	}
}

func TestA69_ChallengeIsMadeFromTheConfiguration(t *testing.T) {
	const evil = `evil.example"\, error="x`
	g := newGate(t)
	for _, token := range []string{"", foe().Token("alice", forUs)} {
		want := g.do(t, post(token)).Header()["Www-Authenticate"]
		r := post(token)
		r.Host = evil
		r.URL.Path, r.RequestURI = `/mcp"`+"\r\nX: y", `/mcp%22%0d%0aX:%20y`
		for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "X-Original-Url", "Forwarded", "User-Agent", "Referer", "X-Realm"} {
			r.Header.Set(name, evil)
		}
		if got := g.do(t, r).Header()["Www-Authenticate"]; len(got) != 1 || !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	quoting := newGate(t, func(h *Handler) { h.Realm = `a "b" \c` })
	if got := quoting.do(t, post("")).Header().Get("WWW-Authenticate"); got != `Bearer realm="a \"b\" \\c"` {
		t.Errorf("challenge %s", got)
	}
	for _, realm := range []string{"a\r\nb", "a\nb", "\x00", "\x7f", "ü", "\t"} {
		if _, err := tryGate(t, func(h *Handler) { h.Realm = realm }); err == nil {
			t.Errorf("realm %q loads", realm)
		}
	}
}

func TestA70_CredentialDoesNotTravelOn(t *testing.T) {
	good := goodToken()
	origin := http.Header{"Origin": {"https://mcp.example.com"}}
	sources := []*TokenSource{
		{Source: "header", Name: "Authorization"}, {Source: "header", Name: "X-Token", Scheme: "Token"}, {Source: "cookie", Name: "token"},
	}
	for _, forward := range []bool{false, true} {
		g := newGate(t, func(h *Handler) { h.TokenFrom, h.ForwardToken = sources, forward })
		for name, value := range map[string]string{"Authorization": "Bearer " + good, "X-Token": "token " + good, "Cookie": "a=1; token=" + good + "; b=2"} {
			r := with(origin)
			r.Header.Set(name, value)
			if g.do(t, r); g.calls != 1 {
				t.Fatalf("%s is refused", name)
			}
			want := ""
			switch {
			case forward:
				want = value
			case name == "Cookie":
				want = "a=1; b=2" // the site's own
			}
			if got := g.seen.Header.Get(name); got != want {
				t.Errorf("forward_token %t, %s: the upstream sees %q", forward, name, got)
			}
			if g.identity.ForwardCredential != forward {
				t.Errorf("forward_token %t is not handed on", forward)
			}
		}
	}
	// only a cookie with the token: no empty Cookie header stays
	g := newGate(t, func(h *Handler) { h.TokenFrom = sources })
	r := with(origin)
	r.Header.Set("Cookie", "token="+good)
	if g.do(t, r); g.calls != 1 || g.seen.Header["Cookie"] != nil {
		t.Errorf("Cookie: %q", g.seen.Header["Cookie"])
	}
	// a source that was empty or of another scheme is cleared as well
	r = with(http.Header{"X-Token": {"Basic eDp5"}})
	r.Header.Set("Authorization", "Bearer "+good)
	if g.do(t, r); g.calls != 1 || g.seen.Header["X-Token"] != nil || g.seen.Header["Authorization"] != nil {
		t.Errorf("the upstream sees %v", g.seen.Header)
	}
	// what was not verified does not travel on, forward_token or not
	for _, mode := range []string{ModeOptional, ModePermissive} {
		g := newGate(t, func(h *Handler) { h.Mode, h.ForwardToken = mode, true })
		for _, value := range []string{"Basic eDp5", "Bearer x.y.z", "Bearer " + foe().Token("alice", forUs)} {
			if w := g.do(t, with(http.Header{"Authorization": {value}})); w.Code == http.StatusOK && g.seen.Header["Authorization"] != nil {
				t.Errorf("%s: the upstream sees %q", mode, g.seen.Header["Authorization"])
			}
		}
	}
}

func TestA71_ForwardedHeadersAreNotBelieved(t *testing.T) {
	g := newGate(t)
	forwarded := http.Header{
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"http"},
		"Forwarded": {`for=127.0.0.1;host=evil.example;proto=http`}, "X-Real-Ip": {"127.0.0.1"},
	}
	// neither lets them a foreign page in ...
	for _, origin := range []string{"http://evil.example", "https://evil.example", "http://mcp.example.com"} {
		r := with(forwarded)
		r.Header.Set("Authorization", "Bearer "+goodToken())
		r.Header.Set("Origin", origin)
		g.foreign(t, g.do(t, r))
	}
	// ... nor do they keep the site's own page out
	r := with(forwarded)
	r.Header.Set("Authorization", "Bearer "+goodToken())
	r.Header.Set("Origin", "https://mcp.example.com")
	if g.do(t, r); g.calls != 1 {
		t.Error("the site's own page is refused")
	}
	r = with(forwarded)
	g.ignored(t, g.do(t, r))
}
