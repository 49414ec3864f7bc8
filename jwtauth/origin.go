package jwtauth

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/cfutil"
)

// originPolicy says which pages may make requests: the transport section of
// the MCP specification asks for it against DNS rebinding.
type originPolicy struct {
	// own is the resource, whose pages may; nil when that is for each request
	// to say.
	own *url.URL
	// listed are the origins of the configuration, in normal form.
	listed map[string]bool
	// loopback is onLoopbackListener of each server that was asked about.
	loopback *sync.Map
}

// nullOrigin is that of pages without one, such as files and sandboxes.
const nullOrigin = "null"

func newOriginPolicy(own *url.URL, origins []string) (originPolicy, error) {
	p := originPolicy{own: own, listed: make(map[string]bool, len(origins)), loopback: new(sync.Map)}
	for _, origin := range origins {
		if origin == nullOrigin {
			p.listed[origin] = true
			continue
		}
		u, ok := parseOrigin(origin)
		if !ok {
			return p, fmt.Errorf("%q is not an origin; it is scheme://host[:port], or null", origin)
		}
		p.listed[normalOrigin(u)] = true
	}
	return p, nil
}

// parseOrigin reads an origin as browsers write it (RFC 6454 section 6.2).
func parseOrigin(text string) (*url.URL, bool) {
	if strings.ContainsAny(text, `*"\<>`) || strings.ContainsFunc(text, notVisible) {
		return nil, false
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || !strings.EqualFold(text, u.Scheme+"://"+u.Host) {
		return nil, false
	}
	return u, true
}

func normalOrigin(u *url.URL) string {
	return strings.ToLower(u.Scheme + "://" + withPort(u.Host, u.Scheme))
}

// allows decides whether the page that made a request may do so. A request
// without Origin comes from no page, or from the site itself. cors is the
// origin to name in the answer, for pages of other sites.
func (p originPolicy) allows(r *http.Request) (ok bool, cors string) {
	if p.onLoopbackListener(r) && !isLoopbackHost(r.Host) && !p.isOwnHost(r) && !cfutil.FromTrustedProxy(r) {
		return false, ""
	}
	origins := r.Header["Origin"]
	switch {
	case len(origins) == 0:
		return true, ""
	case len(origins) > 1:
		return false, ""
	case origins[0] == nullOrigin:
		return p.listed[nullOrigin], nullOrigin
	}
	u, ok := parseOrigin(origins[0])
	switch {
	case !ok:
		return false, ""
	case normalOrigin(u) == p.ownOrigin(r):
		return true, ""
	default:
		return p.listed[normalOrigin(u)], origins[0]
	}
}

// ownOrigin is that of the site's own pages.
func (p originPolicy) ownOrigin(r *http.Request) string {
	if p.own != nil {
		return normalOrigin(p.own)
	}
	return normalOrigin(&url.URL{Scheme: cfutil.Scheme(r), Host: r.Host})
}

// isOwnHost: no attacker has a name that resolves to this machine and is that
// of the resource.
func (p originPolicy) isOwnHost(r *http.Request) bool {
	return p.own != nil && strings.EqualFold(withPort(r.Host, p.own.Scheme), withPort(p.own.Host, p.own.Scheme))
}

// defaultPort is what browsers leave out of an origin.
var defaultPort = map[string]string{"http": "80", "https": "443"}

func withPort(host, scheme string) string {
	port := defaultPort[strings.ToLower(scheme)]
	if _, _, err := net.SplitHostPort(host); err == nil || port == "" {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// onLoopbackListener reports whether the server can only be reached from
// this machine. Pages can reach it too, through the browser of somebody on
// it, under a name that resolves to a loopback address.
func (p originPolicy) onLoopbackListener(r *http.Request) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil {
		return false
	}
	if known, ok := p.loopback.Load(server); ok {
		is, _ := known.(bool)
		return is
	}
	is := listensOnLoopback(server)
	p.loopback.Store(server, is)
	return is
}

func listensOnLoopback(server *caddyhttp.Server) bool {
	for _, address := range server.Listen {
		parsed, err := caddy.ParseNetworkAddress(address)
		if err != nil || !isLoopbackHost(parsed.Host) {
			return false
		}
	}
	return len(server.Listen) > 0
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
