package celauthz

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// someOfEach are rules under which a caller may do something of each kind.
var someOfEach = []string{
	`allow mcp.tool.name.startsWith("read_") && mcp.tool.arguments.path.startsWith("/pub/")`,
	`allow mcp.prompt.name == "p"`,
	`allow mcp.resource.uri.startsWith("file:///pub/") && mcp.method == "resources/read"`,
	`allow mcp.task.id.startsWith("a") && mcp.method != "tasks/cancel"`,
}

// modern makes a request one of version 2026-07-28.
func modern(method, params, name string) *http.Request {
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	r := request(messageOf(method, strings.TrimSuffix(strings.TrimSuffix(params, "}")+","+meta+"}", "{,")))
	r.Header.Set("MCP-Protocol-Version", "2026-07-28")
	r.Header.Set("Mcp-Method", method)
	if name != "" {
		r.Header.Set("Mcp-Name", name)
	}
	return r
}

func rpcError(id string, code int, message, data string) string {
	if data != "" {
		data = `,"data":` + data
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s%s}}`, id, code, message, data)
}

func TestAllowedGoesOn(t *testing.T) {
	s := newSite(t, someOfEach...)
	for _, message := range []string{
		callOf("read_file", `{"path":"/pub/a"}`),
		messageOf("prompts/get", `{"name":"p","arguments":{"x":"y"}}`),
		messageOf("resources/read", `{"uri":"file:///pub/a"}`),
		messageOf("tasks/get", `{"taskId":"a1"}`),
		messageOf("initialize", `{"protocolVersion":"2025-06-18"}`),
		messageOf("tools/list", ""),
		messageOf("logging/setLevel", `{"level":"debug"}`),
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}`,
	} {
		s.wantPassed(s.post(message), message)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		s.serve(httptest.NewRequest(method, "/mcp", nil))
		if s.passed == nil {
			t.Errorf("%s was refused", method)
		}
	}
}

// What a caller may not see is answered as the protocol answers what does
// not exist (MCP-RULES.md 6).
func TestHiddenTargets(t *testing.T) {
	s := newSite(t, someOfEach...)
	unknown := func(kind, name string) string {
		return rpcError("1", -32602, `"Unknown `+kind+`: `+name+`"`, "")
	}
	notFound := func(uri string) string {
		return rpcError("1", -32002, `"Resource not found"`, `{"uri":"`+uri+`"}`)
	}
	for message, want := range map[string]string{
		callOf("delete", "{}"):                                          unknown("tool", "delete"),
		callOf("", "{}"):                                                unknown("tool", ""),
		callOf(`a\"b\u000a`, "{}"):                                      unknown("tool", `a\"b\n`),
		callOf("Read_file", `{"path":"/pub/a"}`):                        unknown("tool", "Read_file"),
		messageOf("prompts/get", `{"name":"q"}`):                        unknown("prompt", "q"),
		messageOf("tasks/get", `{"taskId":"b"}`):                        unknown("task", "b"),
		messageOf("tasks/cancel", `{"taskId":"b"}`):                     unknown("task", "b"),
		messageOf("resources/read", `{"uri":"file:///x"}`):              notFound("file:///x"),
		messageOf("resources/subscribe", `{"uri":"file:///x"}`):         notFound("file:///x"),
		messageOf("resources/unsubscribe", `{"uri":"file:///x\u0022"}`): notFound(`file:///x\"`),
	} {
		s.wantRefused(s.post(message), 200, want)
		s.wantRefused(s.post(message, header("MCP-Protocol-Version", "2025-11-25")), 200, want)
	}
	s.wantRefused(s.serve(modern("resources/read", `{"uri":"file:///x"}`, "file:///x")), 200, unknown("resource", "file:///x"))
	s.wantRefused(s.serve(modern("tools/call", `{"name":"x"}`, "x")), 200, unknown("tool", "x"))
	s.wantRefused(s.serve(modern("tasks/get", `{"taskId":"b"}`, "b")), 200, unknown("task", "b"))
}

// A target that is listed, but not for use like this.
func TestRefusedUse(t *testing.T) {
	s := newSite(t, someOfEach...)
	want := rpcError("1", -31403, `"denied by rule \"default\""`, "")
	for _, message := range []string{
		callOf("read_file", `{"path":"/etc/passwd"}`),
		callOf("read_file", `{}`),
		callOf("read_file", `null`),
		messageOf("tasks/cancel", `{"taskId":"a1"}`),
		messageOf("resources/subscribe", `{"uri":"file:///pub/a"}`),
	} {
		s.wantRefused(s.post(message), 403, want)
	}
	s = newSite(t, "allow true", `deny mcp.tool.name == "t" && mcp.tool.arguments.force == true`, `require mcp.tool.arguments.?n.orValue(0) < 5`)
	s.wantRefused(s.post(callOf("t", `{"force":true}`)), 403, rpcError("1", -31403, `"denied by rule \"deny#1\""`, ""))
	s.wantRefused(s.post(callOf("u", `{"n":5}`)), 403, rpcError("1", -31403, `"denied by rule \"require#1\""`, ""))
}

