package celauthz

import (
	"context"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// outcome is what becomes of a message.
type outcome uint8

const (
	// allowed: it goes on.
	allowed outcome = iota
	// hopeless: there is nothing at all that this caller may do.
	hopeless
	// denied: a request or notification without a target, or one that gets
	// no answer.
	denied
	// hidden: the target does not exist for this caller.
	hidden
	// refused: the caller sees the target, but may not use it like this.
	refused
	// unscoped: the rules allow it, but the token lacks a scope.
	unscoped
	// unknownMethod: no rule allows a method the specification lacks.
	unknownMethod
)

// judgement is the outcome, and the decision it follows from.
type judgement struct {
	outcome outcome
	decision
}

// judgeAll judges everything a request carries, and returns the message that
// decided. One denied entry refuses a whole batch; of one that is allowed,
// in.judged holds the decision about each message.
func (p *policy) judgeAll(ctx context.Context, who *caller, in *incoming) (judgement, *mcpwire.Message) {
	if !in.batch {
		return p.judge(ctx, who, in.first()), in.first()
	}
	var j judgement
	for _, m := range in.messages {
		j = p.judge(ctx, who, m)
		if j.outcome == allowed {
			in.judged = append(in.judged, j)
			continue
		}
		if j.outcome != hopeless {
			j.outcome = denied
		}
		return j, m
	}
	return j, in.first()
}

// judge asks the policy all questions that a message raises. A message of
// nil is a request without a body: GET or DELETE.
func (p *policy) judge(ctx context.Context, who *caller, m *mcpwire.Message) judgement {
	if m == nil {
		m = &mcpwire.Message{Shape: mcpwire.Notification, Known: true}
	}
	if m.Kind != mcpwire.NoTarget && !m.ArgumentsOpen {
		return p.judgeCall(ctx, who, m)
	}

	q := mayPass
	if !m.Known {
		q = mayPassUnknown
	}
	d := p.decide(ctx, q, who, who.about(subject{method: m.Method}))
	if !d.allowed {
		switch {
		case p.isHopeless(ctx, who, m):
			return judgement{hopeless, d}
		case !m.Known && m.Shape == mcpwire.Request:
			d.reason = reasonUnknownMethod
			return judgement{unknownMethod, d}
		default:
			return judgement{denied, d}
		}
	}
	if m.Kind == mcpwire.NoTarget {
		return judgement{allowed, d}
	}
	// completion/complete: its ref is judged like an entry of a list
	if d := p.visible(ctx, who, m.Kind, m.Target); !d.allowed {
		return p.denial(m, hidden, d)
	}
	return judgement{allowed, d}
}

// judgeCall judges a message about one target.
func (p *policy) judgeCall(ctx context.Context, who *caller, m *mcpwire.Message) judgement {
	what := who.about(subject{method: m.Method, kind: m.Kind, rawArguments: m.Arguments})
	d := p.decideNames(ctx, mayCall, who, what, m.Target)
	switch {
	case d.allowed:
		return judgement{allowed, d}
	case p.isHopeless(ctx, who, m):
		return judgement{hopeless, d}
	case !p.visible(ctx, who, m.Kind, m.Target).allowed:
		return p.denial(m, hidden, d)
	default:
		return p.denial(m, refused, d)
	}
}

// denial keeps what only a request can be answered with from the others.
func (*policy) denial(m *mcpwire.Message, o outcome, d decision) judgement {
	if m.Shape != mcpwire.Request {
		o = denied
	}
	return judgement{o, d}
}

// visible asks whether some call of a target could be allowed.
func (p *policy) visible(ctx context.Context, who *caller, kind mcpwire.TargetKind, name string) decision {
	what := who.about(subject{method: kind.Call(), kind: kind})
	return p.decideNames(ctx, isVisible, who, what, name)
}

// isHopeless asks whether nothing at all could be allowed.
func (p *policy) isHopeless(ctx context.Context, who *caller, m *mcpwire.Message) bool {
	return !p.decide(ctx, mayAnything, who, &subject{method: m.Method}).allowed
}

// decideNames decides about a target under each of the names a server might
// take it for; one denial is enough.
func (p *policy) decideNames(ctx context.Context, q question, who *caller, what *subject, name string) decision {
	what.name, what.nameValue = name, nil
	d := p.decide(ctx, q, who, what)
	if !d.allowed || what.kind != mcpwire.Resource {
		return d
	}
	if normal := normalURI(name); normal != name {
		what.name, what.nameValue = normal, nil
		return p.decide(ctx, q, who, what)
	}
	return d
}
