package tui

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/plural"
)

// pressed takes a key, for what is drawn.
func (m *root) pressed(key tea.KeyMsg) tea.Cmd {
	if key.String() == "ctrl+c" {
		return m.askedToQuit()
	}
	if m.toast.style == none {
		m.toast = toast{} // it was said of the key before
	}
	at := m.surface()
	if at.types() {
		return m.typed(at, key)
	}
	if one, times := held(key, m.keyContexts()...); times > 0 {
		var cmds []tea.Cmd
		for range times {
			cmds = append(cmds, m.pressed(one))
		}
		return tea.Batch(cmds...)
	}
	a := actionOf(key, m.keyContexts()...)
	switch at {
	case onLeaving: // but ctrl+c, nothing
		return nil
	case onAsking:
		m.asking = ""
		if a == actConfirm {
			return m.quit()
		}
		return nil
	case onTooSmall:
		if a == actQuit && !m.covering().types() { // what is being typed may have that letter
			return m.askedToQuit()
		}
		return nil
	case onConfirm:
		return m.confirmPressed(a)
	}
	switch {
	case a == actQuit:
		return m.askedToQuit()
	case at == onLookup || at == onBriefing:
		return m.overlayPressed(a)
	case slices.Contains(lookup, a):
		return m.lookUp(a)
	}
	switch at {
	case onIncidents:
		return m.homePressed(a)
	case onParameters:
		return m.preparePressed(a)
	case onResult:
		return m.endPressed(a)
	}
	return m.walkPressed(at, key, a)
}

// ofAnIncident are the look-ups that tell of an incident.
var ofAnIncident = []action{actTimeline, actEvidence, actOpen, actChanges, actReport}

// lookUp opens an overlay; on the first screen it tells of the incident under the cursor.
func (m *root) lookUp(a action) tea.Cmd {
	var cmds []tea.Cmd
	id := incident.ID("")
	if m.file != nil {
		id = m.file.ID
	}
	if m.screen == onHome && slices.Contains(ofAnIncident, a) {
		s, _ := m.home.chosen()
		if s == nil {
			m.say(none, "choose an incident first")
			return nil
		}
		if s.ID != id {
			m.file, m.status, m.changes = nil, nil, nil
			cmds = append(cmds, m.read(s.ID, 0))
		}
		id = s.ID
	}
	m.overlay = overlay{kind: a}
	if a == actReport && id != "" {
		m.report = nil
		cmds = append(cmds, m.desk.report(id, m.lastLook()))
	}
	return tea.Batch(cmds...)
}

func (m *root) overlayPressed(a action) tea.Cmd {
	switch {
	case a == actBack || a == m.overlay.kind:
		m.overlay = overlay{}
	case slices.Contains(lookup, a):
		return m.lookUp(a)
	default:
		p := m.body()
		m.overlay.scroll = scrolledTo(m.overlay.scroll, a, len(m.overlayLines(p)), p.h)
	}
	return nil
}

// askedToQuit is ctrl+c, and q. What is under way is not ended by one key.
func (m *root) askedToQuit() tea.Cmd {
	if m.atWork() && !m.leaving && m.asking == "" {
		m.asking = "A step is at work. Press " + confirmKey + " to stop it and quit; any other key: it goes on."
		return nil
	}
	return m.quit()
}

func (m *root) typed(at surface, key tea.KeyMsg) tea.Cmd {
	w := &m.walk
	switch at {
	case onPodTable:
		a := actionOf(key, m.keyContexts()...)
		if a == actChoose || a == actBack {
			return m.podsPressed(a)
		}
		m.pods.page = max(1, m.body().h-4)
		m.pods = m.pods.typed(key, a)
	case onParameter:
		m.prepare = m.prepare.typed(key)
	case onAlertPaste:
		return m.alertTyped(key)
	case onPassphrase:
		return m.unlockTyped(key)
	case onInput:
		w.form = w.form.typed(key, m.o.Namespace)
	case onAskedValue:
		return m.valueTyped(key)
	case onLine:
		return m.lineTyped(key)
	}
	return nil
}

