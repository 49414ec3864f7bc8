package jwtauth

import (
	"context"
	"errors"
	"slices"
)

// keySource gives the verifier the keys of one issuer.
type keySource interface {
	// find returns the key of a token. It may wait for a fetch.
	find(ctx context.Context, t *token) (*key, error)
	// check reports whether a key that find once returned may still be
	// used: errKeyReplaced when it is no longer in the set.
	check(k *key) error
}

var errKeyReplaced = errors.New("the key is no longer in the set")

// staticKeys is a key set that is part of the configuration.
type staticKeys struct{ set *keySet }

func (s staticKeys) find(_ context.Context, t *token) (*key, error) { return s.set.lookup(t) }
func (staticKeys) check(*key) error                                 { return nil }

// find implements keySource.
func (f *fileKeys) find(_ context.Context, t *token) (*key, error) { return f.current.Load().lookup(t) }

// check implements keySource.
func (f *fileKeys) check(k *key) error { return f.current.Load().check(k) }

// check implements keySource.
func (r *remoteKeys) check(k *key) error {
	set, err := r.keys()
	if err != nil {
		return err
	}
	return set.check(k)
}

// check reports whether a key is in the set.
func (s *keySet) check(k *key) error {
	if k.kid != "" && s.byID[k.kid] == k || k.kid == "" && slices.Contains(s.all, k) {
		return nil
	}
	return errKeyReplaced
}
