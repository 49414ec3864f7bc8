package cfutil

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// FromTrustedProxy reports whether the server's trusted_proxies hold the
// peer. Only then is what it says about the client believed.
func FromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// Scheme is the scheme the client used: http or https.
func Scheme(r *http.Request) string {
	if FromTrustedProxy(r) {
		if proto := r.Header.Get("X-Forwarded-Proto"); proto == "http" || proto == "https" {
			return proto
		}
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}
