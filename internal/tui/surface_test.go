package tui

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/runbooks"
)

// stage is a UI that no program runs, with an engine that only waits.
type stage struct {
	root
	plan     chan approval
	question chan answered
	stopped  bool // by x
}

var shippedBook = sync.OnceValues(func() (*runbook.Runbook, error) {
	return runbook.NewLibrary("", "", runbooks.Files, engine.Operations()).Find("compromised-pod")
})

func newStage() *stage {
	store, err := incident.NewStore(filepath.Join(os.TempDir(), "irctl-no-such-directory"), incident.Options{})
	if err != nil {
		panic(err)
	}
	o := Options{Now: func() time.Time { return time.Unix(0, 0) }, Context: "sim", Store: store}
	s := &stage{root: newRoot(context.Background(), o), plan: make(chan approval, 1), question: make(chan answered, 1)}
	s.engine = &engine.Engine{Context: "sim"}
	i := incident.Incident{ID: "inc-20260212-093000-abcd", Title: "A pod mines",
		Targets: []incident.Target{{Kind: "Pod", Namespace: "shop", Name: "web-1"}}}
	s.file = fileOf(i, nil, "/state", 1)
	book, err := shippedBook()
	if err != nil {
		panic(err)
	}
	s.library = library{books: []*runbook.Runbook{book}, loaded: true}
	s.screen = onWalk
	s.walk = walk{begin: beginning{book: book, incident: i.ID}, book: book, id: i.ID, at: "cutOff", number: 1,
		cancel: func() { s.stopped = true }}
	return s
}

func (s *stage) planned() {
	s.walk.plan = &proposed{proposal: engine.Proposal{Incident: "inc-20260212-093000-abcd", Context: "sim",
		Steps: []engine.StepPlan{{Step: steps.Info{Name: "scale"}, Plan: steps.Plan{Actions: []steps.Action{
			{ID: "scale", Summary: "scale Deployment shop/web from 3 to 0",
				Change: change.Change{Object: cluster.Deployment.Named("shop", "web", "uid"),
					Fields: []change.Field{{Path: []string{"spec", "replicas"}, Before: int64(3), After: int64(0)}}}},
			{ID: "label", Summary: "label Pod shop/web-1",
				Change: change.Change{Object: cluster.Pod.Named("shop", "web-1", "uid")}}}}}}}, reply: s.plan}
}

func (s *stage) asked(kind engine.QuestionKind, choices ...string) {
	s.walk.question = &asked{question: engine.Question{Kind: kind, Text: "What is it?", Choices: choices},
		reply: s.question}
	s.walk.doing = "does it"
}

func (s *stage) confirms() {
	s.planned()
	s.arm("make 2 changes")
}

func (s *stage) afterStep() {
	s.walk.after = &after{title: "Cut it off", word: "NOT CONTAINED", step: "cutOff", uses: "contain", passed: true,
		verdict: contain.NotContained}
}

type staged struct {
	name string
	at   surface
	set  func(*stage)
}

