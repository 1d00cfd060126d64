package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// plainly has a terminal that only shows ASCII get nothing else. Files and pipes
// have UTF-8 whatever the locale: what reads them later is not this terminal.
func (a *App) plainly() {
	if a.unicode() {
		return
	}
	if a.OutTerminal {
		a.Out = &asciiWriter{to: a.Out}
	}
	if a.ErrTerminal {
		a.Err = &asciiWriter{to: a.Err}
	}
}

// asciiWriter writes marks as ASCII of the same width, and other characters as
// escapes.
type asciiWriter struct {
	to   io.Writer
	mu   sync.Mutex
	rest []byte // the beginning of a character that was written in pieces
}

var asciiMarks = map[rune]byte{'✓': '+', '✗': 'x', '→': '>', '▶': '>', '▸': '>', '…': '~', '·': '.', '•': '*', '–': '-',
	'─': '-', '│': '|', '×': 'x', '☠': '!', '⎈': '*', 'µ': 'u', 'μ': 'u'}

func (w *asciiWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := slices.Concat(w.rest, p)
	w.rest = nil
	var b strings.Builder
	for len(text) > 0 {
		if !utf8.FullRune(text) {
			w.rest = text
			break
		}
		r, n := utf8.DecodeRune(text)
		text = text[n:]
		mark, known := asciiMarks[r]
		switch {
		case r < utf8.RuneSelf:
			b.WriteByte(byte(r))
		case known:
			b.WriteByte(mark)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if _, err := io.WriteString(w.to, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}
