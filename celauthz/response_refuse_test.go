package celauthz

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// What cannot be read cannot be filtered.
func TestA119_EncodedAnswers(t *testing.T) {
	for _, encoding := range []string{"gzip", "br", "zstd", "deflate", "x-gzip", "GZIP", "identity, gzip", "gzip, identity", "aes128gcm", "identity;q=1", ","} {
		for _, contentType := range []string{jsonType, eventType, "", "text/plain"} {
			for _, message := range []string{list, callOf("ok", `{}`)} {
				s := newSite(t, okRules...)
				s.behind = answers(http.StatusOK, contentType, "\x1f\x8b\x08 "+resultOf("1", mixedList), "Content-Encoding", encoding, "Etag", `"1"`, "Mcp-Session-Id", "s")
				w := s.judged(request(message))
				wantBadGateway(t, w, "1")
				wantHeader(t, w, "Mcp-Session-Id", "")
			}
		}
	}
	s := newSite(t, okRules...)
	s.behind = answers(http.StatusOK, jsonType, resultOf("1", mixedList), "Content-Encoding", "identity", "Content-Encoding", "gzip")
	wantBadGateway(t, s.judged(request(list)), "1")
	s.behind = answers(http.StatusOK, jsonType, resultOf("1", mixedList), "Content-Encoding", "Identity")
	if w := s.post(list); w.Body.String() != resultOf("1", okList) {
		t.Errorf("not encoded: %s", w.Body)
	}
	// and so that it need not come to that:
	for _, name := range []string{"Accept-Encoding", "Range", "If-Range"} {
		s.post(list, header(name, "gzip"))
		if got := s.passed.Header.Values(name); len(got) > 0 {
			t.Errorf("the server is sent %s: %q", name, got)
		}
	}
}

