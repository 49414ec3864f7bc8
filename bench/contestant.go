package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// contestant is a candidate that runs.
type contestant struct {
	*process
	candidate
	group
	lab         *lab
	url         string // without the query
	adminPort   int
	headersFile string
	client      *http.Client
	session     string
	tokens      []string
}

// start starts a candidate and opens a session with it.
func (l *lab) start(ctx context.Context, g group, c candidate) (*contestant, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	s := site{port: ports[0], admin: ports[1], upstream: l.upstreamPort, jwks: l.jwks, cert: l.cert, key: l.key, tls: g.tls}
	argv := []string{l.self, roleSDK, strconv.Itoa(s.port), s.jwks, "http://" + loopback(s.upstream)}
	if c.setup != goSDK {
		program := l.gateway
		if c.setup == plainProxy {
			program = l.plain
		}
		config := filepath.Join(l.dir, fmt.Sprintf("Caddyfile-%d", s.port))
		if err := os.WriteFile(config, []byte(c.caddyfile(s)), 0o600); err != nil {
			return nil, err
		}
		argv = []string{program, "run", "--adapter", "caddyfile", "--config", config}
	}
	p, err := startPinned(l.serverCore, l.dir, argv...)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if g.tls {
		scheme = "https"
	}
	started := &contestant{
		process: p, candidate: c, group: g, lab: l, url: scheme + "://" + loopback(s.port) + "/mcp", adminPort: s.admin,
		client: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: l.roots}, DisableCompression: true, ForceAttemptHTTP2: g.h2,
		}},
		tokens: l.tokens[:max(1, c.tokens)],
	}
	if err = p.listens(ctx, s.port); err == nil {
		err = started.prepare(ctx)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return started, nil
}

// headers are those of every request but the first, without Authorization.
func (c *contestant) headers() http.Header {
	h := http.Header{"Content-Type": {jsonType}, "Accept": {jsonType + ", " + sseType}, "Mcp-Protocol-Version": {protocolVersion}}
	if c.session != "" {
		h.Set(sessionHeader, c.session)
	}
	return h
}

// prepare opens the session, checks that the candidate does what it is there
// for, and writes down what the load sends.
func (c *contestant) prepare(ctx context.Context) error {
	hello, err := c.do(ctx, http.MethodPost, answerHello, helloMessage, c.tokens[0])
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	c.session = hello.header.Get(sessionHeader)
	if c.kind == calls {
		if err := c.check(ctx); err != nil {
			return err
		}
	}
	var lines strings.Builder
	for name, values := range c.headers() {
		fmt.Fprintf(&lines, "%s: %s\n", name, values[0])
	}
	c.headersFile = c.file("headers")
	return errors.Join(
		os.WriteFile(c.headersFile, []byte(lines.String()), 0o600),
		os.WriteFile(c.file("body"), []byte(c.message()), 0o600),
		os.WriteFile(c.file("tokens"), []byte(strings.Join(c.tokens, "\n")+"\n"), 0o600),
	)
}

func (c *contestant) file(what string) string {
	return filepath.Join(c.lab.dir, fmt.Sprintf("%s-%d", what, c.pid))
}

// check makes one call and looks at its answer; and one without a token,
// which all but plain Caddy have to refuse.
func (c *contestant) check(ctx context.Context) error {
	got, err := c.do(ctx, http.MethodPost, c.answer, c.message(), c.tokens[len(c.tokens)-1])
	if err != nil {
		return err
	}
	visible := strings.Count(got.body, `"name":"`+visiblePrefix+"_")
	hidden := strings.Count(got.body, `"name":"hidden_`)
	n, isList := strings.CutPrefix(c.answer, answerTools)
	length, _ := strconv.Atoi(n)
	switch filters := c.setup == withRules || c.setup == everything; {
	case !isList:
		if !strings.Contains(got.body, callAnswer) {
			return fmt.Errorf("answer %q", got.body)
		}
	case visible != length/2, filters != (hidden == 0):
		return fmt.Errorf("%d of %d tools are listed, and %d that are hidden", visible, length, hidden)
	}
	if c.setup == plainProxy {
		return nil
	}
	if _, err := c.do(ctx, http.MethodPost, c.answer, c.message(), ""); err == nil {
		return errors.New("a request without a token has passed")
	}
	return nil
}

// reply is an answer that has been read.
type reply struct {
	header http.Header
	body   string
}

func (c *contestant) do(ctx context.Context, method, query, message, token string) (*reply, error) {
	answer, err := c.open(ctx, method, query, message, token)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return &reply{answer.Header, string(body)}, err
}

// open sends a request and returns the answer if it is a good one.
func (c *contestant) open(ctx context.Context, method, query, message, token string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+"?"+query, strings.NewReader(message))
	if err != nil {
		return nil, err
	}
	r.Header = c.headers()
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
		answer.Body.Close()
		return nil, fmt.Errorf("status %d: %s", answer.StatusCode, text)
	}
	return answer, nil
}
