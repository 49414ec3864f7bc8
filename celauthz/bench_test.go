package celauthz

import (
	"context"
	"fmt"
	"testing"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// BenchmarkDecide judges a call that the last of the rules allows.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		var lines []string
		for i := range n - 1 {
			switch i % 3 {
			case 0:
				lines = append(lines, fmt.Sprintf(`allow "group_%d" in jwt.groups && mcp.tool.name.startsWith("tool_%d")`, i, i))
			case 1:
				lines = append(lines, fmt.Sprintf(`deny mcp.tool.name == "tool_%d" && jwt.sub != "alice"`, i))
			case 2:
				lines = append(lines, fmt.Sprintf(`allow mcp.prompt.name == "prompt_%d"`, i))
			}
		}
		p := policyOf(b, append(lines, `allow "dev" in jwt.groups && mcp.tool.name.startsWith("read_") && mcp.tool.arguments.path.startsWith("/pub/")`)...)
		who := callerOf(b, alice)
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d := p.decide(context.Background(), mayCall, who, toolCall("read_file", `{"path":"/pub/a"}`))
				if !d.allowed {
					b.Fatal(d)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/visible", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := p.visible(context.Background(), who, mcpwire.Tool, "read_file"); !d.allowed {
					b.Fatal(d)
				}
			}
		})
	}
}
