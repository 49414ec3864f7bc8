package demo

import (
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestPrompts(t *testing.T) {
	session := connect(t, Options{}, "", nil)

	list, err := session.ListPrompts(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Prompts) != 2 {
		t.Errorf("got %d prompts, want 2", len(list.Prompts))
	}

	for _, test := range []struct {
		prompt    string
		arguments map[string]string
		want      string // empty: refused
	}{
		{"greet", map[string]string{"name": "Bob"}, "Write a short greeting of Bob in English."},
		{"greet", map[string]string{"name": "Bob", "language": "Greek"}, "Write a short greeting of Bob in Greek."},
		{"greet", nil, ""},
		{"review_repo", map[string]string{"repo": "acme/api"}, "Review the code of the repository acme/api."},
		{"review_repo", nil, ""},
		{"unknown", nil, ""},
	} {
		result, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: test.prompt, Arguments: test.arguments})
		if test.want == "" {
			wantInvalidParams(t, err)
			continue
		}
		if err != nil {
			t.Errorf("%s %v: %v", test.prompt, test.arguments, err)
			continue
		}
		if content, ok := result.Messages[0].Content.(*mcp.TextContent); !ok || content.Text != test.want {
			t.Errorf("%s %v: got %v, want %q", test.prompt, test.arguments, result.Messages[0].Content, test.want)
		}
	}
}
