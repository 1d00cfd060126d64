package tui

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"irctl/internal/engine"
	"irctl/internal/plural"
	"irctl/internal/reflow"
	"irctl/internal/runbook"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

// view is the walk: where it is, the step at hand, and what can be done. The
// last lines are fixed; what is above them can be scrolled.
func (m *walk) view(p place, target string, spin int) []string {
	if m.book == nil {
		return []string{p.paint(faint, "opening"+p.g.more)}
	}
	if m.surface() == onSteps {
		return p.scrolled(m.stepList(p, p.w), m.scroll, p.w, p.h)
	}
	if p.w < 110 {
		head := m.strip(p)
		body := place{p.theme, p.w, p.h - len(head), p.now}
		return append(head, m.main(body, target, spin)...)
	}
	side := sideWidth(p.w)
	left := m.stepList(p, side)
	if len(left) > p.h {
		left = m.aroundAt(p, left)
	}
	right := m.main(place{p.theme, p.w - side - 3, p.h, p.now}, target, spin)
	out := make([]string, p.h)
	for i := range out {
		l, r := "", ""
		if i < len(left) {
			l = left[i]
		}
		if i < len(right) {
			r = right[i]
		}
		out[i] = p.cell(l, side) + " " + p.paint(faint, p.g.bar) + " " + r
	}
	return out
}

// sideWidth is how wide the list of steps is beside the step at hand.
func sideWidth(w int) int { return max(38, min(w*35/100, 70)) }

// strip is the walk in two lines: phases with their state, and a rule.
func (m *walk) strip(p place) []string {
	var parts, brief []string
	at := m.at
	if m.after != nil && m.after.step != "" {
		at = m.after.step // what is read about is there
	}
	for i := range m.book.Phases {
		phase := &m.book.Phases[i]
		mark, st := p.g.todo, faint
		done, here, wanting := 0, 0, false
		for j := range phase.Steps {
			switch s := m.steps[phase.Steps[j].Name]; {
			case s.outcome == "":
			case s.outcome != "done" && !s.notNeeded:
				wanting = true
				fallthrough
			default:
				done++
			}
			if phase.Steps[j].Name == at {
				here = j + 1
			}
		}
		switch {
		case here > 0:
			mark, st = p.g.now, strong
		case done == len(phase.Steps) && wanting: // something of it was left out, or failed
			mark, st = p.g.warn, warning
		case done == len(phase.Steps):
			mark, st = p.g.done, good
		}
		text := mark + string(phase.Name)
		if here > 0 {
			text += fmt.Sprintf(" %d/%d", here, len(phase.Steps))
		}
		parts = append(parts, p.paint(st, text))
		if here > 0 {
			brief = append(brief, " "+p.paint(st, text)+" ")
		} else {
			brief = append(brief, p.paint(st, mark))
		}
	}
	line := strings.Join(parts, " ")
	if ansi.StringWidth(line) > p.w { // only the phase at hand by its name
		line = strings.Join(brief, "")
	}
	return []string{p.fit(line, p.w), p.paint(faint, strings.Repeat(p.g.rule, p.w))}
}

// stepList is every step with its state and how long it took.
func (m *walk) stepList(p place, width int) []string {
	g := p.page(width)
	for i := range m.book.Phases {
		phase := &m.book.Phases[i]
		g.line(p.title(string(phase.Name)))
		for j := range phase.Steps {
			s := &phase.Steps[j]
			st := m.steps[s.Name]
			mark := m.mark(p, s.Name, st)
			took := ""
			switch {
			case !st.ended.IsZero() && !st.begun.IsZero() && !st.notNeeded:
				took = p.paint(faint, p.age(st.ended.Sub(st.begun)))
			case s.Name == m.at && !st.begun.IsZero() && st.outcome == "":
				took = p.age(p.now.Sub(st.begun))
			}
			label := p.safe(s.Label())
			if s.Name == m.at {
				label = p.paint(strong, label)
			} else if st.outcome == "" || st.notNeeded {
				label = p.paint(faint, label)
			}
			g.line(p.beside(" "+mark+" "+label, took, width))
		}
	}
	return g.lines
}