func (m *root) homePressed(a action) tea.Cmd {
	switch a {
	case actChoose:
		s, suspect := m.home.chosen()
		switch {
		case suspect != nil:
			m.suspectChosen(suspect)
		case s != nil:
			return m.enter(s)
		}
	case actPods:
		if m.engine == nil {
			m.say(warning, "there is no connection to the cluster yet")
			return nil
		}
		m.screen = onPods
		m.pods.filter, m.pods.typing = "", newInput(podsPrompt, "")
		m.pods = m.pods.match()
		if m.stopPods != nil {
			m.stopPods()
		}
		var ctx context.Context
		ctx, m.stopPods = context.WithCancel(m.ctx)
		return m.followPods(ctx, m.engine)
	case actAlert:
		m.alert, m.screen = alert{}, onAlert
	case actNew:
		m.prepare, m.screen = newPrepare(m.library, m.o), onPrepare
	case actRefresh:
		m.home.looking, m.home.lookErr = true, nil
		if m.engine == nil {
			m.connecting = true
			return m.connect()
		}
		return tea.Batch(m.list(), m.look())
	default:
		m.home.moved = true
		m.home.list = m.home.list.moved(a, m.home.rows(), m.body().h/2)
	}
	return nil
}

func (m *root) podsPressed(a action) tea.Cmd {
	switch a {
	case actBack:
		m.screen = onHome
	case actChoose:
		r := m.pods.chosen()
		if r == nil {
			return nil
		}
		if s := m.pods.suspects[r.key()]; s != nil {
			m.suspectChosen(s)
		} else {
			m.prepare = newPrepare(m.library, m.o)
			m.prepare.pods = []string{r.key()}
			m.screen = onPrepare
		}
	default:
		return nil
	}
	if m.stopPods != nil {
		m.stopPods()
		m.stopPods = nil
	}
	return nil
}

func (m *root) alertTyped(key tea.KeyMsg) tea.Cmd {
	switch a := actionOf(key, inAlert); {
	case a == actBack:
		m.screen = onHome
		return nil
	case a == actChoose && len(m.alert.suspects) > 0:
		m.suspectChosen(&m.alert.suspects[m.alert.list.at])
		return nil
	case a == actUp, a == actDown:
		m.alert.list = m.alert.list.moved(a, len(m.alert.suspects), 1)
		return nil
	case a == actEmpty:
		m.alert.text = ""
		return m.parse("")
	}
	var more bool
	if m.alert, more = m.alert.typed(key); more {
		return m.parse(m.alert.text)
	}
	return nil
}

func (m *root) preparePressed(a action) tea.Cmd {
	switch a {
	case actBack:
		m.screen = onHome
	case actStart:
		if !m.prepare.loaded {
			m.prepare.starting = true // in a moment
			return nil
		}
		b, err := m.prepare.begin()
		if err != nil {
			m.prepare.err = err
			m.say(bad, err.Error())
			return nil
		}
		return m.start(b)
	default:
		m.prepare.starting = false
		m.prepare = m.prepare.act(a)
	}
	return nil
}

func (m *root) endPressed(a action) tea.Cmd {
	switch a {
	case actGoOn, actBack:
		return m.goHome()
	case actCopy:
		if m.file != nil {
			return m.copyText(m.file.dir)
		}
	case actUndo:
		return m.chooseUndo()
	default:
		p := m.body()
		m.endScroll = scrolledTo(m.endScroll, a, 100000, p.h)
	}
	return nil
}

func (m *root) goHome() tea.Cmd {
	m.screen, m.walk.then = onHome, nil
	m.home.moved = false
	cmds := []tea.Cmd{m.list()}
	if m.walk.number != 0 {
		cmds = append(cmds, m.walk.pause())
	}
	if m.engine != nil {
		m.home.looking = true
		cmds = append(cmds, m.look())
	}
	return tea.Batch(cmds...)
}

// walkPressed takes a key in the walk.
func (m *root) walkPressed(at surface, key tea.KeyMsg, a action) tea.Cmd {
	w := &m.walk
	switch at {
	case onInputs:
		return m.formPressed(a)
	case onChoice:
		return m.choicePressed(a)
	case onSteps:
		if a == actBack {
			w.allSteps, w.scroll = false, 0
			return nil
		}
	case onQuestion:
		if n, err := strconv.Atoi(key.String()); err == nil && pressed(key) {
			return m.answered(n)
		}
		if a == actRun {
			m.say(none, "this is done by you: answer with the number of what you did, or decided")
			return nil
		}
	}
	switch a {
	case actSteps:
		w.allSteps, w.scroll = true, 0
	case actBack:
		switch {
		case at == onUndoPlan:
			return w.decide(engine.No, nil)
		case !w.busy():
			return m.goHome()
		}
	case actNote:
		m.noteAt(at)
	case actGoOn:
		return m.read1()
	case actUndo:
		return m.chooseUndo()
	case actCopy:
		return m.copyText(w.commands())
	case actAgain:
		if w.after.again() {
			return m.again(w.after.step, "it does not hold")
		}
	case actCancel:
		if w.cancel != nil {
			w.cancel()
			m.say(warning, "cancelling; what was begun is seen to its end")
		}
	case actRun, actSkip, actEdit, actWho:
		return m.decided(a)
	default:
		p := m.body()
		w.scroll = scrolledTo(w.scroll, a, m.walkLines(p), p.h)
	}
	return nil
}

