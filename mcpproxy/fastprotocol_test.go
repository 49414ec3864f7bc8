package mcpproxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestFastHTTP2: a server that speaks HTTP/2 is no other case.
func TestFastHTTP2(t *testing.T) {
	u := newRecorder(t, func(handler http.Handler) *httptest.Server {
		server := httptest.NewUnstartedServer(handler)
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		return server
	})
	for what, answer := range map[string]http.HandlerFunc{
		"JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		},
		"all kinds": func(w http.ResponseWriter, _ *http.Request) {
			header := w.Header()
			header.Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			header.Set("Content-Type", "text/event-stream")
			header.Set("Trailer", "X-Late")
			header.Set(sessionHeader, "raw")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "data: 2\n\n")
			header.Set("X-Late", "1")
			header.Set(http.TrailerPrefix+"X-Unannounced", "1")
		},
		"broken off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		u.answer = answer
		h := fromCaddyfile(t, "mcp_proxy http://"+u.address()+"/x {\ntransport http {\nversions h2c\n}\n}")
		test := twoWays{what: what, header: "Cookie: a=1\nVia: 1.0 one\n"}
		pass := func(h *Handler) passage {
			p := test.pass(t, h, &rawUpstream{Listener: u.Listener})
			one := u.one(t)
			p.upstream = fmt.Sprint(one.Proto, one.Host, one.RequestURI, one.Header)
			if one.ProtoMajor != 2 || p.cut != (what == "broken off") {
				t.Errorf("%s: %s, cut %t", what, one.Proto, p.cut)
			}
			return p
		}
		compare(t, what, pass(h), pass(slowly(t, h)))
	}
}

// deaf is a client that has gone.
type deaf struct{ *httptest.ResponseRecorder }

func (deaf) Write([]byte) (int, error) { return 0, errors.New("gone") }

// TestFastGoneLog: that a client leaves within an answer is logged, unless it speaks HTTP/3, which has a way to cancel.
func TestFastGoneLog(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address())
	for major, lines := range map[int]int{1: 1, 2: 1, 3: 0} {
		core, logs := observer.New(zapcore.WarnLevel)
		h.logger = zap.New(core)
		w := deaf{httptest.NewRecorder()}
		r, _ := judge(t, w)
		r.ProtoMajor = major
		func() {
			defer func() {
				if failure := recover(); failure != http.ErrAbortHandler { //nolint:errorlint // a panic is what it is
					t.Errorf("HTTP/%d: %v", major, failure)
				}
			}()
			t.Errorf("HTTP/%d: it has returned, %v", major, h.ServeHTTP(w, r, nil))
		}()
		if logs.Len() != lines {
			t.Errorf("HTTP/%d: log %v", major, logs.All())
		}
	}
}

// TestFastVariable: what the placeholders come from cannot be read as a variable.
func TestFastVariable(t *testing.T) {
	u := newRecorder(t, httptest.NewServer)
	h := fromCaddyfile(t, "mcp_proxy http://"+u.address())
	w := httptest.NewRecorder()
	r, repl := judge(t, w)
	r.Header.Set("Cookie", "s3cret")
	if err := h.ServeHTTP(w, r, nil); err != nil {
		t.Fatal(err)
	}
	if caddyhttp.GetVar(r.Context(), callVar) == nil {
		t.Fatal("there is no variable")
	}
	if got := repl.ReplaceAll("{http.vars."+callVar+"}", ""); got != "a call to "+u.address() {
		t.Error(got)
	}
}
