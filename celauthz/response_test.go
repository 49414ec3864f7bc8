package celauthz

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// okRules show what starts with "ok", of every kind.
var okRules = []string{
	`allow mcp.tool.name.startsWith("ok")`,
	`allow mcp.prompt.name.startsWith("ok")`,
	`allow mcp.resource.uri.startsWith("ok")`,
	`allow mcp.task.id.startsWith("ok")`,
}

// answers is a handler behind that answers with a body of a type, in one
// piece, and with more headers in turns of name and value.
func answers(status int, contentType, body string, headers ...string) caddyhttp.HandlerFunc {
	return inPieces(len(body), status, contentType, body, headers...)
}

// inPieces is answers, but writes size bytes at a time. A type of "" is none.
func inPieces(size, status int, contentType, body string, headers ...string) caddyhttp.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		for piece := range slices.Chunk([]byte(body), max(size, 1)) {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	}
}

// list is the request whose answers most tests filter.
const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`

// broken serves a request whose answer has to be broken off: the handler
// behind gets an error. It returns what the client has got by then.
func (s *site) broken(r *http.Request) *httptest.ResponseRecorder {
	s.t.Helper()
	w := httptest.NewRecorder()
	if err := s.try(w, r); err == nil {
		s.t.Errorf("not broken off: %d %s", w.Code, w.Body)
	}
	return w
}

// judged serves a request, whatever becomes of its answer.
func (s *site) judged(r *http.Request) *httptest.ResponseRecorder {
	s.t.Helper()
	w := httptest.NewRecorder()
	_ = s.try(w, r)
	return w
}

// wantBadGateway checks that nothing of an answer was passed on, and that the
// client was told so under the id of its request.
func wantBadGateway(t *testing.T, w *httptest.ResponseRecorder, id string) {
	t.Helper()
	want := `{"jsonrpc":"2.0","id":` + id + `,"error":{"code":-31502,"message":"the server's answer could not be checked"}}`
	if w.Code != http.StatusBadGateway || w.Body.String() != want {
		t.Errorf("answer %d %.200s\nwant   502 %s", w.Code, w.Body, want)
	}
	wantHeader(t, w, "Content-Type", jsonType)
	wantHeader(t, w, "Content-Length", strconv.Itoa(len(want)))
	wantHeader(t, w, "Content-Encoding", "")
	wantHeader(t, w, "Etag", "")
}

// wantHeader checks the one value of a header, "" for none.
func wantHeader(t *testing.T, w *httptest.ResponseRecorder, name, want string) {
	t.Helper()
	if got := strings.Join(w.Result().Header.Values(name), " | "); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

// The lists of each kind, as JSON and as the payload of an event.
func TestListsAreFiltered(t *testing.T) {
	for method, c := range map[string]struct{ in, want string }{
		"tools/list":               {`"tools":[{"name":"secret"},{"name":"ok_2"},{"name":"ok_1"}]`, `"tools":[{"name":"ok_2"},{"name":"ok_1"}]`},
		"prompts/list":             {`"prompts":[{"name":"ok"},{"name":"secret"}]`, `"prompts":[{"name":"ok"}]`},
		"resources/list":           {`"resources":[{"uri":"ok://1"},{"uri":"secret://1","name":"ok"}]`, `"resources":[{"uri":"ok://1"}]`},
		"resources/templates/list": {`"resourceTemplates":[{"uriTemplate":"secret://{x}"},{"uriTemplate":"ok://{x}"}]`, `"resourceTemplates":[{"uriTemplate":"ok://{x}"}]`},
		"tasks/list":               {`"tasks":[{"taskId":"secret"},{"taskId":"ok"}]`, `"tasks":[{"taskId":"ok"}]`},
	} {
		t.Run(method, func(t *testing.T) {
			message := func(list string) string {
				return `{"jsonrpc":"2.0","id":1,"result":{` + list + `,"nextCursor":"c","_meta":{"x":9007199254740993}}}`
			}
			s := newSite(t, okRules...)
			s.behind = answers(http.StatusOK, jsonType, message(c.in), "Content-Length", strconv.Itoa(len(message(c.in))),
				"Etag", `"1"`, "Last-Modified", "Mon, 23 Nov 2026 00:00:00 GMT", "Cache-Control", "public, max-age=60", "X-Other", "1")
			w := s.post(messageOf(method, ""))
			if w.Code != http.StatusOK || w.Body.String() != message(c.want) {
				t.Errorf("answer %d %s", w.Code, w.Body)
			}
			wantHeader(t, w, "Content-Length", strconv.Itoa(len(message(c.want))))
			wantHeader(t, w, "Etag", "")
			wantHeader(t, w, "Last-Modified", "")
			wantHeader(t, w, "Cache-Control", "private, max-age=60")
			wantHeader(t, w, "X-Other", "1")

			s.behind = answers(http.StatusOK, eventType, "id: 5\ndata: "+message(c.in)+"\n\n", "Content-Length", "1234", "Etag", `"1"`)
			w = s.post(messageOf(method, ""))
			if w.Body.String() != "id: 5\ndata: "+message(c.want)+"\n\n" {
				t.Errorf("answer %d %s", w.Code, w.Body)
			}
			wantHeader(t, w, "Content-Length", "")
			wantHeader(t, w, "Etag", "")
			wantHeader(t, w, "Cache-Control", "private")
		})
	}
}

// A list of which nothing is hidden is the list that came, with its headers;
// another caller might have got another one all the same.
func TestListOfWhatIsSeen(t *testing.T) {
	const body = "{ \"jsonrpc\":\"2.0\",\"result\":\n{\"tools\" : [ {\"name\":\"ok\"} ] ,\"x\":1e400 },\"id\":1}\n"
	s := newSite(t, okRules...)
	s.behind = answers(http.StatusOK, jsonType, body, "Content-Length", strconv.Itoa(len(body)), "Etag", `"1"`)
	w := s.post(list)
	if w.Body.String() != body {
		t.Errorf("answer %s", w.Body)
	}
	wantHeader(t, w, "Content-Length", strconv.Itoa(len(body)))
	wantHeader(t, w, "Etag", `"1"`)
	wantHeader(t, w, "Cache-Control", "private")

	event := "id: 1\r\ndata:" + strings.ReplaceAll(body, "\n", "\r\ndata:") + "\r\n\r\n"
	s.behind = answers(http.StatusOK, eventType, event)
	if w := s.post(list); w.Body.String() != event {
		t.Errorf("answer %s", w.Body)
	}
}

func TestCacheControl(t *testing.T) {
	for name, c := range map[string]struct {
		values []string
		want   string
	}{
		"none":              {nil, "private"},
		"public":            {[]string{"public"}, "private"},
		"of another case":   {[]string{"Public, Max-Age=1"}, "private, Max-Age=1"},
		"private already":   {[]string{"private"}, "private"},
		"not to be stored":  {[]string{"no-store"}, "private, no-store"},
		"several headers":   {[]string{"public", "max-age=5, public,, no-transform"}, "private, max-age=5, no-transform"},
		"an empty one":      {[]string{""}, "private"},
		"private for names": {[]string{`private="x"`}, `private, private="x"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, okRules...)
			for _, contentType := range []string{jsonType, eventType} {
				var headers []string
				for _, value := range c.values {
					headers = append(headers, "Cache-Control", value)
				}
				s.behind = answers(http.StatusOK, contentType, `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`, headers...)
				wantHeader(t, s.post(list), "Cache-Control", c.want)
			}
		})
	}
}

