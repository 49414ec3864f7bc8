package mcpproxy

import (
	"errors"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/gateway/internal/cfutil"
	"github.com/caddymcp/gateway/mcpproxy/stdio"
)

// unmarshalCaddyfile reads the option the dispenser is at:
//
//	stdio <command> [<arg>...] {
//	    dir           <path>
//	    env           <name> <value>
//	    idle_timeout  <duration>
//	    max_processes <n>
//	}
func (s *Stdio) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	command := d.RemainingArgs()
	if len(command) == 0 || command[0] == "" {
		return d.WrapErr(errNoCommand)
	}
	s.Command, s.Args = command[0], command[1:]
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := s.unmarshalOption(d); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stdio) unmarshalOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case "dir":
		return cfutil.OneArg(d, &s.Dir)
	case "env":
		args := d.RemainingArgs()
		if len(args) != 2 {
			return d.Err("env takes a name and a value")
		}
		if _, twice := s.Env[args[0]]; twice {
			return d.Errf("env %s is given twice", args[0])
		}
		if s.Env == nil {
			s.Env = map[string]string{}
		}
		s.Env[args[0]] = args[1]
	case "idle_timeout":
		timeout, err := cfutil.Duration(d, stdio.MaxIdleTimeout)
		if err != nil {
			return err
		}
		if *timeout == 0 {
			return d.WrapErr(errIdle)
		}
		s.IdleTimeout = *timeout
	case "max_processes":
		var text string
		if err := cfutil.OneArg(d, &text); err != nil {
			return err
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > stdio.MaxMaxProcesses {
			return d.WrapErr(errProcesses)
		}
		s.MaxProcesses = n
	default:
		return d.Errf("unrecognized option of stdio: %s", option)
	}
	return nil
}

var errTwice = errors.New("stdio is given twice")

// withoutProxy says what of the directive stdio excludes: upstreams, and
// every subdirective of reverse_proxy.
func withoutProxy(rest []caddyfile.Token) error {
	d := caddyfile.NewDispenser(rest)
	d.Next()
	if d.NextArg() {
		return d.WrapErr(errBothKinds)
	}
	if !d.NextBlock(0) {
		return nil
	}
	switch option := d.Val(); option {
	case "to", "dynamic":
		return d.WrapErr(errBothKinds)
	default:
		return d.Errf("%s is an option of reverse_proxy, and goes with upstreams, not with stdio", option)
	}
}
