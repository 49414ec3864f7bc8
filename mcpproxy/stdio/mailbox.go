package stdio

import "sync"

// Bounds of what waits for slow clients.
const (
	// maxQueued bounds the messages that wait for one stream.
	maxQueued = 1000
	// maxQueuedSize bounds what waits for all POSTs of one process, and what
	// waits for the GET of its session, in bytes. One message may always wait.
	maxQueuedSize = 16 << 20
)

// delivery is a message for a client.
type delivery struct {
	message []byte
	// answers: it is the response to one of the requests.
	answers bool
	// errorCode is that of a response which is an error.
	errorCode int64
	// gone: it is not the process that answers, which has ended.
	gone bool
}

// mailbox is what waits for one stream. Whoever fills it never waits.
type mailbox struct {
	budget *budget
	// signal has room for one: there is something new.
	signal chan struct{}

	mu     sync.Mutex
	queue  []delivery
	size   int
	closed bool
	// interrupt wakes up a stream that is stuck in a write.
	interrupt func()
}

// budget is shared by the mailboxes of one process, the one of its GET
// excepted: what nobody fetches must not be in the way.
type budget struct {
	mu   sync.Mutex
	size int
}

func newMailbox(b *budget) *mailbox { return &mailbox{budget: b, signal: make(chan struct{}, 1)} }

// push reports whether there was room. A mailbox that is closed takes
// everything, to no effect.
func (m *mailbox) push(d delivery) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return true
	}
	if len(m.queue) >= maxQueued || !m.budget.take(len(d.message)) {
		return false
	}
	m.queue = append(m.queue, d)
	m.size += len(d.message)
	m.wake()
	return true
}

// take returns what waits, and whether nothing will come any more.
func (m *mailbox) take() (queue []delivery, closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue = m.queue
	m.queue = nil
	m.budget.give(m.size)
	m.size = 0
	return queue, m.closed
}

// close ends the stream behind what waits.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wake()
}

// discard ends the stream at once.
func (m *mailbox) discard() {
	m.close()
	m.take()
	m.wakeWriter()
}

// writing sets what wakes up the stream that reads from here, nil when there
// is none any more.
func (m *mailbox) writing(interrupt func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.interrupt = interrupt
}

func (m *mailbox) wakeWriter() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.interrupt != nil {
		m.interrupt()
	}
}

func (m *mailbox) wake() {
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

func (b *budget) take(size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size > 0 && b.size+size > maxQueuedSize {
		return false
	}
	b.size += size
	return true
}

func (b *budget) give(size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size -= size
}
