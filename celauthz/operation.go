package celauthz

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// Operation is something a caller wants to do, as Explain is asked about it.
type Operation struct {
	// The claims of the token, an object. Without them, or with null, there
	// is no token.
	Claims jsontext.Value `json:"claims,omitzero"`

	// The method of the message, `tools/call` say; `GET` and `DELETE` are
	// requests without a message.
	Method string `json:"method"`

	// The tool, prompt, resource or task. With a list, `tools/list` say, it
	// is the entry whose visibility is asked about; a template counts as it
	// is written.
	Target string `json:"target,omitzero"`

	// The arguments of tools/call and prompts/get, an object.
	Arguments jsontext.Value `json:"arguments,omitzero"`

	// All params of the message, an object, instead of target and
	// arguments.
	Params jsontext.Value `json:"params,omitzero"`

	// The protocol version. Default: the one that params of initialize
	// name, else 2025-03-26.
	Version string `json:"version,omitzero"`

	// The HTTP request around the message.
	Request OperationRequest `json:"request,omitzero"`

	// The client's address, or address:port.
	Source string `json:"source,omitzero"`

	// When it happens. Default: now.
	Time time.Time `json:"time,omitzero"`
}

// OperationRequest is what rules may know about the HTTP request. What is
// left out is empty.
type OperationRequest struct {
	// Default: https.
	Scheme string `json:"scheme,omitzero"`
	Host   string `json:"host,omitzero"`
	// The path and query. Default: /.
	URI     string            `json:"uri,omitzero"`
	Headers map[string]string `json:"headers,omitzero"`
}

// listKinds are the kinds of the entries of lists.
var listKinds = map[string]mcpwire.TargetKind{
	"tools/list":               mcpwire.Tool,
	"prompts/list":             mcpwire.Prompt,
	"resources/list":           mcpwire.Resource,
	"resources/templates/list": mcpwire.Resource,
	"tasks/list":               mcpwire.Task,
}

var (
	errNoMethod      = errors.New("an operation needs a method")
	errParamsTwice   = errors.New("params hold target and arguments already")
	errBodiless      = errors.New("GET and DELETE carry no message, so they have no target, arguments or params")
	errNotArguments  = errors.New("only tools/call and prompts/get have arguments")
	errNeedsParams   = errors.New("say with params what it is about")
	errNoTargetThere = errors.New("this method has no target")
)

// incoming is the message of an operation, read as a client's is, and the
// entry of a list that is asked about.
func (o *Operation) incoming() (in *incoming, entry string, err error) {
	switch {
	case o.Method == "":
		return nil, "", errNoMethod
	case o.bodiless() && (o.Target != "" || o.Arguments != nil || o.Params != nil):
		return nil, "", errBodiless
	case o.bodiless():
		return new(incoming), "", nil
	}
	for name, value := range map[string]jsontext.Value{"arguments": o.Arguments, "params": o.Params} {
		if value == nil {
			continue
		}
		// by itself, before it becomes part of a message
		if err := mcpwire.Object(value, func(string, jsontext.Value) error { return nil }); err != nil {
			return nil, "", fmt.Errorf("%s: %w", name, err)
		}
	}
	params := o.Params
	_, isList := listKinds[o.Method]
	switch {
	case params != nil && (o.Target != "" && !isList || o.Arguments != nil):
		return nil, "", errParamsTwice
	case isList:
		entry = o.Target
	case params == nil:
		if params, err = o.params(); err != nil {
			return nil, "", err
		}
	}
	message := append([]byte(`{"jsonrpc":"2.0","method":`), mcpwire.Quote(nil, o.Method)...)
	if !strings.HasPrefix(o.Method, "notifications/") {
		message = append(message, `,"id":1`...)
	}
	if params != nil {
		message = append(append(message, `,"params":`...), params...)
	}
	m, err := mcpwire.Read(append(message, '}'))
	if err != nil {
		return nil, "", err
	}
	return &incoming{messages: []*mcpwire.Message{m}}, entry, nil
}

func (o *Operation) bodiless() bool {
	return o.Method == http.MethodGet || o.Method == http.MethodDelete
}

// params puts target and arguments where the method has them.
func (o *Operation) params() (jsontext.Value, error) {
	kind, member := mcpwire.TargetOf(o.Method)
	switch {
	case kind == mcpwire.NoTarget && o.Target != "":
		if o.Method == "completion/complete" || o.Method == "subscriptions/listen" {
			return nil, errNeedsParams
		}
		return nil, errNoTargetThere
	case o.Arguments != nil && o.Method != "tools/call" && o.Method != "prompts/get":
		return nil, errNotArguments
	case kind == mcpwire.NoTarget:
		return nil, nil
	}
	params := append(mcpwire.Quote([]byte{'{'}, member), ':')
	params = mcpwire.Quote(params, o.Target)
	if o.Arguments != nil {
		params = append(append(params, `,"arguments":`...), o.Arguments...)
	}
	return append(params, '}'), nil
}

// caller is who performs the operation. Claims are read as those of a token
// are.
func (h *Handler) callerOf(o *Operation, m *mcpwire.Message) (*caller, error) {
	r, err := o.httpRequest()
	if err != nil {
		return nil, err
	}
	who := &caller{
		request: r, scheme: o.Request.Scheme, version: protocolVersion(r, m),
		target: h.Target, now: o.Time, scopePolicy: h.scopes,
	}
	if who.scheme == "" {
		who.scheme = "https"
	}
	if who.now.IsZero() {
		who.now = time.Now()
	}
	if who.claims, err = readClaims(o.Claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	who.address, who.port, err = splitSource(o.Source)
	return who, err
}

func (o *Operation) httpRequest() (*http.Request, error) {
	uri := o.Request.URI
	if uri == "" {
		uri = "/"
	}
	address, err := url.ParseRequestURI(uri)
	if err != nil {
		return nil, err
	}
	r := &http.Request{Method: http.MethodPost, URL: address, Host: o.Request.Host, Header: http.Header{}}
	if o.bodiless() {
		r.Method = o.Method
	}
	for name, value := range o.Request.Headers {
		r.Header.Set(name, value)
	}
	if o.Version != "" {
		r.Header.Set(mcpwire.HeaderVersion, o.Version)
	}
	return r, nil
}

func readClaims(text jsontext.Value) (reqctx.Claims, error) {
	if len(text) == 0 || text.Kind() == 'n' {
		return nil, nil
	}
	return reqctx.ReadClaims(text)
}

// splitSource takes a port off an address that has one.
func splitSource(source string) (address string, port int64, err error) {
	host, portText, err := net.SplitHostPort(source)
	if err == nil {
		port, err = strconv.ParseInt(portText, 10, 32)
		return host, port, err
	}
	return source, 0, nil
}
