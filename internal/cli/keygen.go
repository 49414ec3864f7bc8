package cli

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// rsaBits is the size of RSA keys, the least that mcp_jwt accepts being 2048.
const rsaBits = 3072

var keygenCommand = command{
	use:   "keygen [--alg <algorithm>] [--kid <id>] [--out <jwks>] [--key <jwk>] [--force]",
	short: "Makes a key for development",
	long: `Makes a key that signs tokens, for development and tests.

The public half goes into a JWK Set, which "jwks file" of mcp_jwt reads; the
private half into a file of its own that only its owner can read, for "caddy mcp
token". Files that are already there stay as they are, unless --force is given.`,
	example: `  $ caddy mcp keygen
  $ caddy mcp keygen --alg RS256 --kid dev-1 --out dev.jwks.json --key dev.private.jwk`,
	args: cobra.NoArgs,
	flags: func(flags *pflag.FlagSet) {
		flags.String("alg", "ES256", "Algorithm: ES256, RS256 or EdDSA")
		flags.String("kid", "", "ID of the key (default: its thumbprint, RFC 7638)")
		flags.String("out", "jwks.json", "File for the public half, a JWK Set")
		flags.String("key", "private.jwk", "File for the private half, a JWK")
		flags.Bool("force", false, "Replace files that are already there")
	},
	run: keygen,
}

// generated is the report of keygen.
type generated struct {
	KeyID     string         `json:"kid"`
	Algorithm string         `json:"alg"`
	JWKS      string         `json:"jwks"`
	Key       string         `json:"key"`
	Public    jsontext.Value `json:"public"`
}

func keygen(c *call) (report, int, error) {
	found := &generated{Algorithm: c.text("alg"), KeyID: c.text("kid"), JWKS: c.text("out"), Key: c.text("key")}
	if filepath.Clean(found.JWKS) == filepath.Clean(found.Key) {
		return nil, exitFailed, errors.New("--out and --key name the same file")
	}
	private, set, err := found.generate()
	if err != nil {
		return nil, exitFailed, err
	}
	if err := writeFiles(c.yes("force"), newFile{found.Key, private, 0o600}, newFile{found.JWKS, set, 0o644}); err != nil {
		return nil, exitFailed, err
	}
	return found, exitOK, nil
}

// generate makes the key, and the documents of both files.
func (g *generated) generate() (private, set []byte, err error) {
	var raw any
	var alg jwa.SignatureAlgorithm
	switch g.Algorithm {
	case "ES256":
		alg = jwa.ES256()
		raw, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256":
		alg = jwa.RS256()
		raw, err = rsa.GenerateKey(rand.Reader, rsaBits)
	case "EdDSA":
		alg = jwa.EdDSA()
		_, raw, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, nil, fmt.Errorf("--alg is ES256, RS256 or EdDSA, not %q", g.Algorithm)
	}
	if err != nil {
		return nil, nil, err
	}
	key, err := jwk.Import(raw)
	if err != nil {
		return nil, nil, err
	}
	err = errors.Join(key.Set(jwk.AlgorithmKey, alg), key.Set(jwk.KeyUsageKey, jwk.ForSignature))
	if g.KeyID != "" {
		err = errors.Join(err, key.Set(jwk.KeyIDKey, g.KeyID))
	} else {
		err = errors.Join(err, jwk.AssignKeyID(key))
		g.KeyID, _ = key.KeyID()
	}
	if err != nil {
		return nil, nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, nil, err
	}
	indent := jsontext.WithIndent("  ")
	private, err1 := json.Marshal(key, indent)
	g.Public, err = json.Marshal(public)
	set, err2 := json.Marshal(map[string][]jsontext.Value{"keys": {g.Public}}, indent)
	return append(private, '\n'), append(set, '\n'), errors.Join(err, err1, err2)
}

func (g *generated) show(w io.Writer) {
	fmt.Fprintf(w, `%s key %s
public half:  %s
private half: %s

In the Caddyfile:

	mcp_jwt {
		issuer https://dev.example.com {
			jwks file %s
		}
	}

A token:

	caddy mcp token --key %s --iss https://dev.example.com --sub alice
`, g.Algorithm, g.KeyID, g.JWKS, g.Key, g.JWKS, g.Key)
}

// newFile is a file that is to be written.
type newFile struct {
	name string
	text []byte
	mode os.FileMode
}

// writeFiles writes all files or none, over none that is there, unless force
// is given.
func writeFiles(force bool, files ...newFile) error {
	for _, f := range files {
		if _, err := os.Lstat(f.name); err == nil && !force {
			return fmt.Errorf("%s is already there; --force replaces it", f.name)
		}
	}
	var written []string
	for _, f := range files {
		if err := f.write(force); err != nil {
			for _, name := range written {
				err = errors.Join(err, os.Remove(name))
			}
			return err
		}
		if !force {
			written = append(written, f.name)
		}
	}
	return nil
}

// write makes a new file, or replaces one at a stroke: a running gateway may
// be watching it.
func (f newFile) write(force bool) error {
	if !force {
		file, err := os.OpenFile(f.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.mode)
		if err != nil {
			return err
		}
		_, err = file.Write(f.text)
		return errors.Join(err, file.Close())
	}
	file, err := os.CreateTemp(filepath.Dir(f.name), "."+filepath.Base(f.name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(f.text)
	if err := errors.Join(err, file.Chmod(f.mode), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), f.name)
}
