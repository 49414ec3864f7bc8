package mcpproxy

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// Why a request did not get to the server, or the server's answer not to the
// client, as the access log has it.
const (
	reasonNoJWT           = "no_mcp_jwt"
	reasonBadSession      = "malformed_session"
	reasonNoSession       = "unknown_session"
	reasonNoKey           = "session_key_unavailable"
	reasonBadAnswer       = "bad_upstream_answer"
	reasonNoEndpoint      = "unknown_endpoint"
	reasonSlowBody        = "body_timeout"
	reasonBadRequest      = "malformed_request"
	reasonUpstreamDown    = "upstream_down"
	reasonUpstreamSlow    = "upstream_slow"
	reasonUpstreamRefused = "upstream_unauthorized"
	reasonStreamEnded     = "stream_ended"
)

// refuse answers a request in the place of the server, and says why in the
// access log.
func refuse(w http.ResponseWriter, r *http.Request, status int, reason, text string) error {
	logReason(r, reason)
	return cfutil.Refuse(w, r, status, text)
}

// logReason says in the access log why the server does not answer. What
// mcp_authorize has noted of the message stays; that it had allowed it is of
// no account any more.
func logReason(r *http.Request, reason string) {
	entry := cfutil.LogEntry{Decision: cfutil.Deny, Reason: reason}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		entry.Method, _ = repl.GetString("mcp.method")
		entry.Version, _ = repl.GetString("mcp.version")
	}
	if state := reqctx.From(r.Context()); state != nil && state.Message != nil {
		entry.Target = state.Message.Target
	}
	entry.AddTo(r)
}
