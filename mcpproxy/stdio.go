package mcpproxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/mcpproxy/stdio"
)

// Stdio is an MCP server that the gateway starts itself and speaks to over
// its stdin and stdout. Every session has a process of its own; stateless
// requests share one for each principal.
type Stdio struct {
	// The program. A name without a slash is looked up in the PATH of Caddy,
	// when a process is started.
	Command string `json:"command,omitempty"`

	// Its arguments.
	Args []string `json:"args,omitempty"`

	// Its working directory. Default: the one of Caddy.
	Dir string `json:"dir,omitempty"`

	// Its environment, all of it: nothing is inherited, PATH and HOME
	// neither.
	Env map[string]string `json:"env,omitempty"`

	// A process ends when nobody has said anything to it, and it has said
	// nothing, for this long. Default: 10m.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// How many processes run at a time, 4096 at most. Of them, 8 at most are
	// of one principal. Default: 64.
	MaxProcesses int `json:"max_processes,omitempty"`

	bridge *pooledBridge
	// poolID is what the pool knows the bridge by; "" once it is given back.
	poolID string
}

// Errors of a configuration.
var (
	errBothKinds   = errors.New("mcp_proxy has either upstreams or stdio")
	errNoCommand   = errors.New("stdio needs a command")
	errProxyOption = errors.New("stdio takes no options of reverse_proxy")
	errEnvName     = errors.New("the name of an environment variable is not empty and has neither = nor NUL")
	errNUL         = errors.New("stdio: a NUL cannot be part of a command, an argument, a path or a variable")
	errIdle        = fmt.Errorf("idle_timeout must be between 1ms and %s", stdio.MaxIdleTimeout)
	errProcesses   = fmt.Errorf("max_processes must be between 1 and %d", stdio.MaxMaxProcesses)
)

// bridgePool holds the processes across reloads: a reload that leaves a
// server as it was ends no session.
var bridgePool = caddy.NewUsagePool()

// pooledBridge is a bridge in the pool.
type pooledBridge struct {
	*stdio.Bridge
	closed chan struct{}
}

// exitPoll is how often is looked whether Caddy is about to exit, and
// exitGrace how long calls may take until then. Caddy waits for open requests
// before it cleans up, so that a call that hangs would hold it up forever.
const (
	exitPoll  = 200 * time.Millisecond
	exitGrace = 10 * time.Second
)

// provision gets the bridge. It starts no process.
func (s *Stdio) provision(proxy *reverseproxy.Handler) error {
	if err := s.check(proxy); err != nil {
		return err
	}
	cfg := stdio.Config{
		Command: s.Command, Args: s.Args, Dir: s.Dir,
		IdleTimeout: time.Duration(s.IdleTimeout), MaxProcesses: s.MaxProcesses,
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		cfg.Env = append(cfg.Env, name+"="+s.Env[name])
	}
	// values may be secrets, and keys of the pool end up in messages
	id := fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%#v", cfg)))
	value, _, err := bridgePool.LoadOrNew(id, func() (caddy.Destructor, error) {
		p := &pooledBridge{Bridge: stdio.New(cfg, stdioLogger), closed: make(chan struct{})}
		go p.watchExit()
		return p, nil
	})
	if err != nil {
		return err
	}
	s.poolID = id
	var ok bool
	if s.bridge, ok = value.(*pooledBridge); !ok {
		return fmt.Errorf("the pool holds a %T", value)
	}
	return nil
}

// check fills in the defaults and says what is wrong.
func (s *Stdio) check(proxy *reverseproxy.Handler) error {
	if len(proxy.Upstreams) > 0 || proxy.DynamicUpstreamsRaw != nil {
		return errBothKinds
	}
	// compared as JSON: that is how it has been written
	got, err := json.Marshal(proxy)
	if err != nil {
		return err
	}
	if want, err := json.Marshal(new(reverseproxy.Handler)); err != nil || !bytes.Equal(got, want) {
		return errors.Join(errProxyOption, err)
	}
	if err := cfutil.Expand(&s.Command, &s.Dir); err != nil {
		return err
	}
	if err := cfutil.ExpandAll(s.Args); err != nil {
		return err
	}
	texts := append([]string{s.Command, s.Dir}, s.Args...)
	for name, value := range s.Env {
		if err := cfutil.Expand(&value); err != nil {
			return err
		}
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return errEnvName
		}
		s.Env[name] = value
		texts = append(texts, value)
	}
	if s.IdleTimeout == 0 {
		s.IdleTimeout = caddy.Duration(stdio.DefaultIdleTimeout)
	}
	if s.MaxProcesses == 0 {
		s.MaxProcesses = stdio.DefaultMaxProcesses
	}
	switch {
	case s.Command == "":
		return errNoCommand
	case slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, "\x00") }):
		return errNUL
	case time.Duration(s.IdleTimeout) < time.Millisecond, time.Duration(s.IdleTimeout) > stdio.MaxIdleTimeout:
		return errIdle
	case s.MaxProcesses < 0, s.MaxProcesses > stdio.MaxMaxProcesses:
		return errProcesses
	}
	return nil
}

// cleanup gives the bridge back; the last one ends the processes. Requests of
// a configuration that was replaced may still come to the bridge, which
// refuses them once it is closed.
func (s *Stdio) cleanup() error {
	id := s.poolID
	if id == "" {
		return nil
	}
	s.poolID = ""
	_, err := bridgePool.Delete(id)
	return err
}

// backend is what is behind the checks of mcp_proxy: upstreams, or processes.
func (h *Handler) backend(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.Stdio == nil {
		return h.Handler.ServeHTTP(w, r, next)
	}
	state := reqctx.From(r.Context())
	if state == nil {
		state = new(reqctx.State)
	}
	caller := stdio.Caller{Principal: state.Identity.Principal(), Message: state.Message}
	if x := exchangeOf(r.Context()); x != nil {
		caller.Lasts = x.watch
	}
	if reason := h.Stdio.bridge.ServeHTTP(w, r, caller); reason != "" {
		logReason(r, reason)
	}
	return nil
}

// stdioLogger is the logger of the configuration in use, which is not always
// the one that made the bridge.
func stdioLogger() *zap.Logger { return caddy.Log().Named("http.handlers.mcp_proxy.stdio") }

// Destruct implements caddy.Destructor. It waits for the end of all
// processes, which takes a few seconds at most.
func (p *pooledBridge) Destruct() error {
	close(p.closed)
	p.Close()
	return nil
}

// watchExit starts no process any more when Caddy is about to exit, and ends
// them all when calls take too long then.
func (p *pooledBridge) watchExit() {
	ticker := time.NewTicker(exitPoll)
	defer ticker.Stop()
	for !caddy.Exiting() {
		select {
		case <-ticker.C:
		case <-p.closed:
			return
		}
	}
	p.StartNoMore()
	select {
	case <-time.After(exitGrace):
		p.Close()
	case <-p.closed:
	}
}
