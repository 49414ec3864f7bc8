package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// makeTokens signs what the clients present: tokens of one person, with the
// claims that access tokens usually have.
func (l *lab) makeTokens() error {
	key := mcptest.NewKey("RS256", "bench")
	tokens := &mcptest.Issuer{Name: issuer, Key: key}
	expires := time.Now().Add(24 * time.Hour).Unix()
	for i := range tokensInRotation {
		l.tokens = append(l.tokens, tokens.Token("alice", map[string]any{
			"aud": audience, "exp": expires, "jti": fmt.Sprintf("4f8e0f4e-6f0a-4b0f-8f0d-%012d", i), "client_id": "agent",
			"scope": "tools:read tools:write", "groups": []string{"dev", "ops"}, "email": "alice@example.com", "email_verified": true,
		}))
	}
	return os.WriteFile(l.jwks, []byte(mcptest.Set(key)), 0o600)
}

func (l *lab) makeCertificate() error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	l.roots = x509.NewCertPool()
	l.roots.AddCert(certificate)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(l.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(l.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
	)
}
