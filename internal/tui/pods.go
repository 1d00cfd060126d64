package tui

import (
	"cmp"
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"irctl/internal/plural"
	"irctl/internal/steps/detect"
)

// pods is the table to pick a pod from.
type pods struct {
	rows   []podRow
	err    error
	loaded bool
	shown  []podRow // those that match, the best first
	filter string
	typing *input
	list   list
	at     string // the pod under the cursor
	page   int    // how many are on the screen
	// suspects by namespace/name.
	suspects map[string]*detect.Suspect
}

func (m pods) with(l podList) pods {
	m.rows, m.err, m.loaded = l.rows, l.err, true
	return m.match()
}

func (m pods) suspected(list []detect.Suspect) pods {
	m.suspects = map[string]*detect.Suspect{}
	for i := range list {
		if list[i].Kind == "pod" {
			m.suspects[list[i].Name] = &list[i]
		}
	}
	return m.match()
}

// match filters and ranks; the cursor stays on its pod. As soon as what was typed
// is literally in one, those with its letters here and there are left out.
func (m pods) match() pods {
	type scored struct {
		row podRow
		fit fit
	}
	var all []scored
	literal := false
	for _, r := range m.rows {
		if f, ok := r.fits(m.filter); ok {
			all = append(all, scored{r, f})
			literal = literal || f.literal
		}
	}
	all = slices.DeleteFunc(all, func(s scored) bool { return literal && !s.fit.literal })
	slices.SortStableFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.fit.score, a.fit.score), cmp.Compare(m.score(b.row), m.score(a.row)))
	})
	m.shown = make([]podRow, len(all))
	m.list.at = 0
	for i, s := range all {
		m.shown[i] = s.row
		if s.row.key() == m.at {
			m.list.at = i
		}
	}
	return m
}

func (m pods) score(r podRow) int {
	if s := m.suspects[r.key()]; s != nil {
		return int(s.Score)
	}
	return 0
}

// fit is how well a pod fits a filter.
type fit struct {
	score   int
	literal bool // every word of the filter is in it, as it was typed
}

// fits looks for each word of a filter on its own: in the pod's name, at the
// beginning of a word of it above all; then in what else the table says of the
// pod; then for its letters, in that order, in the name.
func (r podRow) fits(filter string) (fit, bool) {
	f := fit{literal: true}
	name := strings.ToLower(r.name)
	for word := range strings.FieldsSeq(strings.ToLower(filter)) {
		switch i := strings.Index(name, word); {
		case i == 0 || i > 0 && name[i-1] == '-':
			f.score += 3
		case i > 0:
			f.score += 2
		case slices.ContainsFunc([]string{r.key(), r.workload, r.node, r.image}, func(s string) bool {
			return strings.Contains(strings.ToLower(s), word)
		}):
			f.score++
		case hasLetters(name, word):
			f.literal = false
		default:
			return fit{}, false
		}
	}
	return f, true
}

// hasLetters tells whether the letters of a word come in a text, in that order.
func hasLetters(text, word string) bool {
	for _, r := range word {
		i := strings.IndexRune(text, r)
		if i < 0 {
			return false
		}
		text = text[i+len(string(r)):]
	}
	return true
}

// typed is the table after a key. Letters filter, at once; the keys that move
// are those that are no letters.
func (m pods) typed(key tea.KeyMsg, a action) pods {
	switch a {
	case actEmpty:
		m.typing = newInput(podsPrompt, "")
	case actUp, actDown, actPageUp, actPageDown:
		return m.moved(a, m.page)
	default:
		if m.filter == "" && string(key.Runes) == "/" {
			return m // who knows other tools begins a filter with it
		}
		m.typing = m.typing.typed(key)
	}
	if filter := m.typing.text(); filter != m.filter {
		m.filter, m.at = filter, ""
	}
	return m.match()
}

// podsPrompt is before the filter.
const podsPrompt = "Filter:"

func (m pods) moved(a action, page int) pods {
	m.list = m.list.moved(a, len(m.shown), page)
	if len(m.shown) > 0 {
		m.at = m.shown[m.list.at].key()
	}
	return m
}

func (m pods) chosen() *podRow {
	if m.list.at < len(m.shown) {
		return &m.shown[m.list.at]
	}
	return nil
}

// column of the table.
type column struct {
	title string
	width int
	text  func(r podRow) string
}

func (m pods) columns(p place) []column {
	cols := []column{
		{"suspicion", 11, func(r podRow) string {
			if s := m.suspects[r.key()]; s != nil {
				return p.severity(s.Severity) + " " + itoa(int(s.Score))
			}
			return ""
		}},
		{"namespace", 14, func(r podRow) string { return p.safe(r.namespace) }},
		{"pod", 30, func(r podRow) string { return p.safe(r.name) }},
		{"age", 4, func(r podRow) string { return p.age(p.now.Sub(r.created)) }},
		{"restarts", 8, func(r podRow) string { return itoa(int(r.restarts)) }},
		{"workload", 24, func(r podRow) string { return p.safe(r.workload) }},
		{"node", 14, func(r podRow) string { return p.safe(r.node) }},
		{"image", 0, func(r podRow) string { return p.safe(r.image) }},
	}
	used := 2
	for i := range cols {
		room := p.w - used - 1
		if room < max(4, cols[i].width) && i > 2 {
			return cols[:i]
		}
		if cols[i].width == 0 {
			cols[i].width = room
		}
		used += cols[i].width + 1
	}
	return cols
}

func (m pods) view(p place) []string {
	g := p.page(p.w)
	if m.typing != nil {
		what := ""
		if m.filter == "" {
			what = p.paint(faint, "type letters of a pod's name, namespace, workload, node or image")
		}
		g.line(p.beside(m.typing.view(p.theme, p.w-ansi.StringWidth(what)-1), what, p.w))
	}
	cols := m.columns(p)
	head := "  "
	for _, c := range cols {
		head += p.cell(strings.ToUpper(c.title), c.width) + " "
	}
	g.line(p.paint(faint, head))
	from, to := m.list.window(len(m.shown), p.h-4)
	for i := from; i < to; i++ {
		row := ""
		for _, c := range cols {
			row += p.cell(c.text(m.shown[i]), c.width) + " "
		}
		if i == m.list.at {
			g.line(p.paint(accent, p.g.now) + " " + p.paint(strong, row))
		} else {
			g.line("  " + row)
		}
	}
	switch {
	case m.err != nil:
		g.text(bad, p.g.failed+" ", m.err.Error())
	case !m.loaded:
		g.line(p.paint(faint, "  reading"+p.g.more))
	case len(m.shown) == 0:
		g.line(p.paint(faint, "  no pod matches"))
	default:
		g.line(p.paint(faint, "  "+itoa(len(m.shown))+" of "+plural.Count(len(m.rows), "pod")))
	}
	return g.lines
}
