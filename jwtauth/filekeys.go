package jwtauth

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// fileInterval is how often a key set file is looked at. Reading the
// document each time, rather than its time stamp, finds every kind of
// replacement: renamed files, changed links, mounted secrets.
const fileInterval = time.Second

// fileKeys is a key set in a file, which is watched.
type fileKeys struct {
	read   func() ([]byte, error)
	policy keyPolicy
	// observe is told of every change; it may be nil.
	observe func(*keySet, []error, error)

	doc     []byte // what current was read from; the watcher's alone
	current atomic.Pointer[keySet]
	loaded  atomic.Int64 // when, in Unix seconds
	start   sync.Once
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // it ends the goroutine
}

// newFileKeys reads the file, which must be a usable key set by now.
func newFileKeys(read func() ([]byte, error), policy keyPolicy, observe func(*keySet, []error, error)) (*fileKeys, error) {
	f := &fileKeys{read: read, policy: policy, observe: observe}
	f.ctx, f.stop = context.WithCancel(context.Background())
	doc, err := read()
	if err != nil {
		return nil, err
	}
	set, skipped, err := parseKeySet(doc, policy)
	if err != nil {
		return nil, err
	}
	f.doc = doc
	f.current.Store(set)
	f.loaded.Store(time.Now().Unix())
	f.report(set, skipped, nil)
	return f, nil
}

// run begins watching. Calling it again does nothing.
func (f *fileKeys) run() { f.start.Do(func() { go f.watch() }) }

// close ends watching.
func (f *fileKeys) close() { f.stop() }

// watch swaps the set when the file has a usable new one. A broken file
// leaves the old keys in place, and is reported once.
func (f *fileKeys) watch() {
	ticker := time.NewTicker(fileInterval)
	defer ticker.Stop()
	failing := ""
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-ticker.C:
		}
		doc, err := f.read()
		if err == nil && failing == "" && bytes.Equal(doc, f.doc) {
			continue
		}
		var skipped []error
		var set *keySet
		if err == nil {
			set, skipped, err = parseKeySet(doc, f.policy)
		}
		if err != nil {
			if failing != err.Error() {
				failing = err.Error()
				f.report(nil, nil, err)
			}
			continue
		}
		f.doc, failing = doc, ""
		f.current.Store(set)
		f.loaded.Store(time.Now().Unix())
		f.report(set, skipped, nil)
	}
}

func (f *fileKeys) report(set *keySet, skipped []error, err error) {
	if f.observe != nil {
		f.observe(set, skipped, err)
	}
}
