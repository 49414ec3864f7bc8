package mcpwire

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Correlation are the values by which a message refers to a request. Each is
// as it was written; nil where the message has none.
type Correlation struct {
	// ID is the id of the message itself.
	ID jsontext.Value
	// Progress is the token of notifications/progress, or the one that a
	// request wants in those about it.
	Progress jsontext.Value
	// Cancelled is the request that notifications/cancelled is about.
	Cancelled jsontext.Value
	// Subscription is the id of the subscriptions/listen request that a
	// message of a modern server belongs to.
	Subscription jsontext.Value
}

// Relayed is a message between clients and a server that several requests
// share, with the places that must change for it.
type Relayed struct {
	Correlation
	Shape  Shape
	Method string
	// ErrorCode is that of a response which is an error; 0 for a result.
	ErrorCode int64

	doc    []byte
	places [4]int // where the values of Correlation start, in their order
}

const (
	progressMethod   = "notifications/progress"
	cancelledMethod  = "notifications/cancelled"
	metaSubscription = "io.modelcontextprotocol/subscriptionId"
)

// correlationNames are the members of params and _meta that refer to a
// request.
var correlationNames = []string{"_meta", "progressToken", "requestId", metaSubscription}

// ReadRelayed reads one message, whichever side sent it. It keeps doc.
func ReadRelayed(doc []byte) (*Relayed, error) {
	m := &Relayed{Shape: Notification, doc: doc}
	var (
		reader                 ObjectReader
		version, method        jsontext.Value
		params, result, failed jsontext.Value
		paramsAt, resultAt     int
	)
	err := reader.Read(doc, func(name string, value jsontext.Value) error {
		switch name {
		case "jsonrpc":
			version = value
		case "id":
			m.ID = value
			m.places[0], _ = reader.span(value)
		case "method":
			method = value
		case "params":
			params = value
			paramsAt, _ = reader.span(value)
		case "result":
			result = value
			resultAt, _ = reader.span(value)
		case "error":
			failed = value
		default:
			return checkTwin(name, envelopeNames)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if text, ok := String(version); !ok || text != "2.0" {
		return nil, errVersion
	}
	isResponse := result != nil || failed != nil
	switch {
	case method != nil && isResponse, result != nil && failed != nil:
		return nil, errBoth
	case method == nil && !isResponse:
		return nil, errNeither
	case isResponse:
		m.Shape = Response
		if err := m.readError(&reader, failed); err != nil {
			return nil, err
		}
		// an answer is large, and only those to one method refer to anything
		if result.Kind() == '{' && bytes.Contains(result, []byte(metaSubscription)) {
			return m, m.readMembers(&reader, result, resultAt)
		}
		return m, nil
	}
	var ok bool
	if m.Method, ok = String(method); !ok || m.Method == "" {
		return nil, errMethod
	}
	if m.ID != nil {
		m.Shape = Request
		if !validID(m.ID) {
			return nil, errID
		}
	}
	if params.Kind() != '{' {
		return m, nil
	}
	return m, m.readMembers(&reader, params, paramsAt)
}

// readError finds the code of an error.
func (m *Relayed) readError(reader *ObjectReader, failed jsontext.Value) error {
	if failed == nil {
		return nil
	}
	m.ErrorCode = CodeInvalidRequest // one that says nothing is one all the same
	if failed.Kind() != '{' {
		return nil
	}
	return reader.read(failed, func(name string, value jsontext.Value) error {
		if code, err := strconv.ParseInt(string(value), 10, 64); name == "code" && err == nil && code != 0 {
			m.ErrorCode = code
		}
		return nil
	})
}

// readMembers looks into params, or a result. at is where they stand.
func (m *Relayed) readMembers(reader *ObjectReader, object jsontext.Value, at int) error {
	var meta jsontext.Value
	var metaAt int
	err := reader.read(object, func(name string, value jsontext.Value) error {
		start, _ := reader.span(value)
		switch {
		case name == "_meta":
			meta, metaAt = value, at+start
		case name == "progressToken" && m.Method == progressMethod:
			m.Progress, m.places[1] = value, at+start
		case name == "requestId" && m.Method == cancelledMethod:
			m.Cancelled, m.places[2] = value, at+start
		default:
			return checkTwin(name, correlationNames)
		}
		return nil
	})
	if err != nil || meta.Kind() != '{' {
		return err
	}
	return reader.read(meta, func(name string, value jsontext.Value) error {
		start, _ := reader.span(value)
		switch {
		case name == "progressToken" && m.Shape == Request:
			m.Progress, m.places[1] = value, metaAt+start
		case name == metaSubscription:
			m.Subscription, m.places[3] = value, metaAt+start
		default:
			return checkTwin(name, correlationNames)
		}
		return nil
	})
}

// With is the message with other values; a nil one stays as it is. Every
// other byte is as it came.
func (m *Relayed) With(c Correlation) []byte {
	var splices []splice
	for i, change := range [4][2]jsontext.Value{
		{m.ID, c.ID}, {m.Progress, c.Progress}, {m.Cancelled, c.Cancelled}, {m.Subscription, c.Subscription},
	} {
		if old, replacement := change[0], change[1]; old != nil && replacement != nil {
			splices = append(splices, splice{m.places[i], m.places[i] + len(old), replacement})
		}
	}
	slices.SortFunc(splices, func(a, b splice) int { return a.start - b.start })
	return apply(m.doc, splices)
}

// Messages takes an array apart that is a batch of a server.
func Messages(doc []byte) ([]jsontext.Value, error) {
	if err := CheckDepth(doc); err != nil {
		return nil, err
	}
	return Elements(doc, maxResponseBatch)
}

// otherLineEnds are characters that some programs take for the end of a line.
// Where JSON allows them they stand in strings, and can be escaped there.
var otherLineEnds = []struct{ raw, escaped string }{
	{"\u0085", `\u0085`}, {"\u2028", `\u2028`}, {"\u2029", `\u2029`},
}

// Line is a message on a single line, for whoever reads line by line: line
// ends between its tokens become blanks, and in strings, where JSON allows
// only three of them, escapes. It says the same.
func Line(message []byte) []byte {
	for _, end := range otherLineEnds {
		if bytes.Contains(message, []byte(end.raw)) {
			message = bytes.ReplaceAll(message, []byte(end.raw), []byte(end.escaped))
		}
	}
	if !bytes.ContainsAny(message, "\r\n") {
		return message
	}
	message = bytes.Clone(message)
	for i, c := range message {
		if c == '\r' || c == '\n' {
			message[i] = ' '
		}
	}
	return message
}
