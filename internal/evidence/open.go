package evidence

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"irctl/internal/userfile"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Reader reads a bundle entry by entry, in bounded memory. Nothing it returned
// can be relied on before Next has returned io.EOF: only then is it known that
// the encrypted message came to its authenticated end.
type Reader struct {
	message      io.Reader // decrypted
	close        func() error
	decompressor io.ReadCloser
	tar          *tar.Reader
	root         string
	seen         map[string]bool
	done         error
}

// Entry is one file of a bag; Path is below the bag's directory.
type Entry struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
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

// Key opens bundles. The zero value stands for the keys of the user's GnuPG
// keyring: then gpg decrypts, and its agent asks for what it needs to know.
type Key struct{ keyring openpgp.EntityList }

// LoadKey reads a private key from a file.
func LoadKey(ctx context.Context, path string, ask Passphrase) (Key, error) {
	e, err := readPrivateKey(ctx, path, ask)
	if err != nil {
		return Key{}, fmt.Errorf("private key %q: %w", path, err)
	}
	return Key{keyring: openpgp.EntityList{e}}, nil
}

// OpenFile begins to read the bundle at path. The reader must be closed.
func OpenFile(ctx context.Context, path string, key Key) (*Reader, error) {
	f, err := userfile.Open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("opening the bundle: %w", err)
	}
	var r *Reader
	if key.keyring != nil {
		r, err = Open(f, key.keyring)
	} else {
		r, err = openWithGpg(ctx, f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	inner := r.close
	r.close = func() error { return errors.Join(inner(), f.Close()) }
	return r, nil
}

// Close lets go of the bundle. It does not say whether the bundle is intact.
func (r *Reader) Close() error { return r.close() }

// Open begins to read a bundle with the private keys of a keyring.
func Open(r io.Reader, keyring openpgp.KeyRing) (*Reader, error) {
	md, err := openpgp.ReadMessage(r, keyring, nil, nil)
	switch {
	case err != nil && strings.Contains(err.Error(), "incorrect key"):
		return nil, fmt.Errorf("opening the bundle: %w: %w", ErrNoKey, err)
	case err != nil:
		return nil, fmt.Errorf("opening the bundle: %w: its OpenPGP header: %w", ErrAltered, err)
	case !md.IsEncrypted:
		return nil, fmt.Errorf("opening the bundle: %w: it is not encrypted", ErrAltered)
	}
	return newReader(md.UnverifiedBody, func() error { return nil })
}

func newReader(message io.Reader, closer func() error) (*Reader, error) {
	decompressor, err := newDecompressor(message)
	if err != nil {
		return nil, fmt.Errorf("opening the bundle: %w: %w", ErrAltered, err)
	}
	return &Reader{message: message, close: closer, decompressor: decompressor, tar: tar.NewReader(decompressor),
		seen: map[string]bool{}}, nil
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
