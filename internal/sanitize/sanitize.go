// Package sanitize is the terminal's edge: text that an attacker may have
// written (pod names, labels, log lines, error texts that quote them) passes
// through it before it reaches a screen, so that no escape sequence, no
// direction override and no length of theirs takes effect there.
//
// It is applied where text is printed, never where it is stored: evidence keeps
// the bytes as they were, and JSON its meaning, see JSON.
package sanitize

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxLine is the longest line, in runes, that Line lets through.
const MaxLine = 4096

// Line makes s safe to print on one line: control characters, line breaks,
// invalid UTF-8 and invisible or direction-changing characters are shown as
// escapes, and what exceeds MaxLine is cut with a mark.
func Line(s string) string { return clean(s, MaxLine, false) }

// Text is Line for text of several lines: newlines and tabs are kept.
// Each line is bounded by MaxLine, the whole by 64 times that.
func Text(s string) string {
	if utf8.RuneCountInString(s) <= MaxLine {
		return clean(s, MaxLine, true)
	}
	lines := strings.SplitAfterN(s, "\n", 1025)
	if len(lines) > 1024 {
		lines = append(lines[:1024], "…(more lines cut)")
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(clean(l, MaxLine, true))
		if b.Len() > 64*MaxLine {
			b.WriteString("…(more text cut)")
			break
		}
	}
	return b.String()
}

// Short is Line cut to at most n runes, for table cells.
func Short(s string, n int) string { return clean(s, n, false) }

func clean(s string, limit int, multiline bool) string {
	if isPlain(s) && len(s) <= limit {
		return s
	}
	var b strings.Builder
	n := 0
	for i := 0; i < len(s); {
		if n >= limit {
			b.WriteString("…")
			// A cut must not swallow the line's end.
			if multiline && strings.HasSuffix(s, "\n") {
				b.WriteByte('\n')
			}
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case multiline && (r == '\n' || r == '\t'):
			b.WriteRune(r)
		case unsafe(r):
			b.WriteString(escape(r))
		default:
			b.WriteRune(r)
		}
		i += size
		n++
	}
	return b.String()
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// unsafe reports characters that act on a terminal or deceive a reader: C0
// and C1 controls, format characters (zero-width, bidirectional overrides and
// isolates, tags), separators, private use and non-characters.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) ||
		(r >= 0x115F && r <= 0x1160) || r == 0x3164 || r == 0xFFA0 || // Hangul fillers: letters that show nothing
		r&0xFFFE == 0xFFFE
}

func escape(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if r < 0x100 {
		return fmt.Sprintf(`\x%02x`, r)
	}
	if r <= 0xFFFF {
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// JSON writes what a terminal could act on as \u escapes, which any reader
// turns back into what was meant. JSON itself escapes only the controls below
// U+0020; DEL, the C1 controls (U+009B starts an escape sequence on some
// terminals) and the bidirectional overrides would pass to whoever looks at it
// with cat. Outside of its strings JSON is ASCII, so such a rune is always
// inside one. Line breaks between values are kept.
func JSON(text []byte) []byte {
	special := func(r rune) bool { return r != ' ' && r != '\n' && !unicode.IsPrint(r) }
	if !bytes.ContainsFunc(text, special) {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for _, r := range string(text) {
		if !special(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}
