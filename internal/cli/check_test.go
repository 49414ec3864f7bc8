package cli

import (
	"fmt"
	"strings"
	"testing"
)

const goodCases = `callers:
  alice: {sub: alice}
  dev: &dev
    sub: dora
    groups: [dev]
cases:
  - as: alice
    method: tools/call
    target: write
    expect: scope
    scopes: [write]
  - name: with the scope
    claims: {sub: alice, scope: write}
    method: tools/call
    target: write
    expect: allow
    rule: alice
  - {as: dev, method: tools/call, target: read_file, expect: allow, rule: allow#2}
  - {as: dev, method: tools/call, target: write, expect: hidden, rule: default}
  - {as: dev, method: tools/list, target: read_file, expect: allow}
  - as: alice
    method: tools/call
    target: drop
    arguments: {all: true}
    expect: deny
    rule: deny#1
  - {as: alice, method: tools/call, target: drop, arguments: {all: false}, expect: allow}
  - {method: initialize, expect: deny}
`

func TestCheckCompiles(t *testing.T) {
	inFolder(t, map[string]string{
		"Caddyfile": siteCaddyfile,
		"wrong":     strings.Replace(siteCaddyfile, "mcp.tool.name.startsWith", "mcp.tool.nam.startsWith", 1),
		"none":      "http://x {\n\trespond ok\n}\n",
		"wrong.json": `{"apps":{"http":{"servers":{"s":{"routes":[{"handle":[{"handler":"mcp_authorize","@id":"x",` +
			`"rules":[{"action":"allow","match_expressions":["jwt.sub =="]}]}]}]}}}}}`,
		"unknown.json": `{"apps":{"http":{"routes":[{"handler":"mcp_authorize","rule":[]}]}}}`,
		"twice.json":   `{"apps":{"http":{"routes":[{"handler":"mcp_authorize","rules":[],"rules":[]}]}}}`,
		"empty":        "",
		"env":          strings.Replace(siteCaddyfile, `== \"alice\"`, "", 1),
	})
	execute(t, "", "check").wants(t, exitOK, "mcp_authorize 1 at /apps/http/servers/srv0/routes/0/handle/", ": 3 rules")
	execute(t, "", "check", "--config", "wrong", "--adapter", "caddyfile").wants(t, exitFailed, `rule "allow#2"`, `undeclared reference to "mcp.tool.nam.startsWith"`, "wrong:12")
	execute(t, "", "check", "--config", "none", "-a", "caddyfile").wants(t, exitFailed, "none has no mcp_authorize")
	execute(t, "", "check", "--config", "missing").wants(t, exitFailed, "missing: no such file")
	execute(t, "", "check", "--config", "empty").wants(t, exitFailed, "there is no configuration")
	execute(t, "", "check", "--config", "wrong.json").wants(t, exitFailed, "/apps/http/servers/s/routes/0/handle/0: rule \"allow#1\": line 1")
	execute(t, "", "check", "--config", "unknown.json").wants(t, exitFailed, `/apps/http/routes/0: `, `unknown field "rule"`)
	execute(t, "", "check", "--config", "twice.json").wants(t, exitFailed, `duplicate member name`)
	t.Chdir("/")
	execute(t, "", "check").wants(t, exitFailed, "there is no configuration: name one with --config")
}

func TestCheckCases(t *testing.T) {
	inFolder(t, map[string]string{
		"Caddyfile": siteCaddyfile, "cases.yaml": goodCases,
		"broken.yaml": strings.NewReplacer("expect: hidden, rule: default", "expect: allow, rule: alice", "scopes: [write]", "scopes: [read]").Replace(goodCases),
	})
	good := execute(t, "", "check", "--cases", "cases.yaml")
	good.wants(t, exitOK, "8 cases, 8 passed, 0 failed\n")

	bad := execute(t, "", "check", "--cases", "cases.yaml", "--cases", "broken.yaml")
	bad.wants(t, exitFound, "16 cases, 14 passed, 2 failed\n", `
FAIL broken.yaml:19: dev tools/call write
  tools/call write
- allow by alice
+ hidden by default
  this caller can never use the target: no allow grants it
`, `
FAIL broken.yaml:7: alice tools/call write
  tools/call write
- scope, needs read
+ scope, needs write
`)
	if strings.Contains(bad.stdout, "FAIL cases.yaml") {
		t.Error(bad.stdout)
	}

	found := decode[struct {
		Config   string
		Handlers []struct {
			Handler int
			Path    string
			Rules   []string
		}
		Passed, Failed int
		Cases          []struct {
			File, Name, Operation, Summary string
			Line                           int
			Passed                         bool
			Expected, Got                  struct {
				Outcome, Rule string
				Scopes        []string
			}
		}
	}](t, execute(t, "", "check", "--json", "--cases", "broken.yaml"))
	last := found.Cases[3]
	if found.Config != "Caddyfile" || found.Passed != 6 || found.Failed != 2 || len(found.Handlers[0].Rules) != 3 || last.Passed ||
		last.Line != 19 || last.Expected.Outcome != "allow" || last.Expected.Rule != "alice" || last.Got.Outcome != "hidden" {
		t.Errorf("%+v", found)
	}
}

