package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits of patience; they decide nothing that is measured.
const (
	startLimit = 60 * time.Second
	stopLimit  = 15 * time.Second
)

// process is a server that runs pinned to a core.
type process struct {
	name   string
	pid    int
	done   chan struct{}
	output *tail
}

// startPinned starts a program on one core. taskset replaces itself by it, so
// the process ID is the program's.
func startPinned(core, dir string, argv ...string) (*process, error) {
	cmd := exec.Command("taskset", append([]string{"-c", core}, argv...)...)
	p := &process{name: filepath.Base(argv[0]), done: make(chan struct{}), output: new(tail)}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.Dir = dir
	// what Caddy stores goes into a folder of ours
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	go func() {
		_ = cmd.Wait() // whoever misses it reads the output
		close(p.done)
	}()
	return p, nil
}

// stop ends the process.
func (p *process) stop() {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = syscall.Kill(p.pid, signal)
		select {
		case <-p.done:
			return
		case <-time.After(stopLimit):
		}
	}
}

// listens waits until the process accepts connections.
func (p *process) listens(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", loopback(port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended: %s", p.name, p.output)
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w: %s", p.name, err, p.output)
		case <-ticker.C:
		}
	}
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// freePorts are ports of 127.0.0.1 that nothing listens on.
func freePorts(n int) (ports []int, err error) {
	var taken []net.Listener // until the last port is found
	defer func() {
		for _, listener := range taken {
			listener.Close()
		}
	}()
	for range n {
		listener, err := net.Listen("tcp", loopback(0))
		if err != nil {
			return nil, err
		}
		taken = append(taken, listener)
		addr, ok := listener.Addr().(*net.TCPAddr)
		if !ok {
			return nil, errors.New("not a TCP address")
		}
		ports = append(ports, addr.Port)
	}
	return ports, nil
}

// command runs a program that ends by itself and returns what it printed and
// the CPU time it took.
func command(ctx context.Context, dir string, argv ...string) (string, time.Duration, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		return "", 0, fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out.String(), problems.String())
	}
	return out.String(), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// tail keeps the end of what a process prints.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailSize; extra > 0 {
		t.text = t.text[extra:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
