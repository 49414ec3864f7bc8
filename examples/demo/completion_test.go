package demo

import (
	"slices"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestCompletion(t *testing.T) {
	prompt := func(name string) *mcp.CompleteReference {
		return &mcp.CompleteReference{Type: "ref/prompt", Name: name}
	}
	template := &mcp.CompleteReference{Type: "ref/resource", URI: repoTemplate}
	session := connect(t, Options{}, "", nil)

	for _, test := range []struct {
		name     string
		ref      *mcp.CompleteReference
		argument string
		value    string
		known    map[string]string
		want     []string
	}{
		{name: "language", ref: prompt("greet"), argument: "language", value: "G", want: []string{"German", "Greek"}},
		{name: "name of anybody", ref: prompt("greet"), argument: "name", value: "A"},
		{name: "repo", ref: prompt("review_repo"), argument: "repo", value: "acme/", want: []string{"acme/api", "acme/website"}},
		{name: "owner", ref: template, argument: "owner", want: []string{"acme", "globex"}},
		{name: "repo of an owner", ref: template, argument: "name", known: map[string]string{"owner": "acme"}, want: []string{"api", "website"}},
		{name: "repo of nobody", ref: template, argument: "name", value: "s", want: []string{"secret-plans"}},
		{name: "unknown", ref: prompt("unknown"), argument: "language", value: "G"},
	} {
		result, err := session.Complete(t.Context(), &mcp.CompleteParams{
			Ref:      test.ref,
			Argument: mcp.CompleteParamsArgument{Name: test.argument, Value: test.value},
			Context:  &mcp.CompleteContext{Arguments: test.known},
		})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := result.Completion; !slices.Equal(got.Values, test.want) || got.Total != len(test.want) || got.HasMore {
			t.Errorf("%s: got %+v, want %v", test.name, got, test.want)
		}
	}
}
