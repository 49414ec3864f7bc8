// Command demoserver runs the demo MCP server by itself, for trying the
// gateway and for tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/caddymcp/gateway/examples/demo"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:3001", "`address` to listen on; port 0 takes any free one")
	var opts demo.Options
	flag.BoolVar(&opts.Stateful, "stateful", false, "make clients open a session with initialize")
	flag.BoolVar(&opts.SSE, "sse", false, "answer with an event stream rather than one JSON document")
	flag.IntVar(&opts.PageSize, "page-size", 0, "how many `entries` one page of a list holds (default: all of them)")
	flag.Parse()
	if flag.NArg() > 0 || opts.PageSize < 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*listen, opts); err != nil {
		fmt.Fprintln(os.Stderr, "demoserver:", err)
		os.Exit(1)
	}
}

func run(listen string, opts demo.Options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	// Who starts this program in a test reads the address from this line.
	fmt.Printf("demoserver: ready at http://%s%s\n", ln.Addr(), demo.Path)
	return demo.Serve(ctx, ln, demo.Handler(opts))
}
