package jwtauth

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddymcp/gateway/internal/mcptest"
)

// fakeFile is a file whose content the test chooses.
type fakeFile struct {
	mu    sync.Mutex
	doc   string
	err   error
	reads int
}

func (f *fakeFile) read() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return []byte(f.doc), f.err
}

// count returns how often the file was read.
func (f *fakeFile) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

func (f *fakeFile) write(doc string) { f.change(doc, nil) }

func (f *fakeFile) remove() { f.change("", os.ErrNotExist) }

func (f *fakeFile) change(doc string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doc, f.err = doc, err
}

// observed is what a fileKeys reports.
type observed struct {
	mu     sync.Mutex
	events []string
}

func (o *observed) observe(set *keySet, skipped []error, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	event := "error"
	if err == nil {
		event = strings.Join(set.kids(), " ") + strings.Repeat(" skipped", len(skipped))
	}
	o.events = append(o.events, event)
}

// since returns what was reported since the last time.
func (o *observed) since() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	events := o.events
	o.events = nil
	return events
}

// A file is looked at each second. Whatever happens to it, there are keys.
func TestFileIsWatched(t *testing.T) {
	rsaKey, ecKey := mcptest.Set(rsaOnce()), mcptest.Set(ecOnce())
	synctest.Test(t, func(t *testing.T) {
		file := &fakeFile{doc: rsaKey}
		told := new(observed)
		f, err := newFileKeys(file.read, keyPolicy{}, told.observe)
		if err != nil {
			t.Fatal(err)
		}
		defer synctest.Wait()
		defer f.close()
		time.Sleep(time.Hour)
		if reads := file.count(); reads != 1 {
			t.Errorf("%d reads before the app has started", reads)
		}
		f.run()
		f.run()
		time.Sleep(time.Minute + time.Millisecond)
		if reads := file.count(); reads != 61 {
			t.Errorf("%d reads in a minute", reads-1)
		}

		for _, step := range []struct {
			name   string
			change func()
			kids   string
			told   []string
		}{
			{"as it was", func() {}, "rsa", []string{"rsa"}},
			{"new", func() { file.write(ecKey) }, "ec", []string{"ec"}},
			{"same", func() { file.write(ecKey) }, "ec", nil},
			{"another blank", func() { file.write(ecKey + "\n") }, "ec", []string{"ec"}},
			{"broken", func() { file.write(rsaKey[:100]) }, "ec", []string{"error"}},
			{"broken otherwise", func() { file.write(`{"keys":[]}`) }, "ec", []string{"error"}},
			{"whole again", func() { file.write(rsaKey) }, "rsa", []string{"rsa"}},
			{"gone", file.remove, "rsa", []string{"error"}},
			{"still gone", file.remove, "rsa", nil},
			{"back as it was", func() { file.write(rsaKey) }, "rsa", []string{"rsa"}},
			{"unreadable", func() { file.change("", errors.New("permission denied")) }, "rsa", []string{"error"}},
			{"another one", func() { file.write(mcptest.Set(rsaOnce(), ecOnce())) }, "ec rsa", []string{"ec rsa"}},
			{"one key broken", func() { file.write(mcptest.Set(jwkOf(rsaOnce(), claims{"use": "enc"}), ecOnce())) }, "ec", []string{"ec skipped"}},
			{"too large", func() { file.write(rsaKey + strings.Repeat(" ", maxKeySetSize)) }, "ec", []string{"error"}},
			{"a secret", func() { file.write(mcptest.Set(mcptest.NewKey("HS256", "s"))) }, "ec", []string{"error"}},
		} {
			before := f.current.Load()
			step.change()
			time.Sleep(10 * time.Second)
			if got := strings.Join(f.current.Load().kids(), " "); got != step.kids {
				t.Errorf("%s: keys %q, want %q", step.name, got, step.kids)
			}
			events := told.since()
			if !slices.Equal(events, step.told) {
				t.Errorf("%s: told %q, want %q", step.name, events, step.told)
			}
			// keys that did not change stay the same: their tokens stay verified
			if untouched := len(events) == 0 || events[0] == "error"; untouched && f.current.Load() != before {
				t.Errorf("%s: another set", step.name)
			}
		}
		f.close()
		synctest.Wait()
		reads := file.count()
		time.Sleep(time.Hour)
		if file.count() != reads {
			t.Error("read after it was closed")
		}
	})
}

