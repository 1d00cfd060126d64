package detect

import (
	"bytes"
	"errors"
	"fmt"

	"irctl/internal/plural"
)

// errUnread is why a source was not read to its end until that is known.
var errUnread = errors.New("it was still being read")

// errNoLines: a source is not text of one object a line, so that to read it line
// by line would take long and find nothing.
type errNoLines struct{ what, remedy string }

func (e errNoLines) Error() string { return "it is " + e.what + ": " + e.remedy }

// foreign are beginnings by which such a source is known.
var foreign = []struct {
	begins []byte
	errNoLines
}{
	{[]byte("\x1f\x8b"), errNoLines{"compressed with gzip", "give it uncompressed, as from zcat, with - for the file"}},
	{[]byte("\x28\xb5\x2f\xfd"), errNoLines{"compressed with zstd",
		"give it uncompressed, as from zstdcat, with - for the file"}},
	{[]byte("BZh"), errNoLines{"compressed with bzip2", "give it uncompressed, as from bzcat, with - for the file"}},
	{[]byte("\xfd7zXZ"), errNoLines{"compressed with xz", "give it uncompressed, as from xzcat, with - for the file"}},
	{[]byte("PK\x03\x04"), errNoLines{"a zip archive", "give what is in it"}},
	{[]byte("\xff\xfe"), errNoLines{"in UTF-16", "convert it to UTF-8, as with iconv -f UTF-16 -t UTF-8"}},
	{[]byte("\xfe\xff"), errNoLines{"in UTF-16", "convert it to UTF-8, as with iconv -f UTF-16 -t UTF-8"}},
}

// linesOf looks at the first line of a source.
func linesOf(line []byte) error {
	for _, f := range foreign {
		if bytes.HasPrefix(line, f.begins) {
			return f.errNoLines
		}
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return errNoLines{"no text", "give JSON, one object a line"}
	}
	return nil
}

// gap is what the source keeps back from the search; nil if every line of it was
// understood, or if it could not be read, which is an error.
func (r InputReport) gap() *Gap {
	var why error
	partial := false
	switch {
	case r.foreign != nil:
		why = fmt.Errorf("nothing of %s was understood: %w", r.Path, r.foreign)
	case r.err != nil:
		return nil
	case r.ended != nil:
		why = fmt.Errorf("%s was not read to its end: %w", r.Path, r.ended)
	case r.Lines == 0:
		why = fmt.Errorf("%s is empty", r.Path)
	case r.Malformed == r.Lines:
		why = fmt.Errorf("nothing of %s was understood: %s, and the first: %s", r.Path,
			plural.Count(int(r.Lines), "line"), r.Example)
	case r.Malformed > 0:
		partial = true
		why = fmt.Errorf("%d of %s of %s were not understood; the first: %s", r.Malformed,
			plural.Count(int(r.Lines), "line"), r.Path, r.Example)
	default:
		return nil
	}
	return &Gap{Check: string(r.Source), Text: why.Error(), err: why, source: true, partial: partial}
}

// gap is what a listener keeps back from the search: everything, if nobody sent
// it an alert.
func (l *Listener) gap(address string) *Gap {
	taken, refused := l.Counts()
	if taken > 0 {
		return nil
	}
	why := fmt.Errorf("no alert came to %s", address)
	if refused > 0 {
		why = fmt.Errorf("%w, and %s refused", why, plural.Count(int(refused), "request"))
	}
	return &Gap{Check: string(SourceFalco), Text: why.Error(), err: why, source: true}
}
