// Package celauthz is the Caddy module http.handlers.mcp_authorize: rules in
// the Common Expression Language decide about every operation of the Model
// Context Protocol before it reaches a server.
package celauthz

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/lease"
	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/promutil"
	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Bounds of the options.
const (
	defaultMaxBody  = 4 << 20
	defaultMaxEvent = 16 << 20
	// maxSize bounds what one request or answer may make the gateway hold
	// in memory, whatever the configuration says.
	maxSize = 256 << 20
)

// Handler authorises MCP operations. Without a rule that allows it, nothing
// passes; an error, a timeout, an over-limit or an unparsable message never
// grants.
//
// It sets these placeholders:
//
// Placeholder | Description
// ------------|-------------
// `{mcp.method}` | The method of the message, such as `tools/call`
// `{mcp.tool.name}` | The tool that is called
// `{mcp.prompt.name}` | The prompt that is asked for
// `{mcp.resource.uri}` | The resource that is read
// `{mcp.task.id}` | The task that is asked about
// `{mcp.session.id}` | The client's `Mcp-Session-Id`
// `{mcp.version}` | The protocol version of the request
// `{mcp.decision}` | `allow` or `deny`
// `{mcp.rule}` | The rule that decided; `default` when none did, `scope` when a scope was missing
type Handler struct {
	// The rules. At least one.
	Rules []*Rule `json:"rules,omitempty"`

	// Scopes that operations need, besides what the rules say. A token that
	// lacks one is answered 403 insufficient_scope (RFC 6750 section 3.1),
	// and the client can ask for more.
	Scopes []*Scope `json:"scopes,omitempty"`

	// Scopes that stand for others as well: from a scope to those it
	// implies.
	ScopeImplies map[string][]string `json:"scope_implies,omitempty"`

	// How a denied target is answered: `hide` (the default) as if it did
	// not exist, `forbid` with 403 and the name of the rule.
	OnDeny string `json:"on_deny,omitempty"`

	// The name of the server behind, `mcp.tool.target` and its like.
	Target string `json:"target,omitempty"`

	// Decides, logs and counts, and refuses nothing: to try rules beside what
	// guards the server now. Off by default.
	Shadow bool `json:"shadow,omitempty"`

	// The size of the largest request body, in bytes. Default: 4194304.
	MaxBody int64 `json:"max_body,omitempty"`

	// The size of the largest answer that may hold a list, and of the
	// largest server-sent event, in bytes. A larger one is not passed on.
	// Default: 16777216.
	MaxEvent int64 `json:"max_event,omitempty"`

	policy      *policy
	scopes      *scopePolicy
	logger      *zap.Logger
	audit       *auditLog
	metrics     *metrics
	now         func() time.Time
	bodyTimeout time.Duration
	// lease ends when a reload has changed the configuration.
	lease *lease.Lease
}

// Ways to answer a denied target.
const (
	OnDenyHide   = "hide"
	OnDenyForbid = "forbid"
)

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.mcp_authorize",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision compiles the rules.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.now = time.Now
	h.bodyTimeout = slowbody.Timeout
	written := h.asWritten()
	if err := h.Compile(); err != nil {
		return err
	}
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	if h.MaxEvent == 0 {
		h.MaxEvent = defaultMaxEvent
	}
	if len(h.policy.allows.list) == 0 && len(h.policy.requires.list) == 0 {
		h.logger.Warn("there are only deny rules: whatever none of them denies is allowed")
	}
	if h.Shadow {
		h.logger.Warn("shadow: rules are tried and counted, but nothing is refused")
	}
	if err := h.provisionObservers(ctx); err != nil {
		return err
	}
	if err := h.showPolicy(ctx, written); err != nil {
		return err
	}
	var err error
	h.lease, err = lease.Acquire(ctx, "mcp_authorize", h)
	return err
}

// provisionObservers sets up what tells about decisions.
func (h *Handler) provisionObservers(ctx caddy.Context) error {
	names, err := ruleNames(h.Rules)
	if err != nil {
		return err
	}
	if h.metrics, err = newMetrics(ctx.GetMetricsRegistry(), names); err != nil {
		return err
	}
	h.audit = newAuditLog(h.logger.Named("audit"), h.metrics.auditLost)
	return nil
}

// Cleanup writes the last lines of the audit log, and gives the lease back.
func (h *Handler) Cleanup() error {
	h.audit.close()
	return h.lease.Release()
}

func (h *Handler) expandPlaceholders() error {
	for _, rule := range h.Rules {
		if rule == nil {
			continue
		}
		if err := cfutil.Expand(&rule.Name); err != nil {
			return err
		}
		if err := cfutil.ExpandAll(rule.MatchExpressions); err != nil {
			return err
		}
	}
	for _, scope := range h.Scopes {
		if scope == nil {
			continue
		}
		if err := cfutil.Expand(&scope.Scope, &scope.When); err != nil {
			return err
		}
	}
	return cfutil.Expand(&h.OnDeny, &h.Target)
}

