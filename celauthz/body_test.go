package celauthz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// padded is a message of exactly n bytes.
func padded(n int) string {
	message := callOf("t", `{"x":""}`)
	return strings.Replace(message, `""`, `"`+strings.Repeat("x", n-len(message))+`"`, 1)
}

// onlyReader hides what httptest would take the length from, so that the
// request is chunked.
type onlyReader struct{ io.Reader }

// A95: what was judged is what goes on, byte for byte, and its length is
// known even when the client did not say it.
func TestA95_JudgedBytesGoOn(t *testing.T) {
	s := newSite(t, "allow true")
	for _, message := range []string{
		"\r\n {\"jsonrpc\" : \"2.0\",\t\"id\":1 ,\"method\":\"ping\"}",
		" \n" + `{"jsonrpc":"2.0","id":"\u0061","method":"tools\u002fcall","params":{"name":"\u0074","arguments":{"b":1.50,"a":[1E2,"\/"]}}}` + " \n",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","x":{"y":[1,2]},"_meta":{"z":"😀"}},"extra":null}`,
		padded(300), padded(reservedBodySize), padded(3 * reservedBodySize),
	} {
		for name, r := range map[string]*http.Request{
			"length":  request(message),
			"chunked": httptest.NewRequest(http.MethodPost, "/mcp", onlyReader{strings.NewReader(message)}),
			"drip":    httptest.NewRequest(http.MethodPost, "/mcp", onlyReader{&dripping{text: message}}),
		} {
			r.Header.Set("Content-Type", "application/json")
			if name != "length" {
				r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
			}
			s.wantPassed(s.serve(r), message)
			if s.passed == nil {
				continue
			}
			if s.passed.ContentLength != int64(len(message)) || len(s.passed.TransferEncoding) > 0 {
				t.Errorf("%s: length %d, encoding %q, want %d", name, s.passed.ContentLength, s.passed.TransferEncoding, len(message))
			}
		}
	}
}

// dripping gives one byte at a time, and none now and then.
type dripping struct {
	text string
	turn int
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.turn++; d.turn%3 == 0 || len(p) == 0 {
		return 0, nil
	}
	if d.text == "" {
		return 0, io.EOF
	}
	p[0], d.text = d.text[0], d.text[1:]
	return 1, nil
}

// The handler behind may read less, read later, close twice, or not at all.
func TestReplayedBody(t *testing.T) {
	s := newSite(t, "allow true")
	s.behind = func(_ http.ResponseWriter, r *http.Request) error { return nil }
	message := padded(smallBodySize + 1000)
	s.post(message)
	body := s.passed.Body
	if got, err := io.ReadAll(io.LimitReader(body, 10)); err != nil || string(got) != message[:10] {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := io.ReadAll(body); err != nil || string(got) != message[10:] {
		t.Errorf("%q, %v", got, err)
	}
	if n, err := body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v at the end", n, err)
	}
	for range 3 {
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	if n, err := body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("%d, %v after Close", n, err)
	}
}

// closing counts how often it is closed.
type closing struct {
	io.Reader
	closed int
}

func (c *closing) Close() error {
	c.closed++
	return errors.New("already gone")
}

func TestReplayedBodyClosesTheOriginal(t *testing.T) {
	s := newSite(t, "allow true")
	s.behind = func(http.ResponseWriter, *http.Request) error { return nil }
	original := &closing{Reader: strings.NewReader(padded(100))}
	s.post("", func(r *http.Request) { r.Body, r.ContentLength = original, -1 })
	if original.closed != 0 {
		t.Error("closed too early")
	}
	if err := s.passed.Body.Close(); err == nil {
		t.Error("the error of the original is lost")
	}
	if err := s.passed.Body.Close(); err != nil || original.closed != 1 {
		t.Errorf("%v, closed %d times", err, original.closed)
	}
}

