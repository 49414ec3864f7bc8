package jwtauth

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/mcpwire"
)

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	mcp_jwt [<matcher>] [<issuer-url>...] {
//	    mode            strict | optional | permissive
//	    issuer [<iss>] {
//	        jwks            inline <json> | file <path> | url <url> | discover {
//	            tls_ca <file>
//	            proxy  <url>
//	        }
//	        audiences       <aud>...
//	        audience_claim  <claim>
//	        algorithms      <alg>...
//	        required_claims <claim>...
//	        token_types     <typ>...
//	        leeway          <duration>
//	        allow_missing_kid
//	        max_stale       <duration>
//	    }
//	    token_from      header <name> [<scheme>] | cookie <name>
//	    forward_token
//	    user_claim      <claim>
//	    realm           <text>
//	    origins         <origin>...
//	    resource        <url> {
//	        scopes        <scope>...
//	        name          <text>
//	        documentation <url>
//	        policy        <url>
//	        tos           <url>
//	    }
//	    max_token_size  <size>
//	    token_cache     <entries> | off
//	}
//
// issuer and token_from can be given several times. docs/mcp_jwt.md explains
// each of them.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	start := d.Token()
	for d.NextArg() {
		issuer := &Issuer{Issuer: d.Val()}
		if err := issuer.check(); err != nil {
			return d.WrapErr(err)
		}
		if err := h.addIssuer(d, issuer); err != nil {
			return err
		}
	}
	for d.NextBlock(0) {
		if err := h.unmarshalOption(d); err != nil {
			return err
		}
	}
	if err := h.check(); err != nil {
		return cfutil.ErrAt(start, err)
	}
	return nil
}

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case "mode":
		if err := cfutil.OneArg(d, &h.Mode); err != nil {
			return err
		}
		if err := h.checkMode(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	case "issuer":
		start := d.Token()
		issuer, err := unmarshalIssuer(d)
		if err != nil {
			return err
		}
		h.Issuers = append(h.Issuers, issuer)
		if err := h.checkIssuers(); err != nil {
			return cfutil.ErrAt(start, err)
		}
		return nil
	case "token_from":
		return h.unmarshalTokenFrom(d)
	case "forward_token":
		h.ForwardToken = true
		return cfutil.NoArgs(d)
	case "user_claim":
		return cfutil.OneArg(d, &h.UserClaim)
	case "realm":
		if err := cfutil.OneArg(d, &h.Realm); err != nil {
			return err
		}
		if _, err := newChallenger(h.Realm); err != nil {
			return d.WrapErr(err)
		}
		return nil
	case "origins":
		if err := cfutil.Args(d, &h.Origins); err != nil {
			return err
		}
		if err := h.checkOrigins(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	case "resource":
		return h.unmarshalResource(d)
	case "max_token_size":
		if h.MaxTokenSize != 0 {
			return d.Err("max_token_size is given twice")
		}
		size, err := cfutil.Size(d, maxMaxTokenSize)
		h.MaxTokenSize = int(size)
		return err
	case "token_cache":
		return h.unmarshalTokenCache(d)
	default:
		return d.Errf("unrecognized option %q of mcp_jwt", option)
	}
}

func (h *Handler) unmarshalResource(d *caddyfile.Dispenser) error {
	if h.Resource != nil {
		return d.Err("resource is given twice; an MCP server of its own needs an mcp_jwt of its own")
	}
	h.Resource = new(Resource)
	if err := cfutil.OneArg(d, &h.Resource.URL); err != nil {
		return err
	}
	start := d.Token()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := h.Resource.unmarshalOption(d); err != nil {
			return err
		}
		if err := h.Resource.check(cfutil.HasPlaceholder); err != nil {
			return d.WrapErr(err)
		}
	}
	if err := h.Resource.check(cfutil.HasPlaceholder); err != nil {
		return cfutil.ErrAt(start, err)
	}
	return nil
}

func (r *Resource) unmarshalOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case "scopes":
		return cfutil.Args(d, &r.Scopes)
	case "name":
		return cfutil.OneArg(d, &r.Name)
	case "documentation":
		return cfutil.OneArg(d, &r.Documentation)
	case "policy":
		return cfutil.OneArg(d, &r.Policy)
	case "tos":
		return cfutil.OneArg(d, &r.TOS)
	default:
		return d.Errf("unrecognized option %q of resource", option)
	}
}

func (h *Handler) unmarshalTokenCache(d *caddyfile.Dispenser) error {
	if h.TokenCache != nil {
		return d.Err("token_cache is given twice")
	}
	var text string
	if err := cfutil.OneArg(d, &text); err != nil {
		return err
	}
	entries, err := strconv.Atoi(text)
	if text == "off" {
		entries, err = 0, nil
	}
	if err != nil || entries < 0 || entries > maxCacheEntries || entries == 0 && text != "off" {
		return d.Errf("token_cache must be off or a number of tokens up to %d, not %q", maxCacheEntries, text)
	}
	h.TokenCache = &entries
	return nil
}

