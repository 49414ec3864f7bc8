// Command bench compares Caddy with the gateway, Caddy without it, and what
// one would write instead. `make bench` runs it; docs/performance.md says what
// it measures and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// This program is also the server behind the candidates, and one of them.
const (
	roleUpstream = "serve-upstream" // <port>
	roleSDK      = "serve-sdk"      // <port> <jwks file> <url of the upstream>
)

func main() {
	if isServer(os.Args) {
		fmt.Fprintln(os.Stderr, beServer(os.Args[1:]))
		os.Exit(1)
	}
	if err := bench(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func isServer(args []string) bool {
	return len(args) > 1 && (args[1] == roleUpstream || args[1] == roleSDK)
}

// beServer returns only when it cannot serve.
func beServer(args []string) error {
	switch {
	case args[0] == roleUpstream && len(args) == 2:
		return serve(args[1], newUpstream())
	case args[0] == roleSDK && len(args) == 4:
		proxy, err := sdkProxy(args[2], args[3])
		if err != nil {
			return err
		}
		return serve(args[1], proxy)
	default:
		return fmt.Errorf("wrong arguments: %q", args)
	}
}

// quickMaximum is how many connections, streams or tools a group may have to
// be part of a quick run.
const quickMaximum = 1000

// options are those of the command line.
type options struct {
	plan
	rows     *regexp.Regexp
	out      string
	goBench  bool
	limit    time.Duration
	quick    bool
	goCount  int
	goLength string
}

func parseOptions(args []string) (o options, err error) {
	o.plan = plan{retries: 2, progress: os.Stderr, warmup: time.Second}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "one short run of each candidate, without the large groups: shows that it works, measures nothing")
	rows := flags.String("rows", "", "only the groups whose name matches this `regexp` (calls-16, rules, list-1000, ...)")
	flags.StringVar(&o.out, "out", "", "also write the report to this `file`")
	flags.IntVar(&o.runs, "runs", 7, "runs of each candidate")
	flags.DurationVar(&o.duration, "duration", 3*time.Second, "of each run, in whole seconds")
	flags.Float64Var(&o.foreign, "disturbance", 0.1, "cores busy with something else, above which a run is repeated")
	flags.StringVar(&o.profiles, "profiles", "", "write CPU and allocation profiles of each candidate into this `folder`")
	flags.BoolVar(&o.goBench, "go", true, "run the Go benchmarks as well")
	flags.DurationVar(&o.limit, "limit", time.Hour, "give up after this time")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.runs < 1 || o.duration < time.Second {
		return o, errors.New("at least one run of a second, and nothing else but options")
	}
	o.goCount, o.goLength = 5, "300ms"
	if o.quick {
		o.runs, o.duration, o.retries, o.warmup = 1, time.Second, 0, 0
		o.goCount, o.goLength = 1, "1x"
	}
	o.rows, err = regexp.Compile(*rows)
	return o, err
}

func bench(args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := newLab(ctx, dir)
	if err != nil {
		return err
	}
	defer l.close()
	// this program is the client of the streams
	if _, _, err := command(ctx, dir, "taskset", "-apc", l.loadCore, strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	return o.run(ctx, l, os.Stdout)
}

// run measures everything that was asked for, and fails if anything did.
func (o options) run(ctx context.Context, l *lab, stdout io.Writer) error {
	versions, err := l.versions(ctx)
	if err != nil {
		return err
	}
	var r results
	for _, g := range o.selected(groups()) {
		r.groups = append(r.groups, l.compare(ctx, o.plan, g)...)
	}
	if o.goBench {
		if r.goBenchmarks, err = l.runGoBenchmarks(ctx, o.goCount, o.goLength); err != nil {
			return err
		}
	}
	text := report(r, o.plan, versions, time.Now())
	fmt.Fprint(stdout, text)
	problems := []error{ctx.Err()}
	for _, one := range r.groups {
		if one.err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", one.id, one.name, one.err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err // and leave the file as it is
	}
	if o.out == "" {
		return nil
	}
	return os.WriteFile(o.out, []byte(text), 0o644)
}

// selected are the groups that were asked for, without the large ones if that
// was asked for.
func (o options) selected(list []group) (chosen []group) {
	for _, g := range list {
		n, _ := strconv.Atoi(strings.TrimPrefix(g.answer, answerTools))
		large := o.quick && max(n, g.connections) > quickMaximum
		if o.rows.MatchString(g.id) && !large {
			chosen = append(chosen, g)
		}
	}
	return chosen
}
