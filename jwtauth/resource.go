package jwtauth

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// Resource is the MCP server as OAuth sees it (RFC 9728): what tokens are
// issued for, and where clients learn who issues them.
type Resource struct {
	// The URL that clients use, without query and fragment. Tokens name it as
	// their audience (RFC 8707), unless an issuer has audiences of its own.
	URL string `json:"url"`

	// The scopes a client needs to begin with. They are in every challenge,
	// and in the metadata as scopes_supported.
	Scopes []string `json:"scopes,omitempty"`

	// The name of the server, for people.
	Name string `json:"name,omitempty"`

	// The URL of a page for developers.
	Documentation string `json:"documentation,omitempty"`

	// The URL of a page about how clients may use the data.
	Policy string `json:"policy,omitempty"`

	// The URL of the terms of service.
	TOS string `json:"tos,omitempty"`
}

const (
	// wellKnownOAuth is where clients look for metadata of any kind.
	wellKnownOAuth = "/.well-known/oauth-"
	// wellKnownResource is where they look for that of a resource: RFC 9728
	// section 3. The path of the resource follows.
	wellKnownResource = wellKnownOAuth + "protected-resource"
)

// offlineAccess is a wish of a client for refresh tokens, nothing that a
// resource could ask for.
const offlineAccess = "offline_access"

var errResourceURL = errors.New("a resource is an http(s) URL without user, query, fragment, dot segments and escapes, just as clients use it")

// parseResourceURL reads the URL of a resource. It must be able to stand in
// a quoted string of a header as it is.
func parseResourceURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || !isWebURL(text) || u.User != nil:
		return nil, errResourceURL
	case strings.ContainsAny(text, `?#%"\`), strings.ContainsFunc(text, notVisible):
		return nil, errResourceURL
	case u.Path != "" && path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") && u.Path != "/":
		return nil, errResourceURL
	}
	return u, nil
}

func notVisible(r rune) bool { return r <= ' ' || r > '~' }

// check refuses what a client could not use. What holds placeholders is
// checked once they are replaced.
func (r *Resource) check(hasPlaceholder func(string) bool) error {
	if !hasPlaceholder(r.URL) {
		if _, err := parseResourceURL(r.URL); err != nil {
			return fmt.Errorf("resource %q: %w", r.URL, err)
		}
	}
	for _, scope := range r.Scopes {
		if hasPlaceholder(scope) {
			continue
		}
		if err := reqctx.CheckScope(scope); err != nil {
			return fmt.Errorf("resource: %w", err)
		}
		if scope == offlineAccess {
			return fmt.Errorf("resource: %s is for clients to ask for; a resource does not name it", offlineAccess)
		}
	}
	for _, page := range []string{r.Documentation, r.Policy, r.TOS} {
		if page == "" || hasPlaceholder(page) {
			continue
		}
		if !isWebURL(page) {
			return fmt.Errorf("resource: %q is not the URL of a page", page)
		}
	}
	return nil
}

// texts are all that may hold placeholders.
func (r *Resource) texts() []*string {
	return []*string{&r.URL, &r.Name, &r.Documentation, &r.Policy, &r.TOS}
}

// resourcePath is the path of a resource's URL; "" for a root resource.
func resourcePath(u *url.URL) string {
	if u.Path == "/" {
		return ""
	}
	return u.Path
}

// audiences are what tokens may name: the URL, and for a root resource with
// and without the slash, which URL parsers add.
func (r *Resource) audiences(u *url.URL) []string {
	if resourcePath(u) != "" {
		return []string{r.URL}
	}
	bare := strings.TrimSuffix(r.URL, "/")
	return []string{bare, bare + "/"}
}

// metadataURL is where the metadata of a resource are: the well-known part
// goes between host and path.
func metadataURL(u *url.URL) string {
	return u.Scheme + "://" + u.Host + wellKnownResource + resourcePath(u)
}

// metadataDocument is RFC 9728 section 2.
type metadataDocument struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	Scopes               []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name,omitempty"`
	Documentation        string   `json:"resource_documentation,omitempty"`
	Policy               string   `json:"resource_policy_uri,omitempty"`
	TOS                  string   `json:"resource_tos_uri,omitempty"`
}

// document writes the metadata.
func (r *Resource) document(authorizationServers []string) ([]byte, error) {
	return json.Marshal(&metadataDocument{
		Resource:             r.URL,
		AuthorizationServers: authorizationServers,
		Scopes:               r.Scopes,
		BearerMethods:        []string{"header"},
		Name:                 r.Name,
		Documentation:        r.Documentation,
		Policy:               r.Policy,
		TOS:                  r.TOS,
	}, jsontext.EscapeForHTML(true))
}

var errNoAuthorizationServer = errors.New("resource needs an issuer whose name is an http(s) URL, where clients get their tokens")

// isWebURL reports whether clients can go there. The name of an issuer that
// they can ask for a token is a URL (RFC 8414 section 2).
func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}
