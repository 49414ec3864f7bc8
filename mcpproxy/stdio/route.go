package stdio

import (
	"bytes"
	"context"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

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
		s.stream.end()
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
