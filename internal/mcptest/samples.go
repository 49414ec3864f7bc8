package mcptest

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Samples reads a registry: the counters and gauges of the gateway, by name
// without caddy_mcp_ and labels, and of histograms how much they have
// observed. Labels stand in the order of their names: `x_total{a=1,b=2}`.
func Samples(t testing.TB, registry prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		name, ok := strings.CutPrefix(family.GetName(), "caddy_mcp_")
		if !ok {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			// those that are not there count 0
			values[name+"{"+strings.Join(labels, ",")+"}"] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() +
				float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return values
}
