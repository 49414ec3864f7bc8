package stdio

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// maxPending bounds the requests that one process answers at a time.
const maxPending = 128

// listenMethod is that of a request whose answer comes last, if ever.
const listenMethod = "subscriptions/listen"

var errPending = errors.New("too many requests wait for the server")

// server is one process with those who talk to it: one session, or the
// stateless requests of one principal.
type server struct {
	bridge    *Bridge
	principal string
	// session is its id; "" for the process of stateless requests.
	session string
	log     *zap.Logger
	child   *child
	started time.Time

	// ready is closed once the process can be asked; failed says that it
	// cannot.
	ready  chan struct{}
	failed error
	unfit  atomic.Bool // failed, for a reason that starting anew would not change
	legacy string      // the version of a handshake the gateway made; "" without

	events *mailbox // of a session: what belongs to no request
	budget budget   // of the others

	mu      sync.Mutex
	lastID  int64
	pending map[int64]*call
	stream  *eventReader // the GET that reads events
	used    time.Time
	idle    *time.Timer
	over    bool
	// released is closed once its place is free.
	released chan struct{}
}

// call is a request that has not been answered.
type call struct {
	// id and progress are what the client wrote.
	id, progress jsontext.Value
	box          *mailbox
	// interactive: the client can be told things before the answer.
	interactive bool
	listens     bool
	initialize  bool
}

func (s *server) shared() bool { return s.session == "" }

// register gives a request an id that no other one has while the process
// lives, and returns the message to send.
func (s *server) register(m *mcpwire.Relayed, box *mailbox, interactive bool) (id int64, line []byte, err error) {
	c := &call{
		id: bytes.Clone(m.ID), progress: bytes.Clone(m.Progress), box: box, interactive: interactive,
		listens: m.Method == listenMethod, initialize: m.Method == "initialize",
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return 0, nil, errGone
	case len(s.pending) >= maxPending:
		return 0, nil, errPending
	}
	s.lastID++
	s.pending[s.lastID] = c
	s.touch()
	own := jsontext.Value(strconv.FormatInt(s.lastID, 10))
	to := mcpwire.Correlation{ID: own}
	if s.shared() {
		// in a session, the client's own tokens cannot be anybody else's
		to.Progress = own
	}
	return s.lastID, mcpwire.Line(m.With(to)), nil
}

// forget is called when nobody waits for an answer any more.
func (s *server) forget(id int64) (wasPending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, wasPending = s.pending[id]
	delete(s.pending, id)
	return wasPending
}

// notification is a client's notification or response for the process of its
// session.
func (s *server) notification(m *mcpwire.Relayed) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touch()
	var to mcpwire.Correlation
	if m.Cancelled != nil {
		for id, c := range s.pending {
			if sameToken(c.id, m.Cancelled) {
				to.Cancelled = jsontext.Value(strconv.FormatInt(id, 10))
			}
		}
		if to.Cancelled == nil {
			return nil // it has been answered; the number may be another one's
		}
	}
	return mcpwire.Line(m.With(to))
}

// sameToken compares ids, or tokens, as JSON does.
func sameToken(a, b jsontext.Value) bool {
	if textA, ok := mcpwire.String(a); ok {
		textB, ok := mcpwire.String(b)
		return ok && textA == textB
	}
	return bytes.Equal(a, b)
}

// touch puts off the end of an idle process. It is called with the lock held.
func (s *server) touch() { s.used = time.Now() }

// watchIdle ends the process once nothing has been said for the idle
// timeout. A request that is being answered keeps it.
func (s *server) watchIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	timeout := s.bridge.cfg.IdleTimeout
	s.used = time.Now()
	s.idle = time.AfterFunc(timeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch left := timeout - time.Since(s.used); {
		case s.over:
		case len(s.pending) > 0:
			s.idle.Reset(timeout)
		case left > 0:
			s.idle.Reset(left)
		default:
			s.log.Debug("the server is ended: it was idle")
			s.child.end()
		}
	})
}

// finish is called when the process has ended: whoever waits hears of it.
func (s *server) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.idle != nil {
		s.idle.Stop()
	}
	for id, c := range s.pending {
		message := mcpwire.ErrorResponse(c.id, mcpwire.CodeUpstreamDown, "the server has ended", nil)
		s.deliver(c.box, delivery{message: message, answers: true, errorCode: mcpwire.CodeUpstreamDown, gone: true})
		delete(s.pending, id)
	}
	s.events.close()
}

// abandoned reports whether nobody seems to use a session any more.
func (s *server) abandoned(after time.Duration) (since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, len(s.pending) == 0 && s.stream == nil && time.Since(s.used) >= after
}
