package tui

import (
	"slices"
	"strings"

	"irctl/internal/engine"
	"irctl/internal/plural"
	"irctl/internal/runbook"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	"irctl/internal/timeline"
)

// What is always on the screen, in lines.
// The size of a terminal that does not tell it, as a serial line.
const (
	usualWidth  = 80
	usualHeight = 24
)

const (
	headLines = 3
	footLines = 2
)

// View is the whole screen.
func (m root) View() string {
	m.glass.makes(m.confirming())
	if text := m.small(); text != "" {
		return m.frame(m.smallView(text, max(1, m.w)), max(1, m.w), max(1, m.h))
	}
	p := m.body()
	lines := m.head()
	body := m.bodyView(p)
	if len(body) > p.h {
		body = body[:p.h]
	}
	for len(body) < p.h {
		body = append(body, "")
	}
	return m.frame(append(append(lines, body...), m.foot()...), m.w, m.h)
}

// confirming is the number of the confirmation that is drawn; 0: there is none.
func (m *root) confirming() int {
	if m.surface() != onConfirm {
		return 0
	}
	return m.walk.armed.number
}

// smallView is what fits where nothing else does.
func (m *root) smallView(text string, width int) []string {
	switch {
	case m.leaving:
		return wrap(leavingText, width)
	case m.asking != "":
		return wrap(m.asking, width)
	}
	return wrap(text, width)
}

func (m *root) bodyView(p place) []string {
	switch m.covering() {
	case onLookup, onBriefing:
		return m.overlayView(p)
	case onPodTable:
		return m.pods.view(p)
	case onAlertPaste:
		return m.alert.view(p)
	case onParameters, onParameter:
		return m.prepare.view(p)
	case onIncidents:
		return m.home.view(p, m.fitting)
	case onResult:
		return m.endView(p)
	}
	return m.walk.view(p, m.target(p.w), m.spin)
}

const leavingText = "leaving: what is being written is finished first; ctrl+c leaves at once"

// fitting is the runbook that a suspect would be begun with.
func (m *root) fitting(s *detect.Suspect) *runbook.Runbook {
	return newPrepare(m.library, m.o).about(s).runbook()
}

// head is what must always be seen: incident, severity, cluster, namespace,
// clocks, containment.
func (m *root) head() []string {
	left := m.title("irctl")
	if m.o.Banner != "" {
		left = m.paint(banner, " "+m.safe(m.o.Banner)+" ") + " " + left
	}
	namespace := m.o.Only
	if f := m.file; f != nil && m.screen != onHome && m.screen != onPods && m.screen != onAlert {
		severity := strings.ToUpper(string(f.Severity))
		if severity == "" {
			severity = "SEV?"
		}
		st := warning
		if f.Severity == "sev1" || f.Severity == "sev2" {
			st = bad
		}
		left += "  " + m.paint(st, severity) + " " + m.title(string(f.ID))
		if len(f.Targets) > 0 {
			namespace = f.Targets[0].Namespace
		}
	}
	name, production := m.cluster()
	right := m.safe(name)
	switch {
	case production:
		right = m.paint(danger, " PRODUCTION "+right+" ")
	case m.connectErr != nil:
		right = m.paint(bad, m.g.failed+" "+right+": not connected")
	case m.connecting:
		right += " " + m.paint(faint, "connecting"+m.g.more)
	}
	if namespace != "" {
		right += m.paint(faint, " ns ") + m.safe(namespace)
	}
	return []string{m.beside(left, m.fit(right, m.w*2/3), m.w), m.clocks(),
		m.paint(faint, strings.Repeat(m.g.rule, m.w))}
}

