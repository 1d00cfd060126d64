package cli

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	"irctl/internal/reflow"
	"irctl/internal/sanitize"
)

// columns is the terminal's width, or what most have.
func (a *App) columns() int {
	const usual, least = 80, 40
	if a.Width == 0 {
		return usual
	}
	return max(a.Width, least)
}

// wrap breaks a line between words so that it fits into so many columns. What
// comes first stands before it, and as much space before what goes on.
func wrap(columns int, first, text string) string {
	indent := ansi.StringWidth(first)
	if indent+ansi.StringWidth(text) <= columns {
		return first + text
	}
	var b strings.Builder
	b.WriteString(first)
	at := indent
	for _, word := range strings.Fields(text) {
		n := ansi.StringWidth(word)
		switch {
		case at == indent:
		case at+1+n > columns:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// prose is a text of several paragraphs, made safe and broken anew. A line that
// is indented is left as it is.
func prose(columns int, before, text string) string {
	out := reflow.Lines(strings.Trim(sanitize.Text(text), "\n"))
	for i, line := range out {
		switch {
		case line == "":
		case strings.HasPrefix(line, " "):
			out[i] = before + line
		default:
			out[i] = wrap(columns, before, line)
		}
	}
	return strings.Join(out, "\n")
}