// A file that cannot be used is an error when the configuration loads.
func TestFileMustBeUsable(t *testing.T) {
	for name, file := range map[string]*fakeFile{
		"missing": {err: os.ErrNotExist}, "empty": {}, "broken": {doc: "{"}, "no keys": {doc: `{"keys":[]}`},
	} {
		if f, err := newFileKeys(file.read, keyPolicy{}, nil); err == nil || f != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFileKeySource(t *testing.T) {
	file := &fakeFile{doc: mcptest.Set(rsaOnce())}
	synctest.Test(t, func(t *testing.T) {
		f, err := newFileKeys(file.read, keyPolicy{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer synctest.Wait()
		defer f.close()
		f.run()
		k, err := f.find(t.Context(), tokenOf("rsa"))
		if err != nil || f.check(k) != nil {
			t.Fatalf("%v, %v", err, f.check(k))
		}
		if _, err := f.find(t.Context(), tokenOf("ec")); err == nil {
			t.Error("a key that is not there")
		}
		file.write(mcptest.Set(ecOnce()))
		time.Sleep(2 * fileInterval)
		if _, err := f.find(t.Context(), tokenOf("ec")); err != nil {
			t.Error(err)
		}
		if err := f.check(k); !errors.Is(err, errKeyReplaced) {
			t.Errorf("a key that has gone: %v", err)
		}
	})
}

// Every way in which people replace files, with real ones. A fake clock
// saves the waiting: reading a file takes none of its time.
func TestFileReplacement(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, key *mcptest.Key) string {
		file := filepath.Join(dir, name)
		must(os.WriteFile(file, []byte(mcptest.Set(key)), 0o600))
		return file
	}
	key := func(kid string) *mcptest.Key { return ecOnce().As("ES256", kid) }
	mount := func(version string, k *mcptest.Key) {
		must(os.Mkdir(filepath.Join(dir, version), 0o700))
		put(filepath.Join(version, "keys.json"), k)
		next := filepath.Join(dir, "..data_tmp")
		must(os.Symlink(version, next))
		must(os.Rename(next, filepath.Join(dir, "..data")))
	}
	put("keys.json", key("first"))
	synctest.Test(t, func(t *testing.T) {
		told := new(observed)
		f, err := newFileKeys(func() ([]byte, error) { return readFile(path) }, keyPolicy{}, told.observe)
		must(err)
		defer synctest.Wait()
		defer f.close()
		f.run()
		time.Sleep(fileInterval / 2) // never at the same moment as the watcher
		for _, step := range []struct {
			kid     string
			replace func()
		}{
			{"renamed", func() { must(os.Rename(put("new.json", key("renamed")), path)) }},
			{"in place", func() { put("keys.json", key("in place")) }},
			{"same time and size", func() {
				info, err := os.Stat(path)
				must(err)
				put("keys.json", key("same time and size"))
				must(os.Chtimes(path, info.ModTime(), info.ModTime()))
			}},
			{"a link", func() {
				must(os.Remove(path))
				must(os.Symlink(put("a.json", key("a link")), path))
			}},
			{"another link", func() {
				must(os.Symlink(put("b.json", key("another link")), filepath.Join(dir, "link")))
				must(os.Rename(filepath.Join(dir, "link"), path))
			}},
			{"behind the link", func() { put("b.json", key("behind the link")) }},
			// as Kubernetes mounts secrets
			{"mounted", func() {
				mount("v1", key("mounted"))
				must(os.Remove(path))
				must(os.Symlink(filepath.Join("..data", "keys.json"), path))
			}},
			{"mounted anew", func() { mount("v2", key("mounted anew")) }},
		} {
			told.since()
			step.replace()
			time.Sleep(2 * fileInterval)
			if got := f.current.Load().kids(); !slices.Equal(got, []string{step.kid}) {
				t.Errorf("%s: keys %q", step.kid, got)
			}
			if got := told.since(); !slices.Equal(got, []string{step.kid}) {
				t.Errorf("%s: told %q", step.kid, got)
			}
		}
		// what is no file any more leaves the keys in place
		must(os.Remove(path))
		must(os.Mkdir(path, 0o700))
		time.Sleep(2 * fileInterval)
		if got := f.current.Load().kids(); !slices.Equal(got, []string{"mounted anew"}) {
			t.Errorf("keys %q", got)
		}
	})
}

// A set is swapped as a whole, while it is used.
func TestFileSwapIsAtomic(t *testing.T) {
	one := mcptest.Set(ecOnce().As("ES256", "a"), ecOnce().As("ES256", "b"))
	two := mcptest.Set(ecOnce().As("ES256", "c"), ecOnce().As("ES256", "d"))
	synctest.Test(t, func(t *testing.T) {
		file := &fakeFile{doc: one}
		f, err := newFileKeys(file.read, keyPolicy{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer synctest.Wait()
		defer f.close()
		f.run()
		var users sync.WaitGroup
		for range 8 {
			users.Go(func() {
				for range 500 {
					if got := strings.Join(f.current.Load().kids(), " "); got != "a b" && got != "c d" {
						t.Errorf("keys %q", got)
					}
					for _, kid := range []string{"a", "c"} {
						if k, err := f.find(t.Context(), tokenOf(kid)); err == nil && k.kid != kid {
							t.Errorf("found %s for %s", k.kid, kid)
						}
					}
					time.Sleep(37 * time.Millisecond)
				}
			})
		}
		for i := range 18 {
			file.write([]string{two, one, one[:50]}[i%3])
			time.Sleep(fileInterval)
		}
		users.Wait()
	})
}
