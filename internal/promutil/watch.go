package promutil

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ownTimeBuckets reach from a cached token to a fetch of keys that is waited
// for.
var ownTimeBuckets = []float64{
	1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, .1, .25, .5, 1, 2.5, 5, 10, 15,
}

// HandlerDuration is the metric of the time that one handler takes itself.
func HandlerDuration(registry prometheus.Registerer, handler string) (prometheus.Observer, error) {
	durations, err := Register(registry, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "mcp", Name: "handler_duration_seconds",
		Help:    "Time a handler took itself for a request, without the client and what is behind the handler.",
		Buckets: ownTimeBuckets,
	}, []string{"handler"}))
	if err != nil {
		return nil, err
	}
	return durations.WithLabelValues(handler), nil
}

// Watch measures a handler's own time: it is paused while others work. One
// that was started without a metric measures nothing.
type Watch struct {
	observer prometheus.Observer
	total    time.Duration
	// since is when it began to run; zero while it is paused.
	since time.Time
}

// StartWatch starts a watch whose Stop reports to a metric, which may be nil.
func StartWatch(observer prometheus.Observer) Watch {
	if observer == nil {
		return Watch{}
	}
	return Watch{observer: observer, since: time.Now()}
}

// Pause stops counting until Resume.
func (w *Watch) Pause() {
	if w.observer != nil && !w.since.IsZero() {
		w.total += time.Since(w.since)
		w.since = time.Time{}
	}
}

// Resume goes on after Pause.
func (w *Watch) Resume() {
	if w.observer != nil && w.since.IsZero() {
		w.since = time.Now()
	}
}

// Add counts time that was measured otherwise.
func (w *Watch) Add(d time.Duration) { w.total += d }

// Stop reports the time. Only the first call does.
func (w *Watch) Stop() {
	if w.observer == nil {
		return
	}
	w.Pause()
	w.observer.Observe(w.total.Seconds())
	w.observer = nil
}
