package jwtauth

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Defaults and bounds of the options.
const (
	defaultRealm         = "mcp"
	defaultAudienceClaim = "aud"
	defaultMaxTokenSize  = 16 << 10
	// maxMaxTokenSize is what Go's server accepts as all headers together
	// by default; a longer token could not arrive.
	maxMaxTokenSize = 1 << 20
	defaultLeeway   = 60 * time.Second
	// maxLeeway bounds for how long an expired token goes on working.
	maxLeeway = 5 * time.Minute
)

// defaultTokenTypes are those of RFC 7519 and RFC 9068, and tokens that do
// not say. Other kinds of tokens (ID-JAG, DPoP proofs, logout tokens) are
// signed with the same keys and must not pass for access tokens.
var defaultTokenTypes = []string{"jwt", "at+jwt", ""}

// JWKS says where the keys of an issuer come from: exactly one of inline,
// file, url and discover.
type JWKS struct {
	// A JWK Set (RFC 7517), as an object or as a string of JSON.
	Inline jsontext.Value `json:"inline,omitempty"`
	// The path of a file that holds a JWK Set. It is watched.
	File string `json:"file,omitempty"`
	// The address of a JWK Set. It is fetched in the background.
	URL string `json:"url,omitempty"`
	// Finds the address by OpenID Connect Discovery or RFC 8414, starting
	// from the issuer's name. This is the default.
	Discover bool `json:"discover,omitempty"`

	// A file with the certificates, in PEM, that the key server may use.
	// Default: those of the system.
	TLSCA string `json:"tls_ca,omitempty"`
	// The URL of a proxy on the way to the key server.
	Proxy string `json:"proxy,omitempty"`
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// expandPlaceholders replaces {env.*} and {file.*} in everything a user may
// have written.
func (h *Handler) expandPlaceholders() error {
	texts := []*string{&h.Mode, &h.UserClaim, &h.Realm}
	if h.Resource != nil {
		if err := h.Resource.expand(); err != nil {
			return err
		}
	}
	if err := cfutil.ExpandAll(h.Origins); err != nil {
		return err
	}
	for _, source := range h.TokenFrom {
		if source != nil {
			texts = append(texts, &source.Source, &source.Name, &source.Scheme)
		}
	}
	for _, issuer := range h.Issuers {
		if issuer == nil {
			continue
		}
		texts = append(texts, &issuer.Issuer, &issuer.AudienceClaim)
		if issuer.JWKS != nil {
			texts = append(texts, &issuer.JWKS.File, &issuer.JWKS.URL, &issuer.JWKS.TLSCA, &issuer.JWKS.Proxy)
		}
		err := cfutil.ExpandAll(issuer.Audiences, issuer.Algorithms, issuer.RequiredClaims, issuer.TokenTypes)
		if err != nil {
			return err
		}
	}
	return cfutil.Expand(texts...)
}

// check refuses what can be seen to be wrong without reading files.
func (h *Handler) check() error {
	if err := h.checkMode(); err != nil {
		return err
	}
	if h.TokenCache != nil && (*h.TokenCache < 0 || *h.TokenCache > maxCacheEntries) {
		return fmt.Errorf("token_cache must be between 0 (off) and %d tokens", maxCacheEntries)
	}
	if h.MaxTokenSize < 0 || h.MaxTokenSize > maxMaxTokenSize {
		return fmt.Errorf("max_token_size must be between 1 and %d bytes", maxMaxTokenSize)
	}
	if _, err := newChallenger(orDefault(h.Realm, defaultRealm)); err != nil {
		return err
	}
	for _, source := range h.TokenFrom {
		if err := source.check(); err != nil {
			return err
		}
	}
	if err := h.checkOrigins(); err != nil {
		return err
	}
	if len(h.Issuers) == 0 {
		return errors.New("mcp_jwt needs at least one issuer")
	}
	if err := h.checkIssuers(); err != nil {
		return err
	}
	for _, issuer := range h.Issuers {
		if err := issuer.check(); err != nil {
			return fmt.Errorf("issuer %q: %w", issuer.Issuer, err)
		}
	}
	return h.checkResource()
}

// checkResource wants clients to be able to get tokens that would pass.
func (h *Handler) checkResource() error {
	if h.Resource == nil {
		return nil
	}
	if err := h.Resource.check(cfutil.HasPlaceholder); err != nil {
		return err
	}
	if len(h.Metadata().AuthorizationServers) == 0 {
		return errNoAuthorizationServer
	}
	for _, issuer := range h.Issuers {
		if len(issuer.Audiences) == 0 && issuer.AudienceClaim != "" && issuer.AudienceClaim != defaultAudienceClaim {
			return fmt.Errorf("issuer %q: with audience_claim %s, audiences must be given; the resource is none of them",
				issuer.Issuer, issuer.AudienceClaim)
		}
	}
	return nil
}

func (h *Handler) checkOrigins() error {
	known := slices.DeleteFunc(slices.Clone(h.Origins), cfutil.HasPlaceholder)
	if _, err := newOriginPolicy(nil, known); err != nil {
		return err
	}
	fromCookie := func(s *TokenSource) bool { return s.Source == "cookie" }
	if slices.Contains(known, nullOrigin) && slices.ContainsFunc(h.TokenFrom, fromCookie) {
		return errors.New("origins null and token_from cookie do not go together: every page can make requests without an origin")
	}
	return nil
}

func (h *Handler) checkMode() error {
	switch h.Mode {
	case "", ModeStrict, ModeOptional, ModePermissive:
		return nil
	default:
		if cfutil.HasPlaceholder(h.Mode) {
			return nil // known when the configuration loads
		}
		return fmt.Errorf("unknown mode %q; it is strict, optional or permissive", h.Mode)
	}
}

// checkIssuers refuses issuers of which a token could mean either.
func (h *Handler) checkIssuers() error {
	seen := make(map[string]bool)
	for _, issuer := range h.Issuers {
		switch {
		case issuer == nil:
			return errors.New("an issuer is null")
		case issuer.Issuer == "" && len(h.Issuers) > 1:
			return errors.New("an issuer block without a name accepts every iss, so it must be the only one")
		case seen[issuer.Issuer]:
			return fmt.Errorf("two issuer blocks for %q", issuer.Issuer)
		}
		seen[issuer.Issuer] = true
	}
	return nil
}

func (s *TokenSource) check() error {
	switch {
	case s == nil:
		return errors.New("a token source is null")
	case s.Name == "":
		return errors.New("token_from needs the name of a header or cookie")
	case s.Source != "header" && s.Source != "cookie" && !cfutil.HasPlaceholder(s.Source):
		return fmt.Errorf("unknown token source %q; it is header or cookie", s.Source)
	case s.Source == "cookie" && s.Scheme != "":
		return errors.New("a cookie has no scheme")
	}
	return nil
}

func (i *Issuer) check() error {
	if err := i.checkKeys(); err != nil {
		return err
	}
	for _, name := range i.Algorithms {
		if _, ok := algorithms[name]; !ok && !cfutil.HasPlaceholder(name) {
			return fmt.Errorf("unknown algorithm %q", name)
		}
	}
	if slices.Contains(i.Audiences, "") {
		return errors.New("an audience is empty")
	}
	if i.Leeway != nil && (*i.Leeway < 0 || time.Duration(*i.Leeway) > maxLeeway) {
		return fmt.Errorf("leeway must be between 0 and %s", maxLeeway)
	}
	if i.MaxStale != nil && (*i.MaxStale < 0 || time.Duration(*i.MaxStale) > maxMaxStale) {
		return fmt.Errorf("max_stale must be between 0 and %s", maxMaxStale)
	}
	return nil
}

// checkKeys checks where the keys come from.
func (i *Issuer) checkKeys() error {
	keys := i.keys()
	places := 0
	for _, given := range []bool{len(keys.Inline) > 0, keys.File != "", keys.URL != "", keys.Discover} {
		if given {
			places++
		}
	}
	if places != 1 {
		return errors.New("jwks needs exactly one of inline, file, url and discover")
	}
	remote := keys.URL != "" || keys.Discover
	if !remote && (keys.TLSCA != "" || keys.Proxy != "") {
		return errors.New("tls_ca and proxy go with jwks url and jwks discover")
	}
	switch {
	case keys.URL != "" && !cfutil.HasPlaceholder(keys.URL):
		return checkKeysURL(keys.URL, true)
	case keys.Discover && i.Issuer == "":
		return errors.New("discovery needs the name of the issuer, which is a URL")
	case keys.Discover && !cfutil.HasPlaceholder(i.Issuer):
		if err := checkKeysURL(i.Issuer, true); err != nil || strings.ContainsAny(i.Issuer, "?#") {
			return errors.New("discovery needs an issuer whose name is an http(s) URL; otherwise say where its keys are with jwks")
		}
	}
	return nil
}

// keys is where the keys come from, discovery by default.
func (i *Issuer) keys() *JWKS {
	if i.JWKS == nil {
		return &JWKS{Discover: true}
	}
	return i.JWKS
}

// policy fills in the defaults of an issuer; its keys come with provisionKeys.
func (i *Issuer) policy() *issuerPolicy {
	p := &issuerPolicy{
		issuer:         i.Issuer,
		audiences:      i.Audiences,
		audienceClaim:  orDefault(i.AudienceClaim, defaultAudienceClaim),
		algorithms:     i.Algorithms,
		requiredClaims: i.RequiredClaims,
		tokenTypes:     defaultTokenTypes,
		leeway:         defaultLeeway,
		missingKID:     i.AllowMissingKID,
	}
	if i.Leeway != nil {
		p.leeway = time.Duration(*i.Leeway)
	}
	if len(i.TokenTypes) > 0 {
		p.tokenTypes = nil
		for _, typ := range i.TokenTypes {
			p.tokenTypes = append(p.tokenTypes, strings.TrimPrefix(strings.ToLower(typ), "application/"))
		}
	}
	return p
}

// keyPolicy takes symmetric keys only from the configuration, and only when
// an algorithm for them is named.
func (i *Issuer) keyPolicy() keyPolicy {
	keys := i.keys()
	local := len(keys.Inline) > 0 || keys.File != ""
	return keyPolicy{
		missingKID: i.AllowMissingKID,
		symmetric: local && slices.ContainsFunc(i.Algorithms, func(name string) bool {
			return algorithms[name].symmetric
		}),
	}
}

// inline returns the document of a key set in the configuration.
func (j *JWKS) inline() ([]byte, error) {
	text, isString := mcpwire.String(j.Inline)
	if !isString {
		text = string(j.Inline)
	}
	if err := cfutil.Expand(&text); err != nil {
		return nil, err
	}
	return []byte(text), nil
}

// readFile reads no more than a key set may have.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("jwks file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("jwks file: %s is not a regular file", path)
	}
	if info.Size() > maxKeySetSize {
		return nil, fmt.Errorf("jwks file: %s is larger than %d bytes", path, maxKeySetSize)
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("jwks file: %w", err)
	}
	return doc, nil
}

// credentialSources fills in the defaults.
func credentialSources(configured []*TokenSource) []credentialSource {
	if len(configured) == 0 {
		return []credentialSource{{header: authorizationHeader, scheme: bearerScheme}}
	}
	sources := make([]credentialSource, 0, len(configured))
	for _, c := range configured {
		if c.Source == "cookie" {
			sources = append(sources, credentialSource{cookie: c.Name})
			continue
		}
		source := credentialSource{header: http.CanonicalHeaderKey(c.Name), scheme: c.Scheme}
		if source.header == authorizationHeader && source.scheme == "" {
			source.scheme = bearerScheme
		}
		sources = append(sources, source)
	}
	return sources
}
