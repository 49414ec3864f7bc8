package celauthz

import (
	"context"
	"time"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// visibility answers which entries of the lists of one response its reader
// may see. It is asked from one goroutine.
type visibility struct {
	policy *policy
	ctx    context.Context //nolint:containedctx // it lives as long as one response
	who    *caller
	now    func() time.Time
	// fixed holds the answer for kinds whose entries the rules cannot tell
	// apart.
	fixed map[mcpwire.TargetKind]bool
}

// targetKinds are the kinds that lists hold.
var targetKinds = []mcpwire.TargetKind{mcpwire.Tool, mcpwire.Prompt, mcpwire.Resource, mcpwire.Task}

func newVisibility(ctx context.Context, p *policy, who *caller, now func() time.Time) *visibility {
	v := &visibility{policy: p, ctx: ctx, who: who, now: now, fixed: make(map[mcpwire.TargetKind]bool, len(targetKinds))}
	for _, kind := range targetKinds {
		if p.dependsOn&(kindReads(kind)|readsNow) == 0 {
			v.fixed[kind] = p.visible(ctx, who, kind, "").allowed
		}
	}
	return v
}

// everything reports whether nothing can be hidden from this caller.
func (v *visibility) everything() bool {
	for _, kind := range targetKinds {
		if !v.fixed[kind] {
			return false
		}
	}
	return true
}

// entry decides about one entry of a list.
func (v *visibility) entry(kind mcpwire.TargetKind, name string) bool {
	if visible, ok := v.fixed[kind]; ok {
		return visible
	}
	v.who.now = v.now() // a stream may be hours old
	return v.policy.visible(v.ctx, v.who, kind, name).allowed
}

// list decides about a list as a whole.
func (v *visibility) list(method string) bool {
	return v.policy.decide(v.ctx, mayPass, v.who, &subject{method: method}).allowed
}
