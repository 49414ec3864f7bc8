package celauthz

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// bodyOf reads the body of a request that is made, not sent.
func bodyOf(t testing.TB, r *http.Request) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return string(body)
}

// again makes a request with the same headers and another body.
func again(r *http.Request, body string) *http.Request {
	other := request(body)
	other.Header = r.Header.Clone()
	return other
}

// wantUnchanged serves a request, which must go on as it came.
func (s *site) wantUnchanged(r *http.Request) {
	s.t.Helper()
	body := bodyOf(s.t, r)
	s.wantPassed(s.serve(r), body)
}

// listenTo is a modern subscription.
func listenTo(notifications string) *http.Request {
	return modernOf("subscriptions/listen", `{"x" : [1, 2] , "notifications":`+notifications+` , "y":"notifications"}`, "")
}

// The body that goes on differs in the notifications alone, and its length is
// its length.
func TestListenRequests(t *testing.T) {
	rules := append([]string{`deny mcp.method == "prompts/list"`}, okRules...)
	for name, c := range map[string]struct{ in, want string }{
		"everything is seen":      {`{"resourceSubscriptions":["ok://1"],"taskIds":["ok"],"toolsListChanged":true,"resourcesListChanged":false}`, `{"resourceSubscriptions":["ok://1"],"taskIds":["ok"],"toolsListChanged":true,"resourcesListChanged":false}`},
		"hidden URIs":             {`{ "resourceSubscriptions" : ["secret://1","ok://2","secret://3","ok://1"] }`, `{"resourceSubscriptions":["ok://2","ok://1"]}`},
		"only hidden URIs":        {`{"resourceSubscriptions":["secret://1"],"toolsListChanged":true}`, `{"resourceSubscriptions":[],"toolsListChanged":true}`},
		"hidden tasks":            {`{"taskIds":["secret","ok"]}`, `{"taskIds":["ok"]}`},
		"a list that is denied":   {`{"promptsListChanged":true,"toolsListChanged":true}`, `{"toolsListChanged":true}`},
		"a normal form":           {`{"resourceSubscriptions":["ok:/../../x","OK:/1","ok:/a/./b"]}`, `{"resourceSubscriptions":["ok:/../../x","ok:/a/./b"]}`},
		"members of no known use": {`{"other":["secret"],"toolsListChanged":true,"more":{"uri":"secret"},"text":"secret","number":1,"nothing":null,"switch":true}`, `{"toolsListChanged":true,"switch":true}`},
		"escapes":                 {`{"resource\u0053ubscriptions":["s\u0065cret","\u006fk"]}`, `{"resourceSubscriptions":["ok"]}`},
		"nothing":                 {`{}`, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, rules...)
			want := bodyOf(t, listenTo(c.want))
			r := listenTo(c.in)
			r.Header.Set("Content-Length", strconv.Itoa(int(r.ContentLength)))
			s.wantPassed(s.serve(r), want)
			if s.passed.ContentLength != int64(len(want)) {
				t.Errorf("length %d, want %d", s.passed.ContentLength, len(want))
			}
			if got := s.passed.Header["Content-Length"]; !slices.Equal(got, []string{strconv.Itoa(len(want))}) {
				t.Errorf("Content-Length %q, want %d", got, len(want))
			}
		})
	}
	// so it arrives over a connection, too, even without a length before
	s := newSite(t, rules...)
	got := make(chan string, 1)
	s.behind = func(w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(r.Body)
		got <- string(body)
		w.WriteHeader(http.StatusAccepted)
		return err
	}
	r := listenTo(`{"resourceSubscriptions":["secret://1","ok://1"]}`)
	r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
	s.serve(r)
	if body, want := <-got, bodyOf(t, listenTo(`{"resourceSubscriptions":["ok://1"]}`)); body != want || s.passed.TransferEncoding != nil {
		t.Errorf("got %s", body)
	}
}

