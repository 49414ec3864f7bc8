package mcpwire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// The headers that mirror a message (MCP 2026-07-28, transports).
const (
	HeaderVersion = "Mcp-Protocol-Version"
	HeaderMethod  = "Mcp-Method"
	HeaderName    = "Mcp-Name"
)

// EndpointQuery is the query parameter of a POST by which mcp_proxy knows
// where a server of 2024-11-05 wants it. Its client gets answers on a stream.
const EndpointQuery = "mcp_endpoint"

// Versions are the protocol versions that are let through, oldest first.
var Versions = []string{"2024-11-05", Version20250326, "2025-06-18", "2025-11-25", VersionModern}

// Base64 form of a header value.
const (
	base64Prefix = "=?base64?"
	base64Suffix = "?="
)

var (
	errHeaderBase64 = errors.New("is not valid base64 of UTF-8")
	errHeaderBytes  = errors.New("holds bytes that a header value cannot have")
)

// DecodeHeader reads a header value, which may be =?base64?...?= with the
// standard alphabet around UTF-8. The markers are exact.
func DecodeHeader(value string) (string, error) {
	encoded, ok := strings.CutPrefix(value, base64Prefix)
	if ok {
		encoded, ok = strings.CutSuffix(encoded, base64Suffix)
	}
	if !ok {
		for i := range len(value) {
			if c := value[i]; c != '\t' && (c < ' ' || c > '~') {
				return "", errHeaderBytes
			}
		}
		return value, nil
	}
	if strings.ContainsAny(encoded, "\r\n") {
		return "", errHeaderBase64
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || !utf8.Valid(decoded) {
		return "", errHeaderBase64
	}
	return string(decoded), nil
}

// CheckHeaders compares the headers of a POST with the message in it. The
// message decides; headers that say something else lead every server that
// believes them astray. It returns the error to answer, nil if all is well.
func CheckHeaders(header http.Header, m *Message) *ProtocolError {
	if len(header[HeaderVersion]) > 1 {
		return mismatch(HeaderVersion, "is there more than once")
	}
	version := header.Get(HeaderVersion)
	modern := IsModern(version) || IsModern(m.Meta.Version)
	if modern && m.Shape == Request {
		if err := checkModern(version, m); err != nil {
			return err
		}
	}
	if len(header[HeaderVersion]) > 0 && !slices.Contains(Versions, version) {
		return unsupportedVersion(version)
	}
	if err := checkMirror(header, HeaderMethod, m.Method, modern && m.Shape == Request); err != nil {
		return err
	}
	name, mirrored := mirroredName(m)
	if !mirrored {
		// a name beside a method that has none is nobody's business here
		return nil
	}
	return checkMirror(header, HeaderName, name, modern && m.Shape == Request)
}

// checkModern checks what every request of a modern client carries.
func checkModern(version string, m *Message) *ProtocolError {
	switch {
	case version == "":
		return mismatch(HeaderVersion, "is missing")
	case m.Meta.Version == "":
		return &ProtocolError{
			Status: http.StatusBadRequest, Code: CodeInvalidParams,
			Message: "missing _meta member " + metaVersion,
		}
	case version != m.Meta.Version:
		return mismatch(HeaderVersion, "differs from the version in _meta")
	case !m.Meta.Capabilities:
		return &ProtocolError{
			Status: http.StatusBadRequest, Code: CodeInvalidParams,
			Message: "missing _meta member " + metaCapabilities,
		}
	}
	return nil
}

// mirroredName is what Mcp-Name repeats of a message. Modern requests of
// these methods must have the header: servers may route by it.
func mirroredName(m *Message) (name string, mirrored bool) {
	switch m.Method {
	case "tools/call", "prompts/get", "resources/read", "tasks/get", "tasks/update", "tasks/cancel":
		return m.Target, true
	default:
		return "", false
	}
}

// checkMirror compares one header with the value it repeats.
func checkMirror(header http.Header, name, want string, required bool) *ProtocolError {
	values := header[name]
	if len(values) == 0 {
		if required {
			return mismatch(name, "is missing")
		}
		return nil
	}
	if len(values) > 1 {
		return mismatch(name, "is there more than once")
	}
	value, err := DecodeHeader(values[0])
	if err != nil {
		return mismatch(name, err.Error())
	}
	if value != want {
		return mismatch(name, "differs from the body")
	}
	return nil
}

// ProtocolError is how a request that breaks the rules of the transport is
// answered.
type ProtocolError struct {
	Status  int
	Code    int
	Message string
	Data    []byte
}

func mismatch(header, what string) *ProtocolError {
	return &ProtocolError{
		Status: http.StatusBadRequest, Code: CodeHeaderMismatch,
		Message: fmt.Sprintf("header mismatch: %s %s", header, what),
	}
}

func unsupportedVersion(version string) *ProtocolError {
	data := append([]byte(`{"supported":`), encodeStrings(Versions)...)
	data = append(data, `,"requested":`...)
	data = append(Quote(data, version), '}')
	return &ProtocolError{
		Status: http.StatusBadRequest, Code: CodeUnsupportedVersion,
		Message: "unsupported protocol version", Data: data,
	}
}
