package jwtauth

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// remoteGate is a gate whose keys come from a server, fetched when the test
// says so.
type remoteGate struct {
	*gate
	keys *remoteKeys
}

// newRemoteGate has fetched the RSA key from path /keys.
func newRemoteGate(t *testing.T, s *keyServer) *remoteGate {
	t.Helper()
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	g := &remoteGate{newGate(t), newRemoteKeys(s.fetcher(t, httpOptions{}), defaultMaxStale, nil)}
	t.Cleanup(g.keys.close)
	g.verifier.issuers[issuerURL].source = g.keys
	if err := g.keys.fetchOnce(); err != nil {
		t.Fatal(err)
	}
	g.accepts(t, goodToken())
	return g
}

// keepsKeys wants the next fetch to fail with this text, and the old keys to
// go on working.
func (g *remoteGate) keepsKeys(t *testing.T, want string) {
	t.Helper()
	before, _ := g.keys.keys()
	if err := g.keys.fetchOnce(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want an error with %q", err, want)
	}
	if after, err := g.keys.keys(); after != before || err != nil {
		t.Errorf("the keys have changed: %v", err)
	}
	g.accepts(t, goodToken())
	g.refuses(t, foe().Token("alice", forUs), badSig)
}

// A78: a body that is too large, or never ends, is cut.
func TestA78_HugeBody(t *testing.T) {
	s := newKeyServer(t)
	g := newRemoteGate(t, s)
	set := mcptest.Set(rsaOnce())
	padded := func(size int) string { return set[:1] + strings.Repeat(" ", size-len(set)) + set[1:] }
	endless := func(chunk string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"a byte too much":     says(padded(maxKeySetSize + 1)),
		"5 MiB":               says(padded(5 << 20)),
		"endless":             endless(strings.Repeat("x", 1<<10)),
		"endless white space": endless(strings.Repeat("\n", 1<<16)),
		"endless set":         endless(`{"keys":[` + strings.Repeat(mcptest.JSON(rsaOnce().JWK())+",", 10)),
		"length unknown": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			says(padded(5<<20))(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.on("/keys", answer)
			if used := allocated(func() { g.keepsKeys(t, "larger than 1048576 bytes") }); used > 24<<20 {
				t.Errorf("took %d bytes of memory", used)
			}
		})
	}
	// the largest one that is allowed
	s.on("/keys", says(padded(maxKeySetSize)))
	if err := g.keys.fetchOnce(); err != nil {
		t.Error(err)
	}
}

// A79: the bound is on what comes out.
func TestA79_GzipBomb(t *testing.T) {
	compress := func(text string, times int) []byte {
		data := []byte(text)
		for range times {
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			_, _ = w.Write(data)
			_ = w.Close()
			data = packed.Bytes()
		}
		return data
	}
	zipped := func(data []byte, encoding string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", encoding)
			_, _ = w.Write(data)
		}
	}
	bomb := compress(strings.Repeat(" ", 30<<20), 1)
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	s := newKeyServer(t)
	g := newRemoteGate(t, s)
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"bomb":          {zipped(bomb, "gzip"), "larger than"},
		"bomb, capital": {zipped(bomb, "GZIP"), "larger than"},
		"twice":         {zipped(compress(mcptest.Set(rsaOnce()), 2), "gzip"), "JSON"},
		"unasked":       {zipped(bomb, "br"), "JSON"},
		"two encodings": {zipped(bomb, "gzip, gzip"), "JSON"},
		"cut":           {zipped(bomb[:1000], "gzip"), "unexpected EOF"},
		"no gzip":       {zipped([]byte(mcptest.Set(rsaOnce())), "gzip"), "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			s.on("/keys", test.answer)
			if used := allocated(func() { g.keepsKeys(t, test.want) }); used > 24<<20 {
				t.Errorf("took %d bytes of memory", used)
			}
		})
	}
	s.on("/keys", zipped(compress(mcptest.Set(rsaOnce(), ecOnce()), 1), "gzip"))
	if err := g.keys.fetchOnce(); err != nil {
		t.Error(err)
	}
	g.accepts(t, trustedEC().Token("alice", forUs))
}

