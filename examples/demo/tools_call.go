package demo

import (
	"context"
	"fmt"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type (
	noArguments struct{}

	meResult struct {
		User string `json:"user,omitempty" jsonschema:"the name of the caller, absent when the gateway gives none"`
	}

	echoArguments struct {
		Text string `json:"text" jsonschema:"what to say back"`
	}
	echoResult struct {
		Text string `json:"text" jsonschema:"what was said"`
	}

	addArguments struct {
		A float64 `json:"a" jsonschema:"the first number"`
		B float64 `json:"b" jsonschema:"the second number"`
	}
	addResult struct {
		Sum float64 `json:"sum" jsonschema:"a plus b"`
	}
)

// addCallTools adds the tools that need nothing but the call itself.
func addCallTools(server *mcp.Server) {
	mcp.AddTool(server, &mcp.Tool{
		Name:        "get_me",
		Title:       "Who am I?",
		Description: "Says who the gateway says is calling.",
		Annotations: readOnly("Who am I?"),
	}, getMe)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "echo",
		Title:       "Echo",
		Description: "Says back what it is told.",
		Annotations: readOnly("Echo"),
	}, echo)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "add",
		Title:       "Add",
		Description: "Adds two numbers.",
		Annotations: readOnly("Add"),
	}, add)
}

func getMe(_ context.Context, req *mcp.CallToolRequest, _ noArguments) (*mcp.CallToolResult, meResult, error) {
	user := userOf(req.Extra)
	if user == "" {
		return text("You are nobody in particular."), meResult{}, nil
	}
	return text(fmt.Sprintf("You are %s.", user)), meResult{User: user}, nil
}

func echo(_ context.Context, _ *mcp.CallToolRequest, in echoArguments) (*mcp.CallToolResult, echoResult, error) {
	return text(in.Text), echoResult(in), nil
}

func add(_ context.Context, _ *mcp.CallToolRequest, in addArguments) (*mcp.CallToolResult, addResult, error) {
	sum := in.A + in.B
	return text(strconv.FormatFloat(sum, 'f', -1, 64)), addResult{Sum: sum}, nil
}

// text is a result for human readers; the SDK adds the structured one.
func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

// readOnly annotates a tool that changes nothing and looks at nothing but
// this server.
func readOnly(title string) *mcp.ToolAnnotations {
	closed := false
	return &mcp.ToolAnnotations{
		Title:          title,
		ReadOnlyHint:   true,
		IdempotentHint: true,
		OpenWorldHint:  &closed,
	}
}
