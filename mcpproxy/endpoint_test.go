package mcpproxy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/reqctx"
)

// legacy is a server of 2024-11-05 that names this endpoint.
func legacy(t *testing.T, lines string) (*recorder, *Handler) {
	t.Helper()
	u := newRecorder(t, httptest.NewServer)
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, strings.ReplaceAll(lines, "UPSTREAM", u.address()))
	}
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/api/sse")
	return u, h
}

// endpointIn returns the data of the endpoint event of a stream.
func endpointIn(t *testing.T, body string) string {
	t.Helper()
	_, rest, ok := strings.Cut(body, "event: endpoint\ndata: ")
	place, _, whole := strings.Cut(rest, "\n\n")
	if !ok || !whole {
		t.Fatalf("no endpoint in %q", body)
	}
	return place
}

// TestEndpoint: the client gets a place on the gateway, and what it posts there goes where the server wants it.
func TestEndpoint(t *testing.T) {
	for _, test := range []struct{ lines, want string }{
		{"event: endpoint\ndata: /messages?sessionId=a%2Fb&x=1\n\n", "/messages?sessionId=a%2Fb&x=1"},
		{"event:endpoint\r\ndata:/messages/\r\n\r\n", "/messages/"},
		{"\ufeffevent: endpoint\ndata: /m\n\n", "/m"},
		{": hello\n\ndata: /m\nid: 7\nevent: endpoint\n\n", "/m"},
		{"event: message\nevent: endpoint\ndata: /m\n\n", "/m"},
		{"event: endpoint \ndata: /m\n\n", "/m"},
		{"event: endpoint\ndata: messages?s=1\n\n", "/api/messages?s=1"},
		{"event: endpoint\ndata: ?s=1\n\n", "/api/sse?s=1"},
		{"event: endpoint\ndata: ../m%20n#x\n\n", "/m%20n"},
		{`event: endpoint` + "\n" + `data: \\evil.example/m` + "\n\n", "/api/%5C%5Cevil.example/m"},
		{"event: endpoint\ndata: http://UPSTREAM/m?s=1\n\n", "/m?s=1"},
		{"event: endpoint\ndata: //UPSTREAM/m\n\n", "/m"},
		// a server that goes by the Host it gets, and knows that TLS ends at the gateway
		{"event: endpoint\ndata: https://mcp.example.com/m?s=1\n\n", "/m?s=1"},
	} {
		// a byte order mark counts only at the very beginning
		lines := event + test.lines + event
		if strings.HasPrefix(test.lines, "\ufeff") {
			lines = test.lines + event + event
		}
		u, h := legacy(t, lines)
		r := httptest.NewRequest(http.MethodGet, "http://mcp.example.com/tools/sse?x=1", http.NoBody)
		w := serve(t, h, r, alice)
		body := w.Body.String()
		if w.Code != http.StatusOK || !strings.HasSuffix(body, event) || strings.Count(body, "data: {}") != 2 {
			t.Errorf("%q: %d %q", test.lines, w.Code, body)
			continue
		}
		normal := strings.NewReplacer("\r\n", "\n", "event:endpoint", "event: endpoint", "event: endpoint \n", "event: endpoint\n").Replace(body)
		if strings.Contains(test.lines, "id: 7") {
			normal = strings.Replace(normal, "\nid: 7\nevent: endpoint\n\n", "\n\n", 1)
			normal = strings.Replace(normal, "data: /tools", "event: endpoint\ndata: /tools", 1)
		}
		place := endpointIn(t, normal)
		if !strings.HasPrefix(place, "/tools/sse?mcp_endpoint=") {
			t.Fatalf("%q: the endpoint is %s", test.lines, place)
		}
		u.take()
		w = serve(t, h, post("http://mcp.example.com"+place, message), alice)
		if got := u.one(t); w.Code != http.StatusAccepted || got.RequestURI != test.want || got.Host != "mcp.example.com" {
			t.Errorf("%q: %d, the message arrived at %s, want %s", test.lines, w.Code, got.RequestURI, test.want)
		}
	}
}