func (h *Handler) checkOptions() error {
	switch h.OnDeny {
	case "", OnDenyHide, OnDenyForbid:
	default:
		return errors.New("on_deny is hide or forbid")
	}
	if h.MaxBody < 0 || h.MaxBody > maxSize {
		return errors.New("max_body must be between 1B and 256MiB")
	}
	if h.MaxEvent < 0 || h.MaxEvent > maxSize {
		return errors.New("max_event must be between 1B and 256MiB")
	}
	return nil
}

// Compile replaces placeholders, checks the options and compiles the rules,
// which is all that Explain and Replay need. Provision does it.
func (h *Handler) Compile() error {
	if err := h.expandPlaceholders(); err != nil {
		return err
	}
	if err := h.checkOptions(); err != nil {
		return err
	}
	var err error
	if h.policy, err = compilePolicy(h.Rules); err != nil {
		return err
	}
	h.scopes, err = compileScopes(h.Scopes, h.ScopeImplies)
	return err
}

// ServeHTTP judges the request and passes it on, or answers it; what the
// upstream answers is filtered by the same rules.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	watch := h.metrics.watch()
	defer watch.Stop()
	r, state := reqctx.Ensure(r)
	state.Message = nil
	state.Hold(h.lease)
	if h.Shadow {
		return h.serveShadow(w, r, next, state, &watch)
	}
	in, refused := h.read(w, r, &watch)
	if refused != nil {
		h.observeRefusal(r, refused)
		return refused.write(w, r)
	}
	if !in.batch {
		state.Message = in.first()
	}
	who := h.caller(r, state, in)
	j, m, needed := h.judge(r.Context(), who, in)
	h.observe(r, state, who, in, m, j)
	switch j.outcome {
	case allowed:
	case unscoped:
		return h.answerMissing(w, r, state, needed)
	default:
		return h.answer(w, r, state, m, who, j)
	}
	return h.pass(w, r, next, state, who, in, &watch)
}

// judge asks the rules, and then the scopes, which it returns when one is
// missing.
func (h *Handler) judge(ctx context.Context, who *caller, in *incoming) (judgement, *mcpwire.Message, []string) {
	j, m := h.policy.judgeAll(ctx, who, in)
	if j.outcome != allowed {
		return j, m, nil
	}
	needed := h.scopes.missing(ctx, who, in)
	if needed != nil {
		j = judgement{unscoped, decision{false, scopeRule, reasonScope}}
	}
	return j, m, needed
}

// pass sends a request on that was allowed.
func (h *Handler) pass(
	w http.ResponseWriter, r *http.Request, next caddyhttp.Handler,
	state *reqctx.State, who *caller, in *incoming, watch *promutil.Watch,
) error {
	writer := h.newFilterWriter(r.Context(), w, who, in)
	if m := in.first(); m != nil && m.Listen != nil {
		h.observeSubscription(r, state, m, who, &writer.visible)
		writer.visible.filter().Keep(m.Listen)
		replaceBody(r, m.Listen.Splice(in.body))
	}
	watch.Pause()
	if !writer.isNeeded() {
		return next.ServeHTTP(w, r)
	}
	defer func() { watch.Add(writer.spent) }()
	// an encoded or partial answer could not be read
	for _, name := range [...]string{"Accept-Encoding", "Range", "If-Range"} {
		delete(r.Header, name)
	}
	if err := next.ServeHTTP(writer, r); err != nil {
		return err
	}
	writer.finish()
	return nil
}

// caller collects what the rules may know about who is asking.
func (h *Handler) caller(r *http.Request, state *reqctx.State, in *incoming) *caller {
	who := &caller{
		request: r,
		scheme:  cfutil.Scheme(r),
		version: protocolVersion(r, in.first()),
		target:  h.Target,
		now:     h.now(),

		scopePolicy: h.scopes,
	}
	who.found = who.room[:0]
	if state.Identity != nil {
		who.claims, who.identity = state.Identity.Claims, state.Identity
	}
	if client, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		who.address = client
	} else if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		who.address = host
	}
	return who
}

// protocolVersion is what the client says it speaks.
func protocolVersion(r *http.Request, m *mcpwire.Message) string {
	if version := r.Header.Get(mcpwire.HeaderVersion); version != "" {
		return version
	}
	if m != nil && m.ProtocolVersion != "" {
		return m.ProtocolVersion
	}
	return mcpwire.Version20250326
}

// Interface guards
var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
