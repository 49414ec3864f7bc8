package celauthz

import (
	"sync"

	"cel.dev/cel-go/common/types"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// celClaims are the claims of a token as expressions read them, made once for
// all requests with it.
type celClaims struct {
	values map[string]any
	// gates are the closedGates of each policy.
	gates sync.Map
	// size is at least as large as any text or list in them, and as the
	// number of their values.
	size int
}

var noClaims = &celClaims{values: map[string]any{}}

// claimsFor returns those of an identity.
func claimsFor(identity *reqctx.Identity) *celClaims {
	if identity == nil || identity.Claims == nil {
		return noClaims
	}
	made := identity.Derived(func(claims map[string]any) any { return newClaims(claims) })
	if claims, ok := made.(*celClaims); ok {
		return claims
	}
	return noClaims
}

func newClaims(claims map[string]any) *celClaims {
	c := &celClaims{values: make(map[string]any, len(claims))}
	for name, value := range claims {
		c.values[name] = c.convert(value)
	}
	return c
}

// convert turns what the library would convert at each look into what it
// takes as it is. Maps stay maps, which it looks into without a detour.
func (c *celClaims) convert(value any) any {
	c.size++
	switch v := value.(type) {
	case nil:
		return types.NullValue
	case string:
		c.size += len(v)
		return types.String(v)
	case bool:
		return types.Bool(v)
	case int64:
		return types.Int(v)
	case float64:
		return types.Double(v)
	case mcpwire.InexactNumber:
		return inexact{}
	case []any:
		list := make([]any, len(v))
		for i, element := range v {
			list[i] = c.convert(element)
		}
		return types.NewDynamicList(insideContainers, list)
	case map[string]any:
		object := make(map[string]any, len(v))
		for name, member := range v {
			c.size += len(name)
			object[name] = c.convert(member)
		}
		return object
	default:
		return types.NewErr("a claim of a type that claims do not have")
	}
}
