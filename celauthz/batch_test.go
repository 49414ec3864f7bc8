package celauthz

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/reqctx"
)

// batchOf joins messages to a batch.
func batchOf(messages ...string) string { return "[" + strings.Join(messages, ",") + "]" }

const notice = `{"jsonrpc":"2.0","method":"notifications/initialized"}`

// A100: batches are of 2025-03-26 alone, which a request without a version
// is taken for.
func TestA100_Batches(t *testing.T) {
	s := newSite(t, okRules...)
	legal := map[string]string{
		"one":           batchOf(list),
		"several":       batchOf(list, callOf("ok", `{}`), notice, `{"jsonrpc":"2.0","id":"x","result":{}}`),
		"blanks":        " \r\n\t[ " + list + " , " + notice + " ]\n",
		"notifications": batchOf(notice, notice),
		"as many":       batchOf(strings.Split(strings.Repeat(list+"\x00", mcpwire.MaxBatch-1)+list, "\x00")...),
	}
	for name, batch := range legal {
		t.Run(name, func(t *testing.T) {
			for _, versions := range [][]string{nil, {"2025-03-26"}} {
				r := request(batch)
				r.Header["Mcp-Protocol-Version"] = versions
				s.wantPassed(s.serve(r), batch)
				if state := reqctx.From(s.passed.Context()); state.Message != nil {
					t.Error("there is one message")
				}
			}
			for _, version := range []string{"2024-11-05", "2025-06-18", "2025-11-25", "2026-07-28", "2025-03-27", "2025", "x"} {
				s.wantRefused(s.post(batch, header("MCP-Protocol-Version", version)), 400,
					rpcError("null", -32600, `"batches are not accepted in version `+version+`"`, ""))
			}
		})
	}
	illegal := map[string]struct {
		batch, id string
		code      int
		message   string
	}{
		"empty":             {"[]", "null", -32600, "an empty batch"},
		"empty with blanks": {" [ \n] ", "null", -32600, "an empty batch"},
		"too many":          {batchOf(strings.Split(strings.Repeat(list+"\x00", mcpwire.MaxBatch)+list, "\x00")...), "null", -32600, "too many elements: more than 100"},
		"nested":            {batchOf(list, batchOf(list)), "null", -32600, "batches are not accepted"},
		"nested and empty":  {batchOf(batchOf()), "null", -32600, "batches are not accepted"},
		"initialize":        {batchOf(list, `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{}}`), `"i"`, -32600, "initialize in a batch"},
		"a subscription":    {batchOf(`{"jsonrpc":"2.0","id":5,"method":"subscriptions/listen","params":{"notifications":{}}}`, list), "5", -32600, "subscriptions/listen in a batch"},
		"a duplicate":       {batchOf(list, `{"jsonrpc":"2.0","id":2,"method":"ping","method":"ping"}`), "null", -32600, "duplicate member name"},
		"no target":         {batchOf(list, messageOf("tools/call", `{}`)), "1", -32600, "the member of params that names the target is missing or not a string"},
		"a number":          {batchOf("7"), "null", -32700, "not valid JSON: not an object"},
	}
	for name, c := range illegal {
		t.Run(name, func(t *testing.T) {
			s.wantRefused(s.post(c.batch), 400, rpcError(c.id, c.code, `"malformed message: `+c.message+`"`, ""))
		})
	}
	// both of two versions, and the second may be the one the server reads
	r := request(batchOf(list))
	r.Header["Mcp-Protocol-Version"] = []string{"2025-03-26", "2025-06-18"}
	if w := s.serve(r); w.Code != 400 || s.passed != nil {
		t.Errorf("answer %d %s", w.Code, w.Body)
	}
}

