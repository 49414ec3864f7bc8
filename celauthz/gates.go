package celauthz

import (
	"context"
	"sync/atomic"
)

// manyAllows is from how many allows on a policy remembers which of them a
// token cannot use.
const manyAllows = 16

// gatesOf are the parts of an allow that nothing but the token decides. If
// one of them is not true, whatever the token is used for is not allowed by
// this rule.
func gatesOf(parts []*part) (gates []*part) {
	for _, p := range parts {
		if p.dependsOn == readsCaller && !p.loops {
			gates = append(gates, p)
		}
	}
	return gates
}

// closedGates are the allows of a policy whose gates are closed for one token.
// They are found out one by one, when a question leads to them; what is known
// stays true for as long as there are this token and this policy. Two bits an
// allow keep many tokens small.
type closedGates struct {
	policy        *policy
	known, closed []atomic.Uint64
}

// closedFor returns what is known about the token of a caller; nil where it
// makes no difference.
func (p *policy) closedFor(who *caller) *closedGates {
	if !p.gated || len(p.allows.list) < manyAllows {
		return nil
	}
	claims := who.celClaims()
	if claims == noClaims { // which outlives every policy
		return nil
	}
	return claims.closedGates(p)
}

func (c *celClaims) closedGates(p *policy) *closedGates {
	if found, ok := c.gates.Load(p); ok {
		return found.(*closedGates) //nolint:forcetypeassert // nothing else is in there
	}
	words := (len(p.allows.list) + 63) / 64
	made, _ := c.gates.LoadOrStore(p, &closedGates{p, make([]atomic.Uint64, words), make([]atomic.Uint64, words)})
	return made.(*closedGates) //nolint:forcetypeassert // see above
}

// to reports whether an allow is of no use for the token.
func (g *closedGates) to(ctx context.Context, number int, a *activation) bool {
	if g == nil {
		return false
	}
	word, bit := number/64, uint64(1)<<(number%64)
	if g.known[word].Load()&bit == 0 {
		for _, gate := range g.policy.allows.list[number].gates {
			if gate.eval(ctx, a) != isTrue {
				g.closed[word].Or(bit)
				break
			}
		}
		g.known[word].Or(bit)
	}
	return g.closed[word].Load()&bit != 0
}
