package timeline

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"irctl/internal/record"
)

// Log is a journal open for writing. Its methods may be called concurrently.
type Log struct {
	path string
	opts Options

	// mu guards what callers see and what they wait for; it is never held
	// during I/O.
	mu      sync.Mutex
	queue   []*request
	entries []Entry
	head    Head

	// commitMu is held while a batch is written. Appends that arrive
	// meanwhile queue up and share the next fsync.
	commitMu sync.Mutex
	file     *os.File // nil once closed
	size     int64    // bytes of the file that are good
	torn     []byte   // the torn line that still follows them
	left     []byte   // what a failed write may have left of itself after size
}

// Options says whose journal it is.
type Options struct {
	Incident string           // the incident's ID
	Actor    Actor            // fills what an entry's own Actor leaves open
	Now      func() time.Time // nil: time.Now
	// Lock keeps the other Logs on the same journal out for as long as this one
	// reads or writes the file; release ends that. nil: there is no other.
	Lock func() (release func(), err error)
}

// Errors of this package, besides *ChainError and those of the file system.
var (
	ErrTooLarge = errors.New("too large for a journal")
	ErrClosed   = errors.New("journal is closed")
	ErrInvalid  = errors.New("invalid journal entry")
)

// maxTorn bounds what a recovered entry keeps of a torn line.
const maxTorn = 64 << 10

// maxBatch bounds the bytes written by one write call.
const maxBatch = 4 << 20

