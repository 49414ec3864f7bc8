package main

import (
	"fmt"
	"math"
)

// results are all that was measured.
type results struct {
	groups []result
	goBenchmarks
}

// of finds the runs of a candidate in a group; nil if it was not measured.
func (r results) of(groupID, name string) []sample {
	for _, one := range r.groups {
		if one.id == groupID && one.name == name && one.err == nil {
			return one.runs
		}
	}
	return nil
}

// more is by how much a candidate's figure is larger than plain Caddy's.
func (r results) more(f figure, groupID, name string) float64 {
	return f.difference(r.of(groupID, name), r.of(groupID, plainName))
}

// times is the same as a ratio.
func (r results) times(f figure, groupID, name string) float64 {
	return f.ratio(r.of(groupID, name), r.of(groupID, plainName))
}

// goal is what the gateway is to reach. Its value is NaN where it was not
// measured.
type goal struct {
	text    string
	atLeast bool // the limit is a lower one
	limit   float64
	unit    string
	value   func(results) float64
}

func (g goal) met(value float64) bool {
	if g.atLeast {
		return value >= g.limit
	}
	return value <= g.limit
}

// verdict is one word.
func (g goal) verdict(value float64) string {
	switch {
	case math.IsNaN(value):
		return "not measured"
	case g.met(value):
		return "met"
	default:
		return "**not met**"
	}
}

func (g goal) target() string {
	if g.atLeast {
		return fmt.Sprintf("≥ %.4g%s", g.limit, g.unit)
	}
	return fmt.Sprintf("≤ %.4g%s", g.limit, g.unit)
}

// goals are ratios within one run of the benchmark, but for those that bound
// what the gateway adds.
func goals() []goal {
	callsOf := func(groupID string) func(results) float64 {
		return func(r results) float64 { return r.times(rate, groupID, allName) }
	}
	cpuOf := func(groupID string) func(results) float64 {
		return func(r results) float64 { return r.times(perCall, groupID, allName) }
	}
	memoryOf := func(streams int) func(results) float64 {
		return func(r results) float64 { return r.times(live, idleID(streams), allName) }
	}
	return []goal{
		{"calls/s with everything on, cached token, 16 connections, against plain", true, 1.10, "x", callsOf(idCalls)},
		{"the same with 256 connections", true, 1.30, "x", callsOf(id256)},
		{"the same with TLS and HTTP/1.1", true, 1.00, "x", callsOf(idTLS1)},
		{"the same with TLS and HTTP/2", true, 1.00, "x", callsOf(idTLS2)},
		{"calls/s with everything on against the " + sdkName + ", which verifies each time", true, 1.3, "x", func(r results) float64 {
			return rate.ratio(r.of(idCalls, allName), r.of(idCalls, sdkName))
		}},
		{"CPU of a call beyond plain, everything on", false, 8, " µs", func(r results) float64 { return r.more(perCall, idCalls, allName) }},
		{"first use of an RS256 token against the RSA verification alone", false, 1.5, "x", func(r results) float64 {
			return r.time(benchFirstUse) / r.time(benchBareRSA)
		}},
		{"CPU of a call with 1,000 rules that name tools against 10", false, 1.10, "x", func(r results) float64 {
			return perCall.ratio(r.of(idRules, rules1000Name), r.of(idRules, rules10Name))
		}},
		{"CPU of a call beyond plain with 1,000 rules by the prefix of tools", false, 100, " µs", func(r results) float64 {
			return r.more(perCall, idRules, prefix1000Name)
		}},
		{"CPU of a call beyond plain with 1,000 rules by the caller's group, none of which names a tool", false, 100, " µs", func(r results) float64 {
			return r.more(perCall, idRules, group1000Name)
		}},
		{"CPU of a call with 1,000 tokens in rotation against one", false, 1.03, "x", func(r results) float64 {
			return perCall.ratio(r.of(idTokens, rotationName), r.of(idTokens, allName))
		}},
		{"CPU of a list of 1,000 tools beyond plain, 10 rules", false, 2000, " µs", func(r results) float64 { return r.more(perCall, listID(1000), allName) }},
		{"the same for each tool of 10,000 against each of 1,000 (1 is linear)", false, 1.2, "x", func(r results) float64 {
			return r.more(perCall, listID(10_000), allName) / r.more(perCall, listID(1000), allName) / 10
		}},
		{"bytes allocated for that list against its size", false, 3, "x", func(r results) float64 { return r.metric(benchList, "B/op") / r.metric(benchList, metricBody) }},
		{"CPU of a request with a body of 1 MB against plain", false, 2.0, "x", cpuOf(idBody1M)},
		{"the same with 10 KB", false, 1.15, "x", cpuOf(idBody10K)},
		{"memory of an idle stream against plain, 1,000 streams", false, 1.05, "x", memoryOf(1000)},
		{"the same with 5,000 streams", false, 1.05, "x", memoryOf(5000)},
		{"added to an event beyond plain, median", false, 10, " µs", func(r results) float64 { return r.more(p50, idEvents, allName) }},
		{"allocations of mcp_jwt and mcp_authorize for one call", false, 25, "", func(r results) float64 {
			return r.metric(benchWarm, "allocs/op") - r.metric(benchNothing, "allocs/op")
		}},
	}
}
