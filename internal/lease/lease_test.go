package lease

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// generation is one configuration of Caddy, with its handlers' leases.
type generation struct {
	t      *testing.T
	leases []*Lease
}

// configure makes a generation whose handlers have these configurations.
func configure(t *testing.T, configs ...string) *generation {
	t.Helper()
	g := &generation{t: t}
	for _, config := range configs {
		l, err := acquire(g, "test", []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		g.leases = append(g.leases, l)
	}
	return g
}

// cleanUp lets go of a generation.
func (g *generation) cleanUp() {
	g.t.Helper()
	for _, l := range g.leases {
		if err := l.Release(); err != nil {
			g.t.Error(err)
		}
	}
}

// want checks which leases have ended, one letter each: e for ended, l for live.
func (g *generation) want(what, want string) {
	g.t.Helper()
	got := ""
	for _, l := range g.leases {
		if l.Ended() {
			got += "e"
		} else {
			got += "l"
		}
	}
	if got != want {
		g.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// TestReload: what stays in the configuration has not ended, what goes has.
func TestReload(t *testing.T) {
	first := configure(t, "a", "b")
	first.want("first", "ll")
	second := configure(t, "b", "c")
	first.want("both", "ll")
	first.cleanUp()
	first.want("second", "el")
	second.want("second", "ll")
	third := configure(t, "a", "c")
	second.cleanUp()
	// b has gone, and a that has come back is another one
	first.want("third", "ee")
	second.want("third", "el")
	third.cleanUp()
	second.want("nothing", "ee")
	third.want("nothing", "ee")
}

// TestSharedConfiguration: two sites have the same rules, and one of them gets others. Nobody can tell whose streams are
// whose, so all of them end.
func TestSharedConfiguration(t *testing.T) {
	two := configure(t, "a", "a")
	one := configure(t, "a", "b")
	two.cleanUp()
	two.want("one is left", "ee")
	one.want("one is left", "ll")
	more := configure(t, "a", "b", "a")
	one.cleanUp()
	one.want("one more", "ll")
	more.cleanUp()
	one.want("nothing", "ee")
}

// TestRefusedReload: a configuration that turns out wrong comes and goes, and changes nothing.
func TestRefusedReload(t *testing.T) {
	running := configure(t, "a")
	for _, configs := range [][]string{{"a"}, {"a", "a", "b"}, {"b"}, {}} {
		configure(t, configs...).cleanUp()
		running.want("refused", "l")
	}
	running.cleanUp()
	running.want("stopped", "e")
}

// TestManyReloads: neither the pool nor a lease remembers what has gone.
func TestManyReloads(t *testing.T) {
	first := configure(t, "a")
	current := first
	for range 1000 {
		next := configure(t, "a")
		current.cleanUp()
		current = next
		first.want("reloaded", "l")
	}
	if next := first.leases[0].term.successor.Load(); next != current.leases[0].term {
		t.Error("the first term does not point at the last one")
	}
	current.cleanUp()
	first.want("stopped", "e")
	uses.Range(func(key, _ any) bool {
		t.Errorf("the pool still holds %v", key)
		return true
	})
}

func TestRelease(t *testing.T) {
	var none *Lease
	if err := none.Release(); err != nil || !none.Ended() {
		t.Errorf("%v, ended %t", err, none.Ended())
	}
	// what is released twice is not taken from somebody else
	one, other := configure(t, "a"), configure(t, "a")
	one.cleanUp()
	one.cleanUp()
	other.want("released twice", "l")
	other.cleanUp()
	other.want("released", "e")
}

// TestAcquire: the JSON of a handler is its configuration, and two handlers of different kinds never share one.
func TestAcquire(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	type config struct {
		Rules   []json.RawMessage `json:"rules"`
		private int
	}
	var leases []*Lease
	for _, test := range []struct {
		module string
		config any
	}{
		{"m", config{Rules: []json.RawMessage{[]byte("1")}}},
		{"m", config{Rules: []json.RawMessage{[]byte("1")}, private: 1}},
		{"m", config{Rules: []json.RawMessage{[]byte("2")}}},
		{"n", config{Rules: []json.RawMessage{[]byte("1")}}},
	} {
		l, err := Acquire(ctx, test.module, test.config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Release() })
		leases = append(leases, l)
	}
	if leases[0].term != leases[1].term || leases[0].term == leases[2].term || leases[0].term == leases[3].term {
		t.Error("a lease is one of another configuration")
	}
	if l, err := Acquire(ctx, "m", config{Rules: []json.RawMessage{[]byte("{")}}); err == nil || l != nil {
		t.Errorf("%v, %v for what is no JSON", l, err)
	}
}
