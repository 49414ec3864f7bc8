package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// seeds are messages in which readers of JSON differ, or might. Those that are served come to the server as a call of
// this method and target; the others are refused, by this project or by the SDK.
var seeds = []struct{ message, method, target string }{
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":[1,{"y":null}]}}}`, "tools/call", "a"},
	{`{"jsonrpc":"2.0","id":"\u0061","method":"tools\u002fcall","params":{"name":"\ud83d\ude00"}}`, "tools/call", "😀"},
	{`{"jsonrpc":"2.0","id":-1,"method":"prompts/get","params":{"name":"a\u0000b","arguments":{"x":"1"}}}`, "prompts/get", "a\x00b"},
	{`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a/../b","name":"other"}}`, "resources/read", "file:///a/../b"},
	{`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"\/\/"}}`, "resources/subscribe", "//"},
	{`{"jsonrpc":"2.0","id":1,"method":"resources/unsubscribe","params":{"uri":"u"}}`, "resources/unsubscribe", "u"},
	{
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"},` +
			`"argument":{"name":"n","value":""}}}`, "completion/complete", "p",
	},
	{
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"u"},` +
			`"argument":{"name":"n","value":""}}}`, "completion/complete", "u",
	},
	{
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":` +
			`["a","b"]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
			`"io.modelcontextprotocol/clientCapabilities":{}}}}`, "subscriptions/listen", "",
	},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "tools/list", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"ping","params":null}`, "", ""},
	{`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}`, "notifications/progress", ""},
	{"\t\r\n {\"jsonrpc\":\"2.0\" , \"id\" : 1 ,\"method\":\"ping\"}\n", "ping", ""},
	{`{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`, "ping", ""},
	{`{"jsonrpc":"2.0","id":99999999999999999999,"method":"ping"}`, "ping", ""},
	{`{"jsonrpc":"2.0","id":-0,"method":"ping"}`, "ping", ""},
	// names that differ by case, also where upper case is another letter
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"NAME":"b"}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"Method":"tools/call","method":"ping"}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"ping","PARAMS":{"name":"b"}}`, "", ""},
	{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"param\u017f\":{\"name\":\"b\"},\"params\":{\"name\":\"a\"}}", "", ""},
	{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tasks/get\",\"params\":{\"ta\u017f\u212aId\":\"b\",\"taskId\":\"a\"}}", "", ""},
	// a zero byte that ends a name, for some
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name\u0000":"b"}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call\u0000","params":{"name":"a"}}`, "", ""},
	// duplicates, also those that are the same only after unescaping
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":2}}}`, "", ""},
	// what is no Unicode, what stands beside the message, and what is of another type
	{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"\xff\"}}", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud83d"}}`, "", ""},
	{"\xef\xbb\xbf" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "", ""},
	{`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":null}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["a"]}`, "", ""},
	{`{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`, "", ""},
	{`{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}`, "", ""},
}

// FuzzDifferential: of whatever the gateway lets through, an MCP server with the official Go SDK, and any program with
// encoding/json, reads the method, the id, the target and the arguments that the gateway has judged, or refuses it.
func FuzzDifferential(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed.message))
	}
	server := startServer(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := compare(t, server, body); err != nil {
			t.Errorf("%v\n%q", err, body)
		}
	})
}

// TestSeeds makes sure that something is compared: that the messages in question do come to the server.
func TestSeeds(t *testing.T) {
	server := startServer(t)
	for _, seed := range seeds {
		got, err := compare(t, server, []byte(seed.message))
		if err != nil {
			t.Errorf("%v\n%s", err, seed.message)
		}
		switch {
		case got == nil && seed.method != "":
			t.Errorf("refused: %s", seed.message)
		case got != nil && (got.method != seed.method || got.target != seed.target):
			t.Errorf("served as %s %q: %s", got.method, got.target, seed.message)
		}
	}
}

