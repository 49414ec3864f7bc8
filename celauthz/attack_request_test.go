package celauthz

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// What the reader refuses (internal/mcpwire tries every variation) is
// answered with 400 and JSON-RPC, and nothing of it goes on, even where
// everything is allowed.
func TestMalformedMessages(t *testing.T) {
	s := newSite(t, "allow true", "allow mcp.method != ''")
	deep := strings.Repeat("[", 100_000)
	tests := []struct {
		name, body string
		code       int
	}{
		{"A91 duplicate method", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"x"}}`, -32600},
		{"A91 duplicate name by escape", messageOf("tools/call", `{"name":"a","\u006eame":"b"}`), -32600},
		{"A91 duplicate in arguments", callOf("t", `{"a":[{"b":1,"b":2}]}`), -32600},
		{"A92 Method", `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`, -32600},
		{"A92 Name", messageOf("tools/call", `{"name":"a","Name":"b"}`), -32600},
		{"A93 long s", messageOf("tools/call", `{"name":"a"},"param\u017f":{"name":"b"}`), -32600},
		{"A93 Kelvin sign", messageOf("tasks/get", `{"taskId":"a","tas\u212aId":"b"}`), -32600},
		{"A94 NUL", messageOf("tools/call", `{"name":"a","name\u0000":"b"}`), -32600},
		{"A96 BOM", "\xef\xbb\xbf" + messageOf("ping", ""), -32700},
		{"A96 UTF-16", "{\x00\"\x00", -32700},
		{"A96 invalid UTF-8", callOf("a\xff", "{}"), -32700},
		{"A96 lone surrogate", callOf(`\ud800`, "{}"), -32700},
		{"A97 trailing garbage", messageOf("ping", "") + "x", -32700},
		{"A97 NDJSON", messageOf("ping", "") + "\n" + callOf("x", "{}"), -32700},
		{"A98 empty", "", -32700},
		{"A98 truncated", callOf("x", "{}")[:40], -32700},
		{"A99 depth 1,000", callOf("x", `{"a":`+deep[:1000]+strings.Repeat("]", 1000)+"}"), -32700},
		{"A99 depth 100,000", callOf("x", `{"a":`+deep), -32700},
		{"A101 id null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, -32600},
		{"A101 id object", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, -32600},
		{"A103 params array", messageOf("tools/call", `["x"]`), -32600},
		{"A103 name number", messageOf("tools/call", `{"name":1}`), -32600},
		{"A104 call and response", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"},"result":{}}`, -32600},
		{"not JSON", "name=x", -32700},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := s.post(test.body)
			if s.passed != nil {
				t.Fatal("it went on")
			}
			if w.Code != 400 || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("answer %d %q", w.Code, w.Header())
			}
			if want := fmt.Sprintf(`"error":{"code":%d,"message":"malformed message: `, test.code); !strings.Contains(w.Body.String(), want) {
				t.Errorf("answer %s, want %s", w.Body, want)
			}
		})
	}
}

// What is wrong is said without repeating what came.
func TestMalformedMessagesAreNotRepeated(t *testing.T) {
	s := newSite(t, "allow true")
	for _, body := range []string{`{"secret":1,"secret":2}`, `{"secret`, `secret`, `{"jsonrpc":"2.0","id":1,"method":"ping","params":"secret"}`} {
		if w := s.post(body); strings.Contains(w.Body.String(), "secret") {
			t.Errorf("answer %s", w.Body)
		}
	}
	if logged := fmt.Sprint(s.logs.All()); strings.Contains(logged, "secret") {
		t.Errorf("logged %s", logged)
	}
}

// A102: a call without an id is judged like any other.
func TestA102_CallAsNotification(t *testing.T) {
	s := newSite(t, `allow mcp.tool.name == "ok"`)
	for name, passes := range map[string]bool{"ok": true, "no": false} {
		message := `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"` + name + `"}}`
		w := s.post(message)
		if passes {
			s.wantPassed(w, message)
		} else {
			s.wantRefused(w, 403, "authorization failed")
		}
	}
}

