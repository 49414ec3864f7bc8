package celauthz

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// Every variable has the type that CONTRACT.md 3.1 says: a comparison with
// any other does not compile.
func TestVariableTypes(t *testing.T) {
	types := map[string][]string{
		"string": {
			"mcp.method", "mcp.version", "mcp.tool.name", "mcp.tool.target", "mcp.prompt.name", "mcp.prompt.target",
			"mcp.resource.uri", "mcp.resource.name", "mcp.resource.target", "mcp.task.id", "mcp.task.name", "mcp.task.target",
			"request.method", "request.scheme", "request.host", "request.path", "request.uri", "source.address",
			`request.headers["a"]`, `request.query["a"][0]`, "scopes[0]",
		},
		"int":                       {"source.port"},
		"google.protobuf.Timestamp": {"now"},
		"map":                       {"jwt", "mcp.tool.arguments", "mcp.prompt.arguments", "request.query", "request.headers"},
		"list":                      {"scopes", `request.query["a"]`},
	}
	literals := map[string]string{
		"string": `""`, "int": "1", "google.protobuf.Timestamp": `timestamp("2026-01-01T00:00:00Z")`, "map": "{}", "list": "[]",
	}
	count := 0
	for typ, names := range types {
		for _, name := range names {
			if !strings.Contains(name, "[") {
				count++
			}
			for other, literal := range literals {
				_, err := compile(name + " == " + literal)
				if (err == nil) != (typ == other) {
					t.Errorf("%s is a %s; %s == %s: %v", name, typ, name, literal, err)
				}
			}
		}
	}
	if count != len(variables) {
		t.Errorf("%d variables are tested, there are %d", count, len(variables))
	}
}

// holds asks, of a request that passes the whole handler, whether each
// expression is true.
func holds(t *testing.T, r func() *http.Request, identity *reqctx.Identity, expressions ...string) {
	t.Helper()
	for _, expression := range expressions {
		for rule, want := range map[string]bool{"require " + expression: true, "require !(" + expression + ")": false} {
			s := newSite(t, rule, "allow true", "allow mcp.method.size() > 0")
			s.Target = "files"
			s.identity = identity
			s.serve(r())
			if (s.passed != nil) != want {
				t.Errorf("%s: passed %v, want %v", rule, s.passed != nil, want)
			}
		}
	}
}

func TestJWTVariable(t *testing.T) {
	call := func() *http.Request { return request(callOf("t", "{}")) }
	identity := &reqctx.Identity{Claims: claimsOf(t, `{
		"sub":"alice","groups":["dev","ops"],"age":7,"ratio":0.5,"admin":true,"none":null,
		"nested":{"roles":["r"],"https://x/y":1},"big":9007199254740993,"a b":1}`)}
	holds(t, call, identity,
		`jwt.sub == "alice"`, `jwt["sub"] == "alice"`, `"dev" in jwt.groups`, `jwt.groups[1] == "ops"`, `size(jwt.groups) == 2`,
		`jwt.age == 7`, `type(jwt.age) == int`, `jwt.ratio == 0.5`, `type(jwt.ratio) == double`, `jwt.admin`, `jwt.admin == true`,
		`jwt.none == null`, `has(jwt.none)`, `!has(jwt.missing)`, `jwt.?missing.orValue("x") == "x"`, `jwt.?suspended.orValue(false) == false`,
		`jwt.nested.roles == ["r"]`, `jwt.nested["https://x/y"] == 1`, `has(jwt.nested.roles)`, `jwt.big == 9007199254740993`,
		`jwt["a b"] == 1`, `"sub" in jwt`, `jwt.exists(c, c == "sub")`, `size(jwt) == 9`,
		`optional.ofNonZeroValue(jwt).hasValue()`, `optional.ofNonZeroValue(jwt.nested).hasValue()`,
	)
	// without a token there are no claims, but there is a map
	for _, nobody := range []*reqctx.Identity{nil, {}, {Anonymous: true}} {
		holds(t, call, nobody, `size(jwt) == 0`, `!has(jwt.sub)`, `jwt == {}`, `size(scopes) == 0`, `jwt.?sub.orValue("nobody") == "nobody"`,
			`!optional.ofNonZeroValue(jwt).hasValue()`, `!optional.ofNonZeroValue(mcp.tool.arguments).hasValue()`)
	}
}

