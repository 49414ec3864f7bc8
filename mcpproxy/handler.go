// Package mcpproxy is the Caddy module http.handlers.mcp_proxy: Caddy's
// reverse_proxy with what MCP servers need already set.
package mcpproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/lease"
	"github.com/caddymcp/gateway/internal/promutil"
	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// idleConnsPerHost is how many connections to one upstream are kept for the
// next requests. Caddy keeps 32, so with more clients than that at a time
// most calls would dial.
const idleConnsPerHost = 512

// Handler proxies to MCP servers over HTTP. Its JSON is that of
// `reverse_proxy`, with the options below; whatever is set there wins over
// what this handler would set.
type Handler struct {
	reverseproxy.Handler

	// A server to start, in the place of upstreams.
	Stdio *Stdio `json:"stdio,omitempty"`

	// Serves requests that no mcp_jwt has judged. By default they are
	// refused with 403: a forgotten handler must not open a server.
	Public bool `json:"public,omitempty"`

	// Binds each session to who began it (issuer, subject and client of the
	// token) and to the replica that has it, by sealing the server's
	// Mcp-Session-Id. Default: true. If false, ids pass as they are.
	SessionBinding *bool `json:"session_binding,omitempty"`

	// What session ids are sealed with: at least 32 random bytes in base64,
	// the same on all instances. Placeholders {env.*} and {file.*} are
	// replaced. Default: made once, and kept in Caddy's storage.
	SessionKey string `json:"session_key,omitempty"`

	logger *zap.Logger
	// key is what every key of this proxy comes from.
	key *sessionKey
	// identity tells this proxy from others in all that is sealed.
	identity string
	// sessions is nil where they are not bound.
	sessions *sessions
	// duration is of the time before the proxy takes over.
	duration prometheus.Observer
	// provisioned: the proxy has been set up, as far as that went.
	provisioned bool
	// keepAuthorization: the configuration makes something of the client's
	// Authorization header itself.
	keepAuthorization bool
	// passesAuthorization: what the client sent is part of that.
	passesAuthorization bool

	// fast is nil where every request goes through reverse_proxy.
	fast *fastPath

	streams     *streams
	lease       *lease.Lease
	bodyTimeout time.Duration
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.mcp_proxy",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets what was left open and sets up what is behind the proxy.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.Stdio != nil {
		if err := h.Stdio.provision(&h.Handler); err != nil {
			return err
		}
		return h.provisionShared(ctx)
	}
	if err := h.checkUpstreams(); err != nil {
		return err
	}
	h.keepAuthorization = h.setsAuthorization()
	h.passesAuthorization = h.keepAuthorization && h.usesAuthorization()
	// before any module is loaded, which takes its JSON away
	if err := h.provisionShared(ctx); err != nil {
		return err
	}
	if err := h.provisionTransport(ctx); err != nil {
		return fmt.Errorf("transport: %w", err)
	}
	h.provisioned = true
	err := h.Handler.Provision(ctx)
	h.bindReplicas()
	if err != nil {
		// Cleanup follows, and must not count down the hosts of the running
		// configuration
		h.Upstreams = slices.DeleteFunc(h.Upstreams, func(upstream *reverseproxy.Upstream) bool {
			return upstream.Host == nil
		})
		return err
	}
	h.fast = newFastPath(h)
	return nil
}

func (h *Handler) checkUpstreams() error {
	if len(h.Upstreams) == 0 && h.DynamicUpstreamsRaw == nil {
		return errNoUpstream
	}
	for _, upstream := range h.Upstreams {
		if upstream == nil {
			return errors.New("an upstream is null")
		}
		if err := cfutil.Expand(&upstream.Dial); err != nil {
			return err
		}
		if strings.Contains(upstream.Dial, "://") {
			return fmt.Errorf("upstream %q is a URL; what is dialed is an address, host:port", upstream.Dial)
		}
	}
	return nil
}

// provisionShared sets up what does not depend on how a server is reached.
func (h *Handler) provisionShared(ctx caddy.Context) error {
	h.streams = newStreams(h.logger)
	h.bodyTimeout = slowbody.Timeout
	var err error
	if h.lease, err = lease.Acquire(ctx, "mcp_proxy", h); err != nil {
		return err
	}
	if h.duration, err = promutil.HandlerDuration(ctx.GetMetricsRegistry(), "mcp_proxy"); err != nil {
		return err
	}
	return h.provisionSessions(ctx)
}

