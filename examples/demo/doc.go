// Package demo is a small MCP server to put behind the gateway: a few tools,
// prompts and resources whose answers show who the gateway says is calling
// and what it let through.
//
// It has no access control of its own. It believes the X-User header of
// whoever reaches it, so it belongs on a loopback address behind a gateway
// that sets this header and nowhere else.
package demo
