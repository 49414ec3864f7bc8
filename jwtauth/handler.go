// Package jwtauth is the Caddy module http.handlers.mcp_jwt: it lets
// requests in that carry a valid token, says to the others how to get one,
// and tells the handlers behind it who is asking.
package jwtauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/lease"
	"github.com/caddymcp/gateway/internal/reqctx"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler authenticates requests by JSON Web Tokens (RFC 7519, RFC 9068) in
// compact form, as the authorization specification of MCP asks of a resource
// server.
//
// It sets these placeholders, only ever from a token that was verified:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The claim that names the user (`user_claim`)
// `{http.auth.user.<claim>}` | A claim: text, number or boolean; lists are joined with `,`
// `{mcp.issuer}` | The token's `iss`
type Handler struct {
	// What happens without a valid token. `strict` (the default) answers
	// 401. `optional` lets requests without any token pass, without claims;
	// a bad token is 401. `permissive` removes a bad token and lets the
	// request pass without claims, against RFC 6750.
	Mode string `json:"mode,omitempty"`

	// Whose tokens are accepted. At least one.
	Issuers []*Issuer `json:"issuers,omitempty"`

	// Where a request carries its token. Default: the header
	// `Authorization` with the scheme `Bearer`.
	TokenFrom []*TokenSource `json:"token_from,omitempty"`

	// Leaves the credential in the request. By default it is removed: MCP
	// forbids passing a client's token on to another server.
	ForwardToken bool `json:"forward_token,omitempty"`

	// The claim behind `{http.auth.user.id}`. Default: `sub`.
	UserClaim string `json:"user_claim,omitempty"`

	// The realm of challenges that name no resource (RFC 9110 section 11.5).
	// Default: `mcp`.
	Realm string `json:"realm,omitempty"`

	// The MCP server as OAuth sees it (RFC 9728). Challenges lead to its
	// metadata, and issuers without audiences of their own accept tokens
	// that were issued for it. The document itself is served by
	// `mcp_metadata`, which a Caddyfile gets by itself.
	Resource *Resource `json:"resource,omitempty"`

	// The origins whose pages may make requests, besides the site's own; they
	// get CORS headers. `null` stands for pages without one.
	Origins []string `json:"origins,omitempty"`

	// The size of the longest token that is looked at, in bytes.
	// Default: 16384.
	MaxTokenSize int `json:"max_token_size,omitempty"`

	// How many verified tokens are remembered, so that a signature is
	// checked once. 0 turns it off. Default: 10000.
	TokenCache *int `json:"token_cache,omitempty"`

	verifier   *verifier
	challenger challenger
	origins    originPolicy
	sources    []credentialSource
	// cookies: a page may send the token along without reading it.
	cookies bool
	logger  *zap.Logger
	// pooled are the key sets to give back.
	pooled []string
	// lease ends when a reload has changed the configuration.
	lease *lease.Lease
}

// Issuer is one source of tokens, chosen by a token's exact `iss`.
type Issuer struct {
	// The exact `iss` of the tokens. Without it no `iss` is checked, and
	// this must be the only issuer.
	Issuer string `json:"issuer,omitempty"`

	// Where the keys come from. Default: discovery.
	JWKS *JWKS `json:"jwks,omitempty"`

	// The accepted audiences (RFC 7519 section 4.1.3). A token must name
	// one of them exactly. Without any, every audience is accepted: for
	// demonstrations only.
	Audiences []string `json:"audiences,omitempty"`

	// The claim that holds the audience. Default: `aud`.
	AudienceClaim string `json:"audience_claim,omitempty"`

	// The accepted algorithms. Default: RS256-512, PS256-512, ES256-512 and
	// EdDSA. HS256-512 must be named.
	Algorithms []string `json:"algorithms,omitempty"`

	// Claims that a token must have, besides `exp`.
	RequiredClaims []string `json:"required_claims,omitempty"`

	// The accepted `typ` headers, without case and without `application/`.
	// Default: `JWT`, `at+jwt`, or none given.
	TokenTypes []string `json:"token_types,omitempty"`

	// How far the clocks may differ, for `exp`, `nbf` and `iat`. Default:
	// 60s, at most 5m.
	Leeway *caddy.Duration `json:"leeway,omitempty"`

	// Keeps keys without `kid`, and accepts a token without `kid` when
	// exactly one key fits its algorithm.
	AllowMissingKID bool `json:"allow_missing_kid,omitempty"`

	// How long a fetched key set that cannot be refreshed goes on being
	// used once it is no longer fresh; after that 503. Default: 1h, at most
	// 24h.
	MaxStale *caddy.Duration `json:"max_stale,omitempty"`
}

