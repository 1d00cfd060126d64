package tui

import (
	"io"
	"strings"

	"github.com/charmbracelet/bubbles/spinner"
	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// style is what words on the screen are there for. How that looks is said
// below, and nowhere else. Meaning is never by colour alone: a mark or a word
// says it too.
type style int

// The styles. There are no others.
const (
	none style = iota
	strong
	faint
	good
	warning
	bad
	accent
	picked
	danger
	notice
	fine
	banner
	styleCount
)

// stylesOf are the styles as a terminal shows them: attributes, and the sixteen
// colours of its own palette, which are legible on what its owner put behind
// them, light or dark. Without colours the attributes remain.
func stylesOf(noColor bool) *[styleCount]lipgloss.Style {
	// What the terminal can show is in the options. Unless it is told, the renderer
	// looks at the environment and at what it writes to, and leaves out everything.
	r := lipgloss.NewRenderer(io.Discard)
	r.SetColorProfile(termenv.ANSI)
	r.SetHasDarkBackground(true) // or it would ask the terminal
	plain := r.NewStyle().Inline(true)
	in := func(st lipgloss.Style, colour string) lipgloss.Style {
		if noColor {
			return st
		}
		return st.Foreground(lipgloss.Color(colour))
	}
	const red, green, yellow, magenta, cyan = "1", "2", "3", "5", "6"
	label := plain.Bold(true).Reverse(true)
	return &[styleCount]lipgloss.Style{
		none:    plain,
		strong:  plain.Bold(true),
		faint:   plain.Faint(true),
		good:    in(plain, green),
		warning: in(plain, yellow),
		bad:     in(plain.Bold(true), red),
		accent:  in(plain, cyan),
		picked:  plain.Reverse(true),
		danger:  in(label, red),
		notice:  in(label, yellow),
		fine:    in(label, green),
		banner:  in(label, magenta),
	}
}

// theme is what the terminal can show.
type theme struct {
	ascii  bool
	g      glyphs
	styles *[styleCount]lipgloss.Style
}

func newTheme(noColor, ascii bool) theme {
	t := theme{ascii: ascii, g: unicodeGlyphs, styles: stylesOf(noColor)}
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

var unicodeGlyphs = glyphs{done: "✓", failed: "✗", warn: "!", todo: "·", now: "▸", skipped: "–", more: "…", arrow: "→",
	bullet: "•",
	full:   "█", empty: "░", rule: "─", bar: "│", spin: spinner.MiniDot.Frames}

var asciiGlyphs = glyphs{done: "+", failed: "x", warn: "!", todo: ".", now: ">", skipped: "-", more: "~", arrow: "->",
	bullet: "*",
	full:   "#", empty: ".", rule: "-", bar: "|", spin: spinner.Line.Frames}

// paint shows a text, which is safe already, in a style.
func (t theme) paint(st style, s string) string {
	if s == "" {
		return ""
	}
	return t.styles[st].Render(s)
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
