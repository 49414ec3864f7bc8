package mcpwire

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of what an upstream sends.
const (
	// maxListEntries bounds the entries of one list; each is judged.
	maxListEntries = 100_000
	// maxResponseBatch bounds the messages of one array; a client can ask
	// for MaxBatch, and a server may add notifications.
	maxResponseBatch = 10 * MaxBatch
)

// listPlace says what the entries of a list in a result are.
type listPlace struct {
	kind TargetKind
	// member holds the name by which an entry is judged.
	member string
}

// listPlaces are the members of a result that hold lists.
var listPlaces = map[string]listPlace{
	"tools":             {Tool, "name"},
	"prompts":           {Prompt, "name"},
	"resources":         {Resource, "uri"},
	"resourceTemplates": {Resource, "uriTemplate"},
	"tasks":             {Task, "taskId"},
}

// private is the cacheScope of a result that depends on who asked.
const private = `"private"`

// resultNames are the members of a result that decide.
var resultNames = []string{"tools", "prompts", "resources", "resourceTemplates", "tasks", "cacheScope"}

// updatePlaces are the notifications of an upstream that name a target.
var updatePlaces = map[string]targetPlace{
	"notifications/resources/updated": {Resource, "uri"},
	"notifications/tasks/status":      {Task, "taskId"},
	"notifications/tasks":             {Task, "taskId"},
}

const acknowledgedMethod = "notifications/subscriptions/acknowledged"

var (
	errEntry     = errors.New("an entry of a list has no name")
	errListShape = errors.New("a list is not an array")
	errUpdate    = errors.New("a notification does not say what it is about")
)

// Filter takes out of an upstream's messages what their reader may not see.
type Filter struct {
	// Visible decides about one entry.
	Visible func(kind TargetKind, name string) bool
	// ListVisible decides about a list as a whole: its method, tools/list.
	ListVisible func(method string) bool
	// Private makes every result that could be cached private, as a result
	// must be that depends on who asked (MCP 2026-07-28).
	Private bool
	// Listed, if set, is told of every list: how many of its entries its
	// reader may see, and how many not.
	Listed func(kind TargetKind, visible, hidden int)
}

// Message filters one message, or an array of them. What has nothing taken
// out is returned as it came, byte for byte; what is left of a list stays in
// order, with every member the gateway does not know. It returns nil when
// nothing of the message remains.
func (f *Filter) Message(doc []byte) ([]byte, error) {
	if err := CheckDepth(doc); err != nil {
		return nil, err
	}
	if first := afterBlanks(doc, 0); first < len(doc) && doc[first] == '[' {
		return f.batch(doc)
	}
	return f.message(doc)
}

func (f *Filter) batch(doc []byte) ([]byte, error) {
	messages, err := Elements(doc, maxResponseBatch)
	if err != nil {
		return nil, err
	}
	changed := false
	kept := make([][]byte, 0, len(messages))
	for _, message := range messages {
		filtered, err := f.message(message)
		if err != nil {
			return nil, err
		}
		if filtered == nil {
			changed = true
			continue
		}
		changed = changed || !sameSlice(filtered, message)
		kept = append(kept, filtered)
	}
	switch {
	case !changed:
		return doc, nil
	case len(kept) == 0:
		return nil, nil
	}
	return joinArray(kept), nil
}

// splice is a change to a document.
type splice struct {
	start, end int
	text       []byte
}

// apply makes the changes, which are in order. Without any, the document
// itself is returned.
func apply(doc []byte, splices []splice) []byte {
	if len(splices) == 0 {
		return doc
	}
	size := len(doc)
	for _, s := range splices {
		size += len(s.text) - (s.end - s.start)
	}
	out := make([]byte, 0, size)
	from := 0
	for _, s := range splices {
		out = append(append(out, doc[from:s.start]...), s.text...)
		from = s.end
	}
	return append(out, doc[from:]...)
}

