package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Diagnosis is what can be seen of an authorization server from outside.
type Diagnosis struct {
	Issuer string `json:"issuer"`
	// Places are where documents about it may be, in the order in which
	// clients look.
	Places []DiagnosedPlace `json:"places"`
	// KeysURL is where its keys are.
	KeysURL string `json:"jwks_uri"`
	// Discoverable: `jwks discover` finds them.
	Discoverable bool           `json:"discoverable"`
	Keys         []DiagnosedKey `json:"keys"`
	Findings     []Finding      `json:"findings"`
}

// DiagnosedPlace is a place of discovery.
type DiagnosedPlace struct {
	URL string `json:"url"`
	// Gateway: mcp_jwt looks there as well as clients.
	Gateway bool `json:"gateway"`
	// Problem is why the document cannot be used; "" when it can.
	Problem string `json:"problem,omitzero"`
}

// DiagnosedKey is a key that the server publishes.
type DiagnosedKey struct {
	KeyID     string `json:"kid"`
	Type      string `json:"kty"`
	Algorithm string `json:"alg,omitzero"`
	Use       string `json:"use,omitzero"`
	// Problem is why the key is not used; "" when it is.
	Problem string `json:"problem,omitzero"`
}

// Levels of findings.
const (
	LevelOK = "ok"
	// LevelNote is worth knowing.
	LevelNote = "note"
	// LevelWarning: some clients will not manage.
	LevelWarning = "warning"
	// LevelError: the gateway cannot work with this server.
	LevelError = "error"
)

// Finding is one thing that was found out.
type Finding struct {
	Level   string `json:"level"`
	Subject string `json:"subject"`
	Message string `json:"message"`
}

// DiagnoseOptions are the options of a key server in a closed network.
type DiagnoseOptions struct {
	// CA are certificates to trust instead of the system's, in PEM.
	CA []byte
	// Proxy is the URL of a proxy.
	Proxy string
}

// Diagnose looks at an authorization server as mcp_jwt and MCP clients do: at
// its documents and its keys, by the same code and within the same bounds. It
// asks the issuer and the key server that the issuer names, nobody else. What
// is wrong with the server is in the diagnosis; an error means that the
// options are wrong.
func Diagnose(ctx context.Context, issuer string, options DiagnoseOptions) (*Diagnosis, error) {
	client, err := newHTTPClient(httpOptions{ca: options.CA, proxy: options.Proxy})
	if err != nil {
		return nil, err
	}
	d := &Diagnosis{Issuer: issuer, Places: []DiagnosedPlace{}, Keys: []DiagnosedKey{}, Findings: []Finding{}}
	if err := checkIssuerURL(issuer); err != nil {
		d.found(LevelError, "issuer", "%v", err)
		return d, nil
	}
	if strings.HasPrefix(issuer, "http://") {
		d.found(LevelWarning, "issuer", "is not https: anybody on the way can hand out keys, and clients accept it on their own machine only")
	}
	f := &httpFetcher{client: client, issuer: issuer}
	if metadata := d.discover(ctx, f); metadata != nil {
		d.examine(metadata)
	}
	if d.KeysURL != "" {
		d.examineKeys(ctx, f)
	}
	return d, nil
}

var errIssuerURL = errors.New("discovery needs an http(s) URL without query and fragment, exactly as it stands in tokens")

func checkIssuerURL(issuer string) error {
	if err := checkKeysURL(issuer, true); err != nil || strings.ContainsAny(issuer, "?#") {
		return errIssuerURL
	}
	return nil
}

// OK reports whether the gateway can work with the server.
func (d *Diagnosis) OK() bool {
	return !slices.ContainsFunc(d.Findings, func(f Finding) bool { return f.Level == LevelError })
}

func (d *Diagnosis) found(level, subject, format string, args ...any) {
	d.Findings = append(d.Findings, Finding{level, subject, fmt.Sprintf(format, args...)})
}

