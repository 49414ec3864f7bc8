package mcpproxy

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/slowbody"
)

const (
	textType = "text/plain; charset=utf-8"
	jsonType = "application/json"
)

// answerFault answers a request whose upstream has not answered. err is what
// reverse_proxy returned; what is no fault of an upstream stays as it is.
func (h *Handler) answerFault(w http.ResponseWriter, r *http.Request, x *exchange, err error) error {
	var failure caddyhttp.HandlerError
	if err == nil || x.answered || !errors.As(err, &failure) {
		return err
	}
	if errors.Is(err, slowbody.Err) {
		return refuse(w, r, http.StatusRequestTimeout, reasonSlowBody, slowbody.Err.Error())
	}
	var code int
	var reason, text string
	switch failure.StatusCode = faultStatus(failure); failure.StatusCode {
	case http.StatusBadGateway:
		code, reason, text = mcpwire.CodeUpstreamDown, reasonUpstreamDown, "the server cannot be reached"
	case http.StatusGatewayTimeout:
		code, reason, text = mcpwire.CodeUpstreamSlow, reasonUpstreamSlow, "the server did not answer in time"
	default:
		return err
	}
	h.logger.Error("the upstream has not answered", zap.Int("status", failure.StatusCode), zap.Error(failure.Err))
	logReason(r, reason)
	contentType, body := x.faultBody(code, text)
	return cfutil.RefuseAs(w, r, failure, contentType, body)
}

// faultStatus tells an upstream that is down from one that is slow.
func faultStatus(failure caddyhttp.HandlerError) int {
	var timeout net.Error
	var dial reverseproxy.DialError
	switch {
	case failure.StatusCode == http.StatusBadGateway && errors.As(failure.Err, &timeout) && timeout.Timeout():
		return http.StatusGatewayTimeout
	case errors.As(failure.Err, &dial) && strings.HasSuffix(dial.Error(), "i/o timeout"):
		// what it wraps cannot be had
		return http.StatusGatewayTimeout
	case failure.StatusCode == http.StatusServiceUnavailable && failure.Err != nil && failure.Err.Error() == "no upstreams available":
		return http.StatusBadGateway
	default:
		return failure.StatusCode
	}
}

// faultBody is a JSON-RPC error for a request that expects an answer, with its
// id where that is known, and one line of text for all others.
func (x *exchange) faultBody(code int, text string) (contentType string, body []byte) {
	if x.client.Method != http.MethodPost {
		return textType, []byte(text)
	}
	if x.state == nil || x.state.Message == nil {
		return jsonType, mcpwire.ErrorResponse(nil, code, text, nil)
	}
	if m := x.state.Message; m.Shape == mcpwire.Request {
		return jsonType, mcpwire.ErrorResponse(m.ID, code, text, nil)
	}
	return textType, []byte(text)
}
