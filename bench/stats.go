package main

import (
	"math"
	"slices"
	"time"
)

// sample is what one run of one candidate gave, or a part of one.
type sample struct {
	requests int           // calls answered, or events received
	elapsed  time.Duration // how long the load lasted
	cpu      time.Duration // user and system time of the server process
	p50, p99 time.Duration // latency as the client saw it
	foreign  float64       // cores that were busy with something else, on average
	live     float64       // bytes of heap and stacks for each open stream, after a collection
	resident float64       // bytes of resident memory for each open stream
}

// rate is in calls a second.
func (s sample) rate() float64 { return float64(s.requests) / s.elapsed.Seconds() }

// perCall is the server's CPU time for a call, in microseconds.
func (s sample) perCall() float64 { return micros(s.cpu) / float64(s.requests) }

// busy is the share of a core that the server took.
func (s sample) busy() float64 { return s.cpu.Seconds() / s.elapsed.Seconds() }

// with is both samples as one. Latencies are those of the mean request of
// both; percentiles of short turns are as good as that.
func (s sample) with(more sample) sample {
	weigh := func(a, b float64) float64 {
		n, m := float64(s.requests), float64(more.requests)
		return (a*n + b*m) / (n + m)
	}
	latency := func(a, b time.Duration) time.Duration { return time.Duration(weigh(float64(a), float64(b))) }
	return sample{
		requests: s.requests + more.requests, elapsed: s.elapsed + more.elapsed, cpu: s.cpu + more.cpu,
		p50: latency(s.p50, more.p50), p99: latency(s.p99, more.p99), foreign: max(s.foreign, more.foreign),
		live: weigh(s.live, more.live), resident: weigh(s.resident, more.resident),
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// figure picks one number of a sample.
type figure func(sample) float64

var (
	rate     figure = sample.rate
	perCall  figure = sample.perCall
	busy     figure = sample.busy
	p50      figure = func(s sample) float64 { return micros(s.p50) }
	p99      figure = func(s sample) float64 { return micros(s.p99) }
	live     figure = func(s sample) float64 { return s.live }
	resident figure = func(s sample) float64 { return s.resident }
)

// median of the runs of a candidate.
func (f figure) median(runs []sample) float64 {
	values := make([]float64, len(runs))
	for i, run := range runs {
		values[i] = f(run)
	}
	return median(values)
}

// ratio compares two candidates round by round, since the machine may be
// faster in one round than in another, and takes the median.
func (f figure) ratio(runs, base []sample) float64 {
	return paired(runs, base, func(a, b sample) float64 { return f(a) / f(b) })
}

// difference is to ratio what minus is to division.
func (f figure) difference(runs, base []sample) float64 {
	return paired(runs, base, func(a, b sample) float64 { return f(a) - f(b) })
}

func paired(runs, base []sample, compare func(a, b sample) float64) float64 {
	var values []float64
	for i := range min(len(runs), len(base)) {
		values = append(values, compare(runs[i], base[i]))
	}
	return median(values)
}

// median is NaN when there is nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile is the smallest duration that is not exceeded by p percent of
// them. It sorts its argument.
func percentile(durations []time.Duration, p float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	slices.Sort(durations)
	rank := int(math.Ceil(p / 100 * float64(len(durations))))
	return durations[min(max(rank, 1), len(durations))-1]
}
