package celauthz

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// sseEvent is an event as a client dispatches it.
type sseEvent struct{ name, id, data string }

// readSSE reads a stream as clients do (HTML standard, 9.2.6), and in
// addition tells the comments and the last id and retry that it saw.
func readSSE(stream string) (events []sseEvent, comments []string, lastID, retry string) {
	stream = strings.TrimPrefix(stream, "\ufeff")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	var name string
	var data []string
	for _, line := range lines[:len(lines)-1] {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data != nil {
				events = append(events, sseEvent{name, lastID, strings.Join(data, "\n")})
			}
			name, data = "", nil
		case field == "":
			comments = append(comments, value)
		case field == "event":
			name = value
		case field == "id":
			lastID = value
		case field == "retry":
			retry = value
		case field == "data":
			data = append(data, value)
		}
	}
	return events, comments, lastID, retry
}

// resultOf is the answer to a list of tools.
func resultOf(id, list string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"result":{"tools":` + list + `}}`
}

const (
	mixedList = `[{"name":"secret_1"},{"name":"ok_1"},{"name":"secret_2"}]`
	okList    = `[{"name":"ok_1"}]`
	progress  = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.5}}`
)

// lineStyles are the ways to end a line. With mixed ends, an LF behind a CR
// would belong to it, so no line that ends in CR is followed by one in LF.
var lineStyles = map[string][]string{"LF": {"\n"}, "CR": {"\r"}, "CRLF": {"\r\n"}, "mixed": {"\r\n", "\r", "\r\n", "\n"}}

// inStyle ends the lines of a stream in a style, in turns.
func inStyle(stream string, ends []string) string {
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(stream, "\n"), "\n") {
		end := ends[i%len(ends)]
		if line == "" && end == "\n" && strings.HasSuffix(b.String(), "\r") {
			end = "\r"
		}
		b.WriteString(line + end)
	}
	return b.String()
}

// SSE where it says it is SSE, however its lines end, however it arrives.
func TestA115_ListAsSSE(t *testing.T) {
	stream := ": welcome\nid: 0\nretry: 300\ndata:\n\n" +
		"event: message\nid: 1\ndata: " + progress + "\n\n" +
		"event: message\ndata: " + resultOf("1", mixedList) + "\nid: 2\n: within\nretry: 400\n\n" +
		": bye\nid: 3\ndata: " + progress + "\n\n"
	wanted := []sseEvent{
		{"", "0", ""},
		{"message", "1", progress},
		{"message", "2", resultOf("1", okList)},
		{"", "3", progress},
	}
	for style, ends := range lineStyles {
		for _, mark := range []string{"", "\ufeff"} {
			for _, size := range []int{1, 2, 7, 1 << 20} {
				t.Run(fmt.Sprintf("%s %d in %d", style, len(mark), size), func(t *testing.T) {
					s := newSite(t, okRules...)
					s.behind = inPieces(size, http.StatusOK, "Text/Event-Stream; charset=UTF-8", mark+inStyle(stream, ends))
					w := s.post(list)
					if strings.Contains(w.Body.String(), "secret") {
						t.Fatalf("hidden names in %q", w.Body)
					}
					events, comments, _, retry := readSSE(w.Body.String())
					if !slices.Equal(events, wanted) {
						t.Errorf("events %q", events)
					}
					if !slices.Equal(comments, []string{"welcome", "within", "bye"}) || retry != "400" {
						t.Errorf("comments %q, retry %s", comments, retry)
					}
				})
			}
		}
	}
}

// compact takes the blanks out of a message.
func compact(message string) string {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(message)); err != nil {
		return err.Error() + ": " + message
	}
	return b.String()
}

