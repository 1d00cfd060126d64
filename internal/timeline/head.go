package timeline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Head names an entry by its place and by the hash of its line: the whole
// journal up to it in one number.
type Head struct {
	Seq    int64  `json:"seq"`
	SHA256 string `json:"sha256"` // hex
}

// HeadPath returns the path of the head file that belongs to a journal.
func HeadPath(journal string) string {
	return strings.TrimSuffix(journal, filepath.Ext(journal)) + ".head"
}

// genesis is the head of a journal without entries.
func genesis(incident string) Head {
	sum := sha256.Sum256([]byte("irctl timeline v1 " + incident))
	return Head{SHA256: hex.EncodeToString(sum[:])}
}

// readHead returns nil where there is no head that can be used, and why: a
// file system that lost power may leave the file empty, which says nothing
// about the journal.
func readHead(path string) (*Head, string, error) {
	f, err := openRegular(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "there is no " + filepath.Base(path), nil
	}
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, "", err
	}
	var h Head
	if err := json.Unmarshal(text, &h); err != nil || h.Seq < 0 || len(h.SHA256) != hex.EncodedLen(sha256.Size) {
		return nil, filepath.Base(path) + " is empty or damaged", nil
	}
	return &h, "", nil
}

// HeadLost says why the head of a journal cannot be told from its head file, so
// that nobody can tell whether entries are missing at its end; "": it can.
func HeadLost(journal string) string {
	_, why, err := readHead(HeadPath(journal))
	if err != nil {
		return err.Error()
	}
	return why
}

// writeHead replaces the head file. A rename, because a reader without lock
// must find the old head or the new one; with an fsync, because after a power
// cut an empty file would say nothing, and irctl would refuse to go on.
func writeHead(path string, h Head) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) { // of a killed process
		if err := os.Remove(tmp); err != nil {
			return err
		}
		f, err = os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	if _, err = f.Write(append(text, '\n')); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}

// errReplaced says that a path meant one file and then another.
var errReplaced = errors.New("it was replaced while it was opened")

// openRegular opens a file that is a regular file and not a symbolic link: a
// journal may be a copy that somebody else prepared. A head file is replaced
// all the time by a writer at work, so it tries more than once.
func openRegular(path string, flag int) (f *os.File, err error) {
	for range 20 {
		f, err = openRegularOnce(path, flag)
		if !errors.Is(err, errReplaced) {
			break
		}
	}
	return f, err
}

// openRegularOnce uses O_NONBLOCK so that a FIFO that took the file's place
// does not block the open.
func openRegularOnce(path string, flag int) (*os.File, error) {
	before, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		return os.OpenFile(path, flag|os.O_EXCL, 0o600)
	case err != nil:
		return nil, err
	case !before.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file (%s)", path, before.Mode().Type())
	}
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s: %w", path, errReplaced)
	}
	if err != nil {
		_ = f.Close() // it was not used
		return nil, err
	}
	return f, nil
}
