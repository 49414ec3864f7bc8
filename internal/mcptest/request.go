package mcptest

import (
	"net/http"
	"net/http/httptest"
	"strings"
)

// Ping is the smallest message that asks for an answer.
const Ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// Request returns the POST of a JSON-RPC message, as a server gets it. An
// empty token leaves the Authorization header out.
func Request(url, token, message string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(message))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}
