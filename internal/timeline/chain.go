package timeline

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Limits on what is written and, because a journal may be a copy that
// somebody else prepared, on what is read.
const (
	MaxLine    = 1 << 20 // bytes of one entry's line, without the newline
	MaxFile    = 1 << 30 // bytes of a journal
	MaxEntries = 1 << 20 // entries of a journal

	maxProblems = 100 // problems of a report; the rest is counted
)

// Damage is what is wrong with a journal.
type Damage string

// The kinds of damage. Torn is what a killed writer leaves: an entry that was
// never acknowledged. The others do not come about by themselves.
const (
	Edited    Damage = "edited"
	Deleted   Damage = "deleted"
	Reordered Damage = "reordered"
	Truncated Damage = "truncated"
	Torn      Damage = "torn"
)

// Problem is one place where a journal is not what its writer left.
type Problem struct {
	Line   int64  `json:"line"`          // counted from 1
	Seq    int64  `json:"seq,omitempty"` // of the entry concerned, where it is known
	Damage Damage `json:"damage"`
	Detail string `json:"detail"`
}

func (p Problem) String() string {
	if p.Seq == 0 {
		return fmt.Sprintf("line %d: %s: %s", p.Line, p.Damage, p.Detail)
	}
	return fmt.Sprintf("line %d (seq %d): %s: %s", p.Line, p.Seq, p.Damage, p.Detail)
}

// ChainError says that a journal cannot be trusted from Line on.
type ChainError struct {
	Path string
	Problem
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("%s: the chain is broken: %s; see `irctl timeline verify`", e.Path, e.Problem)
}

// inspector walks the lines of a journal and finds what is wrong with them.
type inspector struct {
	report    Report
	tail      []byte // the torn last line
	goodBytes int64  // length of the file up to and with the last complete line

	head     *Head   // of the head file
	headLine int64   // where the entry the head file names was found
	prev     Head    // what the next line must continue
	prevBad  bool    // the line before has a problem that explains a wrong hash after it
	seen     []int64 // every seq met, to tell deleted from reordered
	gaps     []gap
}

// gap is a place where entries from seq from up to before seq to are not
// where they belong.
type gap struct{ line, from, to int64 }

// inspect reads a journal. visit is called for every entry in order until the
// first problem; since an edit shows only on the line after it, the last
// entry visited may be the edited one.
func inspect(r io.Reader, head *Head, visit func(Entry)) (*inspector, error) {
	in := &inspector{head: head}
	lines := newLineReader(r)
	for {
		l, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if l.number > MaxEntries || l.end > MaxFile {
			return nil, fmt.Errorf("%w: a journal has at most %d entries and %d bytes", ErrTooLarge, MaxEntries,
				MaxFile)
		}
		if !l.complete {
			in.tearAt(l)
			break
		}
		in.goodBytes = l.end
		if e, ok := in.entry(l); ok && len(in.report.Problems) == 0 {
			visit(e)
		}
	}
	in.finish(lines.number)
	return in, nil
}

// entry checks one complete line against the one before.
func (in *inspector) entry(l line) (Entry, bool) {
	e, err := decode(l.text)
	if l.long {
		err = fmt.Errorf("it is longer than %d bytes", MaxLine)
	}
	if err != nil {
		in.problem(l.number, in.prev.Seq+1, Edited, "not a journal entry: "+err.Error())
		in.prev, in.prevBad = Head{in.prev.Seq + 1, l.sum}, true
		return e, false
	}
	if l.number == 1 {
		in.prev = genesis(e.Incident)
		in.report.Incident = e.Incident
	}
	bad := in.checkLink(l, e)
	if e.Incident != in.report.Incident {
		bad = true
		in.problem(l.number, e.Seq, Edited, fmt.Sprintf("it belongs to incident %q, the journal to %q", e.Incident,
			in.report.Incident))
	}
	if in.head != nil && e.Seq == in.head.Seq {
		in.headLine = l.number
		if l.sum != in.head.SHA256 {
			bad = true
			in.problem(l.number, e.Seq, Edited, "the head file recorded other bytes for it")
		}
	}
	in.times(l.number, e)
	in.seen = append(in.seen, e.Seq)
	in.prev, in.prevBad = Head{e.Seq, l.sum}, bad
	in.report.Entries++
	return e, !bad
}

// checkLink reports whether e does not follow the line before.
func (in *inspector) checkLink(l line, e Entry) (bad bool) {
	switch {
	case e.Seq > in.prev.Seq+1:
		in.gaps = append(in.gaps, gap{l.number, in.prev.Seq + 1, e.Seq})
		in.problem(l.number, e.Seq, Deleted, "") // finish says more
		return true
	case e.Seq <= in.prev.Seq:
		in.problem(l.number, e.Seq, Reordered, fmt.Sprintf("it stands after seq %d", in.prev.Seq))
		return true
	case e.Prev == in.prev.SHA256 || in.prevBad:
		return false
	case l.number == 1:
		in.problem(1, e.Seq, Edited, "its prev is not the start of a journal of incident "+
			fmt.Sprintf("%q", e.Incident))
		return true
	default:
		in.problem(l.number-1, in.prev.Seq, Edited,
			fmt.Sprintf("its SHA-256 is not the one that line %d recorded", l.number))
		return false // the line before is to blame
	}
}

