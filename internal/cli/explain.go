package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/caddymcp/gateway/celauthz"
)

var explainCommand = command{
	use:   "explain [--config <file>] [--claims <json> | --token <jwt>] <method> [<target>] [<arguments>]",
	short: "Tells what becomes of an operation, and what every rule says",
	long: `Judges one operation by the rules of a configuration, which is not started, and
tells what every rule says about it, part by part.

<method> is a method of MCP, or GET or DELETE; <target> the tool, prompt,
resource or task; <arguments> a JSON object. With a list, tools/list say,
<target> is the entry whose visibility is asked about.

The claims come from --claims, or from a token whose signature is NOT verified:
this command tells what the rules would say if mcp_jwt had accepted it. Without
both, the caller has no token.

Exit codes: 0, whatever the decision is; 1, it could not be made.`,
	example: `  $ caddy mcp explain --config Caddyfile --claims '{"sub":"bob"}' tools/call delete_repo '{"repo":"acme/x"}'
  $ caddy mcp explain --config Caddyfile --token - tools/list delete_repo < bob.jwt
  $ caddy mcp explain --config Caddyfile --claims '{"sub":"bob"}' --json initialize`,
	args: cobra.RangeArgs(1, 3),
	flags: func(flags *pflag.FlagSet) {
		configFlags(flags)
		flags.String("claims", "", "Claims of the caller, a JSON object")
		flags.String("token", "", "Token of the caller, not verified; - reads it from stdin")
		flags.String("params", "", "All params of the message, a JSON object, instead of target and arguments")
		flags.String("mcp-version", "", "Protocol version (default 2025-03-26)")
		flags.String("scheme", "", "Scheme of the request (default https)")
		flags.String("host", "", "Host of the request")
		flags.String("uri", "", "Path and query of the request (default /)")
		flags.StringArray("header", nil, "Header of the request, <name>: <value> (repeatable)")
		flags.String("source", "", "Address of the client, or address:port")
		flags.String("time", "", "When it happens, in RFC 3339 (default now)")
	},
	run: explain,
}

// explained is the report of explain.
type explained struct {
	Handler   *handler           `json:"handler"`
	Operation celauthz.Operation `json:"operation"`
	// Verified is false where the claims are those of a token; null without
	// one.
	Verified *bool `json:"token_verified,omitzero"`

	*celauthz.Explanation
}

func explain(c *call) (report, int, error) {
	found := new(explained)
	if err := found.read(c); err != nil {
		return nil, exitFailed, err
	}
	config, err := loadConfig(c)
	if err != nil {
		return nil, exitFailed, err
	}
	if found.Handler, err = config.choose(c.text("handler")); err != nil {
		return nil, exitFailed, err
	}
	if found.Explanation, err = found.Handler.Explain(c.cmd.Context(), &found.Operation); err != nil {
		return nil, exitFailed, err
	}
	return found, exitOK, nil
}

// read makes an operation of flags and arguments.
func (e *explained) read(c *call) error {
	o := &e.Operation
	o.Method = c.args[0]
	if len(c.args) > 1 {
		o.Target = c.args[1]
	}
	arguments := ""
	if len(c.args) > 2 {
		arguments = c.args[2]
	}
	err := errors.Join(
		readObject("--claims", c.text("claims"), &o.Claims),
		readObject("--params", c.text("params"), &o.Params),
		readObject("the arguments", arguments, &o.Arguments),
	)
	if err != nil {
		return err
	}
	if text := c.text("token"); text != "" {
		if o.Claims != nil {
			return errors.New("claims come from --claims or from --token, not from both")
		}
		claims, err := tokenClaims(text, c.cmd.InOrStdin())
		if err != nil {
			return err
		}
		o.Claims, e.Verified = claims, new(bool)
	}
	return e.readRequest(c)
}

func readObject(name, text string, into *jsontext.Value) error {
	if text == "" {
		return nil
	}
	if *into = jsontext.Value(text); into.Kind() != '{' || !into.IsValid() {
		return fmt.Errorf("%s must be a JSON object without duplicate names", name)
	}
	return nil
}

func (e *explained) readRequest(c *call) error {
	o := &e.Operation
	o.Version, o.Source = c.text("mcp-version"), c.text("source")
	o.Request = celauthz.OperationRequest{Scheme: c.text("scheme"), Host: c.text("host"), URI: c.text("uri")}
	for _, header := range c.texts("header") {
		name, value, ok := strings.Cut(header, ":")
		if !ok {
			return fmt.Errorf("--header %q: must be <name>: <value>", header)
		}
		if o.Request.Headers == nil {
			o.Request.Headers = make(map[string]string)
		}
		o.Request.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	if text := c.text("time"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return fmt.Errorf("--time: %w", err)
		}
		o.Time = at
	}
	return nil
}

func (e *explained) show(w io.Writer) {
	if e.Verified != nil {
		fmt.Fprint(w, "The signature of the token was NOT verified; these are the rules only.\n\n")
	}
	fmt.Fprintf(w, "%s: %s\n", ending{Outcome: e.Outcome, Rule: e.Rule}, e.Summary)
	switch {
	case e.Answer == nil && e.Decision == "allow":
		fmt.Fprintln(w, "it goes on to the server")
	case e.Answer == nil:
		fmt.Fprintln(w, "it is taken out of the list")
	default:
		fmt.Fprintf(w, "answer: HTTP %d, %s\n", e.Answer.Status, e.Answer.Body)
		if len(e.Answer.Scopes) > 0 {
			fmt.Fprintf(w, "challenge: insufficient_scope, %s\n", strings.Join(e.Answer.Scopes, " "))
		}
	}
	for _, q := range e.Questions {
		printQuestion(w, q)
	}
	for _, s := range e.Scopes {
		fmt.Fprintf(w, "\nscope %s: needed %s, granted %s\n", s.Scope, yesNo(s.Needed), yesNo(s.Granted))
	}
}

// questions are the questions in words.
var questions = map[string]string{
	"call":           "may this call happen",
	"entry":          "may this be seen, whatever the arguments",
	"request":        "may this request pass, whatever it leads to",
	"unknown_method": "is there an allow that names this method",
	"anything":       "is anything at all allowed",
}

func printQuestion(w io.Writer, q celauthz.Question) {
	operation := strings.TrimSpace(q.Method + " " + q.Target)
	if q.Asked == "anything" {
		operation = "any operation"
	}
	fmt.Fprintf(w, "\n%s? %s: %s, %s\n", questions[q.Asked], operation, yesNo(q.Allowed), q.Rule)
	for _, r := range q.Rules {
		effect := r.Effect
		if effect == "none" {
			effect = "has no effect"
		}
		fmt.Fprintf(w, "  %s (%s) %s\n", r.Name, r.Action, effect)
		for _, e := range r.Expressions {
			printExpression(w, "    ", e)
		}
	}
}

func printExpression(w io.Writer, indent string, e celauthz.ExpressionVerdict) {
	verdict := strings.ReplaceAll(e.Verdict, "-", " ")
	if e.Detail != "" && len(e.Parts) == 0 {
		verdict += ", " + e.Detail
	}
	fmt.Fprintf(w, "%s%s\n", indent, strings.ReplaceAll(strings.TrimSpace(e.Expression), "\n", "\n"+indent))
	fmt.Fprintf(w, "%s  = %s\n", indent, verdict)
	for _, part := range e.Parts {
		printExpression(w, indent+"    ", part)
	}
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
