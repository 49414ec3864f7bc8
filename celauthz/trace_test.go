package celauthz

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// recordedSpan is one that keeps what it is told.
type recordedSpan struct {
	noop.Span
	context    trace.SpanContext
	attributes map[string]string
	links      []trace.Link
}

func (s *recordedSpan) IsRecording() bool              { return s.attributes != nil }
func (s *recordedSpan) SpanContext() trace.SpanContext { return s.context }
func (s *recordedSpan) AddLink(l trace.Link)           { s.links = append(s.links, l) }

func (s *recordedSpan) SetAttributes(list ...attribute.KeyValue) {
	for _, a := range list {
		s.attributes[string(a.Key)] = a.Value.AsString()
	}
}

const (
	clientTrace  = "0af7651916cd43dd8448eb211c80319c"
	clientParent = "00-" + clientTrace + "-b7ad6b7169203331-01"
)

func spanOf(t *testing.T, traceID string) *recordedSpan {
	t.Helper()
	id, err := trace.TraceIDFromHex(traceID)
	if err != nil {
		t.Fatal(err)
	}
	return &recordedSpan{
		context:    trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}}),
		attributes: map[string]string{},
	}
}

// Each kind of target has its attribute, and arguments have none.
func TestSpanAttributes(t *testing.T) {
	s := newSite(t, `deny mcp.tool.name == "drop"`, "allow true")
	for message, want := range map[string]map[string]string{
		callOf("read", `{"password":"s3cret"}`):         {"mcp.method.name": "tools/call", "gen_ai.tool.name": "read"},
		messageOf("prompts/get", `{"name":"p"}`):        {"mcp.method.name": "prompts/get", "gen_ai.prompt.name": "p"},
		messageOf("resources/read", `{"uri":"file:a"}`): {"mcp.method.name": "resources/read", "mcp.resource.uri": "file:a"},
		messageOf("tasks/get", `{"taskId":"t"}`):        {"mcp.method.name": "tasks/get", "mcp.task.id": "t"},
		messageOf("ping", ""):                           {"mcp.method.name": "ping"},
		callOf("drop", "{}"): {
			"mcp.method.name": "tools/call", "gen_ai.tool.name": "drop", "mcp.decision": "deny", "mcp.rule": "deny#1", "mcp.reason": "denied",
		},
		callOf(strings.Repeat("x", 600)+`\u001b`, "{}"): {"mcp.method.name": "tools/call", "gen_ai.tool.name": strings.Repeat("x", 512) + "…"},
	} {
		span := spanOf(t, clientTrace)
		s.post(message, func(r *http.Request) { *r = *r.WithContext(trace.ContextWithSpan(r.Context(), span)) })
		if want["mcp.decision"] == "" {
			want["mcp.decision"], want["mcp.rule"] = "allow", "allow#1"
		}
		want["mcp.protocol.version"] = "2025-03-26"
		if !maps.Equal(span.attributes, want) {
			t.Errorf("%.100s: %v, want %v", message, span.attributes, want)
		}
		if span.links != nil {
			t.Errorf("%.100s: a link to nothing: %v", message, span.links)
		}
	}
}

// A trace of the client is linked, unless the span belongs to it.
func TestSpanLinks(t *testing.T) {
	s := newSite(t, "allow true")
	message := messageOf("ping", `{"_meta":{"traceparent":"`+clientParent+`"}}`)
	for _, test := range []struct {
		trace     string
		recording bool
		links     int
	}{
		{clientTrace, true, 0},
		{"11111111111111111111111111111111", true, 1},
		{"11111111111111111111111111111111", false, 1}, // the span of a trace that is not sampled ignores it
	} {
		span := spanOf(t, test.trace)
		if !test.recording {
			span.attributes = nil
		}
		s.post(message, func(r *http.Request) { *r = *r.WithContext(trace.ContextWithSpan(r.Context(), span)) })
		if len(span.links) != test.links {
			t.Errorf("%+v: %v", test, span.links)
		}
		for _, link := range span.links {
			if c := link.SpanContext; c.TraceID().String() != clientTrace || c.SpanID().String() != "b7ad6b7169203331" || !c.IsSampled() || !c.IsRemote() {
				t.Errorf("%+v: linked to %v", test, c)
			}
		}
		if got := s.passed.Header.Get("Traceparent"); got != "" {
			t.Errorf("the server is told of %q, and not of the span in front of it", got)
		}
		s.wantPassed(nil, message)
	}
	unsampled := remoteSpan(strings.TrimSuffix(clientParent, "01") + "00")
	if unsampled.IsSampled() || !remoteSpan(strings.TrimSuffix(clientParent, "01")+"0b").IsSampled() {
		t.Error("the flag of sampling is lost")
	}
}

// Without a span the server gets the client's trace in a header; one that the
// client has set itself wins.
func TestTraceParentHeader(t *testing.T) {
	s := newSite(t, "allow true")
	message := messageOf("ping", `{"_meta":{"traceparent":"`+clientParent+`"}}`)
	s.post(message, header("Tracestate", "other=1"))
	if got := s.passed.Header; got.Get("Traceparent") != clientParent || got.Get("Tracestate") != "" {
		t.Errorf("%v", got)
	}
	s.post(message, header("Traceparent", "own"), header("Tracestate", "own=1"))
	if got := s.passed.Header; got.Get("Traceparent") != "own" || got.Get("Tracestate") != "own=1" {
		t.Errorf("%v", got)
	}
	s.post(messageOf("ping", ""), header("Tracestate", "own=1"))
	if got := s.passed.Header; got.Get("Traceparent") != "" || got.Get("Tracestate") != "own=1" {
		t.Errorf("%v", got)
	}
}
