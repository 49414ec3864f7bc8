package main

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Go benchmarks that goals refer to.
const (
	benchFirstUse = "BenchmarkVerify/RS256"
	benchBareRSA  = "BenchmarkBareRSA"
	benchWarm     = "BenchmarkChain/call"
	benchNothing  = "BenchmarkChain/nothing"
	benchList     = "BenchmarkChain/list_1000"

	metricBody = "B/answer"
)

// suites are the Go benchmarks to run, by folder and package.
var suites = []struct{ module, pkg, pattern string }{
	{"..", "./jwtauth", "^(BenchmarkVerify|BenchmarkBareRSA|BenchmarkServe)$"},
	{"..", "./celauthz", "^(BenchmarkDecide|BenchmarkAnswer)$"},
	{"..", "./internal/mcpwire", "^(BenchmarkRead|BenchmarkFilter|BenchmarkGuard|BenchmarkSplitter)$"},
	{".", ".", "^BenchmarkChain$"},
}

// goBenchmarks are medians by benchmark and unit.
type goBenchmarks struct {
	names  []string // in the order in which they ran
	values map[string]map[string]float64
}

// metric is NaN for a benchmark that did not run.
func (b goBenchmarks) metric(name, unit string) float64 {
	if value, ok := b.values[name][unit]; ok {
		return value
	}
	return math.NaN()
}

// time is in nanoseconds.
func (b goBenchmarks) time(name string) float64 { return b.metric(name, "ns/op") }

// runGoBenchmarks runs all suites on the core of the server. They are
// compiled on all cores.
func (l *lab) runGoBenchmarks(ctx context.Context, count int, benchtime string) (goBenchmarks, error) {
	var out strings.Builder
	for _, s := range suites {
		text, _, err := command(ctx, s.module, "go", "test", "-run", "^$", "-bench", s.pattern, "-benchmem",
			"-count", strconv.Itoa(count), "-benchtime", benchtime, "-exec", "taskset -c "+l.serverCore, s.pkg)
		if err != nil {
			return goBenchmarks{}, err
		}
		out.WriteString(text)
	}
	return parseGoBenchmarks(out.String()), nil
}

// parseGoBenchmarks reads lines like
//
//	BenchmarkRead/200B   1000000   1024 ns/op   195.31 MB/s   96 B/op   2 allocs/op
//
// and takes the median of those with one name. There is no -2 behind a name,
// since everything runs on one core.
func parseGoBenchmarks(out string) goBenchmarks {
	all := map[string]map[string][]float64{}
	b := goBenchmarks{values: map[string]map[string]float64{}}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if all[name] == nil {
			all[name] = map[string][]float64{}
			b.names = append(b.names, name)
		}
		for pair := range slices.Chunk(fields[2:], 2) {
			if value, err := strconv.ParseFloat(pair[0], 64); err == nil && len(pair) == 2 {
				all[name][pair[1]] = append(all[name][pair[1]], value)
			}
		}
	}
	for name, units := range all {
		b.values[name] = map[string]float64{}
		for unit, values := range units {
			b.values[name][unit] = median(values)
		}
	}
	return b
}
