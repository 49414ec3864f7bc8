package stdio

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// eventClient is a client whose connection belongs to others once its handler has returned.
type eventClient struct {
	*httptest.ResponseRecorder
	t       *testing.T
	gate    chan struct{} // the head of the answer waits for it
	atHead  chan struct{} // closed: it has come to that
	over    atomic.Bool
	done    chan struct{} // closed: the handler has returned
	written sync.Once
}

func newEventClient(t *testing.T) *eventClient {
	t.Helper()
	return &eventClient{
		ResponseRecorder: httptest.NewRecorder(), t: t,
		gate: make(chan struct{}), atHead: make(chan struct{}), done: make(chan struct{}),
	}
}

func (c *eventClient) WriteHeader(int) {
	c.written.Do(func() { close(c.atHead) })
	<-c.gate
}

func (c *eventClient) SetWriteDeadline(time.Time) error {
	if c.over.Load() {
		c.t.Error("a connection was touched whose handler has returned")
	}
	return nil
}

func (c *eventClient) get(s *server) {
	s.serveEvents(c, httptest.NewRequestWithContext(c.t.Context(), http.MethodGet, "/", http.NoBody))
	c.over.Store(true)
	close(c.done)
}

// A client that opens one stream after the other has the newest one; nobody touches those that have ended, whatever
// they were doing when the next one came.
func TestNewestStreamWins(t *testing.T) {
	s := New(Config{}, zap.NewNop).newServer("alice", "session")
	var clients []*eventClient
	for range 3 {
		c := newEventClient(t)
		go c.get(s)
		<-c.atHead
		if len(clients) == 0 {
			close(c.gate) // the others are still beginning while the next one comes
		} else if first := clients[0]; len(clients) == 1 {
			<-first.done
		}
		clients = append(clients, c)
	}
	close(clients[2].gate)
	close(clients[1].gate)
	<-clients[1].done
	s.mu.Lock()
	for range maxQueued + 1 { // more than the last one can take while the lock is held
		s.tell([]byte(`{}`))
	}
	s.mu.Unlock()
	<-clients[2].done
}
