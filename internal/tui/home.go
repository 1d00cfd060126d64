package tui

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/runbook"
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
	moved    bool      // the cursor, by a person
	at       time.Time // when it was looked for suspects
	books    []*runbook.Runbook
	pods     map[string]podRow // what the cluster says of suspects that are pods
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

func (m home) found(f found, now time.Time) home {
	key := m.keyAt()
	m.looking, m.lookErr, m.at = false, f.err, now
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

// wideFrom is from which width on the lists stand beside what they are about.
const wideFrom = 120

// view is the lists, and what the cursor is on: beside them, or below.
func (m home) view(p place, fits func(*detect.Suspect) *runbook.Runbook) []string {
	wide := p.w >= wideFrom
	left, right := p.w, p.w
	if wide {
		left = min(p.w/2, 110)
		right = p.w - left - 3
	}
	detail := p.page(right)
	m.detail(detail, p, fits)
	if wide {
		out := m.lists(p, left, p.h)
		for len(out) < p.h {
			out = append(out, "")
		}
		for i, l := range p.clipped(detail.lines, right, len(out)) {
			out[i] = p.cell(out[i], left) + " " + p.paint(faint, p.g.bar) + " " + l
		}
		return out
	}
	// The lists have what they need; what is said about the cursor at least a third.
	need := 4 + max(1, len(m.open)) + max(1, len(m.suspects)) + len(m.errs)
	rows := max(6, min(need, p.h-min(len(detail.lines)+1, max(8, p.h-need))))
	out := m.lists(p, left, rows)
	for len(out) < rows {
		out = append(out, "")
	}
	out = append(out[:min(rows, len(out))], p.paint(faint, strings.Repeat(p.g.rule, p.w)))
	return append(out, p.clipped(detail.lines, right, p.h-len(out))...)
}

// clipped are exactly so many lines; of more the last one says that there are.
func (t theme) clipped(lines []string, width, height int) []string {
	out := make([]string, max(0, height))
	copy(out, lines)
	if len(lines) > height && height > 0 {
		out[height-1] = t.paint(faint, t.fit(t.g.more+" "+plural.Count(len(lines)-height+1, "more line"), width))
	}
	return out
}

// lists are both lists, one below the other, in so many lines.
func (m home) lists(p place, width, height int) []string {
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
	room := max(1, height-len(g.lines)-1)
	from, to = list{max(0, m.list.at-len(m.open))}.window(len(m.suspects), room)
	g.line(p.beside(p.title("Suspects"), p.paint(faint, m.looked(p, from, to)), width))
	for i := from; i < to; i++ {
		g.line(m.row(p, len(m.open)+i == m.list.at, width, m.suspectRow(p, &m.suspects[i], width-2)))
	}
	switch {
	case m.lookErr != nil:
		g.text(bad, "  "+p.g.failed+" ", m.lookErr.Error())
	case len(m.suspects) == 0 && m.looking:
		g.line(p.paint(faint, "  looking"+p.g.more))
	case len(m.suspects) == 0:
		g.text(faint, "  ", "none. Pick a pod with p, paste an alert with a, or begin without either with n.")
	}
	return g.lines
}

// looked tells how many there are, and of when they are.
func (m home) looked(p place, from, to int) string {
	var parts []string
	if n := len(m.suspects); to-from < n {
		parts = append(parts, fmt.Sprintf("%d-%d of %d", from+1, to, n))
	}
	if m.more > 0 {
		parts = append(parts, itoa(m.more)+" more are left out")
	}
	if len(m.gaps) > 0 {
		parts = append(parts, plural.Count(len(m.gaps), "thing")+" could not be looked at")
	}
	switch {
	case m.looking:
		parts = append(parts, "looking"+p.g.more)
	case !m.at.IsZero():
		parts = append(parts, "as of "+m.at.Local().Format(time.TimeOnly))
	}
	return strings.Join(parts, ", ")
}

func (m home) row(p place, here bool, width int, text string) string {
	if here {
		return p.paint(accent, p.g.now) + " " + p.paint(strong, p.fit(text, width-2))
	}
	return "  " + p.fit(text, width-2)
}

func (m home) incidentRow(p place, s *summary, width int) string {
	right := p.age(p.now.Sub(s.OpenedAt)) + "  " + p.verdictWord(s.judged)
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
		reason = p.paint(faint, p.safe(s.Findings[0].Reason))
	}
	if s.Incident != "" {
		reason = p.paint(accent, m.incidentOf(s)) + "  " + reason
	}
	names := 0
	for i := range m.suspects {
		names = max(names, ansi.StringWidth(p.safe(suspectName(&m.suspects[i]))))
	}
	return p.cell(left, min(13+names, width*2/3)) + "  " + reason
}