// A transport may read the body after the handlers have returned, while the
// buffers of others come and go. Nobody may see the bytes of somebody else.
func TestBuffersAreNotShared(t *testing.T) {
	s := newSite(t, "allow true")
	h := s.Handler
	var clients sync.WaitGroup
	for client := range 8 {
		clients.Go(func() {
			for round := range 50 {
				message := callOf(fmt.Sprintf("tool-%d-%d", client, round), `{"x":"`+strings.Repeat(string(rune('a'+client)), 100*round)+`"}`)
				var late io.ReadCloser
				next := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
					late = r.Body
					if round%2 == 0 {
						// a transport gives up half way
						_, _ = io.ReadFull(r.Body, make([]byte, 10))
						return r.Body.Close()
					}
					return nil
				})
				if err := h.ServeHTTP(httptest.NewRecorder(), request(message), next); err != nil {
					t.Error(err)
				}
				if round%2 == 0 {
					// a small body is nobody else's, ever
					if n, err := late.Read(make([]byte, 10)); len(message) > smallBodySize && (n != 0 || err == nil) {
						t.Errorf("%d bytes, %v after Close", n, err)
					}
					_ = late.Close()
					continue
				}
				var closers sync.WaitGroup
				if got, err := io.ReadAll(late); err != nil || string(got) != message {
					t.Errorf("%q became %q, %v", message, got, err)
				}
				for range 2 {
					closers.Go(func() { _ = late.Close() })
				}
				closers.Wait()
			}
		})
	}
	clients.Wait()
}

// untouchable fails the test when it is read.
type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

// counting counts what is read from an endless body.
type counting struct{ n int }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	c.n += len(p)
	return len(p), nil
}

func TestA111_BodyLimit(t *testing.T) {
	const limit = 1000
	s := provision(t, &Handler{Rules: rulesOf(t, "allow true"), MaxBody: limit})
	chunked := func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(onlyReader{r.Body}), -1 }
	for name, change := range map[string]func(*http.Request){"length": func(*http.Request) {}, "chunked": chunked} {
		s.wantPassed(s.post(padded(limit), change), padded(limit))
		s.wantRefused(s.post(padded(limit+1), change), 413, "request body too large")
		if t.Failed() {
			t.Fatalf("with %s", name)
		}
	}
	// one that says how long it is need not even be read
	s.wantRefused(s.post("", func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(untouchable{t}), limit+1
	}), 413, "request body too large")
	// an endless one is read up to the limit
	endless := new(counting)
	s.wantRefused(s.post("", func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(endless), -1
	}), 413, "request body too large")
	if endless.n > limit+1 {
		t.Errorf("%d bytes were read", endless.n)
	}
	// the length is not believed
	lying := padded(limit + 1)
	s.wantRefused(s.post(lying, func(r *http.Request) { r.ContentLength = 10 }), 413, "request body too large")

	// without an option it is 4 MiB
	s = newSite(t, "allow true")
	s.wantPassed(s.post(padded(4<<20)), padded(4<<20))
	s.wantRefused(s.post(padded(4<<20+1)), 413, "request body too large")
	for _, size := range []int64{-1, maxSize + 1} {
		if _, err := tryProvision(t, &Handler{Rules: rulesOf(t, "allow true"), MaxBody: size}); err == nil {
			t.Errorf("max_body %d loads", size)
		}
	}
}

// timeout is what the server's own read timeout gives.
type timeout struct{}

func (timeout) Error() string   { return "i/o timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

// A body that breaks off is refused with what is wrong with it, and never
// judged by its first half.
func TestBrokenBodies(t *testing.T) {
	whole := padded(100)
	tests := map[string]struct {
		err    error
		status int
		text   string
	}{
		"cut off":            {io.ErrUnexpectedEOF, 400, "the request body could not be read"},
		"any other error":    {errors.New("secret detail"), 400, "the request body could not be read"},
		"request_body limit": {&http.MaxBytesError{Limit: 5}, 413, "request body too large"},
		"limit of Caddy":     {caddyhttp.Error(http.StatusRequestEntityTooLarge, errors.New("x")), 413, "Request Entity Too Large"},
		"status of Caddy":    {fmt.Errorf("wrapped: %w", caddyhttp.Error(http.StatusTeapot, nil)), 418, "I'm a teapot"},
		"read timeout":       {&net.OpError{Op: "read", Err: timeout{}}, 408, "the request body took too long"},
		"deadline":           {fmt.Errorf("wrapped: %w", context.DeadlineExceeded), 408, "the request body took too long"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, before := range []string{"", whole[:50], whole} {
				s := newSite(t, "allow true")
				s.wantRefused(s.post("", func(r *http.Request) {
					r.Body = io.NopCloser(io.MultiReader(strings.NewReader(before), failing{test.err}))
					r.ContentLength = -1
				}), test.status, test.text)
			}
		})
	}
	for _, empty := range []func(*http.Request){
		func(r *http.Request) { r.Body = nil },
		func(r *http.Request) { r.Body = http.NoBody },
		func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("")), -1 },
	} {
		s := newSite(t, "allow true")
		s.wantRefused(s.post("", empty), 400, rpcError("null", -32700, `"malformed message: empty body"`, ""))
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// listen serves the site on a loopback port.
func (s *site) listen() string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.try(w, r); err != nil {
			s.t.Error(err)
		}
	}))
	s.t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// send writes raw bytes to a server, half-closes, and reads all it answers.
