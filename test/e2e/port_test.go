package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Ports for programs that cannot take any free one by themselves. The kernel gives none of these to a client, nor to a
// server that asks for port 0, so that nobody takes one between freePort and the program's start but another freePort.
const firstPort, lastPort = 20000, 32000

var (
	takenPorts      []int
	takenPortsMutex sync.Mutex // some tests are parallel
)

// freePort is a port of 127.0.0.1 that nothing listens on, and that this run has not used before.
func freePort(t *testing.T) int {
	t.Helper()
	takenPortsMutex.Lock()
	defer takenPortsMutex.Unlock()
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if !slices.Contains(takenPorts, port) && !listening(port) {
			takenPorts = append(takenPorts, port)
			return port
		}
	}
	t.Fatal("no free port found")
	return 0
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// listening reports whether something accepts connections.
func listening(port int) bool {
	conn, err := net.DialTimeout("tcp", loopback(port), time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// waitForPort waits until the program accepts connections.
func (p *process) waitForPort(t *testing.T, port int) {
	t.Helper()
	ready := poll(startLimit, func() bool { return listening(port) || !p.running() })
	if !p.running() || !ready {
		t.Fatalf("%s does not listen on %s:\n%s", p.name, loopback(port), p.out)
	}
}

// wantFree checks that nothing listens on a port any more.
func wantFree(t *testing.T, port int) {
	t.Helper()
	if listening(port) {
		t.Errorf("something still listens on %s", loopback(port))
	}
}
