package tui

import (
	"context"
	"errors"

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/runbook"
)

// How a walk is begun, gone on with, paused and undone: what the engine's guide
// brings, and what then becomes of it.

// enter goes to the walk of an incident, where it has one, or to the choice of
// a runbook.
func (m *root) enter(s *summary) tea.Cmd {
	if s.walk != nil {
		if book, err := m.bookOf(s.walk); err == nil {
			return m.start(beginning{book: book, given: map[string]string{}, incident: s.ID})
		}
		m.say(warning, "its runbook "+s.walk.Runbook.Name+" is not here; choose another")
	}
	m.prepare = newPrepare(m.library, m.o).of(s)
	m.screen = onPrepare
	return m.read(s.ID, 0)
}

func (m *root) bookOf(w *engine.Walk) (*runbook.Runbook, error) {
	ref := w.Runbook.Name
	if runbook.IsPath(w.Runbook.Source) {
		ref = w.Runbook.Source
	}
	return m.o.Library.Find(ref)
}

// start begins a walk, or goes on with it.
func (m *root) start(b beginning) tea.Cmd {
	m.prepare.starting = false
	m.walk = walk{begin: b, book: b.book, id: b.incident, signer: m.o.Signer}
	m.screen = onWalk
	m.status, m.report = nil, nil
	if m.file != nil && m.file.ID != b.incident {
		m.file = nil
	}
	cmds := []tea.Cmd{m.opening()}
	if b.incident != "" {
		cmds = append(cmds, m.read(b.incident, 0))
	}
	return tea.Batch(cmds...)
}

// opening opens the incident; if there is no cluster yet, once it answers.
func (m *root) opening() tea.Cmd {
	switch {
	case m.engine != nil:
		return m.open(m.engine, m.walk.begin)
	case m.connecting:
		return nil
	}
	m.connecting = true
	return m.connect()
}

func (m *root) opened(o opened) tea.Cmd {
	if o.err != nil {
		m.walk.stopped = &ended{err: o.err}
		return nil
	}
	m.walk.begin, m.walk.id = o.begin, o.begin.incident
	return m.goOn()
}

// goOn runs the walk from where it is.
func (m *root) goOn() tea.Cmd {
	if m.walk.number != 0 {
		return nil
	}
	if m.engine == nil {
		m.walk.stopped = nil
		return m.opening()
	}
	m.numbers++
	m.walk.over()
	m.walk.number, m.walk.stopped, m.walk.after, m.walk.later, m.walk.work = m.numbers, nil, nil, nil,
		work{since: m.now}
	ctx, cancel := context.WithCancelCause(m.ctx)
	m.walk.cancel = func() { cancel(engine.ErrPaused) }
	return m.run(ctx, m.engine, m.walk.begin, m.numbers)
}

// walked takes what a guide brings.
func (m *root) walked(msg tea.Msg) tea.Cmd {
	w := &m.walk
	switch msg := msg.(type) {
	case proposed:
		if msg.guide != w.number {
			return refuse(msg.reply, nil)
		}
		m.incidentIs(incident.ID(msg.proposal.Incident))
		w.plan, w.armed, w.scroll = &msg, nil, 0
		if m.leaving {
			return w.pause()
		}
		return m.reread()
	case asked:
		if msg.guide != w.number {
			return refuse(nil, msg.reply)
		}
		w.question, w.armed, w.scroll = &msg, nil, 0
		if m.leaving {
			return w.pause()
		}
		if msg.question.Kind == engine.AskParameter {
			w.value = newInput(msg.question.Text, msg.question.Default)
		}
		return m.findIncident()
	case happened:
		if msg.guide == w.number {
			w.happened(msg, m.theme)
		}
		if r := msg.event.Result; msg.event.Kind == engine.Left && r != nil && r.Uses != "manual" && r.Uses != "note" {
			m.stale, m.walk.again = true, mostAgain
		}
		if msg.event.Kind == engine.Entered || msg.event.Kind == engine.Left {
			return m.findIncident()
		}
	case ended:
		if msg.guide == w.number {
			return m.ended(msg)
		}
	case undone:
		if msg.guide == w.number {
			return m.undone(msg)
		}
	}
	return nil
}