func send(t *testing.T, address string, parts ...string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if _, err := io.WriteString(conn, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// A110: whatever Go makes of lengths and chunks, the body is read in full
// before anything is decided, and goes on with its true length.
func TestA110_LengthsAndChunks(t *testing.T) {
	const allowed = `{"jsonrpc":"2.0","id":1,"method":"ping"}` // 40 bytes, 28 in hexadecimal
	denied := callOf("t", "{}")
	head := func(lines ...string) string {
		return "POST /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nConnection: close\r\nContent-Type: application/json\r\n" +
			strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	tests := []struct {
		name   string
		raw    string
		status string
		passed string // the body behind, "" when nothing gets there
	}{
		{"length", head("Content-Length: 40") + allowed, "202", allowed},
		{"chunked", head("Transfer-Encoding: chunked") + "a\r\n" + allowed[:10] + "\r\n1e\r\n" + allowed[10:] + "\r\n0\r\n\r\n", "202", allowed},
		{"chunk extension", head("Transfer-Encoding: chunked") + "28;x=\"y\"\r\n" + allowed + "\r\n0;z\r\n\r\n", "202", allowed},
		{"trailer", head("Transfer-Encoding: chunked", "Trailer: Mcp-Method") + "28\r\n" + allowed + "\r\n0\r\nMcp-Method: tools/call\r\n\r\n", "202", allowed},
		{"length and chunked", head("Content-Length: 5", "Transfer-Encoding: chunked") + "28\r\n" + allowed + "\r\n0\r\n\r\n", "202", allowed},
		{"two equal lengths", head("Content-Length: 40", "Content-Length: 40") + allowed, "202", allowed},
		{"two lengths", head("Content-Length: 40", "Content-Length: 5") + allowed, "400", ""},
		{"length with a sign", head("Content-Length: +40") + allowed, "400", ""},
		{"length short", head("Content-Length: 39") + allowed, "400", ""},
		{"length long", head("Content-Length: 41") + allowed, "400", ""},
		{"chunk short", head("Transfer-Encoding: chunked") + "27\r\n" + allowed + "\r\n0\r\n\r\n", "400", ""},
		{"chunks not ended", head("Transfer-Encoding: chunked") + "28\r\n" + allowed + "\r\n", "400", ""},
		{"chunk size broken", head("Transfer-Encoding: chunked") + "0x28\r\n" + allowed + "\r\n0\r\n\r\n", "400", ""},
		{"other coding", head("Transfer-Encoding: gzip, chunked") + "28\r\n" + allowed + "\r\n0\r\n\r\n", "501", ""},
		{"chunked twice", head("Transfer-Encoding: chunked, chunked") + "28\r\n" + allowed + "\r\n0\r\n\r\n", "501", ""},
		{"no length", head() + allowed, "400", ""},
		// the denied call hides behind the allowed message
		{"second document in the body", head(fmt.Sprintf("Content-Length: %d", len(allowed+denied))) + allowed + denied, "400", ""},
		{"second chunk", head("Transfer-Encoding: chunked") + "28\r\n" + allowed + fmt.Sprintf("\r\n%x\r\n", len(denied)) + denied + "\r\n0\r\n\r\n", "400", ""},
	}
	s := newSite(t, `allow mcp.method == "ping"`)
	address := s.listen()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s.passed, s.body = nil, ""
			answer := send(t, address, test.raw)
			if !strings.HasPrefix(answer, "HTTP/1.1 "+test.status) {
				t.Errorf("answer %q, want %s", answer, test.status)
			}
			if s.body != test.passed || (s.passed != nil) != (test.passed != "") {
				t.Errorf("went on: %q, want %q", s.body, test.passed)
			}
			if s.passed != nil && s.passed.ContentLength != int64(len(s.body)) {
				t.Errorf("length %d of %d bytes", s.passed.ContentLength, len(s.body))
			}
		})
	}
}