// A80: nobody is sent anywhere. The fetcher asks for no other address and no
// other path.
func TestA80_Redirects(t *testing.T) {
	s, other := newKeyServer(t), newKeyServer(t)
	g := newRemoteGate(t, s)
	asked := s.dials(g.keys.fetcher.(*httpFetcher))
	other.on("/keys", says(mcptest.Set(foe().Key)))
	s.on("/elsewhere", says(mcptest.Set(foe().Key)))
	for _, location := range []string{
		"/elsewhere", "elsewhere", "?again", other.URL + "/keys", strings.Replace(other.URL, "127.0.0.1", "localhost", 1) + "/keys",
		"http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/",
		"http://2852039166/", "http://0xa9fea9fe/", "http://metadata.google.internal/", "https://evil.example/keys",
		"file:///etc/passwd", "data:application/json,{}", "//evil.example/keys", "javascript:alert(1)", "",
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			s.on("/keys", func(w http.ResponseWriter, _ *http.Request) {
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(status)
				_, _ = io.WriteString(w, mcptest.Set(foe().Key))
			})
			g.keepsKeys(t, fmt.Sprint("status ", status))
		}
	}
	other.wantAsked(t)
	for _, path := range s.asked {
		if path != "/keys" {
			t.Errorf("asked for %s", path)
		}
	}
	for _, address := range *asked {
		if address != s.Listener.Addr().String() {
			t.Errorf("connected to %s", address)
		}
	}
	// other ways to send somebody on
	for _, header := range []string{"Refresh", "Content-Location", "Link", "Alt-Svc"} {
		s.on("/keys", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, "0; url="+other.URL+"/keys")
			_, _ = io.WriteString(w, `{"keys":[]}`)
		})
		g.keepsKeys(t, "no usable key")
	}
	other.wantAsked(t)
}

// A81: the contract allows private addresses, since issuers of closed
// networks have them. A name that suddenly leads elsewhere still has to
// bring the certificate of that name.
func TestA81_NameLeadsElsewhere(t *testing.T) {
	s, evil := newTLSKeyServer(t), newKeyServer(t)
	s.on("/keys", says(mcptest.Set(rsaOnce())))
	evil.on("/keys", says(mcptest.Set(foe().Key)))
	f := s.fetcher(t, httpOptions{ca: pemOf(s.Certificate())})
	f.address = "https://example.com/keys"
	s.dials(f)
	fetches(t, f, "rsa")
	f.client.CloseIdleConnections()
	evil.dials(f)
	fails(t, f, "")
	evil.wantAsked(t)
}

