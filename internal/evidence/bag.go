package evidence

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"irctl/internal/record"
)

// Bag writes a tar archive in BagIt layout (RFC 8493, version 1.0) while
// artefacts arrive in parallel, in bounded memory.
//
// A tar header holds the size of what follows, and an archive takes one entry
// at a time, whereas collectors stream content of unknown size side by side. So
// each open artefact has a buffer of its own. What fits in it, up to PartSize,
// becomes one entry; longer content goes out in entries of PartSize each, named
// NAME.part00001 and so on, as soon as each is full. No writer ever waits for
// another artefact to make progress, only for the archive itself.
//
// Entries are sorted by path: finished artefacts wait, up to maxWaiting bytes
// of them, and are written in order together. A bag whose artefacts fit in that
// (any usual snapshot of a pod) has the same order of entries every time; in a
// larger one, memory wins over order. Manifests, collection.json and INDEX.md are
// sorted always.
//
// A Bag may be used from many goroutines.
type Bag struct {
	root string // the directory that holds all entries, as RFC 8493 asks of archives
	now  func() time.Time

	mu         sync.Mutex
	tar        *tar.Writer
	err        error // the first failure to write; nothing is written after it
	closed     bool
	collection Collection
	open       map[*ArtefactWriter]bool
	waiting    []payloadEntry
	waitBytes  int
	free       [][]byte // chunks to use again
	paths      map[string]pathKind
	lost       int   // artefacts that could not even be recorded
	lostCause  error // of the first
	manifest   manifest
	bytes      int64
}

type payloadEntry struct {
	path   string
	chunks [][]byte
	size   int
	sha256 digest
}

const (
	// PartSize is the largest entry that content is written in, in bytes.
	PartSize = 2 << 20
	// MaxArtefacts bounds the records that are kept until the end.
	MaxArtefacts = 100_000
	// maxParts keeps the numbers of parts at five digits: 200 GB an artefact.
	maxParts = 99_999

	chunkSize  = 64 << 10
	maxWaiting = 4 << 20
	// maxReason bounds an error's text: servers' messages can be of any length.
	maxReason = 1024
)

var (
	// ErrBagClosed: the artefact, or the whole bag, takes no more.
	ErrBagClosed = errors.New("the bag is closed")
	// ErrDuplicateArtefact: a bag holds one artefact of a path.
	ErrDuplicateArtefact = errors.New("an artefact of that path is in the bag already")
	// ErrBagFull: MaxArtefacts is reached.
	ErrBagFull = fmt.Errorf("the bag holds %d artefacts and takes no more", MaxArtefacts)
)

