package celauthz

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// Scope says which operations need a scope of OAuth (RFC 6749 section 3.3).
type Scope struct {
	// The scope a token must have.
	Scope string `json:"scope"`

	// A CEL expression: the operations that need it.
	When string `json:"when"`
}

// scopePolicy are the compiled scopes. It never changes.
type scopePolicy struct {
	needs   []scopeNeed
	implies map[string][]string
	// loops: some condition iterates, so it needs a deadline.
	loops bool
}

// scopeNeed is one scope and the parts of its condition, of which one is
// enough.
type scopeNeed struct {
	scope string
	parts []*part
}

// compileScopes compiles the conditions and closes the implications.
func compileScopes(scopes []*Scope, implies map[string][]string) (*scopePolicy, error) {
	p := &scopePolicy{implies: closeImplications(implies)}
	for scope, narrower := range implies {
		for _, name := range append([]string{scope}, narrower...) {
			if err := reqctx.CheckScope(name); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range scopes {
		if s == nil {
			return nil, errors.New("a scope is null")
		}
		if err := reqctx.CheckScope(s.Scope); err != nil {
			return nil, err
		}
		// like a deny, a condition is judged part by part
		parts, err := compileParts(s.When, Deny)
		if err != nil {
			return nil, fmt.Errorf("scope %q: %w", s.Scope, err)
		}
		for _, part := range parts {
			p.loops = p.loops || part.loops
		}
		p.needs = append(p.needs, scopeNeed{s.Scope, parts})
	}
	return p, nil
}

// closeImplications follows chains: a scope that is implied may imply more.
func closeImplications(implies map[string][]string) map[string][]string {
	closed := make(map[string][]string, len(implies))
	for scope := range implies {
		seen := []string{scope}
		for i := 0; i < len(seen); i++ {
			for _, narrower := range implies[seen[i]] {
				if !slices.Contains(seen, narrower) {
					seen = append(seen, narrower)
				}
			}
		}
		closed[scope] = seen[1:]
	}
	return closed
}

// withImplied adds what the granted scopes imply.
func (p *scopePolicy) withImplied(granted []string) []string {
	all := granted
	if p == nil {
		return all
	}
	for _, scope := range granted {
		for _, narrower := range p.implies[scope] {
			if !slices.Contains(all, narrower) {
				all = append(slices.Clip(all), narrower)
			}
		}
	}
	return all
}

// missing returns all scopes that a request needs if the caller lacks one of
// them, nil otherwise. It is asked once the rules have allowed the request.
func (p *scopePolicy) missing(ctx context.Context, who *caller, in *incoming) []string {
	if len(p.needs) == 0 {
		return nil
	}
	if p.loops {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, decisionDeadline)
		defer cancel()
	}
	messages := in.messages
	if len(messages) == 0 {
		messages = []*mcpwire.Message{{Known: true}}
	}
	var needed []string
	for _, m := range messages {
		needed = p.needed(ctx, who, m, needed)
	}
	granted := who.scopeList()
	for _, scope := range needed {
		if !slices.Contains(granted, scope) {
			return needed
		}
	}
	return nil
}

// needed adds the scopes of one message. An error counts as a need; what
// depends on something that is open does not.
func (p *scopePolicy) needed(ctx context.Context, who *caller, m *mcpwire.Message, needed []string) []string {
	q, what := mayPass, &subject{method: m.Method}
	names := []string{""}
	switch {
	case m.Kind != mcpwire.NoTarget && m.ArgumentsOpen:
		q, what = isVisible, &subject{method: m.Method, kind: m.Kind}
		names = []string{m.Target}
	case m.Kind != mcpwire.NoTarget:
		q, what = mayCall, &subject{method: m.Method, kind: m.Kind, rawArguments: m.Arguments}
		names = []string{m.Target}
	}
	if normal := normalURI(m.Target); m.Kind == mcpwire.Resource && normal != m.Target {
		names = append(names, normal)
	}
	a := activation{caller: who, subject: what}
	a.open = q.open(Deny, what.kind)
	for i := range p.needs {
		need := &p.needs[i]
		if slices.Contains(needed, need.scope) {
			continue
		}
		for _, name := range names {
			what.name, what.nameValue = name, nil
			if need.applies(ctx, q, &a) {
				needed = append(needed, need.scope)
				break
			}
		}
	}
	return needed
}

func (n *scopeNeed) applies(ctx context.Context, q question, a *activation) bool {
	for _, part := range n.parts {
		if !part.applies(q, a.kind) {
			continue
		}
		if part.eval(ctx, a).denies() {
			return true
		}
	}
	return false
}
