package celauthz

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// modernVersion is the first version whose requests stand for themselves.
const modernVersion = "2026-07-28"

// modernMeta is what every modern request carries.
const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// modernOf makes a request of version 2026-07-28, with a name unless that is
// empty.
func modernOf(method, params, name string) *http.Request {
	members := strings.TrimSuffix(strings.TrimPrefix(params, "{"), "}")
	if members != "" {
		members += ","
	}
	r := changed(request(messageOf(method, "{"+members+modernMeta+"}")), "Mcp-Protocol-Version", modernVersion, "Mcp-Method", method)
	if name != "" {
		r.Header.Set("Mcp-Name", name)
	}
	return r
}

// changed sets headers of a request: a value of "-" removes one, "+x" adds
// another one.
func changed(r *http.Request, headers ...string) *http.Request {
	for i := 0; i < len(headers); i += 2 {
		name, value := headers[i], headers[i+1]
		switch {
		case value == "-":
			r.Header.Del(name)
		case strings.HasPrefix(value, "+"):
			r.Header.Add(name, value[1:])
		default:
			r.Header.Set(name, value)
		}
	}
	return r
}

// withID gives a message another id.
func withID(message, id string) string {
	return strings.Replace(message, `"id":1,`, `"id":`+id+`,`, 1)
}

func TestA109_ModernHeaders(t *testing.T) {
	mismatch := func(header, what string) string {
		return `"header mismatch: ` + header + ` ` + what + `"`
	}
	for name, c := range map[string]struct {
		headers []string
		message string
	}{
		"no version":           {[]string{"Mcp-Protocol-Version", "-"}, mismatch("Mcp-Protocol-Version", "is missing")},
		"a legacy version":     {[]string{"Mcp-Protocol-Version", "2025-11-25"}, mismatch("Mcp-Protocol-Version", "differs from the version in _meta")},
		"two versions":         {[]string{"Mcp-Protocol-Version", "+" + modernVersion}, mismatch("Mcp-Protocol-Version", "is there more than once")},
		"no method":            {[]string{"Mcp-Method", "-"}, mismatch("Mcp-Method", "is missing")},
		"another method":       {[]string{"Mcp-Method", "tools/list"}, mismatch("Mcp-Method", "differs from the body")},
		"the method's case":    {[]string{"Mcp-Method", "TOOLS/CALL"}, mismatch("Mcp-Method", "differs from the body")},
		"two methods":          {[]string{"Mcp-Method", "+tools/call"}, mismatch("Mcp-Method", "is there more than once")},
		"bytes in the method":  {[]string{"Mcp-Method", "tools/call\x80"}, mismatch("Mcp-Method", "holds bytes that a header value cannot have")},
		"no name":              {[]string{"Mcp-Name", "-"}, mismatch("Mcp-Name", "is missing")},
		"another name":         {[]string{"Mcp-Name", "secret"}, mismatch("Mcp-Name", "differs from the body")},
		"an empty name":        {[]string{"Mcp-Name", ""}, mismatch("Mcp-Name", "differs from the body")},
		"two names":            {[]string{"Mcp-Name", "+ok é"}, mismatch("Mcp-Name", "is there more than once")},
		"UTF-8 in the name":    {[]string{"Mcp-Name", "ok é"}, mismatch("Mcp-Name", "holds bytes that a header value cannot have")},
		"broken base64":        {[]string{"Mcp-Name", "=?base64?b2sgw6k?="}, mismatch("Mcp-Name", "is not valid base64 of UTF-8")},
		"base64 for URLs":      {[]string{"Mcp-Name", "=?base64?b2sg_6k=?="}, mismatch("Mcp-Name", "is not valid base64 of UTF-8")},
		"base64 of Latin 1":    {[]string{"Mcp-Name", "=?base64?b2sg6Q==?="}, mismatch("Mcp-Name", "is not valid base64 of UTF-8")},
		"markers in capitals":  {[]string{"Mcp-Name", "=?BASE64?b2sgw6k=?="}, mismatch("Mcp-Name", "differs from the body")},
		"base64 of another":    {[]string{"Mcp-Name", "=?base64?c2VjcmV0?="}, mismatch("Mcp-Name", "differs from the body")},
		"a marker at its end":  {[]string{"Mcp-Name", "=?base64?b2sgw6k="}, mismatch("Mcp-Name", "differs from the body")},
		"blanks in the base64": {[]string{"Mcp-Name", "=?base64?b2sg w6k=?="}, mismatch("Mcp-Name", "is not valid base64 of UTF-8")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, okRules...)
			for _, id := range []string{"1", `"a\u0062"`, "9007199254740993", "-0"} {
				r := modernOf("tools/call", `{"name":"ok é"}`, "=?base64?b2sgw6k=?=")
				r = changed(copyWithID(t, r, id), c.headers...)
				s.wantRefused(s.serve(r), 400, rpcError(id, -32020, c.message, ""))
			}
		})
	}
	s := newSite(t, okRules...)
	for _, name := range []string{"ok", "=?base64?b2s=?="} {
		s.wantUnchanged(modernOf("tools/call", `{"name":"ok"}`, name))
		if got := s.passed.Header.Get("Mcp-Name"); got != name {
			t.Errorf("the name went on as %q", got)
		}
	}
	// parameters in headers are the server's affair
	s.wantUnchanged(changed(modernOf("tools/call", `{"name":"ok"}`, "ok"), "Mcp-Param-Region", "=?base64?!?=", "Mcp-Param-X", "+1"))
}

