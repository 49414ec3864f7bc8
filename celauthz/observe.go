package celauthz

import (
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// decisionText is the decision as logs and placeholders have it.
func decisionText(j judgement) string {
	if j.outcome == allowed {
		return cfutil.Allow
	}
	return cfutil.Deny
}

// observe tells logs, counters and traces what was decided. m is the message
// that decided.
func (h *Handler) observe(r *http.Request, state *reqctx.State, who *caller, in *incoming, m *mcpwire.Message, j judgement) {
	setPlaceholders(r, m, who.version, j)
	entry := h.entryOf(m, who.version, j)
	entry.AddTo(r)
	traceDecision(r, m, entry)
	if len(in.judged) == 0 || j.outcome != allowed {
		h.count(r, state, m, entry, j)
		return
	}
	for i, message := range in.messages {
		h.count(r, state, message, h.entryOf(message, who.version, in.judged[i]), in.judged[i])
	}
}

func (h *Handler) entryOf(m *mcpwire.Message, version string, j judgement) cfutil.LogEntry {
	entry := cfutil.LogEntry{
		Version: version, Decision: decisionText(j), Rule: j.rule, Reason: j.reason, Shadow: h.Shadow,
	}
	if m != nil {
		entry.Method, entry.Target = m.Method, m.Target
	}
	return entry
}

// count counts a message, and audits it if it is about a target.
func (h *Handler) count(r *http.Request, state *reqctx.State, m *mcpwire.Message, entry cfutil.LogEntry, j judgement) {
	h.metrics.decided(entry.Method, h.effectOf(j), j.rule)
	if m != nil && m.Kind != mcpwire.NoTarget {
		h.auditTarget(r, state, entry)
	}
}

func (h *Handler) effectOf(j judgement) effect {
	switch {
	case j.outcome == allowed:
		return allows
	case h.Shadow:
		return wouldDeny
	default:
		return denies
	}
}

// auditTarget audits a decision about one target.
func (h *Handler) auditTarget(r *http.Request, state *reqctx.State, entry cfutil.LogEntry) {
	h.audit.add(func() auditEntry {
		line := auditEntry{LogEntry: entry}
		if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			line.userID, _ = repl.GetString("http.auth.user.id")
		}
		if identity := state.Identity; identity != nil {
			line.issuer, line.subject, line.clientID = identity.Issuer, identity.Subject, identity.ClientID
		}
		return line
	})
}

// observeSubscription audits the targets of subscriptions/listen, each of
// which is kept or taken out.
func (h *Handler) observeSubscription(r *http.Request, state *reqctx.State, m *mcpwire.Message, who *caller, v *visibility) {
	decide := func(kind mcpwire.TargetKind, name string) {
		d := v.decide(kind, name)
		j := judgement{allowed, d}
		if !d.allowed {
			j.outcome = hidden
		}
		entry := h.entryOf(m, who.version, j)
		entry.Target = name
		h.auditTarget(r, state, entry)
	}
	for _, uri := range m.Listen.Resources {
		decide(mcpwire.Resource, uri)
	}
	for _, id := range m.Listen.Tasks {
		decide(mcpwire.Task, id)
	}
}

// observeRefusal tells about a request that no rule was asked about.
func (h *Handler) observeRefusal(r *http.Request, refused *refusal) {
	entry := cfutil.LogEntry{Decision: cfutil.Deny, Reason: refused.reason(), Shadow: h.Shadow}
	entry.AddTo(r)
	traceDecision(r, nil, entry)
	h.metrics.decided("", h.effectOf(judgement{outcome: denied}), "")
}

// Attributes of spans: those of OpenTelemetry's semantic conventions for MCP
// as far as they go.
const (
	spanMethod   = attribute.Key("mcp.method.name")
	spanVersion  = attribute.Key("mcp.protocol.version")
	spanDecision = attribute.Key("mcp.decision")
	spanRule     = attribute.Key("mcp.rule")
	spanReason   = attribute.Key("mcp.reason")
)

var spanTargets = map[mcpwire.TargetKind]attribute.Key{
	mcpwire.Tool:     "gen_ai.tool.name",
	mcpwire.Prompt:   "gen_ai.prompt.name",
	mcpwire.Resource: "mcp.resource.uri",
	mcpwire.Task:     "mcp.task.id",
}

// traceDecision writes the decision into the span of Caddy's tracing
// handler, and connects it with the trace that the message names. Where
// nothing is traced here, the next server gets that trace to go on with: a
// message is often the only place a client can put it.
func traceDecision(r *http.Request, m *mcpwire.Message, entry cfutil.LogEntry) {
	span := trace.SpanFromContext(r.Context())
	if m != nil && m.Meta.TraceParent != "" {
		if !span.SpanContext().IsValid() {
			if len(r.Header["Traceparent"]) == 0 {
				r.Header.Set("Traceparent", m.Meta.TraceParent)
				r.Header.Del("Tracestate") // of another trace, if there is any
			}
		} else if remote := remoteSpan(m.Meta.TraceParent); remote.TraceID() != span.SpanContext().TraceID() {
			span.AddLink(trace.Link{SpanContext: remote})
		}
	}
	if !span.IsRecording() {
		return
	}
	attributes := make([]attribute.KeyValue, 0, 6)
	add := func(key attribute.Key, value string) {
		if value != "" {
			attributes = append(attributes, key.String(value))
		}
	}
	add(spanMethod, cfutil.LogText(entry.Method))
	if m != nil {
		add(spanTargets[m.Kind], cfutil.LogText(m.Target))
	}
	add(spanVersion, cfutil.LogText(entry.Version))
	add(spanDecision, entry.Decision)
	add(spanRule, entry.Rule)
	add(spanReason, entry.Reason)
	span.SetAttributes(attributes...)
}

// remoteSpan is the span that a traceparent names.
func remoteSpan(traceParent string) trace.SpanContext {
	// mcpwire has checked the form
	traceID, _ := trace.TraceIDFromHex(traceParent[3:35])
	spanID, _ := trace.SpanIDFromHex(traceParent[36:52])
	config := trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, Remote: true}
	if flags, err := strconv.ParseUint(traceParent[53:], 16, 8); err == nil {
		config.TraceFlags = trace.TraceFlags(flags) & trace.FlagsSampled
	}
	return trace.NewSpanContext(config)
}