// answer is what is found in one message of an upstream.
type answer struct {
	method    string
	params    jsontext.Value
	paramsAt  int
	hasResult bool
	result    resultMembers
}

// resultMembers are what decides in a result that is an object.
type resultMembers struct {
	start   int // of the object; 0 where the result is none
	members int
	lists   []foundList
	// scope is where the value of cacheScope is.
	scope          *splice
	scopeIsPrivate bool
}

// foundList is a list and where it stands.
type foundList struct {
	place      listPlace
	start, end int
	entries    []jsontext.Value
}

func (f *Filter) message(doc []byte) ([]byte, error) {
	reader := acquireReader()
	defer reader.release()
	a, err := readAnswer(reader, doc)
	if err != nil {
		return nil, err
	}
	update, isUpdate := updatePlaces[a.method]
	switch {
	case a.hasResult && (a.method == acknowledgedMethod || isUpdate):
		return nil, errBoth // some readers would look for a list in it
	case a.method == acknowledgedMethod && a.params != nil:
		return f.acknowledgement(reader, doc, a.params, a.paramsAt)
	case isUpdate:
		return f.update(doc, a.params, update)
	case a.result.start == 0:
		return doc, nil
	}
	splices, err := f.result(&a.result)
	if err != nil {
		return nil, err
	}
	return apply(doc, splices), nil
}

// readAnswer goes through a message once.
func readAnswer(r *ObjectReader, doc []byte) (a answer, err error) {
	r.reset(doc)
	err = r.members(func(name string) error {
		if name == "result" {
			a.hasResult = true
			if r.dec.PeekKind() == '{' {
				return a.result.read(r)
			}
		}
		value, err := r.value()
		if err != nil {
			return err
		}
		switch name {
		case "result":
		case "method":
			a.method, _ = String(value)
		case "params":
			a.params = value
			a.paramsAt, _ = r.span(value)
		default:
			return checkTwin(name, envelopeNames)
		}
		return nil
	})
	if err == nil {
		err = r.end()
	}
	return a, err
}

// read collects the lists of a result.
func (m *resultMembers) read(r *ObjectReader) error {
	return r.membersFrom(func(start int) { m.start = start }, func(name string) error {
		m.members++
		place, isList := listPlaces[name]
		if isList && r.dec.PeekKind() == '[' {
			return m.readList(r, place)
		}
		value, err := r.value()
		switch {
		case err != nil:
			return err
		case isList && value.Kind() != 'n':
			return errListShape
		case name == "cacheScope":
			start, end := r.span(value)
			m.scope = &splice{start, end, []byte(private)}
			m.scopeIsPrivate = string(value) == private
			return nil
		case isList:
			m.lists = append(m.lists, foundList{place: place})
			return nil
		}
		return checkTwin(name, resultNames)
	})
}

func (m *resultMembers) readList(r *ObjectReader, place listPlace) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return r.classify(err)
	}
	l := foundList{place: place, start: r.original(int(r.dec.InputOffset())) - 1}
	for r.dec.PeekKind() != ']' {
		if len(l.entries) == maxListEntries {
			return fmt.Errorf("%w: more than %d", ErrTooMany, maxListEntries)
		}
		entry, err := r.value()
		if err != nil {
			return err
		}
		l.entries = append(l.entries, entry)
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return r.classify(err)
	}
	l.end = r.original(int(r.dec.InputOffset()))
	m.lists = append(m.lists, l)
	return nil
}

// result finds what has to change in a result.
func (f *Filter) result(m *resultMembers) ([]splice, error) {
	var splices []splice
	for _, l := range m.lists {
		kept, err := f.entries(l)
		if err != nil {
			return nil, err
		}
		if kept != nil {
			splices = append(splices, splice{l.start, l.end, kept})
		}
	}
	switch {
	case m.scopeIsPrivate:
	case m.scope != nil && (f.Private || len(m.lists) > 0):
		splices = insertSplice(splices, *m.scope)
	case m.scope == nil && f.Private:
		text := []byte(`"cacheScope":` + private)
		if m.members > 0 {
			text = append(text, ',')
		}
		splices = insertSplice(splices, splice{m.start, m.start, text})
	}
	return splices, nil
}

