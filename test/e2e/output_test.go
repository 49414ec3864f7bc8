package e2e

import (
	"bytes"
	"fmt"
	"regexp"
	"sync"
	"time"
)

// maxOutput bounds what is kept of a program that does not stop talking.
const maxOutput = 8 << 20

// output is what a program has printed so far. It can be waited for.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced at every change
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.text.Len()+len(p) <= maxOutput {
		o.text.Write(p)
	}
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}

func (o *output) read() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

// wait returns the groups of the first match of pattern, as soon as there is one. It gives up when done is closed.
func (o *output) wait(pattern *regexp.Regexp, done <-chan struct{}, limit time.Duration) ([]string, error) {
	timeout := time.After(limit)
	for {
		text, changed := o.read()
		if match := pattern.FindStringSubmatch(text); match != nil {
			return match, nil
		}
		select {
		case <-changed:
		case <-done:
			// what it printed last may have come together with its end
			if match := pattern.FindStringSubmatch(o.String()); match != nil {
				return match, nil
			}
			return nil, fmt.Errorf("ended without printing %q", pattern)
		case <-timeout:
			return nil, fmt.Errorf("did not print %q within %s", pattern, limit)
		}
	}
}
