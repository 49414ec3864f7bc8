package cfutil

import "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

// NoArgs wants the option the dispenser is at to have no arguments.
func NoArgs(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	return nil
}

// OneArg reads the one argument of an option that may be given once.
func OneArg(d *caddyfile.Dispenser, text *string) error {
	option := d.Val()
	if *text != "" {
		return d.Errf("%s is given twice", option)
	}
	if !d.NextArg() || d.Val() == "" {
		return d.ArgErr()
	}
	*text = d.Val()
	return NoArgs(d)
}

// Args reads the arguments, at least one, of an option. Giving the option
// again adds to the list.
func Args(d *caddyfile.Dispenser, texts *[]string) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	*texts = append(*texts, args...)
	return nil
}

// ErrAt adds the file and line of a token that has been passed to an error.
func ErrAt(token caddyfile.Token, err error) error {
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d.WrapErr(err)
}
