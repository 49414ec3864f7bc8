package e2e

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// TestLoginGo does both with the Go SDK, by the version of the protocol that has no sessions and by the one before.
func TestLoginGo(t *testing.T) {
	for version, demo := range map[string][]string{"2026-07-28": nil, "2025-11-25": {"-stateful"}} {
		t.Run(version, func(t *testing.T) {
			server := startOAuth(t)
			g := server.startLoginGateway(t, stepUpRules, startDemo(t, demo...))
			login := newGoLogin(t, "alice")
			if demo != nil {
				login.registered(t, server) // see TestLoginGoRegistersAnew
			}
			session := login.connect(t, g, version)
			wantText(t, session, "get_me", nil, greeting)
			wantText(t, session, "create_repo", newRepo, "acme/new")
			wantText(t, session, "get_me", nil, greeting)
			login.wantSteppedUp(t, g)
		})
	}
}

// TestLoginGoRegistersAnew: for every login, the Go SDK registers another client, unless it is given one. A session
// belongs to the client that began it, so that one is over then, for the same user as well. The next one works, and
// takes no further login.
func TestLoginGoRegistersAnew(t *testing.T) {
	server := startOAuth(t)
	upstream := startRecorder(t, startDemo(t, "-stateful"), (*httptest.Server).Start)
	g := server.startLoginGateway(t, stepUpRules, upstream.URL)
	login := newGoLogin(t, "alice")
	session := login.connect(t, g, "2025-11-25")
	wantText(t, session, "get_me", nil, greeting)
	before, posts := session.ID(), upstream.posts(t)
	called, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "create_repo", Arguments: newRepo})
	if !errors.Is(err, mcp.ErrSessionMissing) {
		t.Errorf("in the session of another client: %v, %v", called, err)
	}
	if more := upstream.posts(t) - posts; more != 0 {
		t.Errorf("the server behind the gateway got %d messages of it", more)
	}

	session = login.connect(t, g, "2025-11-25")
	if session.ID() == before || before == "" {
		t.Errorf("the sessions were %q and %q, want two", before, session.ID())
	}
	wantText(t, session, "create_repo", newRepo, "acme/new")
	wantText(t, session, "get_me", nil, greeting)
	login.wantSteppedUp(t, g)
}

var newRepo = map[string]any{"repo": "acme/new"}

// goLogin makes the Go SDK register a client and have a user log in. What the client asks for is noted.
type goLogin struct {
	config         auth.AuthorizationCodeHandlerConfig
	handler        auth.OAuthHandler
	authorizations []url.Values
}

func newGoLogin(t *testing.T, user string) *goLogin {
	t.Helper()
	b, login := newBrowser(t, user), new(goLogin)
	login.config = auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: nativeClient(startCallback(t))},
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			page, err := url.Parse(args.URL)
			if err != nil {
				return nil, err
			}
			login.authorizations = append(login.authorizations, page.Query())
			at, err := b.open(ctx, args.URL)
			if err != nil {
				return nil, err
			}
			answer := at.Query()
			return &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state"), Iss: answer.Get("iss")}, nil
		},
	}
	return login
}

// registered registers a client once, instead of at each login.
func (login *goLogin) registered(t *testing.T, server *oauthServer) {
	t.Helper()
	metadata := login.config.DynamicClientRegistrationConfig.Metadata
	client, err := oauthex.RegisterClient(t.Context(), server.issuer+"/reg", metadata, nil)
	if err != nil {
		t.Fatal(err)
	}
	login.config.PreregisteredClient = &oauthex.ClientCredentials{ClientID: client.ClientID}
	login.config.RedirectURL = metadata.RedirectURIs[0]
	login.config.DynamicClientRegistrationConfig = nil
}

// connect opens a session that ends with the test. What was granted before is used again.
func (login *goLogin) connect(t *testing.T, g *gateway, version string) *mcp.ClientSession {
	t.Helper()
	if login.handler == nil {
		handler, err := auth.NewAuthorizationCodeHandler(&login.config)
		if err != nil {
			t.Fatal(err)
		}
		login.handler = handler
	}
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	t.Cleanup(cancel)
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: g.url(), OAuthHandler: login.handler, MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	if got := session.InitializeResult().ProtocolVersion; got != version {
		t.Errorf("the client speaks %s", got)
	}
	return session
}

// wantSteppedUp checks that there was one login, and another one for one more scope.
func (login *goLogin) wantSteppedUp(t *testing.T, g *gateway) {
	t.Helper()
	if len(login.authorizations) != 2 {
		t.Fatalf("there were %d logins, want 2", len(login.authorizations))
	}
	wantAuthorization(t, login.authorizations[0], g.url(), "mcp:use")
	wantAuthorization(t, login.authorizations[1], g.url(), "mcp:use", "repo:write")
}

// wantText calls a tool whose answer must hold a text.
func wantText(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	called, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Errorf("%s: %v", tool, err)
		return
	}
	if text, ok := called.Content[0].(*mcp.TextContent); !ok || called.IsError || !strings.Contains(text.Text, want) {
		t.Errorf("%s: got %v, want %q", tool, called, want)
	}
}
