package mcpproxy

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// from has a request come from there.
func from(address string) func(http.ResponseWriter, *http.Request) {
	return func(_ http.ResponseWriter, r *http.Request) { r.RemoteAddr = address }
}

// trusted has a request come through a proxy that the server trusts.
func trusted(_ http.ResponseWriter, r *http.Request) {
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
}

const forwardedHeaders = "X-Forwarded-For: 192.0.2.1\nX-Forwarded-For: 192.0.2.2\nX-Forwarded-Proto: gopher\nX-Forwarded-Proto: https\n" +
	"X-Forwarded-Host: one.example\nX-Forwarded-Host: two.example\n"

// TestFastRequest: a server gets the same bytes either way. What a client says of itself (X-Forwarded-*) gets through only
// if the server trusts it (A71).
func TestFastRequest(t *testing.T) {
	for _, test := range []twoWays{
		{what: "nothing special", want: wantLine("POST /mcp HTTP/1.1")},
		{what: "no User-Agent"},
		{what: "an empty User-Agent", header: "User-Agent: \n"},
		{what: "User-Agent", header: "User-Agent: test/1\n", want: wantLine("User-Agent: test/1")},
		{what: "Accept-Encoding", header: "Accept-Encoding: gzip, br\n", want: wantLine("Accept-Encoding: gzip, br")},
		{what: "keep-alive", header: "Connection: Keep-Alive\n"},
		{what: "Cookie", header: "Cookie: a=1\nCookie: b=2\n"},
		{what: "several values", header: "Accept: application/json\nAccept: text/event-stream\nX-Empty: \nx-lower: a\n"},
		{what: "Via", header: "Via: 1.0 one\nVia: 1.1 two\n", want: wantLine("Via: 1.1 Caddy")},
		{what: "a credential", header: "Authorization: Bearer s3cret\n"},
		{what: "Early-Data of a client", header: "Early-Data: 1\n"},
		{what: "Expect", header: "Expect: 100-continue\n"},
		{what: "MCP headers", header: "MCP-Protocol-Version: 2025-11-25\nMcp-Method: tools/call\nMcp-Name: =?base64?dA==?=\n"},

		{what: "spoofed", header: forwardedHeaders, want: wantLine("X-Forwarded-For: 127.0.0.1")},
		{
			what: "trusted", header: forwardedHeaders, before: trusted,
			want: wantLine("X-Forwarded-For: 192.0.2.1, 192.0.2.2, 127.0.0.1"),
		},
		{what: "trusted, without", before: trusted},
		{what: "trusted, empty", header: "X-Forwarded-For: \nX-Forwarded-Proto: \nX-Forwarded-Host: \n", before: trusted},
		{what: "IPv6", before: from("[2001:db8::1]:99"), want: wantLine("X-Forwarded-For: 2001:db8::1")},
		{what: "IPv6 with a zone", before: from("[fe80::1%eth0]:99"), want: wantLine("X-Forwarded-For: fe80::1")},
		{what: "no address", before: from("scion:99"), want: wantLine("X-Forwarded-For: scion")},
		{
			what: "over TLS",
			before: func(_ http.ResponseWriter, r *http.Request) {
				r.TLS = &tls.ConnectionState{HandshakeComplete: true}
			},
			want: wantLine("X-Forwarded-Proto: https"),
		},
		{what: "HTTP/2", before: func(_ http.ResponseWriter, r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 }, want: wantLine("Via: 2.0 Caddy")},
		{what: "a header turned off", header: forwardedHeaders, before: func(_ http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"} {
				r.Header[name] = nil
			}
		}},
		{what: "a body that something is around", before: func(_ http.ResponseWriter, r *http.Request) { r.Body = io.NopCloser(onlyReader{r.Body}) }},
		{what: "no body", before: func(_ http.ResponseWriter, r *http.Request) {
			r.Body, r.ContentLength = http.NoBody, 0
			r.Header.Del("Content-Length")
		}},
		{what: "Host", before: func(_ http.ResponseWriter, r *http.Request) { r.Host = "" }},

		{what: "query", target: "/mcp?a=1&b=%7B2%7D;c&d", want: wantLine("POST /mcp?a=1&b=%7B2%7D;c&d HTTP/1.1")},
		{what: "an encoded path", target: "/a%2Fb/%C3%A4/c;d//./e?x"},
		{what: "only a question mark", target: "/mcp?"},
		{what: "a whole URL", target: "http://user:pass@other.example:81/mcp?a=1"},
		{what: "upstream path", path: "/api/mcp", target: "/mcp?a=1", want: wantLine("POST /api/mcp?a=1 HTTP/1.1")},
		{what: "upstream path, the same", path: "/mcp", target: "/mcp?a=1%7B"},
		{what: "upstream path, the same with a question mark", path: "/mcp", target: "/mcp?"},
		{what: "upstream path, the same but encoded", path: "/mcp/a", target: "/mcp%2Fa"},
		{what: "upstream path, encoded", path: "/a%20b", target: "/a%20b"},
		{what: "rewrite with a query", options: "rewrite /x?a={http.request.uri.query}", target: "/mcp?b=1"},
		{what: "rewrite with a placeholder", options: "rewrite /x{http.request.uri.path}", target: "/a%2Fb?c"},
		{what: "rewrite that asks too early", options: "rewrite /x{http.reverse_proxy.upstream.port}"},
		{what: "rewrite with a fragment", options: "rewrite /x#y", target: "/x"},
		{what: "rewrite that is escaped", options: `rewrite "/x\{y\}"`, target: `/x%5C%7By%5C%7D`},

		{what: "header_up set", options: "header_up X-Set {http.reverse_proxy.upstream.hostport}-{http.request.header.X-Client}", header: "X-Client: c\n"},
		{
			what: "header_up of all kinds", header: "X-Drop: 1\nX-Also: 2\nX-Old: old\nVia: 1.0 one\nX-Forwarded-For: old\n",
			options: "header_up -X-Drop\nheader_up +X-Also 3\nheader_up X-Old old new\nheader_up Via Caddy Proxy\nheader_up X-Forwarded-For 127 128\n" +
				"header_up -X-Forwarded-Host\nheader_up Host {http.reverse_proxy.upstream.host}",
			want: wantLine("X-Old: new"),
		},
		{what: "header_up *", options: "header_up -*", header: "X-Drop: 1\n"},
		{what: "header_up of what is not known yet", options: "header_up X-Set {http.reverse_proxy.retries}{http.reverse_proxy.status_code}{http.reverse_proxy.duration}"},
		{what: "header_up of all placeholders", options: "header_up X-Set {http.reverse_proxy.upstream.address},{http.reverse_proxy.upstream.host}," +
			"{http.reverse_proxy.upstream.port},{http.reverse_proxy.upstream.requests},{http.reverse_proxy.upstream.max_requests},{http.reverse_proxy.upstream.fails}"},
		{what: "header_up Connection", options: "header_up Connection close"},

		{what: "a session", header: "Mcp-Session-Id: SEALED\n", want: wantLine("Mcp-Session-Id: raw")},
		{what: "a session, and header_up", header: "Mcp-Session-Id: SEALED\n", options: "header_up X-Set {http.request.header.Mcp-Session-Id}x"},
		{what: "a session that is not bound", header: "Mcp-Session-Id: raw\n", options: "session_binding off"},
	} {
		test.run(t)
	}
}

// TestFastKeepsRequest: the client's request stays as it is, for logs and error routes.
func TestFastKeepsRequest(t *testing.T) {
	var before http.Header
	twoWays{
		what: "kept", path: "/api", header: forwardedHeaders + "Mcp-Session-Id: SEALED\nX-Old: old\nConnection: keep-alive\nVia: 1.1 one\n",
		options: "header_up X-Old old new\nheader_up Via one two",
		before: func(_ http.ResponseWriter, r *http.Request) {
			before = r.Header.Clone()
			t.Cleanup(func() {
				if got, want := len(r.Header), len(before); got != want || r.Header.Get("X-Old") != "old" || r.Header.Get("Via") != "1.1 one" ||
					r.Header.Get("X-Forwarded-Proto") != "gopher" || r.Header.Get(sessionHeader) == "raw" || r.URL.Path != "/mcp" {
					t.Errorf("the request has changed: %v %q", r.URL, r.Header)
				}
			})
		},
	}.run(t)
}
