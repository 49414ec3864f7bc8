// Command quickstart runs the gateway and the demo MCP server in one process,
// and prints commands that try them. `make run` starts it in the root folder
// of the repository, which the paths in the Caddyfile are relative to.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/gateway"
	"github.com/caddymcp/gateway/examples/demo"
)

func main() {
	config := flag.String("config", "examples/quickstart/Caddyfile", "the Caddyfile to run")
	listen := flag.String("demo-listen", "127.0.0.1:3001", "`address` of the demo server")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*config, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run runs both servers until a signal ends them.
func run(config, listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // so that a second Ctrl-C does not wait for anything

	gateway, err := readConfig(config)
	if err != nil {
		return err
	}
	if err := gateway.checkPorts(); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return portError("demo server", listen, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- demo.Serve(ctx, ln, demo.Handler(demo.Options{})) }()

	// Caddy's admin API, which the configuration starts, does the reloads.
	if err := caddy.Load(gateway.json, true); err != nil {
		return err
	}
	if err := printWelcome(os.Stdout, gateway, ln.Addr().String()); err != nil {
		return err
	}

	// The demo server stops first: streams through the gateway end with it.
	if err := <-ended; err != nil {
		return fmt.Errorf("demo server: %w", err)
	}
	if err := caddy.Stop(); err != nil {
		return err
	}
	fmt.Println("Stopped.")
	return nil
}
