package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// oauthServer is a running oauth-server.mjs: anybody can register a client with it, and log in.
type oauthServer struct{ issuer string }

func startOAuth(t *testing.T) *oauthServer {
	t.Helper()
	cmd := nodeCommand(t, "oauth-server.mjs")
	cmd.Env = append(cmd.Env, "PORT=0")
	p := start(t, cmd)
	match, err := p.out.wait(oidcReady, p.done, startLimit)
	if err != nil {
		t.Fatal(err)
	}
	return &oauthServer{match[1]}
}

// site is an MCP server whose clients are told where to log in. The token must be fresh to the second.
func (s *oauthServer) site(resource, rules, upstream string) string {
	return siteOf(fmt.Sprintf(`issuer %s {
			leeway 0s
		}
		resource %s {
			scopes mcp:use
			name "The demo server"
		}`, s.issuer, resource), rules, upstream)
}

// startLoginGateway starts a gateway in front of an MCP server for those who log in with the OAuth server.
func (s *oauthServer) startLoginGateway(t *testing.T, rules, upstream string) *gateway {
	t.Helper()
	return startGatewayAt(t, "http://127.0.0.1", func(resource string) string {
		return s.site(resource, rules, upstream)
	})
}

func (s *oauthServer) endpoint() oauth2.Endpoint {
	return oauth2.Endpoint{AuthURL: s.issuer + "/auth", TokenURL: s.issuer + "/token", AuthStyle: oauth2.AuthStyleInParams}
}

// startCallback starts the page that a browser comes back to.
func startCallback(t *testing.T) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "You may close this page.")
	}))
	t.Cleanup(server.Close)
	return server.URL + "/callback"
}

// nativeClient is what a client on somebody's computer tells about itself.
func nativeClient(callback string) *oauthex.ClientRegistrationMetadata {
	return &oauthex.ClientRegistrationMetadata{
		ClientName:              "e2e",
		ApplicationType:         "native",
		RedirectURIs:            []string{callback},
		GrantTypes:              []string{"authorization_code", "refresh_token"},
		ResponseTypes:           []string{"code"},
		TokenEndpointAuthMethod: "none",
	}
}

// login has a user log in to a new client, which gets tokens for a resource; an empty resource is none.
func (s *oauthServer) login(t *testing.T, user, resource string, scopes ...string) *oauth2.Token {
	t.Helper()
	callback := startCallback(t)
	client, err := oauthex.RegisterClient(t.Context(), s.issuer+"/reg", nativeClient(callback), nil)
	if err != nil {
		t.Fatal(err)
	}
	config := oauth2.Config{ClientID: client.ClientID, Endpoint: s.endpoint(), RedirectURL: callback, Scopes: scopes}
	verifier := oauth2.GenerateVerifier()
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier)}
	if resource != "" {
		options = append(options, oauth2.SetAuthURLParam("resource", resource))
	}
	at, err := newBrowser(t, user).open(t.Context(), config.AuthCodeURL("state", options...))
	if err != nil {
		t.Fatal(err)
	}
	code := at.Query().Get("code")
	if code == "" {
		t.Fatalf("the browser ended up at %s", at)
	}
	token, err := config.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// sign has the server sign something with the key that it signs access tokens with.
func (s *oauthServer) sign(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"header": header, "claims": claims})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(s.issuer+"/test/sign", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	signed, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("signing: status %d, %v", resp.StatusCode, err)
	}
	return string(signed)
}

// formRequest is a POST of a form.
func formRequest(ctx context.Context, url string, form url.Values) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(form.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r, err
}