func TestA120_ContentTypes(t *testing.T) {
	stream := "data: " + progress + "\n\ndata: " + resultOf("1", mixedList) + "\n\n"
	pretty := "{\n\"jsonrpc\":\"2.0\",\n\n\"id\":1,\n\"result\"\n:{\"tools\"\n:[{\"name\":\"secret\"}]}}\n\n"
	utf7 := `+AHsAIgByAGUAcwB1AGwAdAAiADoAewAiAHQAbwBvAGwAcwAiADoAWwB7ACIAbgBhAG0AZQAiADoAIg-secret+ACIAfQBdAH0AfQ-`
	const (
		filtered = "filtered"
		refused  = "502"
		cut      = "cut"
	)
	for _, c := range []struct{ contentType, body, want string }{
		{"Application/JSON", resultOf("1", mixedList), filtered},
		{"application/json; charset=utf-8", resultOf("1", mixedList), filtered},
		{"application/json;", resultOf("1", mixedList), filtered},
		{"application/json; charset", resultOf("1", mixedList), refused},
		{"", resultOf("1", mixedList), filtered},
		{"text/plain", resultOf("1", mixedList), filtered},
		{"text/html", resultOf("1", mixedList), filtered},
		{"application/octet-stream", resultOf("1", mixedList), filtered},
		{"application/vnd.api+json", resultOf("1", mixedList), filtered},
		{"application/x-ndjson", resultOf("1", mixedList), filtered},
		{"no type", resultOf("1", mixedList), filtered},
		{"text/event-stream, application/json", resultOf("1", mixedList), filtered},
		{"application/json, text/event-stream", resultOf("1", mixedList), filtered},
		{"text/plain", " \n\t[" + resultOf("1", mixedList) + "]", filtered},
		{"text/plain", "see " + resultOf("1", mixedList), refused},
		{"text/plain", resultOf("1", mixedList) + "\n" + resultOf("1", mixedList), refused},
		{"application/x-ndjson", progress + "\n" + resultOf("1", mixedList), refused},
		{"text/html", "<p>" + resultOf("1", mixedList), refused},
		{"multipart/mixed; boundary=x", "--x\r\n\r\n" + resultOf("1", mixedList), refused},
		{"application/json; charset=utf-16", "{\x00\"\x00", refused},
		{"application/json; charset=utf-7", "+AHs-", refused},
		{"application/json", "not JSON", refused},
		{"application/json", stream, refused},
		{"", stream, refused},
		{"text/plain", stream, refused},
		{"text/event-stream2", stream, refused},
		{"TEXT/Event-Stream;charset=\"UTF-8\"", stream, filtered},
		{"text/event-stream ; foo", stream, filtered},
		// clients that decode as they are told find a list in each of these
		{"application/json; charset=utf-7", utf7, refused},
		{"application/json; Charset=\"UTF-7\"; x=y", utf7, refused},
		{"application/json; charset=unicode-1-1-utf-7", utf7, refused},
		{"application/json; charset=cp037", "\xc0\x7f", refused},
		{"text/event-stream; charset=utf-7", "data: " + utf7 + "\n\n", refused},
		{"text/event-stream; charset=utf-7; charset=utf-8", "data: " + utf7 + "\n\n", refused},
		{"text/event-stream; charset=utf-7; foo", "data: " + utf7 + "\n\n", refused},
		{"text/event-stream; charset*=us-ascii'en'utf-7", "data: " + utf7 + "\n\n", refused},
		{"text/event-stream, application/json; charset=utf-7", "data: " + utf7 + "\n\n", refused},
		{"text/event-stream; charset=utf-16", stream, refused},
		{"text/event-stream; charset=", stream, refused},
		{"text/event-stream", resultOf("1", mixedList), cut},
		{"text/event-stream", resultOf("1", mixedList) + "\n\n", cut},
		{"text/event-stream", pretty, cut},
	} {
		for _, size := range []int{1, 1 << 20} {
			t.Run(fmt.Sprintf("%s %.20q in %d", c.contentType, c.body, size), func(t *testing.T) {
				s := newSite(t, okRules...)
				s.behind = inPieces(size, http.StatusOK, c.contentType, c.body)
				w := s.judged(request(list))
				switch c.want {
				case filtered:
					if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), okList) || strings.Contains(w.Body.String(), "secret") {
						t.Errorf("answer %d %q", w.Code, w.Body)
					}
				case refused:
					wantBadGateway(t, w, "1")
				default:
					if events, _, _, _ := readSSE(w.Body.String()); len(events) > 0 || strings.HasPrefix(w.Body.String(), "{") {
						t.Errorf("answer %d %q", w.Code, w.Body)
					}
				}
				// a call has no list for an answer, so it does not matter how
				// the list is kept back; comments are no messages
				s.behind = inPieces(size, http.StatusOK, c.contentType, c.body)
				w = s.judged(request(callOf("ok", `{}`)))
				events, _, _, _ := readSSE(w.Body.String())
				if body := strings.TrimSpace(w.Body.String()); strings.HasPrefix(body, "{") || strings.HasPrefix(body, "[") {
					events = append(events, sseEvent{data: body})
				}
				for _, event := range events {
					if strings.Contains(event.data, "secret") {
						t.Errorf("a call is answered %q", w.Body)
					}
				}
			})
		}
	}
	for _, types := range [][]string{{jsonType, eventType}, {eventType, jsonType}, {jsonType, jsonType}, {"text/plain", ""}} {
		s := newSite(t, okRules...)
		s.behind = answers(http.StatusOK, types[0], resultOf("1", mixedList), "Content-Type", types[1])
		wantBadGateway(t, s.judged(request(list)), "1")
	}
}

