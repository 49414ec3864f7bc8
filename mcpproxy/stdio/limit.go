package stdio

import (
	"errors"
	"time"
)

// Bounds of the processes of one bridge.
const (
	// DefaultMaxProcesses is how many run at a time.
	DefaultMaxProcesses = 64
	// MaxMaxProcesses bounds that option.
	MaxMaxProcesses = 4096
	// maxPerPrincipal is how many run for one principal, so that nobody takes
	// them all.
	maxPerPrincipal = 8
	// DefaultIdleTimeout is how long a process stays without a message.
	DefaultIdleTimeout = 10 * time.Minute
	// MaxIdleTimeout bounds that option.
	MaxIdleTimeout = 30 * 24 * time.Hour
	// abandonedTimeout is how long a session must have been silent, with no
	// stream open, for another one of its principal to take its place.
	abandonedTimeout = 30 * time.Second
)

// A process that lived less than steadyAfter and ended by itself makes the
// next ones of its principal wait: not at all after the first time, then
// from firstPause on twice as long each time.
const (
	steadyAfter = 30 * time.Second
	firstPause  = time.Second
	maxPause    = 30 * time.Second
)

var (
	errBusy    = errors.New("too many processes run")
	errClosed  = errors.New("the gateway is ending its servers")
	errStart   = errors.New("the server could not be started")
	errSession = errors.New("no such session")
)

// pauseError asks to come again later.
type pauseError struct{ left time.Duration }

func (pauseError) Error() string { return "the server keeps ending; it is started again in a moment" }

// principal is somebody for whom processes run, or ended too soon.
type principal struct {
	running int
	shared  *server
	crashes int
	next    time.Time // when the next process may be started
}

// reserve takes a place for one more process, with the lock held.
func (b *Bridge) reserve(who string) error {
	p := b.principals[who]
	switch {
	case b.closed:
		return errClosed
	case b.running >= b.cfg.MaxProcesses, p != nil && p.running >= maxPerPrincipal:
		return errBusy
	}
	if p == nil {
		b.forgetPrincipals()
		p = new(principal)
		b.principals[who] = p
	}
	if left := time.Until(p.next); left > 0 {
		return pauseError{left}
	}
	b.running++
	p.running++
	b.all.Add(1)
	return nil
}

// forgetPrincipals drops those for whom nothing runs and who may start.
func (b *Bridge) forgetPrincipals() {
	for who, p := range b.principals {
		if p.running == 0 && time.Since(p.next) > maxPause {
			delete(b.principals, who)
		}
	}
}

// replaceAbandoned ends the session of somebody that has been silent for the
// longest time, if nobody seems to use it, with the lock held. It reports
// whether there is a place now.
func (b *Bridge) replaceAbandoned(who string) bool {
	var oldest *server
	var since time.Time
	for _, s := range b.sessions {
		if s.principal != who {
			continue
		}
		if used, ok := s.abandoned(abandonedTimeout); ok && (oldest == nil || used.Before(since)) {
			oldest, since = s, used
		}
	}
	if oldest == nil {
		return false
	}
	delete(b.sessions, oldest.session)
	oldest.child.end()
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-oldest.released:
		return true
	case <-time.After(closeWait):
		return false
	}
}

// release gives the place of a process back.
func (b *Bridge) release(s *server, crashed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer close(s.released)
	delete(b.sessions, s.session)
	p := b.principals[s.principal]
	if p.shared == s {
		p.shared = nil
	}
	b.running--
	p.running--
	b.all.Done()
	switch {
	case crashed && time.Since(s.started) < steadyAfter:
		p.next = time.Now()
		if p.crashes++; p.crashes > 1 {
			p.next = p.next.Add(min(maxPause, firstPause<<min(p.crashes-2, 10)))
		}
	case crashed:
		p.crashes = 0
	}
	if p.running == 0 && p.crashes == 0 {
		delete(b.principals, s.principal)
	}
}
