package celauthz

import (
	"bytes"
	"io"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/promutil"
	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

// serveShadow tells what the rules would do, and does nothing of it: the
// request goes on as it came, and so does the answer.
func (h *Handler) serveShadow(
	w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, state *reqctx.State, watch *promutil.Watch,
) error {
	in, refused := h.readShadow(w, r, watch)
	if refused != nil {
		h.observeRefusal(r, refused)
		watch.Pause()
		return next.ServeHTTP(w, r)
	}
	if !in.batch {
		state.Message = in.first()
	}
	who := h.caller(r, state, in)
	j, m, _ := h.judge(r.Context(), who, in)
	h.observe(r, state, who, in, m, j)
	v := newVisibility(r.Context(), h.policy, who, h.now)
	if m := in.first(); m != nil && m.Listen != nil {
		h.observeSubscription(r, state, m, who, &v)
	}
	lists := in.batch || len(in.messages) > 0 && listMethods[in.messages[0].Method]
	watch.Pause()
	if !lists || v.everything() {
		return next.ServeHTTP(w, r)
	}
	r.Header.Del("Accept-Encoding") // or the entries could not be counted
	counted := &shadowWriter{ResponseWriter: w, limit: int(h.MaxEvent), filter: v.filter()}
	counted.filter.Listed = h.metrics.wouldList
	err := next.ServeHTTP(counted, r)
	watch.Resume()
	counted.finish()
	return err
}

// readShadow is read for a request that is not to be refused.
func (h *Handler) readShadow(w http.ResponseWriter, r *http.Request, watch *promutil.Watch) (*incoming, *refusal) {
	if status, text := checkTransport(r); status != 0 {
		return nil, &refusal{status: status, text: text}
	}
	if r.Method != http.MethodPost {
		return new(incoming), nil
	}
	watch.Pause()
	body, err := h.peekInTime(w, r)
	watch.Resume()
	if err != nil {
		return nil, bodyRefusal(err)
	}
	return parse(r, body)
}

// peekInTime is peekBody with a bound on how long that takes. A body that is
// late fails for the handlers behind as well; what is not read here may take
// as long as they like.
func (h *Handler) peekInTime(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	limited := slowbody.Limit(w, r, h.bodyTimeout)
	defer limited.Release()
	return peekBody(r, h.MaxBody)
}

// peekBody reads a body, at most limit bytes, and leaves it as it was: what
// was read comes first, then what was not, or the error that came.
func peekBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, reqctx.ErrBodyTooLarge
	}
	original := r.Body
	body, err := io.ReadAll(io.LimitReader(original, limit+1))
	rest := io.Reader(original)
	if err != nil {
		rest = failingReader{err}
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), original}
	if err == nil && int64(len(body)) > limit {
		err = reqctx.ErrBodyTooLarge
	}
	return body, err
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// shadowWriter passes everything on as it comes and counts the entries of
// lists on the side. What it cannot read it does not count.
type shadowWriter struct {
	http.ResponseWriter
	filter  *mcpwire.Filter
	limit   int
	passage passage
	// seen is a copy of a JSON answer, up to the limit.
	seen     bytes.Buffer
	splitter mcpwire.Splitter
}

// Unwrap lets flushing and deadlines through.
func (s *shadowWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (s *shadowWriter) WriteHeader(status int) {
	if s.passage == undecided && status >= http.StatusOK {
		s.passage = s.choose()
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *shadowWriter) choose() passage {
	header := s.Header()
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return stopped
	}
	switch mediaTypeOf(header.Get("Content-Type")) {
	case jsonType:
		return collected
	case eventType:
		s.splitter = mcpwire.Splitter{Limit: s.limit, Emit: s.count}
		return split
	default:
		return stopped
	}
}

// Write implements http.ResponseWriter.
func (s *shadowWriter) Write(p []byte) (int, error) {
	if s.passage == undecided {
		s.passage = s.choose()
	}
	switch s.passage {
	case collected:
		if s.seen.Len()+len(p) > s.limit {
			s.passage, s.seen = stopped, bytes.Buffer{}
			break
		}
		s.seen.Write(p)
	case split:
		if err := s.splitter.Write(p); err != nil {
			s.passage = stopped
		}
	case undecided, empty, guarded, stopped:
	}
	return s.ResponseWriter.Write(p)
}

func (s *shadowWriter) count(event *mcpwire.Event) error {
	if len(bytes.TrimSpace(event.Data)) == 0 {
		return nil // it keeps the connection alive, or moves the event id on
	}
	_, err := s.filter.Message(event.Data)
	return err
}

func (s *shadowWriter) finish() {
	if s.passage == collected {
		// whatever is wrong with it has been passed on already
		_, _ = s.filter.Message(s.seen.Bytes())
	}
}
