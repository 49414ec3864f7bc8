package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddymcp/gateway/internal/mcptest/sockets"
)

// listeningOn tells on which addresses a process accepts TCP connections, from what the kernel knows.
func listeningOn(t *testing.T, pid int) []string {
	t.Helper()
	inodes := socketsOf(t, pid)
	listeners, err := sockets.Listeners()
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, l := range listeners {
		if slices.Contains(inodes, l.Inode) {
			addresses = append(addresses, l.Address.String())
		}
	}
	return addresses
}

// waitForReload waits until nothing that a reload has replaced accepts connections on these ports of this machine.
func waitForReload(t *testing.T, ports ...int) {
	t.Helper()
	addresses := make([]string, len(ports))
	for i, port := range ports {
		addresses[i] = loopback(port)
	}
	over := poll(stopLimit, func() bool {
		replaced, err := sockets.IsReplaced(addresses...)
		if err != nil {
			t.Fatal(err)
		}
		return replaced
	})
	if !over {
		t.Fatal("the old configuration still accepts connections")
	}
}

// socketsOf lists the inodes of the sockets that a process has open.
func socketsOf(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var inodes []string
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed in the meantime
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	return inodes
}