func (in *inspector) times(number int64, e Entry) {
	r := &in.report
	if r.Entries == 0 {
		r.First = e.Time
	} else if e.Time.Before(r.Last) {
		if len(r.Warnings) < maxProblems {
			r.Warnings = append(r.Warnings, fmt.Sprintf("line %d (seq %d): the clock went back by %s", number, e.Seq,
				r.Last.Sub(e.Time).Round(time.Millisecond)))
		}
	}
	r.Last = e.Time
}

func (in *inspector) tearAt(l line) {
	if l.long {
		in.problem(l.number, 0, Edited, fmt.Sprintf("the last line is longer than %d bytes", MaxLine))
		return
	}
	in.tail = bytes.Clone(l.text)
	in.problem(l.number, 0, Torn, fmt.Sprintf("the last line (%d bytes) has no end: its writer was killed, or is "+
		"writing now; it was never acknowledged, and the next command that writes to this incident keeps it in an "+
		"entry of its own", len(l.text)))
}

// finish draws the conclusions that need the whole journal.
func (in *inspector) finish(lines int64) {
	r := &in.report
	r.Head = in.prev
	slices.Sort(in.seen)
	for _, g := range in.gaps {
		i, _ := slices.BinarySearch(in.seen, g.from)
		p := Problem{Line: g.line, Seq: g.to, Damage: Deleted,
			Detail: fmt.Sprintf("the entries from seq %d to %d before it are missing", g.from, g.to-1)}
		if i < len(in.seen) && in.seen[i] < g.to {
			p.Damage, p.Detail = Reordered, fmt.Sprintf("seq %d belongs before it", in.seen[i])
		}
		for i, q := range r.Problems {
			if q.Damage == Deleted && q.Detail == "" && q.Line == g.line {
				r.Problems[i] = p
			}
		}
	}
	if in.head != nil && in.head.Seq > 0 && in.headLine == 0 {
		last := int64(0)
		if n := len(in.seen); n > 0 {
			last = in.seen[n-1]
		}
		if in.head.Seq > last {
			in.problem(lines+1, in.head.Seq, Truncated,
				fmt.Sprintf("the head file says that seq %d was the last, the journal ends with %d", in.head.Seq, last))
		}
	}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return int(a.Line - b.Line) })
}

func (in *inspector) problem(number, seq int64, damage Damage, detail string) {
	if len(in.report.Problems) == maxProblems {
		in.report.MoreProblems++
		return
	}
	in.report.Problems = append(in.report.Problems, Problem{Line: number, Seq: seq, Damage: damage, Detail: detail})
}

// broken returns the first problem other than a torn last line.
func (in *inspector) broken() *Problem {
	for _, p := range in.report.Problems {
		if p.Damage != Torn {
			return &p
		}
	}
	return nil
}

// line is one line of a file, of any length, in bounded memory.
type line struct {
	number   int64  // from 1
	text     []byte // without newline; at most MaxLine bytes; valid until the next call
	sum      string // hex SHA-256 of the whole line without newline
	end      int64  // offset after the newline
	long     bool   // text was cut
	complete bool   // it ended with a newline
}

type lineReader struct {
	r      *bufio.Reader
	buf    []byte
	number int64
	offset int64
}

func newLineReader(r io.Reader) *lineReader {
	// One byte more than allowed tells "too large" from "exactly that large".
	return &lineReader{r: bufio.NewReaderSize(io.LimitReader(r, MaxFile+1), 64<<10)}
}

// next returns io.EOF after the last line.
func (lr *lineReader) next() (line, error) {
	l := line{}
	hash, from := sha256.New(), lr.offset
	lr.buf = lr.buf[:0]
	for {
		part, err := lr.r.ReadSlice('\n')
		lr.offset += int64(len(part))
		if n := len(part); n > 0 && part[n-1] == '\n' {
			l.complete, part = true, part[:n-1]
		}
		hash.Write(part)
		if room := MaxLine - len(lr.buf); len(part) > room {
			l.long, part = true, part[:room]
		}
		lr.buf = append(lr.buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && lr.offset-from > 8*MaxLine:
			return l, fmt.Errorf("%w: line %d has more than %d bytes, an entry at most %d", ErrTooLarge, lr.number+1,
				8*MaxLine, MaxLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(lr.buf) == 0:
			return l, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return l, err
		}
		lr.number++
		l.number, l.end, l.text = lr.number, lr.offset, lr.buf
		l.sum = hex.EncodeToString(hash.Sum(nil))
		return l, nil
	}
}
