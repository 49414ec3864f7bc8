package integration

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

const tracedSite = `http://:PORT {
	tracing {
		span mcp
	}
	mcp_jwt {
		issuer https://idp.example.com {
			jwks file KEYS
		}
	}
	mcp_authorize {
		deny mcp.tool.name.startsWith("drop_")
		allow true
	}
	mcp_proxy http://UPSTREAM/mcp
}
`

const (
	clientTrace = "0af7651916cd43dd8448eb211c80319c"
	traceParent = "00-" + clientTrace + "-b7ad6b7169203331-01"
)

// inTrace puts a traceparent into the _meta of a message.
func inTrace(message string) string {
	return strings.Replace(message, `"params":{`, `"params":{"_meta":{"traceparent":"`+traceParent+`"},`, 1)
}

// TestTracing: the span of Caddy's tracing handler says what was asked and decided, and links the trace that the
// message is part of. The collector gets it as OpenTelemetry's protocol has it.
func TestTracing(t *testing.T) {
	var mu sync.Mutex
	var spans strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		spans.Write(body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.URL+"/v1/traces")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")

	g := start(t, tracedSite)
	alice := g.token("alice")
	// texts stand in the protocol as they are
	collected := func(what string, texts ...string) {
		t.Helper()
		waitFor(t, what, func() bool {
			mu.Lock()
			defer mu.Unlock()
			for _, text := range texts {
				if !strings.Contains(spans.String(), text) {
					return false
				}
			}
			return true
		})
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(spans.String(), "README.md") || strings.Contains(spans.String(), strings.Split(alice, ".")[1]) {
			t.Errorf("%s: an argument or a token is in the span", what)
		}
		spans.Reset()
	}
	trace, err := hex.DecodeString(clientTrace)
	if err != nil {
		t.Fatal(err)
	}
	g.post(alice, inTrace(readFile)).expect(t, "call", http.StatusOK, "the file")
	collected("a call", "mcp.method.name", "tools/call", "gen_ai.tool.name", "read_file", "mcp.protocol.version", "2025-03-26",
		"mcp.decision", "allow", "mcp.rule", "allow#1", string(trace))
	for _, r := range g.reached("call", 1) {
		if parent := r.header.Get("Traceparent"); len(parent) != len(traceParent) || strings.Contains(parent, clientTrace) {
			t.Errorf("the server is to go on with the span of the gateway, but has %q", parent)
		}
		if !strings.Contains(r.body, traceParent) {
			t.Errorf("the message has changed: %s", r.body)
		}
	}
	g.post(alice, strings.Replace(readFile, "read_file", "drop_table", 1))
	collected("a refusal", "gen_ai.tool.name", "drop_table", "deny", "deny#1", "mcp.reason", "denied")
	g.post(alice, `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`)
	collected("a resource", "resources/read", "mcp.resource.uri", "file:///a")
	g.post(alice, "{")
	collected("no message", "malformed_message")
}

// TestTraceIsPassedOn: without a tracing handler the server can go on with the trace that the message is part of, and
// with nothing that is none.
func TestTraceIsPassedOn(t *testing.T) {
	g := start(t, strings.Replace(tracedSite, "\ttracing {\n\t\tspan mcp\n\t}\n", "", 1))
	alice := g.token("alice")
	own := strings.Replace(traceParent, clientTrace, "11111111111111111111111111111111", 1)
	for what, test := range map[string]struct {
		message string
		headers []string
		want    string
	}{
		"in the message":        {inTrace(readFile), nil, traceParent},
		"in the header":         {readFile, []string{"Traceparent", own}, own},
		"in both":               {inTrace(readFile), []string{"Traceparent", own}, own},
		"nowhere":               {readFile, nil, ""},
		"no trace":              {strings.Replace(inTrace(readFile), "00-0af", "00-xaf", 1), nil, ""},
		"a header in it":        {strings.Replace(inTrace(readFile), traceParent, traceParent[:40]+`\r\nX-Evil: 1`, 1), nil, ""},
		"in a batch, the first": {"[" + inTrace(readFile) + "]", nil, traceParent},
	} {
		g.send("POST", "/mcp", alice, test.message, test.headers...)
		for _, r := range g.reached(what, 1) {
			if got := r.header.Get("Traceparent"); got != test.want || r.header.Get("X-Evil") != "" {
				t.Errorf("%s: %q, want %q", what, got, test.want)
			}
			if r.body != test.message {
				t.Errorf("%s: the message became %s", what, r.body)
			}
		}
	}
}
