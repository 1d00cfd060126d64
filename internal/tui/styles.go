package tui

import "strings"

// style is how words look: attributes, and one of the sixteen colours of the
// terminal's own palette, which are legible on what its owner put behind them,
// light or dark. Meaning is never by colour alone: a mark or a word says it too.
type style struct{ attributes, colour string }

// The styles. There are no others.
var (
	none    = style{}
	strong  = style{attributes: "1"}
	faint   = style{attributes: "2"}
	good    = style{"", "32"}
	warning = style{"", "33"}
	bad     = style{"1", "31"}
	accent  = style{"", "36"}
	picked  = style{"7", ""}
	danger  = style{"1;7", "31"}
	notice  = style{"1;7", "33"}
	fine    = style{"1;7", "32"}
	banner  = style{"1;7", "35"}
)

// theme is what the terminal can show.
type theme struct {
	noColor, ascii bool
	g              glyphs
}

func newTheme(noColor, ascii bool) theme {
	t := theme{noColor: noColor, ascii: ascii, g: unicodeGlyphs}
	if ascii {
		t.g = asciiGlyphs
	}
	return t
}

// glyphs are the marks that go with styles.
type glyphs struct {
	done, failed, warn, todo, now, skipped, more, arrow, bullet string
	full, empty, rule, bar                                      string
	spin                                                        []string
}

var unicodeGlyphs = glyphs{done: "✓", failed: "✗", warn: "!", todo: "·", now: "▸", skipped: "–", more: "…", arrow: "→", bullet: "•",
	full: "█", empty: "░", rule: "─", bar: "│", spin: []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}}

var asciiGlyphs = glyphs{done: "+", failed: "x", warn: "!", todo: ".", now: ">", skipped: "-", more: "~", arrow: "->", bullet: "*",
	full: "#", empty: ".", rule: "-", bar: "|", spin: []string{"|", "/", "-", `\`}}

// paint shows a text, which is safe already, in a style.
func (t theme) paint(st style, s string) string {
	codes := st.attributes
	if !t.noColor && st.colour != "" {
		codes = strings.TrimPrefix(codes+";"+st.colour, ";")
	}
	if codes == "" || s == "" {
		return s
	}
	return "\x1b[" + codes + "m" + s + "\x1b[0m"
}

func (t theme) title(s string) string { return t.paint(strong, s) }

// diff shows a line of a diff.
func (t theme) diff(line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return t.paint(good, line)
	case strings.HasPrefix(line, "-"):
		return t.paint(bad, line)
	}
	return line
}

// progress is a bar of so many cells.
func (t theme) progress(done, total, width int) string {
	if total <= 0 || width <= 0 {
		return ""
	}
	n := min(width, max(0, done*width/total))
	return t.paint(accent, strings.Repeat(t.g.full, n)) + t.paint(faint, strings.Repeat(t.g.empty, width-n))
}

// key shows a key and what it does.
func (t theme) key(key, what string) string { return t.paint(strong, "["+key+"]") + " " + what }
