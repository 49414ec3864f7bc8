package main

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

// lab is the place where the experiments happen: the programs, the upstream,
// the keys and certificates.
type lab struct {
	dir                  string
	plain, gateway, self string // programs
	serverCore, loadCore string
	tokens               []string
	jwks, cert, key      string
	roots                *x509.CertPool
	upstream             *process
	upstreamPort         int
}

// newLab builds the programs and starts the upstream.
func newLab(ctx context.Context, dir string) (*lab, error) {
	l := &lab{
		dir: dir, plain: filepath.Join(dir, "caddy-plain"), gateway: filepath.Join(dir, "caddy-gateway"),
		jwks: filepath.Join(dir, "jwks.json"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"),
	}
	var err error
	if l.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if l.serverCore, l.loadCore, err = cores(); err != nil {
		return nil, err
	}
	for program, pkg := range map[string]string{l.plain: "./plain", l.gateway: "github.com/caddymcp/gateway/cmd/caddy"} {
		if _, _, err := command(ctx, ".", "go", "build", "-buildvcs=false", "-o", program, pkg); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(l.makeTokens(), l.makeCertificate(), os.WriteFile(l.script(), loadScript, 0o600)); err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	l.upstreamPort = ports[0]
	if l.upstream, err = startPinned(l.loadCore, dir, l.self, roleUpstream, strconv.Itoa(l.upstreamPort)); err != nil {
		return nil, err
	}
	if err := l.upstream.listens(ctx, l.upstreamPort); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) close() { l.upstream.stop() }

func (l *lab) script() string { return filepath.Join(l.dir, "load.lua") }

// requestsSeen is how many requests have reached the upstream.
func (l *lab) requestsSeen(ctx context.Context) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(l.upstreamPort)+countPath, http.NoBody)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}