// A82, A83: whatever is no key set changes nothing.
func TestA82_A83_NoKeySet(t *testing.T) {
	s := newKeyServer(t)
	g := newRemoteGate(t, s)
	set := mcptest.Set(foe().Key)
	for name, test := range map[string]struct{ doc, contentType, want string }{
		"HTML":              {"<!doctype html><title>Log in</title>", "text/html", "HTML"},
		"HTML that is JSON": {set, "text/html; charset=utf-8", "HTML"},
		"HTML in capitals":  {set, "Text/HTML", "HTML"},
		"HTML in disguise":  {"<html>", "application/json", "JSON"},
		"nothing":           {"", "application/json", "JSON"},
		"blanks":            {" \n", "application/json", "JSON"},
		"truncated":         {set[:len(set)-2], "application/json", "JSON"},
		"no keys":           {"{}", "application/json", `"keys" is missing`},
		"keys null":         {`{"keys":null}`, "application/json", `"keys" is missing`},
		"keys empty":        {`{"keys":[]}`, "application/json", "no usable key"},
		"keys in capitals":  {`{"KEYS":` + set[8:], "application/json", `"keys" is missing`},
		"keys twice":        {set[:len(set)-1] + `,"keys":[]}`, "application/json", "duplicate"},
		"garbage behind":    {set + "x", "application/json", "data after"},
		"two documents":     {set + "\n" + set, "application/json", "data after"},
		"null":              {"null", "application/json", "not an object"},
		"a list":            {"[" + set + "]", "application/json", "not an object"},
		"an error":          {`{"error":"temporarily_unavailable"}`, "application/json", `"keys" is missing`},
		"byte order mark":   {"\ufeff" + set, "application/json", "JSON"},
		"UTF-16":            {"{\x00\"\x00k\x00", "application/json", "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			s.on("/keys", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				_, _ = io.WriteString(w, test.doc)
			})
			g.keepsKeys(t, test.want)
		})
	}
	t.Run("cut by the connection", func(t *testing.T) {
		s.on("/keys", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(set)))
			_, _ = io.WriteString(w, set[:len(set)-1])
		})
		g.keepsKeys(t, "unexpected EOF")
	})
	t.Run("no HTTP", func(t *testing.T) {
		s.on("/keys", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, "220 smtp.example.com ESMTP\r\n")
			conn.Close()
		})
		g.keepsKeys(t, "malformed HTTP")
	})
	t.Run("headers without end", func(t *testing.T) {
		s.on("/keys", func(w http.ResponseWriter, r *http.Request) {
			for i := range 1000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1000))
			}
			says(set)(w, r)
		})
		g.keepsKeys(t, "header")
	})
	// other media types are no reason to fail: issuers send all of these
	for _, contentType := range []string{"application/jwk-set+json", "application/octet-stream", "text/plain", ";;"} {
		s.on("/keys", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, mcptest.Set(rsaOnce()))
		})
		if err := g.keys.fetchOnce(); err != nil {
			t.Errorf("%s: %v", contentType, err)
		}
	}
}

// A84: one key that nobody can read, or that is of a new kind, takes no other
// down.
func TestA84_StrangeKeyBesideGoodOnes(t *testing.T) {
	s := newKeyServer(t)
	g := newRemoteGate(t, s)
	for name, strange := range map[string]any{
		"ML-DSA":      claims{"kty": "AKP", "alg": "ML-DSA-65", "pub": mcptest.Base64(make([]byte, 1952)), "kid": "pq", "use": "sig"},
		"unknown kty": claims{"kty": "LATTICE", "kid": "x"},
		"no kty":      claims{"kid": "x"},
		"broken":      jwkOf(rsaOnce(), claims{"n": "!", "kid": "x"}),
		"null":        nil,
		"a number":    1,
		"a list":      []any{rsaOnce().JWK()},
	} {
		t.Run(name, func(t *testing.T) {
			s.on("/keys", says(mcptest.Set(strange, rsaOnce(), strange, ecOnce())))
			if err := g.keys.fetchOnce(); err != nil {
				t.Fatal(err)
			}
			g.accepts(t, goodToken())
			g.accepts(t, trustedEC().Token("alice", forUs))
		})
	}
}

// A85: more keys than anybody has.
func TestA85_TenThousandKeys(t *testing.T) {
	s := newKeyServer(t)
	g := newRemoteGate(t, s)
	many := func(n int) string {
		return `{"keys":[` + mcptest.JSON(rsaOnce().JWK()) + strings.Repeat(`,{"kty":"oct","k":"AAAA","kid":"x"}`, n-1) + "]}"
	}
	for _, n := range []int{101, 1000, 10_000} {
		s.on("/keys", says(many(n)))
		g.keepsKeys(t, "more than 100")
	}
	s.on("/keys", says(many(100)))
	if err := g.keys.fetchOnce(); err != nil {
		t.Error(err)
	}
	g.accepts(t, goodToken())
}