// One entry that is denied is enough, wherever it stands and whatever it is.
func TestA100_DeniedEntries(t *testing.T) {
	rules := append([]string{
		`deny mcp.method == "notifications/roots/list_changed"`, `deny mcp.method == "prompts/list"`,
		`allow mcp.tool.name == "careful" && mcp.tool.arguments.x == 1`,
	}, okRules...)
	for name, denied := range map[string]string{
		"a hidden tool":         callOf("secret", `{}`),
		"a use that is refused": callOf("careful", `{"x":2}`),
		"a hidden resource":     messageOf("resources/read", `{"uri":"secret"}`),
		"a call without id":     `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"secret"}}`,
		"a list":                messageOf("prompts/list", ""),
		"a notification":        `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`,
		"a completion":          messageOf("completion/complete", `{"ref":{"type":"ref/prompt","name":"secret"}}`),
		"an unknown method":     messageOf("x/y", ""),
		"a name in disguise":    `{"jsonrpc":"2.0","id":1,"method":"tools\u002fcall","params":{"name":"secret"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, onDeny := range []string{OnDenyHide, OnDenyForbid} {
				s := provision(t, &Handler{Rules: rulesOf(t, rules...), OnDeny: onDeny})
				fine := []string{callOf("ok", `{}`), notice, callOf("careful", `{"x":1}`)}
				s.wantPassed(s.post(batchOf(fine...)), batchOf(fine...))
				for at := range len(fine) + 1 {
					batch := append(append(append([]string{}, fine[:at]...), denied), fine[at:]...)
					s.wantRefused(s.post(batchOf(batch...)), 403, "authorization failed")
				}
				s.wantRefused(s.post(batchOf(denied)), 403, "authorization failed")
			}
		})
	}
	// who may do nothing at all is told so in a batch as well
	s := newSite(t, `allow jwt.sub == "alice"`).as(`{"sub":"bob"}`)
	s.wantRefused(s.post(batchOf(list)), 403, "authorization failed")
}

// A name in a header cannot be that of every message, so it must be none of
// a batch that names others.
func TestBatchHeaders(t *testing.T) {
	s := newSite(t, "allow true")
	batch := batchOf(callOf("a", `{}`), callOf("b", `{}`))
	for name, change := range map[string]func(*http.Request){
		"the first name":  header("Mcp-Name", "a"),
		"the last name":   header("Mcp-Name", "b"),
		"another method":  header("Mcp-Method", "tools/list"),
		"an invalid name": header("Mcp-Name", "=?base64?!?="),
	} {
		if w := s.post(batch, change); w.Code != 400 || s.passed != nil || !strings.Contains(w.Body.String(), `"code":-32020`) {
			t.Errorf("%s: answer %d %s", name, w.Code, w.Body)
		}
	}
	s.wantPassed(s.post(batch, header("Mcp-Method", "tools/call")), batch)
}

// The answer to a batch is an array, as JSON or as events, and is filtered.
func TestBatchAnswers(t *testing.T) {
	s := newSite(t, okRules...)
	batch := batchOf(list, `{"jsonrpc":"2.0","id":2,"method":"prompts/list"}`, callOf("ok", `{}`))
	call := `{"jsonrpc":"2.0","id":3,"result":{"content":[ ]}}`
	prompts := `{"jsonrpc":"2.0","id":2,"result":{"prompts":[{"name":"secret"}],"nextCursor":"c"}}`
	answer := batchOf(resultOf("1", mixedList), prompts, call)
	want := batchOf(resultOf("1", okList), strings.Replace(prompts, `{"name":"secret"}`, "", 1), call)
	for contentType, wrap := range map[string]func(string) string{
		jsonType:  func(s string) string { return s },
		eventType: func(s string) string { return "data: " + s + "\n\n" },
	} {
		s.behind = answers(http.StatusOK, contentType, wrap(answer), "Etag", `"1"`)
		w := s.post(batch)
		if w.Body.String() != wrap(want) {
			t.Errorf("answer %d %s", w.Code, w.Body)
		}
		wantHeader(t, w, "Cache-Control", "private")
		wantHeader(t, w, "Etag", "")
	}
	// one by one
	s.behind = answers(http.StatusOK, eventType, "data: "+prompts+"\n\ndata: "+call+"\n\n")
	if w := s.post(batch); strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), call) {
		t.Errorf("answer %d %s", w.Code, w.Body)
	}
}
