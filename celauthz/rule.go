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
	// counted counts what an evaluation costs; nil where none can cost too
	// much. The uncounted one is for small input, where few do; nil where that
	// cannot be known.
	counted, uncounted cel.Program
	relevance
	// loops: it iterates or searches texts, so its evaluation watches the
	// deadline.
	loops bool
	// text is the part as it was written, but for white space and the like.
	text string
	// from is its expression, of which it is this operand.
	from    *expression
	operand int
}

// relevance tells which questions something has to be asked.
type relevance struct {
	// dependsOn is what it reads.
	dependsOn reads
	// pins are the names for which it has to be evaluated; nil for all.
	pins *pins
}

// applies reports whether it says anything about a question: what mentions
// only targets of another kind does not.
func (x relevance) applies(q question, kind mcpwire.TargetKind) bool {
	targets := x.dependsOn & readsTarget
	if targets == 0 || (q != mayCall && q != isVisible) {
		return true
	}
	return targets&kindReads(kind) != 0
}

// expression is what parts were made from: the operands of the operator at its
// top, or all of it. Its syntax tree is not kept, for there may be thousands of
// rules.
type expression struct {
	text, operator string
}

// eval asks the part. It never panics, and whatever goes wrong is isError.
func (p *part) eval(ctx context.Context, a *activation) verdict {
	if !a.remembers || p.loops || p.dependsOn&(readsName|readsNow) != 0 {
		return readVerdict(p.evaluate(ctx, a))
	}
	key := remembered{p, a.kind}
	v, known := a.remembered[key]
	if !known {
		v = readVerdict(p.evaluate(ctx, a))
		if a.remembered == nil {
			a.remembered = make(map[remembered]verdict)
		}
		a.remembered[key] = v
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
	program := p.counted
	if p.uncounted != nil && (program == nil || a.isSmall()) {
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

// parsed is an expression that has been parsed and checked.
type parsed struct {
	*expression
	ast *celast.AST
	env *cel.Env
}

func (e *expression) parse() (*parsed, error) {
	checked, err := compile(e.text)
	if err != nil {
		return nil, err
	}
	env, err := planningEnvironment(checked.NativeRep())
	if err != nil {
		return nil, err
	}
	return &parsed{e, checked.NativeRep(), env}, nil
}

// operands are what the parts of the expression are made from.
func (e *parsed) operands() []celast.Expr {
	return operands(e.ast.Expr(), e.operator)
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

// build makes a part of each operand, for questions that may leave open.
func (e *parsed) build(open reads) ([]*part, error) {
	var parts []*part
	for i, expr := range e.operands() {
		p := &part{text: e.textOf(expr), from: e.expression, operand: i}
		p.read(expr, e.ast.ReferenceMap())
		if err := e.plan(p, expr, p.dependsOn&open != 0); err != nil {
			return nil, fmt.Errorf("cannot be planned: %w", err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (e *parsed) textOf(expr celast.Expr) string {
	if expr.ID() == e.ast.Expr().ID() {
		return e.text
	}
	text, err := cel.ExprToString(expr, e.ast.SourceInfo())
	if err != nil {
		return e.text
	}
	return text
}

// read finds what the part reads, and whether it loops.
func (p *part) read(expr celast.Expr, references map[int64]*celast.ReferenceInfo) {
	celast.PostOrderVisit(expr, celast.NewExprVisitor(func(inner celast.Expr) {
		switch inner.Kind() {
		case celast.ComprehensionKind:
			p.loops = true
		case celast.CallKind:
			name := inner.AsCall().FunctionName()
			p.loops = p.loops || name == "matches" || strings.HasPrefix(name, "regex.")
		default:
		}
		if reference := references[inner.ID()]; reference != nil {
			p.dependsOn |= dependencies[strings.TrimPrefix(reference.Name, ".")]
		}
	}))
}

// plan makes the programs of a part; partial, if something that it reads may
// be open.
func (e *parsed) plan(p *part, expr celast.Expr, partial bool) (err error) {
	options := []cel.EvalOption{cel.OptOptimize}
	if partial {
		options = append(options, cel.OptPartialEval)
	}
	sub := celast.NewCheckedAST(celast.NewAST(expr, e.ast.SourceInfo()), e.ast.TypeMap(), e.ast.ReferenceMap())
	isBounded := staysBelow(sub, costLimit, anyInput)
	if isBounded || p.dependsOn&readsRequest == 0 && staysBelow(sub, costLimit, smallInput) {
		if p.uncounted, err = e.env.PlanProgram(sub, cel.EvalOptions(options...)); err != nil || isBounded {
			return err
		}
	}
	p.counted, err = e.env.PlanProgram(sub, cel.EvalOptions(options...), cel.CostLimit(costLimit), cel.InterruptCheckFrequency(interruptEvery))
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
	operator := operators.LogicalAnd
	if act == Deny {
		operator = operators.LogicalOr
	}
	e, err := (&expression{text, operator}).parse()
	if err != nil {
		return nil, err
	}
	parts, err := e.build(leftOpen)
	if err != nil {
		return nil, err
	}
	pin := pinner{e.ast.ReferenceMap()}
	for i, expr := range e.operands() {
		// a require says nothing when it is true, the others when it is false
		parts[i].pins = pin.unless(expr, act == Require)
	}
	if act != Allow {
		return parts, checkKinds(parts)
	}
	for _, p := range parts {
		if p.isGate() && p.counted != nil {
			p.uncounted = nil // it is asked once a token, and may as well be counted
		}
	}
	return parts, nil
}