func (m *walk) mark(p place, name string, st stepState) string {
	switch {
	case name == m.at && st.outcome == "":
		return p.paint(accent, p.g.now)
	case st.notNeeded:
		return p.paint(faint, p.g.skipped)
	case st.outcome == "done":
		return p.paint(good, p.g.done)
	case st.outcome == "failed":
		return p.paint(bad, p.g.failed)
	case st.outcome == "refused", st.outcome == "partial":
		return p.paint(warning, p.g.warn)
	case st.outcome == "skipped":
		return p.paint(warning, p.g.skipped)
	}
	return p.paint(faint, p.g.todo)
}

// aroundAt is so much of the list as fits, with the step at hand in it.
func (m *walk) aroundAt(p place, lines []string) []string {
	at := 0
	for i := range m.book.Phases {
		at++
		for j := range m.book.Phases[i].Steps {
			if m.book.Phases[i].Steps[j].Name == m.at {
				from, to := list{at}.window(len(lines), p.h)
				return lines[from:to]
			}
			at++
		}
	}
	return lines[:p.h]
}

// main is the step at hand.
func (m *walk) main(p place, target string, spin int) []string {
	top, bottom := m.content(p, target, spin)
	height := max(1, p.h-len(bottom))
	out := p.scrolled(top, m.scroll, p.w, height)
	for len(out) < height {
		out = append(out, "")
	}
	return append(out, bottom...)
}

// content is what can be scrolled, and what stays below it.
func (m *walk) content(p place, target string, spin int) (top, bottom []string) {
	g, b := p.page(p.w), p.page(p.w)
	at := m.surface()
	if at == onLine {
		b.line(m.typing.view(p.theme, p.w))
		m.middleView(m.middle(), g, p.page(p.w), p, target, spin)
		return g.lines, b.lines
	}
	m.middleView(at, g, b, p, target, spin)
	return g.lines, b.lines
}

// middleView draws what a surface of the walk shows.
func (m *walk) middleView(at surface, g, b *page, p place, target string, spin int) {
	switch at {
	case onPassphrase:
		m.unlocking.view(g, b, p, m.signer)
	case onInput, onInputs:
		m.form.view(g, p)
	case onChoice:
		m.choice.view(g, p)
	case onSteps: // with a line below; without one it has the whole screen
		g.lines = append(g.lines, m.stepList(p, p.w)...)
	case onAfter:
		m.after.view(g, p)
		if m.after.live && m.after.verdict == contain.NotContained && m.again > 0 {
			b.line(p.paint(warning, p.g.spin[spin%len(p.g.spin)]+
				" pods that were taken down take a moment to end: it is looked at again"+p.g.more))
		}
		if m.after.again() {
			b.line(p.paint(picked, " r: do it again, e then changes its inputs. Enter goes on. "))
		} else {
			b.line(p.paint(picked, " Enter goes on. "))
		}
	case onConfirm, onUndoPlan, onStepAtHand, onQuestion:
		if m.plan != nil {
			m.planView(g, p)
		} else {
			m.questionView(g, p)
		}
		m.armedView(b, p, target)
	case onAskedValue:
		m.questionView(g, p)
		b.line(m.value.view(p.theme, p.w))
	case onOpening:
		g.line(p.paint(faint, "opening, as soon as the cluster answers"+p.g.more))
	case onPausedWalk:
		m.pausedView(g, p)
	default:
		m.workView(g, p, spin)
	}
}

func (c *choice) view(g *page, p place) {
	g.text(strong, "", c.title)
	g.blank()
	for i, r := range c.rows {
		g.line(home{}.row(p, i == c.list.at, p.w, p.safe(r)))
	}
}

// headView names the step and says why it is done.
func (m *walk) headView(g *page, p place) {
	s := m.step()
	if s == nil {
		return
	}
	g.line(p.title(p.safe(s.Label())) + p.paint(faint, "  "+string(s.Phase())+" / "+s.Name))
	if s.Why != "" {
		g.text(none, p.paint(faint, "why")+"  ", s.Why)
	}
	if c := s.Condition(); c != nil {
		g.text(faint, "if   ", strings.Join(strings.Fields(c.String()), " "))
	}
}

