package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// eventStream is the answer to a POST that comes as a stream.
type eventStream struct {
	body   io.ReadCloser
	lines  chan string
	failed chan error
}

// openStream sends one message, by the version that the client speaks, and returns what it is answered.
func (c *rawClient) openStream(ctx context.Context, t *testing.T, message string, headers ...string) *eventStream {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	r.Header.Set("Authorization", "Bearer "+c.token)
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		body, err := io.ReadAll(resp.Body)
		t.Fatalf("status %d, %s, %v:\n%s", resp.StatusCode, resp.Header.Get("Content-Type"), err, body)
	}
	s := &eventStream{body: resp.Body, lines: make(chan string), failed: make(chan error, 1)}
	ended := t.Context().Done()
	go func() {
		defer close(s.lines)
		scanner := bufio.NewScanner(resp.Body)
		for scanner.Scan() {
			select {
			case s.lines <- scanner.Text():
			case <-ended:
				return
			}
		}
		s.failed <- scanner.Err()
	}()
	t.Cleanup(func() { _ = resp.Body.Close() })
	return s
}

// event is a message of a server, as far as these tests look at it.
type event struct {
	Method string
	Params struct {
		Progress      float64
		URI           string
		Notifications struct{ ResourceSubscriptions []string }
	}
	Result struct{ Content []struct{ Text string } }
}

// next waits for the next message of the stream.
func (s *eventStream) next(t *testing.T) event {
	t.Helper()
	timeout := time.After(stopLimit)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				t.Fatalf("the stream has ended: %v", <-s.failed)
			}
			data, isData := strings.CutPrefix(line, "data:")
			if data = strings.TrimSpace(data); !isData || data == "" {
				continue
			}
			var e event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			return e
		case <-timeout:
			t.Fatalf("no event within %s", stopLimit)
		}
	}
}

const progressCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` +
	`"name":"%s","arguments":%s,"_meta":{"progressToken":"p"}}}`

// wantProgress waits for the notification of one step.
func (s *eventStream) wantProgress(t *testing.T, step int) {
	t.Helper()
	if e := s.next(t); e.Method != "notifications/progress" || e.Params.Progress != float64(step) {
		t.Fatalf("got %+v, want the notification of step %d", e, step)
	}
}

// TestStream is about a server that does not go on before its client has got the last event: through a gateway that
// waits for the end of a stream, or for enough bytes of it, no event would ever come.
func TestStream(t *testing.T) {
	const steps = 5
	goOn := make(chan struct{})
	server := mcp.NewServer(&mcp.Implementation{Name: "waiting", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "wait"}, func(
		ctx context.Context, r *mcp.CallToolRequest, _ struct{},
	) (*mcp.CallToolResult, any, error) {
		for step := range steps {
			err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: r.Params.GetProgressToken(), Progress: float64(step + 1),
			})
			if err != nil {
				return nil, nil, err
			}
			select {
			case <-goOn:
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})
	upstream := httptest.NewServer(handler)
	t.Cleanup(upstream.Close)
	// a rule about arguments, so that there is something to look at in everything that passes
	g := startGateway(t, site("allow `mcp.tool.name == \"wait\" && size(mcp.tool.arguments) == 0`", upstream.URL))

	c := rawClient{url: g.url(), token: token(t, "alice")}
	stream := c.openStream(t.Context(), t, fmt.Sprintf(progressCall, "wait", "{}"))
	for step := range steps {
		stream.wantProgress(t, step+1)
		select {
		case goOn <- struct{}{}:
		case <-time.After(stopLimit):
			t.Fatal("the tool does not wait for its client")
		}
	}
	if e := stream.next(t); len(e.Result.Content) != 1 || e.Result.Content[0].Text != "done" {
		t.Errorf("got %+v, want the result", e)
	}
}

