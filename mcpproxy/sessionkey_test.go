package mcpproxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// memory is a storage that does as it is told.
type memory struct {
	mu     sync.Mutex
	lock   sync.Mutex
	values map[string][]byte
	calls  []string

	// fail is asked before each call.
	fail func(ctx context.Context, call string) error
}

func (m *memory) call(ctx context.Context, name string) error {
	m.mu.Lock()
	m.calls = append(m.calls, name)
	fail := m.fail
	m.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(ctx, name)
}

func (m *memory) Lock(ctx context.Context, _ string) error {
	if err := m.call(ctx, "lock"); err != nil {
		return err
	}
	m.lock.Lock()
	return nil
}

func (m *memory) Unlock(ctx context.Context, _ string) error {
	m.lock.Unlock()
	return m.call(ctx, "unlock")
}

func (m *memory) Load(ctx context.Context, key string) ([]byte, error) {
	if err := m.call(ctx, "load"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return value, nil
}

func (m *memory) Store(ctx context.Context, key string, value []byte) error {
	if err := m.call(ctx, "store"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[string][]byte{}
	}
	m.values[key] = bytes.Clone(value)
	return nil
}

func (m *memory) count(name string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, call := range m.calls {
		if call == name {
			n++
		}
	}
	return n
}

// failing makes one kind of call fail.
func failing(name string, err error) func(context.Context, string) error {
	return func(_ context.Context, call string) error {
		if call == name {
			return err
		}
		return nil
	}
}

func storedKey(t *testing.T, storage keyStorage) *sessionKey {
	t.Helper()
	k, err := newSessionKey("", storage, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// goodKey is a session_key.
var goodKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), minKeySize))

func TestConfiguredKey(t *testing.T) {
	for what, text := range map[string]string{
		"32 bytes":           goodKey,
		"64 bytes":           base64.StdEncoding.EncodeToString(make([]byte, 64)),
		"a line end":         goodKey + "\n",
		"printed in 2 lines": goodKey[:20] + "\n" + goodKey[20:] + "\n",
	} {
		if _, err := newSessionKey(text, nil, nil); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, text := range map[string]string{
		"31 bytes":   base64.StdEncoding.EncodeToString(make([]byte, minKeySize-1)),
		"hex":        strings.Repeat("0f", 15),
		"no base64":  "secret secret secret secret secret secret secret",
		"no padding": strings.TrimRight(goodKey, "="),
		"base64url":  strings.Repeat("-_", 32),
	} {
		k, err := newSessionKey(text, nil, nil)
		if !errors.Is(err, errSessionKey) || k != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the key is in the error: %v", what, err)
		}
	}
}

// TestDerive: each purpose has a key of its own, and all instances the same.
func TestDerive(t *testing.T) {
	one, err := newSessionKey(goodKey, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	two, err := newSessionKey(goodKey+"\n", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	derive := func(k *sessionKey, label string) []byte {
		key, err := k.derive(t.Context(), label)
		if err != nil || len(key) != 32 {
			t.Fatalf("%d bytes, %v", len(key), err)
		}
		return key
	}
	if !bytes.Equal(derive(one, "a"), derive(two, "a")) {
		t.Error("two instances with one key differ")
	}
	if bytes.Equal(derive(one, "a"), derive(one, "b")) {
		t.Error("two purposes have the same key")
	}
	if raw, _ := decodeKey(goodKey); bytes.Equal(derive(one, "a"), raw) {
		t.Error("the key itself is used")
	}
}

// TestKeyIsMadeOnce: instances that need the key at the same time get the same one, and it stays.
func TestKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	const instances, requests = 4, 8
	keys := make(chan []byte, instances*requests)
	var running sync.WaitGroup
	for range instances {
		// as many processes that have the storage in common
		k := storedKey(t, newContextIn(t, dir).Storage())
		for range requests {
			running.Go(func() {
				key, err := k.get(t.Context())
				if err != nil {
					t.Error(err)
				}
				keys <- key
			})
		}
	}
	running.Wait()
	close(keys)
	first := <-keys
	for key := range keys {
		if !bytes.Equal(key, first) {
			t.Fatal("there are two keys")
		}
	}
	if len(first) != minKeySize || bytes.Equal(first, make([]byte, minKeySize)) {
		t.Errorf("the key is %d bytes", len(first))
	}
	later := storedKey(t, newContextIn(t, dir).Storage())
	if key, err := later.get(t.Context()); err != nil || !bytes.Equal(key, first) {
		t.Errorf("a later instance: another key, or %v", err)
	}
	file := filepath.Join(dir, filepath.FromSlash(keyPath))
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can read the key: %v", info.Mode())
	}
	other := storedKey(t, newContextIn(t, t.TempDir()).Storage())
	if key, err := other.get(t.Context()); err != nil || bytes.Equal(key, first) {
		t.Errorf("another storage: the same key, or %v", err)
	}
}

