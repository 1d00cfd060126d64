package tui

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"irctl/internal/evidence"
	"irctl/internal/plural"
	"irctl/internal/record"
	"irctl/internal/reflow"
	"irctl/internal/report"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
)

// overlay is what is looked up, above the screen at hand.
type overlay struct {
	kind   action // one of lookup, or actBriefing; "": none
	scroll int
}

// lookup are the overlays there are.
var lookup = []action{actTimeline, actEvidence, actContacts, actChanges, actOpen, actReport, actHelp}

func (m *root) overlayView(p place) []string {
	lines := m.overlayLines(p)
	return p.scrolled(lines, m.overlay.scroll, p.w, p.h)
}

func (m *root) overlayLines(p place) []string {
	g := p.page(p.w)
	switch m.overlay.kind {
	case actHelp:
		m.helpView(g, p)
	case actBriefing:
		m.briefingView(g, p)
		g.blank()
		g.line(p.paint(picked, " Enter begins. "))
	case actOpen:
		m.openView(g, p)
	case actTimeline:
		m.timelineView(g, p)
	case actEvidence:
		m.evidenceView(g, p)
	case actContacts:
		m.contactsView(g, p)
	case actChanges:
		m.changesView(g, p)
	case actReport:
		g.line(p.title("The post-mortem, as far as it is known"))
		g.blank()
		m.reportView(g, p)
	}
	return g.lines
}

// briefingView is what a person is told before everything else.
func (m *root) briefingView(g *page, p place) {
	for i, l := range reflow.Lines(p.safeText(m.o.Briefing)) {
		switch {
		case i == 0:
			g.line(p.title(l))
		case l == "":
			g.blank()
		default:
			g.wrapped(none, "", l)
		}
	}
	g.blank()
}

// openView is how the containment stands, as it was seen last.
func (m *root) openView(g *page, p place) {
	if m.file == nil {
		g.line(p.paint(faint, "there is no incident yet"))
		return
	}
	a := &after{title: "How the containment stands", word: "NOTHING CONTAINED", style: danger}
	at := m.file.judged.at
	if s := m.lastLook(); s != nil {
		a.judge(s.status.Verdict, s.status.Targets, s.status.Workloads, s.status.Unsettled)
		at = s.at
	} else if v := m.file.judged; v.verdict != "" {
		a.word, a.style = verdictStyle(v.verdict)
		a.checks, a.open = v.unmet, v.open
	}
	a.view(g, p)
	if !at.IsZero() {
		g.blank()
		g.text(faint, "", "as it was seen at "+at.Local().Format(time.TimeOnly))
	}
}

func (m *root) helpView(g *page, p place) {
	here := m.contextsOf(m.covered())
	if m.o.Briefing != "" {
		m.briefingView(g, p)
	}
	g.line(p.title("Keys"))
	g.text(faint, "", "What changes a cluster asks for a capital "+confirmKey+
		" and names what it acts on. Enter alone, or a paste, changes nothing.")
	elsewhere := slices.DeleteFunc(slices.Clone(contexts), func(c keyContext) bool { return slices.Contains(here, c) })
	for i, c := range slices.Concat(here, elsewhere) {
		g.heading(string(c) + map[bool]string{true: "  (here)", false: ""}[i < len(here)])
		for _, b := range keyMap[c] {
			var names []string
			for _, k := range b.keys {
				names = append(names, keyName(k))
			}
			g.text(none, "  "+p.cell(p.paint(strong, strings.Join(names, ", ")), 20)+" ", b.help)
		}
	}
}

func (m *root) timelineView(g *page, p place) {
	if m.file == nil {
		g.line(p.paint(faint, "there is no incident yet"))
		return
	}
	g.line(p.title("Timeline of "+string(m.file.ID)) +
		p.paint(faint, "  "+plural.Count(len(m.file.entries), "entry")+", the newest first"))
	for i := len(m.file.entries) - 1; i >= 0; i-- {
		e := &m.file.entries[i]
		mark := p.outcomeMark(e.Outcome)
		g.text(none, p.paint(faint, e.Time.Local().Format(time.TimeOnly))+" "+mark+" "+
			p.cell(p.safe(cmp.Or(e.Phase, string(e.Kind))), 11)+" ", e.Summary)
		if e.Error != "" {
			g.text(bad, strings.Repeat(" ", 23), e.Error)
		}
	}
}

func (t theme) outcomeMark(o timeline.Outcome) string {
	switch o {
	case timeline.OutcomeDone, timeline.OutcomeAlready:
		return t.paint(good, t.g.done)
	case timeline.OutcomeFailed, timeline.OutcomeDenied:
		return t.paint(bad, t.g.failed)
	case timeline.OutcomeRefused, timeline.OutcomeUnknown:
		return t.paint(warning, t.g.warn)
	case timeline.OutcomeSkipped:
		return t.paint(faint, t.g.skipped)
	}
	return t.paint(faint, t.g.todo)
}