// noteAt begins a note: to the answer that is asked for, or into the timeline.
func (m *root) noteAt(at surface) {
	w := &m.walk
	switch {
	case at == onQuestion:
		w.write(actNote, "Note to your answer:", w.note)
		w.typedOf = w.question
	case w.begin.incident == "":
		m.say(warning, "there is no incident yet")
	default:
		w.write(actNote, "Note:", "")
	}
}

// walkLines is how many lines there are to scroll.
func (m *root) walkLines(p place) int {
	w := m.walk
	switch {
	case w.book == nil:
		return 0
	case w.allSteps:
		return len(w.stepList(p, p.w))
	case p.w >= 110:
		p.w -= sideWidth(p.w) + 3
	default:
		p.h -= 2
	}
	top, bottom := w.content(p, m.target(p.w), 0)
	return len(top) + len(bottom) + m.body().h - p.h
}

// read1 is that somebody has read what came of a step.
func (m *root) read1() tea.Cmd {
	w := &m.walk
	w.after, w.scroll = nil, 0
	if len(w.later) > 0 {
		w.after, w.later = w.later[0], w.later[1:]
		return nil
	}
	if w.number != 0 {
		return nil // what comes next is there, or will be
	}
	if s := w.stopped; s != nil && s.result != nil && s.result.State == engine.RunFinished && s.err == nil {
		m.screen, m.endScroll = onEnd, 0
		return nil
	}
	if s := w.stopped; s != nil && s.text() == "" && !m.leaving {
		return m.goOn() // after an undo
	}
	return nil
}

// decided takes what is to become of the step at hand.
func (m *root) decided(a action) tea.Cmd {
	w := &m.walk
	if w.number == 0 {
		if a == actRun {
			return m.goOn()
		}
		return nil
	}
	if !w.waits() {
		return nil
	}
	manual := w.question != nil && w.question.question.Kind == engine.AskManual
	failed := w.question != nil && w.question.question.Kind == engine.AskFailed
	switch a {
	case actRun:
		switch {
		case manual:
		case failed:
			w.work = work{since: m.now}
			return w.answer(engine.Answer{Choice: engine.AnswerRetry})
		case w.question != nil && w.question.question.Kind == engine.AskStep:
			return m.doing()
		case w.plan != nil && w.undoes:
			m.arm("put back " + plural.Count(w.plan.proposal.Actions(), "change"))
		case w.plan != nil:
			m.arm("make " + plural.Count(w.plan.proposal.Actions(), "change"))
		default:
			m.arm(w.doing)
		}
	case actSkip:
		if w.undoes {
			return w.decide(engine.No, nil)
		}
		w.write(actSkip, "Why is it left out?", "")
		w.typedOf = w.asks()
	case actEdit:
		if s := w.step(); s != nil && !w.undoes && !manual && !failed && len(s.Editable()) > 0 {
			w.form = newForm(s, w.ready)
		} else {
			m.say(none, "there is nothing to change in this step")
		}
	case actWho:
		if manual {
			w.write(actWho, "Who did it, or decided?", w.by)
			w.typedOf = w.asks()
		}
	}
	return nil
}

// confirmed is the deliberate key, after it was said what it does. What is done
// then has that digest, however long the key that signs is waited for.
func (m *root) confirmed(d digest) tea.Cmd {
	plan := m.walk.plan
	if plan == nil {
		return m.doing()
	}
	return m.signing(plan.proposal.Sealed && !m.walk.undoes, func(w *walk) tea.Cmd {
		if w.plan != plan || w.digest() != d {
			return nil
		}
		w.work = work{since: m.now}
		return w.decide(engine.Yes, nil)
	})
}

// doing has the step done that is asked about.
func (m *root) doing() tea.Cmd {
	q := m.walk.question
	if q == nil {
		return nil
	}
	return m.signing(q.question.Seals, func(w *walk) tea.Cmd {
		if w.question != q {
			return nil
		}
		w.work = work{since: m.now}
		return w.answer(engine.Answer{Choice: engine.AnswerDo})
	})
}

