package tui

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/runbook"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// walk is a run of a runbook as it is gone through.
type walk struct {
	begin beginning
	book  *runbook.Runbook
	id    incident.ID // "" until the incident is known
	steps map[string]stepState
	at    string // the step at hand

	// What is under way: a run, or an undo. number is of its guide, 0 if there
	// is nothing; cancel ends it.
	number int
	undoes bool
	cancel context.CancelFunc
	// then is what to do once it is over.
	then func(*root) tea.Cmd

	plan     *proposed // what is to be approved
	question *asked
	ready    runbook.Inputs // what the step would be done with
	doing    string         // what it does, in the operation's words
	worked   time.Time      // when the last step was over
	again    int            // how often to look again while what was done takes its time
	work     work
	after    *after   // what came of a step, until somebody has read it
	later    []*after // what came of the steps after it meanwhile
	stopped  *ended   // why the run is not under way
	choice   *choice  // an open list to choose from
	form     *form    // the inputs that are being changed
	// unlocking: the step at hand is agreed to, and begins once it is answered.
	unlocking *unlocking
	signer    *evidence.Signer // nil: nobody signs
	armed     *confirmation    // nil: there is nothing to confirm
	value     *input           // of the parameter that is asked for
	typing    *input
	typedFor  action
	typedOf   any    // the plan or the question that the line is about; nil: none
	by, note  string // of an answer
	scroll    int
	allSteps  bool
}

// stepState is how a step stands.
type stepState struct {
	outcome      string // "": it was not done yet
	notNeeded    bool
	begun, ended time.Time
}

// work is what a step at work tells.
type work struct {
	since       time.Time
	done, total int
	bytes       int64
	artefacts   int
	current     string
	waiting     string
	until       time.Time // when the wait is given up; zero: nobody knows
	lines       []workLine
}

type workLine struct {
	style style
	mark  string
	text  string
}

// maxLines is how many lines of output are kept.
const maxLines = 300

// busy: something is done right now, and nobody is waited for.
func (m *walk) busy() bool {
	return m.number != 0 && m.plan == nil && m.question == nil && m.after == nil
}

// waits: a person is asked something.
func (m *walk) waits() bool { return m.after == nil && (m.plan != nil || m.question != nil) }

// asks is what a person is asked, a *proposed or an *asked; nil: nothing.
func (m *walk) asks() any {
	switch {
	case m.plan != nil:
		return m.plan
	case m.question != nil:
		return m.question
	}
	return nil
}

// write begins a line.
func (m *walk) write(what action, prompt, text string) {
	m.typing, m.typedFor, m.typedOf = newInput(prompt, text), what, nil
}

func (m *walk) step() *runbook.Step {
	if m.book == nil {
		return nil
	}
	return m.book.Step(m.at)
}

// redo is a step that is over, and may be done again.
type redo struct {
	step      *runbook.Step
	text, why string
}

// redoable are the steps that a person decided not to do, and containments that
// do not hold any more.
func (m *walk) redoable(v contain.Verdict) (all []redo) {
	if m.book == nil {
		return nil
	}
	for _, s := range m.book.Steps() {
		switch st := m.steps[s.Name]; {
		case st.outcome == "skipped" && !st.notNeeded:
			all = append(all, redo{s, "do after all what was left out", "it was left out"})
		case st.outcome == "done" && s.Uses == "contain" && v == contain.NotContained:
			all = append(all, redo{s, "do again what does not hold", "it does not hold"})
		}
	}
	return all
}

// recorded takes the states of the steps from the journal.
func (m *walk) recorded(f *file) {
	if m.book == nil {
		return
	}
	m.steps = map[string]stepState{}
	for _, w := range engine.WalksOf(f.entries) {
		if w.Runbook.Name != m.book.Name {
			continue
		}
		for name, s := range w.Steps {
			m.steps[name] = stepState{s.Outcome, s.NotNeeded, s.Begun, s.Ended}
		}
		if m.at == "" {
			m.at = w.At
		}
	}
}

// happened takes an event of the run.
func (m *walk) happened(h happened, t theme) {
	e := h.event
	switch e.Kind {
	case engine.Entered:
		m.at, m.ready, m.doing, m.work, m.scroll, m.by, m.note = e.Step, nil, "", work{since: h.at}, 0, "", ""
		m.setStep(e.Step, stepState{begun: h.at})
	case engine.Ready:
		m.ready, m.doing = e.Inputs, e.Text
	case engine.Left:
		m.left(h)
	case engine.Started:
		m.work.total = max(m.work.total, e.Total)
	case engine.Waiting:
		m.work.waiting, m.work.until = e.Text, time.Time{}
		if e.Left > 0 {
			m.work.until = h.at.Add(e.Left)
		}
	case engine.Progressed:
		m.work.artefacts, m.work.bytes, m.work.current = e.Done, e.Bytes, e.Text
	case engine.Finished:
		m.work.done, m.work.waiting = max(m.work.done, e.Done), ""
		m.tell(good, t.g.done, e.Text)
	case engine.Failed:
		m.tell(bad, t.g.failed, withError(e))
	case engine.Refused:
		m.tell(warning, t.g.skipped, withError(e))
	case engine.Noticed:
		m.tell(warning, t.g.warn, e.Text)
	}
}

