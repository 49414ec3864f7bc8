package demo

import (
	"context"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type (
	listArguments struct {
		Owner string `json:"owner,omitempty" jsonschema:"list only what belongs to this owner"`
	}
	listResult struct {
		Repos []Repo `json:"repos" jsonschema:"the repositories, ordered by name"`
	}

	createArguments struct {
		Repo        string `json:"repo" jsonschema:"the repository to create, as owner/name"`
		Description string `json:"description,omitempty" jsonschema:"what it is for"`
	}
	createResult struct {
		Created Repo `json:"created" jsonschema:"the new repository"`
	}

	deleteArguments struct {
		Repo string `json:"repo" jsonschema:"the repository to delete, as owner/name"`
	}
	deleteResult struct {
		Deleted string `json:"deleted" jsonschema:"the repository that is gone"`
	}
)

// repoTools work on the store. One argument, repo, names a repository
// wholly, so that a rule can look at it with
// mcp.tool.arguments.repo.startsWith("acme/").
type repoTools struct {
	server *mcp.Server
	repos  *store
}

func addRepoTools(server *mcp.Server, repos *store) {
	tools := repoTools{server, repos}
	closed, additive, destructive := false, false, true
	mcp.AddTool(server, &mcp.Tool{
		Name:        "list_repos",
		Title:       "List repositories",
		Description: "Lists the repositories.",
		Annotations: readOnly("List repositories"),
	}, tools.list)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "create_repo",
		Title:       "Create a repository",
		Description: "Creates a repository.",
		InputSchema: schemaOf[createArguments](func(properties map[string]*jsonschema.Schema) {
			properties["repo"].Pattern = repoPattern
			properties["description"].MaxLength = jsonschema.Ptr(maxDescription)
		}),
		Annotations: &mcp.ToolAnnotations{
			Title:           "Create a repository",
			DestructiveHint: &additive,
			OpenWorldHint:   &closed,
		},
	}, tools.create)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "delete_repo",
		Title:       "Delete a repository",
		Description: "Deletes a repository for good.",
		InputSchema: schemaOf[deleteArguments](func(properties map[string]*jsonschema.Schema) {
			properties["repo"].Pattern = repoPattern
		}),
		Annotations: &mcp.ToolAnnotations{
			Title:           "Delete a repository",
			DestructiveHint: &destructive,
			IdempotentHint:  true,
			OpenWorldHint:   &closed,
		},
	}, tools.delete)
}

func (t repoTools) list(_ context.Context, _ *mcp.CallToolRequest, in listArguments) (*mcp.CallToolResult, listResult, error) {
	return nil, listResult{Repos: t.repos.list(in.Owner)}, nil
}

func (t repoTools) create(ctx context.Context, _ *mcp.CallToolRequest, in createArguments) (*mcp.CallToolResult, createResult, error) {
	repo := Repo{Name: in.Repo, Description: in.Description}
	if err := t.repos.create(repo); err != nil {
		return nil, createResult{}, err
	}
	return text(fmt.Sprintf("Created %s.", repo.Name)), createResult{repo}, t.updated(ctx, repo.Name)
}

func (t repoTools) delete(ctx context.Context, _ *mcp.CallToolRequest, in deleteArguments) (*mcp.CallToolResult, deleteResult, error) {
	if err := t.repos.delete(in.Repo); err != nil {
		return nil, deleteResult{}, err
	}
	return text(fmt.Sprintf("Deleted %s.", in.Repo)), deleteResult{in.Repo}, t.updated(ctx, in.Repo)
}

// updated tells those who subscribed to the repository that it has changed.
func (t repoTools) updated(ctx context.Context, name string) error {
	return t.server.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: repoScheme + name})
}