// answered gives a question one of its own answers.
func (m *root) answered(n int) tea.Cmd {
	w := &m.walk
	all := answersOf(&w.question.question)
	if n < 1 || n > len(all) {
		return nil
	}
	return w.answer(engine.Answer{Choice: all[n-1], By: w.by, Note: w.note})
}

func (m *root) formPressed(a action) tea.Cmd {
	w := &m.walk
	switch a {
	case actBack:
		w.form = nil
		return nil
	case actRun:
		f := w.form
		if f.err != nil {
			return nil
		}
		w.form = nil
		if len(f.texts) == 0 {
			return nil
		}
		return w.edited(f.texts)
	}
	w.form = w.form.act(a, m.o.Namespace)
	return nil
}

func (m *root) choicePressed(a action) tea.Cmd {
	w := &m.walk
	switch a {
	case actBack:
		w.choice = nil
		if w.number == 0 && w.stopped != nil && w.stopped.result != nil &&
			w.stopped.result.State == engine.RunFinished {
			m.screen = onEnd
		}
	case actChoose:
		act := w.choice.acts[w.choice.list.at]
		w.choice = nil
		return act(m)
	default:
		c := *w.choice
		c.list = c.list.moved(a, len(c.rows), 5)
		w.choice = &c
	}
	return nil
}

// undoable is the journal, read to tell what can be undone: what is shown may
// be older than what a step has just done.
type undoable struct {
	filed
	at surface // where it was asked for
}

func (m *root) chooseUndo() tea.Cmd {
	if m.file == nil || m.engine == nil {
		return nil
	}
	read, at := m.read(m.file.ID, 0), m.surface()
	return func() tea.Msg { return undoable{read().(filed), at} }
}

// offerUndo shows what can be undone, unless there is something else to be seen
// by now.
func (m *root) offerUndo(u undoable) tea.Cmd {
	cmd := m.filed(u.filed)
	if u.file == nil || m.file.ID != u.file.ID || m.surface() != u.at || m.walk.busy() {
		return cmd
	}
	if m.walk.choice = undoChoices(m.file.standing, m.walk.redoable(m.containment().verdict)); m.walk.choice == nil {
		m.say(none, "there is nothing to undo")
	} else {
		m.screen = onWalk
	}
	return cmd
}

// lineTyped takes a key of a line that is typed in the walk.
func (m *root) lineTyped(key tea.KeyMsg) tea.Cmd {
	w := &m.walk
	switch {
	case key.Type == tea.KeyEsc:
		w.typing = nil
	case key.Type == tea.KeyEnter && !key.Paste:
		text := w.typing.text()
		w.typing = nil
		return m.took(text)
	default:
		w.typing = w.typing.typed(key)
	}
	return nil
}

// valueTyped takes a key of the value of a parameter that is asked for.
func (m *root) valueTyped(key tea.KeyMsg) tea.Cmd {
	w := &m.walk
	switch {
	case key.Type == tea.KeyEsc:
		return m.goHome()
	case key.Type == tea.KeyEnter && !key.Paste:
		return w.answer(engine.Answer{Choice: w.value.text()})
	}
	w.value = w.value.typed(key)
	return nil
}

// took is what to do with a line that was typed.
func (m *root) took(text string) tea.Cmd {
	w := &m.walk
	if w.typedOf != nil && w.typedOf != w.asks() {
		m.say(warning, "nothing was done with that line: what it was about is not asked any more")
		return nil
	}
	switch w.typedFor {
	case actNote:
		if w.typedOf != nil {
			w.note = text
			return nil
		}
		if text == "" || m.engine == nil {
			return nil
		}
		m.notes++
		m.say(none, "the note is being written"+m.g.more)
		return m.note(m.engine.Actor(), w.begin.incident, w.at, text)
	case actWho:
		w.by = text
	case actSkip:
		if text == "" {
			m.say(warning, "not left out: say why")
			return nil
		}
		return w.skip(text)
	}
	return nil
}

// body is the part of the screen between what is always there.
func (m *root) body() place {
	return place{m.theme, m.w, max(1, m.h-headLines-footLines), m.now}
}

const tooSmall = "the terminal is too small (%dx%d); irctl needs 40x12, and is at ease from 80x24 on"

func (m *root) small() string {
	if m.w < 40 || m.h < 12 {
		return fmt.Sprintf(tooSmall, m.w, m.h)
	}
	return ""
}