func TestScopes(t *testing.T) {
	tests := map[string]string{ // claims -> scopes
		`{"scope":"a b:c"}`:               `["a", "b:c"]`,
		`{"scope":" a\t b "}`:             `["a", "b"]`,
		`{"scope":""}`:                    `[]`,
		`{"scope":["a","b"]}`:             `["a", "b"]`,
		`{"scope":["a",1,null,["b"]]}`:    `["a"]`,
		`{"scp":"a b"}`:                   `["a", "b"]`,
		`{"scp":["a","b c"]}`:             `["a", "b c"]`,
		`{"scope":"a","scp":"b"}`:         `["a"]`,
		`{"scope":"a","scp":["b"]}`:       `["a"]`,
		`{"scope":1}`:                     `[]`,
		`{"scope":{"a":true}}`:            `[]`,
		`{"scope":null}`:                  `[]`,
		`{"Scope":"a","scopes":"b"}`:      `[]`,
		`{"sub":"alice"}`:                 `[]`,
		`{"scope":"a","sub":"has scope"}`: `["a"]`,
	}
	for claims, want := range tests {
		for _, expression := range []string{"scopes == " + want, `("a" in scopes) == ("a" in ` + want + `)`} {
			if v := verdictOf(t, expression, callerOf(t, claims), toolCall("t", "")); v != isTrue {
				t.Errorf("%s: %s is %s", claims, expression, v)
			}
		}
	}
}

func TestMCPVariables(t *testing.T) {
	type row struct {
		message     string
		expressions []string
	}
	for _, row := range []row{
		{callOf("t", `{"a":{"b":[1]}}`), []string{
			`mcp.method == "tools/call"`, `mcp.tool.name == "t"`, `mcp.tool.target == "files"`, `mcp.tool.arguments.a.b[0] == 1`,
			`mcp.tool.arguments == {"a": {"b": [1]}}`, `mcp.version == "2025-03-26"`,
		}},
		{messageOf("tools/call", `{"name":"t"}`), []string{`mcp.tool.arguments == {}`, `!has(mcp.tool.arguments.a)`}},
		{messageOf("tools/call", `{"name":"t","arguments":null}`), []string{`mcp.tool.arguments == {}`}},
		{messageOf("prompts/get", `{"name":"p","arguments":{"a":"x"}}`), []string{
			`mcp.method == "prompts/get"`, `mcp.prompt.name == "p"`, `mcp.prompt.target == "files"`, `mcp.prompt.arguments.a == "x"`,
		}},
		{messageOf("resources/read", `{"uri":"file:///a"}`), []string{
			`mcp.method == "resources/read"`, `mcp.resource.uri == "file:///a"`, `mcp.resource.name == "file:///a"`, `mcp.resource.target == "files"`,
		}},
		{messageOf("tasks/cancel", `{"taskId":"7"}`), []string{
			`mcp.method == "tasks/cancel"`, `mcp.task.id == "7"`, `mcp.task.name == "7"`, `mcp.task.target == "files"`,
		}},
		{messageOf("initialize", `{"protocolVersion":"2025-06-18"}`), []string{`mcp.method == "initialize"`, `mcp.version == "2025-06-18"`}},
		{messageOf("x/y", ""), []string{`mcp.method == "x/y"`}},
		{`{"jsonrpc":"2.0","id":1,"result":{}}`, []string{`mcp.method == ""`}},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, []string{`mcp.method == "notifications/initialized"`}},
	} {
		holds(t, func() *http.Request { return request(row.message) }, nil, row.expressions...)
	}
	holds(t, func() *http.Request {
		r := request(messageOf("ping", ""))
		r.Header.Set("MCP-Protocol-Version", "2025-11-25")
		return r
	}, nil, `mcp.version == "2025-11-25"`)
	holds(t, func() *http.Request {
		return request(messageOf("tools/call", `{"name":"t","_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}`))
	}, nil, `mcp.version.startsWith("2025-")`)
}

