package celauthz

import (
	"context"
	"net/http"
	"slices"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Explanation is a decision, and what every rule had to say about it.
type Explanation struct {
	// `allow` or `deny`, as in the log.
	Decision string `json:"decision"`

	// What the caller meets: `allow`; `hidden`, as if the target did not
	// exist; `scope`, when a scope would help; `deny` otherwise.
	Outcome string `json:"outcome"`

	// The rule that decided: `default` when none did, `scope` when a scope
	// is missing.
	Rule string `json:"rule"`

	// Why, in words.
	Summary string `json:"summary"`

	// What the gateway answers; null when the request goes on, and for an
	// entry of a list.
	Answer *Answer `json:"answer"`

	// Every question that was asked on the way, in order. The first one
	// that is not allowed decided.
	Questions []Question `json:"questions"`

	// The scopes that operations need; asked once the rules allow.
	Scopes []ScopeVerdict `json:"scopes,omitempty"`
}

// Answer is what the caller gets instead of the server's answer.
type Answer struct {
	Status int `json:"status"`
	// A line of text, or a JSON-RPC error; its id is 1.
	Body string `json:"body"`
	// All scopes that the operation needs, in a challenge insufficient_scope.
	Scopes []string `json:"scopes,omitempty"`
}

// Question is one of the questions that an operation raises.
type Question struct {
	// `call`: may this call happen? `entry`: may this entry of a list be
	// seen, whatever its arguments? `request`: may this request without a
	// target pass? `unknown_method`: the same for a method that the
	// specification lacks. `anything`: is anything at all allowed?
	Asked   string        `json:"asked"`
	Method  string        `json:"method"`
	Target  string        `json:"target,omitzero"`
	Allowed bool          `json:"allowed"`
	Rule    string        `json:"rule"`
	Rules   []RuleVerdict `json:"rules"`
}

// RuleVerdict is what one rule says about a question.
type RuleVerdict struct {
	Name   string `json:"name"`
	Action Action `json:"action"`
	// What follows from it: `grants`, `denies`, `fails` (a require that is
	// not met), or `none`.
	Effect      string              `json:"effect"`
	Expressions []ExpressionVerdict `json:"expressions"`
}

// ExpressionVerdict is what an expression, or a part of one, says.
type ExpressionVerdict struct {
	Expression string `json:"expression"`
	// `true`, `false`, `error`, `unknown` (it depends on what the question
	// leaves open), or `does-not-apply`.
	Verdict string `json:"verdict"`
	// What the error is, or what it depends on.
	Detail string `json:"detail,omitzero"`
	// The parts that are judged by themselves, when there are several.
	Parts []ExpressionVerdict `json:"parts,omitempty"`
}

// ScopeVerdict says whether a scope is needed, and whether the token has it.
type ScopeVerdict struct {
	Scope   string `json:"scope"`
	Needed  bool   `json:"needed"`
	Granted bool   `json:"granted"`
}

// Explain decides about an operation as ServeHTTP does, by the same code, and
// tells what every rule said. It passes nothing on. The handler must have
// been compiled; an error means that the operation makes no sense.
func (h *Handler) Explain(ctx context.Context, o *Operation) (*Explanation, error) {
	in, entry, err := o.incoming()
	if err != nil {
		return nil, err
	}
	m := in.first()
	who, err := h.callerOf(o, m)
	if err != nil {
		return nil, err
	}
	e := new(Explanation)
	who.asked = func(q question, what subject, d decision) {
		e.Questions = append(e.Questions, h.explainQuestion(ctx, who, q, what, d))
	}
	j, _, needed := h.judge(ctx, who, in)
	if kind := listKinds[o.Method]; entry != "" && j.outcome == allowed {
		d := h.policy.visible(ctx, who, kind, entry)
		if j.rule = d.rule; !d.allowed {
			j.outcome = hidden
		}
	} else {
		e.Answer = h.answerTo(m, who, j, needed)
	}
	who.asked = nil
	e.Decision, e.Outcome = "deny", h.outcomeOf(j, entry != "")
	if j.outcome == allowed {
		e.Decision = "allow"
	}
	e.Rule, e.Summary = j.rule, j.summary()
	e.Scopes = h.scopeVerdicts(ctx, who, in)
	return e, nil
}

// outcomeOf is what the caller meets; lists are filtered with on_deny forbid
// as well.
func (h *Handler) outcomeOf(j judgement, isEntry bool) string {
	switch j.outcome {
	case allowed:
		return "allow"
	case hidden:
		if h.OnDeny == OnDenyForbid && !isEntry {
			return "deny"
		}
		return "hidden"
	case unscoped:
		return "scope"
	default:
		return "deny"
	}
}

func (j judgement) summary() string {
	var why string
	switch j.outcome {
	case allowed:
		if j.rule == DefaultRule {
			return "nothing denies it, and there is no allow"
		}
		return "allowed by " + j.rule
	case hopeless:
		why = "nothing at all is allowed to this caller"
	case hidden:
		why = "this caller can never use the target"
	case refused:
		why = "this caller may use the target, but not like this"
	case unscoped:
		return "the rules allow it, but the token lacks a scope"
	case unknownMethod:
		why = "the specification does not have this method"
	default:
		why = "this may not pass"
	}
	if j.rule == DefaultRule {
		return why + ": no allow grants it"
	}
	return why + ": refused by " + j.rule
}

// answerTo is what a caller with a token gets.
func (h *Handler) answerTo(m *mcpwire.Message, who *caller, j judgement, needed []string) *Answer {
	switch j.outcome {
	case allowed:
		return nil
	case unscoped:
		return &Answer{Status: http.StatusForbidden, Body: "authorization failed: the token lacks a scope", Scopes: needed}
	}
	f := h.refusal(m, who.version, j)
	body := f.text
	if f.rpc != nil {
		body = string(f.rpc)
	}
	return &Answer{Status: f.status, Body: body}
}

// scopeVerdicts asks each scope by itself, as missing does.
func (h *Handler) scopeVerdicts(ctx context.Context, who *caller, in *incoming) []ScopeVerdict {
	var list []ScopeVerdict
	m := in.first()
	if m == nil {
		m = &mcpwire.Message{Known: true}
	}
	needed, granted := h.scopes.needed(ctx, who, m, nil), who.scopeList()
	for _, need := range h.scopes.needs {
		list = append(list, ScopeVerdict{need.scope, slices.Contains(needed, need.scope), slices.Contains(granted, need.scope)})
	}
	return list
}

// RuleNames are the names of the rules in their order, as logs have them.
func (h *Handler) RuleNames() []string {
	names, _ := ruleNames(h.Rules) // an error would not have compiled
	return names
}