// compare reads a message in all ways and returns what the server was called with, if it was.
func compare(t *testing.T, server *server, body []byte) (*call, error) {
	t.Helper()
	m, err := mcpwire.Read(body)
	if err != nil {
		return nil, nil //nolint:nilerr // it never gets to the server
	}
	if err := compareWithEncodingJSON(m, body); err != nil {
		return nil, fmt.Errorf("encoding/json: %w", err)
	}
	message, err := jsonrpc.DecodeMessage(body)
	if err != nil {
		return nil, nil //nolint:nilerr // the server refuses it
	}
	r, isRequest := message.(*jsonrpc.Request)
	if isRequest != (m.Shape != mcpwire.Response) {
		return nil, fmt.Errorf("shape %v, to the SDK %T", m.Shape, message)
	}
	if !isRequest {
		return nil, compareIDs(m, message.(*jsonrpc.Response).ID)
	}
	if r.Method != m.Method || r.IsCall() != (m.Shape == mcpwire.Request) {
		return nil, fmt.Errorf("method %q of shape %v, to the SDK %q", m.Method, m.Shape, r.Method)
	}
	if err := compareIDs(m, r.ID); err != nil {
		return nil, err
	}
	called := server.handle(t, r)
	if called == nil {
		return nil, nil
	}
	return called, called.compare(m)
}

// compareIDs: the SDK reads a number as a floating-point number, like most, and cuts it off.
func compareIDs(m *mcpwire.Message, id jsonrpc.ID) error {
	if m.ID == nil {
		if id.IsValid() {
			return fmt.Errorf("no id, to the SDK %v", id)
		}
		return nil
	}
	var want any
	if err := json.Unmarshal(m.ID, &want); err != nil {
		return err
	}
	if number, ok := want.(float64); ok {
		if math.Abs(number) >= 1<<53 {
			return nil // no two programs agree
		}
		want = int64(number)
	}
	if id.Raw() != want {
		return fmt.Errorf("id %s, to the SDK %v", m.ID, id.Raw())
	}
	return nil
}

// call is what a server was called with.
type call struct {
	method, target string
	arguments      any // of a tool or a prompt
	resources      []string
	version        any
}

// compare compares a call with what was judged.
func (c *call) compare(m *mcpwire.Message) error {
	if c.method != m.Method || c.target != m.Target {
		return fmt.Errorf("judged as %s %q, to the SDK %s %q", m.Method, m.Target, c.method, c.target)
	}
	if version, _ := c.version.(string); version != m.Meta.Version {
		return fmt.Errorf("judged as version %q, to the SDK %q", m.Meta.Version, version)
	}
	var listened []string
	if m.Listen != nil {
		listened = m.Listen.Resources
	}
	if !slices.Equal(c.resources, listened) {
		return fmt.Errorf("judged %q, to the SDK %q", listened, c.resources)
	}
	arguments, err := argumentsOf(m)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(c.arguments, arguments) {
		return fmt.Errorf("judged the arguments %v, to the SDK %v", arguments, c.arguments)
	}
	return nil
}

func argumentsOf(m *mcpwire.Message) (arguments any, err error) {
	if m.Arguments != nil {
		err = json.Unmarshal(m.Arguments, &arguments)
	}
	return arguments, err
}

// lenient is a message as a program with encoding/json declares it.
type lenient struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Name, URI, TaskID string
		Arguments         json.RawMessage
		Ref               struct{ Name, URI string }
	}
}

func compareWithEncodingJSON(m *mcpwire.Message, body []byte) error {
	var l lenient
	var other *json.UnmarshalTypeError // of a member that means nothing to this method
	if err := json.Unmarshal(body, &l); err != nil && !errors.As(err, &other) {
		return err
	}
	target := ""
	switch {
	case m.ArgumentsOpen && m.Kind == mcpwire.Prompt:
		target = l.Params.Ref.Name
	case m.ArgumentsOpen:
		target = l.Params.Ref.URI
	case m.Kind == mcpwire.Tool, m.Kind == mcpwire.Prompt:
		target = l.Params.Name
	case m.Kind == mcpwire.Resource:
		target = l.Params.URI
	case m.Kind == mcpwire.Task:
		target = l.Params.TaskID
	}
	if l.Method != m.Method || target != m.Target || !bytes.Equal(l.ID, m.ID) {
		return fmt.Errorf("method %q, target %q, id %s; got %+v", m.Method, m.Target, m.ID, l)
	}
	if m.Arguments != nil && !bytes.Equal(l.Params.Arguments, m.Arguments) {
		return fmt.Errorf("arguments %s, got %s", m.Arguments, l.Params.Arguments)
	}
	return nil
}

