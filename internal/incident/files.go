package incident

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// privateDir makes sure that dir is a directory of ours that nobody else can
// look into or write to. It creates it where it is missing, and never changes
// one that is there.
func privateDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		return os.Chmod(dir, 0o700) // the umask may have taken our own rights
	case !errors.Is(err, fs.ErrExist):
		// On a read-only file system an existing directory is no ErrExist.
		if _, statErr := os.Lstat(dir); statErr != nil {
			return err
		}
	}
	return checkPrivate(dir)
}

// ErrNotPrivate says that somebody else could read or replace what irctl writes
// to a directory. irctl did not make it, or somebody changed it since, so its
// mode stays as it is: others may work in it.
var ErrNotPrivate = errors.New("irctl writes to a private directory only")

// checkPrivate refuses a directory that is not ours alone.
func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link: name the directory itself", ErrNotPrivate, dir)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	if uid, ok := ownerOf(info); ok && uid != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to user %d, not to user %d who runs irctl: name a directory of your own",
			ErrNotPrivate, dir, uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s is open to other users (mode %04o): %s", ErrNotPrivate, dir, octal(info.Mode()),
		remedy(dir, info))
}

// octal is a mode as chmod takes it.
func octal(m fs.FileMode) uint32 {
	if m&fs.ModeSticky != 0 {
		return uint32(m.Perm()) | 0o1000
	}
	return uint32(m.Perm())
}

// remedy says how a directory becomes private. To close one that others use,
// /tmp say, would break what they do: then irctl's files go into a directory of
// their own below it.
func remedy(dir string, info fs.FileInfo) string {
	if _, err := ParseID(filepath.Base(dir)); err == nil || info.Mode()&fs.ModeSticky == 0 && onlyOurs(dir) {
		return "chmod 700 " + dir
	}
	return "others use it; name a directory that is for irctl alone, such as " + filepath.Join(dir, "irctl")
}

// onlyOurs tells whether nothing is in a directory but what a Store puts there.
func onlyOurs(dir string) bool {
	names, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, n := range names {
		switch name := n.Name(); {
		case slices.Contains(ownNames, name), strings.HasPrefix(name, newPrefix):
		default:
			if _, err := ParseID(name); err != nil {
				return false
			}
		}
	}
	return true
}

// checkWritable tells whether dir is private and can be written to, or could be
// created. It changes nothing.
func checkWritable(dir string) error {
	_, err := os.Lstat(dir)
	switch {
	case err == nil:
		if err := checkPrivate(dir); err != nil {
			return err
		}
		return accessible(dir)
	case !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir):
		return err
	}
	parent := filepath.Dir(dir)
	for {
		info, err := os.Stat(parent)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%s is not a directory", parent)
		case err == nil:
			return accessible(parent)
		case !errors.Is(err, fs.ErrNotExist) || parent == filepath.Dir(parent):
			return err
		}
		parent = filepath.Dir(parent)
	}
}

// regularOrAbsent refuses what could lead a write out of the directory.
func regularOrAbsent(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file (%s)", path, info.Mode().Type())
	}
	return err
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	if err := regularOrAbsent(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, err
}

// writeFile replaces a file so that after a crash, at whatever moment, the
// old one or the new one is there.
func writeFile(path string, text []byte) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