func withError(e engine.Event) string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

func (m *walk) tell(st style, mark, text string) {
	m.work.lines = append(slices.Clip(m.work.lines), workLine{st, mark, text})
	if n := len(m.work.lines); n > maxLines {
		m.work.lines = m.work.lines[n-maxLines:]
	}
}

func (m *walk) setStep(name string, s stepState) {
	m.steps = maps.Clone(m.steps)
	if m.steps == nil {
		m.steps = map[string]stepState{}
	}
	m.steps[name] = s
}

func (m *walk) left(h happened) {
	r := h.event.Result
	if r == nil {
		return
	}
	s := m.steps[r.Name]
	s.outcome, s.notNeeded, s.ended = r.Outcome, r.NotNeeded, h.at
	m.worked = h.at
	m.setStep(r.Name, s)
	switch {
	case !worthReading(r):
	case m.after != nil: // nobody has read that yet
		m.later = append(slices.Clip(m.later), afterStep(r, m.work.lines))
	default:
		m.after, m.scroll = afterStep(r, m.work.lines), 0
	}
}

// judged has what came of a containment judged by what the cluster shows now.
func (m *walk) judged(s *engine.StatusResult) {
	m.after = m.after.judgedAnew(s)
	m.later = slices.Clone(m.later)
	for i, a := range m.later {
		m.later[i] = a.judgedAnew(s)
	}
}

// over takes that the run, or the undo, has ended.
func (m *walk) over() {
	m.number, m.undoes, m.cancel, m.plan, m.question, m.armed, m.form, m.typing, m.unlocking = 0, false, nil, nil, nil,
		nil, nil, nil, nil
}

// pause has the run stop where it is. Of what a person is asked nothing is
// decided by that.
func (m *walk) pause() tea.Cmd {
	plan, question, cancel := m.plan, m.question, m.cancel
	m.plan, m.question, m.armed, m.unlocking = nil, nil, nil, nil
	return func() tea.Msg {
		switch {
		case plan != nil:
			plan.reply <- approval{engine.No, engine.ErrPaused}
		case question != nil:
			question.reply <- answered{err: engine.ErrPaused}
		case cancel != nil:
			cancel()
		}
		return nil
	}
}

// decide answers a plan.
func (m *walk) decide(d engine.Decision, err error) tea.Cmd {
	reply := m.plan.reply
	m.plan, m.armed, m.scroll = nil, nil, 0
	return func() tea.Msg { reply <- approval{d, err}; return nil }
}

// answer answers a question.
func (m *walk) answer(a engine.Answer) tea.Cmd {
	reply := m.question.reply
	m.question, m.armed, m.scroll = nil, nil, 0
	return func() tea.Msg { reply <- answered{answer: a}; return nil }
}

// skip leaves the step at hand out.
func (m *walk) skip(reason string) tea.Cmd {
	a := engine.Answer{Choice: engine.AnswerSkip, By: m.by, Note: reason}
	switch {
	case m.plan != nil:
		return m.decide(engine.No, &engine.Instead{Answer: a})
	case m.question != nil && m.question.question.Kind == engine.AskFailed:
		return m.answer(engine.Answer{Choice: engine.AnswerContinue, Note: reason})
	case m.question != nil:
		return m.answer(a)
	}
	return nil
}

// edited has the step at hand planned with other inputs.
func (m *walk) edited(inputs map[string]string) tea.Cmd {
	a := engine.Answer{Choice: engine.AnswerEdit, Inputs: inputs}
	switch {
	case m.plan != nil:
		return m.decide(engine.No, &engine.Instead{Answer: a})
	case m.question != nil:
		return m.answer(a)
	}
	return nil
}

// commands are the kubectl equivalents on the screen.
func (m *walk) commands() string {
	var all []string
	switch {
	case m.after != nil:
		all = m.after.fixes
	case m.plan != nil:
		for _, s := range m.plan.proposal.Steps {
			for _, a := range s.Plan.Actions {
				if a.Command != "" && !strings.HasPrefix(a.Command, "(") {
					all = append(all, a.Command)
				}
			}
		}
	case m.question != nil:
		for l := range strings.Lines(m.question.question.Text) {
			if l = strings.TrimSpace(l); strings.HasPrefix(l, "kubectl ") || strings.HasPrefix(l, "irctl ") {
				all = append(all, l)
			}
		}
	}
	return strings.Join(all, "\n")
}

// choice is a list to choose from.
type choice struct {
	title string
	rows  []string
	acts  []func(*root) tea.Cmd // of the rows
	list  list
}

