package docs_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRules plays through the tables of rules.
func TestRules(t *testing.T) {
	tables := 0
	for _, page := range pages(t) {
		var example *block
		for _, b := range blocks(t, page) {
			switch {
			case b.lang == "caddyfile":
				example = b
			case len(b.rows) > 0 && slices.Equal(b.rows[0], []string{"claims", "operation", "answer"}):
				tables++
				t.Run(fmt.Sprintf("%s:%d", page, b.line), func(t *testing.T) { playTable(t, example, b) })
			}
		}
	}
	if tables < 15 {
		t.Errorf("only %d tables of rules found", tables)
	}
}

// TestEveryRuleIsTried: an example of rules is followed by its table.
func TestEveryRuleIsTried(t *testing.T) {
	list := blocks(t, "rules.md")
	for i, b := range list {
		if b.lang != "caddyfile" || !strings.Contains(b.text, "mcp_authorize") {
			continue
		}
		if i+1 == len(list) || len(list[i+1].rows) == 0 || list[i+1].rows[0][0] != "claims" {
			t.Errorf("rules.md:%d: no table with claims, operation and answer follows", b.line)
		}
	}
}

func playTable(t *testing.T, example, table *block) {
	if example == nil {
		t.Fatal("no example precedes the table")
	}
	g := serve(t, example.text)
	claims := ""
	for i, row := range table.rows[1:] {
		if row[0] != "" {
			claims = row[0]
		}
		if got := play(t, g, claims, row[1]); got != row[2] {
			t.Errorf("%s:%d: %s | %s | %s, got %s", table.page, table.line+i+2, claims, row[1], row[2], got)
		}
	}
}

// play tries one operation and describes the answer as the tables do.
func play(t *testing.T, g *gateway, claims, operation string) string {
	t.Helper()
	bearer := ""
	if claims != "none" {
		bearer = signed("", codes(claims)[0])
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(operation, "`"), "`")
	request := operationRequest(codes(operation)[0], bearer)
	circumstances := strings.Fields(rest)
	var at time.Time
	for len(circumstances) > 0 {
		switch circumstances[0] {
		case "from":
			request.RemoteAddr = circumstances[1] + ":40000"
		case "at":
			var err error
			if at, err = time.Parse(time.RFC3339, circumstances[1]); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("cannot read %q", rest)
		}
		circumstances = circumstances[2:]
	}
	if at.IsZero() {
		return describe(g.ask(request))
	}
	var answer *httptest.ResponseRecorder
	synctest.Test(t, func(*testing.T) {
		time.Sleep(time.Until(at)) // the clock of a synctest bubble jumps
		answer = g.ask(request)
	})
	return describe(answer)
}

// operationRequest makes the request that a table calls `method target {arguments}`.
func operationRequest(operation, bearer string) *http.Request {
	method, rest, _ := strings.Cut(operation, " ")
	if method == http.MethodGet || method == http.MethodDelete {
		r := httptest.NewRequest(method, rest, http.NoBody)
		if bearer != "" {
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
		return r
	}
	target, arguments, hasArguments := strings.Cut(rest, " {")
	params := map[string]any{}
	switch {
	case method == "completion/complete":
		kind, name, _ := strings.Cut(target, " ")
		member := map[string]string{"ref/prompt": "name", "ref/resource": "uri"}[kind]
		params["ref"] = map[string]string{"type": kind, member: name}
	case method == "subscriptions/listen":
		params["notifications"] = map[string]any{"resourcesListChanged": true}
	case strings.HasPrefix(method, "resources/") && target != "":
		params["uri"] = target
	case strings.HasPrefix(method, "tasks/") && target != "":
		params["taskId"] = target
	case target != "":
		params["name"] = target
	}
	if hasArguments {
		params["arguments"] = json.RawMessage("{" + arguments)
	}
	message := map[string]any{"jsonrpc": "2.0", "method": method, "params": params}
	if !strings.HasPrefix(method, "notifications/") {
		message["id"] = 7
	}
	body, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	return post(bearer, string(body))
}

// describe puts an answer into the words of the tables, and gives it away
// literally when it is none of those they know.
func describe(answer *httptest.ResponseRecorder) string {
	body := answer.Body.String()
	literally := fmt.Sprintf("%d %s", answer.Code, body)
	if answer.Header().Get(reached) != "" {
		return describeServed(body)
	}
	if answer.Header().Get("Content-Type") != "application/json" {
		_, scopes, isStepUp := strings.Cut(answer.Header().Get("WWW-Authenticate"), `error="insufficient_scope", scope="`)
		switch {
		case isStepUp && answer.Code == http.StatusForbidden:
			return "needs `" + strings.TrimSuffix(scopes, `"`) + "`"
		case answer.Code == http.StatusForbidden && body != "authorization failed":
			return literally
		case answer.Code == http.StatusUnauthorized && !strings.HasPrefix(answer.Header().Get("WWW-Authenticate"), "Bearer "):
			return literally
		}
		return strconv.Itoa(answer.Code)
	}
	var reply struct {
		ID    int
		Error struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal([]byte(body), &reply); err != nil || reply.ID != 7 {
		return literally
	}
	switch rule, isDenial := strings.CutPrefix(reply.Error.Message, "denied by rule "); {
	case answer.Code == http.StatusForbidden && reply.Error.Code == -31403 && isDenial:
		return "denied by `" + strings.Trim(rule, `"`) + "`"
	case answer.Code == http.StatusOK && reply.Error.Code == -32602 && strings.HasPrefix(reply.Error.Message, "Unknown "),
		answer.Code == http.StatusOK && reply.Error.Code == -32002 && reply.Error.Message == "Resource not found":
		return "unknown"
	case answer.Code == http.StatusOK && reply.Error.Code == -32601:
		return "no such method"
	}
	return literally
}

// describeServed tells a list, of which something may have been taken out,
// from the server's other answers.
func describeServed(body string) string {
	var reply struct {
		Result map[string][]struct {
			Name, URI, URITemplate string
		}
	}
	if err := json.Unmarshal([]byte(body), &reply); err != nil {
		return body
	}
	for _, entries := range reply.Result {
		names := []string{"lists"}
		for _, entry := range entries {
			names = append(names, "`"+entry.Name+entry.URI+entry.URITemplate+"`")
		}
		return strings.Join(names, " ")
	}
	return "allowed"
}