// rocaModulus is the product of two primes as the broken generator made them:
// k*M + 65537^a mod M, M being the product of the first primes (Nemec et al.,
// The Return of Coppersmith's Attack, section 2).
func rocaModulus() *big.Int {
	m := big.NewInt(1)
	for i := int64(2); m.BitLen() < 900; i++ {
		if p := big.NewInt(i); p.ProbablyPrime(0) {
			m.Mul(m, p)
		}
	}
	prime := func(k, a int64) *big.Int {
		p := new(big.Int).Exp(big.NewInt(65537), big.NewInt(a), m)
		for p.Add(p, new(big.Int).Mul(new(big.Int).Lsh(big.NewInt(k), 100), m)); !p.ProbablyPrime(10); {
			p.Add(p, m)
		}
		return p
	}
	return new(big.Int).Mul(prime(1<<31, 12345), prime(1<<31+7, 67890))
}

// A32 to A38 as they come over the network: the bad key is dropped, its
// tokens are unknown, and the good key beside it works.
func TestA32toA38_BadKeysOnTheWire(t *testing.T) {
	s := newKeyServer(t)
	g := newRemoteGate(t, s)
	bits := func(n int) string { return mcptest.Base64(new(big.Int).SetBit(big.NewInt(1), n-1, 1).Bytes()) }
	secret := mcptest.NewKey("HS256", "bad")
	for name, jwk := range map[string]map[string]any{
		"A31 for encryption":     jwkOf(rsaOnce(), claims{"use": "enc"}),
		"A32 RSA 1024":           jwkOf(rsaOnce(), claims{"n": bits(1024)}),
		"A33 RSA 65536":          jwkOf(rsaOnce(), claims{"n": bits(65536)}),
		"A33 huge e":             jwkOf(rsaOnce(), claims{"e": bits(2000)}),
		"A34 ROCA":               jwkOf(rsaOnce(), claims{"n": mcptest.Base64(rocaModulus().Bytes())}),
		"A35 ES521":              jwkOf(mcptest.NewKey("ES512", ""), claims{"alg": "ES521"}),
		"A35 ES224":              jwkOf(ecOnce(), claims{"alg": "ES224"}),
		"A35 A256GCM":            jwkOf(rsaOnce(), claims{"alg": "A256GCM"}),
		"A35 ES256 on RSA":       jwkOf(rsaOnce(), claims{"alg": "ES256"}),
		"A35 ES384 on P-256":     jwkOf(ecOnce(), claims{"alg": "ES384"}),
		"A36 not on the curve":   jwkOf(ecOnce(), claims{"y": ecOnce().JWK()["x"]}),
		"A36 point of zeros":     jwkOf(ecOnce(), claims{"x": mcptest.Base64(make([]byte, 32)), "y": mcptest.Base64(make([]byte, 32))}),
		"A38 symmetric":          secret.JWK(),
		"A38 symmetric, no alg":  secret.As("", "bad").JWK(),
		"a private key":          jwkOf(ecOnce(), claims{"d": mcptest.Base64(make([]byte, 32))}),
		"without algorithm, kty": jwkOf(rsaOnce(), claims{"kty": "oct", "alg": nil}),
	} {
		t.Run(name, func(t *testing.T) {
			jwk["kid"] = "bad"
			s.on("/keys", says(mcptest.Set(jwk, rsaOnce())))
			if err := g.keys.fetchOnce(); err != nil {
				t.Fatal(err)
			}
			set, err := g.keys.keys()
			if err != nil || !slices.Equal(set.kids(), []string{"rsa"}) {
				t.Errorf("%v, keys %q", err, set.kids())
			}
			g.accepts(t, goodToken())
			s.on("/keys", says(mcptest.Set(jwk)))
			g.keepsKeys(t, "no usable key")
		})
	}
	t.Run("A37 duplicate kid", func(t *testing.T) {
		s.on("/keys", says(mcptest.Set(foe().Key, ecOnce().As("ES256", "rsa"), ecOnce())))
		if err := g.keys.fetchOnce(); err != nil {
			t.Fatal(err)
		}
		set, _ := g.keys.keys()
		if !slices.Equal(set.kids(), []string{"ec"}) {
			t.Errorf("keys %q", set.kids())
		}
	})
}

