package celauthz

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// caller is what does not change while one request is judged.
type caller struct {
	claims reqctx.Claims
	// identity is the one the claims are of; nil for claims without one.
	identity *reqctx.Identity
	jwt      rawObject // the claims
	request  *http.Request
	scheme   string
	// address of the client, trusted proxies honoured.
	address string
	// port of the connection; 0 if the request has it.
	port    int64
	version string
	// target is the configured name of the server behind.
	target string
	now    time.Time

	// asked is told of every question that was answered; nil, unless
	// somebody asks why.
	asked func(question, subject, decision)

	// asking and answering are where questions are put together, one after
	// the other.
	asking    subject
	answering activation
	// found are the numbers of the rules about a target, room has space for
	// those of a few.
	found []int
	room  [8]int
	// remembered holds verdicts that are the same for all entries of a list.
	remembered map[remembered]verdict

	scopePolicy *scopePolicy
	scopes      []string
	headers     map[string]string
}

// subject is the operation a question is about.
type subject struct {
	method string
	kind   mcpwire.TargetKind
	name   string
	// rawArguments are decoded when a rule reads them.
	rawArguments jsontext.Value
	arguments    any
	object       rawObject
	// what expressions get of name and method, made when one asks
	nameValue, methodValue any
}

// about returns the subject of the next question.
func (c *caller) about(what subject) *subject {
	c.asking = what
	return &c.asking
}

// activation gives an expression its variables. It is built once a question
// and computes a value only when a rule asks for it.
type activation struct {
	*caller
	*subject
	// open is what the question leaves open.
	open []*cel.AttributePatternType
	// remembers: the question is about an entry of a list, and others will
	// differ from it in the name alone.
	remembers bool
}

// noArguments stands for a call without arguments.
var noArguments = map[string]any{}

// ResolveName implements cel.Activation. A name that belongs to a target of
// another kind is not found, which is an error in the expression.
func (a *activation) ResolveName(name string) (any, bool) {
	if rest, ok := strings.CutPrefix(name, "mcp."); ok {
		return a.resolveMCP(rest)
	}
	switch name {
	case "jwt":
		return a.claimsMap(), true
	case "scopes":
		return a.scopeList(), true
	case "now":
		return a.now, true
	case "request.method":
		return a.request.Method, true
	case "request.scheme":
		return a.scheme, true
	case "request.host":
		return a.request.Host, true
	case "request.path":
		return a.request.URL.Path, true
	case "request.uri":
		return a.request.URL.RequestURI(), true
	case "request.query":
		return map[string][]string(a.request.URL.Query()), true
	case "request.headers":
		return a.headerMap(), true
	case "source.address":
		return a.address, true
	case "source.port":
		return a.sourcePort(), true
	default:
		return nil, false
	}
}

func (a *activation) resolveMCP(name string) (any, bool) {
	switch name {
	case "method":
		if a.methodValue == nil {
			a.methodValue = types.String(a.method)
		}
		return a.methodValue, true
	case "version":
		return a.version, true
	}
	kind, field, _ := strings.Cut(name, ".")
	if a.kind == mcpwire.NoTarget || kind != a.kind.String() {
		return nil, false
	}
	switch field {
	case "name", "uri", "id":
		if a.nameValue == nil {
			a.nameValue = types.String(a.name)
		}
		return a.nameValue, true
	case "target":
		return a.target, true
	case "arguments":
		return a.argumentMap(), true
	default:
		return nil, false
	}
}

func (c *caller) sourcePort() int64 {
	if c.port == 0 {
		_, port, _ := net.SplitHostPort(c.request.RemoteAddr)
		c.port, _ = strconv.ParseInt(port, 10, 32)
	}
	return c.port
}

// isSmall reports whether nothing that a question is about, and that comes
// from outside, is large.
func (a *activation) isSmall() bool {
	return len(a.rawArguments) <= smallInput && len(a.name) <= smallInput && len(a.method) <= smallInput &&
		len(a.claims) <= smallInput
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

// UnknownAttributePatterns implements cel.PartialActivation.
func (a *activation) UnknownAttributePatterns() []*cel.AttributePatternType { return a.open }

// AsPartialActivation tells the interpreter which activations are partial.
func (a *activation) AsPartialActivation() (cel.PartialActivation, bool) {
	return a, len(a.open) > 0
}

func (s *subject) argumentMap() any {
	if s.arguments == nil {
		s.arguments = noArguments
		if s.rawArguments != nil {
			s.object = rawObject{raw: s.rawArguments}
			s.arguments = &s.object
		}
	}
	return s.arguments
}

// scopeList are the granted scopes: the claim scope (RFC 8693 section 4.2)
// or scp, as a text with blanks or as a list.
func (c *caller) scopeList() []string {
	if c.scopes == nil {
		c.scopes = c.scopePolicy.withImplied(scopesOf(c.claims))
	}
	return c.scopes
}

func scopesOf(claims reqctx.Claims) []string {
	scopes := []string{}
	claim, ok := claims.Get("scope")
	if !ok {
		claim, _ = claims.Get("scp")
	}
	switch v := claim.(type) {
	case string:
		scopes = append(scopes, strings.Fields(v)...)
	case []any:
		for _, element := range v {
			if text, ok := element.(string); ok {
				scopes = append(scopes, text)
			}
		}
	}
	return scopes
}

func (c *caller) headerMap() map[string]string {
	if c.headers == nil {
		c.headers = make(map[string]string, len(c.request.Header))
		for name, values := range c.request.Header {
			c.headers[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	return c.headers
}
