package celauthz

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// refusal is an answer that is given instead of passing a request on.
type refusal struct {
	status int
	// text is the body, one line, unless rpc is set.
	text string
	// rpc is a JSON-RPC error response.
	rpc []byte
}

func rpcRefusal(status int, id jsontext.Value, code int, message string, data jsontext.Value) *refusal {
	return &refusal{status: status, rpc: mcpwire.ErrorResponse(id, code, message, data)}
}

// reason is why a request was refused that no rule was asked about.
func (f *refusal) reason() string {
	switch {
	case f.rpc != nil:
		return "malformed_message"
	case f.status == http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case f.status == http.StatusRequestTimeout:
		return "body_timeout"
	case f.status == http.StatusRequestEntityTooLarge:
		return "body_too_large"
	case f.status == http.StatusUnsupportedMediaType:
		return "unsupported_media_type"
	default:
		return "malformed_request"
	}
}

func (f *refusal) write(w http.ResponseWriter, r *http.Request) error {
	if f.rpc == nil {
		return cfutil.Refuse(w, r, f.status, f.text)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	status := f.status
	if status == http.StatusOK && strings.Contains(r.URL.RawQuery, mcpwire.EndpointQuery+"=") {
		// a client of 2024-11-05 waits on its stream for the answer, and
		// sees nothing but the status of this one
		status = http.StatusNotFound
	}
	w.WriteHeader(status)
	// nothing can be done about a client that has gone
	_, _ = w.Write(f.rpc)
	return nil
}

// answer refuses a request that was judged.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, state *reqctx.State, m *mcpwire.Message, who *caller, j judgement) error {
	if c := h.logger.Check(zap.DebugLevel, "operation refused"); c != nil {
		c.Write(zap.String("rule", j.rule), zap.String("method", methodOf(m)))
	}
	if state.Identity != nil && state.Identity.Login != nil && j.outcome != unknownMethod {
		// somebody who has not logged in may get further once they do
		return state.Identity.Login(w, r)
	}
	return h.refusal(m, who.version, j).write(w, r)
}

// answerMissing refuses a request that the rules allow, but whose token
// lacks a scope. All scopes of the operation are named at once, so that one
// more token is enough.
func (h *Handler) answerMissing(w http.ResponseWriter, r *http.Request, state *reqctx.State, needed []string) error {
	if c := h.logger.Check(zap.DebugLevel, "operation refused"); c != nil {
		c.Write(zap.Strings("needed_scopes", needed))
	}
	switch {
	case state.Identity != nil && state.Identity.Login != nil:
		return state.Identity.Login(w, r)
	case state.Identity != nil && state.Identity.StepUp != nil:
		return state.Identity.StepUp(w, r, needed)
	default:
		return cfutil.Refuse(w, r, http.StatusForbidden, "authorization failed")
	}
}

// refusal maps an outcome to its answer. What a caller may not see is
// answered just as the protocol answers what does not exist.
func (h *Handler) refusal(m *mcpwire.Message, version string, j judgement) *refusal {
	outcome := j.outcome
	if outcome == hidden && h.OnDeny == OnDenyForbid {
		outcome = refused
	}
	switch outcome {
	case hidden:
		if m.Kind == mcpwire.Resource && !mcpwire.IsModern(version) {
			data := append(mcpwire.Quote([]byte(`{"uri":`), m.Target), '}')
			return rpcRefusal(http.StatusOK, m.ID, mcpwire.CodeResourceNotFound, "Resource not found", data)
		}
		message := "Unknown " + m.Kind.String() + ": " + m.Target
		return rpcRefusal(http.StatusOK, m.ID, mcpwire.CodeInvalidParams, message, nil)
	case refused:
		message := "denied by rule " + strconv.Quote(j.rule)
		return rpcRefusal(http.StatusForbidden, m.ID, mcpwire.CodeDenied, message, nil)
	case unknownMethod:
		status := http.StatusOK
		if mcpwire.IsModern(version) {
			status = http.StatusNotFound
		}
		return rpcRefusal(status, m.ID, mcpwire.CodeMethodNotFound, "Method not found", nil)
	default:
		return &refusal{status: http.StatusForbidden, text: "authorization failed"}
	}
}

func methodOf(m *mcpwire.Message) string {
	if m == nil {
		return ""
	}
	return m.Method
}

// targetOf is the target of a message if it is of this kind.
func targetOf(m *mcpwire.Message, kind mcpwire.TargetKind) string {
	if m == nil || m.Kind != kind {
		return ""
	}
	return m.Target
}

// setPlaceholders lets logs and other handlers read what was asked and what
// was decided.
func setPlaceholders(r *http.Request, m *mcpwire.Message, version string, j judgement) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	repl.Map(func(name string) (any, bool) {
		switch name {
		case "mcp.method":
			return methodOf(m), true
		case "mcp.tool.name":
			return targetOf(m, mcpwire.Tool), true
		case "mcp.prompt.name":
			return targetOf(m, mcpwire.Prompt), true
		case "mcp.resource.uri":
			return targetOf(m, mcpwire.Resource), true
		case "mcp.task.id":
			return targetOf(m, mcpwire.Task), true
		case "mcp.session.id":
			return r.Header.Get("Mcp-Session-Id"), true
		case "mcp.version":
			return version, true
		case "mcp.decision":
			return decisionText(j), true
		case "mcp.rule":
			return j.rule, true
		default:
			return nil, false
		}
	})
}
