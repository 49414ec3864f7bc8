package mcpproxy

import (
	"context"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// proxyPlaceholders is how the placeholders of reverse_proxy begin.
const proxyPlaceholders = "http.reverse_proxy."

// callVar is the variable of a request that holds its first call.
const callVar = "mcp_proxy.call"

// String keeps a placeholder of that variable from saying what is in it.
func (c *fastCall) String() string { return "a call to " + c.hostPort }

// tell has the placeholders stand for this call. An error route may make
// another one for the same request; what has been given to a replacer stays
// there, and comes first.
func (c *fastCall) tell(ctx context.Context, repl *caddy.Replacer) {
	if repl == nil {
		return
	}
	// reverse_proxy may have been asked on the way here
	repl.DeleteByPrefix(proxyPlaceholders)
	if first, ok := caddyhttp.GetVar(ctx, callVar).(*fastCall); ok {
		first.later.Store(c)
		return
	}
	caddyhttp.SetVar(ctx, callVar, c)
	repl.Map(c.placeholder)
}

// placeholder is what a placeholder of reverse_proxy stands for. They are
// looked up when somebody asks, which is rare.
func (c *fastCall) placeholder(key string) (value any, known bool) {
	key, ours := strings.CutPrefix(key, proxyPlaceholders)
	if !ours {
		return nil, false
	}
	if later := c.later.Load(); later != nil {
		c = later
	}
	switch key {
	case "upstream.address":
		return caddy.JoinNetworkAddress(c.address.Network, c.address.Host, c.port), true
	case "upstream.hostport":
		return c.hostPort, true
	case "upstream.host":
		return c.address.Host, true
	case "upstream.port":
		return c.port, true
	case "upstream.requests":
		return c.upstream.NumRequests(), true
	case "upstream.max_requests":
		return c.upstream.MaxRequests, true
	case "upstream.fails":
		return c.upstream.Fails(), true
	case "retries":
		return 0, !c.ended.IsZero()
	}
	if value, known := duration(key, "duration", c.began, c.ended); known {
		return value, true
	}
	if c.response == nil {
		return nil, false
	}
	if value, known := duration(key, "upstream.latency", c.began, c.answeredAt); known {
		return value, true
	}
	if value, known := duration(key, "upstream.duration", c.began, c.ended); known {
		return value, true
	}
	switch key {
	case "status_code":
		return c.response.StatusCode, true
	case "status_text":
		return c.response.Status, true
	}
	name, isHeader := strings.CutPrefix(key, "header.")
	values, there := c.response.Header[name]
	return strings.Join(values, ","), isHeader && there
}

// duration is how long something took, or that in milliseconds, as the key
// has it.
func duration(key, name string, from, to time.Time) (value any, known bool) {
	unit, is := strings.CutPrefix(key, name)
	switch {
	case !is || to.IsZero():
		return nil, false
	case unit == "":
		return to.Sub(from), true
	default:
		return to.Sub(from).Seconds() * 1e3, unit == "_ms"
	}
}