// TestSingleFlight: all requests of an instance wait for one attempt.
func TestSingleFlight(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	m := &memory{fail: func(context.Context, string) error {
		select {
		case arrived <- struct{}{}:
		default:
		}
		<-release
		return nil
	}}
	k := storedKey(t, m)
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			if _, err := k.get(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	<-arrived
	close(release)
	running.Wait()
	if _, err := k.get(t.Context()); err != nil {
		t.Error(err)
	}
	if want := []string{"load", "lock", "load", "store", "load", "unlock"}; !slices.Equal(m.calls, want) {
		t.Errorf("the storage was asked %q, want %q", m.calls, want)
	}
}

// TestNeverAFreshKey: a key is made only where there is none. After every fault the storage is what it was.
func TestNeverAFreshKey(t *testing.T) {
	broken := errors.New("broken")
	for what, test := range map[string]struct {
		fail   func(context.Context, string) error
		stored string
		want   error
	}{
		"reading fails":      {fail: failing("load", broken), want: broken},
		"no permission":      {fail: failing("load", fs.ErrPermission), want: fs.ErrPermission},
		"locking fails":      {fail: failing("lock", broken), want: broken},
		"storing fails":      {fail: failing("store", broken), want: broken},
		"unlocking fails":    {fail: failing("unlock", broken), want: broken},
		"an empty key":       {stored: "\n", want: errStoredKey},
		"a short key":        {stored: base64.StdEncoding.EncodeToString(make([]byte, minKeySize-1)), want: errStoredKey},
		"half of a key":      {stored: goodKey[:len(goodKey)/2+1], want: errStoredKey},
		"something else":     {stored: "-----BEGIN PRIVATE KEY-----", want: errStoredKey},
		"stored, but not to": {fail: forgetful(), want: fs.ErrNotExist},
	} {
		m := &memory{values: map[string][]byte{}, fail: test.fail}
		if test.stored != "" {
			m.values[keyPath] = []byte(test.stored)
		}
		key, err := storedKey(t, m).get(t.Context())
		if !errors.Is(err, test.want) || key != nil {
			t.Errorf("%s: %d bytes, %v, want %v", what, len(key), err, test.want)
		}
		if test.stored != "" && (m.count("store") != 0 || string(m.values[keyPath]) != test.stored) {
			t.Errorf("%s: it was replaced", what)
		}
		if test.stored != "" && err != nil && strings.Contains(err.Error(), strings.TrimSpace(test.stored)) && len(test.stored) > 1 {
			t.Errorf("%s: what was stored is in the error: %v", what, err)
		}
	}
}

// forgetful is a storage without a memory.
func forgetful() func(context.Context, string) error {
	return func(_ context.Context, call string) error {
		if call == "load" {
			return fs.ErrNotExist
		}
		return nil
	}
}

// TestEmptyKey: the file is there, but empty, as after a crash.
func TestEmptyKey(t *testing.T) {
	m := &memory{values: map[string][]byte{keyPath: {}}}
	if key, err := storedKey(t, m).get(t.Context()); !errors.Is(err, errStoredKey) || key != nil || m.count("store") != 0 {
		t.Errorf("%d bytes, %v", len(key), err)
	}
}

// TestAnotherInstanceWasFaster: the key of the one that had the lock first is taken.
func TestAnotherInstanceWasFaster(t *testing.T) {
	m := &memory{}
	m.fail = func(_ context.Context, call string) error {
		if call == "lock" {
			m.mu.Lock()
			m.values = map[string][]byte{keyPath: []byte(goodKey)}
			m.mu.Unlock()
		}
		return nil
	}
	want, _ := decodeKey(goodKey)
	if key, err := storedKey(t, m).get(t.Context()); err != nil || !bytes.Equal(key, want) || m.count("store") != 0 {
		t.Errorf("another key, or %v", err)
	}
}

// TestKeyCooldown: a storage that is down is asked now and then, and said so once a time.
func TestKeyCooldown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		m := &memory{fail: failing("load", broken)}
		core, logs := observer.New(zapcore.DebugLevel)
		k, err := newSessionKey("", m, zap.New(core))
		if err != nil {
			t.Fatal(err)
		}
		ask := func(want error, attempts int) {
			t.Helper()
			for range 100 {
				if _, err := k.get(t.Context()); !errors.Is(err, want) {
					t.Fatalf("%v, want %v", err, want)
				}
			}
			if got := m.count("load"); got != attempts {
				t.Errorf("the storage was asked %d times, want %d", got, attempts)
			}
		}
		ask(broken, 1)
		time.Sleep(keyCooldown)
		ask(broken, 2)
		if entries := logs.All(); len(entries) != 2 || entries[0].Level != zapcore.ErrorLevel {
			t.Errorf("log: %v", entries)
		}
		m.mu.Lock()
		m.fail, m.values = nil, map[string][]byte{keyPath: []byte(goodKey)}
		m.mu.Unlock()
		ask(broken, 2)
		time.Sleep(keyCooldown)
		ask(nil, 3)
		time.Sleep(time.Hour)
		ask(nil, 3)
	})
}

// TestStuckStorage: nobody waits forever, whatever the storage does.
func TestStuckStorage(t *testing.T) {
	for what, honest := range map[string]bool{"it honours its context": true, "it does not": false} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			k := storedKey(t, &memory{fail: func(ctx context.Context, _ string) error {
				if honest {
					<-ctx.Done()
					return ctx.Err()
				}
				<-release
				return errors.New("released")
			}})
			begin := time.Now()
			_, err := k.get(t.Context())
			if err == nil || time.Since(begin) != keyTimeout {
				t.Errorf("%s: %v after %v", what, err, time.Since(begin))
			}
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			begin = time.Now()
			if _, err := k.get(gone); err == nil || time.Since(begin) != 0 {
				t.Errorf("%s, a client that has gone: %v after %v", what, err, time.Since(begin))
			}
		})
	}
}
