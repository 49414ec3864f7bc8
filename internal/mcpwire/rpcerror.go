package mcpwire

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// JSON-RPC and MCP error codes the gateway answers with.
const (
	CodeParseError       = -32700
	CodeInvalidRequest   = -32600
	CodeMethodNotFound   = -32601
	CodeInvalidParams    = -32602
	CodeResourceNotFound = -32002 // legacy versions only
	// of 2026-07-28
	CodeHeaderMismatch     = -32020
	CodeUnsupportedVersion = -32022
	// CodeDenied is the gateway's own code, outside the ranges that JSON-RPC
	// and MCP reserve.
	CodeDenied = -31403
	// CodeBadUpstream: the upstream's answer could not be judged.
	CodeBadUpstream = -31502
	// CodeUpstreamRefused: the upstream does not accept the gateway itself.
	CodeUpstreamRefused = -31401
	// CodeUpstreamDown: the upstream cannot be reached.
	CodeUpstreamDown = -31503
	// CodeUpstreamSlow: the upstream has not answered in time.
	CodeUpstreamSlow = -31504
	// CodeBusy: there are as many processes or requests as may be.
	CodeBusy = -31429
)

// ErrorResponse encodes a JSON-RPC error. id is echoed as it was written,
// null when nil; data is a JSON value, or nil.
func ErrorResponse(id jsontext.Value, code int, message string, data jsontext.Value) []byte {
	b := append(make([]byte, 0, 96+len(id)+len(message)+len(data)), `{"jsonrpc":"2.0","id":`...)
	if len(id) == 0 {
		b = append(b, "null"...)
	} else {
		b = append(b, id...)
	}
	b = append(b, `,"error":{"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"message":`...)
	b = Quote(b, message)
	if data != nil {
		b = append(b, `,"data":`...)
		b = append(b, data...)
	}
	return append(b, "}}"...)
}

// Quote appends text as a JSON string. Bytes that are not valid UTF-8 become
// U+FFFD.
func Quote(dst []byte, text string) []byte {
	// the only error is about invalid UTF-8, which has been replaced by then
	dst, _ = jsontext.AppendQuote(dst, text)
	return dst
}
