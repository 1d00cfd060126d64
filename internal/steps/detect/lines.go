package detect

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// MaxLine is the longest line that is read as a whole, in bytes.
const MaxLine = 1 << 20

// MaxInput is how much of one source is read: more than any log that a person
// waits for, less than for ever.
const MaxInput = 64 << 30

// errTooMuch: a source went on beyond MaxInput.
var errTooMuch = errors.New("there is more than irctl reads of one source; split it")

// lineReader reads lines in memory that does not depend on their length.
type lineReader struct {
	r    *bufio.Reader
	read int64
	max  int64
	rest bool // of a line that was too long is still to be skipped
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, MaxLine), max: MaxInput}
}

// next returns the next line that is not empty, valid until the next call.
// whole is false for the beginning of one that is too long.
func (l *lineReader) next() (line []byte, whole bool, err error) {
	for {
		if l.read > l.max {
			return nil, false, errTooMuch
		}
		line, err = l.r.ReadSlice('\n')
		l.read += int64(len(line))
		skip, full := l.rest, errors.Is(err, bufio.ErrBufferFull)
		l.rest = full
		line = bytes.TrimSpace(line)
		switch {
		case full && !skip:
			return line, false, nil
		case full, skip && err == nil:
			continue
		case len(line) > 0 && !skip:
			return line, true, nil // an error of reading comes again
		case err != nil:
			return nil, false, err
		}
	}
}