func TestA123_Pages(t *testing.T) {
	s := newSite(t, okRules...)
	pages := map[string][2]string{
		"":  {`[{"name":"ok_1"},{"name":"secret_1"}],"nextCursor":"b"`, `[{"name":"ok_1"}],"nextCursor":"b"`},
		"b": {`[{"name":"secret_2"}],"nextCursor":"c"`, `[],"nextCursor":"c"`},
		"c": {`[],"nextCursor":"d"`, `[],"nextCursor":"d"`},
		"d": {`[{"name":"ok_2"}]`, `[{"name":"ok_2"}]`},
	}
	for cursor, page := range pages {
		for _, form := range []string{"%", "data: %\n\n"} {
			contentType := jsonType
			if strings.HasPrefix(form, "data") {
				contentType = eventType
			}
			answer := func(list string) string {
				return strings.Replace(form, "%", `{"jsonrpc":"2.0","id":1,"result":{"tools":`+list+`}}`, 1)
			}
			s.behind = answers(http.StatusOK, contentType, answer(page[0]))
			params := ""
			if cursor != "" {
				params = `{"cursor":"` + cursor + `"}`
			}
			if w := s.post(messageOf("tools/list", params)); w.Body.String() != answer(page[1]) {
				t.Errorf("page %q: %s", cursor, w.Body)
			}
		}
	}
}

