// Package stdio is an MCP endpoint over streamable HTTP whose servers are
// processes, spoken to over stdin and stdout. It knows nothing of Caddy.
package stdio

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Config is how servers are started.
type Config struct {
	// Command is the program, which is looked up in the PATH of this process,
	// and Args are its arguments.
	Command string
	Args    []string
	// Dir is its working directory; "" for that of this process.
	Dir string
	// Env is its whole environment, NAME=value each.
	Env []string
	// IdleTimeout ends a process that nobody has talked to.
	IdleTimeout time.Duration
	// MaxProcesses bounds how many run at a time.
	MaxProcesses int
}

// Bridge starts processes and passes messages between them and HTTP.
type Bridge struct {
	cfg Config
	log func() *zap.Logger
	// era is what has been found out about the servers; see handshake.go.
	era          atomic.Int32
	probeTimeout time.Duration

	mu         sync.Mutex
	closed     bool
	sessions   map[string]*server
	principals map[string]*principal
	running    int
	all        sync.WaitGroup
}

// New returns a bridge, which starts nothing before the first request. log
// is asked each time a process starts.
func New(cfg Config, log func() *zap.Logger) *Bridge {
	return &Bridge{
		cfg: cfg, log: log, probeTimeout: probeTimeout,
		sessions: map[string]*server{}, principals: map[string]*principal{},
	}
}

// Close ends all processes and waits until nothing is left of them.
func (b *Bridge) Close() {
	b.mu.Lock()
	b.closed = true
	b.endAll()
	b.mu.Unlock()
	b.all.Wait()
}

// StartNoMore refuses to start further processes. Those that run go on.
func (b *Bridge) StartNoMore() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func (b *Bridge) endAll() {
	for s := range b.servers {
		if s.child != nil {
			s.child.end()
		}
	}
}

// servers iterates over all of them, with the lock held.
func (b *Bridge) servers(yield func(*server) bool) {
	for _, s := range b.sessions {
		if !yield(s) {
			return
		}
	}
	for _, p := range b.principals {
		if p.shared != nil && !yield(p.shared) {
			return
		}
	}
}

// open starts the process of a new session.
func (b *Bridge) open(who string) (*server, error) {
	s := b.newServer(who, rand.Text())
	b.mu.Lock()
	err := b.reserve(who)
	if errors.Is(err, errBusy) && b.replaceAbandoned(who) {
		err = b.reserve(who)
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := b.start(s); err != nil {
		return nil, err
	}
	close(s.ready)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed: // meanwhile
		s.child.end()
		return nil, errClosed
	case s.child.hasEnded(): // it may be too late to take it out of the table
		return nil, errGone
	}
	b.sessions[s.session] = s
	return s, nil
}

// find returns a session of somebody. That of somebody else does not exist.
func (b *Bridge) find(who, session string) (*server, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[session]
	if s == nil || s.principal != who {
		return nil, errSession
	}
	return s, nil
}

// share returns the process for the stateless requests of somebody, which it
// starts if there is none. It waits until the process can be asked.
func (b *Bridge) share(ctx context.Context, who string) (*server, error) {
	b.mu.Lock()
	p := b.principals[who]
	if p != nil && p.shared != nil && p.shared.child != nil && p.shared.child.isEnding() {
		p.shared = nil // the next one need not wait for its end
	}
	if p == nil || p.shared == nil {
		if err := b.reserve(who); err != nil {
			b.mu.Unlock()
			return nil, err
		}
		p = b.principals[who]
		p.shared = b.newServer(who, "")
		go b.startShared(p.shared)
	}
	s := p.shared
	b.mu.Unlock()
	select {
	case <-s.ready:
		return s, s.failed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *Bridge) startShared(s *server) {
	defer close(s.ready)
	if s.failed = b.start(s); s.failed != nil {
		return
	}
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed { // meanwhile
		s.failed = errClosed
	} else {
		s.failed = s.handshake()
	}
	if s.failed != nil {
		s.log.Error("the server cannot be asked", zap.Error(s.failed))
		s.unfit.Store(!errors.Is(s.failed, errClosed))
		s.child.end()
	}
}

func (b *Bridge) newServer(who, session string) *server {
	s := &server{
		bridge: b, principal: who, session: session,
		log:   b.log().With(zap.String("command", b.cfg.Command)),
		ready: make(chan struct{}), released: make(chan struct{}), pending: map[int64]*call{}, started: time.Now(),
	}
	s.events = newMailbox(new(budget))
	return s
}

// start starts a process for which there is a place.
func (b *Bridge) start(s *server) error {
	attached := make(chan struct{})
	child, err := startChild(&b.cfg, s.log, func(line []byte) error {
		<-attached
		return s.onLine(line)
	})
	if err != nil {
		s.log.Error("the server could not be started", zap.Error(err))
		b.release(s, true)
		return errStart
	}
	b.mu.Lock()
	s.child = child
	b.mu.Unlock()
	s.log = child.log
	s.watchIdle()
	close(attached)
	go func() {
		<-child.done
		s.finish()
		b.release(s, b.endedByItself(s) || s.unfit.Load())
	}()
	return nil
}

func (b *Bridge) endedByItself(s *server) bool {
	status := zap.String("status", s.child.status)
	if isClosed(s.child.told) {
		s.log.Debug("the server has ended", status)
		return false
	}
	s.log.Error("the server has ended by itself", status)
	return true
}