func (m *root) evidenceView(g *page, p place) {
	if m.file == nil {
		g.line(p.paint(faint, "there is no incident yet"))
		return
	}
	g.line(p.title("Evidence of " + string(m.file.ID)))
	n := 0
	for i := len(m.file.entries) - 1; i >= 0; i-- {
		e := &m.file.entries[i]
		receipt, ok := timeline.Payload[record.Receipt](e)
		if !ok {
			continue
		}
		n++
		g.blank()
		g.line(p.title(p.safe(filepath.Base(receipt.Path))))
		if receipt.Complete {
			g.text(none, p.paint(good, p.g.done)+" ", "complete: "+artefactsText(receipt.Artefacts))
		} else {
			g.text(warning, p.paint(warning, p.g.warn)+" ", missingText(receipt.Summary))
		}
		g.fact("sealed", e.Time.Local().Format(time.DateTime))
		g.fact("sha256", receipt.SHA256)
		g.fact("signed by", cmp.Or(receipt.Signer, "nobody"))
		g.fact("path", receipt.Path)
	}
	if n == 0 {
		g.blank()
		g.text(none, "",
			"Nothing was sealed yet. The suspect is kept alive by the containment, so it can still be collected from.")
	}
	g.blank()
	g.text(faint, "", "irctl evidence verify checks a bundle; it opens with gpg and tar alone.")
	g.fact("files", m.file.dir)
}

// artefactsText counts what is in a bundle, by how it was read.
func artefactsText(counts map[evidence.Status]int) string {
	parts := []string{plural.Count(total(counts), "artefact")}
	for _, s := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, itoa(counts[s])+" "+string(s))
	}
	if len(parts) == 2 {
		return parts[0]
	}
	return parts[0] + ": " + strings.Join(parts[1:], ", ")
}

// missingText is what is known, outside of a bundle, of what it lacks.
func missingText(s evidence.Summary) string {
	text := "not everything could be read: " + artefactsText(s.Artefacts)
	if s.Incomplete != "" {
		text += "; it ended early: " + s.Incomplete
	}
	return text + "; INDEX.md in the bundle names each"
}

func (m *root) contactsView(g *page, p place) {
	g.line(p.title("Whom to call"))
	var book *runbook.Runbook
	switch {
	case m.walk.book != nil:
		book = m.walk.book
	case m.screen == onPrepare:
		book = m.prepare.runbook()
	}
	lines := contactLines(book, m.o.Contacts)
	if len(lines) == 0 {
		g.blank()
		g.text(none, "", "Nobody is named: contacts come from the runbook and from irctl.yaml.")
	}
	for _, l := range lines {
		g.blank()
		g.text(none, p.g.bullet+" ", l)
	}
	if len(lines) > 0 && len(m.o.Contacts) == 0 {
		g.blank()
		g.text(faint, "",
			"How to reach them: contacts in irctl.yaml name people, telephones and channels of these roles.")
	}
}

// contactLines are a runbook's contacts, then those of the configuration that
// it does not name. Of a role that the configuration knows it says how to reach it.
func contactLines(book *runbook.Runbook, known []report.Contact) []string {
	var lines []string
	named := map[string]bool{}
	line := func(role, purpose string, reach ...string) {
		text := role
		var parts []string
		for _, r := range reach {
			if r != "" {
				parts = append(parts, r)
			}
		}
		if len(parts) > 0 {
			text += ": " + strings.Join(parts, ", ")
		}
		if purpose != "" {
			text += " (" + purpose + ")"
		}
		lines = append(lines, text)
	}
	if book != nil {
		for _, c := range book.Contacts {
			name, email, phone, chat := c.Name, c.Email, c.Phone, c.Chat
			for _, k := range known {
				if strings.EqualFold(string(k.Role), c.Role) {
					name, email, phone, chat = string(k.Name), string(k.Email), string(k.Phone), string(k.Chat)
				}
			}
			named[strings.ToLower(c.Role)] = true
			line(c.Role, c.For, name, phone, email, chat)
		}
	}
	for _, k := range known {
		if !named[strings.ToLower(string(k.Role))] {
			line(string(k.Role), "", string(k.Name), string(k.Phone), string(k.Email), string(k.Chat))
		}
	}
	return lines
}

// maxChanges is how many of the cluster's own changes are kept.
const maxChanges = 500

func (m *root) changesView(g *page, p place) {
	g.line(p.title("What the cluster does with the target") + p.paint(faint, "  the newest first"))
	if m.file == nil || m.engine == nil {
		g.text(faint, "", "there is no incident, or no connection, yet")
		return
	}
	for _, r := range watched(m.file.Incident) {
		g.text(faint, p.g.bullet+" ", r.String())
	}
	g.blank()
	if len(m.changes) == 0 {
		g.text(none, "", "Nothing has happened to it since you are here.")
	}
	for i := len(m.changes) - 1; i >= 0; i-- {
		c := m.changes[i]
		mark := p.paint(warning, p.g.warn)
		if c.ours {
			mark = p.paint(faint, p.g.todo)
		}
		g.text(none, p.paint(faint, c.at.Local().Format(time.TimeOnly))+" "+mark+" ", c.object+": "+c.text)
	}
}

