package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificate is one that has signed itself, for servers and clients alike.
type certificate struct {
	tls.Certificate
	pem []byte
}

func newCertificate(t *testing.T, name string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem:         pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}
}

// write puts the certificate and its key into files.
func (c certificate) write(t *testing.T) (certificate, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string][]byte{
		certificate: c.pem,
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// clientWith trusts a server's certificate and shows its own, if it has any. Each has connections of its own.
func clientWith(t *testing.T, server certificate, own *certificate) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(server.pem) {
		t.Fatal("no certificate")
	}
	config := &tls.Config{RootCAs: pool}
	if own != nil {
		config.Certificates = []tls.Certificate{own.Certificate}
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: runLimit}
}

// boundToken is a token of the client credentials grant. The server binds it to the certificate (RFC 8705 section 3).
func (s *oauthServer) boundToken(ctx context.Context, t *testing.T, resource string, own certificate) string {
	t.Helper()
	r, err := formRequest(ctx, s.issuer+"/token", url.Values{
		"grant_type": {"client_credentials"}, "resource": {resource}, "scope": {"mcp:use"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("machine", "secret")
	r.Header.Set("X-Client-Cert", url.PathEscape(string(own.pem)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil || answer.AccessToken == "" {
		t.Fatalf("status %d, %v: %s", resp.StatusCode, err, text)
	}
	return answer.AccessToken
}

// TestCertificateBoundToken gives a token that is bound to a client's certificate to somebody else (RFC 8705 section 3,
// with certificates that no authority has signed: section 2.2). That the gateway knows the token already must not help.
func TestCertificateBoundToken(t *testing.T) {
	server := startOAuth(t)
	upstream := startRecorder(t, startDemo(t), (*httptest.Server).Start)
	site := newCertificate(t, "localhost")
	certificateFile, keyFile := site.write(t)
	g := startGatewayAt(t, "https://localhost", func(resource string) string {
		return fmt.Sprintf("	tls %s %s {\n		client_auth {\n			mode request\n		}\n	}\n%s",
			certificateFile, keyFile, server.site(resource, "allow true", upstream.URL))
	})
	owner, thief := newCertificate(t, "owner"), newCertificate(t, "thief")
	withOwn, withOther, withNone := clientWith(t, site, &owner), clientWith(t, site, &thief), clientWith(t, site, nil)

	bound := server.boundToken(t.Context(), t, g.url(), owner)
	unbound := server.login(t, "alice", g.url(), "mcp:use").AccessToken
	refused := caller{token: bound, refusal: badType}
	accepted := caller{token: bound, name: "machine"}
	check := func(what string, c caller, client *http.Client) {
		t.Helper()
		if err := c.check(t.Context(), client, g.url()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("no certificate", refused, withNone)
	check("another certificate", refused, withOther)
	upstream.wantNone(t)
	check("the certificate", accepted, withOwn)
	check("the certificate, from the cache", accepted, withOwn)
	reached := len(upstream.seen(t))
	check("no certificate, from the cache", refused, withNone)
	check("another certificate, from the cache", refused, withOther)
	if now := len(upstream.seen(t)); now != reached {
		t.Errorf("%d requests with a stolen token have reached the server behind", now-reached)
	}
	check("the certificate, once more", accepted, withOwn)

	// a token that is bound to nothing is anybody's
	for what, client := range map[string]*http.Client{"none": withNone, "its own": withOwn, "another": withOther} {
		check("an unbound token with certificate "+what, caller{token: unbound, name: "alice"}, client)
	}
	g.wantNoTokens(t, bound, unbound)
	upstream.wantWithout(t, bound)
}
