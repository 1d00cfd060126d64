//go:build unix

package engine

import (
	"os/exec"
	"syscall"
)

// ownGroup makes a command the first of a process group of its own, so that
// what it started ends with it, and a Ctrl-C is irctl's to handle.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
