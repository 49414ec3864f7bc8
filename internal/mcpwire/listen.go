package mcpwire

import (
	"errors"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// maxSubscriptions bounds the URIs, and the task ids, of one
// subscriptions/listen request; every one of them is judged.
const maxSubscriptions = 1000

var errNotifications = errors.New(
	`"notifications" must be an object; its "resourceSubscriptions" and "taskIds" must be lists of strings`)

// listChangedMethods are the notifications a client can ask for, and the
// list that each of them is about.
var listChangedMethods = map[string]string{
	"toolsListChanged":     "tools/list",
	"promptsListChanged":   "prompts/list",
	"resourcesListChanged": "resources/list",
}

// listenNames are the members that decide.
var listenNames = []string{
	"resourceSubscriptions", "taskIds", "toolsListChanged", "promptsListChanged", "resourcesListChanged",
}

// Listen is what a client subscribes to, or what a server says it has
// subscribed it to: params.notifications of subscriptions/listen and of its
// acknowledgement.
type Listen struct {
	// Resources are URIs, Tasks are task ids, and Lists are the methods of
	// the lists whose changes are wanted.
	Resources, Tasks, Lists []string

	// members in their order, for writing; the value is what a member is
	// about to be.
	members []listenMember
	// start and length say where the object stands in the body.
	start, length int
}

type listenMember struct {
	name  string
	value jsontext.Value
}

// read takes the members apart. Members it does not know are left out when
// the object is written again, unless they are plain switches: they could
// name something nobody has judged.
func (l *Listen) read(reader *ObjectReader, doc jsontext.Value) error {
	if doc.Kind() != '{' {
		return errNotifications
	}
	l.length = len(doc)
	return reader.read(doc, func(name string, value jsontext.Value) error {
		switch name {
		case "resourceSubscriptions", "taskIds":
			texts, err := stringList(value)
			if err != nil {
				return errNotifications
			}
			if name == "taskIds" {
				l.Tasks = texts
			} else {
				l.Resources = texts
			}
			l.members = append(l.members, listenMember{name: name})
			return nil
		}
		if err := checkTwin(name, listenNames); err != nil {
			return err
		}
		if kind := value.Kind(); kind != 't' && kind != 'f' {
			return nil
		}
		if method, ok := listChangedMethods[name]; ok && value.Kind() == 't' {
			l.Lists = append(l.Lists, method)
		}
		l.members = append(l.members, listenMember{name, value})
		return nil
	})
}

func stringList(value jsontext.Value) ([]string, error) {
	elements, err := Elements(value, maxSubscriptions)
	if err != nil {
		return nil, err
	}
	texts := make([]string, 0, len(elements))
	for _, element := range elements {
		text, ok := String(element)
		if !ok {
			return nil, ErrSyntax
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// Keep drops what may not be subscribed to.
func (l *Listen) Keep(resource, task, list func(name string) bool) {
	l.Resources = keep(l.Resources, resource)
	l.Tasks = keep(l.Tasks, task)
	l.Lists = keep(l.Lists, list)
}

func keep(names []string, wanted func(string) bool) []string {
	kept := make([]string, 0, len(names))
	for _, name := range names {
		if wanted(name) {
			kept = append(kept, name)
		}
	}
	return kept
}

// Splice writes what was kept into the document it was read from.
func (l *Listen) Splice(doc []byte) []byte {
	object := l.encode()
	out := make([]byte, 0, len(doc)-l.length+len(object))
	out = append(out, doc[:l.start]...)
	out = append(out, object...)
	return append(out, doc[l.start+l.length:]...)
}

func (l *Listen) encode() []byte {
	out := []byte{'{'}
	for _, member := range l.members {
		value := []byte(member.value)
		switch member.name {
		case "resourceSubscriptions":
			value = encodeStrings(l.Resources)
		case "taskIds":
			value = encodeStrings(l.Tasks)
		default:
			if method, ok := listChangedMethods[member.name]; ok && member.value.Kind() == 't' && !slices.Contains(l.Lists, method) {
				continue
			}
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(Quote(out, member.name), ':')
		out = append(out, value...)
	}
	return append(out, '}')
}

func encodeStrings(texts []string) []byte {
	out := []byte{'['}
	for i, text := range texts {
		if i > 0 {
			out = append(out, ',')
		}
		out = Quote(out, text)
	}
	return append(out, ']')
}