func TestRequestVariables(t *testing.T) {
	visit := func() *http.Request {
		r := httptest.NewRequest(http.MethodPost, "http://mcp.example.com:8080/a%2Fb/c?q=1&q=2&r=", strings.NewReader(callOf("t", "{}")))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Add("X-Two", "a")
		r.Header.Add("x-two", "b")
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		r.RemoteAddr = "192.0.2.7:4321"
		return r
	}
	holds(t, visit, nil,
		`request.method == "POST"`, `request.scheme == "http"`, `request.host == "mcp.example.com:8080"`,
		`request.path == "/a/b/c"`, `request.uri == "/a%2Fb/c?q=1&q=2&r="`,
		`request.query == {"q": ["1", "2"], "r": [""]}`, `request.query.q[1] == "2"`, `!("x" in request.query)`,
		`request.headers["content-type"] == "application/json"`, `request.headers["x-two"] == "a, b"`,
		`!("X-Two" in request.headers)`, `!("authorization" in request.headers)`,
		`source.address == "192.0.2.7"`, `source.port == 4321`,
	)
	// GET and DELETE have no message, but everything else
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		holds(t, func() *http.Request { return httptest.NewRequest(method, "https://mcp.example.com/mcp", nil) }, nil,
			`request.method == "`+method+`"`, `request.scheme == "https"`, `mcp.method == ""`, `mcp.version == "2025-03-26"`)
	}
}

// What a proxy says about the client counts only when the server trusts it.
func TestTrustedProxies(t *testing.T) {
	behind := func(trusted bool, client string) func() *http.Request {
		return func() *http.Request {
			r := request(callOf("t", "{}"))
			r.TLS = nil
			r.Header.Set("X-Forwarded-Proto", "https")
			r.Header.Set("X-Forwarded-For", "203.0.113.9")
			r.RemoteAddr = "[2001:db8::1]:99"
			vars := map[string]any{caddyhttp.TrustedProxyVarKey: trusted, caddyhttp.ClientIPVarKey: client}
			return r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
		}
	}
	holds(t, behind(true, "203.0.113.9"), nil, `source.address == "203.0.113.9"`, `source.port == 99`, `request.scheme == "https"`)
	holds(t, behind(false, "2001:db8::1"), nil, `source.address == "2001:db8::1"`, `source.port == 99`, `request.scheme == "http"`)

	// a listener on a socket has no address
	holds(t, func() *http.Request {
		r := request(callOf("t", "{}"))
		r.RemoteAddr = "@"
		return r
	}, nil, `source.address == ""`, `source.port == 0`)
}

func TestNow(t *testing.T) {
	holds(t, func() *http.Request { return request(callOf("t", "{}")) }, nil,
		`now == timestamp("2026-08-01T12:00:00Z")`, `now.getHours() == 12`, `now.getDayOfWeek("Europe/Paris") == 6`,
		`now < timestamp("2026-08-01T12:00:01Z")`, `now - duration("1h") < now`)
	// only tests stop the clock
	h := &Handler{Rules: rulesOf(t, "allow true")}
	if err := h.Provision(newContext(t)); err != nil {
		t.Fatal(err)
	}
	if before := time.Now(); h.now().Before(before) || h.now().After(time.Now()) {
		t.Error("the handler's clock is not the real one")
	}
}

