package celauthz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// decisionDeadline bounds one decision, all rules together. The cost limit
// stops a single expression long before; this stops many of them.
const decisionDeadline = 500 * time.Millisecond

// Action is what a rule does when it applies.
type Action string

// The actions.
const (
	Allow   Action = "allow"
	Deny    Action = "deny"
	Require Action = "require"
)

const (
	// DefaultRule is the rule that decided when none did.
	DefaultRule = "default"
	// scopeRule stands for the scopes, which decide after the rules.
	scopeRule = "scope"
)

// Rule is one rule of the configuration.
type Rule struct {
	// Name appears in logs and answers. Default: the action and its number,
	// `allow#1`.
	Name string `json:"name,omitempty"`

	// `allow`, `deny` or `require`.
	Action Action `json:"action"`

	// CEL expressions. Any of them is enough for allow and deny, all of
	// them are needed for require.
	MatchExpressions []string `json:"match_expressions"`
}

// policy is a compiled set of rules. It never changes.
type policy struct {
	denies, requires indexed[clause]
	allows           indexed[allowClause]
	// loops: some rule iterates or searches, so decisions need a deadline.
	loops bool
	// dependsOn is what any of the rules reads.
	dependsOn reads
	// gated: some allow depends on the token in a part of its own.
	gated bool
}

// clause is one part of a deny or a require, with the rule it is from.
type clause struct {
	rule string
	part *part
}

// allowClause is one expression of an allow: the operands of its &&, all of
// which have to be true.
type allowClause struct {
	rule string
	relevance
	parts []*part
	// gates are the parts that nothing but the token decides.
	gates, others []*part
}

func newAllowClause(rule string, parts []*part) allowClause {
	c := allowClause{rule: rule, parts: parts}
	c.gates, c.others = gatesOf(parts)
	for _, part := range parts {
		c.dependsOn |= part.dependsOn
		c.pins = smallest(c.pins, part.pins)
	}
	return c
}

var errNoRules = errors.New("mcp_authorize needs at least one rule: allow, deny or require")

