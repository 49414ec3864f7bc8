package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/caddyserver/caddy/v2"
)

// checkPorts fails when something else has a port that Caddy is to have.
// Caddy itself would not notice another Caddy: it shares its ports with it,
// and the kernel would hand each of them half of the requests.
func (c *config) checkPorts() error {
	for _, address := range c.listen {
		if err := checkPort("gateway", address); err != nil {
			return err
		}
	}
	if c.admin == "" {
		return nil
	}
	return checkPort("admin API", c.admin)
}

func checkPort(what, address string) error {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if parsed.IsUnixNetwork() || parsed.PortRangeSize() != 1 {
		return nil // nothing the quickstart uses; Caddy will tell
	}
	hostPort := parsed.JoinHostPort(0)
	ln, err := net.Listen("tcp", hostPort)
	if err != nil {
		return portError(what, hostPort, err)
	}
	return ln.Close()
}

// portError says which port is taken and what it was meant for.
func portError(what, address string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %w", what, err)
	}
	_, port, _ := net.SplitHostPort(address)
	return fmt.Errorf("port %s is taken: the %s cannot listen on %s; stop what uses it and try again", port, what, address)
}
