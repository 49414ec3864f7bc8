package mcpproxy

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// sealingWriter seals the session id in the header of an answer. No header
// leaves it unsealed: everything that sends one begins with WriteHeader.
type sealingWriter struct {
	*caddyhttp.ResponseWriterWrapper
	seal func(ids []string) ([]string, error)

	wroteHeader bool
	// sealed is the header's values after the sealing.
	sealed []string
	// failure is why the answer cannot be passed on; nothing of it has been.
	failure error
}

func newSealingWriter(w http.ResponseWriter, seal func([]string) ([]string, error)) *sealingWriter {
	return &sealingWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, seal: seal}
}

// WriteHeader seals the id. It panics if it cannot, and sets failure.
func (w *sealingWriter) WriteHeader(status int) {
	if w.wroteHeader {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	header := w.Header()
	if status < 200 && status != http.StatusSwitchingProtocols {
		// the final answer says it again
		delete(header, sessionHeader)
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.sealed, w.failure = w.seal(header[sessionHeader])
	setSession(header, w.sealed)
	if w.failure != nil {
		panic(w.failure)
	}
	w.wroteHeader = true
	w.ResponseWriter.WriteHeader(status)
}

// begin sends the header, if that has not been done.
func (w *sealingWriter) begin() {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
}

// Write implements http.ResponseWriter.
func (w *sealingWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (w *sealingWriter) ReadFrom(from io.Reader) (int64, error) {
	w.begin()
	return w.ResponseWriterWrapper.ReadFrom(from)
}

// FlushError implements what http.ResponseController looks for.
func (w *sealingWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (w *sealingWriter) Flush() { _ = w.FlushError() }

// finish takes unsealed ids out of what may still be sent: trailers, and a
// header if none has been. It is called when the backend is done.
func (w *sealingWriter) finish() {
	header := w.Header()
	delete(header, http.TrailerPrefix+sessionHeader)
	setSession(header, w.sealed)
}

// setSession has a header say no other session id than what was sealed.
func setSession(header http.Header, sealed []string) {
	if delete(header, sessionHeader); sealed != nil {
		header[sessionHeader] = sealed
	}
}

// Interface guards
var (
	_ http.Flusher  = (*sealingWriter)(nil)
	_ io.ReaderFrom = (*sealingWriter)(nil)
)
