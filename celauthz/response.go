package celauthz

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// errStopped is what the upstream's copy loop gets once an answer has been
// given up.
var errStopped = errors.New("the answer cannot be passed on")

// passage is how the body of an answer passes.
type passage uint8

const (
	undecided passage = iota
	// empty: there is no body that anything could hide in.
	empty
	// guarded: it should hold no list; a list stops it.
	guarded
	// collected: it is filtered as a whole.
	collected
	// split: it is filtered event by event.
	split
	// stopped: it was refused, or broke off.
	stopped
)

// filterWriter filters the answer of an upstream. It has no Unwrap, and
// neither ReadFrom nor Hijack: nothing gets past it.
type filterWriter struct {
	client  http.ResponseWriter
	visible visibility
	// private: the answer could be cached, and depends on who asked.
	private bool
	// filter is made when there is something to filter.
	filter  *mcpwire.Filter
	id      jsontext.Value // of the request, for an answer that is refused
	limit   int
	logger  *zap.Logger
	metrics *metrics
	spent   time.Duration // on filtering
	lists   bool          // the request asks for a list, or for nobody knows what

	passage  passage
	gone     bool // the client does not read any more
	status   int
	buffer   *bytes.Buffer // of a collected answer
	splitter mcpwire.Splitter
	guard    mcpwire.Guard
}

// listMethods are those whose answers hold lists.
var listMethods = map[string]bool{
	"tools/list": true, "prompts/list": true, "resources/list": true,
	"resources/templates/list": true, "tasks/list": true,
}

// cacheableMethods are those, besides lists, whose answers a modern client
// may cache.
var cacheableMethods = map[string]bool{"server/discover": true, "resources/read": true}

// newFilterWriter returns the writer for the answer to a request.
func (h *Handler) newFilterWriter(ctx context.Context, w http.ResponseWriter, who *caller, in *incoming) *filterWriter {
	f := &filterWriter{client: w, visible: newVisibility(ctx, h.policy, who, h.now), limit: int(h.MaxEvent), logger: h.logger, metrics: h.metrics, lists: in.batch}
	modern := mcpwire.IsModern(who.version)
	for _, m := range in.messages {
		if !in.batch {
			f.id = m.ID
		}
		isList := listMethods[m.Method]
		f.lists = f.lists || isList || !m.Known
		f.private = f.private || modern && (isList || cacheableMethods[m.Method])
	}
	return f
}

// isNeeded reports whether anything in the answer could change.
func (f *filterWriter) isNeeded() bool { return f.private || !f.visible.everything() }

// Header implements http.ResponseWriter.
func (f *filterWriter) Header() http.Header { return f.client.Header() }

// WriteHeader decides how the body passes.
func (f *filterWriter) WriteHeader(status int) {
	if f.passage != undecided {
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		f.client.WriteHeader(status)
		return
	}
	f.status = status
	f.passage = f.choose(status)
	switch f.passage {
	case stopped:
		f.refuse("status, encoding or type of the answer")
	case split:
		f.splitter = mcpwire.Splitter{Limit: f.limit, Emit: f.emit}
		f.dropBodyHeaders()
		f.client.WriteHeader(status)
	case empty, guarded:
		f.client.WriteHeader(status)
	case collected:
		f.buffer = answerPool.Get().(*bytes.Buffer) //nolint:forcetypeassert // the pool makes nothing else
		f.buffer.Reset()
	case undecided:
	}
}

// pooledAnswerSize bounds the buffers that are kept for the next answer.
const pooledAnswerSize = 4 << 20

// answerPool keeps the buffers of answers that are filtered as a whole.
var answerPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// choose looks at the head of the answer.
func (f *filterWriter) choose(status int) passage {
	header := f.Header()
	switch {
	case status == http.StatusSwitchingProtocols, status == http.StatusPartialContent:
		return stopped
	case status == http.StatusNoContent, status == http.StatusNotModified, header.Get("Content-Length") == "0":
		return empty
	}
	if encoding := strings.Join(header.Values("Content-Encoding"), ","); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return stopped
	}
	if len(header.Values("Content-Type")) > 1 {
		return stopped
	}
	contentType := header.Get("Content-Type")
	mediaType := mediaTypeOf(contentType)
	isMessage := mediaType == "" || mediaType == eventType || mediaType == jsonType
	switch {
	case isMessage && !saysUTF8(contentType):
		return stopped
	case mediaType == eventType:
		return split
	case mediaType == jsonType && !f.lists && !f.private:
		return guarded
	default:
		// JSON, or something that does not say what it is
		return collected
	}
}

