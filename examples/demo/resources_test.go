package demo

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestResources(t *testing.T) {
	session := connect(t, Options{}, "", nil)

	list, err := session.ListResources(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var uris []string
	for _, resource := range list.Resources {
		uris = append(uris, resource.URI)
	}
	if want := []string{"docs://internal/salaries", "docs://public/changelog", "docs://public/handbook"}; !slices.Equal(uris, want) {
		t.Errorf("got resources %v, want %v", uris, want)
	}

	templates, err := session.ListResourceTemplates(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(templates.ResourceTemplates) != 1 || templates.ResourceTemplates[0].URITemplate != repoTemplate {
		t.Errorf("got templates %v, want only %s", templates.ResourceTemplates, repoTemplate)
	}

	for uri, want := range map[string]string{
		"docs://public/handbook":   "# Handbook\n\nBe kind, and write tests.\n",
		"docs://public/changelog":  "# Changelog\n\n- 1.0.0: the first release.\n",
		"docs://internal/salaries": "# Salaries\n\nEverybody earns the same.\n",
		"repo://acme/api":          `{"name":"acme/api","description":"The public API of Acme"}`,
	} {
		result, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if len(result.Contents) != 1 || result.Contents[0].URI != uri || result.Contents[0].Text != want {
			t.Errorf("%s: got %v, want %q", uri, result.Contents, want)
		}
	}

	for _, uri := range []string{"repo://acme/unknown", "repo://acme/api/more", "docs://public/unknown"} {
		_, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
		wantInvalidParams(t, err)
	}
}

func TestSubscription(t *testing.T) {
	updated := make(chan string, 10)
	session := connect(t, Options{Stateful: true, SSE: true}, "", &mcp.ClientOptions{
		ResourceUpdatedHandler: func(_ context.Context, req *mcp.ResourceUpdatedNotificationRequest) {
			updated <- req.Params.URI
		},
	})
	// Sessions are what the versions before 2026-07-28 have; the client
	// chooses between subscribe and listen by the version it agreed upon.
	if err := session.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "repo://acme/api"}); err != nil {
		t.Fatal(err)
	}
	call(t, session, "delete_repo", map[string]any{"repo": "acme/website"})
	call(t, session, "delete_repo", map[string]any{"repo": "acme/api"})
	select {
	case uri := <-updated:
		if uri != "repo://acme/api" {
			t.Errorf("told of %s, which nobody subscribed to", uri)
		}
	case <-time.After(10 * time.Second):
		t.Error("not told of the deletion")
	}
}
