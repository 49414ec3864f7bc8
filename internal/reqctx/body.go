package reqctx

import (
	"bytes"
	"io"
)

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
