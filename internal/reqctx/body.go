package reqctx

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// believedLength is how much memory a body gets on the word of its
// Content-Length alone, in bytes.
const believedLength = 4 << 10

// ErrBodyTooLarge means that a body is larger than it may be.
var ErrBodyTooLarge = errors.New("request body too large")

// Body is the body of a request that is in memory as a whole, and that
// nobody gives to another request afterwards. A transport that knows this can
// send it together with the header.
type Body struct {
	bytes  []byte
	reader bytes.Reader
}

// NewBody returns a body of these bytes, which must not be changed any more.
func NewBody(content []byte) *Body {
	b := &Body{bytes: content}
	b.reader.Reset(content)
	return b
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) { return b.reader.Read(p) }

// WriteTo implements io.WriterTo.
func (b *Body) WriteTo(w io.Writer) (int64, error) { return b.reader.WriteTo(w) }

// Close implements io.Closer. The server closes what the bytes came from.
func (*Body) Close() error { return nil }

// Whole returns another body of the same bytes, from their beginning, which
// net/http recognises as one that is in memory.
func (b *Body) Whole() io.ReadCloser { return io.NopCloser(bytes.NewReader(b.bytes)) }

// Len is how many bytes there are.
func (b *Body) Len() int64 { return int64(len(b.bytes)) }

// ReadBody reads the body of a request that says how long it is, and puts a
// Body of the same bytes in its place. The caller bounds the length, and the
// time that this takes.
func ReadBody(r *http.Request) ([]byte, error) {
	length := r.ContentLength
	first := min(length, believedLength)
	buffer := make([]byte, first+1) // one more, to see the end
	if _, err := io.ReadFull(r.Body, buffer[:first]); err != nil {
		return nil, err
	}
	if first < length {
		buffer = append(make([]byte, 0, length+1), buffer[:first]...)[:length+1]
		if _, err := io.ReadFull(r.Body, buffer[first:length]); err != nil {
			return nil, err
		}
	}
	switch n, err := io.ReadFull(r.Body, buffer[length:]); {
	case n > 0:
		return nil, ErrBodyTooLarge
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	body := buffer[:length]
	r.Body = NewBody(body)
	r.TransferEncoding = nil
	return body, nil
}
