package mcpproxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"

	"github.com/caddyserver/caddy/v2"
)

// endpointKeys holds the key that endpoints are sealed with, across reloads.
// An endpoint is of use as long as the stream that it came on, and that lives
// in this process: the key need not outlive it.
var endpointKeys = caddy.NewUsagePool()

// endpointKey is a random key.
type endpointKey [sha256.Size]byte

// Destruct implements caddy.Destructor.
func (*endpointKey) Destruct() error { return nil }

// useEndpointKey gives the handler its key; releaseEndpointKey gives it back.
func (h *Handler) useEndpointKey() error {
	value, _, err := endpointKeys.LoadOrNew("", func() (caddy.Destructor, error) {
		key := new(endpointKey)
		_, err := rand.Read(key[:])
		return key, err
	})
	if err != nil {
		return err
	}
	h.holdsKey = true
	if key, ok := value.(*endpointKey); ok {
		h.endpointKey = func(context.Context) ([]byte, error) { return key[:], nil }
	}
	return nil
}

func (h *Handler) releaseEndpointKey() error {
	if !h.holdsKey {
		return nil
	}
	h.holdsKey = false
	_, err := endpointKeys.Delete("")
	return err
}
