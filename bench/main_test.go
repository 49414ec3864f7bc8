package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain makes the binary of the tests the servers that the benchmark needs,
// as the binary of the benchmark is.
func TestMain(m *testing.M) {
	if isServer(os.Args) {
		fmt.Fprintln(os.Stderr, beServer(os.Args[1:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestSmoke runs the benchmark with one short run of everything that there is
// one kind of. It shows that each figure is measured, and says nothing about
// what they are.
func TestSmoke(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l, err := newLab(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	versions, err := l.versions(ctx)
	if err != nil {
		t.Error(err)
	}
	o, err := parseOptions([]string{"-quick", "-rows", "^(calls-16|tls-h[12]|list-10|tokens|idle-1000|events)$"})
	if err != nil {
		t.Fatal(err)
	}
	o.progress = t.Output()
	profiles := filepath.Join(t.TempDir(), "made", "on the way")
	o.profiles = profiles
	var r results
	for _, g := range o.selected(groups()) {
		if g.kind == idle {
			g.connections = 20
		}
		if g.id != idCalls {
			o.profiles = ""
		}
		r.groups = append(r.groups, l.compare(ctx, o.plan, g)...)
	}
	for _, name := range []string{"calls-16-everything-on.cpu.pprof", "calls-16-plain-reverse-proxy.allocs.pprof"} {
		if info, err := os.Stat(filepath.Join(profiles, name)); err != nil || info.Size() == 0 {
			t.Errorf("no profile %s: %v", name, err)
		}
	}
	if r.goBenchmarks, err = l.runGoBenchmarks(ctx, o.goCount, o.goLength); err != nil {
		t.Error(err)
	}
	if len(r.groups) != 5+2+2+2+4+2+2 {
		t.Errorf("%d candidates were measured", len(r.groups))
	}
	for _, one := range r.groups {
		if one.err != nil {
			t.Errorf("%s: %s: %v", one.id, one.name, one.err)
			continue
		}
		s := one.runs[0]
		if len(one.runs) != 1 || s.requests == 0 || s.elapsed == 0 {
			t.Errorf("%s: %s: %+v", one.id, one.name, one.runs)
		}
		if one.kind == idle && (s.live <= 0 || s.resident <= 0) {
			t.Errorf("streams of %s need no memory: %+v", one.name, s)
		}
		if one.kind != idle && (s.p50 <= 0 || s.p99 < s.p50) {
			t.Errorf("latency of %s: %+v", one.name, s)
		}
	}
	for _, name := range []string{benchFirstUse, benchBareRSA, benchWarm, benchNothing, benchList} {
		if math.IsNaN(r.time(name)) || math.IsNaN(r.metric(name, "allocs/op")) {
			t.Errorf("%s did not run", name)
		}
	}
	if math.IsNaN(r.metric(benchList, metricBody)) {
		t.Error("the size of the list is unknown")
	}
	t.Log(report(r, o.plan, versions, time.Now()))
}

// What cannot be measured must not look like a result.
func TestFailure(t *testing.T) {
	dir := t.TempDir()
	l := &lab{dir: dir, plain: filepath.Join(dir, "none"), serverCore: "0", tokens: []string{"a.b.c"}}
	r := l.compare(t.Context(), plan{runs: 1, progress: t.Output()}, group{id: "x", candidates: []candidate{plain}})
	if len(r) != 1 || r[0].err == nil || !strings.Contains(r[0].err.Error(), "none") {
		t.Errorf("%+v", r)
	}
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-runs", "9", "-duration", "2s", "-rows", "list", "-out", "a.md"})
	if err != nil || o.runs != 9 || o.duration != 2*time.Second || o.out != "a.md" || !o.goBench || o.retries == 0 {
		t.Errorf("%+v, %v", o, err)
	}
	if got := o.selected(groups()); len(got) != len(toolCounts) {
		t.Errorf("%d groups are lists", len(got))
	}
	o, err = parseOptions([]string{"-quick"})
	if err != nil || o.runs != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, g := range o.selected(groups()) {
		if g.id == listID(10_000) || g.id == idleID(5000) {
			t.Errorf("%s is part of a quick run", g.id)
		}
	}
	for _, wrong := range [][]string{{"-runs", "0"}, {"-duration", "10ms"}, {"-rows", "("}, {"more"}} {
		if _, err := parseOptions(wrong); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
}

func TestTail(t *testing.T) {
	var end tail
	for range 3 {
		fmt.Fprint(&end, strings.Repeat("a", tailSize/2))
	}
	fmt.Fprint(&end, "b")
	if got := end.String(); len(got) != tailSize || !strings.HasSuffix(got, "ab") {
		t.Errorf("%d bytes, ending with %q", len(got), got[len(got)-2:])
	}
}
