// Package app is the Caddy app `mcp`, which the handlers of the gateway load
// on demand. Fetching keys begins when it starts, so that checking a
// configuration (caddy validate) needs no network.
package app

import (
	"sync"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(App{})
}

// ID is the name under which handlers load the app: the module ID below.
const ID = "mcp"

// App starts what the handlers of a configuration need in the background.
// It has no options.
type App struct{ state *state }

type state struct {
	mu      sync.Mutex
	starts  []func()
	started bool

	issuers  []Issuer
	policies []Policy
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mcp", New: func() caddy.Module { return new(App) }}
}

// New returns an app that has nothing to do.
func New() *App { return &App{new(state)} }

// Provision implements caddy.Provisioner.
func (a *App) Provision(caddy.Context) error {
	a.state = new(state)
	return nil
}

// OnStart has start called once the configuration is in use. It must be safe
// to call more than once, and must not block.
func (a *App) OnStart(start func()) {
	a.state.mu.Lock()
	defer a.state.mu.Unlock()
	if a.state.started {
		start()
		return
	}
	a.state.starts = append(a.state.starts, start)
}

// Start implements caddy.App.
func (a *App) Start() error {
	a.state.mu.Lock()
	defer a.state.mu.Unlock()
	a.state.started = true
	for _, start := range a.state.starts {
		start()
	}
	a.state.starts = nil
	return nil
}

// Stop implements caddy.App. What was started belongs to the handlers, which
// end it when they are cleaned up.
func (*App) Stop() error { return nil }

// Interface guards
var (
	_ caddy.Module      = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
	_ caddy.App         = (*App)(nil)
)
