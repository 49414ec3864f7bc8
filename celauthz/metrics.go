package celauthz

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/promutil"
)

// otherMethod is the label of methods the specification does not know: a
// client can make up as many as it likes.
const otherMethod = "other"

// effect is the label of a decision.
type effect uint8

const (
	allows effect = iota
	denies
	// wouldDeny: nothing was refused, because of the option shadow.
	wouldDeny
	effects
)

var effectLabels = [effects]string{"allow", "deny", "shadow_deny"}

// methodLabels and methodNumbers number the labels of methods, "" included:
// requests without a body, answers of clients, and what could not be read.
var (
	methodLabels  = append([]string{"", otherMethod}, mcpwire.Methods...)
	methodNumbers = func() map[string]int {
		numbers := make(map[string]int, len(methodLabels))
		for i, label := range methodLabels {
			numbers[label] = i
		}
		return numbers
	}()
)

// metrics counts what the handler does. Labels come from the configuration
// or from closed sets, never from a client. A nil *metrics counts nothing.
type metrics struct {
	decisions *prometheus.CounterVec
	// byRule holds the counters of the decisions that were counted before,
	// for every rule there is: looking one up by its labels takes longer
	// than most decisions.
	byRule map[string][]atomic.Pointer[prometheus.Counter]

	entries      [len(kindLabels)]struct{ visible, hidden, wouldHide prometheus.Counter }
	auditDropped prometheus.Counter
	replaced     prometheus.Counter
	brokenOff    prometheus.Counter
	duration     prometheus.Observer
}

// kindLabels are the labels of the kinds of targets, by mcpwire.TargetKind.
var kindLabels = [...]string{
	mcpwire.Tool: mcpwire.Tool.String(), mcpwire.Prompt: mcpwire.Prompt.String(),
	mcpwire.Resource: mcpwire.Resource.String(), mcpwire.Task: mcpwire.Task.String(),
}

// newMetrics registers the collectors; handlers of one configuration share
// them. rules are the names of the rules.
func newMetrics(registry prometheus.Registerer, rules []string) (*metrics, error) {
	m := &metrics{byRule: make(map[string][]atomic.Pointer[prometheus.Counter])}
	for _, rule := range append([]string{"", DefaultRule, scopeRule}, rules...) {
		m.byRule[rule] = make([]atomic.Pointer[prometheus.Counter], len(methodLabels)*int(effects))
	}
	counter := func(name, help string, labels ...string) (*prometheus.CounterVec, error) {
		return promutil.Register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "caddy", Subsystem: "mcp", Name: name, Help: help,
		}, labels))
	}
	var err error
	if m.decisions, err = counter("decisions_total",
		"Messages by their method, what was decided, and the rule that decided.", "method", "decision", "rule"); err != nil {
		return nil, err
	}
	entries, err := counter("list_entries_total",
		"Entries of the lists that were filtered, by whether their reader may see them.", "kind", "result")
	if err != nil {
		return nil, err
	}
	for kind := mcpwire.Tool; int(kind) < len(kindLabels); kind++ {
		m.entries[kind].visible = entries.WithLabelValues(kindLabels[kind], "visible")
		m.entries[kind].hidden = entries.WithLabelValues(kindLabels[kind], "hidden")
		m.entries[kind].wouldHide = entries.WithLabelValues(kindLabels[kind], "shadow_hidden")
	}
	dropped, err := counter("audit_dropped_total", "Lines of the audit log that were lost because it could not keep up.")
	if err != nil {
		return nil, err
	}
	m.auditDropped = dropped.WithLabelValues()
	answers, err := counter("answers_refused_total",
		"Answers of servers that could not be judged: replaced by an error, or broken off.", "result")
	if err != nil {
		return nil, err
	}
	m.replaced, m.brokenOff = answers.WithLabelValues("replaced"), answers.WithLabelValues("broken_off")
	m.duration, err = promutil.HandlerDuration(registry, "mcp_authorize")
	return m, err
}

// decided counts one message. rule is one of the names the metrics were made
// with.
func (m *metrics) decided(method string, e effect, rule string) {
	if m == nil {
		return
	}
	number, known := methodNumbers[method]
	if !known {
		number = 1
	}
	at := number*int(effects) + int(e)
	made := m.byRule[rule]
	if at >= len(made) {
		return // there is no such rule
	}
	if counter := made[at].Load(); counter != nil {
		(*counter).Inc()
		return
	}
	counter := m.decisions.WithLabelValues(methodLabels[number], effectLabels[e], rule)
	made[at].Store(&counter)
	counter.Inc()
}

// listed counts the entries of one list.
func (m *metrics) listed(kind mcpwire.TargetKind, visible, hidden int) {
	if m != nil {
		m.entries[kind].visible.Add(float64(visible))
		m.entries[kind].hidden.Add(float64(hidden))
	}
}

// wouldList counts the entries of a list that was not filtered.
func (m *metrics) wouldList(kind mcpwire.TargetKind, visible, hidden int) {
	if m != nil {
		m.entries[kind].visible.Add(float64(visible))
		m.entries[kind].wouldHide.Add(float64(hidden))
	}
}

func (m *metrics) answerReplaced() {
	if m != nil {
		m.replaced.Inc()
	}
}

func (m *metrics) answerBrokenOff() {
	if m != nil {
		m.brokenOff.Inc()
	}
}

func (m *metrics) auditLost() {
	if m != nil {
		m.auditDropped.Inc()
	}
}

// watch starts measuring the handler's own time.
func (m *metrics) watch() promutil.Watch {
	if m == nil {
		return promutil.Watch{}
	}
	return promutil.StartWatch(m.duration)
}
