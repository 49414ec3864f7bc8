package celauthz

import (
	"slices"
	"sync/atomic"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/go-json-experiment/json/jsontext"
)

// tokenMemory is what the rules have found out about a token, for all requests
// with it.
type tokenMemory struct {
	claims sharedMembers
	gates  atomic.Pointer[gates]
}

// memory returns that of the caller's token; nil without one.
func (c *caller) memory() *tokenMemory {
	if c.identity == nil || c.identity.Claims == nil {
		return nil
	}
	memory, _ := c.identity.Derived(func() any { return new(tokenMemory) }).(*tokenMemory)
	return memory
}

// claimsMap are the claims as expressions read them.
func (c *caller) claimsMap() *rawObject {
	if c.jwt.raw != nil {
		return &c.jwt
	}
	c.jwt.raw = jsontext.Value(c.claims)
	if c.claims == nil {
		c.jwt.raw = jsontext.Value("{}")
	}
	if memory := c.memory(); memory != nil {
		c.jwt.shared = &memory.claims
	}
	return &c.jwt
}

// sharedMembers are the members of an object that rules have asked for, in the
// form of expressions. Many requests have the object in common.
type sharedMembers struct {
	found atomic.Pointer[[]sharedMember]
	whole atomic.Pointer[traits.Mapper]
}

type sharedMember struct {
	name  string
	value ref.Val
}

func (s *sharedMembers) find(key ref.Val) (ref.Val, bool) {
	if whole := s.whole.Load(); whole != nil {
		return (*whole).Find(key)
	}
	name, _ := key.(types.String)
	if found := s.found.Load(); found != nil {
		for i := range *found {
			if m := &(*found)[i]; m.name == string(name) {
				return m.value, true
			}
		}
	}
	return nil, false
}

// keep remembers a member, as long as there are few: rules that look at many
// look at the whole object in the end.
func (s *sharedMembers) keep(name string, value ref.Val) {
	for {
		var members []sharedMember
		found := s.found.Load()
		if found != nil {
			members = *found
		}
		known := slices.ContainsFunc(members, func(m sharedMember) bool { return m.name == name })
		if known || len(members) >= maxLooks || s.whole.Load() != nil {
			return
		}
		more := append(slices.Clip(members), sharedMember{name, value})
		if s.found.CompareAndSwap(found, &more) {
			return
		}
	}
}

// all is the whole object. It takes the place of what was found before.
func (s *sharedMembers) all(members func() map[string]any) traits.Mapper {
	if whole := s.whole.Load(); whole != nil {
		return *whole
	}
	made, _ := toValue(members()).(traits.Mapper)
	s.whole.Store(&made)
	s.found.Store(nil)
	return made
}

// toValue turns a value of JSON into one of expressions, with all that is in
// it, so that nothing has to be converted at each look.
func toValue(value any) ref.Val {
	switch v := value.(type) {
	case []any:
		list := make([]ref.Val, len(v))
		for i, element := range v {
			list[i] = toValue(element)
		}
		return types.NewRefValList(insideContainers, list)
	case map[string]any:
		for name, member := range v {
			v[name] = toValue(member)
		}
		return types.NewStringInterfaceMap(insideContainers, v)
	default:
		return insideContainers.NativeToValue(value)
	}
}