// TestEndpointBehindRewrite: the client knows the path that it has used itself.
func TestEndpointBehindRewrite(t *testing.T) {
	_, h := legacy(t, "event: endpoint\ndata: /m\n\n")
	r := httptest.NewRequest(http.MethodGet, "/prefix/a%2Fb", http.NoBody)
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	r, state := reqctx.Ensure(r)
	state.Identity = alice
	r.URL.Path, r.URL.RawPath = "/stripped", ""
	if err := h.ServeHTTP(w, r, nil); err != nil {
		t.Fatal(err)
	}
	if place := endpointIn(t, w.Body.String()); !strings.HasPrefix(place, "/prefix/a%2Fb?mcp_endpoint=") {
		t.Errorf("the endpoint is %s", place)
	}
}

// TestForeignEndpoint: an endpoint leads to the server that names it, or nowhere.
func TestForeignEndpoint(t *testing.T) {
	for _, place := range []string{
		"http://evil.example/m", "https://evil.example:443/m", "//evil.example/m", "http://UPSTREAM@evil.example/m",
		"http://user@UPSTREAM/m", "ftp://UPSTREAM/m", "javascript:alert(1)", "data:text/plain,x", "mailto:a@b", "http:/\x00", "/%zz",
		"http://UPSTREAM.evil.example/m", "http://UPSTREAM:1/m", "/" + strings.Repeat("x", maxEndpoint), "http://[::1/m",
	} {
		for _, lines := range []string{
			"event: endpoint\ndata: " + place + "\n\n",
			// another one later: clients take the last one
			"event: endpoint\ndata: /m\n\nevent: endpoint\ndata: " + place + "\n\n",
		} {
			u, h := legacy(t, event+lines)
			w := httptest.NewRecorder()
			func() {
				defer func() {
					if failure := recover(); failure != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
						t.Errorf("%q: %v", lines, failure)
					}
				}()
				if err := serveTo(t, h, w, httptest.NewRequest(http.MethodGet, "/sse", http.NoBody), alice); err != nil {
					t.Error(err)
				}
			}()
			body := w.Body.String()
			if !strings.HasPrefix(body, event) || strings.Contains(body, strings.ReplaceAll(place, "UPSTREAM", u.address())) {
				t.Errorf("%q became %q", lines, body)
			}
		}
	}
}

// TestEndpointWithoutKey: what cannot be sealed is not passed on.
func TestEndpointWithoutKey(t *testing.T) {
	u, h := legacy(t, "event: endpoint\ndata: /m\n\n")
	place := endpointIn(t, serve(t, h, httptest.NewRequest(http.MethodGet, "/sse", http.NoBody), alice).Body.String())
	h.key = storedKey(t, &memory{fail: failing("load", errors.New("storage is down"))})
	w := httptest.NewRecorder()
	func() {
		defer func() { _ = recover() }()
		_ = serveTo(t, h, w, httptest.NewRequest(http.MethodGet, "/sse", http.NoBody), alice)
	}()
	if strings.Contains(w.Body.String(), "endpoint") {
		t.Errorf("%q", w.Body)
	}
	u.take()
	if w := serve(t, h, post(place, message), alice); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a sealed endpoint: %d", w.Code)
	}
	if requests, _ := u.take(); len(requests) > 0 {
		t.Error("the message has reached the upstream")
	}
}

