package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/modelcontextprotocol/go-sdk/auth"
)

// sdkProxy is what one would write without the gateway: the bearer middleware
// of the MCP SDK for Go, which verifies the token of each request, in front of
// the standard library's reverse proxy.
func sdkProxy(jwksFile, target string) (http.Handler, error) {
	keys, err := jwk.ReadFile(jwksFile)
	if err != nil {
		return nil, err
	}
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	verify := func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		parsed, err := jwt.ParseString(token, jwt.WithKeySet(keys), jwt.WithIssuer(issuer), jwt.WithAudience(audience))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", auth.ErrInvalidToken, err)
		}
		subject, _ := parsed.Subject()
		expiration, _ := parsed.Expiration()
		return &auth.TokenInfo{UserID: subject, Expiration: expiration}, nil
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("the default transport is %T", http.DefaultTransport)
	}
	transport = transport.Clone()
	transport.MaxIdleConnsPerHost = 512 // with the default of 2 it would dial for most calls
	transport.MaxIdleConns = 0
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.SetXForwarded()
			r.Out.Header.Del("Authorization")
		},
	}
	return auth.RequireBearerToken(verify, nil)(proxy), nil
}