// stages are the surfaces that there are, and what hides behind some of them.
var stages = []staged{
	{"a plan", onStepAtHand, (*stage).planned},
	{"an undo", onUndoPlan, func(s *stage) { s.planned(); s.walk.undoes = true }},
	{"a confirmation", onConfirm, (*stage).confirms},
	{"a step to confirm", onConfirm, func(s *stage) { s.asked(engine.AskConfirm); s.arm("does it") }},
	{"a step to run", onStepAtHand, func(s *stage) { s.asked(engine.AskStep) }},
	{"a step that failed", onStepAtHand, func(s *stage) { s.asked(engine.AskFailed) }},
	{"a question", onQuestion, func(s *stage) { s.asked(engine.AskManual, "real", "unknown") }},
	{"a value that is asked for", onAskedValue, func(s *stage) {
		s.asked(engine.AskParameter)
		s.walk.value = newInput("What?", "")
	}},
	{"after a step", onAfter, (*stage).afterStep},
	{"after a step, a plan waits", onAfter, func(s *stage) { s.planned(); s.afterStep() }},
	{"after a step, a question waits", onAfter, func(s *stage) {
		s.asked(engine.AskManual, "real", "unknown")
		s.afterStep()
	}},
	{"after a step, a value waits", onAfter, func(s *stage) {
		s.asked(engine.AskParameter)
		s.walk.value = newInput("What?", "")
		s.afterStep()
	}},
	{"at work", onWorkingStep, func(s *stage) {}},
	{"paused", onPausedWalk, func(s *stage) { s.walk.number, s.walk.stopped = 0, &ended{} }},
	{"opening", onOpening, func(s *stage) { s.walk.number = 0 }},
	{"steps above a plan", onSteps, func(s *stage) { s.planned(); s.walk.allSteps = true }},
	{"steps above a confirmation", onSteps, func(s *stage) { s.confirms(); s.walk.allSteps = true }},
	{"steps above a question", onSteps, func(s *stage) {
		s.asked(engine.AskManual, "real", "unknown")
		s.walk.allSteps = true
	}},
	{"steps above a failure", onSteps, func(s *stage) { s.asked(engine.AskFailed); s.walk.allSteps = true }},
	{"steps above a step to run", onSteps, func(s *stage) { s.asked(engine.AskStep); s.walk.allSteps = true }},
	{"steps above what came of one", onSteps, func(s *stage) { s.afterStep(); s.walk.allSteps = true }},
	{"steps above a step at work", onSteps, func(s *stage) { s.walk.allSteps = true }},
	{"steps above a value", onSteps, func(s *stage) {
		s.asked(engine.AskParameter)
		s.walk.value, s.walk.allSteps = newInput("What?", ""), true
	}},
	{"what can be undone, above a confirmation", onChoice, func(s *stage) {
		s.confirms()
		s.walk.choice = &choice{title: "Undo", rows: []string{"all"}, acts: []func(*root) tea.Cmd{
			func(m *root) tea.Cmd { m.numbers++; return nil },
		}}
	}},
	{"inputs, above a confirmation", onInputs, func(s *stage) {
		s.confirms()
		s.walk.form = &form{step: s.walk.step(), fields: []runbook.Field{{Name: "x"}},
			texts: map[string]string{"x": "y"}}
	}},
	{"a note, above a confirmation", onLine, func(s *stage) { s.confirms(); s.walk.write(actNote, "Note:", "") }},
	{"a note, above a value", onLine, func(s *stage) {
		s.asked(engine.AskParameter)
		s.walk.value = newInput("What?", "")
		s.walk.write(actNote, "Note:", "")
	}},
	{"the passphrase, above a confirmation", onPassphrase, func(s *stage) {
		s.confirms()
		s.walk.signer = evidence.LockedSigner("x")
		s.walk.unlocking = &unlocking{err: evidence.ErrKeyLocked, field: newInput("Passphrase:", ""),
			begin: func(w *walk) tea.Cmd { return w.decide(engine.Yes, nil) }}
	}},
	{"too small for a plan", onTooSmall, func(s *stage) { s.planned(); s.w, s.h = 39, 11 }},
	{"too small for a confirmation", onTooSmall, func(s *stage) { s.confirms(); s.w, s.h = 39, 11 }},
	{"too small for a question", onTooSmall, func(s *stage) {
		s.asked(engine.AskManual, "real", "unknown")
		s.w, s.h = 39, 11
	}},
	{"too small for a step to run", onTooSmall, func(s *stage) { s.asked(engine.AskStep); s.w, s.h = 39, 11 }},
	{"too small for a step at work", onTooSmall, func(s *stage) { s.w, s.h = 39, 11 }},
	{"leaving, above a confirmation", onLeaving, func(s *stage) { s.confirms(); s.leaving = true }},
	{"leaving, above a question", onLeaving, func(s *stage) {
		s.asked(engine.AskManual, "real", "unknown")
		s.leaving = true
	}},
	{"the first screen", onIncidents, func(s *stage) { s.confirms(); s.screen = onHome }},
	{"the end", onResult, func(s *stage) { s.confirms(); s.screen = onEnd }},
	{"an alert", onAlertPaste, func(s *stage) { s.confirms(); s.screen = onAlert }},
	{"the pods", onPodTable, func(s *stage) {
		s.confirms()
		s.screen, s.pods.typing = onPods, newInput(podsPrompt, "")
	}},
	{"parameters", onParameters, func(s *stage) {
		s.confirms()
		s.screen, s.prepare = onPrepare, newPrepare(s.library, s.o)
	}},
}

