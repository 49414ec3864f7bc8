package celauthz

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// patience ends tests that would hang; nothing waits for it otherwise.
const patience = 20 * time.Second

// url serves the site on a real connection and returns its URL.
func (s *site) url() string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.ServeHTTP(w, s.prepare(r), s.behind); err != nil {
			panic(http.ErrAbortHandler) // as Caddy's reverse_proxy does
		}
	}))
	s.t.Cleanup(server.Close)
	return server.URL
}

// fetch sends a request over a real connection.
func fetch(t *testing.T, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", jsonType)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// readNext reads exactly what has to come next.
func readNext(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
}

// The handler behind writes a piece only after the client has read what came
// of the one before: whatever is held back stops the test.
func TestNothingIsHeldBack(t *testing.T) {
	answer, filtered := resultOf("1", mixedList), resultOf("1", okList)
	type piece struct{ written, read string }
	for name, c := range map[string]struct {
		message, contentType string
		pieces               []piece
	}{
		"the events of a call": {callOf("ok", `{}`), eventType, []piece{
			{"id: 1\nretry: 500\ndata:\n\n", "id: 1\nretry: 500\ndata:\n\n"},
			{": keep-alive\n", ": keep-alive\n"},
			{"\n", "\n"},
			{"data: " + progress + "\n\n", "data: " + progress + "\n\n"},
			{"event: message\r\ndata: " + progress + "\r\n\r\n", "event: message\r\ndata: " + progress + "\r\n\r\n"},
			{"data: " + progress + "\r\r", "data: " + progress + "\r\r"},
			{"data: {\"id\":1,\"result\":{\"content\":[]}}\n\n", "data: {\"id\":1,\"result\":{\"content\":[]}}\n\n"},
		}},
		"the events of a list": {list, eventType, []piece{
			{"data: " + progress + "\n\n", "data: " + progress + "\n\n"},
			{"data: " + answer + "\n\n", "data: " + filtered + "\n\n"},
			{"data: " + answer + "\r\r", "data: " + filtered + "\n\n"},
			{": x\r\n", ": x\r\n"},
		}},
		"a stream": {"", eventType, []piece{
			{": hello\n\n", ": hello\n\n"},
			{"data: " + progress + "\n\n", "data: " + progress + "\n\n"},
			{"id: 1_1\ndata: " + answer + "\n\n", "id: 1_1\ndata: " + filtered + "\n\n"},
			{"id: 1_2\ndata: " + `{"method":"notifications/resources/updated","params":{"uri":"secret"}}` + "\n\n", "id: 1_2\n\n"},
		}},
		"the long answer to a call": {callOf("ok", `{}`), jsonType, []piece{
			{`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"`, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"`},
			{`a`, `a`},
			{`"}]}`, `"}]}`},
			{`}`, `}`},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, okRules...)
			next := make(chan string)
			s.behind = func(w http.ResponseWriter, r *http.Request) error {
				w.Header().Set("Content-Type", c.contentType)
				flush := http.NewResponseController(w).Flush
				for {
					// the first time, this sends the head of the answer
					if err := flush(); err != nil {
						return err
					}
					select {
					case piece, more := <-next:
						if !more {
							return nil
						}
						if _, err := io.WriteString(w, piece); err != nil {
							return err
						}
					case <-r.Context().Done():
						return r.Context().Err()
					}
				}
			}
			method := http.MethodPost
			if c.message == "" {
				method = http.MethodGet
			}
			response := fetch(t, method, s.url(), c.message)
			if got := response.Header.Get("Content-Type"); got != c.contentType {
				t.Errorf("Content-Type %q", got)
			}
			for _, p := range c.pieces {
				next <- p.written
				readNext(t, response.Body, p.read)
			}
			close(next)
			if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
				t.Errorf("rest %q, %v", rest, err)
			}
		})
	}
}

// What comes before the answer proper passes, and decides nothing.
func TestInformationalAnswers(t *testing.T) {
	s := newSite(t, okRules...)
	s.behind = func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Link", "</a>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Type", jsonType)
		_, err := io.WriteString(w, resultOf("1", mixedList))
		return err
	}
	hints := 0
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints && header.Get("Link") != "" {
			hints++
		}
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url(), strings.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", jsonType)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != resultOf("1", okList) || hints != 1 {
		t.Errorf("%s, %v, %d hints", body, err, hints)
	}
}

