package jwtauth

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/cfutil"
)

// originAllowed decides whether the page that made a request may do so: the
// transport section of the MCP specification asks for it against DNS
// rebinding. A request without Origin comes from no page, or from the site
// itself.
func originAllowed(r *http.Request) bool {
	if onLoopbackListener(r) && !isLoopbackHost(r.Host) && !cfutil.FromTrustedProxy(r) {
		return false
	}
	origins := r.Header["Origin"]
	switch len(origins) {
	case 0:
		return true
	case 1:
		return sameOrigin(origins[0], r)
	default:
		return false
	}
}

// sameOrigin compares scheme, host and port with those of the request.
func sameOrigin(origin string, r *http.Request) bool {
	o, err := url.Parse(origin)
	if err != nil || o.Host == "" {
		return false // "null" among them
	}
	scheme := cfutil.Scheme(r)
	return strings.EqualFold(o.Scheme, scheme) &&
		strings.EqualFold(withPort(o.Host, scheme), withPort(r.Host, scheme))
}

func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// onLoopbackListener reports whether the server can only be reached from
// this machine. Pages can reach it too, through the browser of somebody on
// it, under a name that resolves to a loopback address.
func onLoopbackListener(r *http.Request) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || len(server.Listen) == 0 {
		return false
	}
	for _, address := range server.Listen {
		parsed, err := caddy.ParseNetworkAddress(address)
		if err != nil || !isLoopbackHost(parsed.Host) {
			return false
		}
	}
	return true
}

// isLoopbackHost takes a Host header or the host of an address.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