// aboveAll are the stages, and what is looked up above those of the walk.
func aboveAll() []staged {
	all := slices.Clone(stages)
	for i, below := range stages[:14] {
		over := lookup[i%len(lookup)]
		all = append(all, staged{string(over) + " above " + below.name, onLookup, func(s *stage) {
			below.set(s)
			s.overlay = overlay{kind: over}
		}})
	}
	return all
}

var keyHint = regexp.MustCompile(`\[([^\]]+)\]`)
var answerHint = regexp.MustCompile(`(?:answer:|  ) +(\d)  `)

// drawnKeys are the keys that the screen names: those of its last line, and the
// numbers beside answers.
func (s *stage) drawnKeys() (keys []string) {
	screen := ansi.Strip(s.View())
	lines := strings.Split(screen, "\n")
	for _, m := range keyHint.FindAllStringSubmatch(lines[len(lines)-1], -1) {
		keys = append(keys, m[1])
	}
	if s.surface() == onQuestion {
		for _, m := range answerHint.FindAllStringSubmatch(screen, -1) {
			keys = append(keys, m[1])
		}
	}
	return keys
}

// pressable are all keys that mean something anywhere, and some that do not.
func pressable() (keys []string) {
	for _, list := range keyMap {
		for _, b := range list {
			keys = append(keys, b.keys...)
		}
	}
	for r := ' '; r <= '~'; r++ {
		keys = append(keys, string(r))
	}
	slices.Sort(keys)
	return slices.DeleteFunc(slices.Compact(keys), func(k string) bool { return k == "letters" })
}

// keyTypes are the types of the keys with names.
var keyTypes = func() map[string]tea.KeyType {
	types := map[string]tea.KeyType{}
	for t := tea.KeyType(-100); t < 128; t++ {
		if name := t.String(); name != "" {
			types[name] = t
		}
	}
	return types
}()

func keyOf(t *testing.T, name string) tea.KeyMsg {
	if r := []rune(name); len(r) == 1 {
		return tea.KeyMsg{Type: tea.KeyRunes, Runes: r}
	}
	typ, ok := keyTypes[name]
	if !ok {
		t.Fatalf("there is no key %q", name)
	}
	return tea.KeyMsg{Type: typ}
}

// send is a message, with the answer that it gives the engine.
func (s *stage) send(msg tea.Msg) {
	asks := s.walk.asks()
	next, cmd := s.Update(msg)
	if s.root = next.(root); asks == nil || s.walk.asks() == asks || cmd == nil {
		return
	}
	if all, ok := s.reply(cmd).(tea.BatchMsg); ok {
		for _, one := range all {
			s.reply(one)
		}
	}
}

// reply is what comes of a command, if it comes at once.
func (s *stage) reply(cmd tea.Cmd) tea.Msg {
	if cmd == nil {
		return nil
	}
	given := make(chan tea.Msg, 1)
	go func() { given <- cmd() }()
	select {
	case m := <-given:
		return m
	case <-time.After(50 * time.Millisecond): // a clock, or what waits for something to happen
		return nil
	}
}

// touched is what a key did that counts; "": nothing.
func (s *stage) touched() string {
	select {
	case a := <-s.plan:
		if a.err == nil || a.decision == engine.Yes {
			return fmt.Sprintf("the plan was answered: %+v", a)
		}
	case a := <-s.question:
		if a.err == nil {
			return fmt.Sprintf("the question was answered: %+v", a)
		}
	default:
	}
	switch {
	case s.stopped:
		return "the step was stopped"
	case s.numbers > 0:
		return "something was begun"
	case s.notes > 0:
		return "a note was written"
	}
	return ""
}