func TestListenRequestsThatAreMalformed(t *testing.T) {
	s := newSite(t, "allow true")
	for name, notifications := range map[string]string{
		"null":                `null`,
		"a list":              `["secret"]`,
		"URIs of no list":     `{"resourceSubscriptions":"secret"}`,
		"null for URIs":       `{"resourceSubscriptions":null}`,
		"numbers for URIs":    `{"resourceSubscriptions":[1]}`,
		"objects for URIs":    `{"resourceSubscriptions":[{"uri":"secret"}]}`,
		"task ids in a text":  `{"taskIds":"a"}`,
		"two lists":           `{"taskIds":["ok"],"taskIds":["secret"]}`,
		"two by escapes":      `{"taskIds":["ok"],"\u0074askIds":["secret"]}`,
		"a twin":              `{"taskIds":["ok"],"taskids":["secret"]}`,
		"a twin of a switch":  `{"ToolsListChanged":true}`,
		"too many":            `{"taskIds":[` + strings.Repeat(`"a",`, 1000) + `"a"]}`,
		"half of it":          `{"taskIds":[`,
		"a surrogate":         `{"taskIds":["\ud800"]}`,
		"two notifications":   `{},"notifications":{}`,
		"a twin of the whole": `{},"Notifications":{"taskIds":["secret"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if w := s.serve(listenTo(notifications)); w.Code != http.StatusBadRequest || s.passed != nil || !strings.Contains(w.Body.String(), `"error":{"code":-32`) {
				t.Errorf("answer %d %s", w.Code, w.Body)
			}
		})
	}
	if w := s.serve(modernOf("subscriptions/listen", `{}`, "")); w.Code != http.StatusBadRequest || s.passed != nil {
		t.Errorf("without notifications: answer %d %s", w.Code, w.Body)
	}
}

// What the server says it has subscribed the client to, and what it sends
// later, is cut to what this client may see, whatever the client has asked.
func TestListenStream(t *testing.T) {
	event := func(id int, method, params string) string {
		return "id: " + strconv.Itoa(id) + "\ndata: " + `{"jsonrpc":"2.0","method":"notifications/` + method + `","params":` + params + "}\n\n"
	}
	rules := append([]string{`deny mcp.method == "prompts/list"`}, okRules...)
	stream := event(1, "subscriptions/acknowledged", `{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"notifications":{"resourceSubscriptions":["secret://1","ok://1"],"taskIds":["secret"],"promptsListChanged":true,"toolsListChanged":true,"x":["secret"]}}`) +
		event(2, "resources/updated", `{"uri":"secret://1"}`) +
		event(3, "resources/updated", `{"uri":"ok://1"}`) +
		event(4, "tasks", `{"taskId":"secret","status":"working"}`) +
		event(5, "tasks", `{"taskId":"ok","status":"working"}`) +
		event(6, "tools/list_changed", `{}`) +
		": keep-alive\n\n"
	want := event(1, "subscriptions/acknowledged", `{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"notifications":{"resourceSubscriptions":["ok://1"],"taskIds":[],"toolsListChanged":true}}`) +
		"id: 2\n\n" +
		event(3, "resources/updated", `{"uri":"ok://1"}`) +
		"id: 4\n\n" +
		event(5, "tasks", `{"taskId":"ok","status":"working"}`) +
		event(6, "tools/list_changed", `{}`) +
		": keep-alive\n\n"
	for _, size := range []int{1, 1 << 20} {
		s := newSite(t, rules...)
		s.behind = inPieces(size, http.StatusOK, eventType, stream)
		w := s.serve(listenTo(`{"resourceSubscriptions":["ok://1"],"toolsListChanged":true}`))
		if w.Body.String() != want {
			t.Errorf("in pieces of %d: got\n%s\nwant\n%s", size, w.Body, want)
		}
	}
	for name, bad := range map[string]string{
		"an acknowledgement of no kind": event(1, "subscriptions/acknowledged", `["secret"]`),
		"one with a text for URIs":      event(1, "subscriptions/acknowledged", `{"notifications":{"resourceSubscriptions":"secret"}}`),
		"one with a twin":               event(1, "subscriptions/acknowledged", `{"Notifications":{"resourceSubscriptions":["secret"]}}`),
		"an update about nothing":       event(1, "resources/updated", `{}`),
		"an update with a twin":         event(1, "resources/updated", `{"uri":"ok","Uri":"secret"}`),
	} {
		s := newSite(t, rules...)
		s.behind = answers(http.StatusOK, eventType, bad)
		if w := s.broken(listenTo(`{}`)); w.Body.Len() > 0 {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
}

// A listener that may see nothing of what it asked for still gets its stream;
// one that may do nothing at all does not.
func TestListenDenied(t *testing.T) {
	s := newSite(t, `allow jwt.sub == "alice" && mcp.resource.uri == "x"`)
	s.as(`{"sub":"alice"}`).wantPassed(s.serve(listenTo(`{"taskIds":["a"]}`)), bodyOf(t, listenTo(`{"taskIds":[]}`)))
	s.as(`{"sub":"bob"}`).wantRefused(s.serve(listenTo(`{"taskIds":["a"]}`)), 403, "authorization failed")
	s = newSite(t, `allow true`, `deny mcp.method == "subscriptions/listen"`)
	s.wantRefused(s.serve(listenTo(`{}`)), 403, "authorization failed")
}
