package reqctx

import (
	"errors"
	"reflect"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

func TestClaims(t *testing.T) {
	claims, err := ReadClaims([]byte(" \n{ \"sub\" : \"alice\", \"n\":7, \"on\":true, \"off\":false, \"none\":null,\n\t\"\\u0061ge\":1.5, \"list\":[\"a\",{}], \"in\":{\"sub\":\"bob\"} } \r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"sub": "alice", "n": int64(7), "on": true, "off": false, "none": nil, "age": 1.5,
		"list": []any{"a", map[string]any{}}, "in": map[string]any{"sub": "bob"},
	} {
		if got, ok := claims.Get(name); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %t, want %v", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "Sub", "su", "suba", `\u0061ge`, "a", "alice"} {
		if got, ok := claims.Get(name); ok {
			t.Errorf("%q: %v", name, got)
		}
	}
	if got, ok := Claims(nil).Get("sub"); ok {
		t.Errorf("without a token: %v", got)
	}
}

func TestReadClaims(t *testing.T) {
	for doc, want := range map[string]error{
		`{"a":1,"\u0061":2}`: mcpwire.ErrDuplicate, `{} {}`: mcpwire.ErrTrailing, `[]`: mcpwire.ErrSyntax, ``: mcpwire.ErrSyntax, `{"a":tru}`: mcpwire.ErrSyntax,
	} {
		if got, err := ReadClaims([]byte(doc)); !errors.Is(err, want) {
			t.Errorf("%s: %s %v, want %v", doc, got, err, want)
		}
	}
}

// TestDerived: what is made for a token is made once.
func TestDerived(t *testing.T) {
	identity := new(Identity)
	first := identity.Derived(func() any { return new(int) })
	if again := identity.Derived(func() any { return new(int) }); again != first {
		t.Error("it is made again")
	}
}