// NewBag begins a bag under the directory root, a name that SafeName makes
// harmless, and writes its declaration to w. The clock gives the times in it.
func NewBag(w io.Writer, root string, meta Meta, clock func() time.Time) (*Bag, error) {
	b := &Bag{
		root:       SafeName(root),
		now:        func() time.Time { return clock().UTC() },
		tar:        tar.NewWriter(w),
		open:       map[*ArtefactWriter]bool{},
		paths:      map[string]pathKind{},
		collection: Collection{Format: CollectionFormat, Meta: meta, Artefacts: []Artefact{}},
	}
	b.collection.Started = b.now()
	declaration := []byte("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
	return b, b.writeTag(bagDeclaration, declaration, &b.manifest)
}

type pathKind int

const (
	file pathKind = iota + 1
	directory
)

// The files of a bag beside its payload.
const (
	bagDeclaration  = "bagit.txt"
	bagInfoFile     = "bag-info.txt"
	collectionFile  = "collection.json"
	indexFile       = "INDEX.md"
	manifestFile    = "manifest-sha256.txt"
	tagManifestFile = "tagmanifest-sha256.txt"
	payloadPrefix   = "data/"
)

// Create begins an artefact. The names become its path below data/, each made
// safe; the path must be new to the bag. The caller must End it.
func (b *Bag) Create(collector, source string, names ...string) (*ArtefactWriter, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	record, err := b.record(collector, source, names)
	if err != nil {
		return nil, err
	}
	a := &ArtefactWriter{bag: b, record: record, whole: sha256.New(), part: sha256.New()}
	b.open[a] = true
	return a, nil
}

// Fail records an artefact of which nothing could be had, and why.
func (b *Bag) Fail(collector, source string, cause error, names ...string) error {
	a, err := b.Create(collector, source, names...)
	if err != nil {
		return err
	}
	return a.End(cause)
}

// Err is the first failure to write the archive. Nothing is written after it.
func (b *Bag) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// lose remembers that an artefact is missing even from the records.
func (b *Bag) lose(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost++; b.lost == 1 {
		b.lostCause = cause
	}
}

// record claims a path. The caller holds the lock.
func (b *Bag) record(collector, source string, names []string) (Artefact, error) {
	safe := make([]string, len(names))
	for i, name := range names {
		safe[i] = SafeName(name)
	}
	path := payloadPrefix + strings.Join(safe, "/")
	switch {
	case b.err != nil:
		return Artefact{}, b.err
	case b.closed:
		return Artefact{}, ErrBagClosed
	case len(names) == 0 || !isSafePath(path):
		return Artefact{}, fmt.Errorf("an artefact cannot have the path %q", path)
	case len(b.collection.Artefacts)+len(b.open) >= MaxArtefacts:
		return Artefact{}, ErrBagFull
	}
	if err := b.claim(path); err != nil {
		return Artefact{}, err
	}
	return Artefact{Path: path, Original: originalNames(names), Collector: collector, Source: source, Started: b.now()},
		nil
}

// claim makes sure that no path is used twice, nor as a file and a directory.
func (b *Bag) claim(path string) error {
	if b.paths[path] != 0 {
		return fmt.Errorf("%w: %s", ErrDuplicateArtefact, path)
	}
	for i := range len(path) {
		if path[i] == '/' && b.paths[path[:i]] == file {
			return fmt.Errorf("%w: %s", ErrDuplicateArtefact, path[:i])
		}
	}
	for i := range len(path) {
		if path[i] == '/' {
			b.paths[path[:i]] = directory
		}
	}
	b.paths[path] = file
	return nil
}

// write puts one entry into the archive. The caller holds the lock.
func (b *Bag) write(path string, size int, chunks [][]byte) error {
	if b.err != nil {
		return b.err
	}
	b.err = b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: b.root + "/" + path, Size: int64(size),
		Mode: 0o600, ModTime: b.now().Truncate(time.Second)})
	for _, chunk := range chunks {
		if b.err == nil {
			_, b.err = b.tar.Write(chunk)
		}
	}
	return b.err
}

func (b *Bag) writePayload(e payloadEntry) error {
	if err := b.write(e.path, e.size, e.chunks); err != nil {
		return err
	}
	b.release(e.chunks)
	b.manifest.add(e.path, e.sha256)
	b.bytes += int64(e.size)
	return nil
}

// writeNow writes an entry that cannot wait.
func (b *Bag) writeNow(e payloadEntry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writePayload(e)
}

// end takes the record of an artefact that ended, and what is still to be
// written of it.
func (b *Bag) end(a *ArtefactWriter, entry *payloadEntry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, a)
	a.record.Ended = b.now()
	b.collection.Artefacts = append(b.collection.Artefacts, a.record)
	if entry == nil {
		return b.err
	}
	if last := len(entry.chunks) - 1; last >= 0 && len(entry.chunks[last]) < chunkSize {
		// A chunk that is hardly used must not hold its memory while it waits.
		full := entry.chunks[last]
		entry.chunks[last] = slices.Clip(slices.Clone(full))
		b.release([][]byte{full})
	}
	b.waiting = append(b.waiting, *entry)
	if b.waitBytes += entry.size; b.waitBytes <= maxWaiting {
		return b.err
	}
	return b.writeWaiting()
}

func (b *Bag) writeWaiting() error {
	slices.SortFunc(b.waiting, func(x, y payloadEntry) int { return cmp.Compare(x.path, y.path) })
	for _, e := range b.waiting {
		if err := b.writePayload(e); err != nil {
			return err
		}
	}
	clear(b.waiting)
	b.waiting, b.waitBytes = b.waiting[:0], 0
	return nil
}

