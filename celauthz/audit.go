package celauthz

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddymcp/gateway/internal/cfutil"
)

// Bounds of the audit log.
const (
	// auditQueueSize is how many lines may wait to be written. Decisions do
	// not wait for a log: more than that are dropped, and counted.
	auditQueueSize = 8192
	// auditDrainTimeout is how long a configuration that is replaced waits
	// for its last lines.
	auditDrainTimeout = 2 * time.Second
)

// auditLog writes one line for each decision about a target. Lines have the
// level DEBUG, so that only a log which asks for them by name, or for
// everything, gets them; nothing is done when none does. A nil *auditLog
// writes nothing.
type auditLog struct {
	logger *zap.Logger
	// lost is told of every line that is dropped.
	lost  func()
	queue chan queuedLine
	// start begins the writing goroutine with the first line, done is closed
	// when it has ended.
	start sync.Once
	done  chan struct{}

	mu     sync.RWMutex
	closed bool
}

// queuedLine is a line that a log wants, and what is in it.
type queuedLine struct {
	wanted *zapcore.CheckedEntry
	auditEntry
}

// auditEntry is a decision about a target.
type auditEntry struct {
	cfutil.LogEntry
	// userID is {http.auth.user.id}; the others are of the token.
	userID, issuer, subject, clientID string
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *auditEntry) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("user_id", cfutil.LogText(e.userID))
	enc.AddString("iss", cfutil.LogText(e.issuer))
	enc.AddString("sub", cfutil.LogText(e.subject))
	enc.AddString("client_id", cfutil.LogText(e.clientID))
	return e.LogEntry.MarshalLogObject(enc)
}

func newAuditLog(logger *zap.Logger, lost func()) *auditLog {
	return &auditLog{
		logger: logger, lost: lost,
		queue: make(chan queuedLine, auditQueueSize), done: make(chan struct{}),
	}
}

// add hands a line to the writer, if a log wants it. make is called only
// then.
func (a *auditLog) add(entry func() auditEntry) {
	if a == nil {
		return
	}
	wanted := a.logger.Check(zap.DebugLevel, "decision")
	if wanted == nil {
		return
	}
	line := queuedLine{wanted, entry()}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed {
		// a request that goes on while its configuration is replaced
		line.write()
		return
	}
	a.start.Do(func() { go a.run() })
	select {
	case a.queue <- line:
	default:
		a.lost()
	}
}

func (a *auditLog) run() {
	defer close(a.done)
	for line := range a.queue {
		line.write()
	}
}

func (l *queuedLine) write() { l.wanted.Write(zap.Inline(&l.auditEntry)) }

// close writes what waits, as long as that takes no more than a moment. What
// is added later is written at once.
func (a *auditLog) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	wasClosed := a.closed
	a.closed = true
	a.mu.Unlock()
	if wasClosed {
		return
	}
	close(a.queue)
	a.start.Do(func() { close(a.done) }) // there was no line
	timer := time.NewTimer(auditDrainTimeout)
	defer timer.Stop()
	select {
	case <-a.done:
	case <-timer.C:
		for range a.queue {
			a.lost()
		}
	}
}
