package mcpwire

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{200, 10 << 10, 1 << 20} {
		body := `{"jsonrpc":"2.0","id":12345,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"/home/alice/notes.txt","content":"`
		body += strings.Repeat("x", size-len(body)-len(`"}}}`)) + `"}}}`
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			doc := []byte(body)
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Read(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