// chunk gives an empty buffer of chunkSize; release takes it back.
func (b *Bag) chunk() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	if n := len(b.free); n > 0 {
		c := b.free[n-1]
		b.free = b.free[:n-1]
		return c, nil
	}
	return make([]byte, 0, chunkSize), nil
}

func (b *Bag) release(chunks [][]byte) {
	for _, c := range chunks {
		if cap(c) == chunkSize {
			b.free = append(b.free, c[:0])
		}
	}
}

// Summary of a finished bag.
type Summary = record.Summary

// Close ends artefacts that are still open with the reason incomplete, writes
// the manifests and the end of the archive. Its writer is not closed. A reason
// that is not empty marks the collection as incomplete even if all that was
// begun was finished.
func (b *Bag) Close(incomplete string) (Summary, error) {
	open, err := b.refuseMore()
	if err != nil {
		return Summary{}, err
	}
	for _, a := range open {
		// ErrBagClosed: it ended by itself meanwhile. Others are kept in b.err.
		_ = a.End(fmt.Errorf("%w: %s", ErrTruncated, cmp.Or(incomplete, "the collector did not finish")))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		_ = b.writeWaiting() // kept in b.err
	}
	if b.err != nil {
		return Summary{}, b.err
	}
	summary := b.finishCollection(incomplete)
	if err := b.writeTags(&summary); err != nil {
		return Summary{}, err
	}
	if b.err = b.tar.Close(); b.err != nil {
		return Summary{}, b.err
	}
	return summary, nil
}

// refuseMore closes the bag for new artefacts and returns those still open.
func (b *Bag) refuseMore() ([]*ArtefactWriter, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrBagClosed
	}
	b.closed = true
	return slices.SortedFunc(maps.Keys(b.open), func(x, y *ArtefactWriter) int {
		return cmp.Compare(x.record.Path, y.record.Path) // Path never changes
	}), nil
}

func (b *Bag) finishCollection(incomplete string) Summary {
	c := &b.collection
	slices.SortFunc(c.Artefacts, func(x, y Artefact) int { return cmp.Compare(x.Path, y.Path) })
	counts := c.counts()
	c.Finished = b.now()
	if b.lost > 0 {
		incomplete = strings.TrimPrefix(fmt.Sprintf("%s; %d artefacts could not be recorded, the first because %v",
			incomplete, b.lost, b.lostCause), "; ")
	}
	c.Incomplete = incomplete
	c.Complete = incomplete == "" && counts[Complete]+counts[Absent] == len(c.Artefacts)
	return Summary{Artefacts: counts, PayloadBytes: b.bytes, Complete: c.Complete, Incomplete: incomplete}
}

func (b *Bag) writeTags(summary *Summary) error {
	collection, err := b.collection.encode()
	if err != nil {
		b.err = err
		return err
	}
	tags := manifest{}
	tags.add(bagDeclaration, b.manifest.take(bagDeclaration))
	payload := b.manifest.encode()
	files := len(b.manifest.entries)
	for _, f := range []struct {
		path string
		data []byte
	}{
		{indexFile, b.collection.index()},
		{bagInfoFile, b.collection.bagInfo(b.bytes, files)},
		{collectionFile, collection},
		{manifestFile, payload},
	} {
		if err := b.writeTag(f.path, f.data, &tags); err != nil {
			return err
		}
	}
	tagManifest := tags.encode()
	summary.ManifestSHA256, summary.TagManifestSHA256 = hexDigest(payload), hexDigest(tagManifest)
	return b.writeTag(tagManifestFile, tagManifest, &manifest{})
}

func (b *Bag) writeTag(path string, data []byte, m *manifest) error {
	m.add(path, sha256.Sum256(data))
	return b.write(path, len(data), [][]byte{data})
}

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// AddBytes puts content that is at hand into the bag.
func (b *Bag) AddBytes(collector, source string, content []byte, names ...string) error {
	a, err := b.Create(collector, source, names...)
	if err != nil {
		return err
	}
	_, err = io.Copy(a, bytes.NewReader(content))
	return errors.Join(err, a.End(nil))
}
