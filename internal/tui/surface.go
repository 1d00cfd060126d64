package tui

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"slices"
	"sync"

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/runbook"
)

// surface is what is drawn, and takes the keys. The view and the keys both ask
// [root.surface], so that no key reaches what something else covers.
type surface string

// The surfaces. The first three are drawn with, or instead of, any other.
const (
	onLeaving  surface = "leaving"
	onAsking   surface = "a question of the program's own"
	onTooSmall surface = "the terminal is too small"

	onBriefing    surface = "briefing"
	onLookup      surface = "look-up"
	onIncidents   surface = "incidents and suspects"
	onPodTable    surface = "pods"
	onAlertPaste  surface = "alert"
	onParameters  surface = "runbook and parameters"
	onParameter   surface = "runbook and parameters, a value"
	onResult      surface = "the end"
	onOpening     surface = "opening"
	onPassphrase  surface = "passphrase"
	onInputs      surface = "inputs"
	onInput       surface = "inputs, a value"
	onLine        surface = "a line"
	onChoice      surface = "what can be undone"
	onSteps       surface = "all steps"
	onConfirm     surface = "confirmation"
	onAfter       surface = "after a step"
	onUndoPlan    surface = "an undo, planned"
	onAskedValue  surface = "a parameter that is asked for"
	onQuestion    surface = "a question"
	onStepAtHand  surface = "a step at hand"
	onPausedWalk  surface = "a walk that stopped"
	onWorkingStep surface = "a step at work"
)

// keysOf are where the keys of a surface are defined, the closest first.
var keysOf = map[surface][]keyContext{
	onLeaving:     {inLeaving},
	onAsking:      {inAsking},
	onTooSmall:    {inTooSmall},
	onBriefing:    {inBrief, inMoving},
	onLookup:      {inOverlay, inMoving, inAll},
	onIncidents:   {inHome, inMoving, inAll},
	onPodTable:    {inPods},
	onAlertPaste:  {inAlert},
	onParameters:  {inPrepare, inMoving, inAll},
	onParameter:   {inTyping},
	onResult:      {inEnd, inMoving, inAll},
	onOpening:     {inMoving, inAll},
	onPassphrase:  {inUnlock},
	onInputs:      {inForm, inMoving},
	onInput:       {inTyping},
	onLine:        {inTyping},
	onChoice:      {inChoice, inMoving},
	onSteps:       {inSteps, inMoving, inAll},
	onConfirm:     {inArmed},
	onAfter:       {inAfter, inMoving, inAll},
	onUndoPlan:    {inUndo, inMoving, inAll},
	onAskedValue:  {inTyping},
	onQuestion:    {inAnswer, inStep, inMoving, inAll},
	onStepAtHand:  {inStep, inMoving, inAll},
	onPausedWalk:  {inPaused, inMoving, inAll},
	onWorkingStep: {inWorking, inMoving, inAll},
}

// types tells whether keys are letters there.
func (s surface) types() bool {
	switch s {
	case onPodTable, onAlertPaste, onParameter, onPassphrase, onInput, onLine, onAskedValue:
		return true
	}
	return false
}

// surface is the one that takes keys.
func (m *root) surface() surface {
	switch {
	case m.leaving:
		return onLeaving
	case m.asking != "":
		return onAsking
	case m.small() != "":
		return onTooSmall
	}
	return m.covering()
}

// covering is what fills the middle of the screen.
func (m *root) covering() surface {
	switch m.overlay.kind {
	case "":
		return m.covered()
	case actBriefing:
		return onBriefing
	}
	return onLookup
}

// covered is what fills it, or would but for what is looked up.
func (m *root) covered() surface {
	switch m.screen {
	case onPods:
		return onPodTable
	case onAlert:
		return onAlertPaste
	case onPrepare:
		if m.prepare.typing != nil {
			return onParameter
		}
		return onParameters
	case onWalk:
		return m.walk.surface()
	case onEnd:
		return onResult
	}
	return onIncidents
}

// surface is the one that takes keys in the walk.
func (m *walk) surface() surface {
	switch {
	case m.book == nil:
		return onOpening
	case m.unlocking != nil:
		return onPassphrase
	case m.form != nil && m.form.typing != nil:
		return onInput
	case m.form != nil:
		return onInputs
	case m.typing != nil:
		return onLine
	}
	return m.middle()
}

// middle is what is drawn above a line that is typed, or without one.
func (m *walk) middle() surface {
	switch {
	case m.choice != nil:
		return onChoice
	case m.allSteps:
		return onSteps
	case m.after != nil:
		return onAfter
	case m.armed != nil && m.waits():
		return onConfirm
	case m.plan != nil && m.undoes:
		return onUndoPlan
	case m.plan != nil:
		return onStepAtHand
	case m.question != nil && m.question.question.Kind == engine.AskManual:
		return onQuestion
	case m.question != nil && m.question.question.Kind == engine.AskParameter:
		return onAskedValue
	case m.question != nil:
		return onStepAtHand
	case m.number == 0 && m.stopped == nil:
		return onOpening
	case m.number == 0:
		return onPausedWalk
	}
	return onWorkingStep
}

// keyContexts are where keys mean something now, the closest first.
func (m *root) keyContexts() []keyContext { return m.contextsOf(m.surface()) }

