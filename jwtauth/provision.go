package jwtauth

import (
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/app"
	"github.com/caddymcp/gateway/internal/promutil"
)

// policy provisions one issuer.
func (h *Handler) policy(ctx caddy.Context, issuer *Issuer) (*issuerPolicy, error) {
	p := issuer.policy()
	mcp, err := app.From(ctx)
	if err != nil {
		return nil, err
	}
	if p.source, err = h.provisionKeys(ctx, mcp, issuer); err != nil {
		return nil, err
	}
	mcp.AddIssuer(&issuerStatus{issuer.Issuer, issuer.keys(), p.source, p})
	return p, nil
}

// provisionKeys finds or makes the key source of an issuer. Sources that
// fetch or watch come from the pool and start with the app.
func (h *Handler) provisionKeys(ctx caddy.Context, mcp *app.App, issuer *Issuer) (keySource, error) {
	keys, policy := issuer.keys(), issuer.keyPolicy()
	if len(keys.Inline) > 0 {
		return h.inlineKeys(issuer.Issuer, keys, policy)
	}
	maxStale := defaultMaxStale
	if issuer.MaxStale != nil {
		maxStale = time.Duration(*issuer.MaxStale)
	}
	options := httpOptions{proxy: keys.Proxy}
	if keys.TLSCA != "" {
		var err error
		if options.ca, err = os.ReadFile(keys.TLSCA); err != nil {
			return nil, fmt.Errorf("tls_ca: %w", err)
		}
	}
	// everything that matters to what is fetched or read
	spec := struct {
		keys     JWKS
		ca       string // renewed certificates need a new client
		issuer   string
		policy   keyPolicy
		maxStale time.Duration
	}{*keys, string(options.ca), issuer.Issuer, policy, maxStale}
	source, id, err := poolKeys(spec, issuer.Issuer, func(pooled *pooledKeys) (runningSource, error) {
		if keys.File != "" {
			read := func() ([]byte, error) { return readFile(keys.File) }
			return newFileKeys(read, policy, pooled.observeFile)
		}
		client, err := newHTTPClient(options)
		if err != nil {
			return nil, err
		}
		fetcher := &httpFetcher{client: client, policy: policy, address: keys.URL, warn: pooled.warn}
		if keys.Discover {
			fetcher.issuer = issuer.Issuer
			pooled.discovered = fetcher.foundAt
		}
		return newRemoteKeys(fetcher, maxStale, pooled.observe), nil
	})
	if err != nil {
		return nil, err
	}
	h.pooled = append(h.pooled, id)
	collector, err := promutil.Register(ctx.GetMetricsRegistry(), newKeyCollector())
	if err != nil {
		return nil, err
	}
	collector.add(issuer.Issuer, source)
	mcp.OnStart(source.run)
	return source, nil
}

func (h *Handler) inlineKeys(issuer string, keys *JWKS, policy keyPolicy) (keySource, error) {
	doc, err := keys.inline()
	if err != nil {
		return nil, err
	}
	set, skipped, err := parseKeySet(doc, policy)
	if err != nil {
		return nil, err
	}
	for _, reason := range skipped {
		h.logger.Warn("key skipped", zap.String("issuer", issuer), zap.Error(reason))
	}
	return staticKeys{set}, nil
}
