package e2e

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// bearer adds a token to every request of a client.
type bearer string

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// The rules that both SDKs are tried with: everything of the demo server but one of each kind.
const sdkRules = `
		allow ` + "`jwt.sub == \"alice\"`" + `
		deny  ` + "`mcp.tool.name == \"delete_repo\"`" + `
		deny  ` + "`mcp.prompt.name == \"review_repo\"`" + `
		deny  ` + "`mcp.resource.uri.startsWith(\"docs://internal/\")`" + ``

// TestGoSDK drives the gateway with the Go SDK, by the current version of the protocol and by the last one with sessions.
func TestGoSDK(t *testing.T) {
	for name, c := range map[string]struct {
		demo    []string
		version string
	}{
		"current":             {nil, "2026-07-28"},
		"current, by stream":  {[]string{"-sse"}, "2026-07-28"},
		"session":             {[]string{"-stateful"}, "2025-11-25"},
		"session, by stream":  {[]string{"-stateful", "-sse"}, "2025-11-25"},
		"before the sessions": {nil, "2025-06-18"},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, site(sdkRules, startDemo(t, c.demo...)))
			ctx, cancel := context.WithTimeout(t.Context(), runLimit)
			defer cancel()
			updates := make(chan string, 1)
			session := connect(ctx, t, g.url(), c.version, updates)
			if got := session.InitializeResult().ProtocolVersion; got != c.version {
				t.Fatalf("the client speaks %s, want %s", got, c.version)
			}
			useTools(ctx, t, session)
			usePrompts(ctx, t, session)
			useResources(ctx, t, session)
			if slices.Contains(c.demo, "-stateful") {
				watchResource(ctx, t, session, updates)
			}
		})
	}
}

func connect(ctx context.Context, t *testing.T, url, version string, updates chan<- string) *mcp.ClientSession {
	t.Helper()
	return connectAs(ctx, t, url, version, "alice", updates)
}

// connectAs connects a user. What resources have changed goes to updates.
func connectAs(
	ctx context.Context, t *testing.T, url, version, user string, updates chan<- string, middleware ...mcp.Middleware,
) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, &mcp.ClientOptions{
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			updates <- r.Params.URI
		},
	})
	client.AddReceivingMiddleware(middleware...)
	transport := &mcp.StreamableClientTransport{
		Endpoint:   url,
		HTTPClient: &http.Client{Transport: bearer(token(t, user))},
		MaxRetries: -1,
	}
	session, err := client.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Errorf("closing the session: %v", err)
		}
	})
	return session
}

func useTools(ctx context.Context, t *testing.T, session *mcp.ClientSession) {
	t.Helper()
	listed, err := session.ListTools(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range listed.Tools {
		names = append(names, tool.Name)
	}
	wantListed(t, names, "get_me", "delete_repo")
	called, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "get_me"})
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := called.Content[0].(*mcp.TextContent); !ok || text.Text != "You are alice." || called.IsError {
		t.Errorf("get_me: got %v", called)
	}
	_, err = session.CallTool(ctx, &mcp.CallToolParams{
		Name:      "delete_repo",
		Arguments: map[string]any{"repo": "acme/api"},
	})
	wantRefused(t, err, jsonrpc.CodeInvalidParams, "Unknown tool: delete_repo")
}

func usePrompts(ctx context.Context, t *testing.T, session *mcp.ClientSession) {
	t.Helper()
	listed, err := session.ListPrompts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, prompt := range listed.Prompts {
		names = append(names, prompt.Name)
	}
	wantListed(t, names, "greet", "review_repo")
	greeting, err := session.GetPrompt(ctx, &mcp.GetPromptParams{
		Name:      "greet",
		Arguments: map[string]string{"name": "Zoë", "language": "Deutsch"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = "Write a short greeting of Zoë in Deutsch."
	if text, ok := greeting.Messages[0].Content.(*mcp.TextContent); !ok || text.Text != want {
		t.Errorf("greet: got %v", greeting.Messages[0].Content)
	}
	_, err = session.GetPrompt(ctx, &mcp.GetPromptParams{
		Name:      "review_repo",
		Arguments: map[string]string{"repo": "acme/api"},
	})
	wantRefused(t, err, jsonrpc.CodeInvalidParams, "Unknown prompt: review_repo")
}

func useResources(ctx context.Context, t *testing.T, session *mcp.ClientSession) {
	t.Helper()
	const handbook, salaries = "docs://public/handbook", "docs://internal/salaries"
	listed, err := session.ListResources(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var uris []string
	for _, resource := range listed.Resources {
		uris = append(uris, resource.URI)
	}
	wantListed(t, uris, handbook, salaries)
	read, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: handbook})
	if err != nil {
		t.Fatal(err)
	}
	if text := read.Contents[0].Text; !strings.HasPrefix(text, "# Handbook\n") {
		t.Errorf("%s: got %q", handbook, text)
	}
	_, err = session.ReadResource(ctx, &mcp.ReadResourceParams{URI: salaries})
	if session.InitializeResult().ProtocolVersion >= "2026-07-28" {
		wantRefused(t, err, jsonrpc.CodeInvalidParams, "Unknown resource: "+salaries)
	} else {
		wantRefused(t, err, -32002, "Resource not found")
	}
}

// watchResource subscribes to a resource and changes it: the notification can only come by the stream of a GET.
func watchResource(ctx context.Context, t *testing.T, session *mcp.ClientSession, updates <-chan string) {
	t.Helper()
	const repo, uri = "acme/new", "repo://acme/new"
	if err := session.Subscribe(ctx, &mcp.SubscribeParams{URI: uri}); err != nil {
		t.Fatal(err)
	}
	_, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "create_repo", Arguments: map[string]any{"repo": repo}})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-updates:
		if got != uri {
			t.Errorf("notified of %s, want %s", got, uri)
		}
	case <-time.After(stopLimit):
		t.Error("no notification came")
	}
}

// wantListed checks that a list holds what may be seen, and not what is hidden.
func wantListed(t *testing.T, names []string, visible, hidden string) {
	t.Helper()
	if !slices.Contains(names, visible) || slices.Contains(names, hidden) {
		t.Errorf("the list is %q, want it with %s and without %s", names, visible, hidden)
	}
}

// wantRefused checks that a call failed with an error of JSON-RPC.
func wantRefused(t *testing.T, err error, code int64, message string) {
	t.Helper()
	var wire *jsonrpc.Error
	if !errors.As(err, &wire) || wire.Code != code || wire.Message != message {
		t.Errorf("got %v, want JSON-RPC error %d %q", err, code, message)
	}
}
