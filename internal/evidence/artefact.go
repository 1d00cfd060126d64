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
	// twin has had the same content so far, and more: its digests are taken,
	// for nothing need be hashed twice. nil: there is none, or no longer.
	twin *ArtefactWriter
	// begins are the states of whole where the last parts began, for a twin.
	begins [keptBegins]hash.Hash
	// withheld: the record is there, the content is not to be.
	withheld bool
}

// keptBegins is more than the parts that a twin can be behind: it has at least
// all but a few windows of the redaction.
const keptBegins = 4

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
				return written, fmt.Errorf("%w after %d bytes: an artefact has at most %d parts", ErrTruncated,
					a.record.Size, maxParts)
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
	if a.twin == nil {
		a.hash(p)
	}
	return len(p), nil
}

func (a *ArtefactWriter) hash(p []byte) {
	a.whole.Write(p)
	if len(a.record.Parts) > 0 {
		a.part.Write(p)
	}
}

// diverge: what follows is not what the twin has. The digests go on from where
// the part that is buffered began.
func (a *ArtefactWriter) diverge() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.divergeLocked()
}

func (a *ArtefactWriter) divergeLocked() {
	if a.twin == nil {
		return
	}
	if n := len(a.record.Parts); n > 0 {
		a.whole = a.twin.wholeBefore(n)
	}
	a.twin = nil
	for _, chunk := range a.chunks {
		a.hash(chunk)
	}
}

// wholeBefore is the state of whole after n parts.
func (a *ArtefactWriter) wholeBefore(n int) hash.Hash {
	a.mu.Lock()
	defer a.mu.Unlock()
	return clone(a.begins[n%keptBegins])
}

func clone(h hash.Hash) hash.Hash {
	// That of SHA-256 can be, and does not fail.
	c, _ := h.(hash.Cloner).Clone()
	return c
}

// partDigest is that of part n, from 1.
func (a *ArtefactWriter) partDigest(n int) (sum digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, _ = hex.Decode(sum[:], []byte(a.record.Parts[n-1].SHA256)) // we encoded it
	return sum
}

// sum is the digest of all the content.
func (a *ArtefactWriter) sum() (sum digest) {
	if a.twin != nil {
		return a.twin.lockedSum()
	}
	a.whole.Sum(sum[:0])
	return sum
}

func (a *ArtefactWriter) endedAt(size int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended && a.record.Size == size
}

func (a *ArtefactWriter) lockedSum() digest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sum()
}

// writePart sends the buffer to the archive as the next part.
func (a *ArtefactWriter) writePart() error {
	n := len(a.record.Parts) + 1
	entry := payloadEntry{path: partName(a.record.Path, n), chunks: a.chunks, size: a.size}
	switch {
	case a.twin != nil:
		entry.sha256 = a.twin.partDigest(n)
	case n == 1:
		a.whole.Sum(entry.sha256[:0]) // all there is so far
	default:
		a.part.Sum(entry.sha256[:0])
	}
	a.part.Reset()
	a.begins[n%keptBegins] = clone(a.whole)
	a.record.Parts = append(a.record.Parts, Part{Path: entry.path, Size: int64(a.size),
		SHA256: hex.EncodeToString(entry.sha256[:])})
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
	if a.twin != nil && !a.twin.endedAt(a.record.Size) {
		a.divergeLocked()
	}
	var entry *payloadEntry
	if a.record.Size > 0 || cause == nil {
		sum := a.sum()
		a.record.SHA256 = hex.EncodeToString(sum[:])
		if len(a.record.Parts) > 0 {
			if err := a.writePart(); err != nil {
				return err
			}
		} else {
			entry = &payloadEntry{path: a.record.Path, chunks: a.chunks, size: a.size, sha256: sum}
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
	case errors.Is(err, ErrTruncated), errors.Is(err, ErrInconsistent):
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