func TestOnDenyForbid(t *testing.T) {
	h := &Handler{OnDeny: OnDenyForbid, Rules: append(rulesOf(t, "allow true"),
		&Rule{Name: `no "x"`, Action: Deny, MatchExpressions: []string{`mcp.tool.name == "x" || mcp.resource.uri == "x" || mcp.prompt.name == "x" || mcp.task.id == "x"`}})}
	s := provision(t, h)
	want := rpcError("1", -31403, `"denied by rule \"no \\\"x\\\"\""`, "")
	for _, message := range []string{
		callOf("x", "{}"), messageOf("resources/read", `{"uri":"x"}`), messageOf("prompts/get", `{"name":"x"}`), messageOf("tasks/get", `{"taskId":"x"}`),
	} {
		s.wantRefused(s.post(message), 403, want)
	}
	s.wantPassed(s.post(callOf("y", "{}")), callOf("y", "{}"))
	if _, err := tryProvision(t, &Handler{Rules: rulesOf(t, "allow true"), OnDeny: "Hide"}); err == nil {
		t.Error(`on_deny "Hide" loads`)
	}
}

// Who could never be granted anything gets a plain 403, whatever they ask.
func TestHopeless(t *testing.T) {
	for _, rules := range [][]string{
		{`allow jwt.sub == "alice"`},
		{`allow jwt.sub == "alice" && mcp.tool.name == "t"`},
		{`allow true`, `deny jwt.sub != "alice"`},
		{`allow true`, `require jwt.sub == "alice"`},
		{`allow jwt.missing && mcp.tool.arguments.a == 1`},
	} {
		s := newSite(t, rules...).as(`{"sub":"bob"}`)
		for _, message := range []string{
			callOf("t", "{}"), messageOf("resources/read", `{"uri":"u"}`), messageOf("initialize", ""), messageOf("x/y", ""), messageOf("tools/list", ""),
			messageOf("completion/complete", `{"ref":{"type":"ref/prompt","name":"p"}}`),
			`{"jsonrpc":"2.0","method":"notifications/initialized"}`, `{"jsonrpc":"2.0","id":1,"result":{}}`,
		} {
			s.wantRefused(s.post(message), 403, "authorization failed")
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			s.wantRefused(s.serve(httptest.NewRequest(method, "/mcp", nil)), 403, "authorization failed")
		}
	}
}

// Requests without a target are refused by rules about the method or the
// request; there is nothing to hide.
func TestRefusedWithoutTarget(t *testing.T) {
	s := newSite(t, "allow true", `deny mcp.method in ["logging/setLevel", "notifications/cancelled"]`, `deny request.method == "DELETE"`)
	s.wantRefused(s.post(messageOf("logging/setLevel", `{"level":"debug"}`)), 403, "authorization failed")
	s.wantRefused(s.post(`{"jsonrpc":"2.0","method":"notifications/cancelled"}`), 403, "authorization failed")
	s.wantRefused(s.serve(httptest.NewRequest(http.MethodDelete, "/mcp", nil)), 403, "authorization failed")
	s.serve(httptest.NewRequest(http.MethodGet, "/mcp", nil))
	if s.passed == nil {
		t.Error("GET was refused")
	}
}

// JSON-RPC answers requests only: a denied notification gets a status.
func TestDeniedNotifications(t *testing.T) {
	s := newSite(t, someOfEach...)
	for _, message := range []string{
		`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"delete"}}`,
		`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"read_file","arguments":{"path":"/etc"}}}`,
		`{"jsonrpc":"2.0","method":"resources/read","params":{"uri":"file:///x"}}`,
		`{"jsonrpc":"2.0","method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"q"}}}`,
		`{"jsonrpc":"2.0","method":"x/y"}`,
	} {
		s.wantRefused(s.post(message), 403, "authorization failed")
	}
	allowed := `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"read_file","arguments":{"path":"/pub/"}}}`
	s.wantPassed(s.post(allowed), allowed)
	s.OnDeny = OnDenyForbid
	s.wantRefused(s.post(`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"delete"}}`), 403, "authorization failed")
}