// A104: what a client posts in answer to a server is judged as a request
// without a target, and never as a call.
func TestA104_PostedResponses(t *testing.T) {
	response := `{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call","params":{"name":"x"},"role":"assistant","content":{"type":"text","text":"x"},"model":"m"}}`
	failure := `{"jsonrpc":"2.0","id":"a","error":{"code":-1,"message":"tools/call"}}`
	for _, message := range []string{response, failure} {
		s := newSite(t, `allow mcp.tool.name == "y"`)
		s.wantPassed(s.post(message), message)
		s = newSite(t, `allow true`, `deny mcp.method == ""`)
		s.wantRefused(s.post(message), 403, "authorization failed")
		s = newSite(t, `allow jwt.sub == "alice"`).as(`{"sub":"bob"}`)
		s.wantRefused(s.post(message), 403, "authorization failed")
	}
}

// A106: names are compared byte for byte; whatever looks like the one that is
// allowed is another.
func TestA106_NameTwins(t *testing.T) {
	s := newSite(t, `allow mcp.tool.name == "read_file"`)
	s.wantPassed(s.post(callOf(`re\u0061d_file`, "{}")), callOf(`re\u0061d_file`, "{}"))
	for _, name := range []string{
		"Read_file", "READ_FILE", "read_file ", " read_file", `read_file\n`, `read_file\u0000`, "read_file\u200b", "re\u00adad_file", "ｒead_file", "rеad_file", "read-file", "read_filé",
	} {
		if w := s.post(callOf(name, "{}")); w.Code != 200 || !strings.Contains(w.Body.String(), "Unknown tool: ") || s.passed != nil {
			t.Errorf("%q: answer %d %s", name, w.Code, w.Body)
		}
	}
}

func TestA107_ContentTypes(t *testing.T) {
	s := newSite(t, `allow mcp.method == "ping"`)
	for _, contentType := range []string{
		"application/json", "Application/JSON", "application/json;charset=utf-8", `application/json; charset="UTF-8"`, "application/json ; Charset=Utf-8", " application/json ", "application/json;",
	} {
		change := func(r *http.Request) { r.Header["Content-Type"] = []string{contentType} }
		s.wantPassed(s.post(messageOf("ping", ""), change), messageOf("ping", ""))
		// the same rules hold
		if w := s.post(callOf("x", "{}"), change); s.passed != nil || w.Code != 200 {
			t.Errorf("%q: a call was passed on", contentType)
		}
	}
	for _, contentType := range []string{
		"", "text/plain", "text/json", "application/jsonx", "application/json-rpc", "application/vnd.api+json", "application/x-ndjson", "application/x-www-form-urlencoded",
		"multipart/form-data; boundary=x", "multipart/mixed", "text/event-stream", "*/*", "application/*", "json", "application/json, text/plain", "text/plain, application/json",
		"application/json text/plain", "application/json/x", "application /json", "application/json\x00",
		// another charset would be another message
		"application/json; charset=utf-16", "application/json; charset=utf-7", "application/json; charset=UTF-32LE", "application/json; charset=iso-8859-1", "application/json; charset=",
		"application/json; charset", "application/json; charset=utf-8; charset=utf-7", `application/json; charset="utf-8; charset=utf-7"`, "application/json; charset*=latin1''utf-7", "application/json; charset*=utf-8''utf-7", "application/json; charset*0=utf-; charset*1=7",
		`application/json; x="; charset=utf-7"`, "application/json; charset=utf-8; boundary=x",
	} {
		change := func(r *http.Request) { r.Header["Content-Type"] = []string{contentType} }
		s.wantRefused(s.post(messageOf("ping", ""), change), 415, "the body must be application/json")
	}
	s.wantRefused(s.post(messageOf("ping", ""), func(r *http.Request) { delete(r.Header, "Content-Type") }), 415, "the body must be application/json")
	s.wantRefused(s.post(messageOf("ping", ""), header("Content-Type", "application/json")), 400, "more than one Content-Type header")
	s.wantRefused(s.post(messageOf("ping", ""), header("Content-Type", "text/plain")), 400, "more than one Content-Type header")
}

