package tui

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/steps/detect"
)

// prepare is the screen on which a runbook is chosen, with its parameters.
type prepare struct {
	books     []*runbook.Runbook
	broken    []string // runbooks that cannot be used, and why
	loadErr   error
	loaded    bool
	want      string // the name of the runbook that fits
	book      int
	suspect   *detect.Suspect // nil: none
	pods      []string        // NAMESPACE/NAME
	incident  incident.ID     // "": a new one, or the open one of the same
	severity  incident.Severity
	title     string
	commander string
	namespace string
	given     map[string]string // what a person typed
	suggested map[string]string // what else to fill in, for the runbook of the name favourite
	favourite string            // "": none
	list      list
	typing    *input
	err       error
	starting  bool
}

var errNoRunbook = errors.New("there is no runbook to go through")

// library is what runbooks there are.
type library struct {
	books  []*runbook.Runbook
	broken []string
	err    error
	loaded bool
}

// book is the one of a name; nil: there is none, or it is not known yet.
func (l library) book(name string) *runbook.Runbook {
	i := slices.IndexFunc(l.books, func(b *runbook.Runbook) bool { return b.Name == name })
	if i < 0 {
		return nil
	}
	return l.books[i]
}

func (d *desk) loadRunbooks() tea.Cmd {
	return func() tea.Msg {
		l := library{loaded: true}
		all, err := d.o.Library.List()
		l.err = err
		for _, entry := range all {
			book, err := d.o.Library.Find(entry.Name)
			if err != nil {
				l.broken = append(l.broken, entry.Name+": "+err.Error())
				continue
			}
			l.books = append(l.books, book)
		}
		return l
	}
}

// runbookFor is the runbook that fits a kind of suspect.
var runbookFor = map[string]string{"pod": "compromised-pod", "workload": "compromised-pod", "node": "compromised-node",
	"serviceaccount": "stolen-service-account"}

func newPrepare(l library, o Options) prepare {
	m := prepare{want: "compromised-pod", favourite: o.Runbook, suggested: o.Suggested, namespace: o.Namespace,
		given: map[string]string{}}
	return m.with(l)
}

// with takes the runbooks, which may be read only after the screen was opened.
func (m prepare) with(l library) prepare {
	m.books, m.broken, m.loadErr, m.loaded = l.books, l.broken, l.err, l.loaded
	return m.choose(m.want)
}

func (m prepare) choose(name string) prepare {
	m.want = cmp.Or(name, m.want)
	for _, want := range []string{m.want, m.favourite} { // the last counts
		if i := slices.IndexFunc(m.books, func(b *runbook.Runbook) bool { return b.Name == want }); i >= 0 {
			m.book = i
		}
	}
	return m
}

func (m prepare) about(s *detect.Suspect) prepare {
	m.suspect = s
	if s.Kind == "pod" {
		m.pods = []string{s.Name}
	}
	return m.choose(runbookFor[s.Kind])
}

func (m prepare) of(s *summary) prepare {
	m.incident, m.severity, m.title = s.ID, s.Severity, s.Title
	for _, t := range s.Targets {
		if t.Kind == "Pod" {
			m.pods = append(m.pods, t.Namespace+"/"+t.Name)
		}
	}
	return m
}

func (m prepare) runbook() *runbook.Runbook {
	if m.book < len(m.books) {
		return m.books[m.book]
	}
	return nil
}

// value is that of a parameter: typed, or one that fits the suspect or is
// suggested, or its default.
func (m prepare) value(p *runbook.Parameter) (text string, meant bool) {
	if v, ok := m.given[p.Name]; ok {
		return v, true
	}
	for _, v := range []string{engine.Fitting(p, m.pods, m.suspect), m.suggestion(p)} {
		if v == "" {
			continue
		}
		if _, err := p.Parse(v, m.namespace); err == nil {
			return v, true
		}
	}
	return runbook.Format(p.Fallback()), false
}

// suggestion is what is filled in where the suspect says nothing. A target is
// not: what is acted on is what was chosen.
func (m prepare) suggestion(p *runbook.Parameter) string {
	if b := m.runbook(); b == nil || b.Name != m.favourite ||
		p.Domain().Type == runbook.Pod && (m.suspect != nil || m.incident != "") {
		return ""
	}
	return m.suggested[p.Name]
}

// check is what is wrong with a parameter; nil: nothing.
func (m prepare) check(p *runbook.Parameter) error {
	text, meant := m.value(p)
	if !meant && !p.Required {
		return nil
	}
	_, err := p.Parse(text, m.namespace)
	return err
}

