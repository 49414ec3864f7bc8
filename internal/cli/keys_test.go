package cli

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestKeygenAndToken: a token of each algorithm is signed by the key whose
// public half is in the set, and only that.
func TestKeygenAndToken(t *testing.T) {
	for name, alg := range map[string]jwa.SignatureAlgorithm{"ES256": jwa.ES256(), "RS256": jwa.RS256(), "EdDSA": jwa.EdDSA()} {
		inFolder(t, nil)
		made := execute(t, "", "keygen", "--alg", name, "--kid", "k1")
		made.wants(t, exitOK, name+" key k1", "jwks file jwks.json", "caddy mcp token --key private.jwk")

		for file, mode := range map[string]os.FileMode{"private.jwk": 0o600, "jwks.json": 0o644} {
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm()&^mode != 0 {
				t.Errorf("%s: %v, %v", file, info.Mode(), err)
			}
		}
		set, err := jwk.ParseString(readFile(t, "jwks.json"))
		if err != nil || set.Len() != 1 {
			t.Fatalf("%v, %d keys", err, set.Len())
		}
		key, _ := set.Key(0)
		if private, err := jwk.IsPrivateKey(key); private || err != nil {
			t.Fatalf("%s: the set has a private key (%v)", name, err)
		}
		kid, _ := key.KeyID()
		use, _ := key.KeyUsage()
		if named, _ := key.Algorithm(); kid != "k1" || use != "sig" || named.String() != name {
			t.Errorf("kid %s, use %s, alg %s", kid, use, named)
		}

		printed := execute(t, "", "token", "--iss", "dev", "--sub", "alice")
		printed.wants(t, exitOK)
		text := strings.TrimSuffix(printed.stdout, "\n")
		if _, err := jws.Verify([]byte(text), jws.WithKey(alg, key)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		message, err := jws.ParseString(text)
		if err != nil {
			t.Fatal(err)
		}
		header := message.Signatures()[0].ProtectedHeaders()
		kid, _ = header.KeyID()
		if typ, _ := header.Type(); kid != "k1" || typ != "JWT" || header.Has("jwk") {
			t.Errorf("kid %s, typ %s", kid, typ)
		}
	}
}

func TestKeygenNeverOverwrites(t *testing.T) {
	for _, taken := range []string{"jwks.json", "private.jwk"} {
		inFolder(t, map[string]string{taken: "mine"})
		execute(t, "", "keygen").wants(t, exitFailed, taken+" is already there; --force replaces it")
		files, err := os.ReadDir(".")
		if err != nil || len(files) != 1 || readFile(t, taken) != "mine" {
			t.Errorf("%v, %v", files, err)
		}
		execute(t, "", "keygen", "--force").wants(t, exitOK)
		files, err = os.ReadDir(".")
		if err != nil || len(files) != 2 || readFile(t, taken) == "mine" {
			t.Errorf("%v, %v", files, err)
		}
		if info, err := os.Stat("private.jwk"); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	// the second file cannot be written: the first one goes again
	inFolder(t, nil)
	execute(t, "", "keygen", "--out", "nowhere/jwks.json").wants(t, exitFailed, "no such file")
	if files, err := os.ReadDir("."); err != nil || len(files) != 0 {
		t.Errorf("%v, %v", files, err)
	}
	execute(t, "", "keygen", "--out", "./a", "--key", "a").wants(t, exitFailed, "name the same file")
	execute(t, "", "keygen", "--alg", "HS256").wants(t, exitFailed, `--alg is ES256, RS256 or EdDSA, not "HS256"`)
}

func TestKeygenJSON(t *testing.T) {
	inFolder(t, nil)
	found := decode[struct {
		Kid, Alg, JWKS, Key string
		Public              map[string]string
	}](t, execute(t, "", "keygen", "--json", "--out", "o.json", "--key", "k.jwk"))
	if found.Alg != "ES256" || found.JWKS != "o.json" || found.Key != "k.jwk" || len(found.Kid) != 43 || found.Public["kid"] != found.Kid || found.Public["d"] != "" {
		t.Errorf("%+v", found)
	}
	refused := decode[map[string]string](t, execute(t, "", "keygen", "--json", "--out", "o.json", "--key", "k.jwk"))
	if refused["error"] != "k.jwk is already there; --force replaces it" {
		t.Errorf("%v", refused)
	}
}

type signedToken struct {
	Token  string
	Header map[string]string
	Claims map[string]any
}

func TestTokenClaims(t *testing.T) {
	inFolder(t, nil)
	execute(t, "", "keygen").wants(t, exitOK)
	before := time.Now().Unix()
	found := decode[signedToken](t, execute(t, "", "token", "--json", "--iss", "i", "--aud", "a", "--aud", "b", "--typ", "at+jwt", "--expires", "2h",
		"--claim", `groups=["dev"]`, "--claim", "scope=repo:read repo:write", "--claim", "n=9007199254740993", "--claim", `t="1"`, "--claim", "empty=",
		"--claim", "deep={\"a\":null}", "--claim", "eq=a=b"))
	claims := found.Claims
	iat, exp := claims["iat"].(float64), claims["exp"].(float64)
	if int64(iat) < before || int64(iat) > time.Now().Unix() || exp-iat != 7200 {
		t.Errorf("iat %v, exp %v", iat, exp)
	}
	for name, want := range map[string]any{"iss": "i", "scope": "repo:read repo:write", "t": "1", "empty": "", "eq": "a=b"} {
		if claims[name] != want {
			t.Errorf("%s: %v, want %v", name, claims[name], want)
		}
	}
	if !slices.Equal(claims["aud"].([]any), []any{"a", "b"}) || claims["sub"] != nil || found.Header["typ"] != "at+jwt" {
		t.Errorf("%v %v", claims, found.Header)
	}
	payload, err := tokenClaims(found.Token, nil)
	if err != nil || !strings.Contains(string(payload), `"n":9007199254740993`) || !strings.Contains(string(payload), `"deep":{"a":null}`) {
		t.Errorf("%s, %v", payload, err)
	}

	expired := decode[signedToken](t, execute(t, "", "token", "--json", "--aud", "one", "--expires=-1h"))
	if exp := expired.Claims["exp"].(float64); int64(exp) > before-3500 || expired.Claims["aud"] != "one" {
		t.Errorf("%v", expired.Claims)
	}
	ever := decode[signedToken](t, execute(t, "", "token", "--json", "--expires", "never"))
	if _, has := ever.Claims["exp"]; has {
		t.Errorf("%v", ever.Claims)
	}
	// any claim, and none of them is made up
	own := decode[signedToken](t, execute(t, "", "token", "--json", "--sub", "a", "--claim", "sub=b", "--claim", "exp=1", "--claim", "iat=x"))
	if own.Claims["sub"] != "b" || own.Claims["exp"] != 1.0 || own.Claims["iat"] != "x" || len(own.Claims) != 3 {
		t.Errorf("%v", own.Claims)
	}
}

func TestTokenRefuses(t *testing.T) {
	inFolder(t, map[string]string{
		"text": "hello", "set": `{"keys":[]}`, "noalg": `{"kty":"oct","k":"AAAA"}`, "enc": `{"kty":"oct","k":"AAAA","alg":"A128KW"}`,
		"large": strings.Repeat("x", maxKeyFile+1),
	})
	execute(t, "", "keygen").wants(t, exitOK)
	found := decode[map[string]any](t, execute(t, "", "keygen", "--force", "--json"))
	if err := os.WriteFile("public", []byte(mustMarshal(t, found["public"])), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--key", "missing"}, "no such file"},
		{[]string{"--key", "text"}, "text is not a JWK"},
		{[]string{"--key", "set"}, "set is not a JWK"},
		{[]string{"--key", "public"}, "public does not hold a private key"},
		{[]string{"--key", "noalg"}, "does not hold a private key"},
		{[]string{"--key", "large"}, "larger than"},
		{[]string{"--expires", "soon"}, "--expires: "},
		{[]string{"--claim", "x"}, "must be <name>=<value>"},
		{[]string{"--claim", "=x"}, "must be <name>=<value>"},
		{[]string{"--claim", "x=[a"}, "--claim x: is not valid JSON"},
		{[]string{"--claim", `x={"a":1,"a":2}`}, "--claim x: is not valid JSON"},
	} {
		execute(t, "", append([]string{"token"}, test.args...)...).wants(t, exitFailed, test.want)
		failed := decode[map[string]string](t, execute(t, "", append([]string{"token", "--json"}, test.args...)...))
		if !strings.Contains(failed["error"], test.want) {
			t.Errorf("%v", failed)
		}
	}
}
