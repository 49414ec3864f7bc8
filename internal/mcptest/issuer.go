package mcptest

import (
	"maps"
	"time"
)

// Issuer makes tokens that a gate which trusts it has to accept.
type Issuer struct {
	// Name is the iss of the tokens.
	Name string
	// Key signs them.
	Key *Key
	// Now is the clock; time.Now when it is nil.
	Now func() time.Time
}

// Header returns the header of the issuer's tokens.
func (i *Issuer) Header() string {
	header := map[string]any{"alg": i.Key.Alg, "typ": "JWT"}
	if i.Key.ID != "" {
		header["kid"] = i.Key.ID
	}
	return JSON(header)
}

// Claims returns what a token for sub says: iss, sub, iat, and exp in one
// hour, changed by each set in turn. A nil value removes a claim.
func (i *Issuer) Claims(sub string, changes ...map[string]any) map[string]any {
	now := time.Now()
	if i.Now != nil {
		now = i.Now()
	}
	claims := map[string]any{"iss": i.Name, "sub": sub, "iat": now.Unix(), "exp": now.Unix() + 3600}
	for _, change := range changes {
		maps.Copy(claims, change)
	}
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// Token returns a signed token with these claims.
func (i *Issuer) Token(sub string, changes ...map[string]any) string {
	return i.Key.Sign(i.Header(), JSON(i.Claims(sub, changes...)))
}
