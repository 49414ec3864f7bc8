// Package celauthz is the Caddy module http.handlers.mcp_authorize: rules in
// the Common Expression Language decide about every operation of the Model
// Context Protocol before it reaches a server.
package celauthz

import (
	"context"
	"errors"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Bounds of the options.
const (
	defaultMaxBody = 4 << 20
	// maxMaxBody bounds what one request may make the gateway hold in
	// memory, whatever the configuration says.
	maxMaxBody = 256 << 20
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
// `{mcp.rule}` | The rule that decided; `default` when none did
type Handler struct {
	// The rules. At least one.
	Rules []*Rule `json:"rules,omitempty"`

	// How a denied target is answered: `hide` (the default) as if it did
	// not exist, `forbid` with 403 and the name of the rule.
	OnDeny string `json:"on_deny,omitempty"`

	// The name of the server behind, `mcp.tool.target` and its like.
	Target string `json:"target,omitempty"`

	// The size of the largest request body, in bytes. Default: 4194304.
	MaxBody int64 `json:"max_body,omitempty"`

	policy *policy
	logger *zap.Logger
	now    func() time.Time
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
	if err := h.expandPlaceholders(); err != nil {
		return err
	}
	if err := h.checkOptions(); err != nil {
		return err
	}
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	var err error
	if h.policy, err = compilePolicy(h.Rules); err != nil {
		return err
	}
	if len(h.policy.allows) == 0 && len(h.policy.requires) == 0 {
		h.logger.Warn("there are only deny rules: whatever none of them denies is allowed")
	}
	return nil
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
	return cfutil.Expand(&h.OnDeny, &h.Target)
}

func (h *Handler) checkOptions() error {
	switch h.OnDeny {
	case "", OnDenyHide, OnDenyForbid:
	default:
		return errors.New("on_deny is hide or forbid")
	}
	if h.MaxBody < 0 || h.MaxBody > maxMaxBody {
		return errors.New("max_body must be between 1B and 256MiB")
	}
	return nil
}

// ServeHTTP judges the request and passes it on, or answers it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	r, state := reqctx.Ensure(r)
	state.Message = nil
	if status, text := checkTransport(r); status != 0 {
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", "GET, POST, DELETE")
		}
		return cfutil.Refuse(w, r, status, text)
	}
	if r.Method == http.MethodPost {
		m, refusal := h.readMessage(r)
		if refusal != nil {
			return refusal.write(w, r)
		}
		state.Message = m
	}
	who := h.caller(r, state)
	j := h.policy.judge(r.Context(), who, state.Message)
	setPlaceholders(r, state.Message, who.version, j)
	if j.outcome != allowed {
		return h.answer(w, r, state, who, j)
	}
	return next.ServeHTTP(w, r)
}

// checkTransport lets only such requests through as can carry MCP.
func checkTransport(r *http.Request) (status int, text string) {
	switch r.Method {
	case http.MethodPost, http.MethodGet, http.MethodDelete:
	default:
		return http.StatusMethodNotAllowed, "method not allowed"
	}
	if len(r.Header["Upgrade"]) > 0 || headerHasToken(r.Header["Connection"], "upgrade") {
		return http.StatusBadRequest, "upgrades are not accepted"
	}
	for _, name := range singleHeaders {
		if len(r.Header[name]) > 1 {
			return http.StatusBadRequest, "more than one " + name + " header"
		}
	}
	if r.Method != http.MethodPost {
		if r.ContentLength != 0 {
			return http.StatusBadRequest, "a " + r.Method + " request has no body"
		}
		return 0, ""
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return http.StatusUnsupportedMediaType, "the body must be application/json"
	}
	if encoding := r.Header.Values("Content-Encoding"); len(encoding) > 0 && !strings.EqualFold(strings.Join(encoding, ","), "identity") {
		return http.StatusUnsupportedMediaType, "the body must not be encoded"
	}
	return 0, ""
}

// singleHeaders are read by server and gateway; of two values, each might
// read another one.
var singleHeaders = []string{"Content-Type", "Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name"}

func headerHasToken(values []string, token string) bool {
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(element), token) {
				return true
			}
		}
	}
	return false
}

// readMessage reads the body and the message in it.
func (h *Handler) readMessage(r *http.Request) (*mcpwire.Message, *refusal) {
	body, err := readBody(r, h.MaxBody)
	switch {
	case errors.Is(err, errBodyTooLarge):
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, text: err.Error()}
	case err != nil:
		return nil, bodyRefusal(err)
	}
	m, err := mcpwire.Read(body)
	if err == nil {
		return m, nil
	}
	var format *mcpwire.FormatError
	if !errors.As(err, &format) {
		return nil, rpcRefusal(http.StatusBadRequest, nil, mcpwire.CodeInvalidRequest, err.Error(), nil)
	}
	return nil, rpcRefusal(http.StatusBadRequest, format.ID, format.Code, err.Error(), nil)
}

// bodyRefusal answers a body that could not be read; request_body limits and
// the server's timeouts bring their own status.
func bodyRefusal(err error) *refusal {
	var failure caddyhttp.HandlerError
	if errors.As(err, &failure) && failure.StatusCode != 0 {
		return &refusal{status: failure.StatusCode, text: http.StatusText(failure.StatusCode)}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &refusal{status: http.StatusRequestEntityTooLarge, text: errBodyTooLarge.Error()}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return &refusal{status: http.StatusRequestTimeout, text: "the request body took too long"}
	}
	return &refusal{status: http.StatusBadRequest, text: "the request body could not be read"}
}

// caller collects what the rules may know about who is asking.
func (h *Handler) caller(r *http.Request, state *reqctx.State) *caller {
	who := &caller{
		request: r,
		scheme:  cfutil.Scheme(r),
		version: protocolVersion(r, state.Message),
		target:  h.Target,
		now:     h.now(),
	}
	if state.Identity != nil {
		who.claims = state.Identity.Claims
	}
	host, port, err := net.SplitHostPort(r.RemoteAddr)
	if err == nil {
		who.address = host
		who.port, _ = strconv.ParseInt(port, 10, 32)
	}
	if client, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		who.address = client
	}
	return who
}

// protocolVersion is what the client says it speaks.
func protocolVersion(r *http.Request, m *mcpwire.Message) string {
	if version := r.Header.Get("Mcp-Protocol-Version"); version != "" {
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
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
