package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// report writes RESULTS.md.
func report(r results, p plan, versions []string, date time.Time) string {
	var b strings.Builder
	b.WriteString("# Results\n\n")
	fmt.Fprintf(&b, "Measured on %s by `make bench`; [docs/performance.md](../docs/performance.md) says how. "+
		"Medians of %d runs of %s each, in turns of a second, and twice as many where margins are thin. Ratios (×) are against plain Caddy in the same round, "+
		"and they are what counts: absolute times are those of the machine.\n\n", date.Format(time.DateOnly), p.runs, p.duration)
	for _, version := range versions {
		fmt.Fprintf(&b, "- %s\n", version)
	}
	b.WriteString("\n## Goals\n\n| | goal | measured | |\n|---|---|---|---|\n")
	for _, g := range goals() {
		value := g.value(r)
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.text, g.target(), number(value, g.unit), g.verdict(value))
	}
	b.WriteString("\n## Side by side\n\nCPU is the user and system time of the server process for a call or an event, and \"beyond plain\" " +
		"what it is more than plain Caddy's. p50 and p99 are latencies as the client saw them: of an event, from the server behind to the client.\n\n")
	b.WriteString("| load | candidate | calls/s | × | CPU, µs | × | beyond plain, µs | p50, µs | × | p99, µs | × | server busy |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, one := range r.groups {
		if one.kind != idle {
			b.WriteString(row(r, one))
		}
	}
	b.WriteString(openStreamsSection(r))
	b.WriteString(goBenchmarksSection(r))
	if footnote(r) {
		b.WriteString("\n† Something else kept the machine busy in at least one of the runs, and in its repetitions, too.\n")
	}
	return b.String()
}

// openStreamsSection is empty when none were opened.
func openStreamsSection(r results) string {
	var rows strings.Builder
	for _, one := range r.groups {
		if one.kind == idle {
			rows.WriteString(memoryRow(r, one))
		}
	}
	if rows.Len() == 0 {
		return ""
	}
	return "\n## Open streams\n\nKilobytes for each open stream: live ones, on the heap and the stacks after a garbage collection, " +
		"and resident ones.\n\n| load | candidate | live, kB | × | resident, kB | × |\n|---|---|---|---|---|---|\n" + rows.String()
}

// goBenchmarksSection is empty when none have run.
func goBenchmarksSection(r results) string {
	if len(r.names) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Go benchmarks\n\nMedians. `BenchmarkChain` is `mcp_jwt` and `mcp_authorize` in a row, in front of nothing.\n\n" +
		"| benchmark | time | bytes | allocations |\n|---|---|---|---|\n")
	for _, name := range r.names {
		fmt.Fprintf(&b, "| %s | %s | %s | %.0f |\n", strings.TrimPrefix(name, "Benchmark"),
			time.Duration(r.time(name)).String(), thousands(int(r.metric(name, "B/op"))), r.metric(name, "allocs/op"))
	}
	return b.String()
}

func footnote(r results) bool {
	for _, one := range r.groups {
		if one.disturbed {
			return true
		}
	}
	return false
}

// head is the beginning of the row of a candidate.
func head(one result) string {
	dagger := ""
	if one.disturbed {
		dagger = " †"
	}
	return fmt.Sprintf("| %s | %s%s |", one.title, one.name, dagger)
}

func row(r results, one result) string {
	if one.err != nil {
		return head(one) + failed(one.err) + strings.Repeat(" |", 9) + "\n"
	}
	base := r.of(one.id, plainName)
	runs := one.runs
	beyond := ""
	if one.name != plainName {
		beyond = number(perCall.difference(runs, base), "")
	}
	return fmt.Sprintf("%s %s | %s | %s | %s | %s | %s | %s | %s | %s | %.0f %% |\n", head(one),
		thousands(int(rate.median(runs))), ratio(rate, one, base),
		number(perCall.median(runs), ""), ratio(perCall, one, base), beyond,
		number(p50.median(runs), ""), ratio(p50, one, base), number(p99.median(runs), ""), ratio(p99, one, base),
		100*busy.median(runs))
}

func memoryRow(r results, one result) string {
	if one.err != nil {
		return head(one) + failed(one.err) + strings.Repeat(" |", 3) + "\n"
	}
	base := r.of(one.id, plainName)
	return fmt.Sprintf("%s %.1f | %s | %.1f | %s |\n", head(one),
		live.median(one.runs)/1000, ratio(live, one, base), resident.median(one.runs)/1000, ratio(resident, one, base))
}

// ratio is empty for plain Caddy itself, with which the others are compared.
func ratio(f figure, one result, base []sample) string {
	if one.name == plainName {
		return ""
	}
	return number(f.ratio(one.runs, base), "")
}

// number writes a value with the digits that mean something.
func number(value float64, unit string) string {
	switch {
	case math.IsNaN(value):
		return "–"
	case math.Abs(value) < 100:
		return fmt.Sprintf("%.2f%s", value, unit)
	default:
		return thousands(int(math.Round(value))) + unit
	}
}

// failed is an error in a cell of a table.
func failed(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return " failed: " + strings.ReplaceAll(text, "|", "/") + " |"
}