// TestEverythingStream does it with a server that this project has not written, whose steps take time.
func TestEverythingStream(t *testing.T) {
	_, upstream := startEverything(t)
	const tool = "trigger-long-running-operation"
	g := startGateway(t, site("allow `mcp.tool.name == \""+tool+"\" && mcp.tool.arguments.steps > 0`", upstream))
	c := rawClient{url: g.url(), token: token(t, "alice")}
	c.open(t)

	t.Run("to its end", func(t *testing.T) {
		const steps = 5
		stream := c.openStream(t.Context(), t, fmt.Sprintf(progressCall, tool, fmt.Sprintf(`{"duration":1,"steps":%d}`, steps)))
		for step := range steps {
			stream.wantProgress(t, step+1)
		}
		if e := stream.next(t); len(e.Result.Content) != 1 || !strings.Contains(e.Result.Content[0].Text, "completed") {
			t.Errorf("got %+v, want the result", e)
		}
	})
	// The last event of this one is ten minutes away, longer than anything here waits.
	t.Run("long before its end", func(t *testing.T) {
		stream := c.openStream(t.Context(), t, fmt.Sprintf(progressCall, tool, `{"duration":600,"steps":6000}`))
		for step := range 10 {
			stream.wantProgress(t, step+1)
		}
	})
}

// subscriptionRules hide the repositories of one owner. They may be created: only who may read them hears of it.
const subscriptionRules = `
		allow true
		deny ` + "`mcp.resource.uri.startsWith(\"repo://globex/\")`"

const (
	seenRepo, seenURI     = "acme/new", "repo://acme/new"
	hiddenRepo, hiddenURI = "globex/new", "repo://globex/new"
)

// TestSubscriptions watches two resources in the version of the protocol that has no sessions; one of them may not be
// seen.
func TestSubscriptions(t *testing.T) {
	for name, args := range map[string][]string{"JSON": nil, "stream": {"-sse"}} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, site(subscriptionRules, startDemo(t, args...)))
			t.Run("Go SDK", func(t *testing.T) { subscribeWithSDK(t, g.url()) })
			t.Run("one request", func(t *testing.T) { subscribeAtOnce(t, g.url()) })
		})
	}
}

// subscribeWithSDK opens one stream for each resource.
func subscribeWithSDK(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	updates, accepted := make(chan string, 10), make(chan []string, 10)
	noteAccepted := func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			if params, ok := r.GetParams().(*mcp.SubscriptionsAcknowledgedParams); ok {
				accepted <- params.Notifications.ResourceSubscriptions
			}
			return next(ctx, method, r)
		}
	}
	session := connectAs(ctx, t, url, "2026-07-28", "alice", updates, noteAccepted)
	for uri, want := range map[string][]string{hiddenURI: nil, seenURI: {seenURI}} {
		if err := session.Subscribe(ctx, &mcp.SubscribeParams{URI: uri}); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, accepted); !slices.Equal(got, want) {
			t.Errorf("asked for %s, subscribed to %q, want %q", uri, got, want)
		}
	}
	changeBoth(ctx, t, session)
	for range 2 { // it is created and removed
		if got := receive(t, updates); got != seenURI {
			t.Errorf("notified of %s, want %s", got, seenURI)
		}
	}
	if len(updates) > 0 {
		t.Errorf("notified of %s as well", <-updates)
	}
}

// subscribeAtOnce asks for both resources in one request, of which one is left.
func subscribeAtOnce(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	c := rawClient{url: url, token: token(t, "alice")}
	stream := c.openStream(ctx, t, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{`+
		`"notifications":{"resourceSubscriptions":["`+hiddenURI+`","`+seenURI+`"]},`+
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`,
		"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")
	if got := stream.next(t).Params.Notifications.ResourceSubscriptions; !slices.Equal(got, []string{seenURI}) {
		t.Errorf("subscribed to %q, want only %s", got, seenURI)
	}
	changeBoth(ctx, t, connectAs(ctx, t, url, "2026-07-28", "alice", nil))
	for range 2 {
		if e := stream.next(t); e.Method != "notifications/resources/updated" || e.Params.URI != seenURI {
			t.Errorf("got %+v, want the news of %s", e, seenURI)
		}
	}
}

// changeBoth creates and removes both repositories, the hidden one first.
func changeBoth(ctx context.Context, t *testing.T, session *mcp.ClientSession) {
	t.Helper()
	for _, tool := range []string{"create_repo", "delete_repo"} {
		for _, repo := range []string{hiddenRepo, seenRepo} {
			r, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"repo": repo}})
			if err != nil || r.IsError {
				t.Fatalf("%s %s: %v, %+v", tool, repo, err, r)
			}
		}
	}
}

func receive[T any](t *testing.T, values <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-values:
	case <-time.After(stopLimit):
		t.Fatalf("nothing came within %s", stopLimit)
	}
	return value
}