// clientPlaces are where MCP clients look, in order (RFC 8414 section 3.1 and
// OpenID Connect Discovery, as the MCP specification orders them).
func clientPlaces(issuer string) (places []DiagnosedPlace, err error) {
	gateway, err := discoveryPlaces(issuer)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, err
	}
	openID, oauth := gateway[0], gateway[1]
	places = append(places, DiagnosedPlace{URL: oauth, Gateway: true})
	if path := strings.TrimSuffix(u.EscapedPath(), "/"); path != "" {
		places = append(places, DiagnosedPlace{URL: u.Scheme + "://" + u.Host + "/.well-known/openid-configuration" + path})
	}
	return append(places, DiagnosedPlace{URL: openID, Gateway: true}), nil
}

// discover reads the documents at all places and returns the one that clients
// use.
func (d *Diagnosis) discover(ctx context.Context, f *httpFetcher) (first metadata) {
	places, err := clientPlaces(d.Issuer)
	if err != nil {
		d.found(LevelError, "issuer", "%v", err)
		return nil
	}
	var elsewhere string // of the place where the gateway does not look
	keys := map[string]bool{}
	for _, place := range places {
		doc, keysURL, err := readPlace(ctx, f, place.URL)
		if err != nil {
			place.Problem = err.Error()
		} else if keys[keysURL] = true; first == nil {
			first = doc
		}
		switch {
		case err == nil && place.Gateway:
			d.Discoverable, d.KeysURL = true, keysURL // the gateway prefers the last one
		case err == nil:
			elsewhere = keysURL
		}
		d.Places = append(d.Places, place)
	}
	switch {
	case first == nil:
		d.found(LevelError, "discovery", "no document of this issuer was found; its name must be written exactly as the document has it")
	case !d.Discoverable:
		d.KeysURL = elsewhere
		d.found(LevelWarning, "discovery", "`jwks discover` does not look where the document is; use `jwks url`")
	case len(keys) > 1:
		d.found(LevelWarning, "discovery", "the documents name different places for the keys")
	default:
		d.found(LevelOK, "discovery", "the document is this issuer's own")
	}
	return first
}

func readPlace(ctx context.Context, f *httpFetcher, address string) (doc metadata, keysURL string, err error) {
	text, _, err := f.get(ctx, address)
	if err != nil {
		return nil, "", err
	}
	if keysURL, err = f.keysOf(text); err != nil {
		return nil, "", err
	}
	doc = make(metadata)
	err = mcpwire.Object(text, func(name string, value jsontext.Value) error {
		doc[name] = value.Clone()
		return nil
	})
	return doc, keysURL, err
}

// examineKeys fetches the keys and says which ones the gateway uses.
func (d *Diagnosis) examineKeys(ctx context.Context, f *httpFetcher) {
	text, header, err := f.get(ctx, d.KeysURL)
	if err != nil {
		d.found(LevelError, "keys", "%v", err)
		return
	}
	set, _, err := parseKeySet(text, keyPolicy{})
	if set == nil {
		d.found(LevelError, "keys", "%v", err)
		return
	}
	used := 0
	for _, entry := range keyEntries(text) {
		k := describeKey(entry)
		parsed, err := parseKey(entry, keyPolicy{})
		switch {
		case err != nil:
			k.Problem = err.Error()
		case set.byID[parsed.kid] == nil:
			k.Problem = "another key has the same kid"
		default:
			used++
		}
		d.Keys = append(d.Keys, k)
	}
	if used == 0 {
		d.found(LevelError, "keys", "none of them can be used")
		return
	}
	d.found(LevelOK, "keys", "%d of %d can be used; they are fetched again every %s", used, len(d.Keys), freshness(header))
}

// keyEntries are the keys of a document that parseKeySet has read.
func keyEntries(text []byte) (entries []jsontext.Value) {
	_ = mcpwire.Object(text, func(name string, value jsontext.Value) (err error) {
		if name == "keys" {
			entries, err = mcpwire.Elements(value, maxKeys)
		}
		return err
	})
	return entries
}

func describeKey(entry jsontext.Value) (k DiagnosedKey) {
	members := map[string]*string{"kid": &k.KeyID, "kty": &k.Type, "alg": &k.Algorithm, "use": &k.Use}
	_ = mcpwire.Object(entry, func(name string, value jsontext.Value) error {
		if into := members[name]; into != nil {
			*into, _ = mcpwire.String(value)
		}
		return nil
	})
	return k
}
