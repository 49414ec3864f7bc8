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
	// fixed holds the answers for kinds whose entries the rules cannot tell
	// apart, as far as they were asked for.
	fixed map[mcpwire.TargetKind]decision
}

// targetKinds are the kinds that lists hold.
var targetKinds = []mcpwire.TargetKind{mcpwire.Tool, mcpwire.Prompt, mcpwire.Resource, mcpwire.Task}

func newVisibility(ctx context.Context, p *policy, who *caller, now func() time.Time) visibility {
	return visibility{policy: p, ctx: ctx, who: who, now: now}
}

// everything reports whether nothing can be hidden from this caller, whose
// request was allowed. Where the answer would cost more than a filter that
// finds nothing to hide, it is false.
func (v *visibility) everything() bool {
	switch reads := v.policy.dependsOn; {
	case reads&(readsTarget|readsNow) != 0:
		return false
	case reads&readsMethod == 0:
		return true // the rules have said yes, and know no difference
	}
	for _, kind := range targetKinds {
		if !v.entry(kind, "") {
			return false
		}
	}
	return true
}

// entry reports whether one entry of a list may be seen.
func (v *visibility) entry(kind mcpwire.TargetKind, name string) bool {
	return v.decide(kind, name).allowed
}

// decide decides about one entry of a list.
func (v *visibility) decide(kind mcpwire.TargetKind, name string) decision {
	if v.policy.dependsOn&(kindReads(kind)|readsNow) != 0 {
		v.who.now = v.now() // a stream may be hours old
		return v.policy.visible(v.ctx, v.who, kind, name)
	}
	d, known := v.fixed[kind]
	if !known {
		d = v.policy.visible(v.ctx, v.who, kind, name)
		if v.fixed == nil {
			v.fixed = make(map[mcpwire.TargetKind]decision, len(targetKinds))
		}
		v.fixed[kind] = d
	}
	return d
}

// filter takes out of messages what may not be seen.
func (v *visibility) filter() *mcpwire.Filter {
	return &mcpwire.Filter{Visible: v.entry, ListVisible: v.list}
}

// list decides about a list as a whole.
func (v *visibility) list(method string) bool {
	return v.policy.decide(v.ctx, mayPass, v.who, &subject{method: method}).allowed
}
