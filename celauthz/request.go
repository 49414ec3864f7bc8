package celauthz

import (
	"context"
	"errors"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/promutil"
	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

// incoming is what a request carries.
type incoming struct {
	body     []byte
	messages []*mcpwire.Message
	batch    bool
	judged   []judgement // of a batch, see judgeAll
}

// first is the message of a request, or the first of a batch; nil without a
// body.
func (in *incoming) first() *mcpwire.Message {
	if len(in.messages) == 0 {
		return nil
	}
	return in.messages[0]
}

// read reads the request, or says how to refuse it. The client's time is not
// counted.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, watch *promutil.Watch) (*incoming, *refusal) {
	if status, text := checkTransport(r); status != 0 {
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", allowedMethods(r))
		}
		return nil, &refusal{status: status, text: text}
	}
	if r.Method != http.MethodPost {
		return new(incoming), nil
	}
	watch.Pause()
	body, err := readInTime(w, r, h.MaxBody, h.bodyTimeout)
	watch.Resume()
	if err != nil {
		return nil, bodyRefusal(err)
	}
	return parse(r, body)
}

// parse reads the messages of a body.
func parse(r *http.Request, body []byte) (*incoming, *refusal) {
	in := &incoming{body: body}
	var err error
	if in.messages, in.batch, err = mcpwire.ReadAll(in.body); err != nil {
		return nil, formatRefusal(err)
	}
	if version := r.Header.Get(mcpwire.HeaderVersion); in.batch && version != "" && version != mcpwire.Version20250326 {
		return nil, rpcRefusal(http.StatusBadRequest, nil, mcpwire.CodeInvalidRequest,
			"batches are not accepted in version "+version, nil)
	}
	for _, m := range in.messages {
		if broken := mcpwire.CheckHeaders(r.Header, m); broken != nil {
			return nil, rpcRefusal(broken.Status, m.ID, broken.Code, broken.Message, broken.Data)
		}
	}
	return in, nil
}

// allowedMethods is the Allow header of a 405.
func allowedMethods(r *http.Request) string {
	if mcpwire.IsModern(r.Header.Get(mcpwire.HeaderVersion)) {
		return "POST"
	}
	return "GET, POST, DELETE"
}

func formatRefusal(err error) *refusal {
	var format *mcpwire.FormatError
	if !errors.As(err, &format) {
		return rpcRefusal(http.StatusBadRequest, nil, mcpwire.CodeInvalidRequest, err.Error(), nil)
	}
	return rpcRefusal(http.StatusBadRequest, format.ID, format.Code, err.Error(), nil)
}

// bodyRefusal answers a body that could not be read; request_body limits and
// the server's timeouts bring their own status.
func bodyRefusal(err error) *refusal {
	switch {
	case errors.Is(err, reqctx.ErrBodyTooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, text: err.Error()}
	case errors.Is(err, slowbody.Err):
		return &refusal{status: http.StatusRequestTimeout, text: err.Error()}
	}
	var failure caddyhttp.HandlerError
	if errors.As(err, &failure) && failure.StatusCode != 0 {
		return &refusal{status: failure.StatusCode, text: http.StatusText(failure.StatusCode)}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &refusal{status: http.StatusRequestEntityTooLarge, text: reqctx.ErrBodyTooLarge.Error()}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return &refusal{status: http.StatusRequestTimeout, text: slowbody.Err.Error()}
	}
	return &refusal{status: http.StatusBadRequest, text: "the request body could not be read"}
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
		return checkBodiless(r)
	}
	if !isJSON(r.Header.Get("Content-Type")) {
		return http.StatusUnsupportedMediaType, "the body must be application/json"
	}
	if encoding := r.Header.Values("Content-Encoding"); len(encoding) > 0 && !strings.EqualFold(strings.Join(encoding, ","), "identity") {
		return http.StatusUnsupportedMediaType, "the body must not be encoded"
	}
	return 0, ""
}

// isJSON accepts no charset but UTF-8: some servers decode the body as the
// client says, and would read other names in it (UTF-7) than were judged.
func isJSON(contentType string) bool {
	if contentType == jsonType {
		return true
	}
	mediaType, parameters, err := mime.ParseMediaType(contentType)
	// parameters in the form of RFC 2231 (charset*=) may get lost in parsing
	if err != nil || mediaType != jsonType || strings.Contains(contentType, "*") {
		return false
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

// singleHeaders are read by server and gateway; of two values, each might
// read another one.
var singleHeaders = []string{"Content-Type", "Mcp-Session-Id"}

// checkBodiless checks GET and DELETE, which only legacy versions have.
func checkBodiless(r *http.Request) (status int, text string) {
	if r.ContentLength != 0 {
		return http.StatusBadRequest, "a " + r.Method + " request has no body"
	}
	switch versions := r.Header[mcpwire.HeaderVersion]; {
	case len(versions) == 0:
		return 0, ""
	case len(versions) > 1:
		return http.StatusBadRequest, "more than one " + mcpwire.HeaderVersion + " header"
	case mcpwire.IsModern(versions[0]):
		return http.StatusMethodNotAllowed, "method not allowed"
	case !slices.Contains(mcpwire.Versions, versions[0]):
		return http.StatusBadRequest, "unsupported protocol version"
	}
	return 0, ""
}

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