// undoChoices are what can be undone, and the steps that can be done again.
func undoChoices(standing []timeline.Action, redo []redo) *choice {
	if len(standing)+len(redo) == 0 {
		return nil
	}
	c := &choice{title: "Put back what was changed. You are shown what that means before anything is done."}
	defer func() {
		for _, r := range redo {
			c.rows = append(c.rows, r.text+": "+r.step.Label())
			c.acts = append(c.acts, func(m *root) tea.Cmd { return m.again(r.step.Name, r.why) })
		}
	}()
	if len(standing) == 0 {
		c.title = "Nothing that was changed stands."
		return c
	}
	last := standing[len(standing)-1]
	add := func(text string, req engine.UndoRequest) {
		c.rows, c.acts = append(c.rows, text), append(c.acts, func(m *root) tea.Cmd { return m.undo(req) })
	}
	add("the last change: "+last.Intent.Summary, engine.UndoRequest{})
	byStep := map[string]int{}
	for _, a := range standing {
		byStep[a.Intent.Step]++
	}
	words := map[string]string{contain.StepScale: "bring the workload back, and leave the suspect cut off",
		contain.StepDetach:     "hand the suspect back to its controller",
		contain.StepQuarantine: "let the suspect reach the network again",
		contain.StepSuspend:    "let the controllers go on", contain.StepCordon: "let pods onto the node again"}
	for _, step := range slices.Backward(contain.AllSteps) {
		if n := byStep[step]; n > 0 {
			add(step+": "+words[step]+" ("+plural.Count(n, "change")+")", engine.UndoRequest{Step: step})
		}
	}
	add("everything ("+plural.Count(len(standing), "change")+")", engine.UndoRequest{All: true})
	return c
}

// form is the inputs of the step at hand, to be changed.
type form struct {
	step   *runbook.Step
	fields []runbook.Field
	before runbook.Inputs
	texts  map[string]string // those that were changed
	list   list
	typing *input
	err    error
}

func newForm(s *runbook.Step, in runbook.Inputs) *form {
	return &form{step: s, fields: s.Editable(), before: in, texts: map[string]string{}}
}

func (f form) text(field runbook.Field) string {
	if text, ok := f.texts[field.Name]; ok {
		return text
	}
	if v, ok := f.before[field.Name]; ok {
		return runbook.Format(v)
	}
	return ""
}

func (f form) set(field runbook.Field, text, namespace string) *form {
	f.err = nil
	if text != "" {
		_, f.err = f.step.ParseInput(field.Name, text, namespace)
	}
	f.texts = maps.Clone(f.texts)
	f.texts[field.Name] = text
	return &f
}

// act is the form after an action; boolean inputs are turned.
func (f form) act(a action, namespace string) *form {
	field := f.fields[f.list.at]
	switch {
	case (a == actChoose || a == actNext || a == actPrevious) && field.Type == runbook.Boolean && !field.List:
		return f.set(field, map[string]string{"true": "false"}[f.text(field)]+
			map[bool]string{true: "", false: "true"}[f.text(field) == "true"], namespace)
	case a == actChoose:
		f.typing = newInput(field.Name+":", f.text(field))
	default:
		f.list = f.list.moved(a, len(f.fields), 5)
	}
	return &f
}

func (f form) typed(key tea.KeyMsg, namespace string) *form {
	switch {
	case key.Type == tea.KeyEnter && !key.Paste:
		text := f.typing.text()
		f.typing = nil
		return f.set(f.fields[f.list.at], text, namespace)
	case key.Type == tea.KeyEsc:
		f.typing = nil
	default:
		f.typing = f.typing.typed(key)
	}
	return &f
}

func (f form) view(g *page, p place) {
	g.heading("Change what " + p.safe(f.step.Label()) + " is done with")
	for i, field := range f.fields {
		mark, name := "  ", p.cell(field.Name, 18)
		if i == f.list.at {
			mark, name = p.paint(accent, p.g.now)+" ", p.paint(strong, name)
		}
		if i == f.list.at && f.typing != nil {
			g.line(mark + f.typing.view(p.theme, p.w-2))
			continue
		}
		value := p.safe(f.text(field))
		if value == "" {
			value = p.paint(faint, "as irctl does it")
		}
		if _, changed := f.texts[field.Name]; changed {
			value = p.paint(accent, value+" (changed)")
		}
		g.line(mark + name + " " + value)
		if i == f.list.at {
			g.text(faint, strings.Repeat(" ", 21), field.Doc)
			if f.err != nil {
				g.text(bad, strings.Repeat(" ", 21)+p.g.failed+" ", f.err.Error())
			}
		}
	}
	g.blank()
	g.text(none, "", "Enter changes a value, r plans the step anew with it, Esc leaves everything as it was.")
}

// why a run is not under way, in words.
func (e *ended) text() string {
	if e.err == nil && e.result != nil {
		for _, s := range e.result.Steps {
			if err := s.Err(); err != nil && s.Name == e.result.Stopped {
				return err.Error()
			}
		}
	}
	if e.err == nil || errors.Is(e.err, engine.ErrPaused) || errors.Is(e.err, context.Canceled) {
		return ""
	}
	return e.err.Error()
}
