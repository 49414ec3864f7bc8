//go:build unix && !linux

package stdio

import (
	"os/exec"
	"syscall"
)

// isolate puts the server into a process group of its own.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// awaitExit waits for the end of the server.
func awaitExit(cmd *exec.Cmd) {
	// the only error is that there is nothing to wait for
	cmd.ProcessState, _ = cmd.Process.Wait()
}