// What parsers read differently. As an answer to a list it is refused, as an
// event it ends the stream, and as an answer to a call it is cut off.
func TestA121_Duplicates(t *testing.T) {
	for name, answer := range map[string]string{
		"two results":          `{"id":1,"result":{"tools":[]},"result":{"tools":[{"name":"secret"}]}}`,
		"the first one hidden": `{"id":1,"result":{"tools":[{"name":"secret"}]},"result":{"tools":[]}}`,
		"two tools":            `{"id":1,"result":{"tools":[],"tools":[{"name":"secret"}]}}`,
		"two by escapes":       `{"id":1,"result":{"tools":[],"\u0074ools":[{"name":"secret"}]}}`,
		"Result":               `{"id":1,"result":{},"Result":{"tools":[{"name":"secret"}]}}`,
		"RESULT by escapes":    `{"id":1,"\u0052ESULT":{"tools":[{"name":"secret"}]}}`,
		"Tools":                `{"id":1,"result":{"tools":[],"Tools":[{"name":"secret"}]}}`,
		"a long s":             `{"id":1,"result":{"tool\u017f":[{"name":"secret"}]}}`,
		"a NUL":                `{"id":1,"result":{"tools\u0000":[{"name":"secret"}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, okRules...)
			s.behind = answers(http.StatusOK, jsonType, answer)
			wantBadGateway(t, s.post(list), "1")
			s.behind = answers(http.StatusOK, eventType, "data: "+answer+"\n\n")
			if w := s.broken(request(list)); w.Body.Len() > 0 {
				t.Errorf("event %s", w.Body)
			}
			s.behind = inPieces(1, http.StatusOK, jsonType, answer)
			if w := s.broken(request(callOf("ok", `{}`))); strings.Contains(w.Body.String(), "secret") {
				t.Errorf("call %s", w.Body)
			}
		})
	}
	// in entries, which only lists have
	for name, entry := range map[string]string{
		"two names":      `{"name":"ok","name":"secret"}`,
		"two by escapes": `{"name":"ok","n\u0061me":"secret"}`,
		"Name":           `{"name":"ok","Name":"secret"}`,
		"only Name":      `{"Name":"secret"}`,
		"a NUL":          `{"name":"ok","name\u0000":"secret"}`,
		"two deep down":  `{"name":"ok","inputSchema":{"properties":{"a":1,"a":2}}}`,
		"no text":        `{"name":null}`,
		"no object":      `["ok"]`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, okRules...)
			s.behind = answers(http.StatusOK, jsonType, resultOf("1", "["+entry+"]"))
			wantBadGateway(t, s.post(list), "1")
			s.behind = answers(http.StatusOK, eventType, "data: "+resultOf("1", "["+entry+"]")+"\n\n")
			if w := s.broken(request(list)); w.Body.Len() > 0 {
				t.Errorf("event %s", w.Body)
			}
		})
	}
}

// largeList is a list of about size bytes; every second entry is hidden.
func largeList(size int) string {
	entry := `{"name":"%s_%d","description":"` + strings.Repeat("x", 1000) + `"}`
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, entry, []string{"ok", "secret"}[i%2], i)
	}
	return "[" + b.String() + "]"
}

func TestA124_LargeAnswers(t *testing.T) {
	large := resultOf("1", largeList(5<<20))
	s := newSite(t, okRules...)
	for contentType, body := range map[string]string{jsonType: large, eventType: "data: " + large + "\n\n"} {
		s.behind = inPieces(32<<10, http.StatusOK, contentType, body)
		w := s.post(list)
		if got := strings.Count(w.Body.String(), `"ok_`); w.Code != http.StatusOK || got != strings.Count(large, `"ok_`) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: answer %d with %d entries", contentType, w.Code, got)
		}
	}

	s = provision(t, &Handler{Rules: rulesOf(t, okRules...), MaxEvent: 1 << 20})
	endless := func(contentType, start string) (*httptest.ResponseRecorder, int) {
		written := 0
		s.behind = func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", contentType)
			piece := []byte(start)
			for {
				n, err := w.Write(piece)
				written += n
				if err != nil || written > 100<<20 {
					return err
				}
				piece = []byte(strings.Repeat("x", 32<<10))
			}
		}
		return s.broken(request(list)), written
	}
	w, written := endless(jsonType, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok","description":"`)
	wantBadGateway(t, w, "1")
	if written > 1<<20 {
		t.Errorf("%d bytes were taken", written)
	}
	first := "data: " + progress + "\n\n"
	w, written = endless(eventType, first+"data: ")
	if w.Code != http.StatusOK || w.Body.String() != first {
		t.Errorf("answer %d %.100q", w.Code, w.Body)
	}
	if written > 1<<20+len(first) {
		t.Errorf("%d bytes were taken", written)
	}
	// what is not collected has no bound
	text := `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 5<<20) + `"}]}}`
	s.behind = answers(http.StatusOK, jsonType, text)
	if w := s.post(callOf("ok", `{}`)); w.Body.String() != text {
		t.Errorf("a call is answered with %d bytes", w.Body.Len())
	}
}

