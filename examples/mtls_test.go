package examples

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// A bound token passes on a connection whose client has shown the certificate,
// and on no other (RFC 8705 section 3).
func TestMutualTLS(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
	}))
	defer server.Close()
	key := mcptest.NewKey("ES256", "2026-11")
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, []byte(mcptest.Set(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	gateway := freeAddress(t)
	t.Setenv("UPSTREAM", server.URL+"/mcp")
	t.Setenv("GATEWAY_PORT", portOf(gateway))
	t.Chdir("..")
	var authority string
	runCaddyfile(t, "examples/mtls/Caddyfile", func(config map[string]any) {
		authority = filepath.Join(config["storage"].(map[string]any)["root"].(string), "pki", "authorities", "local", "root.crt")
		trustKeys(config, keys)
	})
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(read(t, authority))) {
		t.Fatal("no root certificate")
	}

	issuer := mcptest.Issuer{Name: "https://idp.example.com/realms/acme", Key: key}
	own, other := selfSigned(t), selfSigned(t)
	sum := sha256.Sum256(own.Certificate[0])
	audience := map[string]any{"aud": "https://mcp.example.com/mcp"}
	bound := issuer.Token("ci", audience, map[string]any{"cnf": map[string]any{"x5t#S256": mcptest.Base64(sum[:])}})
	free := issuer.Token("ci", audience)

	url := "https://localhost:" + portOf(gateway) + "/mcp"
	for _, test := range []struct {
		name         string
		certificates []tls.Certificate
		token, tool  string
		status       int
		body         string
	}{
		{"the owner", []tls.Certificate{own}, bound, "list_repos", http.StatusOK, `"result"`},
		{"what the owner may not do", []tls.Certificate{own}, bound, "delete_repo", http.StatusOK, "Unknown tool"},
		{"a thief without a certificate", nil, bound, "list_repos", http.StatusUnauthorized, "token type not accepted"},
		{"a thief with another one", []tls.Certificate{other}, bound, "list_repos", http.StatusUnauthorized, "token type not accepted"},
		{"a token that is not bound", []tls.Certificate{own}, free, "list_repos", http.StatusUnauthorized, `missing required claim "cnf"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
				RootCAs: roots, Certificates: test.certificates, MinVersion: tls.VersionTLS13,
			}}}
			defer client.CloseIdleConnections()
			status, body := callOverTLS(t, &client, url, test.token, test.tool)
			if status != test.status || !strings.Contains(body, test.body) {
				t.Errorf("%d %s, want %d %s", status, body, test.status, test.body)
			}
		})
	}
}

// callOverTLS calls a tool. The first handshakes may come before Caddy has
// made itself a certificate.
func callOverTLS(t *testing.T, client *http.Client, url, token, tool string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		r := mcptest.Request(url, token, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`"}}`)
		r.RequestURI = ""
		resp, err := client.Do(r.WithContext(ctx))
		if err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(body)
		}
		if !strings.Contains(err.Error(), "internal error") { // Caddy's alert: no certificate yet
			t.Fatal(err)
		}
		<-again.C
	}
}

// trustKeys replaces the keys of every issuer, which are fetched otherwise.
func trustKeys(config any, file string) {
	switch v := config.(type) {
	case []any:
		for _, element := range v {
			trustKeys(element, file)
		}
	case map[string]any:
		if v["handler"] == "mcp_jwt" {
			for _, issuer := range v["issuers"].([]any) {
				issuer.(map[string]any)["jwks"] = map[string]any{"file": file}
			}
		}
		for _, element := range v {
			trustKeys(element, file)
		}
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