// Integers that fit 64 bits are int, other numbers double; what neither
// holds is an error, wherever it is read.
func TestNumbers(t *testing.T) {
	tests := []struct {
		number, expression string
		want               verdict
	}{
		{"1", "type(N) == int", isTrue},
		{"-9223372036854775808", "type(N) == int", isTrue},
		{"9007199254740993", "N == 9007199254740993", isTrue},
		{"9007199254740993", "N == 9007199254740992", isFalse},
		{"9007199254740993", "N > 9007199254740992", isTrue},
		{"0.1", "type(N) == double && N == 0.1", isTrue},
		{"1.0", "type(N) == double && N == 1 && N in [1]", isTrue},
		{"1", "N == 1.0 && N in [1.0, 2.0] && N < 1.5", isTrue},
		{"1e2", "N == 100", isTrue},
		{"18446744073709551616", "type(N) == double && N > 9223372036854775807", isTrue},
		{"18446744073709551617", "N == 18446744073709551616.0", isError},
		{"18446744073709551617", "N != 1", isError},
		{"18446744073709551617", "N > 1", isError},
		{"18446744073709551617", "N in [1]", isError},
		{"18446744073709551617", "!(N in [1])", isError},
		{"18446744073709551617", "type(N) == double", isError},
		{"18446744073709551617", `string(N) == ""`, isError},
		{"18446744073709551617", "mcp.tool.arguments.?n.hasValue()", isError},
		{"18446744073709551617", "mcp.tool.arguments.?n.orValue(1) == 1", isError},
		{"18446744073709551617", "[?mcp.tool.arguments.?n] == [1]", isError},
		{"18446744073709551617", "has(mcp.tool.arguments.n)", isTrue},
		{"1e400", "N > 1.0", isError},
		{"-1e400", "N < 1.0", isError},
		{"1e-400", "N == 0.0", isError},
		// inside lists and maps it equals nothing
		{"18446744073709551617", "mcp.tool.arguments == {'n': 1}", isFalse},
		{"18446744073709551617", "mcp.tool.arguments == {'n': 18446744073709551616.0}", isFalse},
		{"18446744073709551617", "{'n': 1} == mcp.tool.arguments", isFalse},
		{"18446744073709551617", "[mcp.tool.arguments] == [{'n': 1}]", isFalse},
		{"18446744073709551617", "mcp.tool.arguments in [{'n': 1}]", isFalse},
		{"[18446744073709551617]", "N == [1]", isFalse},
		{"[18446744073709551617]", "N == [[1]]", isFalse},
		{"[18446744073709551617]", "N + [] == [1]", isFalse},
		{"[18446744073709551617]", "N.flatten() == [1]", isFalse},
		{"[18446744073709551617]", "N.slice(0, 1) == [1]", isFalse},
		{"[18446744073709551617]", "sets.contains(N, [1])", isFalse},
		{"[18446744073709551617]", "sets.equivalent(N, [1])", isFalse},
		{"[18446744073709551617]", "1 in N", isFalse},
		{"[[18446744073709551617]]", "N == [[1]]", isFalse},
		{"[18446744073709551617]", "size(N) == 1", isTrue},
		// and whoever takes it out meets the error
		{"[18446744073709551617]", "N[0] != 1", isError},
		{"[18446744073709551617]", "N.exists(x, x != 1)", isError},
		{"[18446744073709551617]", "N.all(x, x != 1)", isError},
		{"[18446744073709551617]", "N.map(x, x) == [1]", isError},
		{"[18446744073709551617]", "N.slice(0, 1)[0] != 1", isError},
		{"[18446744073709551617]", "math.greatest(N) > 1", isError},
		{"[18446744073709551617]", "N.sort() == [1]", isError},
	}
	for _, test := range tests {
		expression := strings.ReplaceAll(test.expression, "N", "mcp.tool.arguments.n")
		what := toolCall("t", `{"n":`+test.number+`}`)
		if v := verdictOf(t, expression, callerOf(t, ""), what); v != test.want {
			t.Errorf("n = %s: %s is %s, want %s", test.number, test.expression, v, test.want)
		}
		expression = strings.ReplaceAll(expression, "mcp.tool.arguments", "jwt")
		if v := verdictOf(t, expression, callerOf(t, `{"n":`+test.number+`}`), toolCall("t", "")); v != test.want {
			t.Errorf("claim n = %s: %s is %s, want %s", test.number, test.expression, v, test.want)
		}
	}
}

