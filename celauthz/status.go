package celauthz

import (
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/gateway/internal/app"
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
