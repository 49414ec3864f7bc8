package mcpproxy

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// minKeySize is how many bytes a session_key has at least, and as many
	// as one has that was made here.
	minKeySize = 32
	// keyTimeout bounds one attempt to get the key out of the storage.
	keyTimeout = 5 * time.Second
	// keyCooldown is how long a failure is remembered: a storage that is
	// down is not asked for every request.
	keyCooldown = time.Second
	// keyPath is where the key is in Caddy's storage, and the name of the
	// lock under which it is made.
	keyPath = "mcp/session_key"
)

var (
	errSessionKey = fmt.Errorf("session_key must be at least %d bytes in standard base64, such as `openssl rand -base64 %d` prints", minKeySize, minKeySize)
	errStoredKey  = errors.New("what the storage has at " + keyPath + " is no key; it is not replaced, since other instances may still use the one it was")
	errKeyTimeout = errors.New("the storage does not answer")
)

// keyStorage is what is needed of certmagic.Storage.
type keyStorage interface {
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
	Load(ctx context.Context, key string) ([]byte, error)
	Store(ctx context.Context, key string, value []byte) error
}

// sessionKey is the secret that all keys of a proxy come from: the configured
// one, or one that is made once and kept in Caddy's storage. It is fetched
// when it is first needed, since a configuration that is only checked must
// touch no storage.
type sessionKey struct {
	storage keyStorage
	logger  *zap.Logger
	now     func() time.Time

	mu      sync.Mutex
	attempt *keyAttempt
}

// keyAttempt is one attempt to get the key.
type keyAttempt struct {
	done chan struct{} // closed at its end; what follows is valid then
	key  []byte
	err  error
	end  time.Time
}

// newSessionKey returns the configured key, or the one of a storage if that
// is empty.
func newSessionKey(configured string, storage keyStorage, logger *zap.Logger) (*sessionKey, error) {
	k := &sessionKey{storage: storage, logger: logger, now: time.Now}
	if configured == "" {
		return k, nil
	}
	key, err := decodeKey(configured)
	if err != nil {
		return nil, errSessionKey
	}
	k.attempt = &keyAttempt{done: make(chan struct{}), key: key}
	close(k.attempt.done)
	return k, nil
}

// decodeKey reads a key as it is configured and stored.
func decodeKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err == nil && len(key) < minKeySize {
		err = errSessionKey
	}
	return key, err
}

// derive returns a key for one purpose. The label tells purposes apart, so
// that nothing made for one of them is good for another.
func (k *sessionKey) derive(ctx context.Context, label string) ([]byte, error) {
	key, err := k.get(ctx)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, key, nil, "mcp_proxy "+label, sha256.Size)
}

// get returns the key. All that need it while it is fetched wait for the same
// attempt.
func (k *sessionKey) get(ctx context.Context) ([]byte, error) {
	a := k.current()
	select {
	case <-a.done:
		return a.key, a.err
	default:
	}
	// the storage may ignore the end of its context
	timeout := time.NewTimer(keyTimeout)
	defer timeout.Stop()
	select {
	case <-a.done:
		return a.key, a.err
	case <-timeout.C:
		return nil, errKeyTimeout
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// current returns the attempt that runs or has succeeded, and begins one if
// there is none, or one that failed some time ago.
func (k *sessionKey) current() *keyAttempt {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.attempt != nil {
		select {
		case <-k.attempt.done:
			if k.attempt.err == nil || k.now().Sub(k.attempt.end) < keyCooldown {
				return k.attempt
			}
		default:
			return k.attempt
		}
	}
	a := &keyAttempt{done: make(chan struct{})}
	k.attempt = a
	go func() {
		defer close(a.done)
		ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
		defer cancel()
		a.key, a.err = loadOrMakeKey(ctx, k.storage)
		a.end = k.now()
		if a.err != nil {
			k.logger.Error("the session key cannot be had; sessions are answered 503", zap.Error(a.err))
		}
	}()
	return a
}

// loadOrMakeKey returns the key of a storage. It makes one only if the storage
// says that there is none: after any other error there may be one.
func loadOrMakeKey(ctx context.Context, storage keyStorage) (key []byte, err error) {
	if key, err = loadKey(ctx, storage); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := storage.Lock(ctx, keyPath); err != nil {
		return nil, err
	}
	defer func() {
		// what is done is done, also if there was no time left for it
		if unlockErr := storage.Unlock(context.WithoutCancel(ctx), keyPath); unlockErr != nil && err == nil {
			key, err = nil, unlockErr
		}
	}()
	if key, err = loadKey(ctx, storage); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	fresh := make([]byte, minKeySize)
	if _, err := rand.Read(fresh); err != nil {
		return nil, err
	}
	if err := storage.Store(ctx, keyPath, []byte(base64.StdEncoding.EncodeToString(fresh))); err != nil {
		return nil, err
	}
	// locks of storages are not perfect; what is there now is what others get
	return loadKey(ctx, storage)
}

func loadKey(ctx context.Context, storage keyStorage) ([]byte, error) {
	text, err := storage.Load(ctx, keyPath)
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(string(text))
	if err != nil {
		return nil, errStoredKey
	}
	return key, nil
}