// copyWithID makes the same request under another id.
func copyWithID(t *testing.T, r *http.Request, id string) *http.Request {
	t.Helper()
	again := request(withID(bodyOf(t, r), id))
	again.Header = r.Header.Clone()
	return again
}

func TestModernMessages(t *testing.T) {
	s := newSite(t, okRules...)
	full := modernMeta
	post := func(meta string, headers ...string) (string, *http.Request) {
		message := messageOf("tools/list", "{"+meta+"}")
		return message, changed(request(message), append([]string{"Mcp-Protocol-Version", modernVersion, "Mcp-Method", "tools/list"}, headers...)...)
	}
	missing := func(member string) string { return `"missing _meta member io.modelcontextprotocol/` + member + `"` }
	for name, c := range map[string]struct {
		meta    string
		code    int
		message string
	}{
		"no _meta":                {``, -32602, missing("protocolVersion")},
		"an empty one":            {`"_meta":{}`, -32602, missing("protocolVersion")},
		"no version":              {strings.Replace(full, "protocolVersion", "x", 1), -32602, missing("protocolVersion")},
		"no capabilities":         {strings.Replace(full, "clientCapabilities", "x", 1), -32602, missing("clientCapabilities")},
		"capabilities of no kind": {strings.Replace(full, "{}", "true", 1), -32600, ""},
		"a version of no kind":    {strings.Replace(full, `"2026-07-28"`, "20260728", 1), -32600, ""},
		"another version":         {strings.Replace(full, "07-28", "07-29", 1), -32020, `"header mismatch: Mcp-Protocol-Version differs from the version in _meta"`},
		"an older version":        {strings.Replace(full, "2026-07-28", "2025-11-25", 1), -32020, `"header mismatch: Mcp-Protocol-Version differs from the version in _meta"`},
		"two versions":            {full[:len(full)-1] + `,"io.modelcontextprotocol/protocolVersion":"2025-06-18"}`, -32600, ""},
		"a version and a twin":    {full[:len(full)-1] + `,"io.modelcontextprotocol/ProtocolVersion":"2025-06-18"}`, -32600, ""},
		"two _meta":               {full + "," + full, -32600, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := post(c.meta)
			w := s.serve(r)
			if c.message != "" {
				s.wantRefused(w, 400, rpcError("1", c.code, c.message, ""))
			} else if w.Code != 400 || s.passed != nil || !strings.Contains(w.Body.String(), `"code":-32600`) {
				t.Errorf("answer %d %s", w.Code, w.Body)
			}
		})
	}
	message, r := post(strings.Replace(full, "{}", `{"roots":{}},"io.modelcontextprotocol/clientInfo":{"name":"x"}`, 1))
	s.wantPassed(s.serve(r), message)
	// the server is not asked about a method that nobody allows by its name
	r = modernOf("x/y", `{}`, "")
	s.wantRefused(s.serve(r), 404, rpcError("1", -32601, `"Method not found"`, ""))
}

