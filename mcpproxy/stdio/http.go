package stdio

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

const (
	headerSession = "Mcp-Session-Id"
	// busyRetry is how many seconds a client should wait when there is no
	// place for another process or request.
	busyRetry = 10
	// cancelTimeout is how long a process may take to hear of a request that
	// nobody waits for any more.
	cancelTimeout = 10 * time.Second
)

var errPartial = errors.New("the server has ended, and has seen a part of the batch")

// Caller is who makes a request, and what has been found out about it.
type Caller struct {
	// Principal tells callers apart: nobody gets anything that belongs to
	// another one.
	Principal string
	// Message is the message in the body, if a handler in front has judged
	// it; nil otherwise, and for a batch.
	Message *mcpwire.Message
	// Lasts is told that a message which nobody has judged is answered with a
	// stream that does not end by itself; nil if nobody wants to know.
	Lasts func()
}

// ServeHTTP answers one request of the streamable HTTP transport. It returns
// why no process has answered, "" if one has.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request, caller Caller) (reason string) {
	refused := b.serve(w, r, caller)
	if refused == nil {
		return ""
	}
	refused.write(w)
	return refused.reason()
}

// serve answers a request, or says why not.
func (b *Bridge) serve(w http.ResponseWriter, r *http.Request, caller Caller) *refusal {
	modern := mcpwire.IsModern(r.Header.Get(mcpwire.HeaderVersion))
	switch {
	case len(r.Header[headerSession]) > 1:
		return invalid(nil, "more than one "+headerSession+" header")
	case r.Method == http.MethodPost:
		p, refused := readPost(r, caller.Message)
		if refused == nil {
			if caller.Lasts != nil && p.listens() {
				caller.Lasts()
			}
			refused = b.post(w, r, caller.Principal, p)
		}
		return refused
	case modern:
		return &refusal{status: http.StatusMethodNotAllowed, allow: "POST"}
	case r.Method != http.MethodGet && r.Method != http.MethodDelete:
		return &refusal{status: http.StatusMethodNotAllowed, allow: "GET, POST, DELETE"}
	default:
		return b.bodiless(w, r, caller.Principal)
	}
}

// bodiless answers GET and DELETE, which are about a session.
func (b *Bridge) bodiless(w http.ResponseWriter, r *http.Request, who string) *refusal {
	session := r.Header.Get(headerSession)
	if session == "" {
		return invalid(nil, headerSession+" is missing")
	}
	s, err := b.find(who, session)
	switch {
	case err != nil:
		return refusalOf(nil, err)
	case r.Method == http.MethodDelete:
		b.forget(s)
		s.child.end()
		w.WriteHeader(http.StatusNoContent)
	case !acceptsEvents(r):
		return &refusal{
			status: http.StatusNotAcceptable, code: mcpwire.CodeInvalidRequest,
			message: "the client must accept text/event-stream",
		}
	default:
		s.serveEvents(w, r)
	}
	return nil
}

// forget makes a session unknown at once.
func (b *Bridge) forget(s *server) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sessions, s.session)
}

// post passes a POST on, or says why not.
func (b *Bridge) post(w http.ResponseWriter, r *http.Request, who string, p *post) *refusal {
	session := r.Header.Get(headerSession)
	initialize := p.first().Method == "initialize" && p.first().Shape == mcpwire.Request
	switch {
	case initialize && session != "":
		return invalid(p.id, "initialize in a session")
	case initialize && !p.modern:
		s, err := b.open(who)
		if err != nil {
			return refusalOf(p.id, err)
		}
		return s.begin(w, r, p)
	case session != "" && !p.modern:
		s, err := b.find(who, session)
		if err != nil {
			return refusalOf(p.id, err)
		}
		_, refused := s.answer(w, r, p, nil)
		if refused != nil && errors.Is(refused.err, errGone) {
			return refusalOf(p.id, errSession)
		}
		return refused
	case p.requests() == 0:
		// there is no telling which of the callers' requests it is about
		if p.first().Shape == mcpwire.Response {
			return invalid(p.id, "a response outside of a session")
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	return b.postStateless(w, r, who, p)
}

func (b *Bridge) postStateless(w http.ResponseWriter, r *http.Request, who string, p *post) *refusal {
	for again := true; ; again = false {
		s, err := b.share(r.Context(), who)
		if err != nil {
			return refusalOf(p.id, err)
		}
		if p.modern && s.legacy != "" && p.first().Method == "server/discover" {
			// a client that speaks both does better with a session
			return unsupported(p, r, s.legacy)
		}
		_, refused := s.answer(w, r, p, nil)
		// it ended just now, and has not seen any of it
		if refused == nil || !again || !errors.Is(refused.err, errGone) {
			return refused
		}
	}
}

func unsupported(p *post, r *http.Request, version string) *refusal {
	data := append(mcpwire.Quote([]byte(`{"supported":[`), version), `],"requested":`...)
	data = append(mcpwire.Quote(data, r.Header.Get(mcpwire.HeaderVersion)), '}')
	return &refusal{
		status: http.StatusBadRequest, id: p.id, code: mcpwire.CodeUnsupportedVersion,
		message: "Unsupported protocol version", data: data,
	}
}

// begin is answer for the message that begins the session of a process. The
// process ends unless its client has got to know of it.
func (s *server) begin(w http.ResponseWriter, r *http.Request, p *post) *refusal {
	begun, refused := s.answer(w, r, p, s)
	if !begun {
		s.bridge.forget(s)
		s.child.end()
	}
	return refused
}

// answer sends messages to the process and passes on what it answers; opens
// is the session that the answer opens, nil for none. ok: every request has
// got a result.
func (s *server) answer(w http.ResponseWriter, r *http.Request, p *post, opens *server) (ok bool, refused *refusal) {
	interactive := acceptsEvents(r)
	box := newMailbox(&s.budget)
	defer box.discard()
	a := &answer{w: w, open: p.requests(), batch: p.batch, events: interactive, modern: p.modern, listens: p.listens(), opens: opens}
	var ids []int64
	defer func() { s.giveUp(ids, p.modern) }()
	for i, m := range p.messages {
		var line []byte
		if m.Shape == mcpwire.Request {
			var id int64
			var err error
			if id, line, err = s.register(m, box, interactive); err != nil {
				return false, refusalOf(p.id, err)
			}
			ids = append(ids, id)
		} else if line = s.notification(m); line == nil {
			continue
		}
		if err := s.child.send(r.Context(), line); err != nil {
			if i > 0 {
				err = errPartial // a part of the batch has arrived
			}
			return false, refusalOf(p.id, err)
		}
	}
	if a.open == 0 {
		w.WriteHeader(http.StatusAccepted)
		return true, nil
	}
	complete := a.run(r.Context(), box)
	return complete && !a.failed && a.refused == nil, a.refused
}

// giveUp is called when nobody waits for answers any more. For a modern
// client, that is a cancellation.
func (s *server) giveUp(ids []int64, modern bool) {
	for _, id := range ids {
		if !s.forget(id) || !modern {
			continue
		}
		line := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, id)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
			defer cancel()
			// a process that does not listen any more is not told
			_ = s.child.send(ctx, line)
		}()
	}
}
