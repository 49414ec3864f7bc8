package main

import (
	"debug/buildinfo"
	"errors"
	"math"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// invented are results in which plain Caddy needs 100 us for a call, and
// everybody else 150, at the same rate.
func invented() results {
	var r results
	for _, g := range groups() {
		for i, c := range g.candidates {
			s := sample{requests: 1000, elapsed: time.Second, cpu: 100 * time.Millisecond, p50: time.Millisecond, p99: time.Second, live: 1000, resident: 500}
			if i > 0 {
				s.cpu, s.p50, s.live = 150*time.Millisecond, 1005*time.Microsecond, 1100
			}
			r.groups = append(r.groups, result{group: g, candidate: c, runs: []sample{s, s, s}})
		}
	}
	r.goBenchmarks = parseGoBenchmarks(`
BenchmarkVerify/RS256    	 100	 30000 ns/op	 1000 B/op	 40 allocs/op
BenchmarkBareRSA         	 100	 25000 ns/op	  500 B/op	  9 allocs/op
BenchmarkChain/nothing   	 100	 15000 ns/op	  217 B/answer	 10000 B/op	 49 allocs/op
BenchmarkChain/call      	 100	 40000 ns/op	  217 B/answer	 17000 B/op	 89 allocs/op
BenchmarkChain/list_1000 	 100	 40000 ns/op	  1000 B/answer	  2000 B/op	  9 allocs/op
`)
	return r
}

// Every goal must find what it is about: a group or a candidate that has got
// another name would never be measured again.
func TestGoals(t *testing.T) {
	r := invented()
	verdicts := map[string]string{}
	for _, g := range goals() {
		value := g.value(r)
		if math.IsNaN(value) {
			t.Errorf("nothing is measured for: %s", g.text)
		}
		verdicts[g.text] = g.verdict(value) + " " + number(value, g.unit)
		if got := g.verdict(g.value(results{})); got != "not measured" {
			t.Errorf("%s: %s, without any result", g.text, got)
		}
	}
	for text, want := range map[string]string{
		"calls/s with everything on, cached token, 16 connections, against plain": "**not met** 1.00x",
		"the same with TLS and HTTP/2":                                            "met 1.00x",
		"CPU of a call beyond plain, everything on":                               "**not met** 50.00 µs",
		"CPU of a request with a body of 1 MB against plain":                      "met 1.50x",
		"memory of an idle stream against plain, 1,000 streams":                   "**not met** 1.10x",
		"added to an event beyond plain, median":                                  "met 5.00 µs",
		"first use of an RS256 token against the RSA verification alone":          "met 1.20x",
		"bytes allocated for that list against its size":                          "met 2.00x",
		"allocations of mcp_jwt and mcp_authorize for one call":                   "**not met** 40.00",
	} {
		if verdicts[text] != want {
			t.Errorf("%s: %q, want %q", text, verdicts[text], want)
		}
	}
}

func TestReport(t *testing.T) {
	r := invented()
	r.groups[1].disturbed = true
	r.groups[2].err = errors.New("it | broke\nin the second line")
	text := report(r, plan{runs: 3, duration: time.Second}, []string{"Caddy v2"}, time.Unix(0, 0).UTC())
	for _, want := range []string{
		"Measured on 1970-01-01", "Medians of 3 runs of 1s each", "- Caddy v2\n",
		"| 16 connections | plain reverse_proxy | 1,000 |  | 100 |  |  | 1,000 |  | 1,000,000 |  | 10 % |\n",
		"| 16 connections | everything on † | 1,000 | 1.00 | 150 | 1.50 | 50.00 | 1,005 | 1.00 | 1,000,000 | 1.00 | 15 % |\n",
		"| failed: it / broke |",
		"| 1,000 idle streams | everything on | 1.1 | 1.10 | 0.5 | 1.00 |\n",
		"| Verify/RS256 | 30µs | 1,000 | 40 |\n",
		"\n† Something else",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	columns := 0
	for line := range strings.Lines(text) {
		switch n := strings.Count(line, "|"); {
		case n == 0:
			columns = 0
		case columns == 0:
			columns = n
		case n != columns:
			t.Errorf("%d cells instead of %d: %s", n-1, columns-1, line)
		}
	}
}

func TestParseGoBenchmarks(t *testing.T) {
	got := parseGoBenchmarks(`goos: linux
pkg: example.com/a
BenchmarkA/10B   100   30 ns/op   5.5 MB/s   8 B/op   2 allocs/op
BenchmarkB       100   1 ns/op
BenchmarkA/10B   100   10 ns/op   5.5 MB/s   8 B/op   2 allocs/op
BenchmarkA/10B   100   20 ns/op   5.5 MB/s   8 B/op   3 allocs/op
PASS
ok  	example.com/a	1.0s
`)
	if strings.Join(got.names, " ") != "BenchmarkA/10B BenchmarkB" {
		t.Errorf("names %q", got.names)
	}
	if got.time("BenchmarkA/10B") != 20 || got.metric("BenchmarkA/10B", "allocs/op") != 2 || got.metric("BenchmarkA/10B", "MB/s") != 5.5 {
		t.Errorf("values %v", got.values)
	}
	if !math.IsNaN(got.metric("BenchmarkB", "allocs/op")) || !math.IsNaN(got.time("BenchmarkC")) {
		t.Error("something is known that was not measured")
	}
}

func TestSameVersions(t *testing.T) {
	built := func(deps ...string) *buildinfo.BuildInfo {
		info := &buildinfo.BuildInfo{GoVersion: "go1.26"}
		for _, dep := range deps {
			path, version, _ := strings.Cut(dep, "@")
			info.Deps = append(info.Deps, &debug.Module{Path: path, Version: version})
		}
		return info
	}
	caddy := caddyModule + "@v2"
	if err := sameVersions(built(caddy, "a@v1"), built("a@v1", "b@v3", caddy)); err != nil {
		t.Error(err)
	}
	other := built(caddy)
	other.GoVersion = "go1.27"
	for _, pair := range [][2]*buildinfo.BuildInfo{
		{built(caddy, "a@v1"), built(caddy, "a@v2")},
		{built(caddy, "a@v1"), built(caddy)},
		{built("a@v1"), built("a@v1")},
		{built(caddy), other},
	} {
		if sameVersions(pair[0], pair[1]) == nil {
			t.Errorf("the same: %v and %v", pair[0].Deps, pair[1].Deps)
		}
	}
}
