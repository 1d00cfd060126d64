package evidence

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

type digest = [32]byte

// manifest is a BagIt manifest (RFC 8493, section 2.1.3), in the lines that
// `sha256sum -c` reads. Paths are safe, so that nothing in them needs the
// percent-encoding that sha256sum does not know.
type manifest struct {
	entries []manifestEntry
}

type manifestEntry struct {
	path   string
	sha256 digest
}

func (m *manifest) add(path string, sum digest) {
	m.entries = append(m.entries, manifestEntry{path, sum})
}

// take removes an entry.
func (m *manifest) take(path string) digest {
	i := slices.IndexFunc(m.entries, func(e manifestEntry) bool { return e.path == path })
	sum := m.entries[i].sha256
	m.entries = slices.Delete(m.entries, i, i+1)
	return sum
}

func (m *manifest) encode() []byte {
	slices.SortFunc(m.entries, func(x, y manifestEntry) int { return cmp.Compare(x.path, y.path) })
	var b strings.Builder
	for _, e := range m.entries {
		fmt.Fprintf(&b, "%x  %s\n", e.sha256, e.path)
	}
	return []byte(b.String())
}

// ErrManifest: a manifest is not one that a bag can have.
var ErrManifest = errors.New("malformed manifest")

// maxManifestEntries bounds what a hostile manifest can make a reader keep.
const maxManifestEntries = 2_000_000

// parseManifest reads a manifest in bounded memory: so many lines of so many
// bytes, each path safe and named once.
func parseManifest(r io.Reader) (map[string]digest, error) {
	digests := map[string]digest{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), 4<<10)
	for n := 1; lines.Scan(); n++ {
		sum, path, err := parseManifestLine(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrManifest, n, err)
		}
		if _, ok := digests[path]; ok {
			return nil, fmt.Errorf("%w: line %d: %s is listed twice", ErrManifest, n, path)
		}
		if n > maxManifestEntries {
			return nil, fmt.Errorf("%w: more than %d lines", ErrManifest, maxManifestEntries)
		}
		digests[path] = sum
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return digests, nil
}

func parseManifestLine(line string) (sum digest, path string, err error) {
	encoded, path, ok := strings.Cut(line, " ")
	path = strings.TrimLeft(path, " \t") // RFC 8493: one or more spaces or tabs
	if !ok || len(encoded) != hex.EncodedLen(len(sum)) {
		return sum, "", errors.New("not a SHA-256 digest and a path")
	}
	if _, err := hex.Decode(sum[:], []byte(encoded)); err != nil {
		return sum, "", fmt.Errorf("not a SHA-256 digest: %w", err)
	}
	if !isSafePath(path) {
		return sum, "", fmt.Errorf("unsafe path %q", path)
	}
	return sum, path, nil
}