func (h *Handler) addIssuer(d *caddyfile.Dispenser, issuer *Issuer) error {
	for _, other := range h.Issuers {
		if other.Issuer == issuer.Issuer {
			return d.Errf("two issuer blocks for %q", issuer.Issuer)
		}
	}
	h.Issuers = append(h.Issuers, issuer)
	return nil
}

func unmarshalIssuer(d *caddyfile.Dispenser) (*Issuer, error) {
	issuer := new(Issuer)
	if d.NextArg() {
		issuer.Issuer = d.Val()
	}
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	start := d.Token()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := issuer.unmarshalOption(d); err != nil {
			return nil, err
		}
	}
	if err := issuer.check(); err != nil {
		return nil, cfutil.ErrAt(start, err)
	}
	return issuer, nil
}

func (i *Issuer) unmarshalOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case "jwks":
		return i.unmarshalJWKS(d)
	case "audiences":
		return cfutil.Args(d, &i.Audiences)
	case "audience_claim":
		return cfutil.OneArg(d, &i.AudienceClaim)
	case "algorithms":
		if err := cfutil.Args(d, &i.Algorithms); err != nil {
			return err
		}
		for _, name := range i.Algorithms {
			if _, ok := algorithms[name]; !ok && !cfutil.HasPlaceholder(name) {
				return d.Errf("unknown algorithm %q", name)
			}
		}
		return nil
	case "required_claims":
		return cfutil.Args(d, &i.RequiredClaims)
	case "token_types":
		return cfutil.Args(d, &i.TokenTypes)
	case "leeway":
		if i.Leeway != nil {
			return d.Err("leeway is given twice")
		}
		leeway, err := cfutil.Duration(d, maxLeeway)
		i.Leeway = leeway
		return err
	case "max_stale":
		if i.MaxStale != nil {
			return d.Err("max_stale is given twice")
		}
		stale, err := cfutil.Duration(d, maxMaxStale)
		i.MaxStale = stale
		return err
	case "allow_missing_kid":
		i.AllowMissingKID = true
		return cfutil.NoArgs(d)
	default:
		return d.Errf("unrecognized option %q of issuer", option)
	}
}

func (i *Issuer) unmarshalJWKS(d *caddyfile.Dispenser) error {
	if i.JWKS != nil {
		return d.Err("jwks is given twice")
	}
	args := d.RemainingArgs()
	if want := map[string]int{"inline": 2, "file": 2, "url": 2, "discover": 1}; len(args) == 0 || len(args) != want[args[0]] {
		return d.Err("jwks takes: inline <json>, file <path>, url <url>, or discover")
	}
	i.JWKS = new(JWKS)
	switch args[0] {
	case "inline":
		i.JWKS.Inline = inlineKeySet(args[1])
		if cfutil.HasPlaceholder(args[1]) {
			return nil
		}
		if _, _, err := parseKeySet([]byte(args[1]), i.keyPolicyAtMost()); err != nil {
			return d.WrapErr(err)
		}
	case "file":
		i.JWKS.File = args[1]
	case "url":
		i.JWKS.URL = args[1]
	case "discover":
		i.JWKS.Discover = true
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := i.JWKS.unmarshalOption(d); err != nil {
			return err
		}
	}
	return nil
}

// unmarshalOption reads the options of fetched key sets.
func (j *JWKS) unmarshalOption(d *caddyfile.Dispenser) error {
	if j.URL == "" && !j.Discover {
		return d.Err("only jwks url and jwks discover have options")
	}
	switch option := d.Val(); option {
	case "tls_ca":
		return cfutil.OneArg(d, &j.TLSCA)
	case "proxy":
		return cfutil.OneArg(d, &j.Proxy)
	default:
		return d.Errf("unrecognized option %q of jwks", option)
	}
}

// keyPolicyAtMost is the widest policy the options that follow can lead to,
// so that only documents that can never be used are refused on this line.
func (*Issuer) keyPolicyAtMost() keyPolicy {
	return keyPolicy{symmetric: true, missingKID: true}
}

// inlineKeySet keeps an object an object; anything else, a text with
// placeholders say, becomes a JSON string.
func inlineKeySet(text string) jsontext.Value {
	if value := jsontext.Value(text); value.IsValid() && value.Kind() == '{' {
		return value
	}
	return mcpwire.Quote(nil, text)
}

func (h *Handler) unmarshalTokenFrom(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 || len(args) > 3 {
		return d.Err("token_from takes: header <name> [<scheme>], or cookie <name>")
	}
	source := &TokenSource{Source: args[0], Name: args[1]}
	if len(args) == 3 {
		source.Scheme = args[2]
	}
	if err := source.check(); err != nil {
		return d.WrapErr(err)
	}
	h.TokenFrom = append(h.TokenFrom, source)
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
