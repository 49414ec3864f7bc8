package promutil

import (
	"errors"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func counter(help string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "things_total", Help: help}, []string{"kind"})
}

func gather(t *testing.T, registry prometheus.Gatherer) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			sum += metric.GetCounter().GetValue()
		}
	}
	return sum
}

// Handlers of one configuration get one collector: what each of them counts
// is seen.
func TestRegisterTwice(t *testing.T) {
	registry := prometheus.NewRegistry()
	first, err := Register(registry, counter("Things."))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Register(registry, counter("Things."))
	if err != nil || second != first {
		t.Fatalf("%v, the same collector: %v", err, second == first)
	}
	first.WithLabelValues("a").Inc()
	second.WithLabelValues("a").Inc()
	if sum := gather(t, registry); sum != 2 {
		t.Errorf("counted %v, want 2", sum)
	}
	// a new configuration has a registry of its own
	third, err := Register(prometheus.NewRegistry(), counter("Things."))
	if err != nil || third == first {
		t.Errorf("%v, the collector of another registry: %v", err, third == first)
	}
}

// What has the name of something else is an error.
func TestRegisterSomethingElse(t *testing.T) {
	registry := prometheus.NewRegistry()
	if _, err := Register(registry, counter("Things.")); err != nil {
		t.Fatal(err)
	}
	if _, err := Register(registry, counter("Other things.")); err == nil {
		t.Error("another description is registered")
	}
	// the same description, but another kind of collector
	var already prometheus.AlreadyRegisteredError
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "things_total", Help: "Things."}, []string{"kind"})
	if _, err := Register(registry, gauge); !errors.As(err, &already) {
		t.Errorf("another kind: %v", err)
	}
}

func TestRegisterAtOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			c, err := Register(registry, counter("Things."))
			if err != nil {
				t.Error(err)
				return
			}
			c.WithLabelValues("a").Inc()
		})
	}
	group.Wait()
	if sum := gather(t, registry); sum != 20 {
		t.Errorf("counted %v, want 20", sum)
	}
}
