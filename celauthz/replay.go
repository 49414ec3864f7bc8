package celauthz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Undecided is what a replay says where the log does not hold what the rules
// want to know.
const Undecided = "undecided"

// Replayed is one line of the audit log, and what the rules say about it now.
type Replayed struct {
	Method  string `json:"method"`
	Target  string `json:"target"`
	Issuer  string `json:"iss,omitzero"`
	Subject string `json:"sub,omitzero"`
	// The decision in the log, `allow` or `deny`, and its rule.
	Before     string `json:"before"`
	BeforeRule string `json:"before_rule,omitzero"`
	// The decision now, `allow`, `deny` or `undecided`, and its rule.
	After     string `json:"after"`
	AfterRule string `json:"after_rule,omitzero"`
	// Why it is undecided.
	Detail string `json:"detail,omitzero"`
}

// Replayer asks the rules about operations of an audit log. The log has no
// arguments and no claims but iss and sub, so an expression that reads others
// is unknown, in the three-valued logic that lists are judged by.
type Replayer struct {
	handler *Handler
	// always is open for every line: the request, scopes and the claims that
	// some rule names.
	always []*cel.AttributePatternType
	// anyClaim are the parts that read claims without naming them.
	anyClaim map[*part]bool
	// widened are the parts with programs for all that a line leaves open,
	// which is more than any question does.
	widened map[*part]*part
}

// NewReplayer makes a replayer of a handler that has been compiled.
func NewReplayer(h *Handler) (*Replayer, error) {
	r := &Replayer{handler: h, anyClaim: make(map[*part]bool), widened: make(map[*part]*part)}
	for _, v := range variables {
		if v.dependsOn&readsCaller != 0 && v.name != "jwt" && v.name != "mcp.version" {
			r.always = append(r.always, cel.AttributePattern(v.name))
		}
	}
	var named []string
	var e *parsed
	var operands []celast.Expr
	var widened []*part
	for _, p := range h.parts() {
		if e == nil || e.expression != p.from { // parts of one follow each other
			var err error
			if e, err = p.from.parse(); err != nil {
				return nil, err
			}
			if widened, err = e.build(leftOpen | readsCaller | readsNow); err != nil {
				return nil, err
			}
			operands = e.operands()
		}
		names, others := e.claims(operands[p.operand])
		named = append(named, names...)
		r.anyClaim[p], r.widened[p] = others, widened[p.operand]
	}
	slices.Sort(named)
	for _, name := range slices.Compact(named) {
		if name != "iss" && name != "sub" {
			r.always = append(r.always, cel.AttributePattern("jwt").QualString(name))
		}
	}
	return r, nil
}

// parts are all that Replay evaluates.
func (h *Handler) parts() (list []*part) {
	for _, c := range slices.Concat(h.policy.denies.list, h.policy.requires.list) {
		list = append(list, c.part)
	}
	for _, c := range h.policy.allows.list {
		list = append(list, c.parts...)
	}
	for _, need := range h.scopes.needs {
		list = append(list, need.parts...)
	}
	return list
}

// claims are the claims that an operand names; others, that it may read more.
func (e *parsed) claims(operand celast.Expr) (names []string, others bool) {
	all, named := 0, 0
	isJWT := func(inner celast.Expr) bool {
		reference := e.ast.ReferenceMap()[inner.ID()]
		return inner.Kind() == celast.IdentKind && reference != nil && (reference.Name == "jwt" || reference.Name == ".jwt")
	}
	celast.PostOrderVisit(operand, celast.NewExprVisitor(func(e celast.Expr) {
		switch {
		case isJWT(e):
			all++
		case e.Kind() == celast.SelectKind && isJWT(e.AsSelect().Operand()):
			named++
			names = append(names, e.AsSelect().FieldName())
		case e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.Index && isJWT(e.AsCall().Args()[0]):
			key := e.AsCall().Args()[1]
			if key.Kind() != celast.LiteralKind {
				return
			}
			if name, ok := key.AsLiteral().(types.String); ok {
				named++
				names = append(names, string(name))
			}
		}
	}))
	return names, all > named
}

