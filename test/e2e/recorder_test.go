package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// recorder stands in front of an MCP server and notes what the gateway sends it.
type recorder struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

// startRecorder passes everything on to the URL of an MCP server, whatever its path was.
func startRecorder(t *testing.T, upstream string, begin func(*httptest.Server)) *recorder {
	t.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.Path = target.Scheme, target.Host, target.Path
		},
	}
	rec := new(recorder)
	rec.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec.mu.Lock()
		rec.requests = append(rec.requests, r.Clone(r.Context()))
		rec.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	begin(rec.Server)
	t.Cleanup(rec.CloseClientConnections)
	t.Cleanup(rec.Close)
	return rec
}

// seen returns the requests so far, and makes sure that there are any.
func (rec *recorder) seen(t *testing.T) []*http.Request {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.requests) == 0 {
		t.Error("no request has reached the server behind the gateway")
	}
	return slices.Clone(rec.requests)
}

// posts is how many messages there were so far.
func (rec *recorder) posts(t *testing.T) int {
	t.Helper()
	n := 0
	for _, r := range rec.seen(t) {
		if r.Method == http.MethodPost {
			n++
		}
	}
	return n
}

// wantNone checks that nothing has reached the server behind the gateway.
func (rec *recorder) wantNone(t *testing.T) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, r := range rec.requests {
		t.Errorf("the server behind the gateway got %s %s", r.Method, r.URL)
	}
}

// wantWithout checks that a text is nowhere in what has been sent ahead of the bodies.
func (rec *recorder) wantWithout(t *testing.T, text string) {
	t.Helper()
	for _, r := range rec.seen(t) {
		head, err := httputil.DumpRequest(r, false)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(head), text) {
			t.Errorf("the server behind the gateway got what is not for it:\n%s", head)
		}
	}
}