// TestA140_ForgedEndpoint: a sealed endpoint works for whom it was made, on the proxy that made it, and unchanged.
func TestA140_ForgedEndpoint(t *testing.T) {
	u, h := legacy(t, "event: endpoint\ndata: /m?s=1\n\n")
	w := serve(t, h, httptest.NewRequest(http.MethodGet, "/sse", http.NoBody), alice)
	place := endpointIn(t, w.Body.String())
	sealed := strings.TrimPrefix(place, "/sse?mcp_endpoint=")
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(i int) string {
		changed := append([]byte{}, raw...)
		changed[(i+len(changed))%len(changed)] ^= 1
		return base64.RawURLEncoding.EncodeToString(changed)
	}
	other := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/other")
	for _, test := range []struct {
		what, target string
		handler      *Handler
		identity     *reqctx.Identity
		status       int
	}{
		{"as it was", place, h, alice, 202},
		{"at another path", "/elsewhere?mcp_endpoint=" + sealed, h, alice, 202},
		{"with a query", "/sse?x=1&mcp_endpoint=" + sealed, h, alice, 202},
		{"a refreshed token", place, h, &reqctx.Identity{Issuer: alice.Issuer, Subject: "alice", Claims: reqctx.Claims(`{"jti":"2"}`)}, 202},
		{"another subject", place, h, &reqctx.Identity{Issuer: alice.Issuer, Subject: "bob"}, 404},
		{"another issuer", place, h, &reqctx.Identity{Issuer: "https://other.example", Subject: "alice"}, 404},
		{"anonymous", place, h, &reqctx.Identity{Anonymous: true}, 404},
		{"another proxy", place, other, alice, 404},
		{"another MAC", "/sse?mcp_endpoint=" + flip(0), h, alice, 404},
		{"another length", "/sse?mcp_endpoint=" + flip(32), h, alice, 404},
		{"another replica", "/sse?mcp_endpoint=" + flip(34), h, alice, 404},
		{"another target", "/sse?mcp_endpoint=" + flip(-1), h, alice, 404},
		{"cut", "/sse?mcp_endpoint=" + sealed[:40], h, alice, 404},
		{"no payload", "/sse?mcp_endpoint=" + base64.RawURLEncoding.EncodeToString(raw[:32]), h, alice, 404},
		{"empty", "/sse?mcp_endpoint=", h, alice, 404},
		{"not base64", "/sse?mcp_endpoint=" + sealed + "!", h, alice, 404},
		{"padded", "/sse?mcp_endpoint=" + sealed + "=", h, alice, 404},
		{"a path", "/sse?mcp_endpoint=/m", h, alice, 404},
		{"twice", place + "&mcp_endpoint=" + sealed, h, alice, 404},
		{"too long", "/sse?mcp_endpoint=" + strings.Repeat("A", 3*(maxEndpoint+maxReplica)), h, alice, 404},
		{"a query that cannot be read", place + "&x=%zz", h, alice, 404},
	} {
		u.take()
		w := serve(t, test.handler, post(test.target, message), test.identity)
		requests, _ := u.take()
		if w.Code != test.status || (len(requests) == 1) != (test.status == 202) {
			t.Errorf("%s: %d %s, %d requests", test.what, w.Code, w.Body, len(requests))
		}
		if test.status == 202 && requests[0].RequestURI != "/m?s=1" {
			t.Errorf("%s: it went to %s", test.what, requests[0].RequestURI)
		}
	}
	// the parameter is nothing but a parameter elsewhere
	u.take()
	serve(t, h, httptest.NewRequest(http.MethodGet, "/sse?mcp_endpoint=x", http.NoBody), alice)
	serve(t, h, post("/sse?not_mcp_endpoint=x", message), alice)
	if requests, _ := u.take(); len(requests) != 2 {
		t.Errorf("%d requests", len(requests))
	}
}