// Each family of functions is there and works.
func TestFunctions(t *testing.T) {
	families := map[string][]string{
		"standard": {
			`jwt.sub.startsWith("al") && jwt.sub.endsWith("ce") && jwt.sub.contains("lic")`, `size(jwt.sub) == 5`, `int("7") == jwt.age`,
			`duration("1h").getMinutes() == 60`, `timestamp("2026-08-01T12:00:00Z") == now`, `type(1) == int`, `1 in {1: 2}`,
			`jwt.groups.exists_one(g, g == "dev")`, `bytes("a") == b"a"`, `double("0.5") == 0.5`, `size(jwt.sub) < 5.5`, `1.0 <= size(jwt.sub)`,
		},
		"strings": {
			`jwt.sub.charAt(0) == "a"`, `jwt.sub.indexOf("c") == 3`, `jwt.groups.filter(g, g != "").map(g, g.upperAscii()).size() == 2`,
			`["a", "b"].join("-") == "a-b"`, `"A".lowerAscii() == "a"`, `"a,b".split(",") == ["a", "b"]`, `" a ".trim() == "a"`,
			`"abc".substring(1, 2) == "b"`, `"abc".replace("b", "") == "ac"`, `"%s-%d".format(["a", 1]) == "a-1"`, `strings.quote("a") == "\"a\""`, `"abc".reverse() == "cba"`,
		},
		"lists": {
			`[3, 1, 2].sort() == [1, 2, 3]`, `[1, 1].distinct() == [1]`, `[[1], [2]].flatten() == [1, 2]`, `lists.range(2) == [0, 1]`,
			`[1, 2, 3].slice(0, 1) == [1]`, `[1, 2].reverse() == [2, 1]`, `jwt.groups.first() == optional.of("dev")`, `[{"a": 2}, {"a": 1}].sortBy(x, x.a)[0].a == 1`,
		},
		"sets": {
			`sets.contains(jwt.groups, ["dev"])`, `sets.intersects(jwt.groups, ["x", "ops"])`, `sets.equivalent(jwt.groups, ["ops", "dev", "dev"])`,
		},
		"math": {
			`math.greatest(1, jwt.age) == 7`, `math.least([3, 2]) == 2`, `math.abs(-1) == 1`, `math.ceil(1.5) == 2.0`, `math.bitAnd(3, 2) == 2`, `math.isNaN(0.0 / 0.0)`, `math.sqrt(4.0) == 2.0`,
		},
		"encoders": {`base64.encode(b"a") == "YQ=="`, `base64.decode("YQ==") == b"a"`, `string(base64.decode("YWxpY2U")) == jwt.sub`},
		"regex": {
			`jwt.sub.matches("^a[a-z]{2,}e$")`, `regex.extract(jwt.sub, "^(al)") == optional.of("al")`, `regex.extractAll("a1b2", "[0-9]") == ["1", "2"]`, `regex.replace(jwt.sub, "l.", "x") == "axce"`,
		},
		"network": {
			`ip(source.address).isLoopback() == false`, `cidr("192.0.2.0/24").containsIP(source.address)`, `cidr("192.0.2.0/24").containsIP(ip("192.0.2.7"))`,
			`!cidr("10.0.0.0/8").containsIP(source.address)`, `isIP(source.address)`, `!isIP("x")`, `ip("::1").family() == 6`, `cidr("10.0.0.0/8").containsCIDR("10.1.0.0/16")`, `string(cidr("10.0.0.0/8").ip()) == "10.0.0.0"`,
		},
		"optionals": {
			`jwt.?missing.orValue(1) == 1`, `jwt.?sub.hasValue()`, `optional.none().orValue(2) == 2`, `jwt[?"sub"].value() == "alice"`, `jwt.groups[?9].orValue("") == ""`,
			`optional.of(1).optMap(x, x + 1).value() == 2`, `[?jwt.?missing] == []`, `jwt.?a.?b.or(optional.of(3)).value() == 3`, `optional.ofNonZeroValue("").hasValue() == false`,
			`jwt.?sub.hasValue("alice") && !jwt.?sub.hasValue("bob") && !jwt.?missing.hasValue(1)`,
		},
	}
	who := callerOf(t, alice)
	who.address = "192.0.2.7"
	for family, expressions := range families {
		for _, expression := range expressions {
			t.Run(family, func(t *testing.T) {
				if v := verdictOf(t, expression, who, toolCall("t", "{}")); v != isTrue {
					t.Errorf("%s is %s", expression, v)
				}
			})
		}
	}
	// bad addresses are errors, which fail closed
	for _, expression := range []string{`ip(jwt.sub).isLoopback()`, `cidr("10.0.0.0/8").containsIP("x")`, `cidr(jwt.sub).containsIP("10.0.0.1")`, `cidr("10.0.0.0/8").containsIP(jwt.sub)`} {
		if v := verdictOf(t, expression, who, toolCall("t", "{}")); v != isError {
			t.Errorf("%s is %s", expression, v)
		}
	}
}