// auditRecord is a line of the audit log.
type auditRecord struct {
	Replayed
	version string
	time    time.Time
}

var errNoDecision = errors.New(`"mcp.decision" is neither allow nor deny`)

// readAudit reads a line; nil when it is of another log.
func readAudit(line []byte) (*auditRecord, error) {
	r, isAudit := new(auditRecord), false
	texts := map[string]*string{
		"mcp.method": &r.Method, "mcp.target": &r.Target, "mcp.rule": &r.BeforeRule, "mcp.version": &r.version,
		"mcp.decision": &r.Before, "iss": &r.Issuer, "sub": &r.Subject,
	}
	err := mcpwire.Object(line, func(name string, value jsontext.Value) error {
		isAudit = isAudit || name == "mcp.decision"
		if name == "ts" {
			r.time = readTime(value)
		}
		if text := texts[name]; text != nil && value.Kind() != 'n' {
			var ok bool
			if *text, ok = mcpwire.String(value); !ok {
				return fmt.Errorf("%q is not a string", name)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case !isAudit:
		return nil, nil
	case r.Before != "allow" && r.Before != "deny":
		return nil, errNoDecision
	}
	return r, nil
}

// isWhole reports whether a text of the log is what the client sent: the log
// cuts long ones, and replaces what cannot be printed.
func isWhole(text string) bool {
	return !strings.HasSuffix(text, "…") && !strings.ContainsRune(text, utf8.RuneError)
}

// readTime reads seconds since the epoch, which is what Caddy writes, or RFC
// 3339. Other formats of the log encoder are as good as no time.
func readTime(value jsontext.Value) time.Time {
	decoded, _ := mcpwire.Decode(value)
	switch v := decoded.(type) {
	case int64:
		return time.Unix(v, 0)
	case float64:
		return time.UnixMicro(int64(v * 1e6))
	case string:
		at, _ := time.Parse(time.RFC3339Nano, v)
		return at
	default:
		return time.Time{}
	}
}

// Replay judges the operation of one line of an audit log. It returns nil
// for a line that is none.
func (r *Replayer) Replay(ctx context.Context, line []byte) (*Replayed, error) {
	record, err := readAudit(line)
	if record == nil || err != nil {
		return nil, err
	}
	result := &record.Replayed
	kind, _ := mcpwire.TargetOf(record.Method)
	switch {
	case kind == mcpwire.NoTarget:
		result.After, result.Detail = Undecided, "the log does not say what kind of target it is"
		return result, nil
	case !isWhole(record.Target):
		result.After, result.Detail = Undecided, "the log does not hold the whole target"
		return result, nil
	}
	a := r.activation(record, kind)
	result.After, result.AfterRule, result.Detail = r.decide(ctx, a)
	if normal := normalURI(record.Target); kind == mcpwire.Resource && normal != record.Target && result.After != "deny" {
		a.name, a.nameValue = normal, nil
		after, rule, detail := r.decide(ctx, a)
		if after == "deny" || result.After == "allow" {
			result.After, result.AfterRule, result.Detail = after, rule, detail
		}
	}
	return result, nil
}

// activation holds what the line tells, and leaves open what it does not.
func (r *Replayer) activation(record *auditRecord, kind mcpwire.TargetKind) *activation {
	a := &activation{
		caller: &caller{
			version: record.version, now: record.time, target: r.handler.Target,
			request: &http.Request{URL: new(url.URL)}, scopes: []string{},
		},
		subject: &subject{method: record.Method, kind: kind, name: record.Target},
		open:    slices.Concat(r.always, openArguments[kind]),
	}
	claims := []byte{'{'}
	for name, value := range map[string]string{"iss": record.Issuer, "sub": record.Subject} {
		if value != "" && isWhole(value) {
			if len(claims) > 1 {
				claims = append(claims, ',')
			}
			claims = mcpwire.Quote(append(mcpwire.Quote(claims, name), ':'), value)
		} else {
			a.open = append(a.open, cel.AttributePattern("jwt").QualString(name))
		}
	}
	claims = append(claims, '}')
	a.claims = claims
	if record.version == "" || !isWhole(record.version) {
		a.open = append(a.open, cel.AttributePattern("mcp.version"))
	}
	if record.time.IsZero() {
		a.open = append(a.open, cel.AttributePattern("now"))
	}
	return a
}

// eval asks a part; why says what an unknown depends on.
func (r *Replayer) eval(ctx context.Context, p *part, a *activation) (v verdict, why string) {
	if r.anyClaim[p] {
		wider := *a
		wider.open = append(slices.Clip(a.open), cel.AttributePattern("jwt"))
		a = &wider
	}
	p = r.widened[p]
	out, err := p.evaluate(ctx, a)
	if v = readVerdict(out, err); v == isUnknown {
		_, why = p.explain(ctx, a)
	}
	return v, why
}

// decide is policy.answer about a call, where an unknown leaves the answer
// open unless the rest decides it.
func (r *Replayer) decide(ctx context.Context, a *activation) (after, rule, detail string) {
	ctx, cancel := context.WithTimeout(ctx, decisionDeadline)
	defer cancel()
	p := r.handler.policy
	open := func(name, why string) {
		if detail == "" {
			detail = name + " " + why
		}
	}
	for _, c := range p.denies.list {
		if v, why := r.ask(ctx, c.part, a); v.denies() {
			return "deny", c.rule, ""
		} else if v == isUnknown {
			open(c.rule, why)
		}
	}
	for _, c := range p.requires.list {
		if !c.part.applies(mayCall, a.kind) {
			continue
		}
		if v, why := r.eval(ctx, c.part, a); v.fails() {
			return "deny", c.rule, ""
		} else if v == isUnknown {
			open(c.rule, why)
		}
	}
	rule, perhaps := r.grant(ctx, a, open)
	if rule == "" && !perhaps {
		return "deny", DefaultRule, ""
	}
	for _, need := range r.handler.scopes.needs {
		for _, part := range need.parts {
			if v, _ := r.ask(ctx, part, a); v != isFalse {
				open(scopeRule, "depends on the token having "+need.scope)
			}
		}
	}
	if detail != "" {
		return Undecided, "", detail
	}
	return "allow", rule, ""
}

// ask is eval for a part of a deny or a scope, which may not apply.
func (r *Replayer) ask(ctx context.Context, p *part, a *activation) (v verdict, why string) {
	if !p.applies(mayCall, a.kind) {
		return isFalse, ""
	}
	return r.eval(ctx, p, a)
}

// grant returns the allow that grants, "" when none is sure to; perhaps, that
// one may.
func (r *Replayer) grant(ctx context.Context, a *activation, open func(name, why string)) (rule string, perhaps bool) {
	p := r.handler.policy
	if len(p.allows.list) == 0 {
		return DefaultRule, false
	}
	var name, reason string
	for i := range p.allows.list {
		c := &p.allows.list[i]
		if !c.applies(mayCall, a.kind) {
			continue
		}
		switch v, why := r.all(ctx, c.parts, a); v {
		case isTrue:
			return c.rule, false
		case isUnknown:
			name, reason, perhaps = c.rule, why, true
		}
	}
	if perhaps {
		open(name, reason)
	}
	return "", perhaps
}

// all is eval for the parts of an allow: false if one of them is not true and
// cannot become true.
func (r *Replayer) all(ctx context.Context, parts []*part, a *activation) (v verdict, why string) {
	v = isTrue
	for _, part := range parts {
		switch one, reason := r.eval(ctx, part, a); one {
		case isTrue:
		case isUnknown:
			if v == isTrue {
				v, why = isUnknown, reason
			}
		default:
			return isFalse, ""
		}
	}
	return v, why
}
