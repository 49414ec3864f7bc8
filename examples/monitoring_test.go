package examples

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/caddymcp/gateway/examples/demo"
)

// scrapedSeries are the series of a scrape, as Prometheus would store them.
type scrapedSeries []labels.Labels

// runMonitoring runs the example, with traffic in which everything happens once, and scrapes it.
func runMonitoring(t *testing.T) scrapedSeries {
	t.Helper()
	t.Chdir("..")
	server := httptest.NewServer(demo.Handler(demo.Options{}))
	t.Cleanup(server.Close)
	address, admin := freeAddress(t), freeAddress(t)
	t.Setenv("GATEWAY_PORT", portOf(address))
	t.Setenv("UPSTREAM", server.URL+"/mcp")
	var config map[string]any
	if err := json.Unmarshal(adapt(t, read(t, "examples/monitoring/Caddyfile")), &config); err != nil {
		t.Fatal(err)
	}
	config["admin"] = map[string]any{"listen": admin, "config": map[string]any{"persist": false}}
	logs := config["logging"].(map[string]any)["logs"].(map[string]any)
	for _, log := range logs {
		log.(map[string]any)["writer"] = map[string]any{"output": "discard"}
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	run(t, text)
	t.Cleanup(func() { run(t, []byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`)) })

	alice, bob := strings.TrimSpace(read(t, "examples/quickstart/alice.jwt")), strings.TrimSpace(read(t, "examples/quickstart/bob.jwt"))
	call := func(tool string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{"repo":"acme/x"}}}`
	}
	for _, request := range []struct{ token, message string }{
		{alice, call("get_me")},
		{bob, call("create_repo")},
		{bob, call("delete_repo")},
		{bob, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`},
		{"", call("get_me")},
		{"forged", call("get_me")},
		{alice, "{"},
	} {
		r, err := http.NewRequest(http.MethodPost, "http://"+address+"/mcp", strings.NewReader(request.message))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		if request.token != "" {
			r.Header.Set("Authorization", "Bearer "+request.token)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return scrape(t, "http://"+admin+"/metrics")
}

// scrape reads the metrics until those of the last request are there: an answer comes before it is counted.
func scrape(t *testing.T, url string) scrapedSeries {
	t.Helper()
	const last = `caddy_mcp_list_entries_total{kind="tool",result="hidden"} 1`
	deadline := time.Now().Add(time.Minute)
	for {
		answer, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(body), last) {
			if time.Now().After(deadline) {
				t.Fatalf("there is no %s in\n%s", last, body)
			}
			continue
		}
		var list scrapedSeries
		for line := range strings.Lines(string(body)) {
			if strings.HasPrefix(line, "#") || !strings.HasPrefix(line, "caddy_mcp_") {
				continue
			}
			metric, err := parser.NewParser(parser.Options{}).ParseMetric(line[:strings.LastIndexByte(line, ' ')])
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			// Prometheus adds these, and drops labels that are empty
			builder := labels.NewBuilder(metric).Set("instance", "127.0.0.1:2019").Set("job", "mcp-gateway")
			list = append(list, builder.Labels())
		}
		return list
	}
}

// complaints are what is wrong with a query: it cannot be parsed, a selector matches no series, or it groups by a label
// that none of what it groups has.
func (s scrapedSeries) complaints(query string) (list []string) {
	query = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(query)
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.VectorSelector:
			if len(s.matching(node)) == 0 {
				list = append(list, "nothing matches "+node.String())
			}
		case *parser.AggregateExpr:
			for _, label := range node.Grouping {
				if !s.has(node.Expr, label) {
					list = append(list, "there is no label "+label+" in "+node.Expr.String())
				}
			}
		case *parser.BinaryExpr:
			if node.VectorMatching == nil {
				break
			}
			for _, label := range node.VectorMatching.MatchingLabels {
				if !s.has(node.LHS, label) || !s.has(node.RHS, label) {
					list = append(list, "there is no label "+label+" on both sides of "+node.String())
				}
			}
		}
		return nil
	})
	return list
}

func (s scrapedSeries) matching(selector *parser.VectorSelector) (list scrapedSeries) {
	for _, series := range s {
		if !slices.ContainsFunc(selector.LabelMatchers, func(m *labels.Matcher) bool { return !m.Matches(series.Get(m.Name)) }) {
			list = append(list, series)
		}
	}
	return list
}

// has reports whether some series that an expression selects has a label.
func (s scrapedSeries) has(expr parser.Expr, label string) (found bool) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			found = found || slices.ContainsFunc(s.matching(selector), func(series labels.Labels) bool { return series.Has(label) })
		}
		return nil
	})
	return found
}

// TestMonitoring: every query of the dashboard and of the alerts matches what the gateway really exports, and every
// metric of the gateway is somewhere on the dashboard.
func TestMonitoring(t *testing.T) {
	series := runMonitoring(t)
	var queries []string
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct{ List []struct{ Definition string } }
	}
	if err := json.Unmarshal([]byte(read(t, "examples/monitoring/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		if panel.Title == "" || len(panel.Targets) == 0 {
			t.Errorf("an empty panel: %+v", panel)
		}
		for _, target := range panel.Targets {
			queries = append(queries, target.Expr)
			for _, complaint := range series.complaints(target.Expr) {
				t.Errorf("dashboard, %s: %s", panel.Title, complaint)
			}
			for _, label := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !regexp.MustCompile(`by \([^)]*\b` + label[1] + `\b`).MatchString(target.Expr) {
					t.Errorf("dashboard, %s: the legend names %s, which the query does not keep", panel.Title, label[1])
				}
			}
		}
	}
	variable := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	for _, v := range dashboard.Templating.List {
		if v.Definition == "" {
			continue
		}
		match := variable.FindStringSubmatch(v.Definition)
		if match == nil {
			t.Errorf("the variable %q", v.Definition)
			continue
		}
		for _, complaint := range series.complaints("count by (" + match[2] + ") (" + match[1] + ")") {
			t.Errorf("dashboard, variable: %s", complaint)
		}
	}

	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "examples/monitoring/rules.yml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			alerts++
			for _, complaint := range series.complaints(rule.Expr) {
				t.Errorf("alert %s: %s", rule.Alert, complaint)
			}
			if rule.Annotations["summary"] == "" || rule.Labels["severity"] == "" {
				t.Errorf("alert %s says neither what is wrong nor how bad it is", rule.Alert)
			}
		}
	}
	if len(queries) < 10 || alerts < 5 {
		t.Errorf("only %d queries and %d alerts", len(queries), alerts)
	}

	names := map[string]bool{}
	for _, s := range series {
		name := s.Get(labels.MetricName)
		if base, _, isHistogram := strings.Cut(name, "_seconds_"); isHistogram {
			name = base
		}
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !slices.ContainsFunc(queries, func(query string) bool { return strings.Contains(query, name) }) {
			t.Errorf("%s is not on the dashboard", name)
		}
	}
}

// TestQueriesCanFail: a query that matches nothing does not pass.
func TestQueriesCanFail(t *testing.T) {
	series := scrapedSeries{labels.FromStrings(labels.MetricName, "caddy_mcp_jwks_keys", "issuer", "a", "instance", "b")}
	for query, want := range map[string]string{
		`caddy_mcp_jwks_keys`:                                 "",
		`sum by (issuer) (caddy_mcp_jwks_keys{issuer="a"})`:   "",
		`rate(caddy_mcp_jwks_keys[$__rate_interval])`:         "",
		`caddy_mcp_jwks_kes`:                                  "nothing matches",
		`caddy_mcp_jwks_keys{issuer="x"}`:                     "nothing matches",
		`caddy_mcp_jwks_keys{instance=~"$instance"}`:          "",
		`sum by (isuer) (caddy_mcp_jwks_keys)`:                "there is no label isuer",
		`sum(caddy_mcp_jwks_keys`:                             "parse error",
		`caddy_mcp_jwks_keys and on (x) caddy_mcp_jwks_keys`:  "there is no label x",
		`1 - caddy_mcp_jwks_keys / ignoring (a) caddy_mcp_no`: "nothing matches",
	} {
		got := strings.Join(series.complaints(query), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}