// slowServer runs in a bubble, with a connection that is a pipe: the clock
// moves only when both ends wait. serve has read the request.
func slowServer(t *testing.T, serve func(conn net.Conn)) *httpFetcher {
	t.Helper()
	client, err := newHTTPClient(httpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	t.Cleanup(connections.Wait)
	t.Cleanup(client.CloseIdleConnections)
	client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		connections.Go(func() {
			defer theirs.Close()
			if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
				serve(theirs)
			}
		})
		return ours, nil
	}
	return &httpFetcher{client: client, address: "http://keys.example.com/keys"}
}

// drip writes a byte each second, until the other end is closed.
func drip(conn net.Conn, text string) {
	for i := range len(text) {
		time.Sleep(time.Second)
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
	}
}

// A77: a fetch takes 5 seconds at most, however the time is spent.
func TestA77_SlowServer(t *testing.T) {
	set := mcptest.Set(rsaOnce())
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(set))
	silence := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for name, serve := range map[string]func(conn net.Conn){
		"no answer":     silence,
		"slow headers":  func(conn net.Conn) { drip(conn, head) },
		"no body":       func(conn net.Conn) { _, _ = io.WriteString(conn, head); silence(conn) },
		"dripping body": func(conn net.Conn) { _, _ = io.WriteString(conn, head); drip(conn, set) },
		"dripping chunks": func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			drip(conn, strings.Repeat("1\r\n \r\n", 1000))
		},
		"endless early hints": func(conn net.Conn) {
			for {
				time.Sleep(100 * time.Millisecond)
				if _, err := io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRemoteKeys(slowServer(t, serve), defaultMaxStale, nil)
				defer r.close()
				began := time.Now()
				err := r.fetchOnce()
				if took := time.Since(began); err == nil || took > fetchTimeout {
					t.Errorf("%v after %s", err, took)
				}
				synctest.Wait()
			})
		})
	}
	t.Run("almost too slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := slowServer(t, func(conn net.Conn) {
				time.Sleep(fetchTimeout / 2)
				_, _ = io.WriteString(conn, head)
				time.Sleep(fetchTimeout/2 - time.Second)
				_, _ = io.WriteString(conn, set)
			})
			fetches(t, f, "rsa")
		})
	})
	// the time is for discovery and keys together
	t.Run("slow discovery", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := slowServer(t, func(conn net.Conn) {
				time.Sleep(4 * time.Second)
				doc := discovery("http://keys.example.com", "http://keys.example.com/keys")
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(doc), doc)
			})
			f.issuer, f.address = "http://keys.example.com", ""
			r := newRemoteKeys(f, defaultMaxStale, nil)
			defer r.close()
			began := time.Now()
			err := r.fetchOnce()
			if took := time.Since(began); err == nil || took != fetchTimeout || f.address != "" {
				t.Errorf("%v after %s, address %q", err, took, f.address)
			}
		})
	})
}

// A77: while a fetch hangs, who is known passes, and nobody fetches besides.
func TestA77_KnownTokensDoNotWait(t *testing.T) {
	inGate(t, func(t *testing.T, s *fakeServer, g *remoteGate) {
		g.accepts(t, goodToken())
		s.answersAfter(time.Hour)
		began := time.Now()
		for range 600 {
			g.accepts(t, goodToken())
			g.accepts(t, trusted().Token("bob", forUs)) // not in the cache
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took != 10*time.Minute {
			t.Errorf("requests waited: %s", took)
		}
	})
}

// inGate runs a test in a bubble, with a gate whose source is a fakeServer
// that publishes the RSA key, and whose keys are fetched.
func inGate(t *testing.T, test func(t *testing.T, s *fakeServer, g *remoteGate)) {
	t.Helper()
	rsaOnce() // making a key takes no time that counts
	inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
		s.publishSet(parsed(t, rsaOnce()))
		s.freshFor = time.Minute
		g := &remoteGate{newGate(t), r}
		g.verifier.issuers[issuerURL].source = r
		r.run()
		test(t, s, g)
	})
}

