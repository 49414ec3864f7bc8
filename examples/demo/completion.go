package demo

import (
	"context"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// maxCompletions is how many values the specification lets one answer hold.
const maxCompletions = 100

var languages = []string{"English", "Esperanto", "French", "German", "Greek", "Spanish"}

// completer suggests values for arguments of prompts and of the template.
type completer struct{ repos *store }

func (c completer) complete(_ context.Context, req *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	ref, argument := req.Params.Ref, req.Params.Argument
	values := []string{}
	for _, candidate := range c.candidates(ref, argument.Name, req.Params.Context) {
		if strings.HasPrefix(candidate, argument.Value) {
			values = append(values, candidate)
		}
	}
	shown := values[:min(len(values), maxCompletions)]
	return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{
		Values:  shown,
		Total:   len(values),
		HasMore: len(shown) < len(values),
	}}, nil
}

// candidates are all values an argument may take; what is not known has none.
func (c completer) candidates(ref *mcp.CompleteReference, argument string, context *mcp.CompleteContext) []string {
	switch {
	case ref == nil:
		return nil
	case ref.Name == "greet" && argument == "language":
		return languages
	case ref.Name == "review_repo" && argument == "repo":
		return c.names("", Repo.full)
	case ref.URI == repoTemplate && argument == "owner":
		return c.names("", Repo.owner)
	case ref.URI == repoTemplate && argument == "name":
		owner := ""
		if context != nil {
			owner = context.Arguments["owner"]
		}
		return c.names(owner, Repo.short)
	default:
		return nil
	}
}

// names are distinct parts of the repositories of an owner, in order.
func (c completer) names(owner string, part func(Repo) string) []string {
	var names []string
	for _, repo := range c.repos.list(owner) {
		names = append(names, part(repo))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
