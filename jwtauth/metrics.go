package jwtauth

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddymcp/gateway/internal/promutil"
)

// metrics counts what the handler does. Labels come from the configuration
// or from closed sets, never from a token. A nil *metrics counts nothing.
type metrics struct {
	requests  *prometheus.CounterVec
	hit, miss prometheus.Counter
	duration  prometheus.Observer
	// succeeded holds the counters of good tokens by their issuer: looking
	// one up by its labels takes longer than a token in the cache.
	succeeded map[string]prometheus.Counter
}

// newMetrics registers the collectors; handlers of one configuration share
// them. issuers are the configured ones.
func newMetrics(registry prometheus.Registerer, issuers []*Issuer) (*metrics, error) {
	requests, err := promutil.Register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "mcp_jwt", Name: "requests_total",
		Help: "Requests by the issuer of their token and by what became of it.",
	}, []string{"issuer", "result"}))
	if err != nil {
		return nil, err
	}
	cache, err := promutil.Register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "mcp_jwt", Name: "cache_total",
		Help: "Look-ups in the cache of verified tokens.",
	}, []string{"result"}))
	if err != nil {
		return nil, err
	}
	duration, err := promutil.HandlerDuration(registry, "mcp_jwt")
	if err != nil {
		return nil, err
	}
	m := &metrics{
		requests: requests, hit: cache.WithLabelValues("hit"), miss: cache.WithLabelValues("miss"), duration: duration,
		succeeded: make(map[string]prometheus.Counter, len(issuers)),
	}
	for _, issuer := range issuers {
		m.succeeded[issuer.Issuer] = requests.WithLabelValues(issuer.Issuer, resultOf(nil))
	}
	return m, nil
}

// watch starts measuring the handler's own time, waiting for keys included.
func (m *metrics) watch() promutil.Watch {
	if m == nil {
		return promutil.Watch{}
	}
	return promutil.StartWatch(m.duration)
}

// request counts one request. issuer is a configured one, or "".
func (m *metrics) request(issuer string, failure error) {
	if m == nil {
		return
	}
	if counter, ok := m.succeeded[issuer]; ok && failure == nil {
		counter.Inc()
		return
	}
	m.requests.WithLabelValues(issuer, resultOf(failure)).Inc()
}

func (m *metrics) lookup(hit bool) {
	switch {
	case m == nil:
	case hit:
		m.hit.Inc()
	default:
		m.miss.Inc()
	}
}

// resultOf is the label for a failure.
func resultOf(failure error) string {
	if failure == nil {
		return "ok"
	}
	return resultOfFailure(failure)
}

func resultOfFailure(failure error) string {
	var (
		malformed   malformedError
		unknown     unknownKeyError
		unavailable unavailableError
	)
	switch {
	case errors.Is(failure, ErrNoCredential):
		return "no_credential"
	case errors.Is(failure, ErrSeveralCredentials):
		return "several_credentials"
	case errors.Is(failure, ErrNoKeyID):
		return "no_key_id"
	case errors.As(failure, &malformed):
		return "malformed"
	case errors.As(failure, &unknown):
		return "unknown_key"
	case errors.As(failure, &unavailable):
		return "keys_unavailable"
	case errors.Is(failure, errIssuer):
		return "unknown_issuer"
	case errors.Is(failure, errSignature):
		return "bad_signature"
	case errors.Is(failure, errExpired):
		return "expired"
	case errors.Is(failure, errNotYetValid):
		return "not_yet_valid"
	case errors.Is(failure, errAudience):
		return "wrong_audience"
	case errors.Is(failure, errAlgorithm):
		return "wrong_algorithm"
	case errors.Is(failure, errTokenType):
		return "wrong_type"
	default:
		return "wrong_claim"
	}
}

// keyCollector reports on the key sets of one configuration when it is
// scraped. The sets live longer than a configuration, and so do their counts.
type keyCollector struct {
	mu      sync.Mutex
	sources map[string]*pooledKeys // by issuer

	refreshes, keys, age *prometheus.Desc
}

func newKeyCollector() *keyCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("caddy_mcp_jwks_"+name, help, append([]string{"issuer"}, labels...), nil)
	}
	return &keyCollector{
		sources:   make(map[string]*pooledKeys),
		refreshes: desc("refreshes_total", "Fetches and reads of the issuer's key set.", "result"),
		keys:      desc("keys", "Usable keys of the issuer."),
		age:       desc("age_seconds", "Time since the issuer's keys were last fetched or read."),
	}
}

func (c *keyCollector) add(issuer string, source *pooledKeys) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sources[issuer] = source
}

// Describe implements prometheus.Collector.
func (c *keyCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.refreshes
	descs <- c.keys
	descs <- c.age
}

// Collect implements prometheus.Collector.
func (c *keyCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for issuer, source := range c.sources {
		counted := source.counts()
		counter := func(result string, n int64) prometheus.Metric {
			return prometheus.MustNewConstMetric(c.refreshes, prometheus.CounterValue, float64(n), issuer, result)
		}
		out <- counter("ok", counted.succeeded)
		out <- counter("error", counted.failed)
		out <- prometheus.MustNewConstMetric(c.keys, prometheus.GaugeValue, float64(counted.keys), issuer)
		if !counted.fetched.IsZero() {
			out <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, time.Since(counted.fetched).Seconds(), issuer)
		}
	}
}
