package demo

import (
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Path is where Handler serves MCP.
const Path = "/mcp"

// sessionTimeout ends a session nobody has used for this long, so that
// clients which never say goodbye do not pile up.
const sessionTimeout = 30 * time.Minute

// Options says how the demo server speaks. The zero value is the simplest
// server there is: no sessions, one JSON document per answer, everything of a
// list on one page.
type Options struct {
	// Stateful makes clients open a session with initialize. Without it every
	// POST stands alone.
	Stateful bool

	// SSE answers with an event stream rather than one JSON document.
	SSE bool

	// PageSize is how many entries one page of a list holds; zero is the
	// SDK's default, which is more than the demo has.
	PageSize int
}

// New makes the MCP server, with a store of its own.
func New(opts Options) *mcp.Server {
	repos := newStore()
	server := mcp.NewServer(
		&mcp.Implementation{Name: "demo", Title: "Gateway demo", Version: "1.0.0"},
		&mcp.ServerOptions{
			Instructions:       "A demo server. Call get_me to see who the gateway says you are.",
			PageSize:           opts.PageSize,
			CompletionHandler:  completer{repos}.complete,
			SubscribeHandler:   acceptSubscribe,
			UnsubscribeHandler: acceptUnsubscribe,
		},
	)
	addCallTools(server)
	addRepoTools(server, repos)
	addPrompts(server)
	addResources(server, repos)
	return server
}

// Handler serves one demo server at Path by streamable HTTP.
func Handler(opts Options) http.Handler {
	server := New(opts)
	transport := &mcp.StreamableHTTPOptions{
		Stateless:    !opts.Stateful,
		JSONResponse: !opts.SSE,
		// A tool call of a client that has left is of no use to anybody.
		PropagateRequestCancellation: true,
	}
	if opts.Stateful {
		transport.SessionTimeout = sessionTimeout
	}
	if opts.Stateful && opts.SSE {
		// Lets clients resume a broken stream by Last-Event-ID.
		transport.EventStore = mcp.NewMemoryEventStore(nil)
	}
	mux := http.NewServeMux()
	mux.Handle(Path, mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server }, transport))
	return mux
}
