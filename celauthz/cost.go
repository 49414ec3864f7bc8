package celauthz

import (
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
)

// smallInput is the size, in bytes of JSON, up to which a request and the
// claims of its token are small: then the bound of some expressions can be
// computed when they are compiled, and need not be counted at each
// evaluation. Counting costs as much again as evaluating.
const smallInput = 16 << 10

// anyInput is more than any input may have. Where even that has a bound, the
// cost does not grow with the input, as that of a comparison with a literal.
const anyInput = 1 << 40

// countable are the functions whose cost is known: it grows with the size of
// what they are given, and their results are no larger than that.
var countable = map[string]bool{
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.Conditional: true,
	operators.Equals: true, operators.NotEquals: true, operators.In: true, operators.Index: true,
	operators.Less: true, operators.LessEquals: true, operators.Greater: true, operators.GreaterEquals: true,
	overloads.StartsWith: true, overloads.EndsWith: true, overloads.Contains: true, overloads.Size: true,
}

// staysBelow reports whether no evaluation of an expression could cost more
// than limit, with input of up to so many bytes.
func staysBelow(checked *celast.AST, limit, size uint64) bool {
	known := true
	celast.PreOrderVisit(checked.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.CallKind:
			known = known && countable[e.AsCall().FunctionName()]
		case celast.IdentKind, celast.SelectKind, celast.LiteralKind, celast.ListKind:
		default:
			known = false
		}
	}))
	if !known {
		return false
	}
	estimate, err := cost.Cost(checked, sizes{size})
	return err == nil && estimate.Max <= limit
}

// sizes says how large input may be.
type sizes struct{ largest uint64 }

// EstimateSize implements cost.Estimator.
func (s sizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	if e := element.Expr(); e == nil || !isInput(e) {
		return nil
	}
	return &cost.SizeEstimate{Max: s.largest}
}

// isInput reports whether an expression is a part of the input as it is.
func isInput(e celast.Expr) bool {
	switch e.Kind() {
	case celast.IdentKind:
		return true
	case celast.SelectKind:
		return isInput(e.AsSelect().Operand())
	case celast.CallKind:
		return e.AsCall().FunctionName() == operators.Index && isInput(e.AsCall().Args()[0])
	default:
		return false
	}
}

// EstimateCallCost implements cost.Estimator.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