func TestA116_PayloadInPieces(t *testing.T) {
	// between two tokens a line may end
	lines := "id: 1\ndata: " + strings.ReplaceAll(resultOf("1", mixedList), ":", ":\ndata:") + "\n\n"
	for style, ends := range lineStyles {
		for _, size := range []int{1, 3, 1 << 20} {
			s := newSite(t, okRules...)
			s.behind = inPieces(size, http.StatusOK, eventType, inStyle(lines+"data: "+progress+"\n\n", ends))
			w := s.post(list)
			events, _, _, _ := readSSE(w.Body.String())
			if strings.Contains(w.Body.String(), "secret") || len(events) != 2 ||
				compact(events[0].data) != resultOf("1", okList) || events[1].data != progress || events[1].id != "1" {
				t.Errorf("%s in %d: %q", style, size, events)
			}
		}
	}
}

// A line end inside of a text is no JSON, so nobody can say what it is.
func TestA116_PayloadInPiecesWithinAText(t *testing.T) {
	s := newSite(t, okRules...)
	s.behind = answers(http.StatusOK, eventType, "data: "+progress+"\n\ndata: "+strings.Replace(resultOf("1", mixedList), "secret_1", "sec\ndata: ret_1", 1)+"\n\n")
	w := s.broken(request(list))
	if events, _, _, _ := readSSE(w.Body.String()); len(events) != 1 || events[0].data != progress {
		t.Errorf("%q", w.Body)
	}
}

// The stream is judged event by event: what comes before a list does not
// open the gate for it, and behind what cannot be judged nothing passes.
func TestA117_BeforeTheList(t *testing.T) {
	behind := "data: " + resultOf("1", mixedList) + "\n\n"
	for name, first := range map[string]string{
		"a notification":      "data: " + progress + "\n\n",
		"a request":           `data: {"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}` + "\n\n",
		"another answer":      `data: {"jsonrpc":"2.0","id":7,"result":{}}` + "\n\n",
		"an empty event":      "data:\n\n",
		"text without braces": "data: hello\n\n",
		"a JSON text":         "data: \"hello\"\n\n",
		"another event":       "event: endpoint\ndata: /messages?session=1\n\n",
		"fields without data": "id: 7\nevent: x\n\n",
		"unknown fields":      "foo: bar\n\n",
		"comments":            ": x\n:\n\n",
	} {
		s := newSite(t, okRules...)
		s.behind = answers(http.StatusOK, eventType, first+behind)
		w := s.post(list)
		events, _, _, _ := readSSE(w.Body.String())
		if len(events) == 0 || events[len(events)-1].data != resultOf("1", okList) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %q", name, w.Body)
		}
	}
	for name, first := range map[string]string{
		"half a message":      `data: {"jsonrpc":"2.0",` + "\n\n",
		"a message and more":  `data: {"jsonrpc":"2.0"}}` + "\n\n",
		"a message in text":   "data: see {\"result\":{\"tools\":[{\"name\":\"secret\"}]}}\n\n",
		"a byte order mark":   "data: \ufeff{\"result\":{\"tools\":[{\"name\":\"secret\"}]}}\n\n",
		"bytes of no text":    "data: {\"x\":\"\xff\"}\n\n",
		"duplicates":          `data: {"id":1,"id":2}` + "\n\n",
		"a list of no entry":  `data: {"id":1,"result":{"tools":["secret"]}}` + "\n\n",
		"an update about ...": `data: {"method":"notifications/resources/updated"}` + "\n\n",
	} {
		s := newSite(t, okRules...)
		s.behind = answers(http.StatusOK, eventType, "data: "+progress+"\n\n"+first+behind)
		w := s.broken(request(list))
		if events, _, _, _ := readSSE(w.Body.String()); len(events) != 1 || events[0].data != progress {
			t.Errorf("%s: %q", name, w.Body)
		}
	}
}