// Cleanup releases what Provision acquired. Caddy calls it after a Provision
// that failed as well, and the proxy's own would panic where it was never set
// up.
func (h *Handler) Cleanup() error {
	err := h.lease.Release()
	if h.Stdio != nil {
		return errors.Join(err, h.Stdio.cleanup())
	}
	if !h.provisioned {
		return err
	}
	return errors.Join(err, h.Handler.Cleanup())
}

// withDefaults keeps more idle connections than Caddy's default, and asks for
// no compression on a plain connection, which is a short one, if the
// transport is http and the configuration does not say.
func withDefaults(raw json.RawMessage) (json.RawMessage, error) {
	transport := map[string]json.RawMessage{"protocol": json.RawMessage(`"http"`)}
	if raw != nil {
		if err := json.Unmarshal(raw, &transport); err != nil {
			return nil, err
		}
		if string(transport["protocol"]) != `"http"` {
			return raw, nil
		}
	}
	_, encrypted := transport["tls"]
	if _, ok := transport["compression"]; !ok && !encrypted {
		transport["compression"] = json.RawMessage("false")
	}
	keepAlive := map[string]json.RawMessage{}
	if configured, ok := transport["keep_alive"]; ok {
		if err := json.Unmarshal(configured, &keepAlive); err != nil {
			return nil, err
		}
		if keepAlive == nil { // null
			keepAlive = map[string]json.RawMessage{}
		}
	}
	if _, ok := keepAlive["max_idle_conns_per_host"]; !ok {
		keepAlive["max_idle_conns_per_host"] = json.RawMessage(fmt.Sprint(idleConnsPerHost))
	}
	encoded, err := json.Marshal(keepAlive)
	if err != nil {
		return nil, err
	}
	transport["keep_alive"] = encoded
	return json.Marshal(transport)
}

// setsAuthorization reports whether header_up makes an Authorization header
// itself, perhaps out of the client's.
func (h *Handler) setsAuthorization() bool {
	if h.Headers == nil || h.Headers.Request == nil {
		return false
	}
	ops := h.Headers.Request
	return hasName(ops.Add, authorization) || hasName(ops.Set, authorization) || hasName(ops.Replace, authorization)
}

// usesAuthorization reports whether header_up makes the Authorization header
// out of the client's.
func (h *Handler) usesAuthorization() bool {
	ops := h.Headers.Request
	if hasName(ops.Add, authorization) || hasName(ops.Replace, authorization) {
		return true
	}
	for name, values := range ops.Set {
		if strings.EqualFold(name, authorization) &&
			strings.Contains(strings.ToLower(strings.Join(values, ",")), "{http.request.header.authorization}") {
			return true
		}
	}
	return false
}

const authorization = "Authorization"

func hasName[V any](headers map[string]V, name string) bool {
	for key := range headers {
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}

// ServeHTTP passes the request on to the server.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	watch := promutil.StartWatch(h.duration)
	defer watch.Stop()
	var identity *reqctx.Identity
	state := reqctx.From(r.Context())
	if state != nil {
		identity = state.Identity
	}
	if identity == nil && !h.Public {
		h.logger.Error("request refused: no mcp_jwt has judged it; put one in front of mcp_proxy, or write public",
			zap.String("uri", cfutil.LogText(r.URL.Path)))
		return refuse(w, r, http.StatusForbidden, reasonNoJWT, "authorization failed")
	}
	if identity == nil {
		// mcp_jwt does this where it stands in front
		cfutil.DropForgedHeaders(r.Header)
	}
	// a client's credential is for this server, not for the one behind it
	if (identity == nil || !identity.ForwardCredential) && !h.keepAuthorization {
		r.Header.Del(authorization)
	}
	watch.Stop()
	session, done, err := h.sessions.open(w, r, state)
	switch {
	case done:
		return err
	case h.fast.takes(r, state):
		return h.fast.serve(w, r, &exchange{handler: h, state: state, client: r}, session)
	case session == nil:
		return h.proxy(w, r, next, state)
	}
	return session.run(w, r, func(w http.ResponseWriter, r *http.Request) error {
		return h.proxy(w, r, next, state)
	})
}

// Interface guards
var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
