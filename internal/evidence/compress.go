package evidence

import (
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

// Extension ends the name of every bundle: how it is packed, outermost last.
const Extension = ".tar.gz.gpg"

// compressBlock is what one core compresses at a time; compressBlocks of them
// are under way. Together with their output that is about 8 MiB.
const (
	compressBlock  = 1 << 20
	compressBlocks = 4
)

// newCompressor compresses before encryption, on all cores. This file alone
// knows with what. Logs compress well at the fastest level, and during an
// incident time counts more than the last tenth of the size. It is gzip because
// every tar in the world opens that, and because in parallel it is faster here
// than zstd's streams are (docs/benchmarks.md).
func newCompressor(w io.Writer) (io.WriteCloser, error) {
	z, err := pgzip.NewWriterLevel(w, pgzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	return z, z.SetConcurrency(compressBlock, compressBlocks)
}

// newDecompressor reads on one core: unlike compression it is not the bottleneck,
// and it must not read ahead of what was authenticated by more than it needs.
func newDecompressor(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }
