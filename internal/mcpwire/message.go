package mcpwire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Shape tells the three JSON-RPC messages apart.
type Shape uint8

// The shapes of a message.
const (
	// Request has a method and an id, and is answered.
	Request Shape = iota
	// Notification has a method and no id.
	Notification
	// Response is what a client posts in answer to a request of the server.
	Response
)

// Message is one JSON-RPC message, read strictly. Its raw arguments alias the
// bytes it was read from.
type Message struct {
	Shape Shape
	// ID is the id as the client wrote it; nil without one.
	ID jsontext.Value
	// Method is empty for a response.
	Method string
	// Known reports whether the specification has the method.
	Known bool
	// Kind and Target say what the message is about; NoTarget and "" for a
	// message that is about the server as a whole.
	Kind   TargetKind
	Target string
	// Arguments are the raw arguments of tools/call and prompts/get; nil
	// without any.
	Arguments jsontext.Value
	// ArgumentsOpen is set for completion/complete, which asks about a
	// prompt or a resource template before its arguments are chosen.
	ArgumentsOpen bool
	// ProtocolVersion is what an initialize request asks for.
	ProtocolVersion string
	// Meta is what params._meta says about the protocol.
	Meta Meta
	// Listen is what a subscriptions/listen request subscribes to; nil for
	// every other method.
	Listen *Listen
}

// Meta are the members of params._meta that every modern request carries.
type Meta struct {
	// Version is the protocol version; "" when it is missing.
	Version string
	// Capabilities: the client's capabilities are there.
	Capabilities bool
	// TraceParent is the trace that the client belongs to, in the form of
	// the W3C's Trace Context; "" when there is none, or none in that form.
	TraceParent string
}

// Names of the members of _meta.
const (
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
)

// MaxBatch is how many messages a batch may hold. Every one of them is
// judged, so it bounds the work of one request.
const MaxBatch = 100

// FormatError is a message that is not acceptable JSON-RPC. Code is the
// JSON-RPC error code to answer with, ID the id to echo, as far as it was
// understood.
type FormatError struct {
	Code int
	ID   jsontext.Value
	err  error
}

func (e *FormatError) Error() string { return e.err.Error() }
func (e *FormatError) Unwrap() error { return e.err }

// Reasons to refuse a message that is valid JSON.
var (
	errEmpty        = errors.New("empty body")
	errBatch        = errors.New("batches are not accepted")
	errEmptyBatch   = errors.New("an empty batch")
	errBatchInit    = errors.New("initialize in a batch")
	errBatchListen  = errors.New("subscriptions/listen in a batch")
	errMeta         = errors.New(`"_meta" must be an object, its protocol version a string and its client capabilities an object`)
	errMember       = errors.New("a member name that differs from one of the specification only by case or by a NUL")
	errVersion      = errors.New(`"jsonrpc" must be "2.0"`)
	errID           = errors.New(`"id" must be a string or an integer`)
	errMethod       = errors.New(`"method" must be a string that is not empty`)
	errParams       = errors.New(`"params" must be an object`)
	errNeither      = errors.New("neither a request nor a response")
	errBoth         = errors.New("both a request and a response")
	errArguments    = errors.New(`"arguments" must be an object`)
	errRef          = errors.New(`"ref" must be an object whose "type" is "ref/prompt" or "ref/resource"`)
	errTargetAbsent = errors.New("the member of params that names the target is missing or not a string")
)

// envelopeNames are the members of a JSON-RPC message.
var envelopeNames = []string{"jsonrpc", "id", "method", "params", "result", "error"}

// paramNames are the members of params, and of its ref, that decide.
var paramNames = []string{
	"name", "uri", "taskId", "arguments", "ref", "type", "_meta", "protocolVersion", "notifications",
}

// metaTraceParent is a member of _meta that decides nothing.
const metaTraceParent = "traceparent"

// metaNames are the members of _meta that decide.
var metaNames = []string{metaVersion, metaCapabilities}