func TestUnsupportedVersions(t *testing.T) {
	s := newSite(t, okRules...)
	unsupported := func(id, version string) string {
		requested := string(mcpwire.Quote(nil, version))
		return rpcError(id, -32022, `"unsupported protocol version"`,
			`{"supported":["2024-11-05","2025-03-26","2025-06-18","2025-11-25","2026-07-28"],"requested":`+requested+`}`)
	}
	for _, id := range []string{"7", `"x"`} {
		for _, version := range []string{"2026-07-29", "2030-01-01", "draft"} {
			r := changed(copyWithID(t, modernOf("tools/list", `{}`, ""), id), "Mcp-Protocol-Version", version)
			r = again(r, strings.Replace(bodyOf(t, r), modernVersion, version, 1))
			s.wantRefused(s.serve(r), 400, unsupported(id, version))
		}
		for _, version := range []string{"2025-06-19", "2024-11-04", "1", "", "2025-06-18 x", `"\`} {
			w := s.post(withID(list, id), header("Mcp-Protocol-Version", version))
			s.wantRefused(w, 400, unsupported(id, version))
		}
	}
	// an initialize asks for any version, and the server answers with its own
	initialize := messageOf("initialize", `{"protocolVersion":"2030-01-01","capabilities":{}}`)
	s.wantPassed(s.post(initialize), initialize)
}

// Results that depend on who asked are marked so, on every page.
func TestCacheScope(t *testing.T) {
	result := func(members string) string { return `{"jsonrpc":"2.0","id":1,"result":{` + members + `}}` }
	const scope = `"cacheScope":"private"`
	for name, c := range map[string]struct {
		r        func() *http.Request
		in, want string
	}{
		"a list":             {func() *http.Request { return modernOf("tools/list", `{}`, "") }, `"tools":[{"name":"ok"}],"ttlMs":5`, scope + `,"tools":[{"name":"ok"}],"ttlMs":5`},
		"a page":             {func() *http.Request { return modernOf("tools/list", `{"cursor":"b"}`, "") }, `"tools":[{"name":"secret"}],"nextCursor":"c"`, scope + `,"tools":[],"nextCursor":"c"`},
		"a public list":      {func() *http.Request { return modernOf("prompts/list", `{}`, "") }, `"prompts":[{"name":"secret"}],"cacheScope":"public"`, `"prompts":[],` + scope},
		"a private one":      {func() *http.Request { return modernOf("resources/list", `{}`, "") }, scope + `,"resources":[]`, scope + `,"resources":[]`},
		"templates":          {func() *http.Request { return modernOf("resources/templates/list", `{}`, "") }, `"resourceTemplates":[]`, scope + `,"resourceTemplates":[]`},
		"a discovery":        {func() *http.Request { return modernOf("server/discover", `{}`, "") }, `"capabilities":{},"cacheScope":"public"`, `"capabilities":{},` + scope},
		"a resource":         {func() *http.Request { return modernOf("resources/read", `{"uri":"ok"}`, "ok") }, `"contents":[{"uri":"ok","text":"x"}]`, scope + `,"contents":[{"uri":"ok","text":"x"}]`},
		"a public resource":  {func() *http.Request { return modernOf("resources/read", `{"uri":"ok"}`, "ok") }, `"contents":[],"cacheScope" : "public"`, `"contents":[],"cacheScope" : "private"`},
		"an input that lack": {func() *http.Request { return modernOf("resources/read", `{"uri":"ok"}`, "ok") }, `"resultType":"input_required"`, scope + `,"resultType":"input_required"`},
	} {
		t.Run(name, func(t *testing.T) {
			// also where nothing can be hidden: another caller may see less
			for _, rules := range [][]string{okRules, {"allow true"}} {
				want := c.want
				if len(rules) == 1 {
					want = strings.NewReplacer(`"tools":[]`, `"tools":[{"name":"secret"}]`, `"prompts":[]`, `"prompts":[{"name":"secret"}]`).Replace(want)
				}
				s := newSite(t, rules...)
				s.behind = answers(http.StatusOK, jsonType, result(c.in), "Cache-Control", "public, max-age=9", "Etag", `"1"`)
				w := s.serve(c.r())
				if w.Body.String() != result(want) {
					t.Errorf("got  %s\nwant %s", w.Body, result(want))
				}
				wantHeader(t, w, "Cache-Control", "private, max-age=9")
				if c.in != want {
					wantHeader(t, w, "Etag", "")
				}
				s.behind = answers(http.StatusOK, eventType, "id: 1\ndata: "+result(c.in)+"\n\n", "Cache-Control", "public")
				w = s.serve(c.r())
				if w.Body.String() != "id: 1\ndata: "+result(want)+"\n\n" {
					t.Errorf("got  %s\nwant %s", w.Body, result(want))
				}
				wantHeader(t, w, "Cache-Control", "private")
			}
		})
	}
}

// Everything else keeps what it has, and legacy lists do not get a member
// that their clients do not know.
func TestNoCacheScope(t *testing.T) {
	const public = `{"jsonrpc":"2.0","id":1,"result":{"content":[],"cacheScope":"public"}}`
	const failure = `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}`
	for name, c := range map[string]struct {
		r            *http.Request
		answer, want string
	}{
		"a modern call":           {modernOf("tools/call", `{"name":"ok"}`, "ok"), public, public},
		"a modern failure":        {modernOf("tools/list", `{}`, ""), failure, failure},
		"a legacy list":           {request(list), resultOf("1", mixedList), resultOf("1", okList)},
		"a legacy list of it":     {request(list), `{"id":1,"result":{"tools":[],"cacheScope":"public"}}`, `{"id":1,"result":{"tools":[],"cacheScope":"private"}}`},
		"a legacy resource":       {request(messageOf("resources/read", `{"uri":"ok"}`)), public, public},
		"the latest legacy":       {changed(request(list), "Mcp-Protocol-Version", "2025-11-25"), resultOf("1", okList), resultOf("1", okList)},
		"a discovery before time": {request(messageOf("server/discover", "")), public, public},
	} {
		s := newSite(t, okRules...)
		s.behind = answers(http.StatusOK, jsonType, c.answer)
		if w := s.serve(c.r); w.Body.String() != c.want {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
}