// server is an MCP server in a session of its own that notes what it is called with, and does nothing.
type server struct {
	in     chan jsonrpc.Message
	out    chan jsonrpc.Message
	called chan *call
}

var errNoted = errors.New("noted")

// noteID is of a call that follows a notification, to learn when that has been handled.
var noteID, _ = jsonrpc.MakeID("after a notification")

func startServer(tb testing.TB) *server {
	tb.Helper()
	s := &server{
		in:     make(chan jsonrpc.Message),
		out:    make(chan jsonrpc.Message, 10),
		called: make(chan *call, 10),
	}
	sdk := mcp.NewServer(&mcp.Implementation{Name: "noting", Version: "1"}, &mcp.ServerOptions{
		Logger: slog.New(slog.DiscardHandler),
	})
	sdk.AddReceivingMiddleware(func(mcp.MethodHandler) mcp.MethodHandler {
		return func(_ context.Context, method string, r mcp.Request) (mcp.Result, error) {
			s.called <- callOf(method, r.GetParams())
			return nil, errNoted
		}
	})
	begun := &mcp.ServerSessionState{
		InitializeParams:          &mcp.InitializeParams{ProtocolVersion: "2025-11-25"},
		InitializedParams:         &mcp.InitializedParams{},
		NegotiatedProtocolVersion: "2025-11-25",
	}
	session, err := sdk.Connect(context.Background(), s, &mcp.ServerSessionOptions{State: begun})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		close(s.in)
		_ = session.Wait()
	})
	return s
}

// handle gives the server a message and returns what it was called with, nil if it has refused it.
func (s *server) handle(t *testing.T, r *jsonrpc.Request) *call {
	t.Helper()
	s.in <- r
	if !r.IsCall() {
		s.in <- &jsonrpc.Request{ID: noteID, Method: "ping"}
	}
	response, ok := (<-s.out).(*jsonrpc.Response)
	if want := r.ID; !ok || r.IsCall() && response.ID != want || !r.IsCall() && response.ID != noteID {
		t.Fatalf("%s %v was answered %+v", r.Method, r.ID, response)
	}
	var called *call
	for len(s.called) > 0 {
		if c := <-s.called; called == nil {
			called = c
		}
	}
	if !r.IsCall() && called != nil && called.method == "ping" {
		return nil // the notification was not handled
	}
	return called
}

// callOf is what the SDK has read.
func callOf(method string, params mcp.Params) *call {
	c := &call{method: method}
	if params == nil || reflect.ValueOf(params).IsNil() {
		return c
	}
	c.version = params.GetMeta()["io.modelcontextprotocol/protocolVersion"]
	switch p := params.(type) {
	case *mcp.CallToolParamsRaw:
		c.target = p.Name
		if p.Arguments != nil {
			c.arguments = decoded(p.Arguments)
		}
	case *mcp.GetPromptParams:
		c.target = p.Name
		if p.Arguments != nil {
			arguments := map[string]any{}
			for name, value := range maps.All(p.Arguments) {
				arguments[name] = value
			}
			c.arguments = arguments
		}
	case *mcp.ReadResourceParams:
		c.target = p.URI
	case *mcp.SubscribeParams:
		c.target = p.URI
	case *mcp.UnsubscribeParams:
		c.target = p.URI
	case *mcp.CompleteParams:
		switch {
		case p.Ref == nil:
		case p.Ref.Type == "ref/prompt":
			c.target = p.Ref.Name
		default:
			c.target = p.Ref.URI
		}
	case *mcp.SubscriptionsListenParams:
		if p.Notifications != nil {
			c.resources = p.Notifications.ResourceSubscriptions
		}
	}
	return c
}

func decoded(text json.RawMessage) (value any) {
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	return value
}

// Connect implements mcp.Transport.
func (s *server) Connect(context.Context) (mcp.Connection, error) { return s, nil }

// Read implements mcp.Connection.
func (s *server) Read(ctx context.Context) (jsonrpc.Message, error) {
	select {
	case message, ok := <-s.in:
		if !ok {
			return nil, io.EOF
		}
		return message, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Write implements mcp.Connection.
func (s *server) Write(_ context.Context, message jsonrpc.Message) error {
	s.out <- message
	return nil
}

// Close implements mcp.Connection.
func (*server) Close() error { return nil }

// SessionID implements mcp.Connection.
func (*server) SessionID() string { return "" }
