package tui

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

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

// match filters and ranks; the cursor stays on its pod.
func (m pods) match() pods {
	type scored struct {
		row   podRow
		score int
	}
	var all []scored
	for _, r := range m.rows {
		if n, ok := fuzzy(m.filter, strings.Join([]string{r.namespace + "/" + r.name, r.workload, r.node, r.image}, " ")); ok {
			all = append(all, scored{r, n})
		}
	}
	slices.SortStableFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(m.score(b.row), m.score(a.row)))
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

// fuzzy tells whether the letters of a filter come in a text in that order,
// and how well: letters in a row, and at the beginning of a word, count more.
// Words of the filter are looked for each on its own.
func fuzzy(filter, text string) (score int, ok bool) {
	text = strings.ToLower(text)
	for word := range strings.FieldsSeq(strings.ToLower(filter)) {
		if i := strings.Index(text, word); i >= 0 {
			score += 10 * len(word)
			if i == 0 || !unicode.IsLetter(rune(text[i-1])) {
				score += 10
			}
			continue
		}
		rest := text
		for _, r := range word {
			i := strings.IndexRune(rest, r)
			if i < 0 {
				return 0, false
			}
			if i == 0 {
				score++
			}
			rest = rest[i+len(string(r)):]
		}
	}
	return score, true
}

// typed is the table after a key. Letters filter, at once; the keys that move
// are those that are no letters.
func (m pods) typed(key tea.KeyMsg) pods {
	switch key.Type {
	case tea.KeyEsc:
		m.typing = newInput(podsPrompt, "")
	case tea.KeyUp, tea.KeyCtrlP:
		return m.moved(actUp, 1)
	case tea.KeyDown, tea.KeyCtrlN, tea.KeyTab:
		return m.moved(actDown, 1)
	case tea.KeyPgUp:
		return m.moved(actPageUp, m.page)
	case tea.KeyPgDown:
		return m.moved(actPageDown, m.page)
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
