package evidence

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// partialFile is a file that is being written and has no name of its own yet.
// As long as its process lives it is locked, also once it is written and waits
// to be named, so that nobody takes it for a leftover.
type partialFile struct {
	*os.File
	lock io.Closer
}

// fsync is replaced by tests, which cannot see otherwise what is on stable storage.
var fsync = (*os.File).Sync

// createPartial makes a new file in the folder of path that only its owner can read.
func createPartial(path string) (partialFile, error) {
	dir, name := filepath.Split(path)
	for {
		var random [8]byte
		// never fails, by its documentation
		_, _ = rand.Read(random[:])
		p := filepath.Join(dir, fmt.Sprintf(".%.180s.%x%s", name, random, partialSuffix)) // file names have 255 bytes
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return partialFile{}, err
		}
		lock, err := lockFile(p)
		switch {
		case errors.Is(err, errInUse), errors.Is(err, fs.ErrNotExist):
			// Whoever looks for leftovers, or removes them, was faster than the lock.
			_ = f.Close()
			_ = os.Remove(p)
			continue
		case err != nil:
			lock = noLock{} // a file system without locks is no reason to lose evidence
		}
		return partialFile{f, lock}, nil
	}
}

type noLock struct{}

func (noLock) Close() error { return nil }

const partialSuffix = ".partial"

var partialName = regexp.MustCompile(`^\..+\.[0-9a-f]{16}` + regexp.QuoteMeta(partialSuffix) + `$`)

// nameAs gives the file, which is closed, its name, and fails if that is taken.
func (p partialFile) nameAs(path string) error {
	if err := renameNew(p.Name(), path); err != nil {
		return err
	}
	_ = p.lock.Close() // it was only held
	return nil
}

// remove closes the file and removes it.
func (p partialFile) remove() error {
	err := p.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	return errors.Join(err, os.Remove(p.Name()), p.lock.Close())
}

// Leftover is a file that a killed process was writing. It is of no use: what
// is in it is encrypted, and its end is missing.
type Leftover struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// Leftovers are those in folders, and in the custody chains there, by path. What
// a living process is writing is none. Folders that are not there have none.
func Leftovers(folders ...string) ([]Leftover, error) {
	var list []Leftover
	var errs []error
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("looking for what was left unfinished: %w", err))
		}
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			switch {
			case e.IsDir() && strings.HasSuffix(e.Name(), CustodySuffix):
				more, err := Leftovers(path)
				list, errs = append(list, more...), append(errs, err)
			case e.Type().IsRegular() && partialName.MatchString(e.Name()) && !inUse(path):
				if info, err := e.Info(); err == nil { // it may have got its name meanwhile
					list = append(list, Leftover{path, info.Size(), info.ModTime().UTC()})
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b Leftover) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(list, func(a, b Leftover) bool { return a.Path == b.Path }), errors.Join(errs...)
}

// Remove removes the file, unless a process is writing it.
func (l Leftover) Remove() error {
	lock, err := lockFile(l.Path)
	if err != nil {
		return fmt.Errorf("%s is not removed: %w", l.Path, err)
	}
	if removesOpen {
		return errors.Join(os.Remove(l.Path), lock.Close())
	}
	return errors.Join(lock.Close(), os.Remove(l.Path))
}

// errInUse: a living process holds the lock.
var errInUse = errors.New("another process is writing it")