// ReadAll reads the body of a POST: one message, or a batch of them. The
// first byte that is not blank tells which.
func ReadAll(body []byte) (messages []*Message, batch bool, err error) {
	first := bytes.TrimLeft(body, " \t\r\n")
	if len(first) == 0 || first[0] != '[' {
		m, err := Read(body)
		return []*Message{m}, false, err
	}
	if err := CheckDepth(body); err != nil {
		return nil, true, refuse(CodeParseError, nil, err)
	}
	elements, err := Elements(body, MaxBatch)
	switch {
	case err != nil:
		return nil, true, refuse(codeOf(err), nil, err)
	case len(elements) == 0:
		return nil, true, refuse(CodeInvalidRequest, nil, errEmptyBatch)
	}
	for _, element := range elements {
		m, err := Read(element)
		if err != nil {
			return nil, true, err
		}
		switch {
		case m.Method == "initialize":
			return nil, true, refuse(CodeInvalidRequest, m.ID, errBatchInit)
		case m.Listen != nil:
			// it would have to be rewritten, and no version has both
			return nil, true, refuse(CodeInvalidRequest, m.ID, errBatchListen)
		}
		messages = append(messages, m)
	}
	return messages, true, nil
}

// Read reads exactly one JSON-RPC message. What it accepts, every other
// JSON parser reads the same way: no duplicate members, no case twins, valid
// UTF-8, nothing behind the value.
func Read(body []byte) (*Message, error) {
	first := bytes.TrimLeft(body, " \t\r\n")
	if len(first) == 0 {
		return nil, refuse(CodeParseError, nil, errEmpty)
	}
	if first[0] == '[' {
		return nil, refuse(CodeInvalidRequest, nil, errBatch)
	}

	var (
		reader                         ObjectReader
		paramsAt                       int
		version, id, method, params    jsontext.Value
		hasID, hasMethod, hasResult    bool
		hasError, hasVersion, hasParam bool
	)
	err := reader.Read(body, func(name string, value jsontext.Value) error {
		switch name {
		case "jsonrpc":
			version, hasVersion = value, true
		case "id":
			id, hasID = value, true
		case "method":
			method, hasMethod = value, true
		case "params":
			params, hasParam = value, true
			paramsAt, _ = reader.span(value)
		case "result":
			hasResult = true
		case "error":
			hasError = true
		default:
			return checkTwin(name, envelopeNames)
		}
		return nil
	})
	if err != nil {
		return nil, refuse(codeOf(err), nil, err)
	}

	if hasID && !validID(id) {
		return nil, refuse(CodeInvalidRequest, nil, errID)
	}
	// answers are written when the body is no longer there
	id = bytes.Clone(id)
	invalid := func(err error) (*Message, error) { return nil, refuse(CodeInvalidRequest, id, err) }
	if text, ok := String(version); !hasVersion || !ok || text != "2.0" {
		return invalid(errVersion)
	}
	isResponse := hasResult || hasError
	switch {
	case hasMethod && isResponse, hasResult && hasError, isResponse && hasParam:
		return invalid(errBoth)
	case !hasMethod && !isResponse, isResponse && !hasID:
		return invalid(errNeither)
	case isResponse:
		return &Message{Shape: Response, ID: id, Known: true}, nil
	}

	m := &Message{Shape: Notification, ID: id}
	if hasID {
		m.Shape = Request
	}
	name, ok := String(method)
	if !ok || name == "" {
		return invalid(errMethod)
	}
	m.Method, m.Known = name, known(name)
	if hasParam && params.Kind() != '{' {
		return invalid(errParams)
	}
	if err := m.readParams(&reader, params, paramsAt); err != nil {
		return invalid(err)
	}
	return m, nil
}

