//go:build !linux

package evidence

import (
	"errors"
	"os"
	"runtime"
)

// renameNew renames a file and fails if the new name is taken.
func renameNew(from, to string) error {
	if err := linkNew(from, to); !hasNoLinks(err) {
		return err
	}
	return renameWhereFree(from, to)
}

// syncFolder makes a new name durable. Windows has no such call and needs none.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(fsync(d), d.Close())
}
