package celauthz

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddymcp/gateway/internal/slowbody"
)

// pooledBodySize bounds the buffers that are kept for the next request, and
// what is reserved on the word of a Content-Length alone.
const pooledBodySize = 64 << 10

var errBodyTooLarge = errors.New("request body too large")

// bodyPool keeps the buffers of request bodies. It holds no state of any
// configuration.
var bodyPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}

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
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, errBodyTooLarge
	}
	buffer, _ := bodyPool.Get().(*bytes.Buffer)
	buffer.Reset()
	if r.ContentLength > 0 {
		// one more than its length, so that the end is seen without growing
		buffer.Grow(int(min(r.ContentLength, pooledBodySize)) + bytes.MinRead)
	}
	n, err := buffer.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err != nil || n > limit {
		recycle(buffer)
		if err == nil {
			err = errBodyTooLarge
		}
		return nil, err
	}
	body := buffer.Bytes()
	r.Body = &replayedBody{reader: bytes.NewReader(body), buffer: buffer, original: r.Body}
	r.ContentLength = n
	r.TransferEncoding = nil
	return body, nil
}

func recycle(buffer *bytes.Buffer) {
	if buffer.Cap() <= 2*pooledBodySize {
		bodyPool.Put(buffer)
	}
}

// replaceBody puts other bytes in the place of a body that was read. Only
// subscriptions/listen is ever rewritten.
func replaceBody(r *http.Request, body []byte) {
	if replayed, ok := r.Body.(*replayedBody); ok {
		replayed.mu.Lock()
		replayed.reader = bytes.NewReader(body)
		replayed.mu.Unlock()
	}
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

// replayedBody hands the judged bytes on. A transport may read it after the
// handlers have returned, so the buffer goes back only when it is closed.
type replayedBody struct {
	mu       sync.Mutex
	reader   *bytes.Reader
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
