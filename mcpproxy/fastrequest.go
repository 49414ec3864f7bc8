package mcpproxy

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// fastCall is one call on the fast path.
type fastCall struct {
	*exchange
	*fastPath
	session *opening
	w       http.ResponseWriter

	trace httptrace.ClientTrace
	// interim is held while an interim answer is written; none is once the
	// final one is there.
	interim sync.Mutex
	final   bool

	url    url.URL
	values [5]string // of the headers that are added

	began, answeredAt, ended time.Time
	response                 *http.Response

	// later is another call for the same request that has been made since.
	later atomic.Pointer[fastCall]
}

// roundTrip sends the request and returns the head of the answer.
func (c *fastCall) roundTrip(r *http.Request) (*http.Response, error) {
	c.began = time.Now()
	rt := routeOf(r)
	if c.session != nil {
		rt = &c.session.route
	}
	c.replica = c.upstream.Dial
	if rt != nil && !rt.bound {
		rt.replica = c.replica
	}
	out := c.request(r)
	response, err := c.transport.RoundTrip(out)
	c.answeredAt = time.Now()

	c.interim.Lock()
	c.final = true
	c.interim.Unlock()
	if err != nil {
		return c.unanswered(out, err)
	}
	c.answered = true
	c.response = c.inspect(out, response)
	return c.response, nil
}

// request makes the request for the upstream.
func (c *fastCall) request(r *http.Request) *http.Request {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	c.trace.Got1xxResponse = c.passInterim
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &c.trace))
	c.url = *r.URL
	c.url.Scheme, c.url.Host = "", ""
	out.URL = &c.url
	out.Close = false
	out.Trailer = nil
	switch body, inMemory := r.Body.(*reqctx.Body); {
	case r.ContentLength == 0:
		out.Body = nil
	case inMemory:
		// header and body leave in one write
		out.Body = body.Whole()
	case r.Body != nil:
		out.Body = &unreadBody{ReadCloser: r.Body}
	}
	c.setHeader(out, r)
	if rewrite := c.handler.Rewrite; rewrite != nil && (c.path == "" || c.url.Path != c.path || c.url.RawPath != "") {
		rewrite.Rewrite(out, repl)
	}
	c.url.Host = c.hostPort
	c.tell(r.Context(), repl)
	if c.ops != nil {
		c.ops.ApplyToRequest(out)
	}
	if c.handler.Headers != nil && c.handler.Headers.Request != nil {
		c.handler.Headers.Request.ApplyToRequest(out)
	}
	return out
}

// unreadBody is a body that is not closed before something of it has been
// read: where a server cannot be dialed, an error route may ask another one.
type unreadBody struct {
	io.ReadCloser
	read atomic.Bool
}

// Read implements io.Reader.
func (b *unreadBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
}

// Close implements io.Closer.
func (b *unreadBody) Close() error {
	if !b.read.Load() {
		return nil
	}
	return b.ReadCloser.Close()
}

// setHeader sets the header: that of the client, and what a proxy adds.
func (c *fastCall) setHeader(out, r *http.Request) {
	header := make(http.Header, len(r.Header)+len(c.values)+1)
	for name, values := range r.Header {
		header[name] = values[:len(values):len(values)]
	}
	if c.handler.Headers != nil {
		// which may change values where they are
		header = header.Clone()
	}
	out.Header = header
	delete(header, "Connection")
	if c.session != nil && c.session.sealed != "" {
		header[sessionHeader] = []string{c.session.opened.id}
	}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = noUserAgent
	}
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	client, _, _ = strings.Cut(client, "%") // the zone of an IPv6 address
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	c.forwarded(header, 0, "X-Forwarded-For", client)
	c.forwarded(header, 1, "X-Forwarded-Proto", "http")
	if r.TLS != nil {
		c.values[1] = "https"
	}
	c.forwarded(header, 2, "X-Forwarded-Host", r.Host)
	if trusted {
		c.trust(r.Header)
	}
	c.addVia(header, 3, r.ProtoMajor, r.ProtoMinor)
}

// noUserAgent has net/http send none in its own name.
var noUserAgent = []string{""}

// forwarded sets a header that tells the upstream about the client, unless it
// has been turned off for this request, which a nil value does.
func (c *fastCall) forwarded(header http.Header, at int, name, value string) {
	if values, there := header[name]; there && values == nil {
		return
	}
	c.values[at] = value
	header[name] = c.values[at : at+1 : at+1]
}

// trust goes on from what the proxy says that sent the request, since it is
// one of those that the configuration trusts.
func (c *fastCall) trust(from http.Header) {
	if prior := strings.Join(from["X-Forwarded-For"], ", "); prior != "" {
		c.values[0] = prior + ", " + c.values[0]
	}
	if prior := from["X-Forwarded-Proto"]; len(prior) > 0 && prior[len(prior)-1] != "" {
		c.values[1] = prior[len(prior)-1]
	}
	if prior := from["X-Forwarded-Host"]; len(prior) > 0 && prior[len(prior)-1] != "" {
		c.values[2] = prior[len(prior)-1]
	}
}

// addVia says that a message of this HTTP version has come through here.
func (c *fastCall) addVia(header http.Header, at, major, minor int) {
	c.values[at] = via(major, minor)
	if before := header["Via"]; len(before) > 0 {
		header["Via"] = append(before[:len(before):len(before)], c.values[at])
	} else {
		header["Via"] = c.values[at : at+1 : at+1]
	}
}

func via(major, minor int) string {
	if major == 1 && minor == 1 {
		return "1.1 Caddy"
	}
	return strconv.Itoa(major) + "." + strconv.Itoa(minor) + " Caddy"
}

// passInterim passes on an answer that is not the last one (1xx).
func (c *fastCall) passInterim(status int, interim textproto.MIMEHeader) error {
	c.interim.Lock()
	defer c.interim.Unlock()
	if c.final {
		return nil
	}
	header := c.w.Header()
	own := header.Clone()
	passed := http.Header(interim).Clone()
	dropHopByHop(passed)
	for name, values := range passed {
		addValues(header, name, values)
	}
	if c.session != nil {
		delete(header, sessionHeader) // the final answer says it again
	}
	c.w.WriteHeader(status)
	clear(header)
	maps.Copy(header, own)
	return nil
}