func (m *root) contextsOf(s surface) []keyContext {
	if s == onPodTable && m.pods.filter != "" {
		return append([]keyContext{inFilter}, keysOf[s]...)
	}
	return keysOf[s]
}

// confirmation is what confirmKey would do, and to what. It lives for as long as
// it is drawn, and goes for no other plan than the one that was.
type confirmation struct {
	what   string // in words
	digest digest
	number int // as the screen knows it
}

type digest [sha256.Size]byte

// digest is that of what would be done: the plan, or the step and its inputs.
// Zero: there is none, and nothing to confirm.
func (m *walk) digest() digest {
	type planned struct {
		Step, ID, Name, Summary, Command string
		Change                           change.Change
		Diff                             []string
		Undoes                           int64
	}
	what := struct {
		Incident, Server, Context string
		Undoes                    bool
		Targets                   []string
		Plan                      []planned
		Step, Doing               string
		Kind                      engine.QuestionKind
		Inputs                    runbook.Inputs
	}{Undoes: m.undoes, Step: m.at}
	switch {
	case m.plan != nil:
		p := &m.plan.proposal
		what.Incident, what.Server, what.Context = p.Incident, p.Server, p.Context
		for _, t := range p.Targets {
			what.Targets = append(what.Targets, t.Key())
		}
		for _, s := range p.Steps {
			for i := range s.Plan.Actions {
				a := &s.Plan.Actions[i]
				what.Plan = append(what.Plan, planned{s.Step.Name, a.ID, a.Name, a.Summary, a.Command, a.Change, a.Diff,
					a.Undoes})
			}
		}
	case m.question != nil:
		what.Doing, what.Kind, what.Inputs = m.doing, m.question.question.Kind, m.question.question.Inputs
	default:
		return digest{}
	}
	text, err := json.Marshal(what)
	if err != nil {
		return digest{}
	}
	return sha256.Sum256(text)
}

// arm asks for confirmKey.
func (m *root) arm(what string) {
	m.confirmations++
	m.walk.armed = &confirmation{what: what, digest: m.walk.digest(), number: m.confirmations}
}

// settle drops a question as soon as it is not drawn, or what it was about is not
// there any more. It is called after every message, whatever it was.
func (m *root) settle() {
	if m.asking != "" && !m.atWork() {
		m.asking = ""
	}
	if c := m.walk.armed; c != nil && (m.surface() != onConfirm || c.digest != m.walk.digest()) {
		m.walk.armed = nil
	}
}

// atWork: a step is at work that quitting would stop.
func (m *root) atWork() bool { return m.screen == onWalk && m.walk.busy() }

// confirmPressed takes a key while a confirmation is drawn.
func (m *root) confirmPressed(a action) tea.Cmd {
	w := &m.walk
	c := w.armed
	if a == actConfirm && !m.glass.shows(c.number) {
		m.say(warning, "that key came before the question was on the screen: read it, then press "+confirmKey)
		return nil
	}
	w.armed = nil
	switch {
	case a != actConfirm:
		m.say(none, "nothing was done")
		return nil
	case c.digest == digest{} || c.digest != w.digest():
		m.say(warning, "nothing was done: what was to be done has changed")
		return nil
	}
	return m.confirmed(c.digest)
}

// glass is what a person has in front of them: the last frame that was written to
// the terminal, which may be older than the last one that was made.
type glass struct {
	mu       sync.Mutex
	attached bool // to what the terminal is written
	made     int  // the confirmation on the last frame that was made; 0: none
	written  int  // the last one that was written
}

// makes is that a frame with this confirmation was made. It is not written before
// the renderer's next beat.
func (g *glass) makes(number int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.made = number
	if !g.attached && number != 0 {
		g.written = number
	}
}

// shows tells whether a confirmation was written to the terminal.
func (g *glass) shows(number int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.written == number
}

// confirmSign is on every frame that asks for confirmKey, on one line.
const confirmSign = "Press " + confirmKey + " to "

// terminal is the one that the program draws on, and into whose clipboard is
// copied at the same time.
type terminal struct {
	*os.File
	glass *glass
	mu    sync.Mutex
}

func (t *terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.glass.mu.Lock()
	number := 0
	if bytes.Contains(b, []byte(confirmSign)) {
		number = t.glass.made
	}
	t.glass.mu.Unlock()
	n, err := t.File.Write(b)
	if number != 0 && err == nil {
		t.glass.mu.Lock()
		t.glass.written = number
		t.glass.mu.Unlock()
	}
	return n, err
}

// drawnOn is a writer that tells the glass what it shows.
func (g *glass) drawnOn(out io.Writer) io.Writer {
	f, ok := out.(*os.File)
	if !ok {
		return out
	}
	g.attached = true
	return &terminal{File: f, glass: g}
}

// workloads are the kinds that run a service: what is done to them is an outage.
var workloads = []string{cluster.Deployment.Kind, cluster.StatefulSet.Kind, cluster.DaemonSet.Kind,
	cluster.ReplicaSet.Kind, cluster.Job.Kind, cluster.CronJob.Kind, cluster.ReplicationController.Kind}

// rank is how early an object is named among those that a plan changes.
func rank(r cluster.Ref) int {
	switch {
	case slices.Contains(workloads, r.Kind):
		return 0
	case r.Kind == cluster.Pod.Kind:
		return 1
	}
	return 2
}
