package celauthz

import (
	"reflect"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// rawObject is a JSON object that a message was found to hold, as a map for
// expressions. A rule that looks at one member has that one decoded; one
// that does anything else with the map, or looks often, has all of it.
type rawObject struct {
	raw   jsontext.Value
	looks int
	whole traits.Mapper
	// shared, if set, is what other requests have found in the same object.
	shared *sharedMembers
	// keepsNothing: what is found now nobody will look for again.
	keepsNothing bool
}

// maxLooks is how many members are looked for one by one. Each look reads all
// of the object, and a rule may look once for each element of a list that the
// client chose.
const maxLooks = 16

// Find implements traits.Mapper.
func (o *rawObject) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if o.shared != nil && ok {
		if value, known := o.shared.find(key); known {
			return value, true
		}
	}
	if o.looks++; !ok || o.whole != nil || o.looks > maxLooks {
		return o.all().Find(key)
	}
	raw, ok := mcpwire.Member(o.raw, string(name))
	if !ok {
		return nil, false
	}
	if o.shared != nil && !o.keepsNothing {
		value := toValue(decode(raw))
		o.shared.keep(strings.Clone(string(name)), value)
		return value, true
	}
	if text, ok := mcpwire.String(raw); ok {
		return types.String(text), true
	}
	return insideContainers.NativeToValue(decode(raw)), true
}

// decode decodes what has been read before. It cannot fail; if it did, the
// panic would be an error of the rule.
func decode(raw jsontext.Value) any {
	decoded, err := mcpwire.Decode(raw)
	if err != nil {
		panic(err)
	}
	return decoded
}

// all is the whole map.
func (o *rawObject) all() traits.Mapper {
	switch {
	case o.whole != nil:
	case o.shared == nil:
		o.whole = types.NewStringInterfaceMap(insideContainers, o.members())
	default:
		o.whole = o.shared.all(o.members)
	}
	return o.whole
}

func (o *rawObject) members() map[string]any {
	members, ok := decode(o.raw).(map[string]any)
	if !ok {
		panic("what was found to be an object is none")
	}
	return members
}

// Get implements traits.Indexer.
func (o *rawObject) Get(key ref.Val) ref.Val {
	if value, found := o.Find(key); found {
		return value
	}
	return o.all().Get(key) // for its error
}

// Contains implements traits.Container.
func (o *rawObject) Contains(key ref.Val) ref.Val {
	if name, ok := key.(types.String); ok {
		_, found := o.Find(name)
		return types.Bool(found)
	}
	return o.all().Contains(key)
}

// IsZeroValue implements traits.Zeroer.
func (o *rawObject) IsZeroValue() bool { return o.all().Size() == types.IntZero }

// Iterator implements traits.Iterable.
func (o *rawObject) Iterator() traits.Iterator { return o.all().Iterator() }

// Size implements traits.Sizer.
func (o *rawObject) Size() ref.Val { return o.all().Size() }

// ConvertToNative implements ref.Val.
func (o *rawObject) ConvertToNative(t reflect.Type) (any, error) { return o.all().ConvertToNative(t) }

// ConvertToType implements ref.Val.
func (o *rawObject) ConvertToType(t ref.Type) ref.Val { return o.all().ConvertToType(t) }

// Equal implements ref.Val.
func (o *rawObject) Equal(other ref.Val) ref.Val {
	if object, ok := other.(*rawObject); ok {
		other = object.all()
	}
	return o.all().Equal(other)
}

// Type implements ref.Val.
func (o *rawObject) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (o *rawObject) Value() any { return o.all().Value() }

// Interface guards
var (
	_ traits.Mapper = (*rawObject)(nil)
	_ traits.Zeroer = (*rawObject)(nil)
)
