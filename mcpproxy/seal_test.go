package mcpproxy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// testSealer is a sealer of a proxy, with keys made of one byte.
func testSealer(t *testing.T, key byte, proxy string) *sealer {
	t.Helper()
	s, err := newSealer(bytes.Repeat([]byte{key}, 32), bytes.Repeat([]byte{key, 'n'}, 16), proxy)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustSeal(t *testing.T, s *sealer, session upstreamSession, principal string) string {
	t.Helper()
	sealed, err := s.seal(session, principal)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealAndOpen(t *testing.T) {
	s := testSealer(t, 1, "proxy")
	for _, session := range []upstreamSession{
		{"a", "10.0.0.1:3001"},
		{"3f6b1c9e-0a6c-4bd0-9c6e-8a9fbd2f0a11", "unix//run/mcp.sock"},
		{"!#$%&'()*+,-./:;<=>?@[]^_`{|}~\"\\", ""},
		{strings.Repeat("x", maxUpstreamID), strings.Repeat("y", maxReplica)},
	} {
		sealed := mustSeal(t, s, session, alice.Principal())
		if len(sealed) > maxSealedID || !isVisible(sealed) {
			t.Errorf("%.20q: sealed as %d bytes", session.id, len(sealed))
		}
		if len(session.id) > 8 && strings.Contains(sealed, session.id) {
			t.Errorf("%.20q is legible in what the client gets", session.id)
		}
		if got, err := s.open(sealed, alice.Principal()); err != nil || got != session {
			t.Errorf("%.20q: opened as %+v, %v", session.id, got, err)
		}
		// an answer that repeats the id, by whichever instance, repeats the sealed one
		if again := mustSeal(t, testSealer(t, 1, "proxy"), session, alice.Principal()); again != sealed {
			t.Errorf("%.20q: sealed twice, it differs", session.id)
		}
	}
}

func TestUnsealable(t *testing.T) {
	s := testSealer(t, 1, "proxy")
	for what, session := range map[string]upstreamSession{
		"no id":             {"", "replica"},
		"a space":           {"a b", "replica"},
		"a line end":        {"a\r\nSet-Cookie: b", "replica"},
		"NUL":               {"a\x00", "replica"},
		"DEL":               {"a\x7f", "replica"},
		"no ASCII":          {"ä", "replica"},
		"too long":          {strings.Repeat("x", maxUpstreamID+1), "replica"},
		"replica's address": {"a", strings.Repeat("x", maxReplica+1)},
	} {
		if sealed, err := s.seal(session, "alice"); !errors.Is(err, errUnsealable) || sealed != "" {
			t.Errorf("%s: sealed as %q, %v", what, sealed, err)
		}
	}
}

// TestForeign: A140. A sealed id opens for nobody else, and nowhere else.
func TestForeign(t *testing.T) {
	s := testSealer(t, 1, "proxy")
	session := upstreamSession{"session", "replica"}
	sealed := mustSeal(t, s, session, alice.Principal())
	for what, identity := range map[string]*reqctx.Identity{
		"another subject":            {Issuer: alice.Issuer, Subject: "bob"},
		"another issuer":             {Issuer: "https://other.example.com", Subject: alice.Subject},
		"another client":             {Issuer: alice.Issuer, Subject: alice.Subject, ClientID: "app"},
		"issuer and subject swapped": {Issuer: alice.Subject, Subject: alice.Issuer},
		"the same text, cut elsewhere": {
			Issuer: alice.Issuer + alice.Subject[:1], Subject: alice.Subject[1:],
		},
		"anonymous": {Anonymous: true},
		"unjudged":  nil,
	} {
		if got, err := s.open(sealed, identity.Principal()); !errors.Is(err, errNotSealed) {
			t.Errorf("%s: opened as %+v, %v", what, got, err)
		}
	}
	for what, other := range map[string]*sealer{
		"another key":   testSealer(t, 2, "proxy"),
		"another proxy": testSealer(t, 1, "prox"),
	} {
		if got, err := other.open(sealed, alice.Principal()); !errors.Is(err, errNotSealed) {
			t.Errorf("%s: opened as %+v, %v", what, got, err)
		}
	}
	// proxy and principal do not run into each other
	shifted := testSealer(t, 1, "proxy"+alice.Principal()[:1])
	if got, err := shifted.open(sealed, alice.Principal()[1:]); err == nil {
		t.Errorf("the border between proxy and principal has moved: %+v", got)
	}
	// a token of the same subject and client that says other things
	refreshed := &reqctx.Identity{Issuer: alice.Issuer, Subject: alice.Subject, Claims: reqctx.Claims(`{"jti":"2","iat":7}`)}
	if got, err := s.open(sealed, refreshed.Principal()); err != nil || got != session {
		t.Errorf("a refreshed token: %+v, %v", got, err)
	}
}

// TestForged: A140, A141. Every bit counts, and guesses open nothing.
func TestForged(t *testing.T) {
	s := testSealer(t, 1, "proxy")
	principal := alice.Principal()
	sealed := mustSeal(t, s, upstreamSession{"session", "10.0.0.12:3001"}, principal)
	raw, err := sealedEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what, forged string) {
		t.Helper()
		if got, err := s.open(forged, principal); !errors.Is(err, errNotSealed) {
			t.Errorf("%s: %q opened as %+v, %v", what, forged, got, err)
		}
	}
	for bit := range len(raw) * 8 {
		flipped := bytes.Clone(raw)
		flipped[bit/8] ^= 1 << (bit % 8)
		refuse(fmt.Sprintf("bit %d flipped", bit), sealedEncoding.EncodeToString(flipped))
	}
	for n := range raw {
		refuse("cut at the end", sealedEncoding.EncodeToString(raw[:n]))
		refuse("cut at the beginning", sealedEncoding.EncodeToString(raw[n+1:]))
	}
	for n := range len(sealed) {
		refuse("text cut", sealed[:n])
	}
	random := rand.New(rand.NewChaCha8([32]byte{1}))
	for i := range 1000 {
		guess := make([]byte, len(raw))
		for at := range guess {
			guess[at] = byte(random.Uint32())
		}
		guess[0] = sealVersion
		if i%2 == 1 { // a true beginning
			copy(guess, raw[:random.IntN(len(raw))])
		}
		refuse("guessed", sealedEncoding.EncodeToString(guess))
	}
	for what, forged := range map[string]string{
		"nothing":              "",
		"something appended":   sealed + "A",
		"padded":               sealed + "=",
		"a line end":           sealed[:10] + "\n" + sealed[10:],
		"other alphabet":       "+/" + sealed[2:],
		"the server's own id":  "session",
		"two of them":          sealed + sealed,
		"not the one encoding": looseEnd(t, sealed),
	} {
		refuse(what, forged)
	}
	if _, err := s.open(sealed, principal); err != nil {
		t.Errorf("the true one: %v", err)
	}
}

// looseEnd is another text that a lenient decoder takes for the same bytes: bits of the last character that stand for
// nothing are set.
func looseEnd(t *testing.T, sealed string) string {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(sealed)%4 == 0 {
		t.Fatal("choose an id of another length")
	}
	last := strings.IndexByte(alphabet, sealed[len(sealed)-1])
	return sealed[:len(sealed)-1] + alphabet[last|1:last|1+1]
}

// TestNonces: two sessions never share a nonce, whatever differs.
func TestNonces(t *testing.T) {
	seen := map[string]string{}
	for _, proxy := range []string{"p", "pp"} {
		for _, principal := range []string{"a", "aa", "pa"} {
			for _, session := range []upstreamSession{{"a", "b"}, {"ab", ""}, {"a", ""}, {"b", "a"}} {
				what := fmt.Sprintf("%s %s %v", proxy, principal, session)
				raw, err := sealedEncoding.DecodeString(mustSeal(t, testSealer(t, 1, proxy), session, principal))
				if err != nil {
					t.Fatal(err)
				}
				nonce := string(raw[1:25])
				if other, taken := seen[nonce]; taken {
					t.Errorf("%s and %s have the same nonce", what, other)
				}
				seen[nonce] = what
			}
		}
	}
}

func TestCutField(t *testing.T) {
	for _, from := range []string{"", "\x01", "\x05abcd", "\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if text, rest, ok := cutField([]byte(from)); ok {
			t.Errorf("%q: %q, %q", from, text, rest)
		}
	}
	if text, rest, ok := cutField([]byte("\x02abc")); !ok || text != "ab" || string(rest) != "c" {
		t.Errorf("%q, %q, %t", text, rest, ok)
	}
}