// A112: a body that drips is given up after a while, however steadily it
// drips, and nothing of it goes on.
func TestA112_SlowBody(t *testing.T) {
	for _, header := range []string{"Content-Length: 4000", "Transfer-Encoding: chunked"} {
		s := newSite(t, "allow true")
		s.bodyTimeout = 50 * time.Millisecond
		conn, err := net.Dial("tcp", s.listen())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		start := time.Now()
		if _, err := io.WriteString(conn, "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+header+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answered := make(chan string)
		go func() {
			answer := make([]byte, 4096)
			n, _ := conn.Read(answer)
			answered <- string(answer[:n])
		}()
		drop := []byte(" ")
		if strings.HasPrefix(header, "Transfer") {
			drop = []byte("1\r\n \r\n")
		}
		tick := time.NewTicker(5 * time.Millisecond)
		t.Cleanup(tick.Stop)
		var answer string
		for answer == "" {
			select {
			case answer = <-answered:
			case <-tick.C:
				_, _ = conn.Write(drop) // fails once the server has given up
			case <-time.After(20 * time.Second):
				t.Fatal("no answer")
			}
		}
		if !strings.HasPrefix(answer, "HTTP/1.1 408 ") || !strings.HasSuffix(answer, "the request body took too long") {
			t.Errorf("answer %q", answer)
		}
		if s.passed != nil {
			t.Error("the handler behind was reached")
		}
		if took := time.Since(start); took < s.bodyTimeout {
			t.Errorf("given up after %v already", took)
		}
	}
}

// The deadline for the body does not touch what comes after it.
func TestBodyTimeoutEndsWithTheBody(t *testing.T) {
	s := newSite(t, "allow true")
	s.bodyTimeout = 300 * time.Millisecond
	s.behind = func(w http.ResponseWriter, r *http.Request) error {
		// longer than the body may take: a stream, say
		select {
		case <-time.After(2 * s.bodyTimeout):
			_, err := io.WriteString(w, "late")
			return err
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	response, err := http.Post("http://"+s.listen()+"/mcp", "application/json", strings.NewReader(messageOf("ping", "")))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(body, []byte("late")) {
		t.Errorf("%q, %v", body, err)
	}
}

// A111: a Content-Length alone reserves no memory; nor does one of which little has come.
func TestLengthIsNotBelieved(t *testing.T) {
	const length = 64 * reservedBodySize
	for come, most := range map[int]int{0: 2 * reservedBodySize, reservedBodySize: 4 * reservedBodySize, 2 * reservedBodySize: 8 * reservedBodySize} {
		r := request(strings.Repeat(" ", come))
		r.ContentLength = length
		buffer := new(bytes.Buffer)
		if n, err := fill(buffer, r, length); n != int64(come) || err != nil {
			t.Errorf("%d of %d bytes, %v", n, come, err)
		}
		if buffer.Cap() > most {
			t.Errorf("%d bytes have come, and %d are reserved", come, buffer.Cap())
		}
	}
}

// A small body must not keep a large buffer, and the largest ones are not kept at all.
func TestBuffersBySize(t *testing.T) {
	taken := func(length int64) int {
		r := request(padded(100))
		r.ContentLength = -1
		if length > 0 {
			r = request(padded(int(length)))
		}
		if _, err := readBody(r, 16*pooledBodySize); err != nil {
			t.Fatal(err)
		}
		replayed, ok := r.Body.(*replayedBody)
		if !ok {
			t.Fatalf("the body is a %T", r.Body)
		}
		size := replayed.buffer.Cap()
		r.Body.Close()
		return size
	}
	for range 20 {
		if got := taken(8 * reservedBodySize); got < 8*reservedBodySize {
			t.Fatalf("a large body is in a buffer of %d bytes", got)
		}
		if got := taken(-1); got > 2*reservedBodySize {
			t.Fatalf("a small body keeps a buffer of %d bytes", got)
		}
		if got := taken(3 * pooledBodySize); got < 3*pooledBodySize {
			t.Fatalf("a very large body is in a buffer of %d bytes", got)
		}
		if got := taken(8 * reservedBodySize); got > 2*pooledBodySize {
			t.Fatalf("a buffer of %d bytes has been kept", got)
		}
	}
}
