package e2e

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// loginSeen is what oauth-client.mjs prints.
type loginSeen struct {
	Requests          []string
	Answers, Sessions []string
	Token, Failure    string
	authorizations    []url.Values // what was asked for in the browser
}

var loginDone = regexp.MustCompile(`(?m)^seen (.*)$`)

// runLoginClient runs oauth-client.mjs, and opens the pages that it wants to have opened, as many as told.
func runLoginClient(t *testing.T, b *browser, logins int, gateway string, grants string, steps ...string) loginSeen {
	t.Helper()
	cmd := nodeCommand(t, append([]string{"oauth-client.mjs", gateway}, steps...)...)
	cmd.Env = append(cmd.Env, "GRANTS="+grants)
	p := start(t, cmd)
	var s loginSeen
	for i := 1; i <= logins; i++ {
		open, err := p.out.wait(regexp.MustCompile(fmt.Sprintf(`(?m)^open %d (\S+)$`, i)), p.done, runLimit)
		if err != nil {
			t.Fatal(err)
		}
		page, err := url.Parse(open[1])
		if err != nil {
			t.Fatal(err)
		}
		s.authorizations = append(s.authorizations, page.Query())
		if _, err := b.open(t.Context(), open[1]); err != nil {
			t.Fatal(err)
		}
	}
	done, err := p.out.wait(loginDone, p.done, runLimit)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(done[1]), &s); err != nil {
		t.Fatal(err)
	}
	if status := p.wait(t, stopLimit); status != 0 {
		t.Fatalf("the client's exit status is %d", status)
	}
	return s
}

// wantAuthorization checks what a client asked for in the browser.
func wantAuthorization(t *testing.T, got url.Values, resource string, scopes ...string) {
	t.Helper()
	for name, want := range map[string]string{
		"response_type":         "code",
		"code_challenge_method": "S256",
		"resource":              resource,
	} {
		if got.Get(name) != want {
			t.Errorf("the client asked with %s %q, want %q", name, got.Get(name), want)
		}
	}
	asked := strings.Fields(got.Get("scope"))
	slices.Sort(asked)
	if !slices.Equal(asked, scopes) {
		t.Errorf("the client asked for the scopes %q, want %q", asked, scopes)
	}
}

// wantRequests checks the first requests of a client.
func (s *loginSeen) wantRequests(t *testing.T, g *gateway, issuer string, want ...string) {
	t.Helper()
	short := strings.NewReplacer(g.origin(), "GATEWAY", issuer, "ISSUER")
	for i, request := range want {
		if i >= len(s.Requests) {
			t.Fatalf("the client made only %d requests, want also %q", i, request)
		}
		if got := short.Replace(s.Requests[i]); got != request {
			t.Errorf("request %d was %q, want %q", i+1, got, request)
		}
	}
}

// count is how many requests there were that begin and end so.
func (s *loginSeen) count(begin, end string) int {
	n := 0
	for _, request := range s.Requests {
		if strings.HasPrefix(request, begin) && strings.HasSuffix(request, end) {
			n++
		}
	}
	return n
}

const greeting = "You are alice."

// TestLogin has a client of the TypeScript SDK find everything by itself: all it is told is the URL of the gateway. Its
// token lives on when it is refreshed, in the same session.
func TestLogin(t *testing.T) {
	for name, demo := range map[string][]string{"session": {"-stateful"}, "stateless": nil} {
		t.Run(name, func(t *testing.T) {
			server := startOAuth(t)
			upstream := startRecorder(t, startDemo(t, demo...), (*httptest.Server).Start)
			g := server.startLoginGateway(t, "allow `jwt.sub == \"alice\"`", upstream.URL)
			s := runLoginClient(t, newBrowser(t, "alice"), 1, g.url(), "authorization_code refresh_token", "get_me", "expire", "get_me")
			if s.Failure != "" {
				t.Fatalf("the client failed: %s\n%s", s.Failure, strings.Join(s.Requests, "\n"))
			}
			s.wantRequests(t, g, server.issuer,
				"POST GATEWAY/mcp 401",
				"GET GATEWAY/.well-known/oauth-protected-resource/mcp 200",
				"GET ISSUER/.well-known/oauth-authorization-server 200",
				"POST ISSUER/reg 201",
				// somebody logs in; the client looks everything up again
				"GET GATEWAY/.well-known/oauth-protected-resource/mcp 200",
				"GET ISSUER/.well-known/oauth-authorization-server 200",
				"POST ISSUER/token 200",
				"POST GATEWAY/mcp 200",
			)
			wantAuthorization(t, s.authorizations[0], g.url(), "mcp:use")
			if !slices.Equal(s.Answers, []string{greeting, greeting}) {
				t.Errorf("the client got %q", s.Answers)
			}
			if s.Sessions[0] != s.Sessions[1] || (s.Sessions[0] == "") != (demo == nil) {
				t.Errorf("the sessions were %q, want one", s.Sessions)
			}
			if got := s.count("POST "+g.url(), " 401"); got != 2 {
				t.Errorf("the client was refused %d times, want once at the beginning and once when its token had run out", got)
			}
			if got := s.count("POST "+server.issuer+"/token", " 200"); got != 2 {
				t.Errorf("the client got tokens %d times, want twice", got)
			}
			g.wantNoTokens(t, s.Token)
			upstream.wantWithout(t, s.Token)
		})
	}
}

