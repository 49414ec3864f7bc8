package jwtauth

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/slowbody"
)

// What pages of other sites may send and read: the headers of MCP's
// Streamable HTTP transport.
const (
	corsMethods      = "GET, POST, DELETE"
	corsHeaders      = "Authorization, Content-Type, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Mcp-Session-Id, Last-Event-ID"
	corsParamPrefix  = "mcp-param-" // of headers that a tool defines
	corsExposed      = "WWW-Authenticate, Mcp-Session-Id"
	preflightMaxAge  = "7200" // seconds, the most that browsers keep
	maxCORSParams    = 64     // headers of one preflight that are repeated in its answer
	preflightRequest = "Access-Control-Request-Method"
)

// cors writes the headers that let the page of one listed origin read the
// answer. Those of the upstream are replaced.
type cors struct {
	*caddyhttp.ResponseWriterWrapper
	origin      string
	credentials bool
	sent        bool
}

// corsHeaderPrefix is that of all headers of the protocol (Fetch standard).
const corsHeaderPrefix = "Access-Control-"

func (c *cors) setHeaders() {
	header := c.Header()
	for name := range header {
		if strings.HasPrefix(name, corsHeaderPrefix) {
			delete(header, name)
		}
	}
	header.Set("Access-Control-Allow-Origin", c.origin)
	header.Set("Access-Control-Expose-Headers", corsExposed)
	if c.credentials {
		header.Set("Access-Control-Allow-Credentials", "true")
	}
	addVary(header, "Origin")
}

func addVary(header http.Header, name string) {
	if !slices.Contains(header["Vary"], name) {
		header.Add("Vary", name)
	}
}

// begin completes the head of the answer before it goes out.
func (c *cors) begin() {
	if !c.sent {
		c.setHeaders()
		c.sent = true
	}
}

// WriteHeader implements http.ResponseWriter.
func (c *cors) WriteHeader(status int) {
	if status < http.StatusOK {
		c.setHeaders() // and again: the answer is still to come
	} else {
		c.begin()
	}
	c.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *cors) Write(p []byte) (int, error) {
	c.begin()
	return c.ResponseWriterWrapper.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (c *cors) ReadFrom(r io.Reader) (int64, error) {
	c.begin()
	return c.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError implements what http.ResponseController looks for.
func (c *cors) FlushError() error {
	c.begin()
	return http.NewResponseController(c.ResponseWriterWrapper.ResponseWriter).Flush()
}

// isPreflight reports whether a browser asks what a page may send. Such a
// request never has a token.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get(preflightRequest) != ""
}

// answerPreflight says what the page may send. Headers that a tool defines
// have no names of their own here, and a browser knows no pattern: those it
// asks for are repeated.
func (h *Handler) answerPreflight(w http.ResponseWriter, r *http.Request) {
	allowed := []string{corsHeaders}
	for _, source := range h.sources {
		if source.header != "" && source.header != authorizationHeader {
			allowed = append(allowed, source.header)
		}
	}
	for _, requested := range r.Header["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(requested, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if strings.HasPrefix(name, corsParamPrefix) && isHeaderName(name) && !slices.Contains(allowed, name) && len(allowed) <= maxCORSParams {
				allowed = append(allowed, name)
			}
		}
	}
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", corsMethods)
	header.Set("Access-Control-Allow-Headers", strings.Join(allowed, ", "))
	header.Set("Access-Control-Max-Age", preflightMaxAge)
	addVary(header, "Access-Control-Request-Headers")
	slowbody.LimitRest(w, r)
	w.WriteHeader(http.StatusNoContent)
}

// isHeaderName wants letters, digits and dashes: fewer than RFC 9110 section
// 5.1 has, and all that a name is made of.
func isHeaderName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}
