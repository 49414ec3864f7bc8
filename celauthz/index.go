package celauthz

import (
	"slices"
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// pins are the only names of targets of one kind for which a part has to be
// evaluated: those that are listed, and those with one of the affixes. For
// every other name its value is known. nil means every name.
type pins struct {
	kind    mcpwire.TargetKind
	names   []string
	affixes []affix
}

// affix is a text that a name begins with, ends with or contains.
type affix struct {
	place place
	text  string
}

// place is where in a name an affix stands.
type place uint8

const (
	atStart place = iota
	atEnd
	anywhere
)

// affixTests are the functions of CEL that look for an affix, by their
// overload.
var affixTests = map[string]place{
	overloads.StartsWithString: atStart,
	overloads.EndsWithString:   atEnd,
	overloads.ContainsString:   anywhere,
}

// isIn reports whether a name has the affix. The functions of CEL do the same.
func (a affix) isIn(name string) bool {
	switch a.place {
	case atStart:
		return strings.HasPrefix(name, a.text)
	case atEnd:
		return strings.HasSuffix(name, a.text)
	default:
		return strings.Contains(name, a.text)
	}
}

// include reports whether a name is one of them.
func (p *pins) include(name string) bool {
	return slices.ContainsFunc(p.affixes, func(a affix) bool { return a.isIn(name) }) || slices.Contains(p.names, name)
}

// areFound reports whether an index finds them without a look at each.
func (p *pins) areFound() bool {
	return !slices.ContainsFunc(p.affixes, func(a affix) bool { return a.place == anywhere })
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
	default:
		if !outcome {
			return s.affix(expr)
		}
	}
	return nil
}

// affix are the names for which a test such as startsWith is true.
func (s pinner) affix(expr celast.Expr) *pins {
	call := expr.AsCall()
	reference := s.references[expr.ID()]
	if !call.IsMemberFunction() || len(call.Args()) != 1 || reference == nil || len(reference.OverloadIDs) != 1 {
		return nil
	}
	test, isTest := affixTests[reference.OverloadIDs[0]]
	kind := s.kindOf(call.Target())
	text, ok := literalText(call.Args()[0])
	if !isTest || kind == mcpwire.NoTarget || !ok {
		return nil
	}
	return &pins{kind: kind, affixes: []affix{{test, text}}}
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
	return &pins{kind: kind, names: []string{name}}
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

// smallest prefers names, which are found without asking each rule.
func smallest(a, b *pins) *pins {
	switch {
	case a == nil:
		return b
	case b == nil, len(a.affixes) < len(b.affixes):
		return a
	case len(a.affixes) == len(b.affixes) && len(a.names) <= len(b.names):
		return a
	default:
		return b
	}
}

func union(a, b *pins) *pins {
	if a == nil || b == nil || a.kind != b.kind {
		return nil
	}
	return &pins{a.kind, slices.Concat(a.names, b.names), slices.Concat(a.affixes, b.affixes)}
}
