package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/caddymcp/gateway/jwtauth"
)

// maxCAFile bounds a file of certificates, in bytes.
const maxCAFile = 1 << 20

var doctorCommand = command{
	use:   "doctor [--resource <url>] <issuer>",
	short: "Looks at an authorization server as the gateway and MCP clients do",
	long: `Reads the documents and the keys that an authorization server publishes, tells
what the gateway and MCP clients will and will not manage with it, and writes the
block of the Caddyfile.

It asks the issuer, and the key server that the issuer names, nobody else.

Exit codes: 0, the gateway can work with it; there may be warnings; 1, the command
could not do its work; 4, the gateway cannot work with it.`,
	example: `  $ caddy mcp doctor https://idp.example.com/realms/acme
  $ caddy mcp doctor --resource https://mcp.acme.org/mcp --json https://idp.example.com/realms/acme`,
	args: cobra.ExactArgs(1),
	flags: func(flags *pflag.FlagSet) {
		flags.String("resource", "https://mcp.example.com/mcp", "URL of the MCP server, for the Caddyfile")
		flags.String("ca", "", "File with certificates to trust instead of the system's, in PEM")
		flags.String("proxy", "", "URL of a proxy on the way to the server")
	},
	run: doctor,
}

// caddyfileSyntax are the characters that could end a word of a Caddyfile.
const caddyfileSyntax = " \t\r\n{}\"`\\<"

// diagnosed is the report of doctor.
type diagnosed struct {
	*jwtauth.Diagnosis

	OK bool `json:"ok"`
	// Caddyfile is the block to write; "" when none would work.
	Caddyfile string `json:"caddyfile,omitzero"`
}

func doctor(c *call) (report, int, error) {
	options := jwtauth.DiagnoseOptions{Proxy: c.text("proxy")}
	if name := c.text("ca"); name != "" {
		text, err := readBounded(name, maxCAFile)
		if err != nil {
			return nil, exitFailed, err
		}
		options.CA = text
	}
	resource, err := url.Parse(c.text("resource"))
	if err != nil || resource.Host == "" || strings.ContainsAny(c.text("resource"), caddyfileSyntax) {
		return nil, exitFailed, errors.New("--resource must be a URL")
	}
	diagnosis, err := jwtauth.Diagnose(c.cmd.Context(), c.args[0], options)
	if err != nil {
		return nil, exitFailed, err
	}
	found := &diagnosed{Diagnosis: diagnosis, OK: diagnosis.OK()}
	if !found.OK {
		return found, exitFound, nil
	}
	// a server must not write more of the configuration than a URL
	if !strings.ContainsAny(diagnosis.Issuer+diagnosis.KeysURL, caddyfileSyntax) {
		found.Caddyfile = caddyfile(diagnosis, resource, c.text("ca"), c.text("proxy"))
	}
	return found, exitOK, nil
}

// caddyfile writes the block.
func caddyfile(d *jwtauth.Diagnosis, resource *url.URL, ca, proxy string) string {
	keys := ""
	switch {
	case !d.Discoverable:
		keys = "jwks url " + d.KeysURL
	case ca != "" || proxy != "":
		keys = "jwks discover"
	}
	var options []string
	if ca != "" {
		options = append(options, "tls_ca "+ca)
	}
	if proxy != "" {
		options = append(options, "proxy "+proxy)
	}
	if len(options) > 0 {
		keys += " {\n\t\t\t\t" + strings.Join(options, "\n\t\t\t\t") + "\n\t\t\t}"
	}
	jwt := "\tmcp_jwt " + d.Issuer + " {\n"
	if keys != "" {
		jwt = "\tmcp_jwt {\n\t\tissuer " + d.Issuer + " {\n\t\t\t" + keys + "\n\t\t}\n"
	}
	site := resource.Host
	if resource.Scheme == "http" {
		site = "http://" + site
	}
	return site + " {\n" + jwt +
		"\t\tresource " + resource.String() + "\n\t}\n" +
		"\tmcp_authorize {\n\t\tallow `jwt.sub == \"somebody\"`\n\t}\n" +
		"\tmcp_proxy http://127.0.0.1:3001/mcp\n}\n"
}

func (d *diagnosed) show(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", d.Issuer)
	for _, place := range d.Places {
		fmt.Fprintf(w, "  %s\n    %s\n", place.URL, orElse(place.Problem, "found"))
	}
	if len(d.Keys) > 0 {
		fmt.Fprintf(w, "\n  %s\n", d.KeysURL)
	}
	for _, k := range d.Keys {
		fmt.Fprintf(w, "    %s %s %q: %s\n", k.Type, orElse(k.Algorithm, "without alg"), k.KeyID, orElse(k.Problem, "can be used"))
	}
	fmt.Fprintln(w)
	for _, f := range d.Findings {
		fmt.Fprintf(w, "%-8s %s: %s\n", f.Level, f.Subject, f.Message)
	}
	if d.Caddyfile != "" {
		fmt.Fprintf(w, "\n%s", d.Caddyfile)
	}
}

func orElse(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}
