package timeline

import (
	"fmt"
	"io"
	"os"
	"time"
)

// Report is what Verify found.
type Report struct {
	Incident string    `json:"incident"`
	Entries  int64     `json:"entries"`
	Head     Head      `json:"head"`  // of the last line; note it elsewhere to prove the journal later
	First    time.Time `json:"first"` // time of the first entry
	Last     time.Time `json:"last"`

	// HeadFile is what the head file says; nil where there is none to use.
	// Then entries cut off the end, and edits to the last line, cannot be excluded.
	HeadFile *Head `json:"headFile,omitempty"`

	Problems     []Problem `json:"problems,omitempty"`     // by line
	MoreProblems int       `json:"moreProblems,omitempty"` // found beyond those listed
	Warnings     []string  `json:"warnings,omitempty"`     // odd, but no sign of damage
}

// OK reports whether the journal is, byte for byte, what its writer left, as
// far as can be told: where HeadFile is nil, entries may be missing at the end.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// Verify checks a whole journal and reports everything that is wrong with it.
// It takes no lock and changes nothing. Its error says that the journal could
// not be read at all.
func Verify(path string) (Report, error) {
	in, err := inspectFile(path, func(Entry) {})
	if err != nil {
		return Report{}, err
	}
	return in.report, nil
}

// Read returns the entries of a journal. It takes no lock and changes
// nothing; a line that is being written, or was torn by a kill, is left out.
// Where the chain is broken it returns the entries before the break and a
// *ChainError.
func Read(path string) ([]Entry, error) {
	var entries []Entry
	in, err := inspectFile(path, func(e Entry) { entries = append(entries, e) })
	if err != nil {
		return nil, err
	}
	if p := in.broken(); p != nil {
		return entries[:min(p.Line-1, int64(len(entries)))], &ChainError{Path: path, Problem: *p}
	}
	return entries, nil
}

// Look reads a journal into a Log to which nothing can be appended. It takes no
// lock and changes nothing.
func Look(path, incident string) (*Log, error) {
	l := &Log{path: path, opts: Options{Incident: incident, Now: time.Now}}
	in, err := inspectFile(path, func(e Entry) { l.entries = append(l.entries, e) })
	if err != nil {
		return nil, err
	}
	if p := in.broken(); p != nil {
		return nil, &ChainError{Path: path, Problem: *p}
	}
	return l, l.take(in)
}

// inspectFile reads the head before the journal: the other way round a writer
// at work in between would look like a truncation.
func inspectFile(path string, visit func(Entry)) (*inspector, error) {
	head, why, err := readHead(HeadPath(path))
	if err != nil {
		return nil, fmt.Errorf("timeline: head file: %w", err)
	}
	f, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("timeline: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	in, err := inspectOpen(f, head, visit)
	if err != nil {
		return nil, err
	}
	if head == nil {
		in.report.Warnings = append(in.report.Warnings, why+": entries cut off the end cannot be excluded")
	}
	return in, nil
}

// inspectOpen reads f as far as it goes now: a writer at work may well add
// lines faster than they are checked.
func inspectOpen(f *os.File, head *Head, visit func(Entry)) (*inspector, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("timeline: %w", err)
	}
	if info.Size() > MaxFile { // before it is read: it may be a hole of terabytes
		return nil, fmt.Errorf("timeline: %s: %w: it has %d bytes, a journal at most %d", f.Name(), ErrTooLarge,
			info.Size(), MaxFile)
	}
	in, err := inspect(io.NewSectionReader(f, 0, info.Size()), head, visit)
	if err != nil {
		return nil, fmt.Errorf("timeline: %s: %w", f.Name(), err)
	}
	in.report.HeadFile = head
	return in, nil
}
