package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/slowbody"
)

func init() {
	caddy.RegisterModule(Metadata{})
}

// MetadataPath matches every path at which clients look for metadata. In a
// Caddyfile, mcp_jwt puts a Metadata handler on a route with it.
const MetadataPath = wellKnownOAuth + "*"

// Metadata serves the protected resource metadata (RFC 9728) of one MCP
// server, to anybody and for pages of any site:
//
//   - at `/.well-known/oauth-protected-resource<path of the resource>`, with
//     and without a slash at the end,
//   - at `/.well-known/oauth-protected-resource`, if nothing else there is
//     and no other resource either.
//
// What nothing else handles below `/.well-known/oauth-` is answered 404 in
// JSON, because clients read the answer as JSON. Other requests pass.
type Metadata struct {
	// The resource.
	Resource *Resource `json:"resource,omitempty"`

	// The issuers of the tokens (RFC 8414), at least one.
	AuthorizationServers []string `json:"authorization_servers,omitempty"`

	// path is where the document is, without a slash at the end.
	path     string
	document []byte
}

// CaddyModule returns the Caddy module information.
func (Metadata) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.mcp_metadata",
		New: func() caddy.Module { return new(Metadata) },
	}
}

// Metadata returns the handler that goes with the resource, nil without one.
func (h *Handler) Metadata() *Metadata {
	if h.Resource == nil {
		return nil
	}
	m := &Metadata{Resource: h.Resource}
	for _, issuer := range h.Issuers {
		if isWebURL(issuer.Issuer) || cfutil.HasPlaceholder(issuer.Issuer) {
			m.AuthorizationServers = append(m.AuthorizationServers, issuer.Issuer)
		}
	}
	return m
}

// Provision writes the document.
func (m *Metadata) Provision(ctx caddy.Context) error {
	if m.Resource == nil {
		return errors.New("mcp_metadata needs a resource")
	}
	configured := m.Resource.URL
	if err := m.Resource.expand(); err != nil {
		return err
	}
	if err := cfutil.ExpandAll(m.AuthorizationServers); err != nil {
		return err
	}
	u, err := parseResourceURL(m.Resource.URL)
	if err != nil {
		return fmt.Errorf("resource %q: %w", m.Resource.URL, err)
	}
	m.AuthorizationServers = slices.DeleteFunc(m.AuthorizationServers, func(issuer string) bool { return !isWebURL(issuer) })
	if len(m.AuthorizationServers) == 0 {
		return errNoAuthorizationServer
	}
	if u.Scheme == "http" && !isLoopbackHost(u.Host) {
		ctx.Logger().Warn("clients send their tokens to this resource without encryption", zap.String("resource", m.Resource.URL))
	}
	m.path = strings.TrimSuffix(wellKnownResource+resourcePath(u), "/")
	m.document, err = m.Resource.document(m.AuthorizationServers)
	if err != nil {
		return err
	}
	return checkReachable(ctx, configured, m.path)
}

// expand replaces the placeholders and checks the result.
func (r *Resource) expand() error {
	if err := cfutil.Expand(r.texts()...); err != nil {
		return err
	}
	if err := cfutil.ExpandAll(r.Scopes); err != nil {
		return err
	}
	return r.check(func(string) bool { return false })
}

// rootRequest counts the resources that a request for the root form has met.
type rootRequest struct{ resources int }

type rootKey struct{}

// ServeHTTP serves the document.
func (m *Metadata) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !strings.HasPrefix(r.URL.Path, wellKnownOAuth) {
		return next.ServeHTTP(w, r)
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	if path == m.path {
		return m.serve(w, r)
	}
	var root *rootRequest
	if path == wellKnownResource {
		var outer bool
		if root, outer = r.Context().Value(rootKey{}).(*rootRequest); outer {
			root.resources++
			return next.ServeHTTP(w, r)
		}
		root = &rootRequest{resources: 1}
		r = r.WithContext(context.WithValue(r.Context(), rootKey{}, root))
	}
	attempt := &attempt{client: w, header: w.Header().Clone()}
	if err := next.ServeHTTP(attempt, r); err != nil && !attempt.failed(r, err) {
		return err
	}
	switch {
	case attempt.handled:
		return nil
	case root != nil && root.resources == 1:
		return m.serve(w, r)
	case r.Method == http.MethodOptions:
		return preflightMetadata(w, r)
	default:
		return writeJSON(w, r, http.StatusNotFound, []byte(`{"error":"not_found"}`))
	}
}

func (m *Metadata) serve(w http.ResponseWriter, r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return writeJSON(w, r, http.StatusOK, m.document)
	case http.MethodOptions:
		return preflightMetadata(w, r)
	default:
		w.Header().Set("Allow", metadataMethods)
		return writeJSON(w, r, http.StatusMethodNotAllowed, []byte(`{"error":"method_not_allowed"}`))
	}
}

const metadataMethods = "GET, HEAD, OPTIONS"

// preflightMetadata lets every page read metadata: they are public, and no
// credential has a part in them.
func preflightMetadata(w http.ResponseWriter, r *http.Request) error {
	slowbody.LimitRest(w, r)
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Allow-Methods", metadataMethods)
	// the star does not include Authorization
	header.Set("Access-Control-Allow-Headers", "*, Authorization")
	header.Set("Access-Control-Max-Age", preflightMaxAge)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func writeJSON(w http.ResponseWriter, r *http.Request, status int, body []byte) error {
	slowbody.LimitRest(w, r)
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Access-Control-Allow-Origin", "*")
	w.WriteHeader(status)
	// nothing can be done about a client that has gone
	_, _ = w.Write(body)
	return nil
}

// Interface guards
var (
	_ caddy.Module                = (*Metadata)(nil)
	_ caddy.Provisioner           = (*Metadata)(nil)
	_ caddyhttp.MiddlewareHandler = (*Metadata)(nil)
)
