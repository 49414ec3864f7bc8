package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// rawClient speaks MCP without an SDK, where a test looks at the answers themselves.
type rawClient struct {
	url, token, session string
}

type answer struct {
	status      int
	contentType string
	body        string
	header      http.Header
}

// open begins a session.
func (c *rawClient) open(t *testing.T) {
	t.Helper()
	got := c.post(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",`+
		`"capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`)
	if got.status != http.StatusOK {
		t.Fatalf("initialize: %+v", got)
	}
	c.session = got.header.Get("Mcp-Session-Id")
	if got := c.post(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); got.status != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %+v", got)
	}
}

// post sends one message.
func (c *rawClient) post(t *testing.T, message string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(body), resp.Header}
}
