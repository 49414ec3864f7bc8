package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The upstream answers by the query of the request, so that it costs as
// little as possible: every candidate passes the query on.
const (
	answerJSON   = "answer=json"   // a tools/call
	answerSSE    = "answer=sse"    // the same as a stream of one event
	answerHello  = "answer=hello"  // initialize
	answerIdle   = "answer=idle"   // an event stream on which nothing happens
	answerEvents = "answer=events" // an event stream with the time in each event
	answerTools  = "tools="        // a list of that many tools

	countPath = "/requests" // how many requests have come, for the harness
)

const (
	sessionHeader = "Mcp-Session-Id"
	jsonType      = "application/json"
	sseType       = "text/event-stream"
)

// eventPause is the time between two events of a stream: long enough that no
// event waits for the one before it.
const eventPause = 2 * time.Millisecond

// callAnswer is the answer to a tools/call, about 200 bytes.
const callAnswer = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":` +
	`"Notes of Monday: the meeting is moved to three o'clock; the figures of last month are in the shared folder; ` +
	`Bob brings the cake."}],"isError":false}}`

const helloAnswer = `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"` + protocolVersion + `",` +
	`"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}}`

// upstream is the MCP server that all candidates proxy to.
type upstream struct {
	requests atomic.Int64
	lists    map[string][]byte
}

// toolCounts are the lengths of the lists that the upstream can give.
var toolCounts = []int{10, 100, 1000, 10_000}

func newUpstream() *upstream {
	u := &upstream{lists: map[string][]byte{}}
	for _, n := range toolCounts {
		u.lists[answerTools+strconv.Itoa(n)] = toolList(n)
	}
	return u
}

// toolList is the answer to a tools/list: tools that the rules of the
// benchmark let the caller see, and as many that they hide, in turn.
func toolList(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"jsonrpc":"2.0","id":1,"result":{"tools":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"%s_%d","description":"Reads a file of project %d, and tells who changed it last.",`+
			`"inputSchema":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}`,
			[]string{visiblePrefix, "hidden"}[i%2], i, i)
	}
	b.WriteString(`]}}`)
	return []byte(b.String())
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == countPath {
		fmt.Fprint(w, u.requests.Load())
		return
	}
	u.requests.Add(1)
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	switch query := r.URL.RawQuery; query {
	case answerJSON:
		send(w, jsonType, []byte(callAnswer))
	case answerSSE:
		send(w, sseType, []byte("event: message\ndata: "+callAnswer+"\n\n"))
	case answerHello:
		w.Header().Set(sessionHeader, "5f0c7f4e2d8a4c1b9e6d3a7b8c9d0e1f")
		send(w, jsonType, []byte(helloAnswer))
	case answerIdle:
		streamTo(w, func(func(string)) { <-r.Context().Done() })
	case answerEvents:
		streamTo(w, func(emit func(string)) {
			ticker := time.NewTicker(eventPause)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
					emit(timedEvent(time.Now()))
				case <-r.Context().Done():
					return
				}
			}
		})
	default:
		list, ok := u.lists[query]
		if !ok {
			http.Error(w, "unknown query", http.StatusNotFound)
			return
		}
		send(w, jsonType, list)
	}
}

func send(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// streamTo begins an event stream with a comment, by which the client sees
// that it is open.
func streamTo(w http.ResponseWriter, run func(emit func(string))) {
	w.Header().Set("Content-Type", sseType)
	control := http.NewResponseController(w)
	emit := func(event string) {
		_, _ = io.WriteString(w, event)
		_ = control.Flush()
	}
	emit(": open\n\n")
	run(emit)
}

// timePrefix precedes the time in an event, in nanoseconds of the Unix epoch.
const timePrefix = `"message":"`

func timedEvent(now time.Time) string {
	return fmt.Sprintf("event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\","+
		"\"params\":{\"progressToken\":1,\"progress\":1,%s%d\"}}\n\n", timePrefix, now.UnixNano())
}

// eventTime reads the time of a line of timedEvent.
func eventTime(line string) (sent time.Time, ok bool) {
	_, after, found := strings.Cut(line, timePrefix)
	digits, _, closed := strings.Cut(after, `"`)
	nanos, err := strconv.ParseInt(digits, 10, 64)
	return time.Unix(0, nanos), found && closed && err == nil
}

// serve runs a server of this program until the process is killed.
func serve(port string, handler http.Handler) error {
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	return server.Serve(listener)
}
