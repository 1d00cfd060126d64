package tui

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"path/filepath"
	"strings"
	"time"

	"irctl/internal/plural"
	"irctl/internal/report"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
)

// overlay is what is looked up, above the screen at hand.
type overlay struct {
	kind   action // actTimeline, actEvidence, actContacts, actChanges, actReport, actHelp; "": none
	scroll int
}

// lookup are the overlays there are.
var lookup = []action{actTimeline, actEvidence, actContacts, actChanges, actReport, actHelp}

func (m *root) overlayView(p place) []string {
	lines := m.overlayLines(p)
	return p.scrolled(lines, m.overlay.scroll, p.w, p.h)
}

func (m *root) overlayLines(p place) []string {
	g := p.page(p.w)
	switch m.overlay.kind {
	case actHelp:
		m.helpView(g, p)
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

func (m *root) helpView(g *page, p place) {
	here := m.keyContexts()
	g.line(p.title("Keys"))
	g.text(faint, "", "What changes a cluster asks for a capital "+confirmKey+" and names what it acts on. Enter alone, or a paste, changes nothing.")
	for _, first := range []bool{true, false} {
		for _, c := range contexts {
			isHere := false
			for _, h := range here {
				isHere = isHere || h == c
			}
			if isHere != first {
				continue
			}
			g.heading(string(c) + map[bool]string{true: "  (here)", false: ""}[isHere])
			for _, b := range keyMap[c] {
				var names []string
				for _, k := range b.keys {
					names = append(names, keyName(k))
				}
				g.text(none, "  "+p.cell(p.paint(strong, strings.Join(names, ", ")), 20)+" ", b.help)
			}
		}
	}
}

func (m *root) timelineView(g *page, p place) {
	if m.file == nil {
		g.line(p.paint(faint, "there is no incident yet"))
		return
	}
	g.line(p.title("Timeline of "+string(m.file.ID)) + p.paint(faint, "  "+plural.Count(len(m.file.entries), "entry")+", the newest first"))
	for i := len(m.file.entries) - 1; i >= 0; i-- {
		e := &m.file.entries[i]
		mark := p.outcomeMark(e.Outcome)
		g.text(none, p.paint(faint, e.Time.Local().Format(time.TimeOnly))+" "+mark+" "+p.cell(p.safe(cmp.Or(e.Phase, string(e.Kind))), 11)+" ", e.Summary)
		if e.Error != "" {
			g.text(bad, strings.Repeat(" ", 23), e.Error)
		}
	}
}

func (t theme) outcomeMark(o timeline.Outcome) string {
	switch o {
	case timeline.OutcomeDone, timeline.OutcomeAlready:
		return t.paint(good, t.g.done)
	case timeline.OutcomeFailed:
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
	for i := range m.file.entries {
		e := &m.file.entries[i]
		var receipt struct {
			Path     string `json:"path"`
			SHA256   string `json:"sha256"`
			Complete bool   `json:"complete"`
		}
		if len(e.Data) == 0 || json.Unmarshal(e.Data, &receipt) != nil || receipt.Path == "" || receipt.SHA256 == "" {
			continue
		}
		n++
		g.blank()
		state := p.paint(good, p.g.done+" complete")
		if !receipt.Complete {
			state = p.paint(warning, p.g.warn+" incomplete; its INDEX.md says what is missing")
		}
		g.line(p.title(p.safe(filepath.Base(receipt.Path))) + "  " + state)
		g.fact("sealed", e.Time.Local().Format(time.DateTime))
		g.fact("sha256", receipt.SHA256)
		g.fact("path", receipt.Path)
	}
	if n == 0 {
		g.blank()
		g.text(none, "", "Nothing was sealed yet. The suspect is kept alive by the containment, so it can still be collected from.")
	}
	g.blank()
	g.text(faint, "", "irctl evidence verify checks a bundle; it opens with gpg and tar alone.")
	g.fact("files", m.file.dir)
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
	for _, l := range lines {
		l = html.UnescapeString(l) // the report is made for a browser; what prints is made safe below
		switch {
		case strings.HasPrefix(l, "#"):
			g.heading(p.safe(strings.TrimLeft(l, "# ")))
		case strings.HasPrefix(l, "|"):
			g.line(p.safe(l))
		default:
			g.text(none, "", l)
		}
	}
}

// endView is the last screen: what came of it all, and where it is.
func (m *root) endView(p place) []string {
	g := p.page(p.w)
	if m.file == nil {
		return []string{p.paint(faint, "reading"+p.g.more)}
	}
	g.line(p.paint(fine, " THE WALK IS GONE THROUGH ") + "  " + p.safe(cmp.Or(m.file.Title, string(m.file.ID))))
	g.blank()
	if r := m.report; r != nil && r.report != nil {
		for _, d := range r.report.Durations {
			g.fact("to "+d.Name, d.Text())
		}
	}
	g.fact("containment", verdictText(m.containment()))
	if m.file.State != "" {
		g.fact("incident", string(m.file.State))
	}
	g.fact("files", m.file.dir)
	g.fact("report", filepath.Join(m.file.dir, "report.md")+" and .html")
	for i := range m.file.entries {
		var receipt struct {
			Path   string `json:"path"`
			SHA256 string `json:"sha256"`
		}
		if e := &m.file.entries[i]; len(e.Data) > 0 && json.Unmarshal(e.Data, &receipt) == nil && receipt.Path != "" && receipt.SHA256 != "" {
			g.fact("evidence", filepath.Base(receipt.Path))
		}
	}
	g.blank()
	g.line(p.paint(faint, strings.Repeat(p.g.rule, p.w)))
	m.reportView(g, p)
	return p.scrolled(g.lines, m.endScroll, p.w, p.h)
}

func verdictText(j judged) string {
	switch {
	case j.verdict == "":
		return "nothing is contained"
	case len(j.open)+len(j.unmet) > 0:
		return fmt.Sprintf("%s, %d open", j.verdict, len(j.open)+len(j.unmet))
	}
	return string(j.verdict)
}
