package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// plan says how much is measured.
type plan struct {
	runs     int           // of each candidate
	duration time.Duration // of a run
	warmup   time.Duration // before the first one
	retries  int           // of a run that was disturbed
	foreign  float64       // cores busy with something else, above which a run counts as disturbed
	profiles string        // the folder for profiles, none by default
	progress io.Writer
}

// result is what a candidate did in a group.
type result struct {
	group
	candidate
	runs      []sample
	disturbed bool // at least one run was, even after all retries
	err       error
}

// turn is how long a candidate runs before the next one has its turn. A run
// takes several turns: the machine may be faster in one second than in the
// next one, so the shorter they are, the less runs differ by that.
const turn = time.Second

// compare runs a group: each candidate in turn, there and back, so that what
// drifts favours none.
func (l *lab) compare(ctx context.Context, p plan, g group) []result {
	results := make([]result, len(g.candidates))
	contestants := make([]*contestant, len(g.candidates))
	defer func() {
		for _, c := range contestants {
			if c != nil {
				c.stop()
			}
		}
	}()
	for i, candidate := range g.candidates {
		results[i] = result{group: g, candidate: candidate}
		r := &results[i]
		if contestants[i], r.err = l.start(ctx, g, candidate); r.err != nil {
			continue
		}
		if p.warmup > 0 && g.kind != idle {
			_, r.err = contestants[i].observed(ctx, p.warmup)
		}
	}
	turns := p.turns(g)
	for at := range p.rounds(g) * turns {
		for i := range results {
			if at%2 == 1 {
				i = len(results) - 1 - i
			}
			r := &results[i]
			if r.err == nil && g.kind == idle && at > 0 {
				// one that has had streams open keeps memory for the next ones
				contestants[i].stop()
				contestants[i], r.err = l.start(ctx, g, r.candidate)
			}
			if r.err != nil {
				continue
			}
			var s sample
			if s, r.err = p.measure(ctx, contestants[i], p.duration/time.Duration(turns)); r.err != nil {
				continue
			}
			r.disturbed = r.disturbed || p.spoilt(g, s)
			if at%turns == 0 {
				r.runs = append(r.runs, sample{})
			}
			run := &r.runs[len(r.runs)-1]
			*run = run.with(s)
			if (at+1)%turns == 0 {
				fmt.Fprintf(p.progress, "%-12s %-50s %9.0f /s %8.1f us CPU %8.0f us p50%s\n",
					g.id, r.name, run.rate(), run.perCall(), p50(*run), mark(p.spoilt(g, *run)))
			}
		}
	}
	for i := range results {
		if r := &results[i]; p.profiles != "" && r.err == nil {
			r.err = contestants[i].profile(ctx, p.profiles, p.duration)
		}
		if err := results[i].err; err != nil {
			fmt.Fprintf(p.progress, "%s: %s: %v\n", g.id, results[i].name, err)
		}
	}
	return results
}

// spoilt reports whether something else kept the machine too busy. Memory does
// not depend on that.
func (p plan) spoilt(g group, s sample) bool { return g.kind != idle && s.foreign > p.foreign }

// rounds is the number of runs. Of memory a few will do.
func (p plan) rounds(g group) int {
	switch {
	case g.kind == idle:
		return min(p.runs, 3)
	case g.thin && p.runs > 1:
		return 2 * p.runs
	default:
		return p.runs
	}
}

// turns is the number of turns that a run takes.
func (p plan) turns(g group) int {
	if g.kind == idle { // in time it measures nothing
		return 1
	}
	return max(1, int(p.duration/turn))
}

// measure makes one turn, and repeats it when something else kept the machine
// busy. If that never ends, the turn that was disturbed least counts.
func (p plan) measure(ctx context.Context, c *contestant, duration time.Duration) (best sample, err error) {
	for try := range p.retries + 1 {
		s, err := c.observed(ctx, duration)
		if err != nil {
			return s, err
		}
		if try == 0 || s.foreign < best.foreign {
			best = s
		}
		if !p.spoilt(c.group, best) {
			break
		}
	}
	return best, nil
}

// observed makes one run and looks at who needed how much CPU meanwhile.
func (c *contestant) observed(ctx context.Context, duration time.Duration) (sample, error) {
	before, err := c.usage()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	run := map[kind]func(context.Context, time.Duration) (sample, time.Duration, error){
		calls: c.load, idle: c.idle, events: c.events,
	}[c.kind]
	s, generator, err := run(ctx, duration)
	for range longerRuns {
		if !errors.Is(err, errNothing) {
			break
		}
		duration *= 2
		began = time.Now()
		if before, err = c.usage(); err != nil {
			return sample{}, err
		}
		s, generator, err = run(ctx, duration)
	}
	if err != nil {
		return s, err
	}
	took := time.Since(began)
	after, err := c.usage()
	if err != nil {
		return s, err
	}
	s.cpu = after.server - before.server
	ours := s.cpu + after.others - before.others + generator
	s.foreign = max(0, (after.machine-before.machine-ours).Seconds()/took.Seconds())
	return s, nil
}

// errNothing says that not even one answer came in time.
var errNothing = errors.New("no answer in time")

// longerRuns is how often a run in which nothing came is repeated, each time
// for twice as long.
const longerRuns = 4

// usage is CPU time up to now.
type usage struct{ server, others, machine time.Duration }

func (c *contestant) usage() (u usage, err error) {
	if u.machine, err = machineBusy(); err != nil {
		return u, err
	}
	if u.server, err = cpuTime(c.pid); err != nil {
		return u, err
	}
	u.others, err = cpuTime(c.lab.upstream.pid)
	u.others += ownTime()
	return u, err
}

func mark(disturbed bool) string {
	if disturbed {
		return " (disturbed)"
	}
	return ""
}