// What a body in UTF-7 would be to a server that believes its charset: the
// name read here is harmless, the name read there is not.
func TestA107_UTF7(t *testing.T) {
	s := newSite(t, "allow true", `deny mcp.tool.name == "delete"`)
	body := messageOf("tools/call", `{"name":"+AGQ-elete"}`)
	s.wantPassed(s.post(body), body)
	for _, charset := range []string{"utf-7", "UTF-7", "unicode-1-1-utf-7"} {
		w := s.post(body, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset="+charset) })
		s.wantRefused(w, 415, "the body must be application/json")
	}
}

func TestA108_ContentEncoding(t *testing.T) {
	s := newSite(t, "allow true")
	for _, encodings := range [][]string{
		{"gzip"}, {"x-gzip"}, {"deflate"}, {"br"}, {"zstd"}, {"GZIP"}, {"gzip, gzip"}, {"identity, gzip"}, {"gzip, identity"}, {"gzip", "gzip"}, {"identity", "gzip"}, {""}, {"aws-chunked"}, {"unknown"},
	} {
		w := s.post(messageOf("ping", ""), func(r *http.Request) { r.Header["Content-Encoding"] = encodings })
		s.wantRefused(w, 415, "the body must not be encoded")
	}
	for _, identity := range []string{"identity", "Identity"} {
		s.wantPassed(s.post(messageOf("ping", ""), header("Content-Encoding", identity)), messageOf("ping", ""))
	}
}

// A109: headers that repeat the message must repeat it, and be there once.
func TestA109_MirroredHeaders(t *testing.T) {
	s := newSite(t, "allow true")
	for name, change := range map[string]func(*http.Request){
		"method":           header("Mcp-Method", "ping"),
		"method by case":   header("Mcp-Method", "Tools/Call"),
		"name":             header("Mcp-Name", "read"),
		"name by case":     header("Mcp-Name", "Delete"),
		"two methods":      func(r *http.Request) { r.Header["Mcp-Method"] = []string{"tools/call", "tools/call"} },
		"two names":        func(r *http.Request) { r.Header["Mcp-Name"] = []string{"delete", "read"} },
		"two versions":     func(r *http.Request) { r.Header["Mcp-Protocol-Version"] = []string{"2025-06-18", "2025-06-18"} },
		"two sessions":     func(r *http.Request) { r.Header["Mcp-Session-Id"] = []string{"a", "b"} },
		"unknown version":  header("MCP-Protocol-Version", "2024-01-01"),
		"version in words": header("MCP-Protocol-Version", "latest"),
	} {
		t.Run(name, func(t *testing.T) {
			if w := s.post(callOf("delete", "{}"), change); w.Code != 400 || s.passed != nil {
				t.Errorf("answer %d %s", w.Code, w.Body)
			}
		})
	}
	matching := []func(*http.Request){header("Mcp-Method", "tools/call"), header("Mcp-Name", "delete"), header("Mcp-Session-Id", "a"), header("Mcp-Param-Region", "x")}
	s.wantPassed(s.post(callOf("delete", "{}"), matching...), callOf("delete", "{}"))
}

func TestA113_Methods(t *testing.T) {
	s := newSite(t, "allow true", "allow mcp.method != ''")
	for _, method := range []string{
		"PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "post", "Post", "get", "delete", "QUERY", "PROPFIND", "", "POST ", "X",
	} {
		r := request(messageOf("ping", ""))
		r.Method = method
		w := s.serve(r)
		s.wantRefused(w, 405, "method not allowed")
		if allow := w.Header().Get("Allow"); allow != "GET, POST, DELETE" {
			t.Errorf("%s: Allow %q", method, allow)
		}
	}
	// a body that GET and DELETE bring along would be judged by nobody
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		r := httptest.NewRequest(method, "/mcp", strings.NewReader(callOf("x", "{}")))
		s.wantRefused(s.serve(r), 400, "a "+method+" request has no body")
		r = httptest.NewRequest(method, "/mcp", strings.NewReader(callOf("x", "{}")))
		r.ContentLength = -1 // chunked
		s.wantRefused(s.serve(r), 400, "a "+method+" request has no body")
		s.serve(httptest.NewRequest(method, "/mcp", nil))
		if s.passed == nil {
			t.Errorf("%s was refused", method)
		}
	}
	// what would be another method elsewhere is none here
	denied := newSite(t, "allow true", `deny mcp.tool.name == "x"`, `deny request.method == "DELETE"`)
	for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		denied.wantRefused(denied.post(callOf("x", "{}"), header(name, "GET")), 200, rpcError("1", -32602, `"Unknown tool: x"`, ""))
		r := httptest.NewRequest(http.MethodDelete, "/mcp?_method=POST", nil)
		r.Header.Set(name, "POST")
		denied.wantRefused(denied.serve(r), 403, "authorization failed")
	}
}

