package app

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// newConfiguration is one that Caddy has provisioned, but not started.
func newConfiguration(t *testing.T) caddy.Context {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// of returns the app as a handler gets it.
func of(t *testing.T, ctx caddy.Context) *App {
	t.Helper()
	loaded, err := ctx.App(ID)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := loaded.(*App)
	if !ok {
		t.Fatalf("the app is a %T", loaded)
	}
	return a
}

// Nothing runs before the configuration is in use; then everything does,
// once, in its order.
func TestStart(t *testing.T) {
	a := of(t, newConfiguration(t))
	var started []string
	a.OnStart(func() { started = append(started, "a") })
	a.OnStart(func() { started = append(started, "b") })
	if started != nil {
		t.Errorf("%q ran before the start", started)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	a.OnStart(func() { started = append(started, "c") }) // a handler that came late
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(started, want) {
		t.Errorf("%q ran, want %q", started, want)
	}
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
}

// All handlers of a configuration have the same app, those of another one
// another.
func TestOneAppForAConfiguration(t *testing.T) {
	one, another := newConfiguration(t), newConfiguration(t)
	first := of(t, one)
	if of(t, one) != first {
		t.Error("two apps in one configuration")
	}
	ran := false
	of(t, another).OnStart(func() { ran = true })
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	if ran {
		t.Error("the start of one configuration started the other")
	}
}

func TestConcurrentUse(t *testing.T) {
	a := of(t, newConfiguration(t))
	var started atomic.Int64
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			if i == 20 {
				if err := a.Start(); err != nil {
					t.Error(err)
				}
			}
			a.OnStart(func() { started.Add(1) })
		})
	}
	group.Wait()
	if started.Load() != 40 {
		t.Errorf("%d of 40 ran", started.Load())
	}
}

func TestModule(t *testing.T) {
	info := App{}.CaddyModule()
	if first, second := info.New(), info.New(); info.ID != ID || first == second {
		t.Errorf("module %s, a fresh value each time: %v", info.ID, first != second)
	}
	if registered, err := caddy.GetModule(ID); err != nil || registered.ID != info.ID {
		t.Errorf("%v, registered as %s", err, registered.ID)
	}
}
