package mcpwire

import (
	"bytes"
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
	first := bytes.TrimLeft(doc, " \t\r\n")
	if len(first) > 0 && first[0] == '[' {
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
	out := make([]byte, 0, len(doc)+32*len(splices))
	from := 0
	for _, s := range splices {
		out = append(append(out, doc[from:s.start]...), s.text...)
		from = s.end
	}
	return append(out, doc[from:]...)
}

func (f *Filter) message(doc []byte) ([]byte, error) {
	var (
		reader             ObjectReader
		method             string
		params, result     jsontext.Value
		paramsAt, resultAt int
	)
	err := reader.read(doc, func(name string, value jsontext.Value) error {
		switch name {
		case "method":
			method, _ = String(value)
		case "params":
			params = value
			paramsAt, _ = reader.span(value)
		case "result":
			result = value
			resultAt, _ = reader.span(value)
		default:
			return checkTwin(name, envelopeNames)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case result != nil && (method == acknowledgedMethod || updatePlaces[method].kind != NoTarget):
		return nil, errBoth // some readers would look for a list in it
	case method == acknowledgedMethod && params != nil:
		return f.acknowledgement(&reader, doc, params, paramsAt)
	case updatePlaces[method].kind != NoTarget:
		return f.update(&reader, doc, params, updatePlaces[method])
	case result.Kind() != '{':
		return doc, nil
	}
	splices, err := f.result(&reader, result)
	if err != nil {
		return nil, err
	}
	for i := range splices {
		splices[i].start += resultAt
		splices[i].end += resultAt
	}
	return apply(doc, splices), nil
}

// result finds the lists of a result and what has to change in it.
func (f *Filter) result(reader *ObjectReader, result jsontext.Value) ([]splice, error) {
	var (
		splices        []splice
		scope          *splice
		scopeIsPrivate bool
		members, lists int
	)
	type list struct {
		place listPlace
		value jsontext.Value
		start int
	}
	var found []list
	err := reader.read(result, func(name string, value jsontext.Value) error {
		members++
		if place, ok := listPlaces[name]; ok {
			start, _ := reader.span(value)
			found = append(found, list{place, value, start})
			return nil
		}
		if name == "cacheScope" {
			start, end := reader.span(value)
			scope = &splice{start, end, []byte(private)}
			scopeIsPrivate = string(value) == private
			return nil
		}
		return checkTwin(name, resultNames)
	})
	if err != nil {
		return nil, err
	}
	for _, l := range found {
		kept, err := f.entries(reader, l.place, l.value)
		if err != nil {
			return nil, err
		}
		lists++
		if kept != nil {
			splices = append(splices, splice{l.start, l.start + len(l.value), kept})
		}
	}
	switch {
	case scopeIsPrivate:
	case scope != nil && (f.Private || lists > 0):
		splices = insertSplice(splices, *scope)
	case scope == nil && f.Private:
		text := []byte(`"cacheScope":` + private)
		if members > 0 {
			text = append(text, ',')
		}
		splices = insertSplice(splices, splice{1, 1, text})
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
func (f *Filter) entries(reader *ObjectReader, place listPlace, list jsontext.Value) ([]byte, error) {
	if list.Kind() == 'n' {
		return nil, nil
	}
	if list.Kind() != '[' {
		return nil, errListShape
	}
	entries, err := Elements(list, maxListEntries)
	if err != nil {
		return nil, err
	}
	kept := make([][]byte, 0, len(entries))
	for _, entry := range entries {
		name, err := memberText(reader, entry, place.member)
		if err != nil {
			return nil, err
		}
		if f.Visible(place.kind, name) {
			kept = append(kept, entry)
		}
	}
	if f.Listed != nil {
		f.Listed(place.kind, len(kept), len(entries)-len(kept))
	}
	if len(kept) == len(entries) {
		return nil, nil
	}
	return joinArray(kept), nil
}

// memberText returns a text member of an object, which must be there.
func memberText(reader *ObjectReader, object jsontext.Value, member string) (string, error) {
	if object.Kind() != '{' {
		return "", errEntry
	}
	text, ok := "", false
	exact := []string{member}
	err := reader.read(object, func(name string, value jsontext.Value) error {
		if name == member {
			text, ok = String(value)
			return nil
		}
		return checkTwin(name, exact)
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
func (f *Filter) update(reader *ObjectReader, doc []byte, params jsontext.Value, place targetPlace) ([]byte, error) {
	target, err := memberText(reader, params, place.member)
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
