package stdio

import (
	"context"
	"net/http"
	"time"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// answer is the answer to a POST: JSON where the response comes first, an
// event stream where something comes before it.
type answer struct {
	w       http.ResponseWriter
	open    int  // requests that have no response yet
	batch   bool // an array is expected
	events  bool // the client reads event streams
	listens bool // the response comes last, if ever
	modern  bool
	opens   *server // the session that the response opens; nil otherwise

	stream    *eventStream
	collected [][]byte
	failed    bool     // a response is an error
	refused   *refusal // what is to be answered where no process has
}

// run writes until every request is answered, or the stream ends. It reports
// whether it came to that.
func (a *answer) run(ctx context.Context, box *mailbox) (complete bool) {
	defer box.writing(nil)
	if a.events && a.listens {
		a.start(box)
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		select {
		case <-box.signal:
		case <-alive.C:
			if a.stream != nil && a.stream.write([]byte(":\n\n")) != nil {
				return false
			}
			continue
		case <-ctx.Done():
			return false
		}
		queue, closed := box.take()
		for _, d := range queue {
			if err := a.deliver(box, d); err != nil {
				return false
			}
		}
		if a.open == 0 {
			a.finish()
			return true
		}
		if closed {
			a.breakOff()
			return true
		}
	}
}

func (a *answer) deliver(box *mailbox, d delivery) error {
	if d.answers {
		a.open--
		a.failed = a.failed || d.errorCode != 0
	}
	switch {
	case a.stream != nil:
		return a.stream.send(d.message)
	case d.answers && (!a.events || a.open == 0):
		a.collected = append(a.collected, d.message)
		if a.open == 0 && !a.batch {
			a.write(d)
		}
		return nil
	case a.events:
		a.start(box)
		return a.stream.send(d.message)
	default:
		return nil // it reads nothing but answers
	}
}

// write answers with the only response there is.
func (a *answer) write(d delivery) {
	if d.gone {
		a.refused = &refusal{status: http.StatusBadGateway, body: d.message}
		return
	}
	if !a.failed {
		a.nameSession()
	}
	writeJSON(a.w, a.status(d), d.message)
}

func (a *answer) start(box *mailbox) {
	a.nameSession()
	a.stream = startEvents(a.w)
	box.writing(func() { interrupt(a.stream.control) })
}

func (a *answer) nameSession() {
	if a.opens != nil {
		a.w.Header().Set(headerSession, a.opens.session)
	}
}

// finish writes a batch of responses that no stream has brought.
func (a *answer) finish() {
	if !a.batch || a.stream != nil {
		return
	}
	body := []byte{'['}
	for i, message := range a.collected {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, message...)
	}
	writeJSON(a.w, http.StatusOK, append(body, ']'))
}

// breakOff ends an answer without a response.
func (a *answer) breakOff() {
	if a.stream == nil {
		a.refused = &refusal{status: http.StatusBadGateway, code: mcpwire.CodeBadUpstream, message: "the answer was given up"}
	}
}

// status is the HTTP status of a single response (MCP 2026-07-28, transports).
func (a *answer) status(d delivery) int {
	switch code := d.errorCode; {
	case !a.modern || code == 0:
		return http.StatusOK
	case code == mcpwire.CodeMethodNotFound:
		return http.StatusNotFound
	case code <= mcpwire.CodeHeaderMismatch && code >= mcpwire.CodeUnsupportedVersion:
		return http.StatusBadRequest
	default:
		return http.StatusOK
	}
}
