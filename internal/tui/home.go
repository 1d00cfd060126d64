package tui

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
)

func itoa(n int) string { return strconv.Itoa(n) }

// place is the part of the screen that a view has, and the time it shows.
type place struct {
	theme
	w, h int
	now  time.Time
}

// home is the first screen: incidents that are open, and suspects to begin one of.
type home struct {
	open     []summary
	errs     []error
	listed   bool
	suspects []detect.Suspect
	gaps     []error
	more     int
	looking  bool
	lookErr  error
	list     list
	moved    bool // the cursor, by a person
}

// keyAt is what the cursor is on, so that it stays there when the lists change.
func (m home) keyAt() string {
	switch n := m.list.at; {
	case n < len(m.open):
		return string(m.open[n].ID)
	case n-len(m.open) < len(m.suspects):
		s := m.suspects[n-len(m.open)]
		return s.Kind + " " + s.Name
	}
	return ""
}

func (m home) keepAt(key string) home {
	for n := range m.rows() {
		if m.list.at = n; key != "" && m.moved && m.keyAt() == key {
			return m
		}
	}
	m.list.at = 0
	return m
}

func (m home) rows() int { return len(m.open) + len(m.suspects) }

func (m home) listed1(l listed) home {
	key := m.keyAt()
	m.open, m.errs, m.listed = l.open, l.errs, true
	return m.keepAt(key)
}

func (m home) found(f found) home {
	key := m.keyAt()
	m.looking, m.lookErr = false, f.err
	if f.result != nil {
		m.suspects, m.more = f.result.Suspects, f.result.More
		_, m.gaps = f.result.Gaps.Lines()
		m.lookErr = cmp.Or(f.err, f.result.Err())
	}
	return m.keepAt(key)
}

// chosen is the incident or the suspect under the cursor.
func (m home) chosen() (*summary, *detect.Suspect) {
	switch n := m.list.at; {
	case n < len(m.open):
		return &m.open[n], nil
	case n-len(m.open) < len(m.suspects):
		s := m.suspects[n-len(m.open)]
		for i := range m.open { // it has one already
			if s.Incident != "" && string(m.open[i].ID) == s.Incident {
				return &m.open[i], nil
			}
		}
		return nil, &s
	}
	return nil, nil
}

func (m home) view(p place, cluster string) []string {
	wide := p.w >= 120
	left := p.w
	if wide {
		left = p.w * 55 / 100
	}
	detail := p.page(p.w - left - 3)
	if !wide {
		detail = p.page(p.w)
	}
	m.detail(detail, p)
	rows := p.h
	if !wide {
		rows = max(6, p.h-min(len(detail.lines)+1, 8))
	}
	out := m.lists(p, left, rows, cluster)
	if wide {
		for len(out) < p.h {
			out = append(out, "")
		}
		for i := range out {
			right := ""
			if i < len(detail.lines) {
				right = detail.lines[i]
			}
			out[i] = p.cell(out[i], left) + " " + p.paint(faint, p.g.bar) + " " + right
		}
		return out
	}
	for len(out) < rows {
		out = append(out, "")
	}
	return append(append(out, p.paint(faint, strings.Repeat(p.g.rule, p.w))), detail.lines...)
}

// lists are both lists, one below the other, in so many lines.
func (m home) lists(p place, width, height int, cluster string) []string {
	g := p.page(width)
	g.line(p.title("Open incidents"))
	incidents := min(len(m.open), max(1, (height-4)/2))
	if len(m.suspects) == 0 {
		incidents = min(len(m.open), max(1, height-5))
	}
	from, to := list{min(m.list.at, max(0, len(m.open)-1))}.window(len(m.open), incidents)
	for i := from; i < to; i++ {
		g.line(m.row(p, i == m.list.at, width, m.incidentRow(p, &m.open[i], width-2)))
	}
	switch {
	case !m.listed:
		g.line(p.paint(faint, "  reading"+p.g.more))
	case len(m.open) == 0:
		g.line(p.paint(faint, "  none"))
	case to-from < len(m.open):
		g.line(p.paint(faint, fmt.Sprintf("  %d of %d", to-from, len(m.open))))
	}
	for _, err := range m.errs {
		g.text(warning, "  "+p.g.warn+" ", err.Error())
	}
	g.blank()
	g.line(p.beside(p.title("Suspects"), p.paint(faint, m.looked(p, cluster)), width))
	room := max(1, height-len(g.lines)-1)
	from, to = list{max(0, m.list.at-len(m.open))}.window(len(m.suspects), room)
	for i := from; i < to; i++ {
		g.line(m.row(p, len(m.open)+i == m.list.at, width, m.suspectRow(p, &m.suspects[i], width-2)))
	}
	switch {
	case m.lookErr != nil:
		g.text(bad, "  "+p.g.failed+" ", m.lookErr.Error())
	case len(m.suspects) == 0 && m.looking:
		g.line(p.paint(faint, "  looking"+p.g.more))
	case len(m.suspects) == 0:
		g.text(faint, "  ", "none. Pick a pod with p, or paste an alert with a.")
	}
	return g.lines
}