// maxShown is how many changes of a plan are shown one by one.
const maxShown = 200

func (m *walk) planView(g *page, p place) {
	plan := &m.plan.proposal
	if m.undoes {
		g.line(p.title("Put back what was changed"))
	} else {
		m.headView(g, p)
	}
	if m.undoes {
		g.heading("It puts back " + plural.Count(plan.Actions(), "change"))
	} else {
		g.heading("It will make " + plural.Count(plan.Actions(), "change"))
	}
	n := 0
	each := func(show func(n int, a *steps.Action)) {
		n = 0
		for _, s := range plan.Steps {
			for i := range s.Plan.Actions {
				if n++; n <= maxShown {
					show(n, &s.Plan.Actions[i])
				}
			}
		}
	}
	each(func(n int, a *steps.Action) { g.text(none, p.cell(itoa(n), 2)+" ", a.Summary) })
	for _, s := range plan.Steps {
		for _, r := range s.Plan.Refusals {
			g.text(warning, p.paint(warning, p.g.skipped)+" ", "not done: "+r.Object+": "+r.Reason)
		}
	}
	for _, w := range plan.Warnings {
		prefix := ""
		if len(w.Targets) == 1 {
			prefix = w.Targets[0] + ": "
		} else if len(w.Targets) > 1 {
			prefix = plural.Count(len(w.Targets), "target") + ": "
		}
		g.text(warning, p.paint(warning, p.g.warn)+" ", prefix+w.Text)
		if w.Fix != "" {
			g.text(faint, "  "+p.g.arrow+" ", m.advice(w.Fix))
		}
	}
	switch {
	case plan.Sealed:
		g.text(none, p.paint(good, p.g.done)+" ", plan.Evidence)
	case plan.Evidence != "":
		g.text(warning, p.paint(warning, p.g.warn)+" ", plan.Evidence)
	}
	g.heading("In detail, and what kubectl would do it with")
	each(func(n int, a *steps.Action) {
		g.text(strong, p.cell(itoa(n), 2)+" ", a.Change.Object.String())
		g.changes("     ", a.Diff)
		switch {
		case strings.HasPrefix(a.Command, "("): // there is no such command, and why
			g.text(faint, "     ", a.Command)
		case a.Command != "":
			g.text(faint, "   $ ", a.Command)
		}
	})
	if n > maxShown {
		g.text(faint, "   ", fmt.Sprintf("and %d more of the same kind; irctl contain --dry-run -v shows every one",
			n-maxShown))
	}
}

// commandFlag is one of the command that does what the step does.
var commandFlag = regexp.MustCompile(`--[a-z]+(?:-[a-z]+)*`)

// advice is a text that may name flags of a command with the inputs of the step
// instead, which are changed here.
func (m *walk) advice(text string) string {
	s := m.step()
	if s == nil || m.undoes {
		return text
	}
	return commandFlag.ReplaceAllStringFunc(text, func(f string) string {
		words := strings.Split(f[2:], "-")
		for i := range words[1:] {
			words[i+1] = strings.ToUpper(words[i+1][:1]) + words[i+1][1:]
		}
		name := strings.Join(words, "")
		for _, field := range s.Editable() {
			if field.Name == name || field.Name == name+"s" {
				return "the input " + field.Name + " (e changes it)"
			}
		}
		return f
	})
}

// changes adds the lines of a diff. Of a pair of long lines that says what was and
// what will be, what differs is shown, with what is around it.
func (p *page) changes(indent string, lines []string) {
	const most = 600 // runes of one line: an object that holds a program is no diff to read
	width := p.width - len(indent)
	add := func(line string) {
		text := p.safe(line)
		if n := len([]rune(text)); n > most {
			text = string([]rune(text)[:most]) + p.g.more
		}
		for i, l := range wrap(text, width-4) {
			if i > 0 { // it has its sign, too, for who sees no colours
				l = text[:1] + "   " + strings.TrimLeft(l, " ")
			}
			p.line(indent + p.diff(l))
		}
	}
	for i := 0; i < len(lines); i++ {
		if i+1 < len(lines) && strings.HasPrefix(lines[i], "-") && strings.HasPrefix(lines[i+1], "+") &&
			max(len(lines[i]), len(lines[i+1])) > width {
			before, after := p.differing(lines[i], lines[i+1])
			add(before)
			add(after)
			i++
			continue
		}
		add(lines[i])
	}
}