func TestA105_UnknownMethod(t *testing.T) {
	refused := rpcError("1", -32601, `"Method not found"`, "")
	for _, rules := range [][]string{
		{"allow true"},
		{`allow jwt.sub == "alice"`},
		{`deny false`},
		{"require true"},
		{`allow mcp.method == "x/z"`},
		{`allow mcp.method == "x/y" && mcp.tool.name == "t"`},
		{`allow mcp.method == "x/y" && jwt.missing`, "allow true"},
		{`allow mcp.method == "x/y"`, `deny mcp.method == "x/y"`},
		{`allow mcp.method == "x/y"`, `require mcp.method != "x/y"`},
	} {
		s := newSite(t, rules...).as(alice)
		s.wantRefused(s.post(messageOf("x/y", `{"name":"t"}`)), 200, refused)
		s.wantRefused(s.serve(modern("x/y", `{"name":"t"}`, "")), 404, refused)
	}
	for _, rule := range []string{`allow mcp.method == "x/y"`, `allow mcp.method.startsWith("x/") && jwt.sub == "alice"`} {
		s := newSite(t, rule).as(alice)
		s.wantPassed(s.post(messageOf("x/y", `{"name":"t"}`)), messageOf("x/y", `{"name":"t"}`))
	}
	// twins of known methods are unknown
	s := newSite(t, "allow true").as(alice)
	for _, method := range []string{"Tools/Call", "tools/call ", "tools/Call", "tools//call", `tools/call\u0000`, "sampling/createMessage"} {
		s.wantRefused(s.post(messageOf(method, `{"name":"t"}`)), 200, refused)
	}
}

// An anonymous caller who is refused is told to log in, except where logging
// in would not help.
func TestLogin(t *testing.T) {
	s := newSite(t, `allow jwt.sub == "alice"`, `allow mcp.tool.name == "public" && mcp.tool.arguments.a == 1`)
	s.identity = &reqctx.Identity{Anonymous: true, Login: func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("WWW-Authenticate", `Bearer realm="mcp"`)
		w.WriteHeader(http.StatusUnauthorized)
		return nil
	}}
	login := func(w *httptest.ResponseRecorder) {
		t.Helper()
		if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" || s.passed != nil || w.Body.Len() > 0 {
			t.Errorf("answer %d %s", w.Code, w.Body)
		}
	}
	login(s.post(callOf("private", "{}")))     // hidden
	login(s.post(callOf("public", `{"a":2}`))) // refused
	login(s.post(messageOf("prompts/get", `{"name":"p"}`)))
	login(s.post(`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"private"}}`))
	s.wantPassed(s.post(callOf("public", `{"a":1}`)), callOf("public", `{"a":1}`))
	s.wantPassed(s.post(messageOf("initialize", "")), messageOf("initialize", ""))
	s.wantRefused(s.post(messageOf("x/y", "")), 200, rpcError("1", -32601, `"Method not found"`, ""))
	if w := s.post("{"); w.Code != 400 {
		t.Errorf("a malformed message: %d", w.Code)
	}

	hopeless := newSite(t, `allow jwt.sub == "alice"`)
	hopeless.identity = s.identity
	s = hopeless
	login(s.post(messageOf("initialize", "")))
	login(s.serve(httptest.NewRequest(http.MethodGet, "/mcp", nil)))

	// somebody without a way to log in, and somebody who has
	for _, identity := range []*reqctx.Identity{{Anonymous: true}, {Claims: reqctx.Claims(`{"sub":"bob"}`)}, nil} {
		s.identity = identity
		s.wantRefused(s.post(messageOf("initialize", "")), 403, "authorization failed")
	}
	failure := errors.New("the login failed")
	s.identity = &reqctx.Identity{Anonymous: true, Login: func(http.ResponseWriter, *http.Request) error { return failure }}
	if err := s.try(httptest.NewRecorder(), request(messageOf("initialize", ""))); !errors.Is(err, failure) {
		t.Errorf("the error of the login became %v", err)
	}
}

func TestA101_IDsAreEchoed(t *testing.T) {
	s := newSite(t, someOfEach...)
	for _, id := range []string{
		"1", "0", "-7", "9007199254740993", "18446744073709551617", `"a"`, `""`, `"\u0061\/\n\"\\"`, `"😀"`, strings.Repeat("9", 400),
	} {
		message := `{"jsonrpc":"2.0","params":{"name":"x"},"method":"tools/call", "id" : ` + id + ` }`
		s.wantRefused(s.post(message), 200, rpcError(id, -32602, `"Unknown tool: x"`, ""))
		message = strings.Replace(message, `"name":"x"`, `"name":1`, 1)
		if w := s.post(message); w.Code != 400 || !strings.HasPrefix(w.Body.String(), `{"jsonrpc":"2.0","id":`+id+`,"error":{"code":-32600,`) {
			t.Errorf("id %s: answer %d %s", id, w.Code, w.Body)
		}
	}
	for _, id := range []string{"null", "true", "1.5", "1e3", "[]", "{}"} {
		w := s.post(`{"jsonrpc":"2.0","id":` + id + `,"method":"ping"}`)
		if w.Code != 400 || !strings.HasPrefix(w.Body.String(), `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,`) || s.passed != nil {
			t.Errorf("id %s: answer %d %s", id, w.Code, w.Body)
		}
	}
}

