package stdio

import (
	"bytes"
	"context"
	"errors"
	"slices"
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
		listens: m.Method == "subscriptions/listen", initialize: m.Method == "initialize",
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

// onLine takes what the process wrote to where it belongs.
func (s *server) onLine(line []byte) error {
	switch line[0] {
	case '{':
		return s.onMessage(bytes.Clone(line))
	case '[':
		messages, err := mcpwire.Messages(line)
		for _, message := range messages {
			if err == nil {
				err = s.onMessage(bytes.Clone(message))
			}
		}
		return err
	default:
		s.child.stderr.write("stdout", line)
		return nil
	}
}

func (s *server) onMessage(message []byte) error {
	m, err := mcpwire.ReadRelayed(message)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touch()
	switch {
	case m.Shape == mcpwire.Response:
		s.onResponse(m)
	case s.shared() && m.Shape == mcpwire.Request:
		s.refuse(m)
	case s.shared():
		s.onSharedNotification(m)
	case m.Method == "notifications/progress" && s.onProgress(m, message):
	case m.Shape == mcpwire.Request || m.Cancelled != nil:
		s.ask(mcpwire.Line(message))
	default:
		s.tell(mcpwire.Line(message))
	}
	return nil
}

// onResponse answers the request it belongs to. One that belongs to none, or
// to one that has been given up, is dropped.
func (s *server) onResponse(m *mcpwire.Relayed) {
	id, c := s.find(m.ID)
	if c == nil {
		return
	}
	delete(s.pending, id)
	to := mcpwire.Correlation{ID: c.id}
	if sameToken(m.Subscription, m.ID) {
		to.Subscription = c.id
	}
	s.deliver(c.box, delivery{message: mcpwire.Line(m.With(to)), answers: true, errorCode: m.ErrorCode})
}

func (s *server) find(id jsontext.Value) (int64, *call) {
	number, err := strconv.ParseInt(string(id), 10, 64)
	if err != nil {
		return 0, nil
	}
	return number, s.pending[number]
}

// refuse answers what the process asks a client that it does not know: there
// are many behind one process, and each is gone with its request.
func (s *server) refuse(m *mcpwire.Relayed) {
	answer := mcpwire.ErrorResponse(m.ID, mcpwire.CodeMethodNotFound, "Method not found", nil)
	if m.Method == "ping" {
		answer = append(append([]byte(`{"jsonrpc":"2.0","id":`), m.ID...), `,"result":{}}`...)
	}
	answer = mcpwire.Line(answer)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		// a process that does not listen gets no answer
		_ = s.child.send(ctx, answer)
	}()
}

// onSharedNotification passes on what names a request that waits, and
// nothing else.
func (s *server) onSharedNotification(m *mcpwire.Relayed) {
	switch {
	case m.Cancelled != nil: // a subscription ends
		if id, c := s.find(m.Cancelled); c != nil && c.listens {
			delete(s.pending, id)
			c.box.close()
		}
	case m.Subscription != nil:
		if _, c := s.find(m.Subscription); c != nil && c.listens {
			s.deliver(c.box, delivery{message: mcpwire.Line(m.With(mcpwire.Correlation{Subscription: c.id}))})
		}
	case m.Progress != nil:
		if _, c := s.find(m.Progress); c != nil && c.progress != nil {
			s.deliver(c.box, delivery{message: mcpwire.Line(m.With(mcpwire.Correlation{Progress: c.progress}))})
		}
	}
}

// onProgress passes progress on to the request it is about.
func (s *server) onProgress(m *mcpwire.Relayed, message []byte) bool {
	for _, c := range s.pending {
		if c.interactive && c.progress != nil && sameToken(c.progress, m.Progress) {
			s.deliver(c.box, delivery{message: mcpwire.Line(message)})
			return true
		}
	}
	return false
}

// ask passes a question of the process on: by the stream of the youngest
// request that it works on, since it will have come up with that one.
func (s *server) ask(message []byte) {
	ids := make([]int64, 0, len(s.pending))
	for id, c := range s.pending {
		if c.interactive && !c.initialize {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		s.tell(message)
		return
	}
	s.deliver(s.pending[slices.Max(ids)].box, delivery{message: message})
}

// tell passes on what belongs to no request: by the stream of a GET, for
// which it waits.
func (s *server) tell(message []byte) {
	if s.events.push(delivery{message: message}) {
		return
	}
	if s.stream != nil {
		s.log.Warn("a client reads too slowly; its stream is ended")
		s.stream.end(s.events)
		s.stream = nil
		s.events.take()
		return
	}
	s.log.Debug("a message was dropped: nobody reads, and there are too many")
}

func (s *server) deliver(box *mailbox, d delivery) {
	if !box.push(d) {
		s.log.Warn("a client reads too slowly; its stream is ended")
		box.discard()
	}
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
		message := mcpwire.ErrorResponse(c.id, mcpwire.CodeBadUpstream, "the server has ended", nil)
		s.deliver(c.box, delivery{message: message, answers: true, errorCode: mcpwire.CodeBadUpstream, gone: true})
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