// clocks are the second line: since detection, since containment, and how that stands.
func (m *root) clocks() string {
	f := m.file
	if f == nil || m.screen == onHome || m.screen == onPods || m.screen == onAlert {
		return m.paint(faint, plural.Count(len(m.home.open), "open incident")+", "+
			plural.Count(len(m.home.suspects), "suspect"))
	}
	j := m.containment()
	state := m.paint(danger, " "+m.g.failed+" NOTHING CONTAINED ")
	if !m.hasSuspect() {
		state = " " + m.g.skipped + " NO POD IS SUSPECT "
	}
	open := len(j.open) + len(j.unmet)
	more := ""
	if open > 0 {
		more = ", " + itoa(open) + " OPEN"
	}
	if j.accepted > 0 {
		more += ", " + itoa(j.accepted) + " ACCEPTED"
	}
	if n := len(j.doubts); n > 0 {
		more += ", " + strings.ToUpper(plural.Count(n, "doubt"))
	}
	switch j.verdict {
	case contain.Contained:
		state = m.paint(fine, " "+m.g.done+" CONTAINED"+more+" ")
		if j.accepted > 0 { // somebody says so, and nobody has seen it
			state = m.paint(notice, " CONTAINED"+more+" ")
		}
	case contain.Exposed:
		state = m.paint(notice, " "+m.g.warn+" CONTAINED"+more+" ")
	case contain.Undetermined:
		state = m.paint(notice, " "+m.g.warn+" COULD NOT TELL"+more+" ")
	case contain.NotContained:
		state = m.paint(danger, " "+m.g.failed+" NOT CONTAINED"+more+" ")
	}
	now, closed := m.now, ""
	if at := f.metrics.ClosedAt; !at.IsZero() {
		now, closed = at, "  closed"
	}
	word := "detected "
	if f.metrics.Sources[timeline.Detected] == 0 { // somebody opened it by hand
		word = "opened "
	}
	since := m.paint(faint, word) + m.title(clock(now.Sub(f.metrics.DetectedAt)))
	if !f.metrics.ContainedAt.IsZero() && (j.verdict == contain.Contained || j.verdict == contain.Exposed) {
		since += m.paint(faint, "  contained ") + m.title(clock(now.Sub(f.metrics.ContainedAt)))
	}
	since += m.paint(faint, closed)
	return m.beside(since, state, m.w)
}

// hasSuspect tells whether there is a pod to contain: one on the incident's
// record, or one that its runbook is gone through for. As long as neither is
// known, there is.
func (m *root) hasSuspect() bool {
	f := m.file
	if f.walk == nil || len(f.Targets) > 0 {
		return true
	}
	book := m.library.book(f.walk.Runbook.Name)
	return book == nil || slices.ContainsFunc(book.Parameters, func(p runbook.Parameter) bool {
		return p.Domain().Type == runbook.Pod && f.walk.Params[p.Name] != ""
	})
}

// foot is what was said in passing, and the keys.
func (m *root) foot() []string {
	var line string
	switch {
	case m.leaving:
		line = m.paint(faint, leavingText)
	case m.asking != "":
		line = m.paint(danger, " "+m.asking+" ")
	case m.toast.text != "":
		line = m.paint(m.toast.style, m.safe(m.toast.text))
	default:
		line = m.paint(faint, strings.Repeat(m.g.rule, m.w))
	}
	return []string{line, m.fit(m.keysLine(), m.w)}
}

// keysLine is the keys that mean something now.
func (m *root) keysLine() string {
	in := m.keyContexts()
	line := m.hints(m.w, m.useless(), in...)
	switch in[0] {
	case inArmed:
		line += "  " + m.paint(faint, "any other key: nothing is done")
	case inAsking:
		line += "  " + m.paint(faint, "any other key: it goes on")
	}
	return line
}

// useless are actions that the step at hand has no use for.
func (m *root) useless() (list []action) {
	w := &m.walk
	if m.screen == onHome && m.overlay.kind == "" {
		if s, _ := m.home.chosen(); s == nil {
			return ofAnIncident
		}
	}
	if m.screen != onWalk {
		return nil
	}
	if m.file == nil || len(m.file.standing)+len(w.redoable(m.containment().verdict)) == 0 {
		list = append(list, actUndo)
	}
	if w.after == nil || !w.after.again() {
		list = append(list, actAgain)
	}
	if w.commands() == "" {
		list = append(list, actCopy)
	}
	if w.question == nil {
		return list
	}
	switch w.question.question.Kind {
	case engine.AskManual:
		list = append(list, actRun, actEdit)
	case engine.AskFailed:
		list = append(list, actEdit)
	default:
		if s := w.step(); s != nil && len(s.Editable()) == 0 {
			list = append(list, actEdit)
		}
	}
	return list
}
