package main

import (
	"math"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.values, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("nothing has a median")
	}
}

func TestSamplesTogether(t *testing.T) {
	one := sample{requests: 100, elapsed: time.Second, cpu: time.Second, p50: 10, p99: 40, foreign: 0.2, live: 8, resident: 16}
	if got := (sample{}).with(one); got != one {
		t.Errorf("with nothing: %+v", got)
	}
	got := one.with(sample{requests: 300, elapsed: 2 * time.Second, cpu: time.Second, p50: 30, p99: 80, foreign: 0.1, live: 4})
	want := sample{requests: 400, elapsed: 3 * time.Second, cpu: 2 * time.Second, p50: 25, p99: 70, foreign: 0.2, live: 5, resident: 4}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i)
	}
	for p, want := range map[float64]time.Duration{0: 1, 1: 1, 50: 50, 99: 99, 100: 100} {
		if got := percentile(hundred, p); got != want {
			t.Errorf("percentile %v: %d, want %d", p, got, want)
		}
	}
	if got := percentile([]time.Duration{7}, 99); got != 7 {
		t.Errorf("of one: %d", got)
	}
	if got := percentile(nil, 50); got != 0 {
		t.Errorf("of none: %d", got)
	}
}

// A machine that is half as fast in one round is so for everybody, and must
// not change a ratio.
func TestRatioIsByRound(t *testing.T) {
	run := func(requests int, cpu time.Duration) sample {
		return sample{requests: requests, elapsed: time.Second, cpu: cpu}
	}
	base := []sample{run(1000, 100*time.Millisecond), run(500, 100*time.Millisecond), run(2000, 100*time.Millisecond)}
	runs := []sample{run(1200, 240*time.Millisecond), run(600, 240*time.Millisecond), run(2400, 240*time.Millisecond)}
	if got := rate.ratio(runs, base); got != 1.2 {
		t.Errorf("ratio %v, want 1.2", got)
	}
	if got := rate.median(runs); got != 1200 {
		t.Errorf("median %v, want 1200", got)
	}
	// 200, 400, 100 us against 100, 200, 50
	if got := perCall.difference(runs, base); got != 100 {
		t.Errorf("difference %v, want 100", got)
	}
	if got := busy.median(runs); got != 0.24 {
		t.Errorf("busy %v, want 0.24", got)
	}
	if !math.IsNaN(rate.ratio(runs, nil)) || !math.IsNaN(rate.difference(nil, base)) {
		t.Error("something is compared with nothing")
	}
}
