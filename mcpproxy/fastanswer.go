package mcpproxy

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

var (
	errSwitchingProtocols = errors.New("the upstream has switched protocols without being asked to")
	errWriting            = errors.New("writing")
)

// answer passes an answer on to the client.
func (c *fastCall) answer(r *http.Request, response *http.Response) error {
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return caddyhttp.Error(http.StatusBadGateway, errSwitchingProtocols)
	}
	passed, trimmed := c.passedHeader(r, response)
	header := c.w.Header()
	var sealed []string
	if c.session != nil {
		var err error
		if sealed, err = c.session.sealAll(r.Context(), slices.Concat(header[sessionHeader], passed[sessionHeader])); err != nil {
			return c.session.refuseUnsealed(c.w, r, err)
		}
		delete(response.Trailer, sessionHeader)
	}
	delete(header, "Server")
	c.addVia(header, 4, response.ProtoMajor, response.ProtoMinor)
	for name, values := range passed {
		if trimmed || !slices.Contains(hopByHop[:], name) {
			addValues(header, name, values)
		}
	}
	if c.session != nil {
		setSession(header, sealed)
	}
	announced := len(response.Trailer)
	if announced > 0 {
		header.Add("Trailer", strings.Join(slices.Collect(maps.Keys(response.Trailer)), ", "))
	}
	c.w.WriteHeader(response.StatusCode)
	inParts := response.ContentLength < 0 || isEventStream(passed) || caddyhttp.IsIncremental(response.Header) || caddyhttp.IsIncremental(passed)
	if err := c.copy(response.Body, inParts); err != nil {
		// over HTTP/3, this is how clients cancel
		if r.ProtoMajor < 3 || !errors.Is(err, errWriting) {
			c.handler.logger.Warn("aborting with incomplete response", zap.String("upstream", c.upstream.Dial), zap.Error(err))
		}
		_ = http.NewResponseController(c.w).Flush()
		// all that is left to say is that something is missing
		panic(http.ErrAbortHandler)
	}
	c.passTrailer(response, announced)
	return nil
}

// passedHeader is what of the header of an answer is passed on; without the
// headers of one connection if that is said to be trimmed. The answer keeps
// its own, which is what placeholders stand for.
func (c *fastCall) passedHeader(r *http.Request, response *http.Response) (header http.Header, trimmed bool) {
	if ops := c.handler.Headers; ops != nil && ops.Response != nil {
		header = response.Header.Clone()
		dropHopByHop(header)
		if ops.Response.Require == nil || ops.Response.Require.Match(response.StatusCode, header) {
			repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
			ops.Response.ApplyTo(header, repl)
		}
		return header, true
	}
	if values := response.Header["Connection"]; len(values) > 1 || len(values) == 1 && !strings.EqualFold(values[0], "keep-alive") {
		// it may name others
		header = maps.Clone(response.Header)
		dropHopByHop(header)
		return header, true
	}
	return response.Header, false
}

// passTrailer passes on what came after the body.
func (c *fastCall) passTrailer(response *http.Response, announced int) {
	if len(response.Trailer) == 0 {
		return
	}
	if c.session != nil {
		delete(response.Trailer, sessionHeader)
	}
	// a body whose length is known has no trailer
	_ = http.NewResponseController(c.w).Flush()
	prefix := ""
	if len(response.Trailer) != announced {
		prefix = http.TrailerPrefix
	}
	header := c.w.Header()
	for name, values := range response.Trailer {
		header[prefix+name] = append(header[prefix+name], values...)
	}
}

const (
	// copyBufferSize is how much of an answer is passed on at once.
	copyBufferSize = 32 << 10
	// streamBufferSize is the same for a stream, which keeps its buffer for
	// hours and has little to tell.
	streamBufferSize = 4 << 10
)

// The buffers hold no state of any configuration.
var (
	copyBuffers   = sync.Pool{New: func() any { return newBuffer(copyBufferSize) }}
	streamBuffers = sync.Pool{New: func() any { return newBuffer(streamBufferSize) }}
)

func newBuffer(size int) *[]byte {
	buffer := make([]byte, size)
	return &buffer
}

// copy passes the body on. One that may take a while is sent as it comes, in
// parts.
func (c *fastCall) copy(body io.Reader, inParts bool) error {
	pool := &copyBuffers
	if c.lifetime == longLived {
		pool = &streamBuffers
	}
	pooled, _ := pool.Get().(*[]byte)
	defer pool.Put(pooled)
	buffer := *pooled
	var w io.Writer = c.w
	if inParts {
		flushing := &flushingWriter{w: c.w, control: http.NewResponseController(c.w)}
		// the header must not wait for a body that does not come yet
		flushing.head = time.AfterFunc(0, flushing.flushHead)
		defer flushing.stop()
		w = flushing
	}
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			switch written, err := w.Write(buffer[:n]); {
			case err != nil:
				return fmt.Errorf("%w: %w", errWriting, err)
			case written != n:
				return io.ErrShortWrite
			}
		}
		switch {
		case err == io.EOF: // one that is wrapped is no end
			return nil
		case err != nil:
			return fmt.Errorf("reading: %w", err)
		}
	}
}

// flushingWriter sends each part of an answer at once.
type flushingWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	head    *time.Timer

	mu   sync.Mutex
	sent bool // something has been flushed, or nothing may be any more
}

// Write implements io.Writer.
func (f *flushingWriter) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = true
	n, err := f.w.Write(p)
	// a client that cannot be reached shows itself at the next part, and a
	// writer that cannot flush has sent it
	_ = f.control.Flush()
	return n, err
}

func (f *flushingWriter) flushHead() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.sent {
		f.sent = true
		_ = f.control.Flush()
	}
}

// stop waits for a flush of the header.
func (f *flushingWriter) stop() {
	f.head.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = true
}

// addValues adds the values of a header.
func addValues(to http.Header, name string, values []string) {
	if there := to[name]; len(there) > 0 {
		values = append(there[:len(there):len(there)], values...)
	}
	to[name] = values
}

// hopByHop headers are for one connection only (RFC 9110 section 7.6.1); the
// list is that of reverse_proxy.
var hopByHop = [...]string{
	"Alt-Svc", "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

func dropHopByHop(header http.Header) {
	for _, value := range header["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		delete(header, name)
	}
}
