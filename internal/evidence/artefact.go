package evidence

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// ArtefactWriter takes the content of one artefact.
//
// Its lock is taken before the bag's, so that hashing and copying of different
// artefacts go on side by side.
type ArtefactWriter struct {
	bag *Bag

	mu     sync.Mutex
	record Artefact
	chunks [][]byte // what is buffered
	size   int      // of chunks, in bytes
	whole  hash.Hash
	part   hash.Hash // from the second part on
	ended  bool
	// withheld: the record is there, the content is not to be.
	withheld bool
}

// Errors that End records as something else than a failure. Wrap them with the
// reason.
var (
	// ErrTruncated: there would have been more.
	ErrTruncated = errors.New("cut")
	// ErrAbsent: there is nothing to collect, as the cluster says.
	ErrAbsent = errors.New("nothing to collect")
)

// Write fails only if the archive cannot be written, the artefact was ended, or
// it has all the parts it can have (ErrTruncated).
func (a *ArtefactWriter) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	written := 0
	for len(p) > 0 {
		if a.ended {
			return written, ErrBagClosed
		}
		if a.size == PartSize {
			if len(a.record.Parts) == maxParts-1 { // End writes the last
				return written, fmt.Errorf("%w after %d bytes: an artefact has at most %d parts", ErrTruncated, a.record.Size, maxParts)
			}
			if err := a.writePart(); err != nil {
				return written, err
			}
		}
		n, err := a.fill(p)
		if err != nil {
			return written, err
		}
		written += n
		p = p[n:]
	}
	return written, nil
}

// fill copies into the last chunk, or a new one, what fits.
func (a *ArtefactWriter) fill(p []byte) (int, error) {
	last := len(a.chunks) - 1
	if last < 0 || len(a.chunks[last]) == cap(a.chunks[last]) {
		chunk, err := a.bag.chunk()
		if err != nil {
			return 0, err
		}
		a.chunks = append(a.chunks, chunk)
		last++
	}
	chunk := a.chunks[last]
	p = p[:min(len(p), cap(chunk)-len(chunk))]
	a.chunks[last] = append(chunk, p...)
	a.size += len(p)
	a.record.Size += int64(len(p))
	a.whole.Write(p)
	if len(a.record.Parts) > 0 {
		a.part.Write(p)
	}
	return len(p), nil
}

// writePart sends the buffer to the archive as the next part.
func (a *ArtefactWriter) writePart() error {
	sum := a.part
	if len(a.record.Parts) == 0 {
		sum = a.whole // all there is so far
	}
	entry := payloadEntry{path: partName(a.record.Path, len(a.record.Parts)+1), chunks: a.chunks, size: a.size}
	sum.Sum(entry.sha256[:0])
	a.part.Reset()
	a.record.Parts = append(a.record.Parts, Part{Path: entry.path, Size: int64(a.size), SHA256: hex.EncodeToString(entry.sha256[:])})
	a.chunks, a.size = nil, 0
	return a.bag.writeNow(entry)
}

// End records how the artefact ended: nil for complete, else why it is not. An
// error after content was written means truncated, whatever it is. End fails
// only if the archive cannot be written, or it was called before.
func (a *ArtefactWriter) End(cause error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return ErrBagClosed
	}
	a.ended = true
	a.record.Status = statusOf(cause)
	if cause != nil {
		a.record.Reason = shorten(cause.Error(), maxReason)
		switch {
		case a.withheld:
			a.record.Status = Withheld
		case a.record.Size > 0:
			a.record.Status = Truncated
		case a.record.Status == Truncated:
			a.record.Status = Failed
		}
	}
	var entry *payloadEntry
	if a.record.Size > 0 || cause == nil {
		a.record.SHA256 = hex.EncodeToString(a.whole.Sum(nil))
		if len(a.record.Parts) > 0 {
			if err := a.writePart(); err != nil {
				return err
			}
		} else {
			entry = &payloadEntry{path: a.record.Path, chunks: a.chunks, size: a.size}
			a.whole.Sum(entry.sha256[:0])
			a.chunks = nil
		}
	}
	return a.bag.end(a, entry)
}

// digest is what the redacted bundle tells of the original.
func (a *ArtefactWriter) digest() Redaction {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Redaction{OriginalSize: a.record.Size, OriginalSHA256: a.record.SHA256}
}

// annotate adds to the record what the original was.
func (a *ArtefactWriter) annotate(status Status, r Redaction) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.withheld = status == Withheld
	a.record.Redaction = &r
}

// shorten cuts at a character's border.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

func statusOf(err error) Status {
	switch {
	case err == nil:
		return Complete
	case errors.Is(err, ErrAbsent):
		return Absent
	case errors.Is(err, ErrTruncated):
		return Truncated
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), errors.Is(err, errForbidden):
		return Forbidden
	}
	return Failed
}

// Path of the artefact in the bag.
func (a *ArtefactWriter) Path() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record.Path
}