// Open opens the journal at path, which it creates where there is none, and
// checks its chain; a broken one is a *ChainError. A last line without end,
// of a writer that was killed, is replaced by an entry of kind recovered that
// keeps its bytes. Several may be open on it if all have the same Options.Lock.
func Open(path string, opts Options) (*Log, error) {
	if opts.Incident == "" || !utf8.ValidString(opts.Incident) {
		return nil, fmt.Errorf("timeline: %s: %w: incident ID %q", path, ErrInvalid, opts.Incident)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	f, err := openRegular(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("timeline: %w", err)
	}
	l := &Log{path: path, opts: opts, file: f}
	if err := l.begin(); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return l, nil
}

func (l *Log) begin() error {
	release, err := l.lock()
	if err != nil {
		return fmt.Errorf("timeline: %w", err)
	}
	defer release()
	if err := l.load(); err != nil {
		return err
	}
	if len(l.torn) > 0 {
		if _, err := l.commitLocked(nil); err != nil {
			return fmt.Errorf("timeline: %w: nothing was recorded", err)
		}
	}
	return nil
}

func (l *Log) lock() (release func(), err error) {
	if l.opts.Lock == nil {
		return func() {}, nil
	}
	return l.opts.Lock()
}

// load reads what is there.
func (l *Log) load() error {
	head, _, err := readHead(HeadPath(l.path))
	if err != nil {
		return fmt.Errorf("timeline: head file: %w", err)
	}
	in, err := inspectOpen(l.file, head, func(e Entry) { l.entries = append(l.entries, e) })
	if err != nil {
		return err
	}
	if p := in.broken(); p != nil {
		return &ChainError{Path: l.path, Problem: *p}
	}
	if err := l.take(in); err != nil {
		return err
	}
	if len(l.entries) == 0 {
		if err := syncDir(filepath.Dir(l.path)); err != nil { // the file may be new
			return fmt.Errorf("timeline: %w", err)
		}
	}
	return nil
}

// take keeps what was read, if it is the journal of the right incident.
func (l *Log) take(in *inspector) error {
	if len(l.entries) > 0 && in.report.Incident != l.opts.Incident {
		return &ChainError{Path: l.path, Problem: Problem{Line: 1, Seq: 1, Damage: Edited,
			Detail: fmt.Sprintf("the journal is that of incident %q, not of %q", in.report.Incident, l.opts.Incident)}}
	}
	l.size, l.head, l.torn = in.goodBytes, in.report.Head, in.tail
	if len(l.entries) == 0 {
		l.head = genesis(l.opts.Incident)
	}
	return nil
}

// follow takes in what others have added to the file, which must go on where
// this Log was.
func (l *Log) follow() error {
	now := &Log{path: l.path, opts: l.opts, file: l.file}
	if err := now.load(); err != nil {
		return err
	}
	last := now.head.SHA256
	if n := l.head.Seq; int64(len(now.entries)) > n {
		last = now.entries[n].Prev
	} else if int64(len(now.entries)) < n {
		last = ""
	}
	if last != l.head.SHA256 {
		return fmt.Errorf("%s was changed while it was open: it does not go on after entry %d as it was", l.path,
			l.head.Seq)
	}
	l.mu.Lock()
	l.entries, l.head = now.entries, now.head
	l.mu.Unlock()
	l.size, l.torn, l.left = now.size, now.torn, nil
	return nil
}

// recovered is the entry that keeps a torn line.
func recovered(torn []byte) (Entry, error) {
	kept := torn[:min(len(torn), maxTorn)]
	sum := sha256.Sum256(torn)
	return Entry{Kind: KindRecovered,
		Summary: fmt.Sprintf(
			"the last line (%d bytes) was torn when its writer was killed; it had never been acknowledged", len(torn))}.
		With(record.Torn{Bytes: len(torn), SHA256: hex.EncodeToString(sum[:]),
			Text: strconv.QuoteToASCII(string(kept))})
}

// request is one Append under way.
type request struct {
	entry    Entry
	err      error
	finished bool // guarded by commitMu
}

// AppendWith is Append of an entry with the first of the payloads, structs of
// package record, that an entry can hold; nil: with none. Of what is too large the
// caller gives a smaller one behind it, which says what is left out.
func (l *Log) AppendWith(e Entry, payloads ...any) (Entry, error) {
	for n, payload := range payloads {
		if payload == nil {
			break
		}
		with, err := e.With(payload)
		switch {
		case err == nil:
			return l.Append(with)
		case !errors.Is(err, record.ErrTooLarge), n == len(payloads)-1:
			return e, err
		}
	}
	return l.Append(e)
}

// Append adds an entry and returns it as recorded: with Seq, Time, Incident
// and Prev, and what its Actor left open. When it returns without error the
// entry is on stable storage. On an error nothing was recorded, and what was
// to be done must not be done; once the cause is gone (a full disk, say)
// Append works again. It takes no context: an entry half waited for would be
// neither there nor not there.
func (l *Log) Append(e Entry) (Entry, error) {
	r := &request{entry: e}
	l.mu.Lock()
	l.queue = append(l.queue, r)
	l.mu.Unlock()

	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if !r.finished { // else whoever held the lock before carried it along
		l.mu.Lock()
		batch := l.queue
		l.queue = nil
		l.mu.Unlock()
		l.commit(batch)
	}
	if r.err != nil {
		return Entry{}, fmt.Errorf("timeline: %w: nothing was recorded", r.err)
	}
	return r.entry, nil
}

// commit makes requests durable, or tells each why it is not.
func (l *Log) commit(batch []*request) {
	release, err := l.lock()
	if err == nil {
		defer release()
		err = l.ready()
	}
	for len(batch) > 0 {
		if err != nil {
			batch[0].finished, batch[0].err = true, err
			batch = batch[1:]
			continue
		}
		n, _ := l.commitLocked(batch) // the requests have the error
		batch = batch[n:]
	}
}

// commitLocked makes the first requests of batch durable, as many as fit a
// write, and tells how many it dealt with. A torn line is written over by the
// entry that keeps it, rather than cut off before: should this process be killed
// as well, the next finds one of the two.
func (l *Log) commitLocked(batch []*request) (n int, err error) {
	var buf []byte
	head := l.head
	accepted := make([]*request, 0, len(batch)+1)
	add := func(r *request) {
		var text []byte
		if r.entry, text, r.err = l.line(r.entry, head, int64(len(buf))); r.err != nil {
			return
		}
		sum := sha256.Sum256(text[:len(text)-1])
		head = Head{r.entry.Seq, hex.EncodeToString(sum[:])}
		buf = append(buf, text...)
		accepted = append(accepted, r)
	}
	if len(l.torn) > 0 {
		kept := &request{}
		if kept.entry, err = recovered(l.torn); err == nil {
			add(kept)
			err = kept.err
		}
	}
	for ; n < len(batch) && len(buf) < maxBatch; n++ {
		r := batch[n]
		r.finished = true
		if r.err = err; err == nil {
			add(r)
		}
	}
	if err != nil || len(accepted) == 0 {
		return n, err
	}
	if err := l.write(buf); err != nil {
		for _, r := range accepted {
			r.err = err
		}
		return n, err
	}
	l.publish(accepted, head)
	return n, nil
}

// ready makes sure that the file is the one Open found and ends where the last
// good entry ends; where others may write, what they have added is taken in.
func (l *Log) ready() error {
	if l.file == nil {
		return fmt.Errorf("%s: %w", l.path, ErrClosed)
	}
	here, err := l.file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(l.path)
	if err != nil || !os.SameFile(here, there) {
		return fmt.Errorf("%s was removed or replaced while it was open", l.path)
	}
	want := l.size + int64(len(l.torn))
	switch {
	case l.left == nil && here.Size() == want:
		return nil
	case l.opts.Lock != nil:
		if l.left != nil && l.isLeft(here.Size()) {
			return nil
		}
		return l.follow()
	case l.left == nil:
		return fmt.Errorf("%s was changed by another process while it was open (%d bytes, not %d)", l.path, here.Size(),
			want)
	}
	return nil
}

// isLeft tells whether a file of a size ends with what a failed write of this Log
// left, and nobody else has written since.
func (l *Log) isLeft(size int64) bool {
	n := size - l.size
	if n < 0 || n > int64(len(l.left)) {
		return false
	}
	there := make([]byte, n)
	if _, err := l.file.ReadAt(there, l.size); err != nil {
		return false
	}
	return bytes.HasPrefix(l.left, there)
}

// line completes an entry to follow head and encodes it.
func (l *Log) line(e Entry, head Head, pending int64) (Entry, []byte, error) {
	// Only a commit changes l.entries, and this is one: no lock needed to read.
	if err := e.validate(l.entries); err != nil {
		return e, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if head.Seq >= MaxEntries {
		return e, nil, fmt.Errorf("%s: %w: it has %d entries; close this incident and open another", l.path,
			ErrTooLarge, head.Seq)
	}
	e.Seq, e.Prev = head.Seq+1, head.SHA256
	e.Time, e.Incident = l.opts.Now(), l.opts.Incident
	e.Actor = e.Actor.orElse(l.opts.Actor)
	e, err := e.sanitized()
	if err != nil {
		return e, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	text, err := encode(e)
	if err != nil {
		return e, nil, err
	}
	if l.size+pending+int64(len(text)) > MaxFile {
		return e, nil, fmt.Errorf("%s: %w: it has %d bytes; close this incident and open another", l.path, ErrTooLarge,
			l.size)
	}
	return e, text, nil
}

// write adds buf to the file durably, or leaves the file as it was.
func (l *Log) write(buf []byte) error {
	_, err := l.file.WriteAt(buf, l.size)
	end := l.size + int64(len(buf))
	if err == nil && (l.left != nil || len(l.torn) > 0) {
		err = l.file.Truncate(end)
	}
	if err == nil {
		err = fsync(l.file)
	}
	if err != nil {
		if l.left = nil; l.rollBack() != nil {
			l.left = buf
		}
		return err
	}
	l.size, l.torn, l.left = end, nil, nil
	return nil
}

// rollBack takes away what a failed write left. Should this fail too, the next
// write starts at the same place and cuts the rest; a process that is killed
// before leaves whole lines that continue the chain, or a torn one.
func (l *Log) rollBack() error {
	if _, err := l.file.WriteAt(l.torn, l.size); err != nil {
		return err
	}
	return l.file.Truncate(l.size + int64(len(l.torn)))
}

func (l *Log) publish(accepted []*request, head Head) {
	l.mu.Lock()
	for _, r := range accepted {
		l.entries = append(l.entries, r.entry)
	}
	l.head = head
	l.mu.Unlock()
	// An older head is still true, so a failure here (a full disk) is no
	// reason to call a recorded entry not recorded.
	_ = writeHead(HeadPath(l.path), head)
}

// Entries returns a copy of the entries recorded so far. What their Object,
// Targets and Data point to is shared and must not be changed.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Path returns the file of the journal, for reading.
func (l *Log) Path() string { return l.path }

// Head returns the last entry's place and hash; Seq 0 in an empty journal.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Close waits for Appends under way. Later ones fail with ErrClosed.
func (l *Log) Close() error {
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// fsync is replaced by tests, which cannot see otherwise what is on stable storage.
var fsync = (*os.File).Sync

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(fsync(d), d.Close())
}