// row of the form.
type row struct {
	name  string
	param *runbook.Parameter // nil: none
}

// The rows that are no parameters.
const (
	rowRunbook   = "runbook"
	rowSeverity  = "severity"
	rowTitle     = "title"
	rowCommander = "commander"
)

// rows are the runbook, the parameters that need a value or have got one, what
// is optional, and the parameters that can stay as they are.
func (m prepare) rows() []row {
	rows, rest := []row{{rowRunbook, nil}}, []row(nil)
	if b := m.runbook(); b != nil {
		for i := range b.Parameters {
			r := row{b.Parameters[i].Name, &b.Parameters[i]}
			if m.matters(r.param) {
				rows = append(rows, r)
			} else {
				rest = append(rest, r)
			}
		}
	}
	if m.incident == "" {
		rows = append(rows, row{rowSeverity, nil}, row{rowTitle, nil}, row{rowCommander, nil})
	}
	return append(rows, rest...)
}

// matters tells whether a parameter needs a value, or has got one from the
// suspect. What a person types does not count: the row would move away under them.
func (m prepare) matters(p *runbook.Parameter) bool {
	m.given = nil
	_, meant := m.value(p)
	return p.Required || meant
}

func (m prepare) text(r row) string {
	switch {
	case r.param != nil:
		text, _ := m.value(r.param)
		return text
	case r.name == rowRunbook && m.runbook() != nil:
		return m.runbook().Name
	case r.name == rowSeverity:
		return string(m.severity)
	case r.name == rowTitle:
		return m.title
	case r.name == rowCommander:
		return m.commander
	}
	return ""
}

// set is the form with a value that was typed.
func (m prepare) set(r row, text string) prepare {
	switch {
	case r.param != nil:
		m.given = maps.Clone(m.given)
		m.given[r.name] = text
	case r.name == rowTitle:
		m.title = text
	case r.name == rowCommander:
		m.commander = text
	}
	return m
}

// turned goes to the next of a few values.
func (m prepare) turned(r row, by int) prepare {
	turn := func(values []string, now string) string {
		i := max(0, slices.Index(values, now))
		return values[(i+by+len(values))%len(values)]
	}
	switch {
	case r.name == rowRunbook && r.param == nil && len(m.books) > 0:
		m.book = (m.book + by + len(m.books)) % len(m.books)
	case r.name == rowSeverity && r.param == nil:
		m.severity = incident.Severity(turn([]string{"", "sev1", "sev2", "sev3", "sev4"}, string(m.severity)))
	case r.param != nil && r.param.Domain().Type == runbook.Boolean:
		return m.set(r, turn([]string{"false", "true"}, m.text(r)))
	case r.param != nil && len(r.param.Choices) > 0 && !r.param.List:
		return m.set(r, turn(r.param.Choices, m.text(r)))
	}
	return m
}

// turns tells whether a row has a few values to choose from.
func turns(r row) bool {
	if r.param != nil {
		return r.param.Domain().Type == runbook.Boolean || len(r.param.Choices) > 0 && !r.param.List
	}
	return r.name == rowRunbook || r.name == rowSeverity
}

// begin is what the form says, or what is wrong with it.
func (m prepare) begin() (beginning, error) {
	b := beginning{book: m.runbook(), given: map[string]string{}, suspect: m.suspect, incident: m.incident,
		title: m.title, severity: m.severity, commander: m.commander}
	if b.book == nil {
		return b, errNoRunbook
	}
	for i := range b.book.Parameters {
		p := &b.book.Parameters[i]
		if err := m.check(p); err != nil {
			return b, err
		}
		if text, meant := m.value(p); meant {
			b.given[p.Name] = text
		}
	}
	return b, nil
}

// typed is the form after a key in a line.
func (m prepare) typed(key tea.KeyMsg) prepare {
	switch {
	case key.Type == tea.KeyEnter && !key.Paste:
		r := m.rows()[m.list.at]
		m = m.set(r, m.typing.text())
		m.typing, m.err = nil, nil
		if r.param != nil {
			m.err = m.check(r.param)
		}
	case key.Type == tea.KeyEsc:
		m.typing = nil
	default:
		m.typing = m.typing.typed(key)
	}
	return m
}

func (m prepare) act(a action) prepare {
	rows := m.rows()
	at := rows[min(m.list.at, len(rows)-1)]
	switch a {
	case actNext:
		m = m.turned(at, 1)
	case actPrevious:
		m = m.turned(at, -1)
	case actChoose:
		if turns(at) {
			return m.turned(at, 1)
		}
		m.typing = newInput(at.name+":", m.text(at))
	default:
		m.list = m.list.moved(a, len(rows), 5)
	}
	return m
}

