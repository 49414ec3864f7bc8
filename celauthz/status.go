package celauthz

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json"

	"github.com/caddymcp/gateway/internal/app"
	"github.com/caddymcp/gateway/internal/cfutil"
)

// Status is a policy as the admin API shows it: as it was written, with
// placeholders in place of their values, which may be secret.
type Status struct {
	Target       string              `json:"target,omitempty"`
	OnDeny       string              `json:"on_deny"`
	Shadow       bool                `json:"shadow"`
	Rules        []Rule              `json:"rules"`
	Scopes       []Scope             `json:"scopes,omitempty"`
	ScopeImplies map[string][]string `json:"scope_implies,omitempty"`
}

// policyStatus is what the admin API gets to see of a handler.
type policyStatus struct {
	handler *Handler
	written Status
}

// Status implements app.Policy.
func (p *policyStatus) Status() any { return p.written }

// ExplainJSON implements app.Policy: it reads an Operation.
func (p *policyStatus) ExplainJSON(ctx context.Context, text []byte) (any, error) {
	var o Operation
	if err := json.Unmarshal(text, &o, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("the operation: %w", err)
	}
	explanation, err := p.handler.Explain(ctx, &o)
	if err != nil {
		return nil, err
	}
	p.written.hideValues(explanation)
	return explanation, nil
}

// hideValues puts the expressions that have placeholders back as they were
// written, and takes out what was said about their parts.
func (s *Status) hideValues(explanation *Explanation) {
	for _, question := range explanation.Questions {
		for i := range question.Rules {
			for k := range question.Rules[i].Expressions {
				if written := s.Rules[i].MatchExpressions[k]; cfutil.HasPlaceholder(written) {
					verdict := question.Rules[i].Expressions[k].Verdict
					question.Rules[i].Expressions[k] = ExpressionVerdict{Expression: written, Verdict: verdict}
				}
			}
		}
	}
}

// asWritten copies the options before their placeholders are replaced.
func (h *Handler) asWritten() Status {
	status := Status{Target: h.Target, OnDeny: h.OnDeny, Shadow: h.Shadow, ScopeImplies: maps.Clone(h.ScopeImplies)}
	if status.OnDeny == "" {
		status.OnDeny = OnDenyHide
	}
	names, err := ruleNames(h.Rules)
	if err != nil {
		return status // it will not load
	}
	for i, rule := range h.Rules {
		status.Rules = append(status.Rules, Rule{names[i], rule.Action, slices.Clone(rule.MatchExpressions)})
	}
	for _, scope := range h.Scopes {
		if scope != nil {
			status.Scopes = append(status.Scopes, *scope)
		}
	}
	return status
}

// showPolicy lets the admin API see the policy.
func (h *Handler) showPolicy(ctx caddy.Context, written Status) error {
	mcp, err := app.From(ctx)
	if err != nil {
		return err
	}
	mcp.AddPolicy(&policyStatus{h, written})
	return nil
}
