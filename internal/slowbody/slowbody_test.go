package slowbody

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// connection is a client whose read deadlines are noted, and that ends a pending read.
type connection struct {
	http.ResponseWriter
	body      *pipe
	deadlines []time.Time
}

func (c *connection) SetReadDeadline(deadline time.Time) error {
	c.deadlines = append(c.deadlines, deadline)
	if deadline.Equal(time.Unix(1, 0)) {
		close(c.body.interrupted)
	}
	return nil
}

// pipe is a body that arrives after a while, unless its reading is interrupted.
type pipe struct {
	wait        time.Duration
	interrupted chan struct{}
	closed      bool
}

func (p *pipe) Read(b []byte) (int, error) {
	if p.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	select {
	case <-time.After(p.wait):
		return copy(b, "{}"), io.EOF
	case <-p.interrupted:
		return 0, &net.OpError{Op: "read", Err: errors.New("deadline")}
	}
}

func (p *pipe) Close() error { p.closed = true; return nil }

// limited is a request whose body takes a while.
func limited(wait time.Duration) (*connection, *http.Request, *Body) {
	r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
	body := &pipe{wait: wait, interrupted: make(chan struct{})}
	r.Body = body
	c := &connection{ResponseWriter: httptest.NewRecorder(), body: body}
	return c, r, Limit(c, r, Timeout)
}

// TestA112_SlowBody: a body has its time, however it arrives.
func TestA112_SlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r, body := limited(Timeout - time.Second)
		got, err := io.ReadAll(r.Body)
		if string(got) != "{}" || err != nil || body.Late() || len(c.deadlines) > 0 {
			t.Errorf("in time: %q, %v, deadlines %v", got, err, c.deadlines)
		}

		began := time.Now()
		c, r, body = limited(time.Hour)
		got, err = io.ReadAll(r.Body)
		if len(got) > 0 || !errors.Is(err, Err) || !body.Late() || len(c.deadlines) != 1 {
			t.Errorf("late: %q, %v, deadlines %v", got, err, c.deadlines)
		}
		if took := time.Since(began); took != Timeout {
			t.Errorf("late: it took %v", took)
		}
		body.End()
		if !body.Late() {
			t.Error("it is not late any more")
		}

		// nobody reads it: the server has the rest of the time
		began = time.Now()
		c, _, body = limited(time.Hour)
		time.Sleep(time.Second)
		body.End()
		body.End()
		time.Sleep(2 * Timeout)
		if body.Late() || len(c.deadlines) == 0 {
			t.Errorf("after its end: deadlines %v", c.deadlines)
		}
		for _, deadline := range c.deadlines {
			if !deadline.Equal(began.Add(Timeout)) {
				t.Errorf("the server may read until %v", deadline)
			}
		}
		if (*Body)(nil).Late() {
			t.Error("no body is late")
		}
	})
}

// TestJustInTime: the last byte came when the time went off. Streams go on reading.
func TestJustInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, body := limited(time.Hour)
		time.Sleep(Timeout + time.Second)
		body.stop(io.EOF)
		if body.Late() || len(c.deadlines) != 2 || !c.deadlines[1].IsZero() {
			t.Errorf("late %t, deadlines %v", body.Late(), c.deadlines)
		}
	})
}

// TestReadAfterTheEnd: net/http closes the body when an answer begins, and a transport looks for its end after that.
func TestReadAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r, body := limited(0)
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
		c.body.closed = true
		if n, err := r.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%d, %v", n, err)
		}
		body.End()

		// but what was not read to its end has none
		c, r, body = limited(0)
		c.body.closed = true
		if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Error(err)
		}
		body.End()
	})
}

// TestClose: a transport closes what it does not want to read any more, and the body of the server stays open.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r, body := limited(time.Second)
		if err := r.Body.Close(); err != nil || c.body.closed {
			t.Errorf("closed %t, %v", c.body.closed, err)
		}
		if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Error(err)
		}
		body.End()
	})
}

// TestRelease: those who read on take as long as they like.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r, body := limited(2 * Timeout)
		body.Release()
		if got, err := io.ReadAll(r.Body); string(got) != "{}" || err != nil || len(c.deadlines) > 0 {
			t.Errorf("%q, %v, deadlines %v", got, err, c.deadlines)
		}
	})
}

// TestA112_LimitRest: what nobody reads has its time as well, where the server waits for it.
func TestA112_LimitRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			major  int
			length int64
			want   int
		}{{1, 10, 1}, {1, -1, 1}, {1, 0, 0}, {2, 10, 0}, {3, -1, 0}} {
			c, r, body := limited(time.Hour)
			r.ProtoMajor, r.ContentLength = test.major, test.length
			LimitRest(c, r)
			if len(c.deadlines) != test.want || test.want > 0 && !c.deadlines[0].Equal(time.Now().Add(Timeout)) {
				t.Errorf("HTTP/%d, %d bytes: deadlines %v", test.major, test.length, c.deadlines)
			}
			body.Release()
		}
	})
}

// TestTimer: what it says to somebody who reads the body by himself.
func TestTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			after time.Duration
			err   error
			want  bool
		}{
			{Timeout / 2, nil, false},
			{Timeout / 2, io.ErrUnexpectedEOF, false},
			{2 * Timeout, nil, false},
			{2 * Timeout, io.ErrUnexpectedEOF, true},
		} {
			c := &connection{ResponseWriter: httptest.NewRecorder(), body: &pipe{interrupted: make(chan struct{})}}
			timer := Start(c, Timeout)
			time.Sleep(test.after)
			if got := timer.Stop(test.err); got != test.want {
				t.Errorf("after %v, %v: late %t", test.after, test.err, got)
			}
		}
		// a server that cannot do it: the reading goes on
		timer := Start(httptest.NewRecorder(), Timeout)
		time.Sleep(2 * Timeout)
		if !timer.Stop(io.ErrUnexpectedEOF) {
			t.Error("not late")
		}
	})
}
