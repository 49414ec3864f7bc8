package jwtauth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// rediscoverAfter is how long a discovered key set address is used before
// the discovery document is read again. A failing fetch reads it at once.
const rediscoverAfter = 24 * time.Hour

// httpFetcher fetches the key set of one issuer over HTTP. Only one fetch
// runs at a time.
type httpFetcher struct {
	client *http.Client
	policy keyPolicy
	// issuer is set for discovery, address when the configuration names the
	// key set itself.
	issuer  string
	address string
	// warn is told of keys that are left out; it may be nil.
	warn func(error)

	discovered time.Time
	document   [sha256.Size]byte
	// found is the address that was discovered last, for those who want to
	// know.
	found atomic.Pointer[string]
}

// httpOptions are the options of a fetched key set.
type httpOptions struct {
	// ca are the certificates to trust, in PEM, instead of the system's.
	ca []byte
	// proxy is the URL of a proxy.
	proxy string
}

// proxySchemes are those net/http knows.
var proxySchemes = []string{"http", "https", "socks5", "socks5h"}

// newHTTPClient returns a client that follows no redirect: the
// configuration, or the issuer, names the place.
func newHTTPClient(options httpOptions) (*http.Client, error) {
	transport := &http.Transport{
		Proxy:                  nil,
		TLSHandshakeTimeout:    fetchTimeout,
		ResponseHeaderTimeout:  fetchTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           1,
		IdleConnTimeout:        time.Second,
		ForceAttemptHTTP2:      true,
	}
	if options.ca != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(options.ca) {
			return nil, errors.New("tls_ca: the file holds no certificate")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if options.proxy != "" {
		proxy, err := url.Parse(options.proxy)
		if err != nil || proxy.Host == "" || !slices.Contains(proxySchemes, proxy.Scheme) {
			// it may hold a password, so it is not repeated
			return nil, fmt.Errorf("proxy: not a URL with one of the schemes %s", strings.Join(proxySchemes, ", "))
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// foundAt is the address that was discovered last; "" before.
func (f *httpFetcher) foundAt() string {
	if found := f.found.Load(); found != nil {
		return *found
	}
	return ""
}

// fetch implements keyFetcher.
func (f *httpFetcher) fetch(ctx context.Context, previous *keySet) (fetchedKeys, error) {
	if f.issuer != "" && (f.address == "" || time.Since(f.discovered) >= rediscoverAfter) {
		if err := f.discover(ctx); err != nil {
			return fetchedKeys{}, fmt.Errorf("discovery: %w", err)
		}
	}
	fetched, err := f.fetchSet(ctx, previous)
	if err != nil && f.issuer != "" {
		f.address = "" // it may have moved
	}
	return fetched, err
}

func (f *httpFetcher) fetchSet(ctx context.Context, previous *keySet) (fetchedKeys, error) {
	doc, header, err := f.get(ctx, f.address)
	if err != nil {
		return fetchedKeys{}, err
	}
	freshFor := freshness(header)
	digest := sha256.Sum256(doc)
	if previous != nil && digest == f.document {
		return fetchedKeys{previous, freshFor}, nil
	}
	set, skipped, err := parseKeySet(doc, f.policy)
	if err != nil {
		return fetchedKeys{}, err
	}
	for _, reason := range skipped {
		if f.warn != nil {
			f.warn(reason)
		}
	}
	f.document = digest
	return fetchedKeys{set, freshFor}, nil
}

// discover finds the key set by OpenID Connect Discovery 1.0 section 4, then
// by RFC 8414 section 3.
func (f *httpFetcher) discover(ctx context.Context) error {
	places, err := discoveryPlaces(f.issuer)
	if err != nil {
		return err
	}
	var failures []error
	for _, address := range places {
		keys, err := f.discoverAt(ctx, address)
		if err == nil {
			f.address, f.discovered = keys, time.Now()
			f.found.Store(&keys)
			return nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(failures...)
}

// discoveryPlaces are where an issuer's document may be, in order.
func discoveryPlaces(name string) ([]string, error) {
	issuer, err := url.Parse(name)
	if err != nil {
		return nil, err
	}
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	origin := issuer.Scheme + "://" + issuer.Host
	return []string{
		origin + path + "/.well-known/openid-configuration",
		origin + "/.well-known/oauth-authorization-server" + path,
	}, nil
}

// discoverAt reads one discovery document.
func (f *httpFetcher) discoverAt(ctx context.Context, address string) (keys string, err error) {
	doc, _, err := f.get(ctx, address)
	if err != nil {
		return "", err
	}
	return f.keysOf(doc)
}

// keysOf reads where the keys are. What a document says counts only if it is
// the issuer's own: the document's issuer must be the configured one.
func (f *httpFetcher) keysOf(doc []byte) (keys string, err error) {
	var issuer string
	err = mcpwire.Object(doc, func(name string, value jsontext.Value) error {
		switch name {
		case "issuer":
			issuer, _ = mcpwire.String(value)
		case "jwks_uri":
			keys, _ = mcpwire.String(value)
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case issuer != f.issuer:
		return "", fmt.Errorf("the document is for issuer %q", issuer)
	}
	return keys, checkKeysURL(keys, strings.HasPrefix(f.issuer, "http://"))
}

// checkKeysURL wants https, or http where the configuration says http.
func checkKeysURL(text string, plainAllowed bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return fmt.Errorf("%q is not the URL of a key set", text)
	case u.Scheme == "https", u.Scheme == "http" && plainAllowed:
		return nil
	default:
		return fmt.Errorf("%q is not https", text)
	}
}

// get reads a document, at most maxKeySetSize bytes of it after decoding.
func (f *httpFetcher) get(ctx context.Context, address string) ([]byte, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	request.Header.Set("User-Agent", "caddy-mcp-gateway")
	response, err := f.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the answer has status %d", response.StatusCode)
	}
	if mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); mediaType == "text/html" {
		return nil, nil, errors.New("the answer is HTML")
	}
	doc, err := io.ReadAll(io.LimitReader(response.Body, maxKeySetSize+1))
	if err != nil {
		return nil, nil, err
	}
	if len(doc) > maxKeySetSize {
		return nil, nil, fmt.Errorf("the answer is larger than %d bytes", maxKeySetSize)
	}
	return doc, response.Header, nil
}

// freshness reads Cache-Control: max-age, less the Age the answer has
// already. no-store and no-cache mean as short as allowed.
func freshness(header http.Header) time.Duration {
	fresh := defaultFreshness
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return minFreshness
		case "max-age":
			seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
			if err != nil {
				continue
			}
			age, err := strconv.ParseInt(header.Get("Age"), 10, 32)
			if err != nil || age < 0 {
				age = 0
			}
			fresh = time.Duration(seconds-age) * time.Second
		}
	}
	return min(max(fresh, minFreshness), maxFreshness)
}
