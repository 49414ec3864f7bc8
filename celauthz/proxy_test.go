package celauthz

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// proxied puts Caddy's reverse_proxy and a server behind it behind the site,
// and returns the URL of the site.
func (s *site) proxied(t *testing.T, server http.HandlerFunc) string {
	t.Helper()
	upstream := httptest.NewServer(server)
	t.Cleanup(upstream.Close)
	ctx, err := caddy.ProvisionContext(&caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{WriterRaw: []byte(`{"output":"discard"}`)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	proxy := &reverseproxy.Handler{
		Upstreams:     reverseproxy.UpstreamPool{{Dial: upstream.Listener.Addr().String()}},
		FlushInterval: -1,
	}
	if err := proxy.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Cleanup() })
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return proxy.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
	})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		if err := s.ServeHTTP(w, r, next); err != nil {
			// the server answers an error with its status and no body
			status := http.StatusInternalServerError
			if failure := (caddyhttp.HandlerError{}); errors.As(err, &failure) {
				status = failure.StatusCode
			}
			w.WriteHeader(status)
		}
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// exchange posts a message and reads the whole answer, as far as it gets.
func exchange(t *testing.T, url, message string, headers ...string) (*http.Response, string, error) {
	t.Helper()
	response := fetch(t, http.MethodPost, url, message, headers...)
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

// A119 and A115 with a real server, that does as Accept-Encoding says.
func TestProxiedLists(t *testing.T) {
	answer := resultOf("1", mixedList)
	for _, form := range []struct{ contentType, sent, want string }{
		{jsonType, answer, resultOf("1", okList)},
		{eventType, "id: 1\r\ndata: " + answer + "\r\n\r\n", "id: 1\ndata: " + resultOf("1", okList) + "\n\n"},
		{"", answer, resultOf("1", okList)},
	} {
		for _, encoded := range []bool{false, true} {
			t.Run(fmt.Sprint(form.contentType, encoded), func(t *testing.T) {
				s := newSite(t, okRules...)
				url := s.proxied(t, func(w http.ResponseWriter, r *http.Request) {
					if accept := r.Header.Get("Accept-Encoding"); strings.Contains(accept, "br") {
						t.Errorf("the client's Accept-Encoding arrives: %q", accept)
					}
					w.Header()["Content-Type"] = []string{form.contentType}
					sent := []byte(form.sent)
					if encoded && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
						var b bytes.Buffer
						z := gzip.NewWriter(&b)
						_, _ = z.Write(sent)
						_ = z.Close()
						sent = b.Bytes()
						w.Header().Set("Content-Encoding", "gzip")
					}
					w.Header().Set("Content-Length", strconv.Itoa(len(sent)))
					_, _ = w.Write(sent)
				})
				response, body, err := exchange(t, url, list, "Accept-Encoding", "gzip, br", "Range", "bytes=0-10")
				// the LF of the last CRLF comes by itself
				if err != nil || response.StatusCode != http.StatusOK || strings.TrimSpace(body) != strings.TrimSpace(form.want) {
					t.Errorf("%d %q, %v", response.StatusCode, body, err)
				}
			})
		}
	}
}

// An answer that is given up becomes a whole 502, although the proxy aborts.
func TestProxiedRefusals(t *testing.T) {
	want := `{"jsonrpc":"2.0","id":1,"error":{"code":-31502,"message":"the server's answer could not be checked"}}`
	large := resultOf("1", largeList(3<<20))
	for name, server := range map[string]http.HandlerFunc{
		"encoded without being asked": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", jsonType)
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, large)
		},
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", jsonType)
			_, _ = io.WriteString(w, large)
		},
		"too large, with its length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", jsonType)
			w.Header().Set("Content-Length", strconv.Itoa(len(large)))
			_, _ = io.WriteString(w, large)
		},
		"a part": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", jsonType)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, large)
		},
		"two lists": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", jsonType)
			_, _ = io.WriteString(w, `{"result":{"tools":[],"tools":[{"name":"secret"}]}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := provision(t, &Handler{Rules: rulesOf(t, okRules...), MaxEvent: 1 << 20})
			response, body, _ := exchange(t, s.proxied(t, server), list)
			if response.StatusCode != http.StatusBadGateway || body != want || response.Header.Get("Content-Encoding") != "" {
				t.Errorf("%d %.200s", response.StatusCode, body)
			}
		})
	}
}

// A connection that was switched over would pass every filter.
func TestProxiedUpgrade(t *testing.T) {
	s := newSite(t, okRules...)
	url := s.proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nsecret")
		_ = buffered.Flush()
	})
	response, body, _ := exchange(t, url, list)
	if response.StatusCode != http.StatusBadGateway || strings.Contains(body, "secret") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

// A server that breaks off leaves no half of a list, and no list that looks
// whole.
func TestProxiedHalfAnswers(t *testing.T) {
	answer := resultOf("1", mixedList)
	for name, c := range map[string]struct {
		message, contentType, sent string
		limit                      int // of bytes that may be seen
	}{
		"a list":   {list, jsonType, answer, 0},
		"an event": {list, eventType, "data: " + progress + "\n\ndata: " + answer, len("data: " + progress + "\n\n")},
		"a call":   {callOf("ok", `{}`), jsonType, `{"jsonrpc":"2.0","id":1,"result":{"content":[`, 100},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, okRules...)
			url := s.proxied(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				w.Header().Set("Content-Length", strconv.Itoa(len(c.sent)+100))
				_, _ = io.WriteString(w, c.sent)
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(c.message))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", jsonType)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				return // nothing at all arrives
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err == nil || len(body) > c.limit || bytes.Contains(body, []byte("secret")) {
				t.Errorf("%d %s, %v", response.StatusCode, body, err)
			}
		})
	}
}

// Events come through the proxy one by one, while the server has not ended.
func TestProxiedStream(t *testing.T) {
	s := newSite(t, okRules...)
	next := make(chan string)
	url := s.proxied(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", eventType)
		for {
			w.(http.Flusher).Flush()
			select {
			case event, more := <-next:
				if !more {
					return
				}
				_, _ = io.WriteString(w, event)
			case <-r.Context().Done():
				return
			}
		}
	})
	response := fetch(t, http.MethodPost, url, callOf("ok", `{}`))
	for _, event := range []struct{ sent, want string }{
		{": hello\n\n", ": hello\n\n"},
		{"data: " + progress + "\n\n", "data: " + progress + "\n\n"},
		{"data: " + resultOf("9", mixedList) + "\n\n", "data: " + resultOf("9", okList) + "\n\n"},
	} {
		next <- event.sent
		readNext(t, response.Body, event.want)
	}
	close(next)
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
}
