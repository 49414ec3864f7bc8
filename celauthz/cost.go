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

// countable are the functions whose cost is known: it grows with the size of
// what they are given, and their results are no larger than that.
var countable = map[string]bool{
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.Conditional: true,
	operators.Equals: true, operators.NotEquals: true, operators.In: true, operators.Index: true,
	operators.Less: true, operators.LessEquals: true, operators.Greater: true, operators.GreaterEquals: true,
	overloads.StartsWith: true, overloads.EndsWith: true, overloads.Contains: true, overloads.Size: true,
}

// staysBelow reports whether no evaluation of an expression with small input
// could cost more than limit.
func staysBelow(checked *celast.AST, limit uint64) bool {
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
	estimate, err := cost.Cost(checked, smallSizes{})
	return err == nil && estimate.Max <= limit
}

// smallSizes are the sizes of small input.
type smallSizes struct{}

// EstimateSize implements cost.Estimator.
func (smallSizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	if e := element.Expr(); e == nil || !isInput(e) {
		return nil
	}
	return &cost.SizeEstimate{Max: smallInput}
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
func (smallSizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
