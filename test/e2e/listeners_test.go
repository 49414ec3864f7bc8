package e2e

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stateListen is TCP_LISTEN of the kernel, as /proc/net/tcp writes it.
const stateListen = "0A"

// listeningOn tells on which addresses a process accepts TCP connections, from what the kernel knows.
func listeningOn(t *testing.T, pid int) []string {
	t.Helper()
	inodes := socketsOf(t, pid)
	var addresses []string
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != stateListen || !slices.Contains(inodes, fields[9]) {
				continue
			}
			address, err := kernelAddress(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			addresses = append(addresses, address.String())
		}
	}
	return addresses
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

func TestKernelAddress(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Fatal("the examples below are from a little-endian machine")
	}
	for text, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000:0050":                         "0.0.0.0:80",
		"00000000000000000000000001000000:0BB9": "[::1]:3001",
		"0000000000000000FFFF00000100007F:0BB9": "[::ffff:127.0.0.1]:3001",
	} {
		if got, err := kernelAddress(text); err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
}