// A variable bound by a macro hides ours, and a leading dot finds it again.
func TestShadowing(t *testing.T) {
	who, what := callerOf(t, alice), toolCall("t", `{"a":1}`)
	for expression, want := range map[string]verdict{
		`["x"].exists(jwt, jwt == "x")`:                               isTrue,
		`[{"tool": {"name": "x"}}].exists(mcp, mcp.tool.name == "x")`: isTrue,
		`[{"tool": {"name": "x"}}].exists(mcp, mcp.tool.name == "t")`: isFalse,
		`["x"].exists(mcp, .mcp.tool.name == "t")`:                    isTrue,
		`.mcp.tool.name == "t"`:                                       isTrue,
		`.jwt.sub == "alice"`:                                         isTrue,
	} {
		if v := verdictOf(t, expression, who, what); v != want {
			t.Errorf("%s is %s, want %s", expression, v, want)
		}
	}
	// and what is found like that is as open as ever
	for _, expression := range []string{`["x"].exists(mcp, .mcp.tool.arguments.a == 1)`, `.mcp.tool.arguments.a == 1`} {
		if v := verdictAbout(t, expression, isVisible, Allow, who, toolCall("t", "")); v != isUnknown {
			t.Errorf("%s is %s while the arguments are open", expression, v)
		}
	}
	d := policyOf(t, `deny ["x"].exists(mcp, .mcp.tool.name == "t")`).decide(context.Background(), mayCall, who,
		&subject{method: "prompts/get", kind: mcpwire.Prompt, name: "t"})
	if !d.allowed {
		t.Errorf("a rule about tools denied a prompt: %+v", d)
	}
}

