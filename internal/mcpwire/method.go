package mcpwire

import (
	"maps"
	"slices"
	"strings"
)

// TargetKind is the kind of thing a message is about.
type TargetKind uint8

// The kinds of targets.
const (
	NoTarget TargetKind = iota
	Tool
	Prompt
	Resource
	Task
)

// String returns the kind's name as the rules spell it.
func (k TargetKind) String() string {
	switch k {
	case Tool:
		return "tool"
	case Prompt:
		return "prompt"
	case Resource:
		return "resource"
	case Task:
		return "task"
	default:
		return ""
	}
}

// Call is the method that uses a target of this kind; an entry of a list is
// judged as the call it offers.
func (k TargetKind) Call() string {
	switch k {
	case Tool:
		return "tools/call"
	case Prompt:
		return "prompts/get"
	case Resource:
		return "resources/read"
	case Task:
		return "tasks/get"
	default:
		return ""
	}
}

// targetPlace says which member of params names the target of a method.
type targetPlace struct {
	kind   TargetKind
	member string
}

// targetPlaces holds the methods whose params name one target.
var targetPlaces = map[string]targetPlace{
	"tools/call":            {Tool, "name"},
	"prompts/get":           {Prompt, "name"},
	"resources/read":        {Resource, "uri"},
	"resources/subscribe":   {Resource, "uri"},
	"resources/unsubscribe": {Resource, "uri"},
	"tasks/get":             {Task, "taskId"},
	"tasks/result":          {Task, "taskId"},
	"tasks/update":          {Task, "taskId"},
	"tasks/cancel":          {Task, "taskId"},
}

// TargetOf tells what kind of target a method has and which member of params
// names it; NoTarget and "" for the methods whose params name none, or name
// it elsewhere.
func TargetOf(method string) (kind TargetKind, member string) {
	place := targetPlaces[method]
	return place.kind, place.member
}

const (
	// completionMethod names its target one level deeper, in params.ref.
	completionMethod = "completion/complete"
	// listenMethod names many targets, in params.notifications.
	listenMethod = "subscriptions/listen"
)

// removedMethods name a target in legacy versions and are gone from modern
// ones, so there a request without it is no malformed request: it asks for a
// method that nobody knows.
var removedMethods = map[string]bool{"resources/subscribe": true, "resources/unsubscribe": true}

// untargetedMethods are the methods of the specification that name no
// target. Notifications belong to them too; see Known.
var untargetedMethods = map[string]bool{
	"initialize":               true,
	"ping":                     true,
	"logging/setLevel":         true,
	"server/discover":          true,
	"tools/list":               true,
	"prompts/list":             true,
	"resources/list":           true,
	"resources/templates/list": true,
	"tasks/list":               true,
}

// clientNotifications are those that the specification lets a client send.
var clientNotifications = []string{
	"notifications/initialized", "notifications/cancelled", "notifications/progress",
	"notifications/roots/list_changed", "notifications/message",
	"notifications/tasks/status", "notifications/elicitation/complete",
}

// Methods are the methods that a client of some version can name, each of
// them once. Whatever counts by method counts by these: every other name is
// the client's own.
var Methods = func() []string {
	methods := slices.Concat(slices.Collect(maps.Keys(targetPlaces)), slices.Collect(maps.Keys(untargetedMethods)),
		clientNotifications, []string{completionMethod, listenMethod})
	slices.Sort(methods)
	return methods
}()

// known reports whether the specification, in any version, has the method.
func known(method string) bool {
	if _, ok := targetPlaces[method]; ok {
		return true
	}
	return untargetedMethods[method] || method == completionMethod || method == listenMethod ||
		strings.HasPrefix(method, "notifications/")
}