// TestEndpointKey: instances that share a storage or a session_key share endpoints, and others do not.
func TestEndpointKey(t *testing.T) {
	u, _ := legacy(t, "event: endpoint\ndata: /m\n\n")
	shared := t.TempDir()
	key := func(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, minKeySize)) }
	instance := func(storage, options string) *Handler {
		return fromCaddyfileIn(t, newContextIn(t, storage), "mcp_proxy http://"+u.address()+"/api/sse {\n"+options+"\n}")
	}
	for name, test := range map[string]struct {
		made, used *Handler
		status     int
	}{
		"one storage":              {instance(shared, ""), instance(shared, "flush_interval 1s"), http.StatusAccepted},
		"another storage":          {instance(shared, ""), instance(t.TempDir(), ""), http.StatusNotFound},
		"one key":                  {instance(t.TempDir(), "session_key "+key(1)), instance(t.TempDir(), "session_key "+key(1)), http.StatusAccepted},
		"another key":              {instance(t.TempDir(), "session_key "+key(1)), instance(t.TempDir(), "session_key "+key(2)), http.StatusNotFound},
		"sessions are not bound":   {instance(shared, "session_binding off"), instance(shared, "session_binding off"), http.StatusAccepted},
		"only these are not bound": {instance(shared, "session_binding off"), instance(shared, ""), http.StatusAccepted},
	} {
		place := endpointIn(t, serve(t, test.made, httptest.NewRequest(http.MethodGet, "/sse", http.NoBody), alice).Body.String())
		if w := serve(t, test.used, post(place, message), alice); w.Code != test.status {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}

// TestEndpointReplica: messages go to the replica that has the stream, whatever the policy says.
func TestEndpointReplica(t *testing.T) {
	u, _ := legacy(t, "event: endpoint\ndata: /m\n\n")
	other, _ := legacy(t, "event: endpoint\ndata: /m\n\n")
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/sse http://"+other.address()+"/sse {\nlb_policy round_robin\n}")
	for range 4 {
		place := endpointIn(t, serve(t, h, httptest.NewRequest(http.MethodGet, "/sse", http.NoBody), alice).Body.String())
		mine, theirs := u, other
		if requests, _ := u.take(); len(requests) == 0 {
			mine, theirs = other, u
		}
		theirs.take()
		mine.take()
		for range 3 {
			if w := serve(t, h, post(place, message), alice); w.Code != http.StatusAccepted {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		posted, _ := mine.take()
		if stray, _ := theirs.take(); len(posted) != 3 || len(stray) != 0 {
			t.Errorf("%d messages at the replica, %d at the other", len(posted), len(stray))
		}
	}

	// a replica that is not there any more has taken its streams along
	ctx := newContext(t)
	before := fromCaddyfileIn(t, ctx, "mcp_proxy http://"+u.address()+"/sse")
	place := endpointIn(t, serve(t, before, httptest.NewRequest(http.MethodGet, "/sse", http.NoBody), alice).Body.String())
	after := fromCaddyfileIn(t, ctx, "mcp_proxy http://"+other.address()+"/sse")
	other.take()
	if w := serve(t, after, post(place, message), alice); w.Code != http.StatusBadGateway {
		t.Errorf("a replica that is gone: %d %s", w.Code, w.Body)
	}
	if stray, _ := other.take(); len(stray) != 0 {
		t.Error("the message has reached a replica that does not know it")
	}
}

// TestEventsPass: all other events pass as they are, in pieces of any size; only a GET is looked into.
func TestEventsPass(t *testing.T) {
	large := "data: " + strings.Repeat("x", 100<<10) + "\n\n"
	for _, events := range []string{
		event, ": comment\n\n", "\n\n", "data: a\ndata: b\r\nid: 1\rretry: 3\n\n", "event: endpoints\ndata: http://evil.example/\n\n",
		"event: Endpoint\ndata: x\n\n", "data: event: endpoint\n\n", ": event: endpoint\ndata: x\n\n", "endpoint: event\nfoo\ndata: x\n\n",
		large + event + large, "\ufeffdata: 1\n\n",
	} {
		_, h := legacy(t, events)
		w := serve(t, h, httptest.NewRequest(http.MethodGet, "/sse", http.NoBody), alice)
		if w.Body.String() != events || w.Header().Get("X-Accel-Buffering") != "no" {
			t.Errorf("%.40q became %.40q, %v", events, w.Body, w.Header())
		}
	}
	u, h := legacy(t, "")
	u.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "yes")
		_, _ = io.WriteString(w, "data: {")
	}
	if w := serve(t, h, post("/sse", message), alice); w.Body.String() != "data: {" || w.Header().Get("X-Accel-Buffering") != "yes" {
		t.Errorf("POST: %q, %v", w.Body, w.Header())
	}
}

// TestEventTooLarge, and events that cannot be read: the stream ends.
func TestUnreadableEvents(t *testing.T) {
	for what, answer := range map[string]http.HandlerFunc{
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "data: ")
			for range maxStreamEvent >> 16 {
				if _, err := w.Write([]byte(strings.Repeat("x", 1<<16))); err != nil {
					return
				}
			}
		},
		"encoded": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "event: endpoint\ndata: http://evil.example/\n\n")
		},
	} {
		u, h := legacy(t, "")
		u.answer = func(w http.ResponseWriter, r *http.Request) {
			if accepted := r.Header.Get("Accept-Encoding"); accepted != "" {
				t.Errorf("%s: Accept-Encoding %q", what, accepted)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			answer(w, r)
		}
		f := newFront(t, h)
		r, err := http.NewRequest(http.MethodGet, f.URL+"/sse", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "br")
		response, err := f.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := readAll(t, response)
		response.Body.Close()
		if body != "" || err == nil {
			t.Errorf("%s: %d bytes, %v", what, len(body), err)
		}
	}
}
