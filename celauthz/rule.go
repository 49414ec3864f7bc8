package celauthz

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// verdict is what an expression says about a question.
type verdict uint8

const (
	isFalse verdict = iota
	isTrue
	// isError: a missing claim, a wrong type, a bound that was hit.
	isError
	// isUnknown: it depends on something the question leaves open.
	isUnknown
)

func (v verdict) String() string {
	return [...]string{isFalse: "false", isTrue: "true", isError: "error", isUnknown: "unknown"}[v]
}

// denies reports whether a deny with this verdict fires.
func (v verdict) denies() bool { return v == isTrue || v == isError }

// fails reports whether a require with this verdict is not met.
func (v verdict) fails() bool { return v == isFalse || v == isError }

// part is an expression, or one of the parts that && or || join at its top:
// the smallest thing that is judged by itself.
type part struct {
	// program counts what an evaluation costs. The uncounted one is for small
	// input, where none can cost too much; nil where that cannot be known.
	program, uncounted cel.Program
	about
	// loops: it iterates or searches texts, so its evaluation watches the
	// deadline.
	loops bool
	// expr is the part in its expression, for those who ask why.
	expr celast.Expr
	from *expression
}

// about tells which questions something has to be asked.
type about struct {
	// dependsOn is what it reads.
	dependsOn reads
	// pins are the names for which it has to be evaluated; nil for all.
	pins *pins
}

// applies reports whether it says anything about a question: what mentions
// only targets of another kind does not.
func (x about) applies(q question, kind mcpwire.TargetKind) bool {
	targets := x.dependsOn & readsTarget
	if targets == 0 || (q != mayCall && q != isVisible) {
		return true
	}
	return targets&kindReads(kind) != 0
}

// expression is what parts were made from.
type expression struct {
	text string
	ast  *celast.AST
	env  *cel.Env
}

// eval asks the part. It never panics, and whatever goes wrong is isError.
func (p *part) eval(ctx context.Context, a *activation) verdict {
	if !a.remembers || p.loops || p.dependsOn&(readsName|readsNow) != 0 {
		return readVerdict(p.evaluate(ctx, a))
	}
	key := remembered{p, a.kind}
	v, known := a.memory[key]
	if !known {
		v = readVerdict(p.evaluate(ctx, a))
		if a.memory == nil {
			a.memory = make(map[remembered]verdict)
		}
		a.memory[key] = v
	}
	return v
}

// remembered is a part that does not look at the name of a target: it says
// the same of all entries of a kind that one caller may see.
type remembered struct {
	part *part
	kind mcpwire.TargetKind
}

var errPanic = errors.New("the evaluation panicked")

// evaluate returns the value of the part, or what went wrong.
func (p *part) evaluate(ctx context.Context, a *activation) (out ref.Val, err error) {
	defer func() {
		if recover() != nil {
			out, err = nil, errPanic
		}
	}()
	program := p.program
	if p.uncounted != nil && a.isSmall() {
		program = p.uncounted
	}
	if p.loops {
		// inside an expression the deadline is looked at in loops only
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out, _, err = program.ContextEval(ctx, a)
	} else {
		out, _, err = program.Eval(a)
	}
	return out, err
}

// readVerdict reads the outcome of an evaluation.
func readVerdict(out ref.Val, err error) verdict {
	if err != nil {
		return isError
	}
	switch value := out.(type) {
	case types.Bool:
		if value {
			return isTrue
		}
		return isFalse
	case *types.Unknown:
		return isUnknown
	default:
		return isError
	}
}

// parseExpression parses and checks an expression.
func parseExpression(text string) (*expression, error) {
	checked, err := compile(text)
	if err != nil {
		return nil, err
	}
	env, err := planningEnvironment(checked.NativeRep())
	if err != nil {
		return nil, err
	}
	return &expression{text, checked.NativeRep(), env}, nil
}

// split builds one part for each operand of the operator at the top of the
// expression, or one for all of it.
func (e *expression) split(operator string) ([]*part, error) {
	var parts []*part
	for _, operand := range operands(e.ast.Expr(), operator) {
		p, err := e.build(operand, leftOpen)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// operands flattens a && b && c.
func operands(expr celast.Expr, operator string) []celast.Expr {
	if expr.Kind() != celast.CallKind || expr.AsCall().FunctionName() != operator {
		return []celast.Expr{expr}
	}
	var list []celast.Expr
	for _, argument := range expr.AsCall().Args() {
		list = append(list, operands(argument, operator)...)
	}
	return list
}

// build makes a part of an operand, for questions that may leave open.
func (e *expression) build(operand celast.Expr, open reads) (*part, error) {
	p := &part{expr: operand, from: e}
	celast.PostOrderVisit(operand, celast.NewExprVisitor(func(inner celast.Expr) {
		switch inner.Kind() {
		case celast.ComprehensionKind:
			p.loops = true
		case celast.CallKind:
			name := inner.AsCall().FunctionName()
			p.loops = p.loops || name == "matches" || strings.HasPrefix(name, "regex.")
		default:
		}
		if reference := e.ast.ReferenceMap()[inner.ID()]; reference != nil {
			p.dependsOn |= dependencies[strings.TrimPrefix(reference.Name, ".")]
		}
	}))
	return p, p.plan(p.dependsOn&open != 0)
}

// plan makes the programs of a part; partial, if something that it reads may
// be open.
func (p *part) plan(partial bool) (err error) {
	options := []cel.EvalOption{cel.OptOptimize}
	if partial {
		options = append(options, cel.OptPartialEval)
	}
	ast, env := p.from.ast, p.from.env
	sub := celast.NewCheckedAST(celast.NewAST(p.expr, ast.SourceInfo()), ast.TypeMap(), ast.ReferenceMap())
	if p.dependsOn&readsRequest == 0 && staysBelow(sub, costLimit) {
		if p.uncounted, err = env.PlanProgram(sub, cel.EvalOptions(options...)); err != nil {
			return err
		}
	}
	p.program, err = env.PlanProgram(sub, cel.EvalOptions(options...), cel.CostLimit(costLimit), cel.InterruptCheckFrequency(interruptEvery))
	return err
}

var errTwoKinds = errors.New("one part mentions targets of two kinds, and no operation has both: " +
	"write them as two rules, or join them with || in a deny and with && in a require")

// checkKinds refuses a part of a deny or require that could never be judged
// as a whole.
func checkKinds(parts []*part) error {
	for _, p := range parts {
		if bits.OnesCount16(uint16(p.dependsOn&readsTarget)) > 1 {
			return errTwoKinds
		}
	}
	return nil
}

// compileParts compiles an expression for an action.
func compileParts(text string, act Action) ([]*part, error) {
	e, err := parseExpression(text)
	if err != nil {
		return nil, err
	}
	operator := operators.LogicalAnd
	if act == Deny {
		operator = operators.LogicalOr
	}
	parts, err := e.split(operator)
	if err != nil {
		return nil, fmt.Errorf("cannot be planned: %w", err)
	}
	pin := pinner{e.ast.ReferenceMap()}
	for _, p := range parts {
		// a require says nothing when it is true, the others when it is false
		p.pins = pin.unless(p.expr, act == Require)
	}
	if act == Allow {
		return parts, nil
	}
	return parts, checkKinds(parts)
}
