package main

import (
	"fmt"
	"strings"
)

const (
	issuer   = "https://idp.example.com"
	audience = "https://mcp.example.com/mcp"
)

// setup is what a candidate puts in front of the upstream.
type setup int

const (
	plainProxy setup = iota // Caddy's reverse_proxy with its defaults
	withJWT                 // mcp_jwt before it
	withRules               // mcp_jwt and mcp_authorize before it
	everything              // all three handlers
	goSDK                   // no Caddy: the Go SDK's middleware and net/http
)

// candidate is one of the servers that a group compares.
type candidate struct {
	name   string
	setup  setup
	rules  int // how many, 10 by default
	by     ruleKind
	cache  string // token_cache, if not the default
	tokens int    // how many are used in turn, 1 by default
	// buffered: reverse_proxy reads a request whole before it passes it on,
	// as everybody has to who judges it.
	buffered bool
}

// ruleKind is what tells the rules of a candidate apart, besides the argument.
type ruleKind int

const (
	byName   ruleKind = iota // the name of the tool, and the group of the caller
	byPrefix                 // how the name of the tool begins, and the group
	byGroup                  // the group of the caller alone
)

// Names of candidates that goals refer to.
const (
	plainName = "plain reverse_proxy"
	allName   = "everything on"
)

var (
	plain = candidate{name: plainName}
	all   = candidate{name: allName, setup: everything}
	// whole is plain Caddy that reads requests whole.
	whole = candidate{name: plainName + " + request_buffers", buffered: true}
)

// Tools of the benchmark: the caller may call, and see, those with this
// prefix.
const (
	visiblePrefix = "read"
	calledTool    = visiblePrefix + "_notes"
)

// ruleLines are n rules of which only the last one is about the tool that is
// called, or about a group of the caller.
func ruleLines(n int, by ruleKind) string {
	var b strings.Builder
	for i := range n - 1 {
		condition := ""
		switch by {
		case byName:
			condition = fmt.Sprintf(`mcp.tool.name == "tool_%d" && `, i)
		case byPrefix:
			condition = fmt.Sprintf(`mcp.tool.name.startsWith("tool_%d") && `, i)
		case byGroup:
		}
		fmt.Fprintf(&b, "\t\tallow `%s\"group_%d\" in jwt.groups && mcp.tool.arguments.path.startsWith(\"/home/%d/\")`\n", condition, i, i)
	}
	condition := fmt.Sprintf("mcp.tool.name.startsWith(\"%s_\") && ", visiblePrefix)
	if by == byGroup {
		condition = ""
	}
	fmt.Fprintf(&b, "\t\tallow `%s\"dev\" in jwt.groups && mcp.tool.arguments.path.startsWith(\"/pub/\")`\n", condition)
	return b.String()
}

// site is where a candidate listens and what it needs.
type site struct {
	port, admin, upstream int
	jwks, cert, key       string // files
	tls                   bool
}

// caddyfile is the configuration of a candidate that is a Caddy.
func (c candidate) caddyfile(s site) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tadmin %s\n\tpersist_config off\n\tauto_https disable_redirects\n\tgrace_period 1s\n", loopback(s.admin))
	fmt.Fprintf(&b, "\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1 h2\n\t}\n}\n\n")
	scheme := "http"
	if s.tls {
		scheme = "https"
	}
	fmt.Fprintf(&b, "%s://%s {\n\tbind 127.0.0.1\n", scheme, loopback(s.port))
	if s.tls {
		fmt.Fprintf(&b, "\ttls %s %s\n", s.cert, s.key)
	}
	if c.setup >= withJWT {
		fmt.Fprintf(&b, "\tmcp_jwt {\n\t\tissuer %s {\n\t\t\tjwks file %s\n\t\t\taudiences %s\n\t\t}\n", issuer, s.jwks, audience)
		if c.cache != "" {
			fmt.Fprintf(&b, "\t\ttoken_cache %s\n", c.cache)
		}
		b.WriteString("\t}\n")
	}
	if c.setup >= withRules {
		rules := c.rules
		if rules == 0 {
			rules = 10
		}
		fmt.Fprintf(&b, "\tmcp_authorize {\n%s\t}\n", ruleLines(rules, c.by))
	}
	if c.setup == everything {
		fmt.Fprintf(&b, "\tmcp_proxy http://%s/mcp\n", loopback(s.upstream))
	} else {
		fmt.Fprintf(&b, "\treverse_proxy %s {\n", loopback(s.upstream))
		if c.buffered {
			b.WriteString("\t\trequest_buffers 4MiB\n")
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}
