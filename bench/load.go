package main

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed wrk/load.lua
var loadScript []byte

// load has a load generator send calls for a while. Besides the sample it
// returns the CPU time of the generator.
func (c *contestant) load(ctx context.Context, duration time.Duration) (sample, time.Duration, error) {
	before, err := c.lab.requestsSeen(ctx)
	if err != nil {
		return sample{}, 0, err
	}
	run := c.wrk
	if c.h2 {
		run = c.h2load
	}
	s, cpu, err := run(ctx, duration)
	if err != nil {
		return s, cpu, err
	}
	after, err := c.lab.requestsSeen(ctx)
	if err == nil && after-before < s.requests {
		// a refusal may well have the status 200
		err = fmt.Errorf("%d calls were answered, but %d have reached the upstream", s.requests, after-before)
	}
	return s, cpu, err
}

func (c *contestant) wrk(ctx context.Context, duration time.Duration) (sample, time.Duration, error) {
	seconds := max(1, int(math.Round(duration.Seconds()))) // it takes nothing else
	out, cpu, err := command(ctx, c.lab.dir, "taskset", "-c", c.lab.loadCore,
		"wrk", "-t1", "-c", strconv.Itoa(c.connections), "-d", fmt.Sprintf("%ds", seconds), "--timeout", "10s",
		"-s", c.lab.script(), c.url+"?"+c.answer, "--", c.file("body"), c.headersFile, c.file("tokens"))
	if err != nil {
		return sample{}, 0, err
	}
	s, err := parseWrk(out)
	return s, cpu, err
}

// parseWrk reads the line that load.lua prints. An answer that is missing or
// an error spoils the run.
func parseWrk(out string) (s sample, err error) {
	_, line, found := strings.Cut(out, "RESULT ")
	if !found {
		return s, fmt.Errorf("wrk printed no result:\n%s", out)
	}
	line, _, _ = strings.Cut(line, "\n")
	values := map[string]int{}
	for _, field := range strings.Fields(line) {
		name, text, _ := strings.Cut(field, "=")
		if values[name], err = strconv.Atoi(text); err != nil {
			return s, err
		}
	}
	for _, problem := range []string{"connect", "read", "write", "status", "timeout"} {
		if n := values[problem]; n > 0 {
			return s, fmt.Errorf("wrk had %d errors: %s", n, line)
		}
	}
	s.requests = values["requests"]
	s.elapsed = time.Duration(values["duration_us"]) * time.Microsecond
	s.p50 = time.Duration(values["p50_us"]) * time.Microsecond
	s.p99 = time.Duration(values["p99_us"]) * time.Microsecond
	if s.requests == 0 || s.elapsed == 0 {
		return s, fmt.Errorf("wrk: %w: %s", errNothing, line)
	}
	return s, nil
}

func (c *contestant) h2load(ctx context.Context, duration time.Duration) (sample, time.Duration, error) {
	log := c.file("h2load")
	argv := []string{
		"taskset", "-c", c.lab.loadCore, "h2load", "-t1", "-m1", "-c", strconv.Itoa(c.connections),
		"-D", fmt.Sprintf("%dms", duration.Milliseconds()), "--log-file", log, "-d", c.file("body"),
		"-H", "authorization: Bearer " + c.tokens[0],
	}
	for name, values := range c.headers() {
		argv = append(argv, "-H", strings.ToLower(name)+": "+values[0])
	}
	if err := os.RemoveAll(log); err != nil { // it appends
		return sample{}, 0, err
	}
	out, cpu, err := command(ctx, c.lab.dir, append(argv, c.url+"?"+c.answer)...)
	if err != nil {
		return sample{}, 0, err
	}
	latencies, err := os.ReadFile(log)
	if err != nil {
		return sample{}, 0, err
	}
	s, err := parseH2load(out, string(latencies))
	return s, cpu, err
}

var (
	h2loadTotal  = regexp.MustCompile(`finished in ([0-9.]+)(s|ms|us),`)
	h2loadFaults = regexp.MustCompile(`(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	h2loadOK     = regexp.MustCompile(`status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
	h2loadProto  = regexp.MustCompile(`Application protocol: (\S+)`)
)

// parseH2load reads the summary, and the log with the latency of each call.
func parseH2load(out, log string) (s sample, err error) {
	total, faults, status := h2loadTotal.FindStringSubmatch(out), h2loadFaults.FindStringSubmatch(out), h2loadOK.FindStringSubmatch(out)
	proto := h2loadProto.FindStringSubmatch(out)
	if total == nil || faults == nil || status == nil || proto == nil {
		return s, fmt.Errorf("h2load printed no result:\n%s", out)
	}
	if proto[1] != "h2" {
		return s, fmt.Errorf("h2load spoke %s", proto[1])
	}
	for _, n := range append(faults[2:], status[2:]...) {
		if n != "0" {
			return s, fmt.Errorf("h2load had errors: %s; %s", faults[0], status[0])
		}
	}
	if s.elapsed, err = time.ParseDuration(total[1] + total[2]); err != nil {
		return s, err
	}
	if s.requests, err = strconv.Atoi(status[1]); err != nil {
		return s, err
	}
	var latencies []time.Duration
	for line := range strings.Lines(log) {
		fields := strings.Fields(line) // start, status, microseconds
		if len(fields) < 3 {
			return s, fmt.Errorf("not a line of h2load's log: %q", line)
		}
		n, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return s, err
		}
		latencies = append(latencies, time.Duration(n)*time.Microsecond)
	}
	if len(latencies) == 0 || s.requests == 0 || s.elapsed == 0 {
		return s, fmt.Errorf("h2load: %w", errNothing)
	}
	s.p50, s.p99 = percentile(latencies, 50), percentile(latencies, 99)
	return s, nil
}