func TestA124_DeepAnswers(t *testing.T) {
	deep := strings.Repeat(`{"a":[`, 50_000) + strings.Repeat("]}", 50_000)
	answer := `{"jsonrpc":"2.0","id":1,"result":{"x":` + deep + `}}`
	s := newSite(t, okRules...)
	s.behind = answers(http.StatusOK, jsonType, answer)
	wantBadGateway(t, s.post(list), "1")
	s.behind = answers(http.StatusOK, jsonType, resultOf("1", `[{"name":"ok","x":`+deep+`}]`))
	wantBadGateway(t, s.post(list), "1")
	s.behind = answers(http.StatusOK, eventType, "data: "+answer+"\n\n")
	if w := s.broken(request(list)); w.Body.Len() > 0 {
		t.Errorf("%.100s", w.Body)
	}
	// nobody takes the answer to a call apart, so it may be as deep as it is
	s.behind = answers(http.StatusOK, jsonType, answer)
	if w := s.post(callOf("ok", `{}`)); w.Body.String() != answer {
		t.Errorf("%.100s", w.Body)
	}
}

// The status does not make a list less of a list.
func TestA125_Statuses(t *testing.T) {
	for _, status := range []int{200, 201, 202, 203, 205, 207, 226, 300, 301, 400, 401, 403, 404, 418, 429, 500, 502, 503, 599} {
		s := newSite(t, okRules...)
		s.behind = answers(status, jsonType, resultOf("1", mixedList))
		if w := s.post(list); w.Code != status || w.Body.String() != resultOf("1", okList) {
			t.Errorf("answer %d %s", w.Code, w.Body)
		}
		s.behind = answers(status, eventType, "data: "+resultOf("1", mixedList)+"\n\n")
		if w := s.post(list); w.Code != status || w.Body.String() != "data: "+resultOf("1", okList)+"\n\n" {
			t.Errorf("answer %d %s", w.Code, w.Body)
		}
		s.behind = answers(status, jsonType, resultOf("1", mixedList))
		if w := s.broken(request(callOf("ok", `{}`))); strings.Contains(w.Body.String(), "name") {
			t.Errorf("a call is answered %d %s", w.Code, w.Body)
		}
	}
	for _, status := range []int{http.StatusSwitchingProtocols, http.StatusPartialContent} {
		for _, contentType := range []string{jsonType, eventType, ""} {
			s := newSite(t, okRules...)
			s.behind = answers(status, contentType, resultOf("1", mixedList), "Content-Range", "bytes 0-9/10")
			wantBadGateway(t, s.judged(request(list)), "1")
			s.behind = answers(status, contentType, resultOf("1", mixedList))
			wantBadGateway(t, s.judged(get()), "null")
		}
	}
	// these have no body; what is written all the same is dropped
	for _, status := range []int{http.StatusNoContent, http.StatusNotModified} {
		s := newSite(t, okRules...)
		s.behind = answers(status, jsonType, resultOf("1", mixedList))
		if w := s.judged(request(list)); w.Code != status || w.Body.Len() > 0 {
			t.Errorf("answer %d %s", w.Code, w.Body)
		}
	}
	s := newSite(t, okRules...)
	s.behind = answers(http.StatusOK, jsonType, resultOf("1", mixedList), "Content-Length", "0")
	if w := s.judged(request(list)); w.Body.Len() > 0 {
		t.Errorf("answer %d %s", w.Code, w.Body)
	}
}

// The id of the request is echoed as it was written, and the reason is in
// the log, without a word of the answer.
func TestRefusedAnswers(t *testing.T) {
	for _, id := range []string{`"a\u0062\"c"`, "9007199254740993", "-1", `""`} {
		s := newSite(t, okRules...)
		s.behind = answers(http.StatusOK, jsonType, `{"result":{"Tools":[{"name":"secret"}]}}`, "Cache-Control", "public")
		w := s.post(`{"jsonrpc":"2.0","id":` + id + `,"method":"tools/list"}`)
		wantBadGateway(t, w, id)
		if got := w.Header().Get("Cache-Control"); strings.Contains(got, "public") {
			t.Errorf("Cache-Control %q", got)
		}
		entries := s.logs.FilterLevelExact(zap.ErrorLevel).All()
		if len(entries) != 1 || strings.Contains(fmt.Sprint(entries[0].ContextMap(), entries[0].Message), "secret") {
			t.Errorf("log %v", entries)
		}
	}
	s := newSite(t, okRules...)
	s.behind = answers(http.StatusOK, jsonType, `[{"result":{"Tools":[]}}]`)
	wantBadGateway(t, s.post(`[`+list+`]`), "null")
}
