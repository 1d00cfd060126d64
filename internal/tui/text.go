package tui

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/text/unicode/bidi"

	"irctl/internal/sanitize"
)

// safe is a text from elsewhere on one line of the screen: no control
// character, and no character about whose place on the screen terminals
// disagree, is left in it.
func (t theme) safe(s string) string { return t.steady(sanitize.Line(s)) }

// maxShownText bounds a text of several lines, in bytes: nobody reads more of it
// here, and to break it into lines takes time with every frame.
const maxShownText = 16 << 10

// safeText is safe for a text of several lines.
func (t theme) safeText(s string) string {
	if len(s) > maxShownText {
		s = strings.ToValidUTF8(s[:maxShownText], "") + "\n… more is left out here"
	}
	return t.steady(strings.ReplaceAll(sanitize.Text(s), "\t", "    "))
}

// maxMarks is how many combining marks a letter keeps: a heap of them covers
// the lines above and below.
const maxMarks = 2

// steady replaces what terminals place differently: letters that are written
// from right to left, since some terminals turn round the line that they are
// in, with our own columns; selectors and modifiers that change the width of
// what is before them; and heaps of combining marks.
func (t theme) steady(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	marks := 0
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf:
			marks = 0
		case unicode.In(r, unicode.Mn, unicode.Me):
			marks++
		default:
			marks = 0
		}
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case t.ascii:
			b.WriteString(t.folded(r))
		case marks > maxMarks, unsteady(r):
			b.WriteString(codepoint(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// folded is a character on a terminal that has only those of ASCII.
func (t theme) folded(r rune) string {
	if plain, ok := plainRunes[r]; ok {
		return plain
	}
	return codepoint(r)
}

// plainRunes are what irctl's own texts use beyond ASCII.
var plainRunes = map[rune]string{'…': "...", '–': "-", '—': "-", '→': "->", '·': ".", '“': `"`, '”': `"`, '’': "'",
	'×': "x"}

func codepoint(r rune) string {
	const hex = "0123456789abcdef"
	digits := 4
	prefix := `\u`
	if r > 0xFFFF {
		prefix, digits = `\U`, 8
	}
	b := []byte(prefix)
	for i := digits - 1; i >= 0; i-- {
		b = append(b, hex[r>>(4*i)&0xF])
	}
	return string(b)
}

func unsteady(r rune) bool {
	switch {
	case r >= 0x1160 && r <= 0x11FF, // vowels and finals that join the letter before
		r >= 0xFE00 && r <= 0xFE0F, r >= 0xE0100 && r <= 0xE01EF, // variation selectors
		r >= 0x1F1E6 && r <= 0x1F1FF, // halves of flags
		r >= 0x1F3FB && r <= 0x1F3FF, // skin tones
		r >= 0x180B && r <= 0x180F:
		return true
	}
	p, _ := bidi.LookupRune(r)
	switch p.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return true
	}
	return false
}

// fit cuts a line, styled or not, to a width.
func (t theme) fit(s string, width int) string {
	if width <= 0 {
		return ""
	}
	if ansi.StringWidth(s) <= width {
		return s
	}
	return ansi.Truncate(s, width, t.g.more)
}

// cell is fit, filled up with spaces.
func (t theme) cell(s string, width int) string {
	s = t.fit(s, width)
	return s + strings.Repeat(" ", max(0, width-ansi.StringWidth(s)))
}

// wrap breaks a text that is safe already into lines.
func wrap(s string, width int) []string {
	if width < 1 {
		width = 1
	}
	// A hyphen is part of a name, or of a flag: lines are not broken after it.
	s = strings.ReplaceAll(strings.TrimRight(s, "\n"), "-", hyphen)
	return strings.Split(strings.ReplaceAll(ansi.Wrap(s, width, ""), hyphen, "-"), "\n")
}

// hyphen stands for one while lines are broken; a text that is safe has none.
const hyphen = "\uE02D"

// beside puts something at the right end of a line.
func (t theme) beside(left, right string, width int) string {
	gap := width - ansi.StringWidth(left) - ansi.StringWidth(right)
	if gap < 1 {
		left = t.fit(left, max(0, width-ansi.StringWidth(right)-1))
		gap = width - ansi.StringWidth(left) - ansi.StringWidth(right)
	}
	if gap < 0 {
		return t.fit(right, width)
	}
	return left + strings.Repeat(" ", gap) + right
}

// frame is what a view becomes on the screen: exactly so many lines, none
// wider than the screen, and nothing in them but text and colours. The views
// keep to that by themselves; this is for those that do not.
func (t theme) frame(lines []string, width, height int) string {
	if len(lines) > height {
		lines = lines[:height]
	}
	out := make([]string, height)
	for i, l := range lines {
		out[i] = t.fit(t.printable(l), width)
	}
	return strings.Join(out, "\n")
}

// printable leaves of a line what prints, and the sequences that set colours.
func (t theme) printable(s string) string {
	ok := true
	for i := 0; i < len(s) && ok; i++ {
		ok = s[i] >= 0x20 && s[i] < 0x7f
	}
	if ok {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if n := colourSequence(s[i:]); n > 0 {
			b.WriteString(s[i : i+n])
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == utf8.RuneError && n == 1, r < 0x20, r >= 0x7f && r < 0xa0,
			unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp), t.ascii && r >= utf8.RuneSelf:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// colourSequence is the length of the sequence that s begins with, if it is
// one that sets colours; else 0.
func colourSequence(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	for i := 2; i < len(s) && i < 16; i++ {
		switch c := s[i]; {
		case c == 'm':
			return i + 1
		case c != ';' && (c < '0' || c > '9'):
			return 0
		}
	}
	return 0
}

// page builds lines of a width.
type page struct {
	theme
	width int
	lines []string
}

func (t theme) page(width int) *page { return &page{theme: t, width: width} }

// line adds one that is safe, and styled, already.
func (p *page) line(s string) { p.lines = append(p.lines, p.fit(s, p.width)) }

func (p *page) blank() {
	if n := len(p.lines); n > 0 && p.lines[n-1] != "" {
		p.lines = append(p.lines, "")
	}
}

// heading adds a title after a blank line.
func (p *page) heading(s string) {
	p.blank()
	p.line(p.title(s))
}

// text adds a text from elsewhere, wrapped, with something before its first
// line and as much space before the others.
func (p *page) text(st style, before, s string) {
	p.wrapped(st, before, p.safeText(s))
}

func (p *page) wrapped(st style, before, s string) {
	before = p.fit(before, max(1, p.width*2/3))
	indent := ansi.StringWidth(before)
	for i, l := range wrap(s, p.width-indent) {
		if i > 0 {
			before = strings.Repeat(" ", indent)
		}
		p.line(before + p.paint(st, l))
	}
}

// fact adds a name and its value.
func (p *page) fact(name, value string) {
	const column = 13
	p.text(none, p.paint(faint, p.cell(name, column))+" ", value)
}