// TestCheckRefusesCases: a case that says something else than its author
// thinks does not pass.
func TestCheckRefusesCases(t *testing.T) {
	for text, want := range map[string]string{
		"cases: []":                 "cases.yaml: has no cases",
		"callers: {}":               "cases.yaml: has no cases",
		"[]":                        "cases.yaml:1:",
		"cases:\n - {method: ping}": "cases.yaml:2: expect is one of allow, deny, hidden, scope",
		"cases:\n - {method: ping, expect: denied}":                                    "cases.yaml:2: expect is one of",
		"cases:\n - {method: ping, expects: deny}":                                     "cases.yaml:2: cases/0/expects is not known",
		"cases:\n - method: ping\n   expect: deny\n   target: [x]":                     "cases.yaml:4: cases/0/target must be a text",
		"cases:\n - method: ping\n   expect: deny\n   request: {hos: x}":               "cases.yaml:4: cases/0/request/hos is not known",
		"cases:\n - method: ping\n   expect: deny\n   time: noon":                      "cases.yaml:4: cases/0/time",
		"cases:\n - {method: ping, expect: deny, as: bob}":                             `cases.yaml:2: there is no caller "bob"`,
		"callers: {b: {}}\ncases:\n - {method: ping, expect: deny, as: b, claims: {}}": "cases.yaml:3: the caller is either named with as",
		"cases:\n - {method: ping, expect: deny, claims: [x]}":                         "cases.yaml:2: claims: ",
		"cases:\n - {method: ping, expect: deny, rule: nobody}":                        `cases.yaml:2: there is no rule "nobody"`,
		"cases:\n - {method: ping, expect: deny, scopes: [a]}":                         "cases.yaml:2: scopes go with `expect: scope`",
		"cases:\n - {expect: deny}":                                                    "cases.yaml:2: an operation needs a method",
		"cases:\n - {method: ping, target: x, expect: deny}":                           "cases.yaml:2: this method has no target",
		"cases:\n - {method: ping, expect: deny, handler: 2}":                          `cases.yaml:2: 0 mcp_authorize are called "2"; there are 1 at /apps`,
		"handler: x\ncases:\n - {method: ping, expect: deny}":                          `0 mcp_authorize are called "x"`,
		"handler: [1]\ncases:\n - {method: ping, expect: deny}":                        "cases.yaml:1: handler must be a number or a text",
		"cases:\n - {method: ping, expect: deny}\nCases: []":                           "cases.yaml:3: Cases is not known",
		strings.Repeat(" ", maxCasesFile+1):                                            "larger than",
	} {
		inFolder(t, map[string]string{"Caddyfile": siteCaddyfile, "cases.yaml": text})
		execute(t, "", "check", "--cases", "cases.yaml").wants(t, exitFailed, want)
	}
	execute(t, "", "check", "--cases", "nowhere.yaml").wants(t, exitFailed, "nowhere.yaml: no such file")
}