// TokenSource is one place of a request.
type TokenSource struct {
	// `header` or `cookie`.
	Source string `json:"source"`
	// The name of the header or cookie.
	Name string `json:"name"`
	// The scheme in front of the token in a header, compared without case.
	// Default: `Bearer` for `Authorization`, none for other headers.
	Scheme string `json:"scheme,omitempty"`
}

// Modes of a Handler.
const (
	ModeStrict     = "strict"
	ModeOptional   = "optional"
	ModePermissive = "permissive"
)

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.mcp_jwt",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision checks the configuration and reads the key sets of files. It
// fetches nothing: that begins when the app starts.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if err := h.expandPlaceholders(); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	if h.Mode == "" {
		h.Mode = ModeStrict
	}
	if h.UserClaim == "" {
		h.UserClaim = "sub"
	}
	if h.Mode == ModePermissive {
		h.logger.Warn("mode permissive lets requests with invalid tokens pass as anonymous; RFC 6750 asks for 401")
	}
	h.sources = credentialSources(h.TokenFrom)
	h.cookies = slices.ContainsFunc(h.sources, func(s credentialSource) bool { return s.cookie != "" })
	if err := h.provisionResource(); err != nil {
		return err
	}
	var err error
	if h.lease, err = lease.Acquire(ctx, "mcp_jwt", h); err != nil {
		return err
	}
	return h.provisionVerifier(ctx)
}

// provisionResource sets up what clients are told, and where they may come
// from.
func (h *Handler) provisionResource() error {
	var err error
	if h.challenger, err = newChallenger(orDefault(h.Realm, defaultRealm)); err != nil {
		return err
	}
	var own *url.URL
	if h.Resource != nil {
		if own, err = parseResourceURL(h.Resource.URL); err != nil {
			return err
		}
		h.challenger = h.challenger.withResource(metadataURL(own), h.Resource.Scopes)
		for _, issuer := range h.Issuers {
			if len(issuer.Audiences) == 0 {
				issuer.Audiences = h.Resource.audiences(own)
			}
		}
	}
	h.origins, err = newOriginPolicy(own, h.Origins)
	return err
}

// provisionVerifier turns the issuers into policies with their keys.
func (h *Handler) provisionVerifier(ctx caddy.Context) error {
	counters, err := newMetrics(ctx.GetMetricsRegistry(), h.Issuers)
	if err != nil {
		return err
	}
	entries := defaultCacheEntries
	if h.TokenCache != nil {
		entries = *h.TokenCache
	}
	h.verifier = &verifier{
		issuers: make(map[string]*issuerPolicy, len(h.Issuers)),
		maxSize: defaultMaxTokenSize,
		forward: h.ForwardToken,
		stepUp:  h.stepUp,
		cache:   newTokenCache(entries),
		metrics: counters,
		now:     time.Now,
	}
	if h.MaxTokenSize > 0 {
		h.verifier.maxSize = h.MaxTokenSize
	}
	for _, issuer := range h.Issuers {
		policy, err := h.policy(ctx, issuer)
		if err != nil {
			return fmt.Errorf("issuer %q: %w", issuer.Issuer, err)
		}
		if issuer.Issuer == "" {
			h.verifier.anyIssuer = policy
		} else {
			h.verifier.issuers[issuer.Issuer] = policy
		}
		if len(policy.audiences) == 0 {
			h.logger.Warn("tokens for any audience are accepted; set audiences outside of demonstrations",
				zap.String("issuer", issuer.Issuer))
		}
	}
	return nil
}