// GET and DELETE are legacy: a modern client that sends one learns that, and
// one of no known version is wrong.
func TestMethodsOfVersions(t *testing.T) {
	s := newSite(t, "allow true")
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		try := func(versions ...string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, "/mcp", nil)
			r.Header["Mcp-Protocol-Version"] = versions
			return s.serve(r)
		}
		w := try("2026-07-28")
		s.wantRefused(w, 405, "method not allowed")
		if allow := w.Header().Get("Allow"); allow != "POST" {
			t.Errorf("Allow %q", allow)
		}
		s.wantRefused(try("2025-01-01"), 400, "unsupported protocol version")
		s.wantRefused(try("2025-06-18", "2025-06-18"), 400, "more than one Mcp-Protocol-Version header")
		for _, version := range []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"} {
			if w := try(version); s.passed == nil {
				t.Errorf("%s of %s: answer %d %s", method, version, w.Code, w.Body)
			}
		}
	}
}

// An upgraded connection would be a tunnel past every rule.
func TestUpgradesAreRefused(t *testing.T) {
	s := newSite(t, "allow true")
	for name, headers := range map[string]http.Header{
		"websocket":         {"Upgrade": {"websocket"}, "Connection": {"Upgrade"}},
		"upgrade only":      {"Upgrade": {"h2c"}},
		"empty":             {"Upgrade": {""}},
		"connection only":   {"Connection": {"upgrade"}},
		"among others":      {"Connection": {"keep-alive, UPGRADE , TE"}},
		"in another header": {"Connection": {"keep-alive", "Upgrade"}},
		"h2c":               {"Upgrade": {"h2c"}, "Connection": {"Upgrade, HTTP2-Settings"}, "Http2-Settings": {"AAMAAABkAARAAAAAAAIAAAAA"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
				r := httptest.NewRequest(method, "/mcp", nil)
				if method == http.MethodPost {
					r = request(messageOf("ping", ""))
				}
				for name, values := range headers {
					r.Header[name] = values
				}
				s.wantRefused(s.serve(r), 400, "upgrades are not accepted")
			}
		})
	}
	s.wantPassed(s.post(messageOf("ping", ""), header("Connection", "keep-alive"), header("Upgrade-Insecure-Requests", "1")), messageOf("ping", ""))
}

// A state left by an earlier handler of the kind is not believed.
func TestMessageOfAnEarlierHandler(t *testing.T) {
	s := newSite(t, "allow true")
	s.wantPassed(s.post(callOf("a", "{}")), callOf("a", "{}"))
	first := s.passed
	again := newSite(t, `allow mcp.tool.name == "b"`)
	again.wantRefused(again.serve(func() *http.Request {
		r := request(callOf("c", "{}"))
		return r.WithContext(first.Context())
	}()), 200, rpcError("1", -32602, `"Unknown tool: c"`, ""))

	// nor does it outlive a request that cannot be read
	state := reqctx.From(first.Context())
	for _, body := range []string{"{", "["} {
		state.Message = &mcpwire.Message{Method: "ping"}
		again.wantRefused(again.serve(request(body).WithContext(first.Context())), 400,
			again.serve(request(body)).Body.String())
		if state.Message != nil {
			t.Errorf("%q: the message is still %+v", body, state.Message)
		}
	}
}