// compilePolicy compiles the rules. The error names the rule and says where
// in the expression it is wrong.
func compilePolicy(rules []*Rule) (*policy, error) {
	if len(rules) == 0 {
		return nil, errNoRules
	}
	names, err := ruleNames(rules)
	if err != nil {
		return nil, err
	}
	p := new(policy)
	for i, rule := range rules {
		if err := p.add(names[i], rule); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ruleNames gives every rule a name of its own.
func ruleNames(rules []*Rule) ([]string, error) {
	names := make([]string, 0, len(rules))
	numbers := make(map[Action]int)
	taken := map[string]bool{DefaultRule: true, scopeRule: true}
	for _, rule := range rules {
		if rule == nil {
			return nil, errors.New("a rule is null")
		}
		numbers[rule.Action]++
		name := rule.Name
		if name == "" {
			name = fmt.Sprintf("%s#%d", rule.Action, numbers[rule.Action])
		}
		if taken[name] {
			return nil, fmt.Errorf("rule name %q is taken", name)
		}
		taken[name] = true
		names = append(names, name)
	}
	return names, nil
}

// add compiles one rule into the policy.
func (p *policy) add(name string, rule *Rule) error {
	if err := p.addParts(name, rule); err != nil {
		return fmt.Errorf("rule %q: %w", name, err)
	}
	return nil
}

func (p *policy) addParts(name string, rule *Rule) error {
	switch rule.Action {
	case Allow, Deny, Require:
	default:
		return fmt.Errorf("unknown action %q; it is allow, deny or require", rule.Action)
	}
	if len(rule.MatchExpressions) == 0 {
		return errors.New("has no expression")
	}
	for _, expression := range rule.MatchExpressions {
		parts, err := compileParts(expression, rule.Action)
		if err != nil {
			return err
		}
		for _, part := range parts {
			p.loops = p.loops || part.loops
			p.dependsOn |= part.dependsOn
		}
		switch rule.Action {
		case Allow:
			c := newAllowClause(name, parts)
			p.gated = p.gated || len(c.gates) > 0
			p.allows.add(c, c.relevance)
		case Deny:
			for _, part := range parts {
				p.denies.add(clause{name, part}, part.relevance)
			}
		case Require:
			for _, part := range parts {
				p.requires.add(clause{name, part}, part.relevance)
			}
		}
	}
	return nil
}

// decision is the answer to a question.
type decision struct {
	allowed bool
	// rule is the one that decided.
	rule string
	// reason is why it refuses; "" when it allows.
	reason string
}

// Reasons of refusals, for logs: a closed set, with those of (*refusal).reason.
const (
	reasonDenied        = "denied"         // a deny applies
	reasonRequirement   = "required"       // a require is not true
	reasonNoAllow       = "not_allowed"    // no allow applies
	reasonRuleError     = "rule_error"     // a deny or require ended in an error
	reasonScope         = "missing_scope"  // the rules allow it, but the token lacks a scope
	reasonUnknownMethod = "unknown_method" // no allow names a method the specification lacks
)

// refusedBy is the refusal of a rule that does not say what it should.
func refusedBy(rule string, v verdict, reason string) decision {
	if v == isError {
		reason = reasonRuleError
	}
	return decision{false, rule, reason}
}

// question is what is asked of a policy. Each kind of question leaves other
// things open.
type question uint8

const (
	// mayCall: may this call happen? Nothing is open.
	mayCall question = iota
	// isVisible: may this entry of a list be seen? Its arguments are open.
	isVisible
	// mayPass: may this request without a target pass? Every target is
	// open, and for allow the method as well.
	mayPass
	// mayPassUnknown is mayPass for a method the specification does not
	// know: an allow has to be true and to name mcp.method.
	mayPassUnknown
	// mayAnything: is there anything at all that this caller may do? The
	// method is open for every rule.
	mayAnything
)

// open is what a question about a kind of target leaves open for rules of an
// action.
func (q question) open(act Action, kind mcpwire.TargetKind) []*cel.AttributePatternType {
	switch {
	case q == mayCall:
		return nil
	case q == isVisible:
		return openArguments[kind]
	case q == mayAnything, q == mayPass && act == Allow:
		return openTargetsAndMethod
	default:
		return openTargets
	}
}

// decide answers a question about a subject, and tells who wants to know.
func (p *policy) decide(ctx context.Context, q question, who *caller, what *subject) decision {
	d := p.answer(ctx, q, who, what)
	if who.asked != nil {
		who.asked(q, *what, d)
	}
	return d
}

// answer decides. Deny and require are asked before allow; whatever goes
// wrong refuses.
func (p *policy) answer(ctx context.Context, q question, who *caller, what *subject) decision {
	if p.loops {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, decisionDeadline)
		defer cancel()
	}
	a := &who.answering
	*a = activation{caller: who, subject: what, remembers: q == isVisible}
	a.open = q.open(Deny, what.kind)
	for w := p.denies.about(q, what, &who.found); w.next(); {
		c := &p.denies.list[w.number]
		if !c.part.applies(q, what.kind) {
			continue
		}
		if v := c.part.eval(ctx, a); v.denies() {
			return refusedBy(c.rule, v, reasonDenied)
		}
	}
	for w := p.requires.about(q, what, &who.found); w.next(); {
		c := &p.requires.list[w.number]
		if !c.part.applies(q, what.kind) {
			continue
		}
		if v := c.part.eval(ctx, a); v.fails() {
			return refusedBy(c.rule, v, reasonRequirement)
		}
	}
	return p.grant(ctx, q, a)
}

// grant looks for an allow.
func (p *policy) grant(ctx context.Context, q question, a *activation) decision {
	if len(p.allows.list) == 0 && q != mayPassUnknown {
		return decision{true, DefaultRule, ""}
	}
	a.open = q.open(Allow, a.kind)
	gates := p.gatesFor(a.caller)
	for w := p.allows.about(q, a.subject, &a.found); w.next(); {
		if gates.areClosed(w.number) {
			continue
		}
		c := &p.allows.list[w.number]
		if c.applies(q, a.kind) && gates.areOpen(ctx, w.number, c.gates, a) && couldBeTrue(ctx, q, a, c.others) {
			return decision{true, c.rule, ""}
		}
	}
	return decision{false, DefaultRule, reasonNoAllow}
}

// applies reports whether an allow says anything about a question.
func (c *allowClause) applies(q question, kind mcpwire.TargetKind) bool {
	if q == mayPassUnknown && c.dependsOn&readsMethod == 0 {
		return false
	}
	return c.relevance.applies(q, kind)
}

// couldBeTrue reports whether parts of an allow are true or, where the question
// leaves something open, could become true. They are judged one by one, because
// an error beside something open can never become true, and CEL would call the
// two together unknown.
func couldBeTrue(ctx context.Context, q question, a *activation, parts []*part) bool {
	for _, part := range parts {
		switch v := part.eval(ctx, a); {
		case v == isTrue:
		case v == isUnknown && q != mayCall && q != mayPassUnknown:
		default:
			return false
		}
	}
	return true
}