func refuse(plan chan<- approval, question chan<- answered) tea.Cmd {
	return func() tea.Msg {
		if plan != nil {
			plan <- approval{engine.No, engine.ErrPaused}
		} else {
			question <- answered{err: engine.ErrPaused}
		}
		return nil
	}
}

func (m *root) incidentIs(id incident.ID) {
	if id != "" && m.walk.begin.incident == "" {
		m.walk.begin.incident, m.walk.id = id, id
	}
}

// findIncident reads the incident of the walk; of one that the run itself
// opened it is the newest with this runbook under way.
func (m *root) findIncident() tea.Cmd {
	id := m.walk.begin.incident
	if id != "" {
		return m.read(id, 0)
	}
	name, d := m.walk.book.Name, m.desk
	return func() tea.Msg {
		open, _ := d.o.Store.FindOpen(d.ctx, func(incident.Incident) bool { return true })
		for _, i := range open {
			entries, err := d.entries(i.ID)
			if err != nil {
				continue
			}
			if walks := engine.WalksOf(entries); len(walks) > 0 && walks[len(walks)-1].Runbook.Name == name {
				return d.read(i.ID, 0)()
			}
		}
		return nil
	}
}

// ended is a run that is over: it is gone through, or it stopped somewhere.
func (m *root) ended(e ended) tea.Cmd {
	w := &m.walk
	w.over()
	w.stopped = &e
	if e.result != nil {
		m.incidentIs(incident.ID(e.result.Incident))
		m.last = e.result
	}
	cmds := []tea.Cmd{m.reread()}
	if e.result != nil && e.result.State == engine.RunFinished && e.err == nil {
		if w.after == nil && m.screen == onWalk {
			m.screen, m.endScroll = onEnd, 0
		}
		cmds = append(cmds, m.desk.report(w.begin.incident, m.lastLook()))
	}
	if then := w.then; then != nil {
		w.then = nil
		cmds = append(cmds, then(m))
	}
	return tea.Batch(append(cmds, m.leave())...)
}

func (m *root) undone(u undone) tea.Cmd {
	w := &m.walk
	w.over()
	m.stale = true
	switch {
	case errors.Is(u.err, engine.ErrPaused): // a person left it
	case u.err != nil:
		m.say(bad, "undo: "+u.err.Error())
	case u.result.Cancelled:
		m.say(none, "nothing was undone")
		if !m.leaving && m.screen == onWalk {
			w.stopped = &ended{err: engine.ErrPaused}
			return tea.Batch(m.reread(), m.goOn())
		}
	default:
		a := &after{title: "What was put back"}
		a.undone(u.result)
		w.after, w.scroll = a, 0
	}
	w.stopped = &ended{err: engine.ErrPaused}
	m.status = nil
	return tea.Batch(m.reread(), m.leave())
}

// again has a step done once more that is over, once the run has let go of the
// incident; the run then goes on there.
func (m *root) again(step, why string) tea.Cmd {
	w := &m.walk
	reopen := func(m *root) tea.Cmd { return m.desk.reopen(m.engine, m.walk.begin.incident, m.walk.book, step, why) }
	w.after, w.later = nil, nil
	if w.number == 0 {
		return reopen(m)
	}
	w.then = reopen
	return w.pause()
}

func (m *root) reopened(r reopened) tea.Cmd {
	if r.err != nil {
		m.say(bad, "it is not done again: "+r.err.Error())
	}
	if m.screen != onWalk || m.leaving {
		return m.reread()
	}
	m.walk.at = r.step
	return tea.Batch(m.reread(), m.goOn())
}

// undo begins one, once the run has let go of the incident.
func (m *root) undo(req engine.UndoRequest) tea.Cmd {
	w := &m.walk
	begin := func(m *root) tea.Cmd {
		m.numbers++
		m.walk.number, m.walk.undoes, m.walk.stopped, m.walk.work = m.numbers, true, nil, work{since: m.now}
		var ctx context.Context
		ctx, m.walk.cancel = context.WithCancel(m.ctx)
		return m.desk.undo(ctx, m.engine, m.walk.begin.incident, req, m.walk.book, m.numbers)
	}
	w.after, w.later = nil, nil
	if w.number == 0 {
		return begin(m)
	}
	w.then = begin
	return w.pause()
}