func FuzzOpen(f *testing.F) {
	s, err := newSealer(make([]byte, 32), make([]byte, 32), "proxy")
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := s.seal(upstreamSession{"session", "replica"}, "alice")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, "alice")
	f.Add(sealed, "bob")
	f.Add(sealed[:len(sealed)-1], "alice")
	f.Add("AQ", "alice")
	f.Fuzz(func(t *testing.T, id, principal string) {
		if _, err := s.open(id, principal); err == nil && (id != sealed || principal != "alice") {
			t.Errorf("%q opens for %q", id, principal)
		}
	})
}

// TestOpenedIsBounded: ids that clients hold, however many, do not fill the memory; and whatever is remembered, an id is
// still only good for whom it was sealed.
func TestOpenedIsBounded(t *testing.T) {
	s, err := newSealer(make([]byte, 32), make([]byte, 32), "proxy")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1000)
	for i := range 3 * maxOpenedSize / (openedOverhead + len(long)) {
		inside := upstreamSession{id: fmt.Sprint(long, i)}
		sealed, err := s.seal(inside, "alice")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if opened, err := s.open(sealed, "alice"); err != nil || opened != inside {
				t.Fatalf("%+v, %v", opened, err)
			}
			if _, err := s.open(sealed, "bob"); !errors.Is(err, errNotSealed) {
				t.Fatalf("bob opens what is alice's: %v", err)
			}
		}
	}
	s.opened.CleanUp()
	if weight := s.opened.WeightedSize(); weight > maxOpenedSize || weight < maxOpenedSize/2 {
		t.Errorf("%d bytes are remembered, %d at most", weight, maxOpenedSize)
	}
}
