package mcpwire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

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

	reader := acquireReader()
	defer reader.release()
	e, err := readEnvelope(reader, body)
	if err != nil {
		return nil, refuse(codeOf(err), nil, err)
	}
	if e.id != nil && !validID(e.id) {
		return nil, refuse(CodeInvalidRequest, nil, errID)
	}
	// answers are written when the body is no longer there
	id := bytes.Clone(e.id)
	m, err := e.message(reader, id)
	if err != nil {
		return nil, refuse(CodeInvalidRequest, id, err)
	}
	return m, nil
}

// envelope is a message whose members have been found and not been judged.
// What is absent is nil.
type envelope struct {
	version, id, method    jsontext.Value
	hasResult, hasError    bool
	hasParams, paramsValid bool
	params                 params
}

// params are the members of params that decide for some method.
type params struct {
	name, uri, taskID, arguments, ref jsontext.Value
	meta, protocolVersion             jsontext.Value
	notifications                     jsontext.Value
	// notificationsAt is where they stand in the body.
	notificationsAt int
	// broken: some other member looks like one of these.
	broken error
}

// readEnvelope goes through the message once. What is not valid JSON is the
// first thing that is wrong with it.
func readEnvelope(r *ObjectReader, body []byte) (e envelope, err error) {
	if err := r.begin(body); err != nil {
		return e, err
	}
	err = r.members(func(name string) (err error) {
		switch name {
		case "jsonrpc":
			e.version, err = r.value()
		case "id":
			e.id, err = r.value()
		case "method":
			e.method, err = r.value()
		case "params":
			e.hasParams, e.paramsValid = true, r.dec.PeekKind() == '{'
			if e.paramsValid {
				return e.params.read(r)
			}
			_, err = r.value()
		case "result":
			e.hasResult = true
			_, err = r.value()
		case "error":
			e.hasError = true
			_, err = r.value()
		default:
			if err := checkTwin(name, envelopeNames); err != nil {
				return err
			}
			_, err = r.value()
		}
		return err
	})
	if err != nil {
		return e, err
	}
	return e, r.end()
}

// read collects the members. Which of them count is known with the method,
// which may come later.
func (p *params) read(r *ObjectReader) error {
	return r.members(func(name string) error {
		value, err := r.value()
		if err != nil {
			return err
		}
		switch name {
		case "name":
			p.name = value
		case "uri":
			p.uri = value
		case "taskId":
			p.taskID = value
		case "arguments":
			p.arguments = value
		case "ref":
			p.ref = value
		case "_meta":
			p.meta = value
		case "protocolVersion":
			p.protocolVersion = value
		case "notifications":
			p.notifications = value
			p.notificationsAt, _ = r.span(value)
		default:
			if err := checkTwin(name, paramNames); err != nil && p.broken == nil {
				p.broken = err
			}
		}
		return nil
	})
}

// target is the member that names the target of a method.
func (p *params) target(member string) jsontext.Value {
	switch member {
	case "name":
		return p.name
	case "uri":
		return p.uri
	default:
		return p.taskID
	}
}

// message judges the envelope.
func (e *envelope) message(r *ObjectReader, id jsontext.Value) (*Message, error) {
	if text, ok := String(e.version); !ok || text != "2.0" {
		return nil, errVersion
	}
	isResponse := e.hasResult || e.hasError
	switch {
	case e.method != nil && isResponse, e.hasResult && e.hasError, isResponse && e.hasParams:
		return nil, errBoth
	case e.method == nil && !isResponse, isResponse && e.id == nil:
		return nil, errNeither
	case isResponse:
		return &Message{Shape: Response, ID: id, Known: true}, nil
	}
	m := &Message{Shape: Notification, ID: id}
	if e.id != nil {
		m.Shape = Request
	}
	name, ok := String(e.method)
	if !ok || name == "" {
		return nil, errMethod
	}
	m.Method, m.Known = name, known(name)
	if e.hasParams && !e.paramsValid {
		return nil, errParams
	}
	if e.params.broken != nil {
		return nil, e.params.broken
	}
	return m, m.readParams(r, &e.params)
}

// readParams finds the target and the arguments.
func (m *Message) readParams(reader *ObjectReader, p *params) error {
	place, targeted := targetPlaces[m.Method]
	if p.arguments != nil && (place.kind == Tool || place.kind == Prompt) {
		switch p.arguments.Kind() {
		case '{':
			m.Arguments = p.arguments
		case 'n': // as if it were absent
		default:
			return errArguments
		}
	}
	if m.Method == "initialize" && p.protocolVersion != nil {
		m.ProtocolVersion, _ = String(p.protocolVersion)
	}
	if p.meta != nil {
		if err := m.Meta.read(reader, p.meta); err != nil {
			return err
		}
	}
	switch {
	case targeted:
		target := p.target(place.member)
		text, ok := "", false
		if target != nil {
			text, ok = String(target)
		} else if removedMethods[m.Method] && IsModern(m.Meta.Version) {
			m.Known = false
			return nil
		}
		if !ok {
			return errTargetAbsent
		}
		m.Kind, m.Target = place.kind, text
	case m.Method == completionMethod:
		return m.readRef(reader, p.ref)
	case m.Method == listenMethod:
		m.Listen = &Listen{start: p.notificationsAt}
		return m.Listen.read(reader, p.notifications)
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
	stem, odd := name, false
	for i := range len(name) {
		if c := name[i]; c == 0 || c >= utf8.RuneSelf {
			stem, _, _ = strings.Cut(name, "\x00")
			odd = true
			break
		}
	}
	for _, known := range exact {
		switch {
		case name == known:
		case odd && (strings.EqualFold(name, known) || strings.EqualFold(stem, known)),
			len(name) == len(known) && strings.EqualFold(name, known):
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
