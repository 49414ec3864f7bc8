package celauthz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// questionNames are what questions are called in explanations.
var questionNames = [...]string{
	mayCall: "call", isVisible: "entry", mayPass: "request", mayPassUnknown: "unknown_method", mayAnything: "anything",
}

// explainQuestion asks every rule what decide asks until one decides.
func (h *Handler) explainQuestion(ctx context.Context, who *caller, q question, what subject, d decision) Question {
	ctx, cancel := context.WithTimeout(ctx, decisionDeadline)
	defer cancel()
	asked := Question{Asked: questionNames[q], Method: what.method, Target: what.name, Allowed: d.allowed, Rule: d.rule}
	a := &activation{caller: who, subject: &what}
	names := h.RuleNames()
	for i, rule := range h.Rules {
		a.open = q.open(rule.Action, what.kind)
		asked.Rules = append(asked.Rules, h.policy.explainRule(ctx, q, a, names[i], rule.Action))
	}
	return asked
}

func (p *policy) explainRule(ctx context.Context, q question, a *activation, name string, action Action) RuleVerdict {
	v := RuleVerdict{Name: name, Action: action, Effect: "none"}
	switch action {
	case Allow:
		for i := range p.allows.list {
			c := &p.allows.list[i]
			if c.rule != name {
				continue
			}
			e := ExpressionVerdict{Expression: c.parts[0].from.text, Verdict: doesNotApply}
			if c.applies(q, a.kind) {
				e = explainParts(ctx, a, c.parts, isFalse, func(*part) bool { return true })
				if couldBeTrue(ctx, q, a, c.parts) {
					v.Effect = "grants"
				}
			}
			v.Expressions = append(v.Expressions, e)
		}
	case Deny:
		v.explainClauses(ctx, q, a, p.denies.list, isTrue)
	case Require:
		v.explainClauses(ctx, q, a, p.requires.list, isFalse)
	}
	return v
}

// explainClauses asks the parts of a deny or require; decisive is the verdict
// of one of them that settles it.
func (v *RuleVerdict) explainClauses(ctx context.Context, q question, a *activation, clauses []clause, decisive verdict) {
	effect, takesEffect := "denies", verdict.denies
	if decisive == isFalse {
		effect, takesEffect = "fails", verdict.fails
	}
	var parts []*part
	ask := func() {
		if len(parts) > 0 {
			v.Expressions = append(v.Expressions, explainParts(ctx, a, parts, decisive, func(p *part) bool { return p.applies(q, a.kind) }))
		}
		parts = nil
	}
	for _, c := range clauses {
		if c.rule != v.Name {
			continue
		}
		if len(parts) > 0 && parts[0].from != c.part.from {
			ask()
		}
		parts = append(parts, c.part)
		if c.part.applies(q, a.kind) && takesEffect(c.part.eval(ctx, a)) {
			v.Effect = effect
		}
	}
	ask()
}

const doesNotApply = "does-not-apply"

// explainParts asks those parts of one expression that are asked for a
// decision; decisive is the verdict of one of them that is the verdict of all.
func explainParts(ctx context.Context, a *activation, parts []*part, decisive verdict, asked func(*part) bool) ExpressionVerdict {
	e := ExpressionVerdict{Expression: parts[0].from.text}
	for _, p := range parts {
		one := ExpressionVerdict{Expression: p.text, Verdict: doesNotApply}
		if asked(p) {
			one.Verdict, one.Detail = p.explain(ctx, a)
		}
		e.Parts = append(e.Parts, one)
	}
	for _, v := range []verdict{decisive, isError, isUnknown, isTrue, isFalse} {
		i := slices.IndexFunc(e.Parts, func(p ExpressionVerdict) bool { return p.Verdict == v.String() })
		if i >= 0 {
			e.Verdict, e.Detail = e.Parts[i].Verdict, e.Parts[i].Detail
			break
		}
	}
	if e.Verdict == "" {
		e.Verdict = doesNotApply
	}
	if len(parts) == 1 {
		e.Parts = nil
	}
	return e
}

// explain is eval with words.
func (p *part) explain(ctx context.Context, a *activation) (v, detail string) {
	out, err := p.evaluate(ctx, a)
	switch found := readVerdict(out, err); {
	case err != nil:
		return found.String(), err.Error()
	case found == isError:
		return found.String(), fmt.Sprintf("is not true or false, but %s", out.Type().TypeName())
	case found == isUnknown:
		return found.String(), "depends on " + strings.Join(openNames(out), ", ")
	default:
		return found.String(), ""
	}
}

// openNames are what an unknown value depends on.
func openNames(out ref.Val) (names []string) {
	unknown, ok := out.(*types.Unknown)
	if !ok {
		return nil
	}
	for _, id := range unknown.IDs() {
		trails, _ := unknown.GetAttributeTrails(id)
		for _, trail := range trails {
			if name := trail.String(); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}
