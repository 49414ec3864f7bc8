package celauthz

import (
	"strconv"
	"testing"

	"cel.dev/cel-go/common/types"
)

// A136: a rule that looks again and again, once for each element of a list that the client chose, reads the arguments
// as a whole before long, and finds the same in them.
func TestManyLooks(t *testing.T) {
	object := &rawObject{raw: []byte(`{"a":"text","b":[1,2],"c":null}`)}
	for look := range 2 * maxLooks {
		if decoded := object.whole != nil; decoded != (2*look > maxLooks) {
			t.Fatalf("look %d: decoded as a whole: %v", look, decoded)
		}
		if value, found := object.Find(types.String("a")); !found || value.Equal(types.String("text")) != types.True {
			t.Fatalf("look %d: %v", look, value)
		}
		if _, found := object.Find(types.String(strconv.Itoa(look))); found {
			t.Fatalf("look %d: there is no such member", look)
		}
	}
}
