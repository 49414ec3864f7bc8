package promutil

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// observed collects what is reported.
type observed []float64

func (o *observed) Observe(v float64) { *o = append(*o, v) }

// What others take is not counted, and a request is reported once.
func TestWatch(t *testing.T) {
	var o observed
	w := StartWatch(&o)
	w.Resume() // it is running
	w.Pause()
	w.Pause()
	w.since = time.Time{}
	counted := w.total
	w.Add(time.Hour)
	w.Stop()
	w.Stop()
	w.Pause()
	if len(o) != 1 || o[0] != (counted+time.Hour).Seconds() {
		t.Errorf("reported %v, want %v once", o, counted+time.Hour)
	}

	o = nil
	w = StartWatch(&o)
	w.since = w.since.Add(-time.Minute) // for a minute it has run
	w.Pause()
	w.Resume()
	w.since = w.since.Add(-time.Minute)
	w.Stop()
	if len(o) != 1 || o[0] < 120 || o[0] > 180 {
		t.Errorf("reported %v, want two minutes", o)
	}
}

// One without a metric does nothing, not even look at the clock.
func TestWatchWithoutMetric(t *testing.T) {
	w := StartWatch(nil)
	w.Pause()
	w.Resume()
	w.Stop()
	if !w.since.IsZero() || w.total != 0 {
		t.Errorf("%+v", w)
	}
	var zero Watch
	zero.Resume()
	zero.Stop()
}

// Handlers of a configuration share the metric, each with a label of its own.
func TestHandlerDuration(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, handler := range []string{"a", "b", "a"} {
		o, err := HandlerDuration(registry, handler)
		if err != nil {
			t.Fatal(err)
		}
		o.Observe(1)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "caddy_mcp_handler_duration_seconds" {
		t.Fatalf("%v %v", families, err)
	}
	counts := map[string]uint64{}
	for _, metric := range families[0].GetMetric() {
		counts[metric.GetLabel()[0].GetValue()] = metric.GetHistogram().GetSampleCount()
	}
	if counts["a"] != 2 || counts["b"] != 1 || len(counts) != 2 {
		t.Errorf("%v", counts)
	}

	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "caddy_mcp_handler_duration_seconds", Help: "x"}))
	if _, err := HandlerDuration(taken, "a"); err == nil {
		t.Error("something else has the name, and that is no error")
	}
}
