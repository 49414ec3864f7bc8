package celauthz

import (
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// pins are the only names of targets of one kind for which a part has to be
// evaluated: for every other name its value is known. nil means every name.
type pins struct {
	kind  mcpwire.TargetKind
	names []string
}

// nameVariables are the variables that hold the name of the target.
var nameVariables = map[string]mcpwire.TargetKind{
	"mcp.tool.name":     mcpwire.Tool,
	"mcp.prompt.name":   mcpwire.Prompt,
	"mcp.resource.uri":  mcpwire.Resource,
	"mcp.resource.name": mcpwire.Resource,
	"mcp.task.id":       mcpwire.Task,
	"mcp.task.name":     mcpwire.Task,
}

// pinner finds the pins of an expression.
type pinner struct {
	references map[int64]*celast.ReferenceInfo
}

// unless returns the names outside of which an expression has the value
// outcome, whatever else is true or goes wrong in it: in CEL, false && error
// is false and true || error is true, in either order.
func (s pinner) unless(expr celast.Expr, outcome bool) *pins {
	if expr.Kind() != celast.CallKind {
		return nil
	}
	call := expr.AsCall()
	decided, joined := operators.LogicalAnd, operators.LogicalOr
	if outcome {
		decided, joined = joined, decided
	}
	switch call.FunctionName() {
	case decided: // one operand is enough
		return smallest(s.unless(call.Args()[0], outcome), s.unless(call.Args()[1], outcome))
	case joined:
		return union(s.unless(call.Args()[0], outcome), s.unless(call.Args()[1], outcome))
	case operators.LogicalNot:
		return s.unless(call.Args()[0], !outcome)
	case operators.Equals:
		if !outcome {
			return s.literals(call.Args()[0], call.Args()[1])
		}
	case operators.NotEquals:
		if outcome {
			return s.literals(call.Args()[0], call.Args()[1])
		}
	case operators.In:
		if kind := s.kindOf(call.Args()[0]); !outcome && kind != mcpwire.NoTarget {
			return literalList(kind, call.Args()[1])
		}
	}
	return nil
}

// literals are the names of a comparison.
func (s pinner) literals(left, right celast.Expr) *pins {
	if s.kindOf(left) == mcpwire.NoTarget {
		left, right = right, left
	}
	kind := s.kindOf(left)
	name, ok := literalText(right)
	if kind == mcpwire.NoTarget || !ok {
		return nil
	}
	return &pins{kind, []string{name}}
}

func (s pinner) kindOf(expr celast.Expr) mcpwire.TargetKind {
	if reference := s.references[expr.ID()]; reference != nil {
		return nameVariables[strings.TrimPrefix(reference.Name, ".")]
	}
	return mcpwire.NoTarget
}

func literalText(expr celast.Expr) (string, bool) {
	if expr.Kind() != celast.LiteralKind {
		return "", false
	}
	text, ok := expr.AsLiteral().(types.String)
	return string(text), ok
}

func literalList(kind mcpwire.TargetKind, expr celast.Expr) *pins {
	if expr.Kind() != celast.ListKind {
		return nil
	}
	p := &pins{kind: kind}
	for _, element := range expr.AsList().Elements() {
		name, ok := literalText(element)
		if !ok {
			return nil
		}
		p.names = append(p.names, name)
	}
	return p
}

func smallest(a, b *pins) *pins {
	if a == nil || b != nil && len(b.names) < len(a.names) {
		return b
	}
	return a
}

func union(a, b *pins) *pins {
	if a == nil || b == nil || a.kind != b.kind {
		return nil
	}
	return &pins{a.kind, append(append([]string(nil), a.names...), b.names...)}
}

// kinds is how many kinds of targets there are, with none.
const kinds = int(mcpwire.Task) + 1

// indexed is a list of rules, or parts of them, that finds those which say
// anything about one target.
type indexed[C any] struct {
	list []C
	// general are the numbers of those to evaluate for every name of a kind,
	// pinned of those for one name more; both ascending.
	general [kinds][]int
	pinned  [kinds]map[string][]int
}

// add appends one, which is decided by a part.
func (x *indexed[C]) add(c C, p *part) {
	number := len(x.list)
	x.list = append(x.list, c)
	for kind := range mcpwire.TargetKind(kinds) {
		if !p.applies(mayCall, kind) {
			continue
		}
		if p.pins == nil || p.pins.kind != kind {
			x.general[kind] = append(x.general[kind], number)
			continue
		}
		if x.pinned[kind] == nil {
			x.pinned[kind] = make(map[string][]int)
		}
		for _, name := range p.pins.names {
			if list := x.pinned[kind][name]; len(list) == 0 || list[len(list)-1] != number {
				x.pinned[kind][name] = append(list, number)
			}
		}
	}
}

// about returns those that a question is for: all of them, unless it is about
// one target.
func (x *indexed[C]) about(q question, what *subject) walk {
	if q != mayCall && q != isVisible {
		return walk{number: -1, all: len(x.list)}
	}
	return walk{general: x.general[what.kind], pinned: x.pinned[what.kind][what.name]}
}

// walk goes through numbers in ascending order: through all of them, or
// through two ascending lists at once.
type walk struct {
	number          int
	all             int
	general, pinned []int
}

// next goes on to the next number; false at the end.
func (w *walk) next() bool {
	if w.all > 0 {
		w.number++
		return w.number < w.all
	}
	list := &w.general
	if len(w.pinned) > 0 && (len(w.general) == 0 || w.pinned[0] < w.general[0]) {
		list = &w.pinned
	}
	if len(*list) == 0 {
		return false
	}
	w.number, *list = (*list)[0], (*list)[1:]
	return true
}
