package evidence

import (
	"io"

	"github.com/klauspost/compress/gzip"
)

// Extension ends the name of every bundle: how it is packed, outermost last.
const Extension = ".tar.gz.gpg"

// newCompressor compresses before encryption. This file alone knows with what.
// Logs compress well at the fastest level, and during an incident time counts
// more than the last tenth of the size.
func newCompressor(w io.Writer) (io.WriteCloser, error) {
	return gzip.NewWriterLevel(w, gzip.BestSpeed)
}

func newDecompressor(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }
