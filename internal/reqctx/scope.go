package reqctx

import (
	"fmt"
	"strings"
)

// CheckScope wants a scope-token (RFC 6749 section 3.3), which can stand in a
// challenge as it is.
func CheckScope(name string) error {
	invalid := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	if name == "" || strings.ContainsFunc(name, invalid) {
		return fmt.Errorf("%q is not a scope", name)
	}
	return nil
}
