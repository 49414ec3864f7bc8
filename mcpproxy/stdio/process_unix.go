//go:build unix

package stdio

import (
	"os/exec"
	"syscall"
)

// terminate asks the server, and what it has started, to end.
func terminate(cmd *exec.Cmd) { signalGroup(cmd, syscall.SIGTERM) }

// kill ends the server and what it has started.
func kill(cmd *exec.Cmd) { signalGroup(cmd, syscall.SIGKILL) }

func signalGroup(cmd *exec.Cmd, sig syscall.Signal) {
	// the only error is that there is nobody left
	_ = syscall.Kill(-cmd.Process.Pid, sig)
}
