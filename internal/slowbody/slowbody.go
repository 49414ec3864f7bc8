// Package slowbody bounds how long the body of a request may take to arrive.
package slowbody

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Timeout bounds how long a body may take to arrive, however steadily it
// drips. The server's own deadlines start anew with every byte. Within 30 s
// all is over, also where many are answered at once.
const Timeout = 25 * time.Second

// Err means that a body has not arrived in time.
var Err = errors.New("the request body took too long")

// Timer ends the reading of a body that takes too long.
type Timer struct {
	client  http.ResponseWriter
	timer   *time.Timer
	over    atomic.Bool
	expired sync.WaitGroup // until what follows from that is done
}

// Start starts the time of the body of the request that w answers.
func Start(w http.ResponseWriter, timeout time.Duration) *Timer {
	t := &Timer{client: w}
	t.expired.Add(1)
	t.timer = time.AfterFunc(timeout, t.expire)
	return t
}

func (t *Timer) expire() {
	defer t.expired.Done()
	t.over.Store(true)
	// a deadline in the past wakes up the pending read
	_ = http.NewResponseController(t.client).SetReadDeadline(time.Unix(1, 0))
}

// Stop stops the time, and reports whether it had run out. err is how the
// reading ended; nil or io.EOF when the whole body is there. A body that came
// in time, if only just, leaves a connection that can be read from: whoever
// answers with a stream goes on reading.
func (t *Timer) Stop(err error) (late bool) {
	if t.timer.Stop() {
		return false
	}
	t.expired.Wait()
	if err == nil || errors.Is(err, io.EOF) {
		_ = http.NewResponseController(t.client).SetReadDeadline(time.Time{})
		return false
	}
	return true
}

// LimitRest bounds how long the server waits for a body that nobody will
// read: it looks for the end before it answers, since the connection may serve
// other requests. It is for those who refuse a request, and does nothing where
// each request has a stream of its own.
func LimitRest(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// the server takes the deadline back before the next request
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(Timeout))
	}
}

// Body is a body that must arrive in time.
type Body struct {
	original io.Reader
	due      time.Time
	timer    *Timer
	once     sync.Once
	whole    atomic.Bool
	closed   atomic.Bool
}

// Limit makes a request fail whose body is not there in time. The caller
// calls the body's End once the request is over, or Release.
func Limit(w http.ResponseWriter, r *http.Request, timeout time.Duration) *Body {
	body := &Body{original: r.Body, due: time.Now().Add(timeout), timer: Start(w, timeout)}
	r.Body = body
	return body
}

// Read implements io.Reader. It returns Err once the time is over.
func (b *Body) Read(p []byte) (int, error) {
	if b.whole.Load() {
		// A transport looks once more for the end. The server has closed
		// the body by then, if the answer was quick, and what it says would
		// cancel the answer.
		return 0, io.EOF
	}
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.original.Read(p)
	if err != nil {
		b.stop(err)
		if b.Late() {
			err = Err
		}
	}
	return n, err
}

// Close implements io.Closer. The body of the server stays open: it takes one
// that was closed for one that has come to its end, and what still comes of
// it for the next request.
func (b *Body) Close() error {
	b.closed.Store(true)
	return nil
}

// Late reports whether the body has not arrived in time. A server takes its
// failed reading for a client that has gone, and cancels the request.
func (b *Body) Late() bool { return b != nil && b.timer.over.Load() && !b.whole.Load() }

// Release stops the time of a body that others go on reading.
func (b *Body) Release() { b.stop(http.ErrBodyReadAfterClose) }

// End stops the time of a body that nobody reads to its end here. The server
// does, and has the rest of the time for it.
func (b *Body) End() {
	b.Release()
	if !b.whole.Load() && !b.Late() {
		_ = http.NewResponseController(b.timer.client).SetReadDeadline(b.due)
	}
}

func (b *Body) stop(err error) {
	if errors.Is(err, io.EOF) {
		b.whole.Store(true)
	}
	b.once.Do(func() { b.timer.Stop(err) })
}