// Every answer of ours is JSON that any client can read, and one line.
func TestAnswersAreJSON(t *testing.T) {
	s := newSite(t, someOfEach...)
	for _, name := range []string{`a\u2028b`, `\u0000`, `</script>`, `\u001b[31m`, strings.Repeat("x", 1<<16), `\ud83d\ude00`} {
		for _, message := range []string{callOf(name, "{}"), messageOf("resources/read", `{"uri":"`+name+`"}`)} {
			body := s.post(message).Body.String()
			var answer struct {
				ID    int
				Error struct {
					Code int
					Data struct{ URI string }
				}
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.ID != 1 || answer.Error.Code == 0 {
				t.Errorf("%.100q: %v: %.200s", name, err, body)
			}
			if strings.ContainsAny(body, "\r\n\x00\x1b") {
				t.Errorf("%.100q: the answer holds control characters: %.200q", name, body)
			}
		}
	}
}

// byStatus is the matcher of an error route: {err.status_code} is one of these.
type byStatus []int

func (m byStatus) MatchWithError(r *http.Request) (bool, error) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	code, _ := repl.Get("http.error.status_code")
	for _, status := range m {
		if code == status {
			return true, nil
		}
	}
	return false, nil
}

// nothing is the handler of an error route.
type nothing struct{}

func (nothing) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { return nil }

// Where an error route matches, it shapes the answer; JSON-RPC answers are
// the protocol's.
func TestErrorRoutes(t *testing.T) {
	s := newSite(t, append(someOfEach, `deny mcp.method == "ping"`)...)
	server := &caddyhttp.Server{Errors: &caddyhttp.HTTPErrorConfig{Routes: caddyhttp.RouteList{{
		MatcherSets: caddyhttp.MatcherSets{{byStatus{403, 405, 413}}},
		Handlers:    []caddyhttp.MiddlewareHandler{nothing{}},
	}}}}
	with := func(r *http.Request) *http.Request {
		return s.prepare(r.WithContext(contextWith(r, caddyhttp.ServerCtxKey, server)))
	}
	s.MaxBody = 100
	tests := []struct {
		request *http.Request
		status  int
		text    string // of the error; "" when the answer is written
	}{
		{request(messageOf("ping", "")), 403, "authorization failed"},
		{httptest.NewRequest(http.MethodPut, "/mcp", nil), 405, "method not allowed"},
		{request(callOf(strings.Repeat("x", 100), "{}")), 413, "request body too large"},
		{func() *http.Request {
			r := request(messageOf("ping", ""))
			r.Header.Set("Content-Type", "text/plain")
			return r
		}(), 415, ""}, // the route does not match
		{request(callOf("x", "{}")), 200, ""},
		{request(callOf("read_a", `{"path":"/"}`)), 403, ""}, // JSON-RPC
		{request("{"), 400, ""},
	}
	for _, test := range tests {
		s.passed = nil
		w := httptest.NewRecorder()
		err := s.ServeHTTP(w, with(test.request), s.next())
		if s.passed != nil {
			t.Errorf("%d: the handler behind was reached", test.status)
		}
		if test.text == "" {
			if err != nil || w.Code != test.status || w.Body.Len() == 0 {
				t.Errorf("answer %d %s, %v, want %d", w.Code, w.Body, err, test.status)
			}
			continue
		}
		var failure caddyhttp.HandlerError
		if !errors.As(err, &failure) || failure.StatusCode != test.status || failure.Err.Error() != test.text {
			t.Errorf("error %v, want %d %s", err, test.status, test.text)
		}
		if w.Body.Len() > 0 {
			t.Errorf("%d: a body was written: %s", test.status, w.Body)
		}
		if test.status == 405 && w.Header().Get("Allow") == "" {
			t.Error("405 without Allow")
		}
	}
}

// A client of 2024-11-05 looks for answers on its stream: a refusal must not look like success to it, or it waits.
func TestRefusalOfLegacyPost(t *testing.T) {
	s := newSite(t, `allow mcp.tool.name == "a"`)
	for target, want := range map[string]int{"/mcp": 200, "/mcp?mcp_endpoint=x": 404, "/mcp?x=1&mcp_endpoint=x": 404, "/mcp?mcp_endpoints": 200} {
		w := s.post(callOf("b", "{}"), func(r *http.Request) { r.URL.RawQuery = strings.TrimPrefix(strings.TrimPrefix(target, "/mcp"), "?") })
		if w.Code != want || !strings.Contains(w.Body.String(), "Unknown tool: b") || s.passed != nil {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}