// insertSplice keeps the changes in the order of the document.
func insertSplice(splices []splice, s splice) []splice {
	at := 0
	for at < len(splices) && splices[at].start < s.start {
		at++
	}
	return slices.Insert(splices, at, s)
}

// entries filters one list. It returns nil when nothing was taken out.
func (f *Filter) entries(l foundList) ([]byte, error) {
	kept, size := 0, 2
	visible := make([]bool, len(l.entries))
	for i, entry := range l.entries {
		name, err := memberText(entry, l.place.member)
		if err != nil {
			return nil, err
		}
		if visible[i] = f.Visible(l.place.kind, name); visible[i] {
			kept++
			size += len(entry) + 1
		}
	}
	if f.Listed != nil && l.end > 0 {
		f.Listed(l.place.kind, kept, len(l.entries)-kept)
	}
	if kept == len(l.entries) {
		return nil, nil
	}
	out := append(make([]byte, 0, size), '[')
	for i, entry := range l.entries {
		if !visible[i] {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, entry...)
	}
	return append(out, ']'), nil
}

// memberText returns a text member of an object, which must be there. The
// object has been read before, as a part of a document.
func memberText(object jsontext.Value, member string) (string, error) {
	if object.Kind() != '{' {
		return "", errEntry
	}
	text, ok := "", false
	exact := [1]string{member}
	err := eachMember(object, func(name, value jsontext.Value) error {
		if isText(name, member) {
			text, ok = String(value)
			return nil
		}
		other, _ := String(name)
		return checkTwin(other, exact[:])
	})
	if err != nil {
		return "", err
	}
	if !ok {
		return "", errEntry
	}
	return text, nil
}

// update drops a notification about a target that is not visible.
func (f *Filter) update(doc []byte, params jsontext.Value, place targetPlace) ([]byte, error) {
	target, err := memberText(params, place.member)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUpdate, err)
	}
	if !f.Visible(place.kind, target) {
		return nil, nil
	}
	return doc, nil
}

// acknowledgement takes out of the answer to subscriptions/listen what may
// not be subscribed to.
func (f *Filter) acknowledgement(reader *ObjectReader, doc []byte, params jsontext.Value, at int) ([]byte, error) {
	if params.Kind() != '{' {
		return nil, errNotifications
	}
	var notifications jsontext.Value
	listen := new(Listen)
	err := reader.read(params, func(name string, value jsontext.Value) error {
		if name == "notifications" {
			notifications = value
			start, _ := reader.span(value)
			listen.start = at + start
			return nil
		}
		return checkTwin(name, []string{"notifications"})
	})
	if err != nil {
		return nil, err
	}
	if notifications == nil {
		return doc, nil
	}
	if err := listen.read(reader, notifications); err != nil {
		return nil, err
	}
	before := len(listen.Resources) + len(listen.Tasks) + len(listen.Lists)
	f.Keep(listen)
	if before == len(listen.Resources)+len(listen.Tasks)+len(listen.Lists) {
		return doc, nil
	}
	return listen.Splice(doc), nil
}

// Keep drops the subscriptions that are not visible.
func (f *Filter) Keep(l *Listen) {
	l.Keep(
		func(uri string) bool { return f.Visible(Resource, uri) },
		func(id string) bool { return f.Visible(Task, id) },
		f.ListVisible,
	)
}

func joinArray(elements [][]byte) []byte {
	size := 2 + len(elements)
	for _, element := range elements {
		size += len(element)
	}
	out := append(make([]byte, 0, size), '[')
	for i, element := range elements {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, element...)
	}
	return append(out, ']')
}

func sameSlice(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
