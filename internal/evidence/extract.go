package evidence

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"irctl/internal/cluster"
)

// List returns the files of a bag. It reads to the end, since only there it is
// known that nothing is missing.
func List(r *Reader) ([]Entry, error) {
	var entries []Entry
	for {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		entries = append(entries, entry)
	}
}

// ErrNoFile: the bag has no file of that name.
var ErrNoFile = errors.New("no such file in the bundle")

// Copy writes one artefact to w, its parts put together. An error after
// something was written means that it cannot be relied on: so does one about
// what follows it, which is read too.
func Copy(w io.Writer, r *Reader, name string) error {
	if !strings.HasPrefix(name, payloadPrefix) && strings.Contains(name, "/") {
		name = payloadPrefix + name
	}
	found := false
	next := 1
	var paths []string
	for {
		entry, err := r.Next()
		switch {
		case errors.Is(err, io.EOF) && !found:
			if near := cluster.Near(name, paths); len(near) > 0 {
				return fmt.Errorf("%w: %s; did you mean %s?", ErrNoFile, name, strings.Join(near, ", "))
			}
			return fmt.Errorf("%w: %s (irctl evidence ls lists them)", ErrNoFile, name)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case entry.Path == partName(name, next):
			next++
		case entry.Path != name:
			paths = append(paths, entry.Path)
			continue
		}
		found = true
		if _, err := io.Copy(w, r); err != nil {
			return fmt.Errorf("reading %s: %w", entry.Path, err)
		}
	}
}

// partName is that of a part of an artefact, from 1.
func partName(artefact string, part int) string { return fmt.Sprintf("%s.part%05d", artefact, part) }

// Extract writes all files of a bag below a directory, which must be new or
// empty, and checks them on the way. Nothing is written outside of it, whatever
// the archive says. Problems are what does not agree with the manifests; with
// an error, what was written until then cannot be relied on.
func Extract(r *Reader, dir string) ([]Problem, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("extracting: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("extracting: %w", err)
	}
	defer func() { _ = root.Close() }() // files were closed before
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		return nil, cmpError(err, fmt.Errorf("extracting: %s is not empty; name a new directory", dir))
	}
	bag, err := checkBag(r, func(entry Entry, content io.Reader) error {
		return extractFile(root, entry.Path, content)
	})
	if err != nil {
		return bag.problems, fmt.Errorf("extracting %s: %w", bag.reading, err)
	}
	return bag.problems, nil
}

// extractFile relies on root to stay inside, and on the reader to give no path
// that would leave.
func extractFile(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