// Cleanup gives the key sets and the lease back to their pools.
func (h *Handler) Cleanup() error {
	failures := []error{h.lease.Release()}
	for _, id := range h.pooled {
		_, err := keyPool.Delete(id)
		failures = append(failures, err)
	}
	h.pooled = nil
	return errors.Join(failures...)
}

// ServeHTTP authenticates the request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	watch := h.verifier.metrics.watch()
	defer watch.Stop()
	r, state := reqctx.Ensure(r)
	state.Identity = nil
	state.Hold(h.lease)
	cfutil.DropForgedHeaders(r.Header)
	if len(h.origins.listed) > 0 {
		addVary(w.Header(), "Origin")
	}
	allowed, origin := h.origins.allows(r)
	if !allowed {
		return h.refuseOrigin(w, r)
	}
	if origin != "" {
		listed := &cors{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, origin: origin, credentials: h.cookies}
		listed.setHeaders() // an error of Caddy's goes past the writer
		if isPreflight(r) {
			h.answerPreflight(w, r)
			return nil
		}
		w = listed
	}

	raw, source, err := findCredential(r, h.sources)
	if err != nil {
		h.verifier.metrics.request("", err)
	}
	if err == nil && source.cookie != "" && r.Header.Get("Origin") == "" {
		// a cookie goes along with every request that any page makes
		return h.refuseOrigin(w, r)
	}
	if err == nil {
		state.Identity, err = h.verifier.verify(r.Context(), raw, r.TLS)
	}
	if err != nil && !h.passesAnonymously(err) {
		return h.refuse(w, r, err)
	}
	if err != nil {
		state.Identity = &reqctx.Identity{Anonymous: true, Login: h.login}
	}
	if !h.ForwardToken || err != nil {
		for i := range h.sources {
			h.sources[i].remove(r)
		}
	}
	setPlaceholders(r, state.Identity, h.UserClaim)
	watch.Stop()
	return next.ServeHTTP(w, r)
}

// passesAnonymously reports whether the mode lets a request pass without
// claims although it has no valid token.
func (h *Handler) passesAnonymously(failure error) bool {
	switch h.Mode {
	case ModePermissive:
		return true
	case ModeOptional:
		return errors.Is(failure, ErrNoCredential)
	default:
		return false
	}
}

// login is how the handlers behind refuse an anonymous request. They have
// said in the log why.
func (h *Handler) login(w http.ResponseWriter, r *http.Request) error {
	return h.write(w, r, h.challenger.answerTo(ErrNoCredential))
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, failure error) error {
	if c := h.logger.Check(zap.DebugLevel, "request refused"); c != nil {
		c.Write(zap.String("reason", failure.Error()))
	}
	cfutil.LogEntry{Decision: cfutil.Deny, Reason: resultOf(failure)}.AddTo(r)
	return h.write(w, r, h.challenger.answerTo(failure))
}

// stepUp is how the handlers behind refuse a token that lacks a scope.
func (h *Handler) stepUp(w http.ResponseWriter, r *http.Request, scopes []string) error {
	return h.write(w, r, h.challenger.insufficientScope(scopes))
}

func (*Handler) write(w http.ResponseWriter, r *http.Request, a answer) error {
	if a.challenge != "" {
		w.Header().Set("WWW-Authenticate", a.challenge)
	}
	if a.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(a.retryAfter.Seconds())))
	}
	return cfutil.Refuse(w, r, a.status, a.body)
}

func (h *Handler) refuseOrigin(w http.ResponseWriter, r *http.Request) error {
	cfutil.LogEntry{Decision: cfutil.Deny, Reason: "origin_not_allowed"}.AddTo(r)
	return cfutil.Refuse(w, r, http.StatusForbidden, "origin not allowed")
}

// Interface guards
var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