// incidentOf tells that a suspect has an incident, and whether that is open.
func (m home) incidentOf(s *detect.Suspect) string {
	if m.openIncident(incident.ID(s.Incident)) != nil {
		return "in an open incident"
	}
	return "was in an incident"
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

// verdictWord is the state of containment in a word, and how much is open. What is
// only accepted has no ✓.
func (t theme) verdictWord(j judged) string {
	open := len(j.open) + len(j.unmet)
	more := ""
	if open > 0 {
		more = ", " + itoa(open) + " open"
	}
	if j.accepted > 0 {
		more += ", " + itoa(j.accepted) + " accepted"
	}
	switch j.verdict {
	case contain.Contained:
		if j.accepted > 0 {
			return t.paint(warning, "contained"+more)
		}
		return t.paint(good, t.g.done+" contained"+more)
	case contain.Exposed:
		return t.paint(warning, t.g.warn+" contained"+more+exposedWord(open))
	case contain.Undetermined:
		return t.paint(warning, t.g.warn+" could not tell"+more)
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

// detail says more of what the cursor is on. On a small screen only its first
// lines are seen.
func (m home) detail(g *page, p place, fits func(*detect.Suspect) *runbook.Runbook) {
	s, suspect := m.chosen()
	switch {
	case suspect != nil:
		m.suspectDetail(g, p, suspect, fits(suspect))
	case s != nil:
		m.incidentDetail(g, p, s)
	}
}

func (m home) incidentDetail(g *page, p place, s *summary) {
	wide := p.w >= wideFrom
	g.line(p.title(string(s.ID)) + p.paint(faint, "  "+strings.ToUpper(string(s.Severity))+", opened "+
		p.age(p.now.Sub(s.OpenedAt))+" ago"))
	if wide {
		g.text(none, "", s.Title)
		g.blank()
	}
	g.line(p.verdictWord(s.judged))
	put := func(mark string, text string) {
		if wide {
			g.text(none, mark, text)
		} else {
			g.line(mark + p.safe(text)) // every line tells another thing
		}
	}
	for _, text := range s.judged.doubts {
		put("  "+p.paint(warning, p.g.warn)+" ", text)
	}
	for _, c := range s.judged.unmet {
		put("  "+p.paint(bad, p.g.failed)+" ", c.Text)
	}
	for _, x := range s.judged.open {
		put("  "+p.paint(warning, p.g.warn)+" "+p.paint(strong, p.safe(x.Code))+"  ", x.Text)
		if x.Close != "" && wide {
			g.text(faint, "    "+p.g.arrow+" ", x.Close)
		}
	}
	m.walkDetail(g, p, s)
	if len(s.recent) > 0 {
		if wide {
			g.heading("Done last")
		}
		most := 1
		if wide {
			most = max(3, p.h/3)
		}
		for _, e := range s.recent[:min(most, len(s.recent))] {
			put(p.paint(faint, e.Time.Local().Format(time.TimeOnly))+" "+p.outcomeMark(e.Outcome)+" ", e.Summary)
		}
	}
	if wide {
		g.heading("Evidence")
		for _, r := range s.sealed {
			mark := p.paint(good, p.g.done)
			if !r.Complete {
				mark = p.paint(warning, p.g.warn)
			}
			g.text(none, mark+" ", filepath.Base(r.Path)+", "+artefactsText(r.Artefacts))
		}
		if len(s.sealed) == 0 {
			g.line(p.paint(faint, "nothing is sealed yet"))
		}
		g.blank()
	}
	for _, t := range s.Targets {
		g.fact(strings.ToLower(t.Kind), t.Namespace+"/"+t.Name)
	}
	if s.Cluster.Context != "" || s.Cluster.Server != "" {
		g.fact("cluster", strings.TrimSpace(s.Cluster.Context+" "+s.Cluster.Server))
	}
	if wide {
		if s.Commander != "" {
			g.fact("commander", s.Commander)
		}
		g.blank()
		g.line(p.key("Enter", "goes on with it") + "   " + p.key("t", "timeline") + " " + p.key("v", "evidence") + " " +
			p.key("o", "what is open") + " " + p.key("m", "report"))
	}
}

// walkDetail is how far its walk has come.
func (m home) walkDetail(g *page, p place, s *summary) {
	w := s.walk
	if w == nil {
		g.text(none, p.paint(faint, "walk")+"  ", "none yet; Enter chooses a runbook")
		return
	}
	if p.w >= wideFrom {
		g.heading("Walk")
	}
	i := slices.IndexFunc(m.books, func(b *runbook.Runbook) bool { return b.Name == w.Runbook.Name })
	switch {
	case w.Ended:
		g.text(none, "", w.Runbook.Name+": gone through")
		return
	case i < 0:
		g.text(none, "", w.Runbook.Name+", at "+cmp.Or(w.At, "its begin")+"; Enter goes on there")
		return
	}
	book := m.books[i]
	done, steps := 0, book.Steps()
	for _, st := range steps {
		if w.Steps[st.Name].Outcome != "" {
			done++
		}
	}
	g.line(p.safe(w.Runbook.Name) + "  " + p.progress(done, len(steps), min(20, p.w/4)) + " " + itoa(done) + " of " +
		plural.Count(len(steps), "step"))
	at := "its begin"
	if st := book.Step(w.At); st != nil {
		at = st.Label() + " (" + string(st.Phase()) + ")"
	}
	g.text(none, p.paint(accent, p.g.now)+" ", "Enter goes on at: "+at)
}

func (m home) suspectDetail(g *page, p place, s *detect.Suspect, book *runbook.Runbook) {
	wide := p.w >= wideFrom
	g.line(p.severity(s.Severity) + " " + p.title(p.safe(suspectName(s))))
	if s.Incident != "" {
		g.text(accent, "", m.incidentOf(s)+": "+s.Incident)
	}
	row, known := m.pods[s.Name]
	facts := [][2]string{{"workload", cmp.Or(s.Subject.Workload, row.workload)}, {"image", row.image},
		{"container", s.Subject.Container},
		{"account", cmp.Or(s.Subject.ServiceAccount, row.account)}, {"user", s.Subject.User},
		{"object", s.Subject.Object}, {"node", cmp.Or(s.Subject.Node, row.node)}}
	if known {
		facts = append(facts, [2]string{"pod", row.phase + ", " + p.age(p.now.Sub(row.created)) + " old, " +
			plural.Count(int(row.restarts), "restart")})
	}
	if !wide {
		var words []string
		for _, f := range facts {
			if f[1] != "" && f[0] != "pod" && f[0] != "image" && f[0] != "container" {
				words = append(words, p.paint(faint, f[0])+" "+p.safe(f[1]))
			}
		}
		g.line(strings.Join(words, "  "))
	} else {
		g.blank()
		for _, f := range facts {
			if f[1] != "" {
				g.fact(f[0], f[1])
			}
		}
		if !s.FirstSeen.IsZero() {
			g.fact("first seen", s.FirstSeen.Format(time.DateTime)+", "+p.age(p.now.Sub(s.FirstSeen))+" ago")
		}
		if !s.LastSeen.IsZero() && !s.LastSeen.Equal(s.FirstSeen) {
			g.fact("last seen", s.LastSeen.Format(time.DateTime)+", "+p.age(p.now.Sub(s.LastSeen))+" ago")
		}
		g.heading(plural.Count(len(s.Findings), "finding"))
	}
	for _, f := range s.Findings {
		g.text(none, p.paint(faint, p.g.bullet)+" ", f.Reason)
		if !wide {
			continue
		}
		about := string(f.Source)
		if f.Technique.ID != "" {
			about = f.Technique.ID + " " + f.Technique.Name + ", " + about
		}
		if f.Count > 1 {
			about += ", seen " + itoa(int(f.Count)) + " times"
		}
		g.text(faint, "  ", about)
	}
	if book == nil || !wide {
		return
	}
	g.heading("Enter chooses the runbook that fits: " + p.safe(book.Name))
	g.text(faint, "", strings.Join(strings.Fields(book.Title+". "+book.Summary), " "))
	for _, phase := range book.Phases {
		var labels []string
		for i := range phase.Steps {
			labels = append(labels, phase.Steps[i].Label())
		}
		g.text(faint, p.cell(string(phase.Name), 13)+" ", strings.Join(labels, "; "))
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
