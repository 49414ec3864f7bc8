package main

import (
	"fmt"
	"strings"
)

// kind is what a group measures.
type kind int

const (
	calls  kind = iota // calls in a loop
	idle               // open streams on which nothing happens
	events             // streams with events
)

// group is a load, and the candidates that get it in turn. The first one is
// plain Caddy, which the others are compared with.
type group struct {
	id          string
	title       string
	kind        kind
	connections int    // or streams
	answer      string // query of the request
	body        int    // bytes of a call, 200 by default
	tls, h2     bool
	candidates  []candidate
	thin        bool // margins that matter are: twice as many runs
}

// Names of groups that goals refer to.
const (
	idCalls   = "calls-16"
	id256     = "calls-256"
	idRules   = "rules"
	idTokens  = "tokens"
	idBody10K = "body-10k"
	idBody1M  = "body-1m"
	idTLS1    = "tls-h1"
	idTLS2    = "tls-h2"
	idEvents  = "events"

	sdkName          = "Go SDK middleware + httputil.ReverseProxy"
	rules10Name      = "+ mcp_jwt + mcp_authorize, 10 rules"
	rules1000Name    = "+ mcp_jwt + mcp_authorize, 1,000 rules"
	prefix1000Name   = "+ mcp_jwt + mcp_authorize, 1,000 rules by prefix"
	group1000Name    = "+ mcp_jwt + mcp_authorize, 1,000 rules by group"
	rotationName     = "everything on, 1,000 tokens in rotation"
	firstUseName     = "everything on, first use of each token"
	tokensInRotation = 1000
)

// groups is the whole benchmark, in the order in which it runs.
func groups() []group {
	both := []candidate{plain, all}
	ruleCount := func(n int) candidate {
		name := strings.TrimSuffix(rules10Name, "10 rules") + thousands(n) + " rules"
		return candidate{name: name, setup: withRules, rules: n}
	}
	list := []group{
		{id: idCalls, title: "16 connections", thin: true, connections: 16, candidates: []candidate{
			plain, all, // one after the other, since their margin is thin
			{name: "+ mcp_jwt", setup: withJWT},
			{name: "+ mcp_jwt + mcp_authorize", setup: withRules},
			{name: sdkName, setup: goSDK},
		}},
		{id: "calls-64", title: "64 connections", connections: 64, candidates: both},
		{id: id256, title: "256 connections", connections: 256, candidates: both},
		{id: "sse-16", title: "SSE answers", answer: answerSSE, candidates: both},
		{id: idRules, title: "rules", thin: true, candidates: []candidate{
			plain,
			{name: "+ mcp_jwt + mcp_authorize, 1 rule", setup: withRules, rules: 1},
			ruleCount(10), ruleCount(100), ruleCount(1000),
			{name: prefix1000Name, setup: withRules, rules: 1000, by: byPrefix},
			{name: group1000Name, setup: withRules, rules: 1000, by: byGroup},
		}},
		{id: idTokens, title: "tokens", thin: true, candidates: []candidate{
			plain, all,
			{name: rotationName, setup: everything, tokens: tokensInRotation},
			// a cache for one token forgets each one before it comes again
			{name: firstUseName, setup: everything, tokens: tokensInRotation, cache: "1"},
		}},
		{id: idBody10K, title: "10 KB requests", body: 10 << 10, candidates: []candidate{plain, whole, all}},
		{id: idBody1M, title: "1 MB requests", body: 1 << 20, candidates: []candidate{plain, whole, all}},
		{id: idTLS1, title: "TLS, HTTP/1.1", tls: true, candidates: both},
		{id: idTLS2, title: "TLS, HTTP/2", tls: true, h2: true, candidates: both},
	}
	for _, n := range toolCounts {
		list = append(list, group{
			id: listID(n), title: thousands(n) + " tools listed", answer: fmt.Sprint(answerTools, n), candidates: both,
			connections: max(2, 16*10/n), // many would only wait for each other
		})
	}
	for _, n := range []int{1000, 5000} {
		list = append(list, group{
			id: idleID(n), title: thousands(n) + " idle streams", kind: idle, connections: n, answer: answerIdle, candidates: both,
		})
	}
	list = append(list, group{id: idEvents, title: "events", kind: events, connections: 4, answer: answerEvents, candidates: both})
	for i := range list {
		g := &list[i]
		if g.connections == 0 {
			g.connections = 16
		}
		if g.answer == "" {
			g.answer = answerJSON
		}
		if g.body == 0 {
			g.body = 200
		}
	}
	return list
}

func listID(tools int) string { return fmt.Sprintf("list-%d", tools) }

func idleID(streams int) string { return fmt.Sprintf("idle-%d", streams) }

// protocolVersion is what the client of the benchmark speaks.
const protocolVersion = "2025-06-18"

const helloMessage = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + protocolVersion +
	`","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`

const listMessage = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`

// message is the body of the requests of a group.
func (g group) message() string {
	if strings.HasPrefix(g.answer, answerTools) {
		return listMessage
	}
	head := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + calledTool + `","arguments":{"path":"/pub/notes.txt","content":"`
	const line = `A line of a file, with \"quotes\" and an umlaut: \u00fc.\n`
	const foot = `"}}}`
	fill := max(0, g.body-len(head)-len(foot))
	text := strings.Repeat(line, fill/len(line))
	return head + text + strings.Repeat("x", fill-len(text)) + foot
}

// thousands writes a number with commas.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