// The types of messages.
const (
	jsonType  = "application/json"
	eventType = "text/event-stream"
)

// mediaTypeOf is the type without its parameters; "" for what is none.
func mediaTypeOf(contentType string) string {
	if contentType == jsonType || contentType == eventType {
		return contentType
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	return mediaType
}

// saysUTF8 reports whether a type names no charset in which a message could
// read otherwise than it does here. JSON and events are UTF-8, but there are
// clients that decode them as the type says: UTF-7 would hide every brace.
func saysUTF8(contentType string) bool {
	if !strings.Contains(strings.ToLower(contentType), "charset") {
		return true
	}
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || strings.Contains(contentType, "*") {
		return false
	}
	switch strings.ToLower(parameters["charset"]) {
	case "utf-8", "utf8", "us-ascii", "iso-8859-1":
		return true
	default:
		return false
	}
}

// Write implements http.ResponseWriter.
func (f *filterWriter) Write(p []byte) (int, error) {
	if f.passage == undecided {
		f.WriteHeader(http.StatusOK)
	}
	switch f.passage {
	case empty:
		if len(p) == 0 {
			return 0, nil
		}
		return 0, http.ErrBodyNotAllowed
	case guarded:
		if err := f.guardPiece(p); err != nil {
			return f.breakOff(err)
		}
		return f.client.Write(p)
	case split:
		if err := f.splitter.Write(p); err != nil {
			if f.gone {
				return 0, err
			}
			return f.breakOff(err)
		}
		return len(p), nil
	case collected:
		if f.buffer.Len()+len(p) > f.limit {
			f.passage = stopped
			f.refuse("size of the answer")
			return 0, errStopped
		}
		return f.buffer.Write(p)
	default:
		return 0, errStopped
	}
}

// timedPiece is from which size on it is measured how long a look at a piece
// takes: a look at the clock takes as long as one at a smaller piece.
const timedPiece = 4 << 10

// guardPiece looks for lists in a piece of an answer that should have none.
func (f *filterWriter) guardPiece(p []byte) error {
	if len(p) < timedPiece {
		return f.guard.Write(p)
	}
	started := time.Now()
	defer func() { f.spent += time.Since(started) }()
	return f.guard.Write(p)
}

// emit passes one event on, filtered.
func (f *filterWriter) emit(event *mcpwire.Event) error {
	out := event.Raw
	if event.Foreign {
		out = event.WithData(event.Data)
	}
	data := event.Data
	if len(data) > 0 && data[0] <= ' ' {
		data = bytes.TrimLeft(data, " \t\n")
	}
	isMessage := len(data) > 0 && (data[0] == '{' || data[0] == '[')
	switch {
	case !isMessage && bytes.ContainsRune(data, '{'):
		return mcpwire.ErrSyntax // no message, yet it holds something like one
	case isMessage:
		filtered, err := f.filterMessage(event.Data)
		if err != nil {
			return err
		}
		if len(filtered) != len(event.Data) || !bytes.Equal(filtered, event.Data) {
			out = event.WithData(filtered)
		}
	}
	_, err := f.client.Write(out)
	f.gone = err != nil
	return err
}

func (f *filterWriter) filterMessage(doc []byte) ([]byte, error) {
	started := time.Now()
	defer func() { f.spent += time.Since(started) }()
	if f.filter == nil {
		f.filter = f.visible.filter()
		f.filter.Private, f.filter.Listed = f.private, f.metrics.listed
	}
	return f.filter.Message(doc)
}

// finish gives the client what was collected. It is called once the handlers
// behind are done, unless they broke off.
func (f *filterWriter) finish() {
	switch f.passage {
	case undecided:
		// such as a proxy whose upstream tried to switch protocols
		f.refuse("there is none")
	case collected:
		f.finishCollected()
	case split:
		f.splitter.Close()
	case empty, guarded, stopped:
	}
}

func (f *filterWriter) finishCollected() {
	defer func() {
		if f.buffer.Cap() <= pooledAnswerSize {
			answerPool.Put(f.buffer)
		}
		f.buffer = nil
	}()
	body := f.buffer.Bytes()
	out, err := f.filterCollected(body)
	if err != nil {
		f.refuse(err.Error())
		return
	}
	if !bytes.Equal(out, body) {
		f.dropBodyHeaders()
		f.Header().Set("Content-Length", strconv.Itoa(len(out)))
	}
	if f.private || f.lists {
		f.setPrivate()
	}
	f.client.WriteHeader(f.status)
	// nothing can be done about a client that has gone
	_, _ = f.client.Write(out)
}

// filterCollected filters a body that is JSON, whatever its type says, and
// passes one that certainly is not.
func (f *filterWriter) filterCollected(body []byte) ([]byte, error) {
	if len(body) == 0 {
		return body, nil
	}
	mediaType := mediaTypeOf(f.Header().Get("Content-Type"))
	if mediaType != jsonType && !bytes.ContainsAny(body, "{") {
		return body, nil
	}
	out, err := f.filterMessage(body)
	if err == nil && out == nil {
		err = errStopped // a single message that must not be seen
	}
	return out, err
}

// refuse answers 502 in place of an answer that cannot be judged. Nothing
// has been written yet.
func (f *filterWriter) refuse(why string) {
	f.passage = stopped
	f.metrics.answerReplaced()
	f.logger.Error("the upstream's answer was not passed on", zap.String("reason", why))
	f.dropBodyHeaders()
	header := f.Header()
	for _, name := range []string{"Content-Encoding", "Cache-Control", "Trailer", "Mcp-Session-Id"} {
		header.Del(name)
	}
	body := mcpwire.ErrorResponse(f.id, mcpwire.CodeBadUpstream, "the server's answer could not be checked", nil)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	f.client.WriteHeader(http.StatusBadGateway)
	// nothing can be done about a client that has gone
	_, _ = f.client.Write(body)
}

// breakOff ends an answer of which a part has been passed on.
func (f *filterWriter) breakOff(err error) (int, error) {
	f.passage = stopped
	f.metrics.answerBrokenOff()
	f.logger.Error("the upstream's answer was broken off", zap.Error(err))
	return 0, err
}

// dropBodyHeaders removes what describes a body that changes.
func (f *filterWriter) dropBodyHeaders() {
	header := f.Header()
	for _, name := range []string{"Content-Length", "Etag", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Accept-Ranges", "Last-Modified"} {
		header.Del(name)
	}
	if f.private || f.lists {
		f.setPrivate()
	}
}

// setPrivate keeps shared caches from an answer that depends on who asked.
func (f *filterWriter) setPrivate() {
	header := f.Header()
	kept := []string{"private"}
	for _, value := range header.Values("Cache-Control") {
		for directive := range strings.SplitSeq(value, ",") {
			directive = strings.TrimSpace(directive)
			if directive != "" && !strings.EqualFold(directive, "public") && !strings.EqualFold(directive, "private") {
				kept = append(kept, directive)
			}
		}
	}
	header.Set("Cache-Control", strings.Join(kept, ", "))
}

// FlushError implements what http.ResponseController looks for. The first one
// sends the head of the answer. A body that is being collected has nothing to
// flush.
func (f *filterWriter) FlushError() error {
	if f.passage == undecided {
		f.WriteHeader(http.StatusOK)
	}
	if f.passage == collected {
		return nil
	}
	return http.NewResponseController(f.client).Flush()
}

// Flush implements http.Flusher.
func (f *filterWriter) Flush() { _ = f.FlushError() }

// EnableFullDuplex, SetReadDeadline and SetWriteDeadline pass through: they
// move no bytes.
func (f *filterWriter) EnableFullDuplex() error {
	return http.NewResponseController(f.client).EnableFullDuplex()
}

// SetReadDeadline implements what http.ResponseController looks for.
func (f *filterWriter) SetReadDeadline(deadline time.Time) error {
	return http.NewResponseController(f.client).SetReadDeadline(deadline)
}

// SetWriteDeadline implements what http.ResponseController looks for.
func (f *filterWriter) SetWriteDeadline(deadline time.Time) error {
	return http.NewResponseController(f.client).SetWriteDeadline(deadline)
}
