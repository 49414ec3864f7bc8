package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func TestGroups(t *testing.T) {
	var ids []string
	for _, g := range groups() {
		if slices.Contains(ids, g.id) {
			t.Errorf("two groups are called %s", g.id)
		}
		ids = append(ids, g.id)
		if g.candidates[0].name != plainName {
			t.Errorf("%s compares with %s", g.id, g.candidates[0].name)
		}
		var names []string
		for _, c := range g.candidates {
			if slices.Contains(names, c.name) {
				t.Errorf("%s: two candidates are called %s", g.id, c.name)
			}
			names = append(names, c.name)
			s := site{port: 1, admin: 2, upstream: 3, jwks: "/jwks.json", cert: "/cert.pem", key: "/key.pem", tls: g.tls}
			if _, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(c.caddyfile(s)), nil); err != nil {
				t.Errorf("%s: %s: %v, %v", g.id, c.name, err, warnings)
			}
		}
	}
}

func TestMessageSize(t *testing.T) {
	for _, size := range []int{200, 10 << 10, 1 << 20} {
		if got := len(group{answer: answerJSON, body: size}.message()); got != size {
			t.Errorf("%d bytes, want %d", got, size)
		}
	}
}

func TestRuleLines(t *testing.T) {
	for _, n := range []int{1, 10, 1000} {
		for _, by := range []ruleKind{byName, byPrefix, byGroup} {
			if got := strings.Count(ruleLines(n, by), "\n"); got != n {
				t.Errorf("%d rules, want %d", got, n)
			}
		}
	}
	if got := ruleLines(3, byPrefix); strings.Contains(got, "==") {
		t.Errorf("rules by prefix name tools:\n%s", got)
	}
	if got := ruleLines(3, byGroup); strings.Contains(got, "mcp.tool.name") {
		t.Errorf("rules by group name tools:\n%s", got)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 12345: "12,345", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestUpstream(t *testing.T) {
	server := httptest.NewServer(newUpstream())
	defer server.Close()
	ask := func(query string) (*http.Response, string) {
		t.Helper()
		answer, err := http.Post(server.URL+"/mcp?"+query, jsonType, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(body)
	}
	if answer, body := ask(answerJSON); body != callAnswer || answer.Header.Get("Content-Type") != jsonType {
		t.Errorf("%s: %s", answer.Header.Get("Content-Type"), body)
	}
	if answer, body := ask(answerSSE); body != "event: message\ndata: "+callAnswer+"\n\n" || answer.Header.Get("Content-Type") != sseType {
		t.Errorf("%s: %s", answer.Header.Get("Content-Type"), body)
	}
	if answer, body := ask(answerHello); body != helloAnswer || answer.Header.Get(sessionHeader) == "" {
		t.Errorf("no session: %s", body)
	}
	if _, body := ask(answerTools + "100"); strings.Count(body, `"name":`) != 100 {
		t.Errorf("a list of another length: %s", body)
	}
	if answer, _ := ask(answerTools + "7"); answer.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown list: status %d", answer.StatusCode)
	}
	answer, err := http.Get(server.URL + countPath)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if count, err := io.ReadAll(answer.Body); err != nil || string(count) != "5" {
		t.Errorf("counted %s, %v, want 5", count, err)
	}
}

func TestEventTime(t *testing.T) {
	now := time.Unix(1_700_000_000, 123_456_789)
	lines := strings.Split(timedEvent(now), "\n")
	if got, ok := eventTime(lines[1]); !ok || !got.Equal(now) {
		t.Errorf("%v, %v, want %v", got, ok, now)
	}
	for _, other := range []string{lines[0], "", ": open", timePrefix + `12x"`, timePrefix + "12"} {
		if got, ok := eventTime(other); ok {
			t.Errorf("%q: %v", other, got)
		}
	}
}

func TestSDKProxy(t *testing.T) {
	l := &lab{jwks: t.TempDir() + "/jwks.json"}
	if err := l.makeTokens(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newUpstream())
	defer server.Close()
	proxy, err := sdkProxy(l.jwks, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]int{
		l.tokens[0]: http.StatusOK, l.tokens[1] + "x": http.StatusUnauthorized, "": http.StatusUnauthorized,
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/mcp?"+answerJSON, strings.NewReader("{}"))
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		proxy.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("status %d, want %d: %s", w.Code, want, w.Body)
		}
	}
}
