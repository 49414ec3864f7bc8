package mcpproxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// front is a server of its own in front of a handler. A request with the header X-Judged has a message that
// mcp_authorize has read.
type front struct {
	*httptest.Server
	t        *testing.T
	identity *reqctx.Identity
	// returned counts the requests that are over.
	returned chan error
	// before and after have a look at each request, if they are not nil.
	before, after func(w http.ResponseWriter, r *http.Request)
}

func newFront(t *testing.T, h *Handler) *front {
	t.Helper()
	f := &front{t: t, identity: alice, returned: make(chan error, 100)}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if failure := recover(); failure != nil {
				f.returned <- http.ErrAbortHandler
				panic(failure)
			}
		}()
		// Caddy counts the bytes; net/http then no longer knows its own body
		r.Body = struct{ io.ReadCloser }{r.Body}
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		r, state := reqctx.Ensure(r)
		state.Identity = f.identity
		if r.Header.Get("X-Judged") != "" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			if state.Message, err = mcpwire.Read(body); err != nil {
				t.Error(err)
			}
			r.Body, r.ContentLength = reqctx.NewBody(body), int64(len(body))
		}
		if f.before != nil {
			f.before(w, r)
		}
		err := h.ServeHTTP(w, r, nil)
		if f.after != nil {
			f.after(w, r)
		}
		var failure caddyhttp.HandlerError
		if errors.As(err, &failure) {
			w.WriteHeader(failure.StatusCode)
		}
		f.returned <- err
	}))
	t.Cleanup(f.Close)
	t.Cleanup(f.CloseClientConnections)
	return f
}

// send sends a request; judged says that mcp_authorize has read its message.
func (f *front) send(ctx context.Context, method, path, body string, judged bool) *http.Response {
	f.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, f.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if judged {
		r.Header.Set("X-Judged", "1")
	}
	response, err := f.Client().Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { response.Body.Close() })
	return response
}

// readAll reads an answer to its end.
func readAll(t *testing.T, response *http.Response) (string, error) {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// receive waits for something that must happen.
func receive[T any](t *testing.T, what string, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(patience):
		t.Fatalf("%s has not happened", what)
	}
	return value
}

// streamed is an upstream whose answers go on until their client leaves.
type streamed struct {
	*recorder
	// left is told of every request whose client has left.
	left chan struct{}
}

// newStreamed starts one that sends these bytes first, of this type.
func newStreamed(t *testing.T, contentType, first string) *streamed {
	t.Helper()
	s := &streamed{newRecorder(t, httptest.NewServer), make(chan struct{}, 100)}
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, first)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		s.left <- struct{}{}
	}
	t.Cleanup(s.CloseClientConnections)
	return s
}
