package celauthz

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkAnswer lets an answer through the whole handler: a list of tools,
// of which half are hidden, and the answer to a call, of which nothing is.
func BenchmarkAnswer(b *testing.B) {
	serve := func(b *testing.B, piece int, message, contentType, answer string) {
		s := newSite(b, `allow "dev" in jwt.groups && mcp.tool.name.startsWith("ok_")`).as(alice)
		s.behind = inPieces(piece, http.StatusOK, contentType, answer)
		b.SetBytes(int64(len(answer)))
		b.ReportAllocs()
		for b.Loop() {
			w := httptest.NewRecorder()
			if err := s.try(w, request(message)); err != nil || w.Code != http.StatusOK {
				b.Fatal(w.Code, err)
			}
		}
	}
	for _, n := range []int{10, 100, 1000, 10_000} {
		entries := make([]string, n)
		for i := range entries {
			entries[i] = fmt.Sprintf(`{"name":"%s_%d","inputSchema":{"type":"object","properties":{"path":{"type":"string"}}}}`, []string{"ok", "secret"}[i%2], i)
		}
		answer := resultOf("1", "["+strings.Join(entries, ",")+"]")
		b.Run(fmt.Sprintf("JSON/%d", n), func(b *testing.B) { serve(b, 32<<10, list, jsonType, answer) })
		b.Run(fmt.Sprintf("SSE/%d", n), func(b *testing.B) { serve(b, 32<<10, list, eventType, "data: "+answer+"\n\n") })
	}
	text := `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 1<<20) + `"}]}}`
	b.Run("call", func(b *testing.B) { serve(b, 32<<10, callOf("ok_1", `{}`), jsonType, text) })
	event := `event: message` + "\n" + `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1,"message":"17 of 30"}}` + "\n\n"
	b.Run("1,000 events", func(b *testing.B) { serve(b, len(event), callOf("ok_1", `{}`), eventType, strings.Repeat(event, 1000)) })
	b.Run("call/SSE", func(b *testing.B) { serve(b, 32<<10, callOf("ok_1", `{}`), eventType, "data: "+text+"\n\n") })
}
