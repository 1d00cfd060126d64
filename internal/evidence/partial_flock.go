//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package evidence

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// removesOpen: a file can be removed while somebody has it open.
const removesOpen = true

// lockFile takes the lock of the file that has this name now. The kernel lets go
// of it when the process ends, in whatever way.
func lockFile(path string) (io.Closer, error) {
	f, err := openLocked(path, os.O_RDWR, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil {
		var named fs.FileInfo
		if named, err = os.Lstat(path); err == nil && !os.SameFile(opened, named) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// inUse tells whether a living process holds the lock, and changes nothing. A
// file system without locks cannot tell, and then it may.
func inUse(path string) bool {
	f, err := openLocked(path, os.O_RDONLY, unix.LOCK_SH)
	if err != nil {
		return true
	}
	_ = f.Close() // it was not even read
	return false
}

func openLocked(path string, mode, how int) (*os.File, error) {
	f, err := os.OpenFile(path, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	for {
		switch err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB); {
		case err == nil:
			return f, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			err = errInUse
		}
		return nil, errors.Join(err, f.Close())
	}
}
