package stdio

import (
	"context"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// keepAlive is how often a silent stream says that it is there.
const keepAlive = 25 * time.Second

// acceptsEvents reports whether the client reads event streams.
func acceptsEvents(r *http.Request) bool {
	for _, value := range r.Header.Values("Accept") {
		for element := range strings.SplitSeq(value, ",") {
			if mediaType, _, _ := mime.ParseMediaType(element); mediaType == "text/event-stream" {
				return true
			}
		}
	}
	return false
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	// nothing can be done about a client that has gone
	_, _ = w.Write(body)
}

// eventStream writes server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// startEvents begins a stream.
func startEvents(w http.ResponseWriter) *eventStream {
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Accel-Buffering", "no")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	s := &eventStream{w, http.NewResponseController(w)}
	_ = s.control.Flush() // the first event will tell if the client has gone
	return s
}

func (s *eventStream) send(message []byte) error {
	event := make([]byte, 0, len(message)+32)
	event = append(event, "event: message\ndata: "...)
	event = append(append(event, message...), "\n\n"...)
	return s.write(event)
}

func (s *eventStream) write(event []byte) error {
	if _, err := s.w.Write(event); err != nil {
		return err
	}
	return s.control.Flush()
}

// interrupt ends a write that is stuck. It must not be called once the
// handler has returned: the connection is somebody else's then.
func interrupt(control *http.ResponseController) {
	// a writer that cannot do this keeps its own pace
	_ = control.SetWriteDeadline(time.Unix(1, 0))
}

// eventReader is the stream of a GET.
type eventReader struct {
	cancel  context.CancelFunc
	control *http.ResponseController
}

// end is called as long as the reader is the one of its server, so its handler
// has not returned.
func (e *eventReader) end() {
	e.cancel()
	interrupt(e.control)
}

// serveEvents is the stream of a GET. A client that has lost its stream opens
// another one before anybody here knows, so the newest one wins.
func (s *server) serveEvents(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	me := &eventReader{cancel, http.NewResponseController(w)}
	s.mu.Lock()
	if s.stream != nil {
		s.stream.end()
	}
	s.stream = me
	s.touch()
	s.mu.Unlock()
	defer s.endEvents(me)
	stream := startEvents(w)
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		// what came while nobody read is there already
		queue, closed := s.takeEvents(ctx)
		for _, d := range queue {
			if stream.send(d.message) != nil {
				return
			}
		}
		if closed {
			return
		}
		select {
		case <-s.events.signal:
		case <-alive.C:
			if stream.write([]byte(":\n\n")) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// takeEvents leaves everything to the next stream if this one has ended.
func (s *server) takeEvents(ctx context.Context) (queue []delivery, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		s.events.wake()
		return nil, true
	}
	return s.events.take()
}

// endEvents notes that nobody reads, unless another stream has begun.
func (s *server) endEvents(me *eventReader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream == me {
		s.stream = nil
	}
}
