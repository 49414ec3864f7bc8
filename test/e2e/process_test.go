package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Limits of patience. The machine may be busy; only a test that fails waits that long.
const (
	startLimit = 60 * time.Second
	stopLimit  = 20 * time.Second
	runLimit   = 90 * time.Second
	pollEvery  = 20 * time.Millisecond
)

// process is a program that a test has started, with whatever it starts itself.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed when the program has ended
	err  error         // how it ended; valid after done
}

// start starts a program in a process group of its own. Its output is shown when the test fails; the program ends with
// the test, also one that is killed.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: filepath.Base(cmd.Path), cmd: cmd, out: newOutput(), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.WaitDelay = stopLimit
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("%s printed:\n%s", p.name, p.out)
		}
	})
	return p
}

// running reports whether the program has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends the program politely, and makes sure that nothing of its group is left.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if p.running() {
		p.signal(t, syscall.SIGTERM)
	}
	if !p.waitGone(stopLimit) {
		t.Errorf("%s was still there %s after SIGTERM", p.name, stopLimit)
		p.signal(t, syscall.SIGKILL)
		if !p.waitGone(stopLimit) {
			t.Errorf("%s cannot be killed", p.name)
		}
	}
}

// signal sends a signal to the program and to what it has started.
func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("%s to %s: %v", sig, p.name, err)
	}
}

// wait waits for the end of the program and returns its exit status.
func (p *process) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		t.Fatalf("%s did not end within %s", p.name, limit)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatalf("%s: %v", p.name, p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// waitGone waits until no process of the group is left.
func (p *process) waitGone(limit time.Duration) bool {
	select {
	case <-p.done:
	case <-time.After(limit):
		return false
	}
	return poll(limit, func() bool {
		return errors.Is(syscall.Kill(-p.cmd.Process.Pid, 0), syscall.ESRCH)
	})
}

// poll asks until the answer is yes, or the limit is reached.
func poll(limit time.Duration, ask func() bool) bool {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	timeout := time.After(limit)
	for !ask() {
		select {
		case <-ticker.C:
		case <-timeout:
			return ask()
		}
	}
	return true
}

// result is how a program that ends by itself has ended.
type result struct {
	out    string // stdout and stderr
	status int
}

// run runs a program that ends by itself.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	p := start(t, cmd)
	status := p.wait(t, runLimit)
	return result{p.out.String(), status}
}

// environ is the environment of the tests with some variables changed.
func environ(changes ...string) []string {
	return append(os.Environ(), changes...)
}
