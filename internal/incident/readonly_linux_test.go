package incident_test

import (
	"os"
	"os/exec"
	"syscall"
)

// readOnlyProcess gives root a mount namespace of its own: modes do not stop
// root from writing, a read-only mount does, and it ends with the process.
func readOnlyProcess(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
}

func makeReadOnly(dir string) error {
	if os.Geteuid() != 0 {
		return takeAwayWriting(dir)
	}
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	return syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
}
