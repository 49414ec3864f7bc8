package mcpproxy

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"

	"github.com/caddymcp/gateway/internal/cfutil"
)

var (
	errNoUpstream  = errors.New("mcp_proxy needs an upstream")
	errManyPaths   = errors.New("all upstreams of one mcp_proxy must have the same path")
	errURLTooMuch  = errors.New("an upstream is scheme, host, port and path; it has no user, query or fragment")
	errUpstreamURL = errors.New("not a URL")
	errRawPath     = errors.New("an escape in its path, such as that of a slash, could not be kept")
)

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	mcp_proxy [<matcher>] <upstream>... {
//	    stdio <command> [<arg>...] {
//	        dir           <path>
//	        env           <name> <value>
//	        idle_timeout  <duration>
//	        max_processes <n>
//	    }
//	    public
//	    session_binding on | off
//	    session_key <base64>
//	    <any reverse_proxy subdirective>
//	}
//
// An upstream is http(s)://host[:port][/path]. Its path replaces that of the
// request; without one the path stays. docs/mcp_proxy.md shows the
// reverse_proxy that it expands to. In the place of upstreams, stdio names a
// program to start.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	segment := d.NextSegment()
	tokens, paths, err := h.takeOwnOptions(segment)
	if err != nil {
		return err
	}
	if h.Stdio != nil {
		return withoutProxy(tokens)
	}
	if err := h.Handler.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
		return err
	}
	if len(h.Upstreams) == 0 && h.DynamicUpstreamsRaw == nil {
		return cfutil.ErrAt(segment[0], errNoUpstream)
	}
	if err := h.keepCompression(tokens); err != nil {
		return err
	}
	return h.setPath(segment[0], paths)
}

// keepCompression notes that the transport is to compress, which is the
// default of reverse_proxy and leaves no trace in its JSON, but is not ours.
func (h *Handler) keepCompression(tokens []caddyfile.Token) error {
	if !asksCompression(tokens) {
		return nil
	}
	transport := map[string]json.RawMessage{"protocol": json.RawMessage(`"http"`)}
	if h.TransportRaw != nil {
		if err := json.Unmarshal(h.TransportRaw, &transport); err != nil {
			return err
		}
	}
	transport["compression"] = json.RawMessage("true")
	var err error
	h.TransportRaw, err = json.Marshal(transport)
	return err
}

// asksCompression looks for compression on, in transport http.
func asksCompression(tokens []caddyfile.Token) (asks bool) {
	for _, option := range linesIn(tokens) {
		if len(option) < 2 || option[0].Text != "transport" || option[1].Text != "http" {
			continue
		}
		for _, line := range linesIn(option) {
			asks = asks || len(line) > 1 && line[0].Text == "compression" && line[1].Text == "on"
		}
	}
	return asks
}

// linesIn returns the lines of the block of a directive, each with the block
// that it has itself.
func linesIn(segment caddyfile.Segment) (lines []caddyfile.Segment) {
	d := caddyfile.NewDispenser(segment)
	d.Next()
	d.RemainingArgs()
	for d.NextBlock(0) {
		lines = append(lines, d.NextSegment())
	}
	return lines
}

// FinalizeUnmarshalCaddyfile finishes what needs the helper: the routes of
// handle_response.
func (h *Handler) FinalizeUnmarshalCaddyfile(helper httpcaddyfile.Helper) error {
	return h.Handler.FinalizeUnmarshalCaddyfile(helper)
}

// takeOwnOptions reads the options of mcp_proxy and returns the tokens that
// are left for reverse_proxy, with the paths that the upstreams had.
func (h *Handler) takeOwnOptions(segment caddyfile.Segment) (tokens []caddyfile.Token, paths []string, err error) {
	d := caddyfile.NewDispenser(segment)
	d.Next()
	tokens = append(tokens, d.Token())
	takeUpstreams := func() error {
		for d.NextArg() {
			token, path, err := splitPath(d.Token())
			if err != nil {
				return d.Errf("upstream %q: %w", d.Val(), err)
			}
			tokens, paths = append(tokens, token), append(paths, path)
		}
		return nil
	}
	if err := takeUpstreams(); err != nil {
		return nil, nil, err
	}
	if len(tokens) == len(segment) {
		return tokens, paths, nil
	}
	opening, closing := segment[len(tokens)], segment[len(segment)-1]
	tokens = append(tokens, opening)
	for d.NextBlock(0) {
		switch d.Val() {
		case "public":
			h.Public = true
			if err := cfutil.NoArgs(d); err != nil {
				return nil, nil, err
			}
		case "stdio":
			if h.Stdio != nil {
				return nil, nil, d.WrapErr(errTwice)
			}
			h.Stdio = new(Stdio)
			if err := h.Stdio.unmarshalCaddyfile(d); err != nil {
				return nil, nil, err
			}
		case "session_binding":
			if err := h.takeSessionBinding(d); err != nil {
				return nil, nil, err
			}
		case "session_key":
			if err := cfutil.OneArg(d, &h.SessionKey); err != nil {
				return nil, nil, err
			}
			if _, err := decodeKey(h.SessionKey); err != nil && !cfutil.HasPlaceholder(h.SessionKey) {
				return nil, nil, d.WrapErr(errSessionKey)
			}
		case "to":
			tokens = append(tokens, d.Token())
			if err := takeUpstreams(); err != nil {
				return nil, nil, err
			}
		default:
			tokens = append(tokens, d.NextSegment()...)
		}
	}
	return append(tokens, closing), paths, nil
}

// takeSessionBinding reads session_binding on | off.
func (h *Handler) takeSessionBinding(d *caddyfile.Dispenser) error {
	var word string
	if err := cfutil.OneArg(d, &word); err != nil {
		return err
	}
	if h.SessionBinding != nil {
		return d.Err("session_binding is given twice")
	}
	if word != "on" && word != "off" {
		return d.Errf("session_binding is on or off, not %q", word)
	}
	bind := word == "on"
	h.SessionBinding = &bind
	return nil
}

// splitPath takes the path off an upstream URL; reverse_proxy wants the rest.
func splitPath(token caddyfile.Token) (stripped caddyfile.Token, path string, err error) {
	scheme, rest, ok := strings.Cut(token.Text, "://")
	if !ok {
		return token, "", nil // a dial address
	}
	slash := strings.IndexAny(rest, "/?#")
	if slash < 0 {
		slash = len(rest)
	}
	if strings.Contains(rest[:slash], "@") {
		return token, "", errURLTooMuch
	}
	u, err := url.Parse(scheme + "://host" + rest[slash:])
	if err != nil || strings.ContainsAny(rest[slash:], "{}") {
		return token, "", errUpstreamURL
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return token, "", errURLTooMuch
	}
	if u.RawPath != "" {
		// a rewrite would decode it, and lead elsewhere
		return token, "", errRawPath
	}
	token.Text = scheme + "://" + rest[:slash]
	return token, u.EscapedPath(), nil
}

// setPath rewrites requests to the path of the upstreams, unless the
// configuration rewrites them itself.
func (h *Handler) setPath(directive caddyfile.Token, paths []string) error {
	for _, path := range paths {
		if path != paths[0] {
			return cfutil.ErrAt(directive, errManyPaths)
		}
	}
	if len(paths) == 0 || paths[0] == "" {
		return nil
	}
	if h.Rewrite == nil {
		h.Rewrite = new(rewrite.Rewrite)
	}
	if h.Rewrite.URI == "" {
		h.Rewrite.URI = paths[0]
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
