package celauthz

import (
	"context"
	"sync/atomic"
)

// maxGates is how many policies may remember something about one token. Behind
// it, as many handlers with rules have to share one mcp_jwt.
const maxGates = 32

// gatesOf are the parts of an allow that nothing but the token decides. If
// one of them is not true, whatever the token is used for is not allowed by
// this rule.
func gatesOf(parts []*part) (gates, others []*part) {
	sorted := make([]*part, 0, len(parts)) // both in one piece of memory
	for _, p := range parts {
		if p.isGate() {
			sorted = append(sorted, p)
		}
	}
	n := len(sorted)
	for _, p := range parts {
		if !p.isGate() {
			sorted = append(sorted, p)
		}
	}
	return sorted[:n], sorted[n:]
}

func (p *part) isGate() bool { return p.dependsOn == readsCaller && !p.loops }

// gates are what is known about the gates of a policy for one token: those of
// which allows are closed, and those of which are open. It is found out one by
// one, when a question leads to them, and stays true for as long as there are
// this token and this policy. Two bits an allow keep many tokens small.
type gates struct {
	policy *policy
	next   *gates
	// known and closed are a pair of words for 64 allows each.
	words []atomic.Uint64
	// few is room for the words of most policies.
	few [2]atomic.Uint64
}

// gatesFor returns what is known about the token of a caller; nil where nobody
// remembers anything about it.
func (p *policy) gatesFor(who *caller) *gates {
	if !p.gated {
		return nil
	}
	memory := who.memory()
	if memory == nil {
		return nil
	}
	for {
		first, n := memory.gates.Load(), 0
		for known := first; known != nil; known = known.next {
			if known.policy == p {
				return known
			}
			n++
		}
		if n >= maxGates {
			return nil
		}
		made := &gates{policy: p, next: first}
		if made.words = made.few[:]; len(p.allows.list) > 64 {
			made.words = make([]atomic.Uint64, 2*((len(p.allows.list)+63)/64))
		}
		if memory.gates.CompareAndSwap(first, made) {
			return made
		}
	}
}

// of returns the words that hold what is known about an allow, and its bit in
// them.
func (g *gates) of(number int) (known, closed *atomic.Uint64, bit uint64) {
	return &g.words[number/64*2], &g.words[number/64*2+1], uint64(1) << (number % 64)
}

// areClosed reports whether those of an allow are known to be closed.
func (g *gates) areClosed(number int) bool {
	if g == nil {
		return false
	}
	_, closed, bit := g.of(number)
	return closed.Load()&bit != 0
}

// areOpen reports whether those of an allow, if it has any, are true for the
// token.
func (g *gates) areOpen(ctx context.Context, number int, parts []*part, a *activation) bool {
	if g == nil {
		return allTrue(ctx, parts, a)
	}
	known, closed, bit := g.of(number)
	if known.Load()&bit == 0 {
		jwt := a.claimsMap()
		jwt.keepsNothing = true // they are not asked again
		if !allTrue(ctx, parts, a) {
			closed.Or(bit)
		}
		jwt.keepsNothing = false
		known.Or(bit)
	}
	return closed.Load()&bit == 0
}

func allTrue(ctx context.Context, parts []*part, a *activation) bool {
	for _, part := range parts {
		if part.eval(ctx, a) != isTrue {
			return false
		}
	}
	return true
}