// readParams finds the target and the arguments. at is where params stand
// in the body.
func (m *Message) readParams(reader *ObjectReader, params jsontext.Value, at int) error {
	place, targeted := targetPlaces[m.Method]
	completion := m.Method == completionMethod
	var target, ref, meta, notifications jsontext.Value
	var notificationsAt int
	if params != nil {
		err := reader.read(params, func(name string, value jsontext.Value) error {
			switch {
			case targeted && name == place.member:
				target = value
			case name == "arguments" && (place.kind == Tool || place.kind == Prompt):
				if value.Kind() == 'n' {
					return nil // as if it were absent
				}
				if value.Kind() != '{' {
					return errArguments
				}
				m.Arguments = value
			case completion && name == "ref":
				ref = value
			case name == "_meta":
				meta = value
			case m.Method == listenMethod && name == "notifications":
				notifications = value
				notificationsAt, _ = reader.span(value)
			case name == "protocolVersion" && m.Method == "initialize":
				m.ProtocolVersion, _ = String(value)
			default:
				return checkTwin(name, paramNames)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if meta != nil {
		if err := m.Meta.read(reader, meta); err != nil {
			return err
		}
	}
	switch {
	case targeted:
		text, ok := String(target)
		if !ok && target == nil && removedMethods[m.Method] && IsModern(m.Meta.Version) {
			m.Known = false
			return nil
		}
		if !ok {
			return errTargetAbsent
		}
		m.Kind, m.Target = place.kind, text
	case completion:
		return m.readRef(reader, ref)
	case m.Method == listenMethod:
		m.Listen = &Listen{start: at + notificationsAt}
		return m.Listen.read(reader, notifications)
	}
	return nil
}

func (m *Meta) read(reader *ObjectReader, meta jsontext.Value) error {
	if meta.Kind() != '{' {
		return errMeta
	}
	return reader.read(meta, func(name string, value jsontext.Value) error {
		var ok bool
		switch name {
		case metaVersion:
			m.Version, ok = String(value)
		case metaCapabilities:
			m.Capabilities = value.Kind() == '{'
			ok = m.Capabilities
		case metaTraceParent:
			m.TraceParent, ok = traceParent(value), true
		default:
			return checkTwin(name, metaNames)
		}
		if !ok {
			return errMeta
		}
		return nil
	})
}

// readRef finds what a completion is for.
func (m *Message) readRef(reader *ObjectReader, ref jsontext.Value) error {
	if ref.Kind() != '{' {
		return errRef
	}
	members := map[string]jsontext.Value{}
	err := reader.read(ref, func(name string, value jsontext.Value) error {
		members[name] = value
		return checkTwin(name, paramNames)
	})
	if err != nil {
		return err
	}
	var place targetPlace
	switch kind, _ := String(members["type"]); kind {
	case "ref/prompt":
		place = targetPlaces["prompts/get"]
	case "ref/resource":
		place = targetPlaces["resources/read"]
	default:
		return errRef
	}
	text, ok := String(members[place.member])
	if !ok {
		return errTargetAbsent
	}
	m.Kind, m.Target, m.ArgumentsOpen = place.kind, text, true
	return nil
}

// checkTwin refuses names that a lenient parser takes for one of the exact
// ones: by case, by Unicode folding (U+017F for s, U+212A for k), or by
// stopping at a NUL.
func checkTwin(name string, exact []string) error {
	stem, _, hasNUL := strings.Cut(name, "\x00")
	for _, known := range exact {
		if name == known {
			continue
		}
		if strings.EqualFold(name, known) || hasNUL && strings.EqualFold(stem, known) {
			return errMember
		}
	}
	return nil
}

// validID accepts strings and integers, and neither null nor fractions.
func validID(id jsontext.Value) bool {
	switch id.Kind() {
	case '"':
		return true
	case '0':
		return !bytes.ContainsAny(id, ".eE")
	default:
		return false
	}
}

// codeOf tells what is no JSON from what is no acceptable message.
func codeOf(err error) int {
	if errors.Is(err, errMember) || errors.Is(err, ErrDuplicate) || errors.Is(err, ErrTooMany) {
		return CodeInvalidRequest
	}
	return CodeParseError
}

func refuse(code int, id jsontext.Value, err error) error {
	return &FormatError{Code: code, ID: id, err: fmt.Errorf("malformed message: %w", err)}
}
