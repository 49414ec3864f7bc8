package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// profile runs the load once more and writes down where the time of the
// server went meanwhile, and what it has allocated since it started. These
// are files for `go tool pprof`.
func (c *contestant) profile(ctx context.Context, dir string, duration time.Duration) error {
	if c.setup == goSDK {
		return nil // it has no admin API
	}
	name := filepath.Join(dir, fileName(c.id+" "+c.candidate.name))
	loaded := make(chan error, 1)
	go func() {
		_, err := c.observed(ctx, duration+time.Second) // a little longer than the profile
		loaded <- err
	}()
	err := c.fetchProfile(ctx, fmt.Sprintf("profile?seconds=%d", int(duration.Seconds())), name+".cpu.pprof")
	return errors.Join(err, <-loaded, c.fetchProfile(ctx, "allocs", name+".allocs.pprof"))
}

func (c *contestant) fetchProfile(ctx context.Context, which, file string) error {
	answer, err := c.admin(ctx, which)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, answer, 0o644)
}

// admin asks the admin API of a Caddy for a profile.
func (c *contestant) admin(ctx context.Context, which string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(c.adminPort)+"/debug/pprof/"+which, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("profile %s: status %d", which, answer.StatusCode)
	}
	return io.ReadAll(answer.Body)
}

var notForFiles = regexp.MustCompile(`[^a-z0-9]+`)

// fileName makes a file name of a text.
func fileName(text string) string {
	return strings.Trim(notForFiles.ReplaceAllString(strings.ToLower(text), "-"), "-")
}