func TestCompileErrors(t *testing.T) {
	const mcpFields = "there are mcp.method, mcp.version, mcp.tool.name, mcp.tool.target, mcp.tool.arguments, mcp.prompt.name, " +
		"mcp.prompt.target, mcp.prompt.arguments, mcp.resource.uri, mcp.resource.name, mcp.resource.target, mcp.task.id, mcp.task.name, mcp.task.target"
	tests := []struct {
		expression string
		want       []string // parts of the message
	}{
		// misspelt fields: all fields there are, with line and column
		{`mcp.tool.nmae == "x"`, []string{`line 1, column 1: undeclared reference to "mcp.tool.nmae"; ` + mcpFields}},
		{`jwt.sub == "a" && mcp.tol.name == "x"`, []string{`line 1, column 19: undeclared reference to "mcp.tol.name"; ` + mcpFields}},
		{"jwt.sub == \"a\" &&\n\t mcp.foo ==\n \"x\"", []string{`line 2, column 3: undeclared reference to "mcp.foo"`}},
		{"true ||\n\n  source.adress == \"x\"", []string{`line 3, column 3: undeclared reference to "source.adress"; there are source.address, source.port`}},
		{`request.header.x == ""`, []string{`undeclared reference to "request.header.x"; there are request.method, request.scheme, request.host, request.path, request.uri, request.query, request.headers`}},
		{`mcp.a == "" || mcp.b == ""`, []string{`column 1: undeclared reference to "mcp.a"`, `column 16: undeclared reference to "mcp.b"`}},
		{`"mcp.x" == mcp.y`, []string{`column 12: undeclared reference to "mcp.y"`}},
		{`"é" == mcp.nom`, []string{`column 8: undeclared reference to "mcp.nom"`}},
		{`mcp == {}`, []string{`undeclared reference to "mcp"; ` + mcpFields}},
		{`mcp.tool == {}`, []string{`undeclared reference to "mcp.tool"`}},
		{`mcp.tool["name"] == "x"`, []string{`undeclared reference to "mcp.tool"`}},
		{`has(mcp.tool.name)`, []string{`column 5: undeclared reference to "mcp.tool.name"`}},
		{`mcp.tool.args.x == 1`, []string{`undeclared reference to "mcp.tool.args.x"`}},
		{`mcp.task.arguments.x == 1`, []string{`undeclared reference to "mcp.task.arguments.x"`}},
		{`mcp.tool.name.foo == ""`, []string{"column 14", "does not support field selection"}},
		{`mcp.tool.name.foo() == ""`, []string{"column 18", `undeclared reference to "foo"`}},
		// other names
		{`claims.sub == "x"`, []string{`line 1, column 1: undeclared reference to "claims.sub"`}},
		{`Jwt.sub == "x"`, []string{"line 1, column 1", "Jwt"}},
		{`__result__`, []string{"line 1"}},
		// functions
		{`foo("a")`, []string{"line 1, column 4", "foo"}},
		{`jwt.sub.startWith("a")`, []string{"line 1, column 18", "startWith"}},
		{`mcp.tool.name.startsWith(1)`, []string{"column 25", "no matching overload"}},
		{`mcp.tool.name == 1`, []string{"column 15", "no matching overload"}},
		{`"a" in mcp.tool.name`, []string{"column 5", "no matching overload"}},
		{`mcp.tool.name.exists(x, true)`, []string{"cannot be range of a comprehension"}},
		// not boolean
		{`mcp.tool.name`, []string{"must be true or false, but is string"}},
		{`jwt`, []string{"must be true or false, but is map"}},
		{`scopes`, []string{"must be true or false, but is list(string)"}},
		{`size(jwt)`, []string{"must be true or false, but is int"}},
		{`1`, []string{"but is int"}},
		{`"true"`, []string{"but is string"}},
		{`null`, []string{"but is null"}},
		{`now`, []string{"but is", "imestamp"}},
		{`optional.of(true)`, []string{"but is optional"}},
		{`[true]`, []string{"but is list(bool)"}},
		{`bool`, []string{"but is type(bool)"}},
		// syntax
		{`1 +`, []string{"line 1, column 4: Syntax error"}},
		{"true &&\n&& false", []string{"line 2, column 1: Syntax error"}},
		{``, []string{"line 1, column 1: Syntax error"}},
		{` `, []string{"line 1", "Syntax error"}},
		{`true; false`, []string{"line 1, column 5: Syntax error"}},
		{`jwt.sub = "a"`, []string{"line 1, column 9: Syntax error"}},
		{`"a`, []string{"Syntax error"}},
		{`jwt.sub.matches("(")`, []string{"cannot be planned"}},
	}
	for _, test := range tests {
		_, err := compilePolicy(rulesOf(t, "allow "+test.expression))
		if err == nil {
			t.Errorf("%s compiles", test.expression)
			continue
		}
		for _, want := range append(test.want, `rule "allow#1": `) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nwant %q", test.expression, err, want)
			}
		}
	}
	var where compileError
	if _, err := compile("mcp.x"); !errors.As(err, &where) || where.line != 1 || where.column != 1 {
		t.Errorf("%v is no compileError", err)
	}
	// what is dynamic compiles, and turns out at run time
	for _, expression := range []string{`jwt.admin`, `mcp.tool.arguments.force`, `jwt.a.b.c`, `jwt.f[0]`} {
		policyOf(t, "allow "+expression)
	}
}

// An expression longer than 64 Ki code points is refused before it is parsed.
func TestExpressionSize(t *testing.T) {
	padded := func(n int) string { return "true" + strings.Repeat(" ", n-4) }
	if _, err := compile(padded(maxExpressionSize)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := compile(padded(maxExpressionSize + 1)); err == nil {
		t.Error("over the limit: compiled")
	}
}
