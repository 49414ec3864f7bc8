package demo

import (
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestGetMe(t *testing.T) {
	for user, want := range map[string]string{
		"alice": "You are alice.",
		"":      "You are nobody in particular.",
	} {
		for mode, opts := range map[string]Options{
			"stateless JSON": {},
			"stateless SSE":  {SSE: true},
			"session JSON":   {Stateful: true},
			"session SSE":    {Stateful: true, SSE: true},
		} {
			t.Run(mode+" "+user, func(t *testing.T) {
				got, failed := call(t, connect(t, opts, user, nil), "get_me", nil)
				if got != want || failed {
					t.Errorf("got %q, failed %v, want %q", got, failed, want)
				}
			})
		}
	}
}

func TestTools(t *testing.T) {
	type arguments = map[string]any
	session := connect(t, Options{}, "alice", nil)
	// One after the other on one store.
	for _, step := range []struct {
		name   string
		tool   string
		args   arguments
		want   string
		failed bool
	}{
		{name: "echo", tool: "echo", args: arguments{"text": "a\nb"}, want: "a\nb"},
		{name: "echo nothing", tool: "echo", want: "required", failed: true},
		{name: "add", tool: "add", args: arguments{"a": 2, "b": 0.5}, want: "2.5"},
		{name: "add large", tool: "add", args: arguments{"a": 1e6, "b": 1}, want: "1000001"},
		{name: "add text", tool: "add", args: arguments{"a": "2", "b": 2}, want: "type", failed: true},
		{name: "list of an owner", tool: "list_repos", args: arguments{"owner": "acme"}, want: `{"repos":[{"description":"The public API of Acme","name":"acme/api"},{"description":"The website of Acme","name":"acme/website"}]}`},
		{name: "list of a stranger", tool: "list_repos", args: arguments{"owner": "initech"}, want: `{"repos":[]}`},
		{name: "create", tool: "create_repo", args: arguments{"repo": "initech/tps", "description": "Reports"}, want: "Created initech/tps."},
		{name: "create again", tool: "create_repo", args: arguments{"repo": "initech/tps"}, want: "initech/tps: already exists", failed: true},
		{name: "create without owner", tool: "create_repo", args: arguments{"repo": "tps"}, want: "pattern", failed: true},
		{name: "create with a long description", tool: "create_repo", args: arguments{"repo": "initech/x", "description": strings.Repeat("x", maxDescription+1)}, want: "maxLength", failed: true},
		{name: "list what was created", tool: "list_repos", args: arguments{"owner": "initech"}, want: `{"repos":[{"description":"Reports","name":"initech/tps"}]}`},
		{name: "delete", tool: "delete_repo", args: arguments{"repo": "initech/tps"}, want: "Deleted initech/tps."},
		{name: "delete again", tool: "delete_repo", args: arguments{"repo": "initech/tps"}, want: "initech/tps: not found", failed: true},
		{name: "delete a whole owner", tool: "delete_repo", args: arguments{"repo": "acme/"}, want: "pattern", failed: true},
	} {
		got, failed := call(t, session, step.tool, step.args)
		if failed != step.failed {
			t.Errorf("%s: failed %v, want %v: %s", step.name, failed, step.failed, got)
		}
		// Validation errors are the SDK's: their wording is not this test's.
		if failed && !strings.Contains(got, step.want) || !failed && got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
	}
}

func TestToolList(t *testing.T) {
	session := connect(t, Options{PageSize: 4}, "", nil)
	want := []string{"add", "create_repo", "delete_repo", "echo", "get_me", "list_repos"}
	writing := []string{"create_repo", "delete_repo"}

	first, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Tools) != 4 || first.NextCursor == "" {
		t.Fatalf("first page has %d tools and cursor %q, want 4 and a cursor", len(first.Tools), first.NextCursor)
	}
	second, err := session.ListTools(t.Context(), &mcp.ListToolsParams{Cursor: first.NextCursor})
	if err != nil {
		t.Fatal(err)
	}

	var names []string
	for _, tool := range slices.Concat(first.Tools, second.Tools) {
		names = append(names, tool.Name)
		if tool.Title == "" || tool.Description == "" || tool.InputSchema == nil || tool.OutputSchema == nil {
			t.Errorf("%s lacks a title, a description or a schema", tool.Name)
		}
		if got, want := tool.Annotations.ReadOnlyHint, !slices.Contains(writing, tool.Name); got != want {
			t.Errorf("%s: readOnlyHint %v, want %v", tool.Name, got, want)
		}
		destructive := tool.Annotations.DestructiveHint
		if got, want := destructive != nil && *destructive, tool.Name == "delete_repo"; got != want {
			t.Errorf("%s: destructiveHint %v, want %v", tool.Name, got, want)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("got tools %v, want %v", names, want)
	}
}
