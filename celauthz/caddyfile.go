package celauthz

import (
	"errors"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	mcp_authorize [<matcher>] {
//	    allow | deny | require <cel>
//	    allow | deny | require {
//	        name              <name>
//	        match_expressions <cel>...
//	    }
//	    scope         <scope> <cel>
//	    scope_implies <scope> <scope>...
//	    on_deny       hide | forbid
//	    target        <name>
//	    shadow
//	    max_body      <size>
//	    max_event     <size>
//	}
//
// Rules are compiled here already, so that a mistake is reported with its
// line. docs/mcp_authorize.md explains the options, docs/rules.md the rules.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	directive := d.Token()
	for d.NextBlock(0) {
		if err := h.unmarshalOption(d); err != nil {
			return err
		}
	}
	if len(h.Rules) == 0 {
		return cfutil.ErrAt(directive, errNoRules)
	}
	return nil
}

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case string(Allow), string(Deny), string(Require):
		return h.unmarshalRule(d, Action(option))
	case "scope":
		return h.unmarshalScope(d)
	case "scope_implies":
		return h.unmarshalScopeImplies(d)
	case "on_deny":
		if err := cfutil.OneArg(d, &h.OnDeny); err != nil {
			return err
		}
		if h.OnDeny != OnDenyHide && h.OnDeny != OnDenyForbid {
			return d.Errf("on_deny is hide or forbid, not %q", h.OnDeny)
		}
		return nil
	case "target":
		return cfutil.OneArg(d, &h.Target)
	case "shadow":
		if h.Shadow {
			return d.Err("shadow is given twice")
		}
		h.Shadow = true
		return cfutil.NoArgs(d)
	case "max_body":
		size, err := cfutil.Size(d, maxSize)
		h.MaxBody = size
		return err
	case "max_event":
		size, err := cfutil.Size(d, maxSize)
		h.MaxEvent = size
		return err
	default:
		return d.Errf("unrecognized option %q of mcp_authorize", option)
	}
}

func (h *Handler) unmarshalRule(d *caddyfile.Dispenser, action Action) error {
	start := d.Token()
	rule := &Rule{Action: action}
	// an expression need not be quoted as a whole; its own quotes stay then
	switch raw := d.RemainingArgsRaw(); len(raw) {
	case 0:
		for nesting := d.Nesting(); d.NextBlock(nesting); {
			if err := rule.unmarshalOption(d); err != nil {
				return err
			}
		}
	case 1:
		rule.MatchExpressions = []string{d.Val()}
	default:
		expression, err := joinExpression(raw)
		if err != nil {
			return cfutil.ErrAt(start, err)
		}
		rule.MatchExpressions = []string{expression}
	}
	if err := h.addRule(rule); err != nil {
		return cfutil.ErrAt(start, err)
	}
	return nil
}

var errBlanksLost = errors.New("put the expression into backticks: " +
	"the Caddyfile does not know single quotes, and would shorten the blanks between them")

// joinExpression puts together again what the Caddyfile took apart at blanks.
// An expression must come out as it was written, or not at all.
func joinExpression(raw []string) (string, error) {
	for i, token := range raw {
		switch {
		case len(token) > 1 && token[0] == '"':
			// a quote inside was written with a backslash, which is gone
			raw[i] = `"` + strings.ReplaceAll(token[1:len(token)-1], `"`, `\"`) + `"`
		case strings.Count(token, "'")%2 != 0:
			return "", errBlanksLost
		}
	}
	return strings.Join(raw, " "), nil
}

func (r *Rule) unmarshalOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case "name":
		return cfutil.OneArg(d, &r.Name)
	case "match_expressions":
		return cfutil.Args(d, &r.MatchExpressions)
	default:
		return d.Errf("unrecognized option %q of %s", option, r.Action)
	}
}

func (h *Handler) unmarshalScope(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	scope := &Scope{Scope: d.Val()}
	switch raw := d.RemainingArgsRaw(); len(raw) {
	case 0:
		return d.ArgErr()
	case 1:
		scope.When = d.Val()
	default:
		var err error
		if scope.When, err = joinExpression(raw); err != nil {
			return d.WrapErr(err)
		}
	}
	h.Scopes = append(h.Scopes, scope)
	if cfutil.HasPlaceholder(scope.When) || cfutil.HasPlaceholder(scope.Scope) {
		return nil
	}
	if _, err := compileScopes([]*Scope{scope}, nil); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (h *Handler) unmarshalScopeImplies(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.ArgErr()
	}
	for _, name := range args {
		if err := reqctx.CheckScope(name); err != nil {
			return d.WrapErr(err)
		}
	}
	if h.ScopeImplies == nil {
		h.ScopeImplies = make(map[string][]string)
	}
	h.ScopeImplies[args[0]] = append(h.ScopeImplies[args[0]], args[1:]...)
	return nil
}

// addRule compiles the rule, for the sake of the error. Rules with
// placeholders can only be compiled when the configuration loads.
func (h *Handler) addRule(rule *Rule) error {
	h.Rules = append(h.Rules, rule)
	names, err := ruleNames(h.Rules)
	if err != nil || slices.ContainsFunc(rule.MatchExpressions, cfutil.HasPlaceholder) {
		return err
	}
	return new(policy).add(names[len(names)-1], rule)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
