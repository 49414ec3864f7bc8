package stdio

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// refusal is an answer that no process gives.
type refusal struct {
	status  int
	id      jsontext.Value
	code    int
	message string
	data    []byte
	// retry is for Retry-After, in whole seconds; 0 for none.
	retry int
	// allow is for Allow, of an answer without a body.
	allow string
	err   error
	// body is the whole answer, where it is there already.
	body []byte
}

func (f *refusal) write(w http.ResponseWriter) {
	switch {
	case f.body != nil:
		writeJSON(w, f.status, f.body)
		return
	case f.allow != "":
		w.Header().Set("Allow", f.allow)
		w.WriteHeader(f.status)
		return
	case f.retry > 0:
		w.Header().Set("Retry-After", strconv.Itoa(f.retry))
	}
	writeJSON(w, f.status, mcpwire.ErrorResponse(f.id, f.code, f.message, f.data))
}

// reason is why a request was refused, as the access log has it.
func (f *refusal) reason() string {
	switch f.status {
	case http.StatusNotFound:
		return "unknown_session"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusNotAcceptable:
		return "not_acceptable"
	case http.StatusRequestTimeout:
		return "body_timeout"
	case http.StatusRequestEntityTooLarge:
		return "body_too_large"
	case http.StatusUnsupportedMediaType:
		return "unsupported_media_type"
	case http.StatusBadGateway:
		if f.code == mcpwire.CodeBadUpstream {
			return "bad_upstream_answer"
		}
		return "upstream_down"
	case http.StatusServiceUnavailable:
		return "upstream_busy"
	default:
		return "malformed_message"
	}
}

func invalid(id jsontext.Value, message string) *refusal {
	return &refusal{status: http.StatusBadRequest, id: id, code: mcpwire.CodeInvalidRequest, message: message}
}

func formatRefusal(err error) *refusal {
	var format *mcpwire.FormatError
	if errors.As(err, &format) {
		return &refusal{status: http.StatusBadRequest, id: format.ID, code: format.Code, message: err.Error()}
	}
	return invalid(nil, err.Error())
}

// refusalOf says how a failure is answered.
func refusalOf(id jsontext.Value, err error) *refusal {
	f := &refusal{id: id, message: err.Error(), err: err}
	var pause pauseError
	switch {
	case errors.Is(err, errSession):
		f.status, f.code = http.StatusNotFound, mcpwire.CodeInvalidRequest
	case errors.As(err, &pause):
		f.status, f.code, f.retry = http.StatusServiceUnavailable, mcpwire.CodeBusy, int(math.Ceil(pause.left.Seconds()))
	case errors.Is(err, context.Canceled): // the gateway has ended a stream, or the client has left
		f.status, f.code, f.retry, f.message = http.StatusServiceUnavailable, mcpwire.CodeBusy, 1, "the request has ended; send it again"
	case errors.Is(err, errBusy), errors.Is(err, errPending), errors.Is(err, errClosed):
		f.status, f.code, f.retry = http.StatusServiceUnavailable, mcpwire.CodeBusy, busyRetry
	default:
		f.status, f.code = http.StatusBadGateway, mcpwire.CodeUpstreamDown
	}
	return f
}