// TestAKeyActsOnlyOnWhatIsDrawn: whatever is on the screen, and hides behind it,
// a key that the screen does not name answers nothing and begins nothing, and
// leaves nothing behind that a second key could confirm.
func TestAKeyActsOnlyOnWhatIsDrawn(t *testing.T) {
	keys := pressable()
	for _, st := range aboveAll() {
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			s := newStage()
			st.set(s)
			if s.surface() != st.at {
				t.Fatalf("%s is drawn", s.surface())
			}
			drawn := s.drawnKeys()
			named := map[action]bool{}
			for name := range keyTypes {
				if slices.Contains(drawn, keyName(name)) {
					named[actionOf(keyOf(t, name), s.keyContexts()...)] = true
				}
			}
			for _, k := range drawn {
				if len(k) == 1 {
					named[actionOf(keyOf(t, k), s.keyContexts()...)] = true
				}
			}
			for _, k := range keys {
				s := newStage()
				st.set(s)
				armed := s.walk.armed
				if armed != nil {
					s.glass.written = armed.number // it was seen
				}
				key := keyOf(t, k)
				if a := actionOf(key, s.keyContexts()...); a != "" && named[a] || slices.Contains(drawn, k) {
					continue
				}
				s.send(key)
				if what := s.touched(); what != "" {
					t.Errorf("%q, which is not named: %s", k, what)
				}
				if s.walk.armed != nil && s.walk.armed != armed {
					t.Errorf("%q, which is not named, asks for %s", k, confirmKey)
				}
			}
		})
	}
}

// TestAConfirmationEndsWithWhatItNames: whatever covers it, or replaces what it
// names, drops it; it is not there again once that is gone. What still shows it
// keeps it.
func TestAConfirmationEndsWithWhatItNames(t *testing.T) {
	again := func(s *stage) tea.Msg { p := *s.walk.plan; return p }
	for _, c := range []struct {
		name  string
		do    func(*stage)
		stays bool
	}{
		{"nothing", func(s *stage) {}, true},
		{"a repaint", func(s *stage) { s.send(tick(time.Unix(1, 0))) }, true},
		{"a resize that still shows it", func(s *stage) { s.send(tea.WindowSizeMsg{Width: 120, Height: 40}) }, true},
		{"what the cluster does meanwhile", func(s *stage) { s.send(looked{}) }, true},
		{"a resize below what is needed", func(s *stage) {
			s.send(tea.WindowSizeMsg{Width: 40, Height: 10})
			s.send(tea.WindowSizeMsg{Width: 80, Height: 24})
		}, false},
		{"another plan", func(s *stage) {
			other := again(s).(proposed)
			other.guide = 1
			s.send(other)
		}, false},
		{"a change of the plan", func(s *stage) {
			s.walk.plan.proposal.Steps[0].Plan.Actions[0].Change.Fields[0].After = int64(1)
		}, false},
		{"another object", func(s *stage) {
			s.walk.plan.proposal.Steps[0].Plan.Actions[0].Change.Object.Name = "db"
		}, false},
		{"what came of a step", func(s *stage) { s.afterStep(); s.send(spun{}); s.walk.after = nil }, false},
		{"what can be undone", func(s *stage) {
			s.walk.choice = &choice{rows: []string{"x"}}
			s.send(spun{})
			s.walk.choice = nil
		}, false},
		{"the end of the run", func(s *stage) { s.send(ended{guide: 1}) }, false},
		{"the first screen", func(s *stage) { s.screen = onHome; s.send(spun{}); s.screen = onWalk }, false},
		{"help", func(s *stage) { s.overlay.kind = actHelp; s.send(spun{}); s.overlay.kind = "" }, false},
		{"the steps", func(s *stage) { s.walk.allSteps = true; s.send(spun{}); s.walk.allSteps = false }, false},
		{"inputs", func(s *stage) {
			s.walk.form = &form{step: s.walk.step(), fields: []runbook.Field{{Name: "x"}}}
			s.send(spun{})
			s.walk.form = nil
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage()
			s.confirms()
			s.View()
			c.do(s)
			s.View()
			s.send(keyOf(t, confirmKey))
			if got := s.touched() != ""; got != c.stays {
				t.Errorf("%s does what was named: %v", confirmKey, got)
			}
		})
	}
}

// TestAConfirmationThatWasNotSeenYetCannotBeGiven: the key may be typed before the
// terminal shows what it would confirm.
func TestAConfirmationThatWasNotSeenYetCannotBeGiven(t *testing.T) {
	s := newStage()
	s.glass.attached = true
	s.confirms()
	s.View() // made, and not written
	s.send(keyOf(t, confirmKey))
	if what := s.touched(); what != "" {
		t.Fatal(what)
	}
	if !strings.Contains(s.toast.text, "before the question was on the screen") {
		t.Errorf("it says %q", s.toast.text)
	}
	s.glass.written = s.walk.armed.number
	s.send(keyOf(t, confirmKey))
	if s.touched() == "" {
		t.Error("the key does nothing once it is on the screen")
	}
}