func (m home) looked(p place, cluster string) string {
	switch {
	case m.looking:
		return "looking" + p.g.more
	case len(m.gaps) > 0:
		return fmt.Sprintf("%d, but %s could not be looked at", len(m.suspects), plural.Count(len(m.gaps), "thing"))
	case m.more > 0:
		return fmt.Sprintf("%d, and %d more", len(m.suspects), m.more)
	}
	return cluster
}

func (m home) row(p place, here bool, width int, text string) string {
	if here {
		return p.paint(accent, p.g.now) + " " + p.paint(strong, p.fit(text, width-2))
	}
	return "  " + p.fit(text, width-2)
}

func (m home) incidentRow(p place, s *summary, width int) string {
	right := p.age(p.now.Sub(s.OpenedAt)) + "  " + p.verdictWord(s.verdict, 0)
	severity := string(s.Severity)
	if severity == "" {
		severity = "sev?"
	}
	return p.beside(severity+"  "+p.safe(cmp.Or(s.Title, string(s.ID))), right, width)
}

func (m home) suspectRow(p place, s *detect.Suspect, width int) string {
	left := p.cell(p.severity(s.Severity), 9) + p.cell(itoa(int(s.Score)), 4) + p.safe(suspectName(s))
	reason := ""
	if len(s.Findings) > 0 {
		reason = p.safe(s.Findings[0].Reason)
	}
	names := 0
	for i := range m.suspects {
		names = max(names, ansi.StringWidth(p.safe(suspectName(&m.suspects[i]))))
	}
	return p.cell(left, min(13+names, width*2/3)) + "  " + p.paint(faint, reason)
}

func suspectName(s *detect.Suspect) string {
	name := s.Name
	if s.Kind != "pod" {
		name = s.Kind + " " + name
	}
	if s.Gone {
		name += " (gone)"
	}
	return name
}

func (t theme) severity(s detect.Severity) string {
	switch s {
	case detect.Critical, detect.High:
		return t.paint(bad, string(s))
	case detect.Medium:
		return t.paint(warning, string(s))
	}
	return string(s)
}

// verdictWord is the state of containment in a word, and how much is open.
func (t theme) verdictWord(v contain.Verdict, open int) string {
	more := ""
	if open > 0 {
		more = ", " + itoa(open) + " open"
	}
	switch v {
	case contain.Contained:
		return t.paint(good, t.g.done+" contained"+more)
	case contain.Exposed:
		return t.paint(warning, t.g.warn+" contained"+more+exposedWord(open))
	case contain.NotContained:
		return t.paint(bad, t.g.failed+" NOT contained"+more)
	}
	return t.paint(bad, t.g.failed+" nothing contained")
}

func exposedWord(open int) string {
	if open > 0 {
		return ""
	}
	return " with exposures"
}

// detail says more of what the cursor is on.
func (m home) detail(g *page, p place) {
	s, suspect := m.chosen()
	switch {
	case suspect != nil:
		suspectDetail(g, p, suspect)
	case s != nil:
		g.line(p.title(string(s.ID)))
		g.text(none, "", s.Title)
		for _, t := range s.Targets {
			g.fact(strings.ToLower(t.Kind), t.Namespace+"/"+t.Name)
		}
		if s.Cluster.Context != "" || s.Cluster.Server != "" {
			g.fact("cluster", strings.TrimSpace(s.Cluster.Context+" "+s.Cluster.Server))
		}
		g.fact("walk", walkText(s))
	}
}

func walkText(s *summary) string {
	switch {
	case s.walk == nil:
		return "none yet; Enter chooses a runbook"
	case s.walk.Ended:
		return s.walk.Runbook.Name + ": gone through"
	}
	return s.walk.Runbook.Name + ", at " + cmp.Or(s.walk.At, "its begin") + "; Enter goes on there"
}

func suspectDetail(g *page, p place, s *detect.Suspect) {
	g.line(p.severity(s.Severity) + " " + p.title(p.safe(suspectName(s))))
	for _, f := range s.Findings {
		g.text(none, p.paint(faint, p.g.bullet)+" ", f.Reason)
		if f.Technique.ID != "" && p.h > 30 {
			g.text(faint, "  ", f.Technique.ID+" "+f.Technique.Name)
		}
	}
	if !s.FirstSeen.IsZero() {
		g.fact("first seen", s.FirstSeen.Format(time.DateTime)+", "+p.age(p.now.Sub(s.FirstSeen))+" ago")
	}
	for name, value := range map[string]string{"workload": s.Subject.Workload} {
		if value != "" {
			g.fact(name, value)
		}
	}
}

// age is a duration as people say it.
func (t theme) age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// clock is a duration to the second.
func clock(d time.Duration) string {
	d = max(d, 0)
	if d >= 100*time.Hour {
		return fmt.Sprintf("%dd %02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
	return fmt.Sprintf("%02d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}

// openIncident is the one of an ID.
func (m home) openIncident(id incident.ID) *summary {
	for i := range m.open {
		if m.open[i].ID == id {
			return &m.open[i]
		}
	}
	return nil
}