// differing cuts two lines of a diff, which begin with their signs and a name,
// down to where they differ. Cuts are made where the values of JSON are apart.
func (t theme) differing(before, after string) (string, string) {
	const around, apart = 80, ",{["
	head := 1
	if i := strings.Index(before, ": "); i > 0 && strings.HasPrefix(after[1:], before[1:i+2]) {
		head = i + 2
	}
	a, b := []rune(before[head:]), []rune(after[head:])
	from := 0
	for from < min(len(a), len(b)) && a[from] == b[from] {
		from++
	}
	same := 0
	for same < min(len(a), len(b))-from && a[len(a)-1-same] == b[len(b)-1-same] {
		same++
	}
	start := max(0, from-around)
	if i := strings.LastIndexAny(string(a[start:from]), apart); i >= 0 {
		start += len([]rune(string(a[start:from])[:i])) + 1
	}
	cut := func(head string, r []rune) string {
		end := len(r) - same
		if i := strings.IndexAny(string(r[end:min(len(r), end+around)]), ",}]"); i >= 0 {
			end += len([]rune(string(r[end:])[:i]))
		} else {
			end = min(len(r), end+around)
		}
		text := string(r[start:max(start, end)])
		if start > 0 {
			text = t.g.more + text
		}
		if end < len(r) {
			text += t.g.more
		}
		return head + text
	}
	return cut(before[:head], a), cut(after[:head], b)
}

func (m *walk) questionView(g *page, p place) {
	q := &m.question.question
	m.headView(g, p)
	switch q.Kind {
	case engine.AskManual:
		g.blank()
		for _, l := range reflow.Lines(p.safeText(q.Text)) {
			indent := l[:len(l)-len(strings.TrimLeft(l, " "))]
			if strings.HasPrefix(strings.TrimLeft(l, " "), "- ") {
				g.wrapped(none, indent+p.g.bullet+" ", strings.TrimLeft(l, " -"))
				continue
			}
			g.wrapped(none, indent, strings.TrimLeft(l, " "))
		}
	case engine.AskParameter:
		g.text(none, "", q.Text)
	case engine.AskFailed:
		g.blank()
		g.text(bad, p.g.failed+" ", q.Text)
		g.blank()
		g.text(none, "", "r tries it again, s goes on without it, q leaves the walk here.")
	default:
		g.blank()
		g.text(none, p.paint(faint, "does")+" ", m.doing)
		m.inputsView(g)
		g.blank()
		if q.Kind == engine.AskStep {
			g.text(faint, "", "It changes nothing in the cluster.")
		}
	}
}

// answersOf are a question's own answers; skip and stop have keys of their own.
func answersOf(q *engine.Question) []string {
	return slices.DeleteFunc(slices.Clone(q.Choices), func(c string) bool {
		return c == engine.AnswerSkip || c == engine.AnswerStop
	})
}

func (m *walk) inputsView(g *page) {
	s := m.step()
	if s == nil {
		return
	}
	for _, f := range s.Editable() {
		if v, ok := m.ready[f.Name]; ok && runbook.Format(v) != "" {
			g.fact(f.Name, runbook.Format(v))
		}
	}
}

// answersView are the answers, which must be on the screen however long the
// question, or the note to it, is. A number stays beside its word.
func (m *walk) answersView(b *page, p place) {
	if m.by != "" {
		b.line("by " + p.g.arrow + " " + p.paint(accent, p.safe(m.by)))
	}
	if m.note != "" {
		b.line("note " + p.g.arrow + " " + p.paint(accent, p.safe(m.note)))
	}
	const gap = "   "
	line := p.paint(faint, "answer:")
	for i, c := range answersOf(&m.question.question) {
		one := p.paint(picked, " "+itoa(i+1)+" ") + " " + p.safe(c)
		switch {
		case ansi.StringWidth(line+gap+one) <= p.w:
			line += gap + one
		default:
			b.line(line)
			line = one
		}
	}
	b.line(line)
}