// parsed is the set of these keys.
func parsed(t testing.TB, keys ...any) *keySet {
	t.Helper()
	set, _, err := parseKeySet([]byte(mcptest.Set(keys...)), keyPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// unavailable wants a 503 that says when to come again, and no challenge: the
// token may be good.
func (g *gate) unavailable(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusServiceUnavailable || w.Body.String() != "authentication failure: the issuer's keys are not available" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	var seconds int
	if n, err := fmt.Sscan(w.Header().Get("Retry-After"), &seconds); n != 1 || err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After: %q", w.Header().Get("Retry-After"))
	}
	if w.Header().Get("WWW-Authenticate") != "" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" ||
		w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", w.Header())
	}
	if g.calls != 0 {
		t.Error("the upstream saw the request")
	}
}

// A74, A75, A76 as a client sees them.
func TestA74_A75_A76_Answers(t *testing.T) {
	for _, mode := range []string{ModeStrict, ModeOptional} {
		t.Run(mode, func(t *testing.T) {
			rsaOnce()
			inBubble(t, func(t *testing.T, s *fakeServer, r *remoteKeys) {
				s.publish()
				g := newGate(t, func(h *Handler) { h.Mode = mode })
				g.verifier.issuers[issuerURL].source = r
				r.run()
				for range 100 {
					g.unavailable(t, g.do(t, post(goodToken())))
					// a forged token learns no more
					g.unavailable(t, g.do(t, post(foe().Token("alice", forUs))))
					// what is wrong without any key is said as ever
					g.refuses(t, trusted().Token("alice", claims{"iss": "x"}), notIssuer)
					time.Sleep(time.Second)
				}
				s.publishSet(parsed(t, rsaOnce()))
				time.Sleep(time.Minute)
				g.accepts(t, goodToken())

				s.publish()
				time.Sleep(2*time.Hour - 2*time.Minute)
				g.accepts(t, goodToken())
				g.refuses(t, foe().Token("alice", forUs), badSig)
				time.Sleep(2 * time.Minute)
				g.unavailable(t, g.do(t, post(goodToken()))) // it is in the cache
				g.unavailable(t, g.do(t, post(trusted().Token("bob", forUs))))
				s.publishSet(parsed(t, rsaOnce()))
				time.Sleep(time.Minute)
				g.accepts(t, goodToken())
			})
		})
	}
}

// A39: a key that the issuer has removed is dead after the next refresh, for
// tokens in the cache as well.
func TestA39_RemovedKey(t *testing.T) {
	inGate(t, func(t *testing.T, s *fakeServer, g *remoteGate) {
		g.accepts(t, goodToken())
		g.accepts(t, goodToken())
		s.publishSet(parsed(t, ecOnce()))
		time.Sleep(time.Minute)
		g.refuses(t, goodToken(), unknown("rsa"))
		g.refuses(t, trusted().Token("bob", forUs), unknown("rsa"))
		// nor does it come back under its name
		s.publishSet(parsed(t, foe().Key))
		time.Sleep(time.Minute)
		g.refuses(t, goodToken(), badSig)
		g.accepts(t, foe().Token("alice", forUs))
		s.publishSet(parsed(t, rsaOnce()))
		time.Sleep(time.Minute)
		g.refuses(t, foe().Token("alice", forUs), badSig)
		g.accepts(t, goodToken())
	})
}