// Answers without lists pass as they are, headers and all.
func TestAnswersWithoutLists(t *testing.T) {
	answer := "{ \"jsonrpc\":\"2.0\",\"id\":1,\n\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"\\u0074ools\"}],\"x\":1.0e400,\"structuredContent\":{\"tools\":[{\"name\":\"secret\"}]}}}\r\n"
	headers := []string{"Content-Length", strconv.Itoa(len(answer)), "Etag", `"1"`, "Cache-Control", "public"}
	for name, method := range map[string]string{
		"a call":     callOf("ok", `{}`),
		"a prompt":   messageOf("prompts/get", `{"name":"ok"}`),
		"a resource": messageOf("resources/read", `{"uri":"ok://1"}`),
		"initialize": messageOf("initialize", `{"protocolVersion":"2025-06-18"}`),
		"ping":       messageOf("ping", ""),
	} {
		for _, status := range []int{http.StatusOK, http.StatusNotFound, http.StatusInternalServerError} {
			for _, size := range []int{1, len(answer)} {
				s := newSite(t, okRules...)
				s.behind = inPieces(size, status, jsonType, answer, headers...)
				w := s.post(method)
				if w.Code != status || w.Body.String() != answer {
					t.Errorf("%s: answer %d %s", name, w.Code, w.Body)
				}
				for i := 0; i < len(headers); i += 2 {
					wantHeader(t, w, headers[i], headers[i+1])
				}
			}
		}
	}
}

// A handler behind that answers nothing has not answered 200: reverse_proxy
// does so when a server wants to switch protocols.
func TestNoAnswer(t *testing.T) {
	s := newSite(t, okRules...)
	s.behind = func(http.ResponseWriter, *http.Request) error { return nil }
	wantBadGateway(t, s.post(list), "1")
	wantBadGateway(t, s.serve(get()), "null")
}

// Bodies that are no JSON pass when nothing in them could be a message.
func TestAnswersWithoutMessages(t *testing.T) {
	s := newSite(t, okRules...)
	for name, behind := range map[string]caddyhttp.HandlerFunc{
		"accepted":            answers(http.StatusAccepted, "", ""),
		"accepted, with type": answers(http.StatusAccepted, jsonType, ""),
		"no content":          answers(http.StatusNoContent, "", ""),
		"not modified":        answers(http.StatusNotModified, jsonType, "", "Etag", `"1"`),
		"unauthorized":        answers(http.StatusUnauthorized, "text/plain; charset=utf-8", "no token", "Www-Authenticate", "Bearer"),
		"a page":              answers(http.StatusNotFound, "text/html", "<h1>404</h1>"),
		"a length of zero":    answers(http.StatusAccepted, jsonType, "", "Content-Length", "0"),
		"text, without status": func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "text/plain")
			_, err := w.Write([]byte("hello"))
			return err
		},
	} {
		plain := httptest.NewRecorder()
		if err := behind(plain, nil); err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{list, callOf("ok", "{}"), `{"jsonrpc":"2.0","method":"notifications/initialized"}`} {
			s.behind = behind
			w := s.post(message)
			if w.Code != plain.Code || w.Body.String() != plain.Body.String() {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
			for _, header := range []string{"Content-Type", "Etag", "Www-Authenticate"} {
				wantHeader(t, w, header, plain.Result().Header.Get(header))
			}
		}
	}
}
