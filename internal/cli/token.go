package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Bounds of what is read, in bytes.
const (
	maxKeyFile = 64 << 10
	maxToken   = 1 << 20
)

var tokenCommand = command{
	use:   "token --key <jwk> [--iss <issuer>] [--sub <subject>] [--aud <audience>]... [--claim <name>=<value>]... [--expires <duration>]",
	short: "Signs a token for development",
	long: `Prints a token that is signed with a private key of "caddy mcp keygen".

A claim's value is JSON; what is no JSON is a text. Claims given with --claim
win over all others, exp and iat included. --expires may be negative, for a
token that has expired, or "never", for one without exp.`,
	example: `  $ caddy mcp token --key private.jwk --iss https://dev.example.com --sub alice
  $ caddy mcp token --key private.jwk --iss https://dev.example.com --sub bob \
      --aud https://mcp.example.com/mcp --claim groups='["dev"]' --claim scope="repo:read" --expires 24h`,
	args: cobra.NoArgs,
	flags: func(flags *pflag.FlagSet) {
		flags.String("key", "private.jwk", "File with the private key, a JWK")
		flags.String("iss", "", "The claim iss")
		flags.String("sub", "", "The claim sub")
		flags.StringArray("aud", nil, "The claim aud (repeatable)")
		flags.StringArray("claim", nil, "Another claim, <name>=<JSON or text> (repeatable)")
		flags.String("expires", "1h", "How long the token is valid, or never")
		flags.String("typ", "JWT", "The type in the header")
	},
	run: token,
}

// signed is the report of token.
type signed struct {
	Token  string                    `json:"token"`
	Header jsontext.Value            `json:"header"`
	Claims map[string]jsontext.Value `json:"claims"`
}

func (s *signed) show(w io.Writer) { fmt.Fprintln(w, s.Token) }

func token(c *call) (report, int, error) {
	key, alg, err := readKey(c.text("key"))
	if err != nil {
		return nil, exitFailed, err
	}
	claims, err := claimsOf(c, time.Now())
	if err != nil {
		return nil, exitFailed, err
	}
	payload, err := json.Marshal(claims, json.Deterministic(true))
	if err != nil {
		return nil, exitFailed, err
	}
	headers := jws.NewHeaders()
	if err := headers.Set(jws.TypeKey, c.text("typ")); err != nil {
		return nil, exitFailed, err
	}
	text, err := jws.Sign(payload, jws.WithKey(alg, key, jws.WithProtectedHeaders(headers)))
	if err != nil {
		return nil, exitFailed, err
	}
	header, _, _ := strings.Cut(string(text), ".")
	found := &signed{Token: string(text), Claims: claims}
	if found.Header, err = base64.RawURLEncoding.DecodeString(header); err != nil {
		return nil, exitFailed, err
	}
	return found, exitOK, nil
}

// readKey reads a private key and the algorithm that it is for.
func readKey(name string) (jwk.Key, jwa.SignatureAlgorithm, error) {
	var alg jwa.SignatureAlgorithm
	text, err := readBounded(name, maxKeyFile)
	if err != nil {
		return nil, alg, err
	}
	key, err := jwk.ParseKey(text)
	if err != nil {
		return nil, alg, fmt.Errorf("%s is not a JWK", name)
	}
	if private, err := jwk.IsPrivateKey(key); err != nil || !private {
		return nil, alg, fmt.Errorf("%s does not hold a private key", name)
	}
	named, ok := key.Algorithm()
	if ok {
		alg, ok = jwa.LookupSignatureAlgorithm(named.String())
	}
	if !ok {
		return nil, alg, fmt.Errorf("the key in %s has no alg that signs", name)
	}
	return key, alg, nil
}

// claimsOf makes the claims of the flags.
func claimsOf(c *call, now time.Time) (map[string]jsontext.Value, error) {
	claims := map[string]jsontext.Value{"iat": number(now.Unix())}
	for _, name := range []string{"iss", "sub"} {
		if text := c.text(name); text != "" {
			claims[name] = mcpwire.Quote(nil, text)
		}
	}
	switch audiences := c.texts("aud"); len(audiences) {
	case 0:
	case 1:
		claims["aud"] = mcpwire.Quote(nil, audiences[0])
	default:
		list, err := json.Marshal(audiences)
		if err != nil {
			return nil, err
		}
		claims["aud"] = list
	}
	if text := c.text("expires"); text != "never" {
		after, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("--expires: %w", err)
		}
		claims["exp"] = number(now.Add(after).Unix())
	}
	for _, claim := range c.texts("claim") {
		name, text, ok := strings.Cut(claim, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--claim %q: must be <name>=<value>", claim)
		}
		value, err := jsonOrText(text)
		if err != nil {
			return nil, fmt.Errorf("--claim %s: %w", name, err)
		}
		claims[name] = value
	}
	return claims, nil
}

func number(n int64) jsontext.Value { return fmt.Appendf(nil, "%d", n) }

// jsonOrText takes what is no JSON for a text, unless it was clearly meant to
// be JSON.
func jsonOrText(text string) (jsontext.Value, error) {
	if value := jsontext.Value(strings.TrimSpace(text)); value.IsValid() {
		return value, nil
	}
	if strings.ContainsAny(text[:min(len(text), 1)], `{["`) {
		return nil, errors.New("is not valid JSON")
	}
	return mcpwire.Quote(nil, text), nil
}

var errNotToken = errors.New("--token is not a token of three parts, base64url, whose payload is a JSON object")

// tokenClaims reads the claims of a token without verifying it. A text of -
// reads the token from stdin.
func tokenClaims(text string, stdin io.Reader) (jsontext.Value, error) {
	if text == "-" {
		read, err := io.ReadAll(io.LimitReader(stdin, maxToken+1))
		if err != nil {
			return nil, err
		}
		if len(read) > maxToken {
			return nil, fmt.Errorf("the token is larger than %d bytes", maxToken)
		}
		text = string(read)
	}
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 3 {
		return nil, errNotToken
	}
	payload, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil {
		return nil, errNotToken
	}
	if value := jsontext.Value(payload); value.Kind() != '{' || !value.IsValid() {
		return nil, errNotToken
	}
	return payload, nil
}