// serve sends a request through a handler, from any goroutine.
func serve(h *Handler, r *http.Request) (status int, passed bool) {
	w := httptest.NewRecorder()
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		passed = true
		return nil
	}))
	if err != nil {
		return http.StatusInternalServerError, passed
	}
	return w.Code, passed
}

// A87, A88, A89: 10,000 kids in five seconds. The issuer is asked once in ten
// seconds, whether it answers or not; who is known does not notice; and in
// the middle of it the first token with a new key passes.
func TestA87_A88_A89_UnknownKeyFlood(t *testing.T) {
	const (
		flood   = 10_000
		tick    = 50 * time.Millisecond
		perTick = 100
	)
	piece := strings.Split(foreign(`"kid":"x"`, ""), ".")
	forged := func(i int) string {
		header := fmt.Sprintf(`{"alg":"RS256","typ":"JWT","kid":"flood-%d"}`, i)
		return mcptest.Base64([]byte(header)) + "." + piece[1] + "." + piece[2]
	}
	rotated := trustedEC().Token("alice", forUs)
	for name, down := range map[string]bool{"A87 issuer answers": false, "A88 issuer is down": true} {
		t.Run(name, func(t *testing.T) {
			inGate(t, func(t *testing.T, s *fakeServer, g *remoteGate) {
				s.staysFresh(time.Hour)
				s.answersAfter(50 * time.Millisecond)
				time.Sleep(2 * time.Minute) // the sets of a minute have gone
				g.accepts(t, goodToken())
				if down {
					s.publish()
				}
				find(t.Context(), g.keys, "x") // so that the flood meets the cooldown
				time.Sleep(7 * time.Second)
				before := s.count()

				var requests sync.WaitGroup
				var refused atomic.Int32
				for i := range flood {
					requests.Go(func() {
						if status, passed := serve(g.Handler, post(forged(i))); status == http.StatusUnauthorized && !passed {
							refused.Add(1)
						}
					})
					if i == flood/4 && !down {
						s.publishSet(parsed(t, rsaOnce(), ecOnce()))
						requests.Go(func() {
							if status, passed := serve(g.Handler, post(rotated)); !passed {
								t.Errorf("the first token with the new key: %d", status)
							}
						})
					}
					if i%perTick == 0 {
						began := time.Now()
						g.accepts(t, goodToken())
						if took := time.Since(began); took != 0 {
							t.Errorf("a known token waited %s", took)
						}
						time.Sleep(tick)
					}
				}
				requests.Wait()
				if refused.Load() != flood {
					t.Errorf("%d of %d were refused", refused.Load(), flood)
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				for i := before; i < len(s.fetches); i++ {
					if pause := s.fetches[i] - s.fetches[i-1]; pause < fetchCooldown {
						t.Errorf("two fetches within %s", pause)
					}
				}
				if count := len(s.fetches) - before; count != 2 {
					t.Errorf("%d fetches", count)
				}
				if size := g.verifier.cache.entries.EstimatedSize(); size > 2 {
					t.Errorf("%d tokens in the cache", size)
				}
			})
		})
	}
}

// A89: the same kid again and again evicts nobody.
func TestA89_FloodOfOneKey(t *testing.T) {
	inGate(t, func(t *testing.T, s *fakeServer, g *remoteGate) {
		s.staysFresh(time.Hour)
		time.Sleep(2 * time.Minute)
		g.accepts(t, goodToken())
		k, _ := g.keys.find(t.Context(), tokenOf("rsa"))
		for range 30 {
			g.refuses(t, foreign(`"kid":"ghost"`, ""), unknown("ghost"))
			g.accepts(t, goodToken())
			if again, err := g.keys.find(t.Context(), tokenOf("rsa")); err != nil || again != k {
				t.Fatalf("%v, another key: %v", err, again != k)
			}
		}
		if count := s.count(); count > 35 {
			t.Errorf("%d fetches for 30 requests", count)
		}
	})
}