// armedView says, once the key was pressed, what the confirming one would do.
func (m *walk) armedView(b *page, p place, target string) {
	switch {
	case m.armed != nil && m.plan == nil:
		b.wrapped(danger, "", p.safe(fmt.Sprintf(" %s%s: %s. Any other key: nothing is done. ", confirmSign,
			m.armed.what, target)))
	case m.armed != nil:
		b.wrapped(danger, "", p.safe(fmt.Sprintf(" %s%s on %s. Any other key: nothing is done. ", confirmSign,
			m.armed.what, target)))
	case m.plan != nil && m.undoes:
		b.line(p.paint(picked, " r: put back "+plural.Count(m.plan.proposal.Actions(), "change")+" (asks once more) "))
	case m.plan != nil:
		warned := ""
		if n := len(m.plan.proposal.Warnings); n > 0 {
			warned = "  " + p.paint(warning, p.g.warn+" "+plural.Count(n, "warning"))
		}
		b.line(p.paint(picked, " r: make "+plural.Count(m.plan.proposal.Actions(), "change")+" (asks once more) ") +
			warned)
	case m.question.question.Kind == engine.AskStep || m.question.question.Kind == engine.AskConfirm:
		b.line(p.paint(picked, " r: run this step "))
	case m.question.question.Kind == engine.AskManual:
		m.answersView(b, p)
	}
}

func (m *walk) pausedView(g *page, p place) {
	switch {
	case m.stopped.text() != "":
		g.line(p.paint(danger, " THE WALK STOPPED "))
		g.blank()
		g.text(bad, p.g.failed+" ", m.stopped.text())
	default:
		g.line(p.paint(notice, " THE WALK IS PAUSED "))
	}
	g.blank()
	m.headView(g, p)
	g.blank()
	g.text(none, "", "r goes on there. Everything that was done is in the timeline, and can be undone with u.")
}

// workView is a step at work.
func (m *walk) workView(g *page, p place, spin int) {
	w := &m.work
	switch {
	case m.undoes:
		g.line(p.title("Putting back what was changed"))
	default:
		m.headView(g, p)
	}
	g.blank()
	wheel := p.paint(accent, p.g.spin[spin%len(p.g.spin)])
	took := ""
	if !w.since.IsZero() {
		took = " " + p.paint(faint, clock(p.now.Sub(w.since)))
	}
	switch {
	case w.waiting != "":
		g.text(none, wheel+" ", "waiting: "+w.waiting)
		toGo := ""
		if left := w.until.Sub(p.now); !w.until.IsZero() {
			toGo = p.paint(faint, "; at most ") + clock(left) + p.paint(faint, " more")
		}
		g.line("  " + took + toGo)
		g.text(faint, "   ", "x stops waiting: what was done stays, and u can put it back.")
	case w.artefacts > 0 || w.bytes > 0:
		g.line(wheel + " " + plural.Count(w.artefacts, "artefact") + ", " + byteCount(w.bytes) +
			rate(w.bytes, p.now.Sub(w.since)) + took)
		g.text(faint, "  ", w.current)
	case w.total == 0:
		g.text(none, wheel+" ", cmp.Or(m.doing, "planning it: looking at the cluster")+p.g.more)
		g.line("  " + took)
	default:
		g.line(wheel + took)
	}
	if w.total > 0 {
		g.line("  " + p.progress(w.done, w.total, min(40, p.w-16)) + " " + itoa(w.done) + " of " + itoa(w.total))
	}
	g.blank()
	lines := w.lines
	if room := max(3, p.h-len(g.lines)-1); len(lines) > room {
		lines = lines[len(lines)-room:]
	}
	for _, l := range lines {
		g.text(none, p.paint(l.style, l.mark)+" ", l.text)
	}
}

func byteCount(n int64) string {
	const unit = 1024
	if n < unit {
		return itoa(int(n)) + " B"
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 3 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGT"[i])
}

func rate(n int64, d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return ", " + byteCount(int64(float64(n)/d.Seconds())) + "/s"
}
