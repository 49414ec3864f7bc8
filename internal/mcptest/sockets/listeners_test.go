package sockets

import (
	"context"
	"encoding/binary"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// While two sockets listen on an address, a reload is not over.
func TestIsReplaced(t *testing.T) {
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	listen := func(address string) net.Listener {
		listener, err := shared.Listen(context.Background(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		return listener
	}
	newer := listen("127.0.0.1:0")
	address := newer.Addr().String()
	wantReplaced := func(want bool) {
		t.Helper()
		if got, err := IsReplaced("127.0.0.1:1", address); err != nil || got != want {
			t.Errorf("got %t, %v, want %t", got, err, want)
		}
	}
	wantReplaced(true)
	older := listen(address)
	wantReplaced(false)
	older.Close()
	wantReplaced(true)
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
