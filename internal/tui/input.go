package tui

import (
	"slices"
	"strings"
	"unicode"

	tea "github.com/charmbracelet/bubbletea"
)

// input is a line that a person types. What is pasted into it is text, whatever
// it holds.
type input struct {
	prompt string
	value  []rune
	at     int
}

// maxInput bounds what is typed or pasted, in runes.
const maxInput = 4000

func newInput(prompt, value string) *input {
	r := []rune(value)
	return &input{prompt, r, len(r)}
}

func (in input) text() string { return strings.TrimSpace(string(in.value)) }

// typed is the line after a key.
func (in input) typed(key tea.KeyMsg) *input {
	in.value = slices.Clone(in.value)
	switch key.Type {
	case tea.KeyRunes, tea.KeySpace:
		in.insert(key.Runes)
	case tea.KeyBackspace:
		if in.at > 0 {
			in.at--
			in.value = slices.Delete(in.value, in.at, in.at+1)
		}
	case tea.KeyDelete:
		if in.at < len(in.value) {
			in.value = slices.Delete(in.value, in.at, in.at+1)
		}
	case tea.KeyLeft:
		in.at = max(0, in.at-1)
	case tea.KeyRight:
		in.at = min(len(in.value), in.at+1)
	case tea.KeyHome, tea.KeyCtrlA:
		in.at = 0
	case tea.KeyEnd, tea.KeyCtrlE:
		in.at = len(in.value)
	case tea.KeyCtrlU:
		in.value, in.at = in.value[in.at:], 0
	case tea.KeyCtrlW:
		from := in.at
		for from > 0 && in.value[from-1] == ' ' {
			from--
		}
		for from > 0 && in.value[from-1] != ' ' {
			from--
		}
		in.value = slices.Delete(in.value, from, in.at)
		in.at = from
	}
	return &in
}

func (in *input) insert(runes []rune) {
	var plain []rune
	for _, r := range runes {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			plain = append(plain, ' ')
		case !unicode.IsControl(r):
			plain = append(plain, r)
		}
	}
	plain = plain[:min(len(plain), max(0, maxInput-len(in.value)))]
	in.value = slices.Insert(in.value, in.at, plain...)
	in.at += len(plain)
}

// view shows the line with its cursor; of a long one the part around it.
func (in input) view(t theme, width int) string {
	head := t.paint(strong, t.safe(in.prompt)) + " "
	room := max(4, width-len([]rune(t.safe(in.prompt)))-3)
	from := max(0, in.at-room+1)
	before, under, after := string(in.value[from:in.at]), " ", ""
	if in.at < len(in.value) {
		under, after = string(in.value[in.at]), string(in.value[in.at+1:])
	}
	return t.fit(head+t.safe(before)+t.paint(picked, t.safe(under))+t.safe(after), width)
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
	where := t.paint(faint, t.cell(strings.Repeat(t.g.rule, 3)+" "+itoa(from+1)+"-"+itoa(to)+" of "+itoa(len(lines))+", up and down show more ", width))
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
