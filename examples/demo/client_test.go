package demo

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// asUser is the gateway in these tests: it says who is calling.
type asUser struct {
	user string
	next http.RoundTripper
}

func (a asUser) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if a.user != "" {
		r.Header.Set(UserHeader, a.user)
	}
	return a.next.RoundTrip(r)
}

// connect starts a demo server of its own and returns a client of it.
func connect(t *testing.T, opts Options, user string, client *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	server := httptest.NewServer(Handler(opts))
	t.Cleanup(server.Close)
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, client).Connect(
		t.Context(),
		&mcp.StreamableClientTransport{
			Endpoint:   server.URL + Path,
			HTTPClient: &http.Client{Transport: asUser{user, server.Client().Transport}},
		},
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	})
	return session
}

// call calls a tool and returns its text and whether the tool failed.
func call(t *testing.T, session *mcp.ClientSession, name string, arguments any) (string, bool) {
	t.Helper()
	result, err := session.CallTool(context.WithoutCancel(t.Context()), &mcp.CallToolParams{Name: name, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(result.Content) != 1 {
		t.Fatalf("%s: %d contents, want 1", name, len(result.Content))
	}
	content, ok := result.Content[0].(*mcp.TextContent)
	if !ok {
		t.Fatalf("%s: content is %T", name, result.Content[0])
	}
	return content.Text, result.IsError
}

// wantInvalidParams checks that err is JSON-RPC -32602.
func wantInvalidParams(t *testing.T, err error) {
	t.Helper()
	var wire *jsonrpc.Error
	if !errors.As(err, &wire) || wire.Code != jsonrpc.CodeInvalidParams {
		t.Errorf("got %v, want a JSON-RPC error %d", err, jsonrpc.CodeInvalidParams)
	}
}
