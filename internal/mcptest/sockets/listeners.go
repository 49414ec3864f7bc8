// Package sockets tells tests what listens on this machine.
package sockets

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Listener is a socket of this machine that accepts TCP connections.
type Listener struct {
	Address netip.AddrPort
	// Inode is its number, which /proc/<pid>/fd names.
	Inode string
}

// stateListen is TCP_LISTEN of the kernel, as /proc/net/tcp writes it.
const stateListen = "0A"

// Listeners are the listeners of this machine, as Linux knows them.
func Listeners() ([]Listener, error) {
	var listeners []Listener
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != stateListen {
				continue
			}
			address, err := kernelAddress(fields[1])
			if err != nil {
				return nil, err
			}
			listeners = append(listeners, Listener{address, fields[9]})
		}
	}
	return listeners, nil
}

// IsReplaced reports whether a reload of Caddy is over for addresses like 127.0.0.1:8080: whether no more than one
// listener is left on each. Caddy says that it has reloaded when it has begun to close the old ones; as long as there
// are two, the kernel gives a connection to either, and so to the old configuration.
func IsReplaced(addresses ...string) (bool, error) {
	listeners, err := Listeners()
	if err != nil {
		return false, err
	}
	count := make(map[string]int)
	for _, l := range listeners {
		count[l.Address.String()]++
	}
	return !slices.ContainsFunc(addresses, func(address string) bool { return count[address] > 1 }), nil
}

// kernelAddress reads an address like 0100007F:1F90: words of the host's byte order, and the port.
func kernelAddress(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	address, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	number, err := hex.DecodeString(port)
	if err != nil || len(number) != 2 {
		return netip.AddrPort{}, fmt.Errorf("not an address: %q", text)
	}
	for i := 0; i+4 <= len(address); i += 4 {
		binary.NativeEndian.PutUint32(address[i:], binary.BigEndian.Uint32(address[i:]))
	}
	ip, ok := netip.AddrFromSlice(address)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("not an address: %q", text)
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(number)), nil
}
