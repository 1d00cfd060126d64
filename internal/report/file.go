package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Digest is the SHA-256 of a report's text, in hex.
func Digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Create writes a report to a file that must not exist, not even as a symbolic
// link (fs.ErrExist). It is there as a whole or not at all, and readable by its
// owner alone: it says what is weak.
func Create(path string, text []byte) error {
	next, err := stage(path, text)
	if err != nil {
		return err
	}
	return errors.Join(place(next, path, text), discard(next))
}

// Replace writes a report over whatever has its name.
func Replace(path string, text []byte) error {
	next, err := stage(path, text)
	if err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, discard(next))
	}
	return nil
}

// mostBeside bounds how many edited reports there can be beside each other.
const mostBeside = 1000

// Update writes a report under its name, in place of one that irctl wrote. What
// was edited since stays as it is: the new one is then written beside it, as
// report-2.md. wrote tells by the digest whether irctl wrote a text. Update gives
// the file that was written, and those that were kept.
func Update(path string, text []byte, wrote func(digest string) bool) (written string, kept []string, err error) {
	next, err := stage(path, text)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, discard(next)) }()
	for n := 1; n <= mostBeside; n++ {
		at := numbered(path, n)
		err := place(next, at, text)
		if err == nil {
			return at, kept, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", kept, err
		}
		if untouched(at, wrote) {
			done, err := swap(next, at, wrote)
			if done || err != nil {
				return at, kept, err
			}
		}
		kept = append(kept, at)
	}
	return "", kept, fmt.Errorf("there are %d edited reports beside %s: move them away", mostBeside, path)
}

// swap puts a file in the place of one that nobody has touched. It is done by one
// call, and what was there is looked at again: an editor may just have saved.
func swap(next, at string, wrote func(string) bool) (bool, error) {
	if err := exchange(next, at); err != nil {
		return false, err
	}
	if untouched(next, wrote) {
		return true, nil
	}
	return false, exchange(next, at)
}

// untouched: it is a regular file with a text that irctl wrote.
func untouched(path string, wrote func(string) bool) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it was only read
	h := sha256.New()
	_, err = io.Copy(h, f)
	return err == nil && wrote(hex.EncodeToString(h.Sum(nil)))
}

// numbered is the n-th name beside a path: report.md, report-2.md.
func numbered(path string, n int) string {
	if n == 1 {
		return path
	}
	ext := filepath.Ext(path)
	return fmt.Sprintf("%s-%d%s", strings.TrimSuffix(path, ext), n, ext)
}

// stage writes the text to a file beside path, which is to get its name.
func stage(path string, text []byte) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*.tmp") // its owner's alone
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, discard(f.Name()))
	}
	return f.Name(), nil
}

// place gives a staged file its name, if that is free. A file system without links
// gets a copy.
func place(next, path string, text []byte) error {
	err := os.Link(next, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(text))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func discard(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// exchangeByTurns is for systems that cannot do it by one call. For a moment b is
// not there; nothing is lost when it ends there.
func exchangeByTurns(a, b string) error {
	aside := a + ".aside"
	if err := os.Rename(b, aside); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return errors.Join(err, os.Rename(aside, b))
	}
	return os.Rename(aside, a)
}
