package main

import (
	"fmt"
	"io"
	"net"
	"text/template"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/gateway/examples/demo"
)

// welcome is what a person at the terminal reads.
var welcome = template.Must(template.New("welcome").Parse(`
The gateway is ready.

  gateway      {{.Gateway}}
  demo server  {{.Demo}}
{{- if .Admin}}
  admin API    {{.Admin}}
{{- end}}

In another terminal, in this folder, ask it who you are.

With curl:
{{range .Callers}}
  # {{.Name}}: {{.Answer}}
  curl -sS -w '\n' {{$.Gateway}} \
    -H 'Content-Type: application/json' \
    -H 'Accept: application/json, text/event-stream' \
    -H 'mcp-protocol-version: 2025-06-18' \
{{- if .Token}}
    -H "Authorization: Bearer $(cat {{.Token}})" \
{{- end}}
    -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_me","arguments":{}}}'
{{end}}
With MCP Inspector:
{{range .Callers}}
  # {{.Name}}
  npx @modelcontextprotocol/inspector@0.22.0 --cli {{$.Gateway}} --transport http \
    --header 'mcp-protocol-version: 2024-11-05' \
{{- if .Token}}
    --header "Authorization: Bearer $(cat {{.Token}})" \
{{- end}}
    --method tools/call --tool-name get_me
{{end}}
To let in Alice only, write in {{.File}}

  allow ` + "`" + `jwt.sub == "alice"` + "`" + `

in place of "allow true", and reload:

  go run ./cmd/caddy reload --config {{.File}}
{{- if .Admin}}

or, which is the same without building anything:

  curl -sS {{.Admin}}/load -H 'Content-Type: text/caddyfile' --data-binary @{{.File}}
{{- end}}

Then ask again: Bob gets "authorization failed". Ctrl-C stops everything.

`))

type caller struct{ Name, Answer, Token string }

func printWelcome(w io.Writer, c *config, demoAddress string) error {
	view := struct {
		Gateway, Demo, Admin, File string
		Callers                    []caller
	}{
		Gateway: urlOf(c.listen[0]) + demo.Path,
		Demo:    "http://" + demoAddress + demo.Path,
		File:    c.file,
		Callers: []caller{
			{"nobody", "authentication failure", ""},
			{"Alice", "You are alice.", "examples/quickstart/alice.jwt"},
			{"Bob", "You are bob.", "examples/quickstart/bob.jwt"},
		},
	}
	if c.admin != "" {
		view.Admin = urlOf(c.admin)
	}
	for _, warning := range c.warning {
		fmt.Fprintln(w, warning)
	}
	return welcome.Execute(w, view)
}

// urlOf is how a client on this machine reaches what listens on address.
func urlOf(address string) string {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return "http://" + address
	}
	if parsed.Host == "" || net.ParseIP(parsed.Host).IsUnspecified() {
		parsed.Host = "127.0.0.1"
	}
	return "http://" + parsed.JoinHostPort(0)
}