func (m prepare) view(p place) []string {
	g := p.page(p.w)
	switch {
	case m.suspect != nil:
		g.line("New incident of " + p.title(p.safe(suspectName(m.suspect))))
		for _, f := range m.suspect.Findings[:min(2, len(m.suspect.Findings))] {
			g.line(p.paint(faint, p.g.bullet+" "+p.safe(f.Reason)))
		}
	case m.incident != "":
		g.line("A runbook for incident " + p.title(string(m.incident)))
	case len(m.pods) > 0:
		g.line("New incident of pod " + p.title(p.safe(m.pods[0])))
	default:
		g.line("New incident, without a suspect")
	}
	g.blank()
	const start = " s: start; nothing is changed in the cluster by that "
	p.h--
	rows := p.page(p.w)
	names := 9
	for _, r := range m.rows() {
		names = min(max(names, len(r.name)+1), 16)
	}
	from, to := 0, 0 // the lines of the row at hand
	said := false
	for i, r := range m.rows() {
		switch {
		case i > 0 && r.param == nil && r.name == rowSeverity:
			rows.line(p.paint(faint, "  optional"))
		case !said && r.param != nil && !m.matters(r.param):
			rows.line(p.paint(faint, "  can stay as they are"))
			said = true
		}
		if i == m.list.at {
			from = len(rows.lines)
		}
		m.rowView(rows, p, r, i == m.list.at, names)
		if i == m.list.at {
			to = len(rows.lines)
		}
	}
	if room := max(4, p.h-len(g.lines)); len(rows.lines) > room {
		shown := room - 1 // the last one says that there is more
		first := min(from, max(to-shown, from-shown/2))
		return append(append(g.lines, p.scrolled(rows.lines, first, p.w, room)...), p.paint(picked, start))
	}
	g.lines = append(g.lines, rows.lines...)
	g.blank()
	if b := m.runbook(); b != nil {
		g.text(faint, "", strings.Join(strings.Fields(b.Title+". "+b.Summary), " "))
	}
	for _, text := range m.broken {
		g.text(warning, p.g.warn+" ", text)
	}
	if m.loadErr != nil {
		g.text(bad, p.g.failed+" ", m.loadErr.Error())
	}
	for len(g.lines) < p.h {
		g.lines = append(g.lines, "")
	}
	return append(g.lines[:max(0, p.h)], p.fit(p.paint(picked, start), p.w))
}

func (m prepare) rowView(g *page, p place, r row, here bool, names int) {
	mark := "  "
	name := p.cell(p.safe(r.name), names)
	if here {
		mark, name = p.paint(accent, p.g.now)+" ", p.paint(strong, name)
	}
	if here && m.typing != nil {
		g.line(mark + m.typing.view(p.theme, p.w-2))
	} else {
		g.line(mark + name + "  " + m.valueView(p, r, here))
	}
	if !here {
		return
	}
	indent := strings.Repeat(" ", names+4)
	if r.param != nil {
		if r.param.Prompt != "" || r.param.Doc == "" {
			g.text(faint, indent, r.param.Question())
		}
		if r.param.Doc != "" && (p.h > 24 || r.param.Prompt == "") {
			g.text(faint, indent, r.param.Doc)
		}
	}
	if m.err != nil && m.typing == nil {
		g.text(bad, indent+p.g.failed+" ", m.err.Error())
	}
}

func (m prepare) valueView(p place, r row, here bool) string {
	value := p.safe(m.text(r))
	switch {
	case r.param != nil && m.check(r.param) != nil:
		return p.paint(bad, cmp.Or(value, "needed")+" "+p.g.failed)
	case r.param == nil && r.name == rowSeverity && value == "" && m.runbook() != nil:
		value = p.paint(faint, cmp.Or(m.runbook().Severity, "unknown")+", as the runbook says")
		if m.suspect != nil {
			value = p.paint(faint, "as the findings suggest")
		}
	case value == "":
		value = p.paint(faint, "-")
	}
	if here && turns(r) {
		value = p.paint(accent, "<") + " " + value + " " + p.paint(accent, ">")
		if r.name == rowRunbook && r.param == nil && m.runbook() != nil {
			value += p.paint(faint, " "+itoa(m.book+1)+" of "+itoa(len(m.books)))
		}
	}
	return value
}
