package cli

import "golang.org/x/sys/unix"

// flushTerminal drops what was typed on a terminal and not read yet.
func flushTerminal(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }
