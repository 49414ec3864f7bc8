package cfutil

import (
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

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

// Size reads the size that is the one argument of an option, in bytes: from
// one to limit.
func Size(d *caddyfile.Dispenser, limit int64) (int64, error) {
	option, text := d.Val(), ""
	if err := OneArg(d, &text); err != nil {
		return 0, err
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > uint64(limit) { //nolint:gosec // limits are positive constants
		whole := strings.ReplaceAll(strings.Replace(humanize.IBytes(uint64(limit)), ".0", "", 1), " ", "") //nolint:gosec // see above
		return 0, d.Errf("%s must be a size between 1B and %s, not %q", option, whole, text)
	}
	return int64(size), nil //nolint:gosec // bounded by limit
}

// Duration reads the duration that is the one argument of an option: from
// zero to limit.
func Duration(d *caddyfile.Dispenser, limit time.Duration) (*caddy.Duration, error) {
	option, text := d.Val(), ""
	if err := OneArg(d, &text); err != nil {
		return nil, err
	}
	parsed, err := caddy.ParseDuration(text)
	if err != nil || parsed < 0 || parsed > limit {
		return nil, d.Errf("%s must be a duration between 0 and %s, not %q", option, limit, text)
	}
	duration := caddy.Duration(parsed)
	return &duration, nil
}

// ErrAt adds the file and line of a token that has been passed to an error.
func ErrAt(token caddyfile.Token, err error) error {
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d.WrapErr(err)
}
