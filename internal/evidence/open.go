package evidence

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Reader reads a bundle entry by entry, in bounded memory. Nothing it returned
// can be relied on before Next has returned io.EOF: only then is it known that
// the encrypted message came to its authenticated end.
type Reader struct {
	message      io.Reader // decrypted
	decompressor io.ReadCloser
	tar          *tar.Reader
	root         string
	seen         map[string]bool
	done         error
}

// Entry is one file of a bag; Path is below the bag's directory.
type Entry struct {
	Path string
	Size int64
}

// ErrAltered: the bundle is not what was sealed: cut, changed, or no bundle.
var ErrAltered = errors.New("the bundle was altered or is incomplete")

// ErrNoKey: none of the keys at hand opens the bundle.
var ErrNoKey = errors.New("none of these keys opens the bundle")

const (
	// maxEntries and maxEntry bound what a hostile archive can ask for; a Bag
	// writes neither more entries nor larger ones.
	maxEntries = maxManifestEntries
	maxEntry   = 1 << 30
	// maxPadding is what may follow the end of the archive.
	maxPadding = 1 << 20
)

// Open begins to read a bundle with the private keys of a keyring.
func Open(r io.Reader, keyring openpgp.KeyRing) (*Reader, error) {
	md, err := openpgp.ReadMessage(r, keyring, nil, nil)
	switch {
	case err != nil && strings.Contains(err.Error(), "incorrect key"):
		return nil, fmt.Errorf("opening the bundle: %w: %w", ErrNoKey, err)
	case err != nil:
		return nil, fmt.Errorf("opening the bundle: %w: %w", ErrAltered, err)
	case !md.IsEncrypted:
		return nil, fmt.Errorf("opening the bundle: %w: it is not encrypted", ErrAltered)
	}
	decompressor, err := newDecompressor(md.UnverifiedBody)
	if err != nil {
		return nil, fmt.Errorf("opening the bundle: %w: %w", ErrAltered, err)
	}
	return &Reader{message: md.UnverifiedBody, decompressor: decompressor, tar: tar.NewReader(decompressor), seen: map[string]bool{}}, nil
}

// Next advances to the next entry. It returns io.EOF after the last, if the
// whole message is authentic.
func (r *Reader) Next() (Entry, error) {
	if r.done != nil {
		return Entry{}, r.done
	}
	entry, err := r.next()
	if err != nil {
		r.done = err
	}
	return entry, err
}

func (r *Reader) next() (Entry, error) {
	header, err := r.tar.Next()
	if errors.Is(err, io.EOF) {
		return Entry{}, r.finish()
	}
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrAltered, err)
	}
	root, path, _ := strings.Cut(header.Name, "/")
	switch {
	case header.Typeflag != tar.TypeReg:
		return Entry{}, fmt.Errorf("%w: %q is not a plain file", ErrAltered, header.Name)
	case !isSafePath(header.Name) || path == "":
		return Entry{}, fmt.Errorf("%w: %q is not a safe path in a bag", ErrAltered, header.Name)
	case r.root != "" && r.root != root:
		return Entry{}, fmt.Errorf("%w: %q is outside of the bag %s", ErrAltered, header.Name, r.root)
	case r.seen[path]:
		return Entry{}, fmt.Errorf("%w: %s is there twice", ErrAltered, path)
	case len(r.seen) == maxEntries || header.Size > maxEntry:
		return Entry{}, fmt.Errorf("%w: more or larger entries than a bag has, at %s", ErrAltered, path)
	}
	r.root = root
	r.seen[path] = true
	return Entry{Path: path, Size: header.Size}, nil
}

// Read reads the current entry.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.tar.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", ErrAltered, err)
	}
	return n, err
}

// finish reads what is left after the archive's end, so that the check sum of
// the compression and the authentication of the encryption are reached, and
// returns io.EOF if both are right.
func (r *Reader) finish() error {
	if err := onlyZeros(r.decompressor); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(r.message, maxPadding)); err != nil || n > 0 {
		return fmt.Errorf("%w: %w", ErrAltered, cmp.Or(err, errors.New("something follows the archive")))
	}
	return io.EOF
}

func onlyZeros(r io.Reader) error {
	buf := make([]byte, 4<<10)
	for total := 0; total <= maxPadding; {
		n, err := r.Read(buf)
		if len(bytes.TrimLeft(buf[:n], "\x00")) > 0 {
			break
		}
		total += n
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAltered, err)
		}
	}
	return fmt.Errorf("%w: something follows the archive", ErrAltered)
}

// Problem is one thing that is wrong in a bag.
type Problem struct {
	Path string // below the bag's directory
	What string
}

func (p Problem) String() string { return p.Path + ": " + p.What }

// Verification is what Verify found.
type Verification struct {
	// Files and Bytes of the payload.
	Files int
	Bytes int64
	// Problems by path; none: all is as it was sealed.
	Problems []Problem
}

// maxManifestBytes bounds a manifest that is read.
const maxManifestBytes = 512 << 20

// Verify reads a bundle to its end and compares every file with the manifests.
// It returns an error if the bundle cannot be read to its authentic end, and
// what was found until then with it.
func Verify(r *Reader) (Verification, error) {
	var v Verification
	found := map[string]digest{}
	manifests := map[string]map[string]digest{}
	for {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return v, err
		}
		sum := sha256.New()
		var content io.Reader = io.TeeReader(r, sum)
		if entry.Path == manifestFile || entry.Path == tagManifestFile {
			listed, err := parseManifest(io.LimitReader(content, maxManifestBytes))
			if err != nil {
				v.Problems = append(v.Problems, Problem{entry.Path, err.Error()})
			}
			manifests[entry.Path] = listed
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return v, fmt.Errorf("reading %s: %w", entry.Path, err)
		}
		found[entry.Path] = digest(sum.Sum(nil))
		if strings.HasPrefix(entry.Path, payloadPrefix) {
			v.Files++
			v.Bytes += entry.Size
		}
	}
	v.Problems = append(v.Problems, compare(found, manifests)...)
	slices.SortFunc(v.Problems, func(x, y Problem) int { return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.What, y.What)) })
	return v, nil
}

// compare checks that the manifest lists exactly the payload, and the tag
// manifest exactly the other files.
func compare(found map[string]digest, manifests map[string]map[string]digest) []Problem {
	var problems []Problem
	listed := map[string]digest{}
	for _, name := range []string{manifestFile, tagManifestFile} {
		if manifests[name] == nil {
			problems = append(problems, Problem{name, "missing"})
		}
		for path, sum := range manifests[name] {
			if strings.HasPrefix(path, payloadPrefix) != (name == manifestFile) {
				problems = append(problems, Problem{path, "listed in the wrong manifest, " + name})
			}
			listed[path] = sum
		}
	}
	for path, sum := range listed {
		switch actual, ok := found[path]; {
		case !ok:
			problems = append(problems, Problem{path, "missing"})
		case actual != sum:
			problems = append(problems, Problem{path, "altered: its SHA-256 is not that of the manifest"})
		}
	}
	for path := range maps.Keys(found) {
		if _, ok := listed[path]; !ok && path != tagManifestFile {
			problems = append(problems, Problem{path, "in no manifest"})
		}
	}
	return problems
}