func (m *root) reportView(g *page, p place) {
	if m.report == nil {
		g.line(p.paint(faint, "reading"+p.g.more))
		return
	}
	if m.report.err != nil {
		g.text(bad, p.g.failed+" ", m.report.err.Error())
		return
	}
	const most = 3000
	lines := strings.Split(m.report.text, "\n")
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("… %d more lines are in the report itself", len(lines)-most))
	}
	for i := 0; i < len(lines); i++ {
		l := html.UnescapeString(lines[i]) // the report is made for a browser; what prints is made safe below
		switch {
		case strings.HasPrefix(l, "#"):
			g.heading(p.safe(strings.TrimLeft(l, "# ")))
		case strings.HasPrefix(l, "> "):
			g.text(strong, p.paint(strong, p.g.bar)+" ", strings.Trim(l, "> *"))
		case strings.HasPrefix(l, "|"):
			var table [][]string
			for ; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
				table = append(table, cellsOf(html.UnescapeString(lines[i])))
			}
			i--
			g.table(table)
		default:
			g.text(none, "", l)
		}
	}
}

// cellsOf are the cells of a line of a Markdown table.
func cellsOf(line string) []string {
	var cells []string
	var cell strings.Builder
	line = strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|")
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line) && line[i+1] == '|':
			cell.WriteByte('|')
			i++
		case line[i] == '|':
			cells = append(cells, strings.TrimSpace(cell.String()))
			cell.Reset()
		default:
			cell.WriteByte(line[i])
		}
	}
	return append(cells, strings.TrimSpace(cell.String()))
}

// table adds the rows of a Markdown table. Columns are as wide as they need to
// be; what has no room is wrapped in the last one.
func (p *page) table(rows [][]string) {
	const gap, most = 2, 40
	var widths []int
	body := rows[:0:0]
	for _, r := range rows {
		if strings.Trim(strings.Join(r, ""), "-: ") == "" {
			continue // the rule below the head, or a head without words
		}
		for i := range r {
			r[i] = p.safe(r[i])
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], min(ansi.StringWidth(r[i]), most))
		}
		body = append(body, r)
	}
	if len(widths) == 0 {
		return
	}
	before := 0
	for i := range widths[:len(widths)-1] {
		widths[i] = min(widths[i], max(4, p.width*2/3-before-gap))
		before += widths[i] + gap
	}
	for _, r := range body {
		lead := ""
		for i := range widths[:len(widths)-1] {
			text := ""
			if i < len(r) {
				text = r[i]
			}
			lead += p.cell(text, widths[i]) + strings.Repeat(" ", gap)
		}
		last := ""
		if len(r) == len(widths) {
			last = r[len(r)-1]
		}
		p.wrapped(none, lead, last)
	}
}

// endView is the last screen: what came of it all, and where it is.
func (m *root) endView(p place) []string {
	g := p.page(p.w)
	if m.file == nil {
		return []string{p.paint(faint, "reading"+p.g.more)}
	}
	fact := func(name, value string) {
		const column = 14 // "to acknowledge"
		g.text(none, p.paint(faint, p.cell(name, column))+" ", value)
	}
	g.line(p.paint(fine, " THE WALK IS GONE THROUGH ") + "  " + p.safe(cmp.Or(m.file.Title, string(m.file.ID))))
	g.blank()
	if r := m.report; r != nil && r.report != nil {
		for _, d := range r.report.Durations {
			fact("to "+d.Name, d.Text())
		}
	}
	fact("containment", verdictText(m.containment()))
	if m.file.State != "" {
		fact("incident", string(m.file.State))
	}
	fact("files", m.file.dir)
	fact("report", filepath.Join(m.file.dir, "report.md")+" and .html")
	for i := range m.file.entries {
		if receipt, ok := timeline.Payload[record.Receipt](&m.file.entries[i]); ok {
			fact("evidence", filepath.Base(receipt.Path))
		}
	}
	g.blank()
	g.line(p.paint(faint, strings.Repeat(p.g.rule, p.w)))
	m.reportView(g, p)
	return p.scrolled(g.lines, m.endScroll, p.w, p.h)
}

func verdictText(j judged) string {
	if j.verdict == "" {
		return "nothing is contained"
	}
	text := string(j.verdict)
	if n := len(j.open) + len(j.unmet); n > 0 {
		text += fmt.Sprintf(", %d open", n)
	}
	if j.accepted > 0 {
		text += fmt.Sprintf(", %d accepted", j.accepted)
	}
	return text
}