// TestLoginStranger lets somebody log in whom no rule allows anything: the client must learn that another login is of
// no use.
func TestLoginStranger(t *testing.T) {
	server := startOAuth(t)
	upstream := startRecorder(t, startDemo(t), (*httptest.Server).Start)
	g := server.startLoginGateway(t, "allow `jwt.sub == \"alice\"`", upstream.URL)
	s := runLoginClient(t, newBrowser(t, "bob"), 1, g.url(), "authorization_code", "get_me")
	if !strings.Contains(s.Failure, "authorization failed") || s.count("POST "+g.url(), " 403") != 1 {
		t.Errorf("the client failed with %q after\n%s", s.Failure, strings.Join(s.Requests, "\n"))
	}
	upstream.wantNone(t)
}

// The rules of the tests of scopes: everybody needs mcp:use, and who changes something needs another scope.
const stepUpRules = "allow true" +
	"\n\t\tscope mcp:use true" +
	"\n\t\tscope repo:write `mcp.tool.name in [\"create_repo\", \"delete_repo\"]`"

// TestStepUp calls a tool that needs one more scope. The client asks for it beside what it has, and then the call works.
// Without a refresh token: see TestStepUpRefresh.
func TestStepUp(t *testing.T) {
	server := startOAuth(t)
	g := server.startLoginGateway(t, stepUpRules, startDemo(t, "-stateful"))
	s := runLoginClient(t, newBrowser(t, "alice"), 2, g.url(), "authorization_code", "get_me", "delete_repo", "create_repo", "get_me")
	if s.Failure != "" {
		t.Fatalf("the client failed: %s\n%s", s.Failure, strings.Join(s.Requests, "\n"))
	}
	wantAuthorization(t, s.authorizations[0], g.url(), "mcp:use")
	wantAuthorization(t, s.authorizations[1], g.url(), "mcp:use", "repo:write")
	if len(s.Answers) != 4 || s.Answers[0] != greeting || s.Answers[3] != greeting {
		t.Errorf("the client got %q", s.Answers)
	}
	if unauthorized, forbidden := s.count("POST "+g.url(), " 401"), s.count("POST "+g.url(), " 403"); unauthorized != 1 || forbidden != 1 {
		t.Errorf("the client got 401 %d times and 403 %d times, want each once", unauthorized, forbidden)
	}
	if len(slices.Compact(s.Sessions)) != 1 {
		t.Errorf("the sessions were %q, want one", s.Sessions)
	}
}

// TestStepUpRefresh: with a refresh token, this SDK refreshes the old token instead of asking for more, and gets the
// same scopes again. It must not go round in circles then, and what it could do before still works.
func TestStepUpRefresh(t *testing.T) {
	server := startOAuth(t)
	g := server.startLoginGateway(t, stepUpRules, startDemo(t))
	s := runLoginClient(t, newBrowser(t, "alice"), 1, g.url(), "authorization_code refresh_token", "get_me", "delete_repo")
	if !strings.Contains(s.Failure, "403 after trying upscoping") || s.count("POST "+g.url(), " 403") != 2 {
		t.Errorf("the client failed with %q after\n%s", s.Failure, strings.Join(s.Requests, "\n"))
	}
	callers := map[string]caller{"alice": {token: s.Token, name: "alice"}}
	wantCallers(t, g.url(), callers)
}

// TestLoginInspector shows what MCP Inspector's command line can do: it takes a token, and cannot log in by itself.
func TestLoginInspector(t *testing.T) {
	server := startOAuth(t)
	g := server.startLoginGateway(t, "allow `jwt.sub == \"alice\"`", startDemo(t))
	if r := callTool(t, g.url(), "", "get_me"); r.status == 0 || !strings.Contains(r.out, "no bearer token found") {
		t.Errorf("without a token: exit status %d, %s", r.status, r.out)
	}
	token := server.login(t, "alice", g.url(), "mcp:use").AccessToken
	if r := callTool(t, g.url(), token, "get_me"); r.status != 0 || !strings.Contains(r.out, greeting) {
		t.Errorf("with a token: exit status %d, %s", r.status, r.out)
	}
}
