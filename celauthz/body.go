package celauthz

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

const (
	// reservedBodySize bounds what is reserved on the word of a
	// Content-Length alone.
	reservedBodySize = 64 << 10
	// pooledBodySize bounds the buffers that are kept for the next request:
	// a body of that size, and what its buffer has grown beyond.
	pooledBodySize = 4 << 20
	// smallBodySize is up to which size a body is handed on in a form that
	// Go's transport sends together with the header. Such a body is not
	// pooled: nobody says when it has been sent.
	smallBodySize = 4 << 10
)

// bodyPool keeps the buffers of request bodies, largeBodyPool those of bodies
// beyond reservedBodySize, so that small ones do not hold large buffers. They
// hold no state of any configuration.
var (
	bodyPool      = sync.Pool{New: newBuffer}
	largeBodyPool = sync.Pool{New: newBuffer}
)

func newBuffer() any { return new(bytes.Buffer) }

// readInTime is readBody with a bound on how long that takes.
func readInTime(w http.ResponseWriter, r *http.Request, limit int64, timeout time.Duration) ([]byte, error) {
	timer := slowbody.Start(w, timeout)
	body, err := readBody(r, limit)
	if timer.Stop(err) {
		return nil, slowbody.Err
	}
	return body, err
}

// readBody reads the whole body once, at most limit bytes, and puts a reader
// over the same bytes in its place: what was judged is what goes on.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return nil, nil
	case r.ContentLength > limit:
		return nil, reqctx.ErrBodyTooLarge
	case r.ContentLength > 0 && r.ContentLength <= smallBodySize:
		return reqctx.ReadBody(r)
	}
	pool := &bodyPool
	if r.ContentLength > reservedBodySize {
		pool = &largeBodyPool
	}
	buffer, _ := pool.Get().(*bytes.Buffer)
	buffer.Reset()
	n, err := fill(buffer, r, limit)
	if err == nil && n > limit {
		err = reqctx.ErrBodyTooLarge
	}
	if err != nil {
		recycle(buffer)
		return nil, err
	}
	body := buffer.Bytes()
	replayed := &replayedBody{buffer: buffer, original: r.Body}
	replayed.reader.Reset(body)
	r.Body = replayed
	r.ContentLength = n
	r.TransferEncoding = nil
	return body, nil
}

// fill reads the body into the buffer, and no more than one byte beyond the
// limit. A Content-Length is believed once a quarter of it has come.
func fill(buffer *bytes.Buffer, r *http.Request, limit int64) (n int64, err error) {
	if r.ContentLength > 0 {
		// one more than its length, so that the end is seen without growing
		buffer.Grow(int(min(r.ContentLength, reservedBodySize)) + bytes.MinRead)
	}
	if r.ContentLength > reservedBodySize {
		first := max(reservedBodySize, r.ContentLength/4)
		if n, err = buffer.ReadFrom(io.LimitReader(r.Body, first)); err != nil || n < first {
			return n, err
		}
		buffer.Grow(int(r.ContentLength-n) + bytes.MinRead)
	}
	more, err := buffer.ReadFrom(io.LimitReader(r.Body, limit+1-n))
	return n + more, err
}

func recycle(buffer *bytes.Buffer) {
	switch size := buffer.Cap(); {
	case size <= 2*reservedBodySize:
		bodyPool.Put(buffer)
	case size <= 2*pooledBodySize:
		largeBodyPool.Put(buffer)
	}
}

// replaceBody puts other bytes in the place of a body that was read. Only
// subscriptions/listen is ever rewritten.
func replaceBody(r *http.Request, body []byte) {
	if replayed, ok := r.Body.(*replayedBody); ok {
		replayed.mu.Lock()
		replayed.reader.Reset(body)
		replayed.mu.Unlock()
	} else {
		r.Body = reqctx.NewBody(body)
	}
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

// replayedBody hands the judged bytes on. A transport may read it after the
// handlers have returned, so the buffer goes back only when it is closed.
type replayedBody struct {
	mu       sync.Mutex
	reader   bytes.Reader
	buffer   *bytes.Buffer
	original io.Closer
	closed   bool
}

// Read implements io.Reader.
func (b *replayedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.reader.Read(p)
}

// Close implements io.Closer. It may be called more than once.
func (b *replayedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	recycle(b.buffer)
	return b.original.Close()
}