// A handler behind that looks for another way to the connection finds none.
func TestNothingGetsPastTheFilter(t *testing.T) {
	s := newSite(t, okRules...)
	s.behind = func(w http.ResponseWriter, _ *http.Request) error {
		if _, ok := w.(io.ReaderFrom); ok {
			t.Error("it can be read into")
		}
		if _, ok := w.(io.StringWriter); ok {
			t.Error("it takes texts")
		}
		if _, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
			t.Error("it can be unwrapped")
		}
		control := http.NewResponseController(w)
		if _, _, err := control.Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("hijacked: %v", err)
		}
		// these move no bytes
		for name, err := range map[string]error{
			"duplex": control.EnableFullDuplex(),
			"read":   control.SetReadDeadline(time.Time{}),
			"write":  control.SetWriteDeadline(time.Time{}),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.Header().Set("Content-Type", jsonType)
		if err := control.Flush(); err != nil {
			t.Errorf("flush: %v", err)
		}
		w.WriteHeader(http.StatusInternalServerError) // too late, as ever
		for _, piece := range strings.SplitAfter(resultOf("1", mixedList), ",") {
			if _, err := io.WriteString(w, piece); err != nil {
				return err
			}
			w.(http.Flusher).Flush()
		}
		return nil
	}
	response := fetch(t, http.MethodPost, s.url(), list)
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || string(body) != resultOf("1", okList) {
		t.Errorf("%d %s, %v", response.StatusCode, body, err)
	}
}

// Once an answer has been given up, nothing more of it passes, whatever the
// handler behind makes of the error.
func TestNothingFollowsARefusal(t *testing.T) {
	for name, c := range map[string]struct{ contentType, bad, more string }{
		"an event":  {eventType, "data: {\"Result\":{}}\n\n", "data: " + progress + "\n\n"},
		"an answer": {jsonType, `{"result":{"tools":[`, `{"name":"secret"}]}}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, okRules...)
			s.behind = func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Content-Type", c.contentType)
				if _, err := io.WriteString(w, c.bad); err == nil {
					t.Error("passed")
				}
				if n, err := io.WriteString(w, c.more); err == nil || n != 0 {
					t.Errorf("%d bytes passed behind it, %v", n, err)
				}
				w.WriteHeader(http.StatusOK)
				return nil
			}
			w := s.post(callOf("ok", `{}`))
			if strings.Contains(w.Body.String(), c.more) || strings.Contains(w.Body.String(), "tools") && c.contentType == eventType {
				t.Errorf("%s", w.Body)
			}
		})
	}
}

// An error of the handler behind is its own affair, and what it had begun is
// not finished for it.
func TestErrorsBehindTheFilter(t *testing.T) {
	broken := errors.New("broken")
	s := newSite(t, okRules...)
	s.behind = func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", jsonType)
		_, _ = io.WriteString(w, resultOf("1", mixedList))
		return broken
	}
	w := httptest.NewRecorder()
	if err := s.try(w, request(list)); !errors.Is(err, broken) || w.Body.Len() > 0 {
		t.Errorf("%v, %s", err, w.Body)
	}
}

// A112: the bound on the time a body may take is none on streams, neither on
// those of GET, also on a connection that has carried a body, nor on others
// while a slow body is given up.
func TestA112_StreamsHaveNoDeadline(t *testing.T) {
	s := newSite(t, okRules...)
	s.bodyTimeout = 30 * time.Millisecond
	next := make(chan string)
	s.behind = func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusAccepted)
			return nil
		}
		w.Header().Set("Content-Type", eventType)
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		select {
		case event := <-next:
			_, err := io.WriteString(w, event)
			return err
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	url := s.url()
	if _, body, err := exchange(t, url, notice); err != nil || body != "" {
		t.Fatalf("%q, %v", body, err)
	}
	stream := fetch(t, http.MethodGet, url, "") // over the same connection
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("the slow body is answered %q, %v", answer, err)
	}
	// by now the stream is older than a body may get
	next <- "data: " + progress + "\n\n"
	readNext(t, stream.Body, "data: "+progress+"\n\n")
}

// deaf is a client that has gone after the head of the answer.
type deaf struct{ http.ResponseWriter }

func (deaf) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A client that goes is no fault of the server behind, nor worth an error in
// the log. On a stream the handler behind is told, so that it can end it.
func TestClientsThatGo(t *testing.T) {
	for name, c := range map[string]struct {
		message, contentType, answer string
		told                         bool
	}{
		"an event":  {list, eventType, "data: " + resultOf("1", mixedList) + "\n\n", true},
		"a comment": {list, eventType, ": x\n", true},
		"a call":    {callOf("ok", `{}`), jsonType, `{"result":{}}`, true},
		"a list":    {list, jsonType, resultOf("1", mixedList), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, okRules...)
			s.behind = answers(http.StatusOK, c.contentType, c.answer)
			err := s.try(deaf{httptest.NewRecorder()}, request(c.message))
			if errors.Is(err, io.ErrClosedPipe) != c.told || err != nil && !c.told {
				t.Errorf("got %v", err)
			}
			if logged := s.logs.FilterLevelExact(zap.ErrorLevel).All(); len(logged) > 0 {
				t.Errorf("logged %v", logged)
			}
		})
	}
}