// TestALineIsOnlyAboutWhatItWasBegunFor: a reason, or a note to an answer, that
// is finished after the question has changed is no answer to the new one.
func TestALineIsOnlyAboutWhatItWasBegunFor(t *testing.T) {
	for _, key := range []string{"s", "n", "b"} {
		s := newStage()
		s.asked(engine.AskManual, "real")
		s.send(keyOf(t, key))
		if s.surface() != onLine {
			t.Fatalf("%s: %s", key, s.surface())
		}
		s.asked(engine.AskManual, "another")
		s.send(keyOf(t, "x"))
		s.send(keyOf(t, "enter"))
		if what := s.touched(); what != "" || s.walk.note != "" || s.walk.by != "" {
			t.Errorf("%s: %s, note %q, by %q", key, what, s.walk.note, s.walk.by)
		}
	}
}

// TestTheQuestionOfQuittingEndsWithTheStep: it asks about a step at work.
func TestTheQuestionOfQuittingEndsWithTheStep(t *testing.T) {
	s := newStage()
	s.send(keyOf(t, "q"))
	if s.surface() != onAsking || !strings.Contains(ansi.Strip(s.View()), "[Y] stop it and quit") {
		t.Fatalf("%s\n%s", s.surface(), ansi.Strip(s.View()))
	}
	s.planned()
	s.send(spun{})
	if strings.Contains(ansi.Strip(s.View()), "A step is at work") {
		t.Error("the question outlives the step")
	}
	s.send(keyOf(t, confirmKey))
	if s.leaving || s.touched() != "" {
		t.Error("its answer does something all the same")
	}
}

// TestTheConfirmationNamesWhatIsChanged: the workload first, since what is done to
// it is an outage; of many as many as have room.
func TestTheConfirmationNamesWhatIsChanged(t *testing.T) {
	s := newStage()
	s.confirms()
	want := "Press Y to make 2 changes on Deployment shop/web, Pod shop/web-1, cluster sim."
	if got := strings.Join(strings.Fields(ansi.Strip(s.View())), " "); !strings.Contains(got, want) {
		t.Errorf("%s\n%s", want, got)
	}
	names := []string{"Deployment shop/" + strings.Repeat("w", 60), "Pod shop/web-1", "Pod shop/web-2"}
	if got := some(names, 80); got != names[0]+" and 2 more" {
		t.Error(got)
	}
}

// toThePlan goes to the plan of the containment.
func (d *driver) toThePlan() {
	d.t.Helper()
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
}

// TestTheListOfStepsTakesNoKeysOfTheStep: neither to ask for a confirmation that
// nobody sees, nor to answer a question that is hidden.
func TestTheListOfStepsTakesNoKeysOfTheStep(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("tab")
	d.until("Cut the pod off", "[Tab] back")
	d.press("1", "2", "r", "s", "b", "n", "y", "e", "u")
	d.press("tab")
	d.until("answer: 1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("tab", "r", "Y")
	d.until("[Tab] back")
	d.press("esc")
	d.until("It will make 3 changes", "r: make 3 changes")
	d.press("r")
	d.until("Press Y to make 3 changes")
	d.press("tab", "Y") // any other key than Y: nothing is done
	d.until("r: make 3 changes")
	if n := l.server.Written(); n != 0 {
		t.Errorf("%d writes to the cluster", n)
	}
}

// TestNothingIsConfirmedOnATerminalThatIsTooSmall: what is to be confirmed is not
// on the screen there, and is asked for anew afterwards.
func TestNothingIsConfirmedOnATerminalThatIsTooSmall(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.toThePlan()
	d.press("r")
	d.until("Press Y to make 3 changes")
	d.update(tea.WindowSizeMsg{Width: 40, Height: 10})
	d.until("too small")
	d.press("Y", "r", "Y", "1", "s", "enter")
	d.update(tea.WindowSizeMsg{Width: 80, Height: 24})
	d.until("It will make 3 changes", "r: make 3 changes")
	d.press("Y")
	if n := l.server.Written(); n != 0 {
		t.Errorf("%d writes to the cluster", n)
	}
	d.update(tea.WindowSizeMsg{Width: 40, Height: 10})
	d.press("q")
	d.quitted()
}
