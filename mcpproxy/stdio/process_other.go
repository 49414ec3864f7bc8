//go:build !unix

package stdio

import "os/exec"

func isolate(*exec.Cmd) {}

// awaitExit waits for the end of the server.
func awaitExit(cmd *exec.Cmd) {
	// the only error is that there is nothing to wait for
	cmd.ProcessState, _ = cmd.Process.Wait()
}

// terminate does nothing: there is no polite way besides closing stdin.
func terminate(*exec.Cmd) {}

// kill ends the server. What it has started ends when its input does.
func kill(cmd *exec.Cmd) {
	// the only error is that it has ended
	_ = cmd.Process.Kill()
}