func TestA118_SeveralValues(t *testing.T) {
	answer, filtered := resultOf("1", mixedList), resultOf("1", okList)
	pass := map[string]struct{ stream, want string }{
		"a batch":    {"data: [" + answer + "," + progress + "]\n\n", "data: [" + filtered + "," + progress + "]\n\n"},
		"list twice": {"data: " + answer + "\n\ndata: " + answer + "\n\n", "data: " + filtered + "\n\ndata: " + filtered + "\n\n"},
		"two lists in one result": {
			`data: {"id":1,"result":{"tools":` + mixedList + `,"prompts":[{"name":"secret"}]}}` + "\n\n",
			`data: {"id":1,"result":{"tools":` + okList + `,"prompts":[]}}` + "\n\n",
		},
	}
	for name, c := range pass {
		s := newSite(t, okRules...)
		s.behind = answers(http.StatusOK, eventType, c.stream)
		if w := s.post(list); w.Body.String() != c.want {
			t.Errorf("%s: %q", name, w.Body)
		}
	}
	for name, data := range map[string]string{
		"two values":               "data: {}" + answer,
		"two lines of values":      "data: {\"id\":1}\ndata: " + answer,
		"a value and half of one":  "data: " + answer + "{",
		"a batch and a value":      "data: []" + answer,
		"a value and a batch":      "data: {}[" + answer + "]",
		"a batch in a batch":       "data: [[" + answer + "]]",
		"a text and a value":       "data: \"a\" " + answer,
		"a number and a value":     "data: 1\ndata: " + answer,
		"a record separator first": "data: \x1e" + answer,
	} {
		s := newSite(t, okRules...)
		s.behind = answers(http.StatusOK, eventType, data+"\n\n")
		if w := s.broken(request(list)); w.Body.Len() != 0 {
			t.Errorf("%s: %q", name, w.Body)
		}
		s.behind = answers(http.StatusOK, jsonType, strings.ReplaceAll(data, "data: ", ""))
		wantBadGateway(t, s.post(list), "1")
	}
	// as a whole body, a batch is filtered too
	s := newSite(t, okRules...)
	s.behind = answers(http.StatusOK, jsonType, "["+answer+","+answer+"]")
	if w := s.post(list); w.Body.String() != "["+filtered+","+filtered+"]" {
		t.Errorf("%s", w.Body)
	}
}

// get makes the GET of a stream.
func get(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://mcp.example.com/mcp", nil)
	r.Header.Set("Accept", eventType)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// Lists are known by their shape. The id says nothing: the answer may belong
// to another request, and resumed streams hold the answers of old ones.
func TestA122_AnswersElsewhere(t *testing.T) {
	requests := map[string]func() *http.Request{
		"the list":        func() *http.Request { return request(list) },
		"a call":          func() *http.Request { return request(callOf("ok", `{}`)) },
		"ping":            func() *http.Request { return request(messageOf("ping", "")) },
		"a notification":  func() *http.Request { return request(`{"jsonrpc":"2.0","method":"notifications/initialized"}`) },
		"a response":      func() *http.Request { return request(`{"jsonrpc":"2.0","id":1,"result":{}}`) },
		"a stream":        func() *http.Request { return get() },
		"a resumed one":   func() *http.Request { return get("Last-Event-ID", "1_7", "Mcp-Session-Id", "s") },
		"one of HTTP+SSE": func() *http.Request { return get("Mcp-Protocol-Version", "2024-11-05") },
	}
	for name, r := range requests {
		for _, id := range []string{"1", "2", `"1"`, `"x"`, "9007199254740993", "null", "-0", `{}`} {
			s := newSite(t, okRules...)
			s.behind = answers(http.StatusOK, eventType, "id: 1_8\ndata: "+resultOf(id, mixedList)+"\n\n")
			if w := s.serve(r()); w.Body.String() != "id: 1_8\ndata: "+resultOf(id, okList)+"\n\n" {
				t.Errorf("%s with id %s: %q", name, id, w.Body)
			}
			// as JSON it is filtered where a list is due, and stopped elsewhere
			s.behind = answers(http.StatusOK, jsonType, resultOf(id, mixedList))
			w := s.judged(r())
			if name == "the list" && w.Body.String() != resultOf(id, okList) || strings.Contains(w.Body.String(), "name") && name != "the list" {
				t.Errorf("%s with id %s: %s", name, id, w.Body)
			}
		}
	}
}
