// Package cli is the command `caddy mcp`: keys and tokens for development,
// rules checked without a server, and a look at an authorization server.
package cli

import (
	"bytes"
	"fmt"
	"io"
	"unicode"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes; docs/cli.md explains them.
const (
	exitOK = 0
	// exitFailed: the command could not do its work. It is what Caddy exits
	// with as well.
	exitFailed = 1
	// exitFound: the work is done, and something is wrong.
	exitFound = 4
	// exitUndecided: nothing is known to be wrong, but not all could be
	// decided.
	exitUndecided = 5
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "mcp",
		Usage: "<command>",
		Short: "Keys, tokens and checks for the MCP gateway",
		Long: "Makes keys and tokens for development, tries the rules of a configuration\n" +
			"without starting it, and looks at authorization servers.",
		CobraFunc: func(cmd *cobra.Command) { addCommands(cmd, exitWith) },
	})
}

// exitWith makes Caddy exit with a status.
func exitWith(status int) error {
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return status, nil })(new(cobra.Command), nil)
}

// report is what a command has found, printed as text or as JSON.
type report interface {
	show(w io.Writer)
}

// call is one call of a command.
type call struct {
	*pflag.FlagSet
	args []string
	cmd  *cobra.Command
}

// text is the value of a flag.
func (c *call) text(name string) string { return c.Lookup(name).Value.String() }

// yes is the value of a flag that is given or not.
func (c *call) yes(name string) bool { return c.text(name) == "true" }

// texts are the values of a flag that can be repeated.
func (c *call) texts(name string) []string {
	values, err := c.GetStringArray(name)
	if err != nil {
		panic(err) // the flag is declared with another type
	}
	return values
}

// command is one of the commands.
type command struct {
	use, short, long, example string

	args  cobra.PositionalArgs
	flags func(*pflag.FlagSet)
	run   func(*call) (found report, status int, err error)
}

func addCommands(cmd *cobra.Command, exit func(status int) error) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return cmd.Help()
	}
	for _, c := range []command{keygenCommand, tokenCommand, checkCommand, explainCommand, doctorCommand} {
		cmd.AddCommand(c.cobra(exit))
	}
}

func (c command) cobra(exit func(status int) error) *cobra.Command {
	cmd := &cobra.Command{Use: c.use, Short: c.short, Long: c.long, Example: c.example, Args: c.args}
	cmd.Flags().Bool("json", false, "Print JSON")
	c.flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cl := &call{cmd.Flags(), args, cmd}
		found, status, err := c.run(cl)
		if err != nil {
			if cl.yes("json") {
				cmd.SilenceErrors = true // it is on stdout
				printJSON(cmd.OutOrStdout(), map[string]string{"error": err.Error()})
			}
			return err
		}
		if cl.yes("json") {
			printJSON(cmd.OutOrStdout(), found)
		} else {
			found.show(printable{cmd.OutOrStdout()})
		}
		if status == exitOK {
			return nil
		}
		cmd.SilenceErrors = true
		return exit(status)
	}
	return cmd
}

// printable keeps what others have written, servers and logs, from steering
// the terminal.
type printable struct{ io.Writer }

func (p printable) Write(text []byte) (int, error) {
	clean := bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
	if _, err := p.Writer.Write(clean); err != nil {
		return 0, err
	}
	return len(text), nil
}

func printJSON(w io.Writer, value any) {
	text, err := json.Marshal(value, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		// a report holds nothing that JSON cannot
		text = []byte(`{"error":"the report cannot be written"}`)
	}
	fmt.Fprintf(w, "%s\n", text)
}

// configFlags are the flags that name a configuration.
func configFlags(flags *pflag.FlagSet) {
	flags.StringP("config", "c", "", "Configuration file (default: the Caddyfile of this folder)")
	flags.StringP("adapter", "a", "", "Name of the config adapter to apply")
	flags.String("handler", "", "The mcp_authorize that is meant: its number, its target or its @id")
}
