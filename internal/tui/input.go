package tui

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/charmbracelet/bubbles/cursor"
	"github.com/charmbracelet/bubbles/key"
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

// input is a line that a person types. What is pasted into it is text, whatever
// it holds.
type input struct{ line textinput.Model }

// maxInput bounds what is typed or pasted, in runes.
const maxInput = 4000

func newInput(prompt, value string) *input {
	m := textinput.New()
	m.Prompt, m.CharLimit = prompt, maxInput
	m.Cursor.SetMode(cursor.CursorStatic)
	// The terminal's own paste arrives as keys. This one would start a program
	// that reads the clipboard of the machine irctl runs on, not of the person.
	m.KeyMap.Paste = key.NewBinding(key.WithDisabled())
	m.SetValue(value)
	m.Focus()
	return &input{m}
}

func (in input) text() string { return strings.TrimSpace(in.line.Value()) }

// typed is the line after a key.
func (in input) typed(msg tea.KeyMsg) *input {
	in.line, _ = in.line.Update(msg)
	return &in
}

// view shows the line with its cursor; of a long one the part around it. What
// was typed is kept as it is, and shown as everything is: safely.
func (in input) view(t theme, width int) string {
	m := in.line
	before := []rune(m.Value())[:m.Position()]
	m.Prompt = t.safe(m.Prompt) + " "
	m.PromptStyle, m.TextStyle, m.Cursor.Style = t.styles[strong], t.styles[none], t.styles[picked]
	m.Width = max(4, width-ansi.StringWidth(m.Prompt)-1)
	m.CharLimit = 0
	shown := t.safe
	if m.EchoMode == textinput.EchoPassword {
		m.EchoCharacter, _ = utf8.DecodeRuneInString(t.g.bullet)
		shown = func(s string) string { return strings.Repeat("x", utf8.RuneCountInString(s)) } // only how much it is
	}
	m.SetValue(shown(m.Value()))
	m.SetCursor(len([]rune(shown(string(before)))))
	return t.fit(m.View(), width)
}

// list is a cursor in a list, and what of it is on the screen.
type list struct{ at int }

// moved is the cursor after an action, among n.
func (l list) moved(a action, n, page int) list {
	switch a {
	case actUp:
		l.at--
	case actDown:
		l.at++
	case actPageUp:
		l.at -= max(1, page)
	case actPageDown:
		l.at += max(1, page)
	case actTop:
		l.at = 0
	case actBottom:
		l.at = n - 1
	}
	l.at = max(0, min(l.at, n-1))
	return l
}

// window is which of n to show in so many lines, so that the cursor is among them.
func (l list) window(n, height int) (from, to int) {
	height = max(1, height)
	from = max(0, min(l.at-height/2, n-height))
	return from, min(n, from+height)
}

// scrolled shows so many of the lines, from one on; the last line says that
// there is more.
func (t theme) scrolled(lines []string, from, width, height int) []string {
	if len(lines) <= height {
		return lines
	}
	from = max(0, min(from, len(lines)-height+1))
	to := min(len(lines), from+height-1)
	where := t.paint(faint, t.cell(strings.Repeat(t.g.rule, 3)+" "+itoa(from+1)+"-"+itoa(to)+" of "+itoa(len(lines))+
		", up and down show more ", width))
	return append(slices.Clone(lines[from:to]), where)
}

// scrolledTo is where to begin after an action.
func scrolledTo(from int, a action, lines, height int) int {
	switch a {
	case actUp:
		from--
	case actDown:
		from++
	case actPageUp:
		from -= max(1, height-2)
	case actPageDown:
		from += max(1, height-2)
	case actTop:
		from = 0
	case actBottom:
		from = lines
	}
	return max(0, min(from, lines-height+1))
}
