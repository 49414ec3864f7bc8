package demo

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	// repoScheme begins the URI of every repository.
	repoScheme = "repo://"

	// repoTemplate is the template of these URIs.
	repoTemplate = repoScheme + "{owner}/{name}"
)

// documents are the fixed resources: two that a rule may open to everybody
// and one that it had better not.
var documents = []struct{ uri, title, text string }{
	{"docs://public/handbook", "Handbook", "# Handbook\n\nBe kind, and write tests.\n"},
	{"docs://public/changelog", "Changelog", "# Changelog\n\n- 1.0.0: the first release.\n"},
	{"docs://internal/salaries", "Salaries", "# Salaries\n\nEverybody earns the same.\n"},
}

func addResources(server *mcp.Server, repos *store) {
	for _, document := range documents {
		server.AddResource(&mcp.Resource{
			URI:         document.uri,
			Name:        document.uri[strings.LastIndexByte(document.uri, '/')+1:],
			Title:       document.title,
			Description: "A document of the demo.",
			MIMEType:    "text/markdown",
			Size:        int64(len(document.text)),
		}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return contents(document.uri, "text/markdown", document.text), nil
		})
	}
	server.AddResourceTemplate(&mcp.ResourceTemplate{
		URITemplate: repoTemplate,
		Name:        "repository",
		Title:       "Repository",
		Description: "One repository.",
		MIMEType:    "application/json",
	}, repoReader(repos))
}

// repoReader reads a repository by a URI that matches repoTemplate.
func repoReader(repos *store) mcp.ResourceHandler {
	return func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		uri := req.Params.URI
		repo, err := repos.get(strings.TrimPrefix(uri, repoScheme))
		if err != nil {
			return nil, mcp.ResourceNotFoundError(uri)
		}
		body, err := json.Marshal(repo)
		if err != nil {
			return nil, err
		}
		return contents(uri, "application/json", string(body)), nil
	}
}

func contents(uri, mimeType, text string) *mcp.ReadResourceResult {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{
		{URI: uri, MIMEType: mimeType, Text: text},
	}}
}

// acceptSubscribe and acceptUnsubscribe let clients watch any resource: the
// SDK keeps the lists, and access is the gateway's business.
func acceptSubscribe(context.Context, *mcp.SubscribeRequest) error { return nil }

func acceptUnsubscribe(context.Context, *mcp.UnsubscribeRequest) error { return nil }
