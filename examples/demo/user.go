package demo

import "github.com/modelcontextprotocol/go-sdk/mcp"

// UserHeader carries the name of the caller from the gateway.
const UserHeader = "X-User"

// userOf is who the gateway says is calling, empty when it does not say.
func userOf(extra *mcp.RequestExtra) string {
	if extra == nil {
		return ""
	}
	return extra.Header.Get(UserHeader)
}
