package demo

import (
	"context"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func addPrompts(server *mcp.Server) {
	server.AddPrompt(&mcp.Prompt{
		Name:        "greet",
		Title:       "Greeting",
		Description: "Asks for a greeting of somebody.",
		Arguments: []*mcp.PromptArgument{
			{Name: "name", Description: "whom to greet", Required: true},
			{Name: "language", Description: "in which language; English when not given"},
		},
	}, greet)
	server.AddPrompt(&mcp.Prompt{
		Name:        "review_repo",
		Title:       "Review of a repository",
		Description: "Asks for a review of a repository.",
		Arguments: []*mcp.PromptArgument{
			{Name: "repo", Description: "the repository, as owner/name", Required: true},
		},
	}, reviewRepo)
}

func greet(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	name, err := required(req, "name")
	if err != nil {
		return nil, err
	}
	language := req.Params.Arguments["language"]
	if language == "" {
		language = "English"
	}
	return question("A greeting", "Write a short greeting of %s in %s.", name, language), nil
}

func reviewRepo(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	repo, err := required(req, "repo")
	if err != nil {
		return nil, err
	}
	return question("A review", "Review the code of the repository %s.", repo), nil
}

// required is an argument that must be there; the SDK does not look.
func required(req *mcp.GetPromptRequest, name string) (string, error) {
	value := req.Params.Arguments[name]
	if value == "" {
		return "", &jsonrpc.Error{
			Code:    jsonrpc.CodeInvalidParams,
			Message: fmt.Sprintf("the argument %q is missing", name),
		}
	}
	return value, nil
}

func question(description, format string, values ...any) *mcp.GetPromptResult {
	return &mcp.GetPromptResult{
		Description: description,
		Messages: []*mcp.PromptMessage{
			{Role: "user", Content: &mcp.TextContent{Text: fmt.Sprintf(format, values...)}},
		},
	}
}