// TestHandlers: handlers are found wherever they stand, and told apart.
func TestHandlers(t *testing.T) {
	const rules = `"handler":"mcp_authorize","rules":[{"action":"allow","match_expressions":["mcp.tool.target == \"%s\""]}],"target":"%s"`
	site := func(name string) string { return strings.ReplaceAll(rules, "%s", name) }
	inFolder(t, map[string]string{
		"caddy.json": `{"apps":{"http":{"servers":{
			"z":{"routes":[{"handle":[{"handler":"subroute","routes":[{"handle":[{` + site("first") + `}]}]}]}]},
			"a":{"named_routes":{"n":{"handle":[{"@id":"second-id",` + site("second") + `}]}},
				"routes":[{"handle":[{"handler":"reverse_proxy","handle_response":[{"routes":[{"handle":[{` + site("") + `}]}]}]}]}]}
		}}}}`,
		"cases.yaml": `cases:
  - {handler: 1, method: tools/call, target: x, expect: allow}
  - {handler: second, method: tools/call, target: x, expect: allow}
  - {handler: second-id, method: tools/call, target: x, expect: allow}
  - {handler: "3", method: tools/call, target: x, expect: allow}
`,
		"default.yaml": "handler: first\ncases:\n  - {method: tools/call, target: x, expect: allow}\n",
		"none.yaml":    "cases:\n  - {method: tools/call, target: x, expect: allow}\n",
	})
	config := []string{"check", "--config", "caddy.json"}
	execute(t, "", append(config, "--cases", "cases.yaml", "--cases", "default.yaml")...).wants(t, exitOK, "5 cases, 5 passed",
		`mcp_authorize 1 "first" at /apps/http/servers/z/routes/0/handle/0/routes/0/handle/0: 1 rule`+"\n",
		`mcp_authorize 2 "second" "second-id" at /apps/http/servers/a/named_routes/n/handle/0: 1 rule`,
		`mcp_authorize 3 at /apps/http/servers/a/routes/0/handle/0/handle_response/0/routes/0/handle/0: 1 rule`)
	execute(t, "", append(config, "--cases", "none.yaml")...).wants(t, exitFailed, "none.yaml:2: caddy.json has several mcp_authorize; say which one: 1 \"first\"")
	execute(t, "", append(config, "--cases", "none.yaml", "--handler", "second")...).wants(t, exitOK, "1 case, 1 passed")
}

// audit is a line of an audit log.
func audit(method, target, sub, decision, rule string) string {
	return fmt.Sprintf(`{"level":"info","ts":1785585600,"logger":"http.handlers.mcp_authorize.audit","msg":"decision","iss":"solo.io","sub":%q,`+
		`"mcp.method":%q,"mcp.target":%q,"mcp.decision":%q,"mcp.rule":%q,"mcp.version":"2025-06-18"}`+"\n", sub, method, target, decision, rule)
}

func TestCheckReplay(t *testing.T) {
	same := audit("tools/call", "get_me", "alice", "allow", "alice")
	changed := audit("tools/call", "get_me", "bob", "allow", "everybody")
	open := audit("tools/call", "read_file", "bob", "deny", "default")
	other := `{"level":"info","msg":"handled request"}` + "\n"
	inFolder(t, map[string]string{
		"Caddyfile": siteCaddyfile,
		"all.log":   same + changed + other + changed + open + "\n" + same,
		"same.log":  same + same, "open.log": same + open, "other.log": other, "text.log": same + "2026/08/01 INFO decision\n",
		"long.log": same + strings.Repeat("x", maxLogLine+1) + "\n",
	})
	execute(t, "", "check", "--replay", "same.log").wants(t, exitOK, "same.log: 2 decisions, 2 unchanged, 0 changed, 0 undecided\n")
	execute(t, "", "check", "--replay", "open.log").wants(t, exitUndecided, "2 decisions, 1 unchanged, 0 changed, 1 undecided", `
UNDECIDED open.log:2: 1x tools/call read_file, by bob of solo.io
  was deny by default; allow#2 depends on jwt.groups
`)
	execute(t, "", "check", "--replay", "all.log").wants(t, exitFound, "5 decisions, 2 unchanged, 2 changed, 1 undecided", `
CHANGED all.log:2: 2x tools/call get_me, by bob of solo.io
- allow by everybody
+ deny by default
`)
	execute(t, same, "check", "--replay", "-").wants(t, exitOK, "1 decision, 1 unchanged")
	execute(t, "", "check", "--replay", "other.log").wants(t, exitFailed, "other.log holds no decisions of mcp_authorize")
	execute(t, "", "check", "--replay", "text.log").wants(t, exitFailed, "text.log:2: not a line of a JSON log")
	execute(t, "", "check", "--replay", "long.log").wants(t, exitFailed, "long.log:2: ", "too long")
	execute(t, "", "check", "--replay", "missing.log").wants(t, exitFailed, "no such file")

	type lines []struct {
		Method, Target, Iss, Sub, Before, After, Detail string
		Count, Line                                     int
	}
	found := decode[struct {
		Replay struct {
			Decisions, Unchanged, Changed, Undecided, Ignored int
			Changes                                           lines
			Open                                              lines `json:"undecided_decisions"`
		}
	}](t, execute(t, "", "check", "--json", "--replay", "all.log")).Replay
	if found.Decisions != 5 || found.Unchanged != 2 || found.Changed != 2 || found.Undecided != 1 || found.Ignored != 1 ||
		len(found.Changes) != 1 || found.Changes[0].Count != 2 || found.Changes[0].Line != 2 || found.Changes[0].After != "deny" ||
		len(found.Open) != 1 || found.Open[0].Line != 5 || found.Open[0].After != "undecided" {
		t.Errorf("%+v", found)
	}
}
