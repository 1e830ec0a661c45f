//go:build unix

package credential

import (
	"os/exec"
	"syscall"
)

// endTogether makes a command's end that of its children too: a helper that
// hangs in one would leave one behind each time it is asked.
func endTogether(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
