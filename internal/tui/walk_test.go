package tui

import (
	"fmt"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// entries are the journal of the only incident.
func (l *lab) entries(t testing.TB) []timeline.Entry {
	t.Helper()
	all, errs := l.store.List(t.Context())
	if len(all) != 1 || len(errs) > 0 {
		t.Fatalf("%d incidents, %v", len(all), errs)
	}
	path, err := l.store.TimelinePath(all[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := timeline.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func (l *lab) journal(t testing.TB) string {
	var b strings.Builder
	for _, e := range l.entries(t) {
		b.WriteString(string(e.Kind) + " " + e.Action + " " + e.Summary + " " + e.Error + "\n")
	}
	return b.String()
}

func (l *lab) replicas(t testing.TB) int64 {
	t.Helper()
	d, err := l.Get(sim.Deployments, "todo-app", "backend")
	if err != nil {
		t.Fatal(err)
	}
	return d.Object["spec"].(map[string]any)["replicas"].(int64)
}

func TestSixKeysFromAFindingToContained(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.contained()
	if d.presses > 6 {
		t.Errorf("%d key presses", d.presses)
	}
	t.Logf("%d key presses", d.presses)
	if n := l.replicas(t); n != 0 {
		t.Errorf("the workload has %d replicas", n)
	}
	// The alert's own time is when it was detected.
	if m := timeline.MetricsOf(l.entries(t)); m.DetectedAt.Format("15:04") != "09:20" {
		t.Errorf("detected at %s", m.DetectedAt)
	}
	d.until("detected 00:10:00", "CONTAINED, 1 OPEN", "SEV1")
}

func TestAWalkToTheEnd(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.contained()
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")
	d.press("b")
	d.write("the duty officer")
	d.press("enter", "n")
	d.write("she knows")
	d.press("enter", "1")
	d.until("Close what containment of the pod does not", "1 done")
	d.press("1")
	d.until("Collect and seal the evidence", "does collect and seal evidence")
	d.press("r")
	d.until("REFUSED", "nobody could open the evidence")
	d.press("enter")
	d.until("Look for others", "does look for suspects")
	d.press("r")
	d.until("DONE", "complete true")
	d.press("enter")
	d.until("Decide how far it goes", "1 this-pod-only")
	d.press("1")
	d.until("Rotate every secret", "1 done")
	d.press("s")
	d.write("tomorrow, with the database's owner")
	d.press("enter")
	d.until("Record that the way in is still open", "r: run this step")
	d.press("r")
	d.until("Decide whether the workload goes back", "1 restore")
	d.press("2")
	d.until("See that the suspect is still cut off", "r: run this step")
	d.press("r")
	d.until("CONTAINED WITH EXPOSURES", "Verified")
	d.press("enter")
	d.until("Write the report", "r: run this step")
	d.press("r")
	d.until("DONE", "report.md")
	d.press("enter")
	d.until("Hold the post-mortem", "1 done")
	d.press("1")
	d.until("Decide what becomes of the suspect", "1 kept")
	d.press("1")
	d.until("does close the incident")
	d.press("r")
	d.until("Press Y to close the incident")
	d.press("Y")
	// The suspect is still cut off, and its workload down: to close that takes a reason.
	d.until("REFUSED", "refused: containment by incident", "irctl undo --step scale", "--leave-standing")
	d.press("enter")
	d.until("THE WALK STOPPED", "refused: containment by incident")
	d.press("r")
	d.until("does close the incident")
	d.press("e")
	d.until("leaveStanding")
	d.press("enter")
	d.write("the pod is evidence")
	d.press("enter", "r")
	d.until("leaveStanding the pod is evidence", "r: run this step")
	d.press("r")
	d.until("Press Y to close the incident")
	d.press("Y")
	d.until("THE WALK IS GONE THROUGH", "incident closed", "to contain", "report.md")
	journal := l.journal(t)
	for _, want := range []string{"done by the duty officer: she knows", "left out by",
		"tomorrow, with the database's owner", "closed"} {
		if !strings.Contains(journal, want) {
			t.Errorf("the journal does not tell: %s\n%s", want, journal)
		}
	}
	d.press("enter")
	d.until("Open incidents none")
	d.press("q")
	d.quitted()
	if r := d.m.result(); r.Run == nil || r.Run.State != engine.RunFinished || r.Incident == "" {
		t.Errorf("the result is %+v", r)
	}
}

func TestAStrayKeyOrPasteChangesNothing(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	stray := func() {
		t.Helper()
		d.press("enter", "enter", "enter")
		d.paste("rY\nY\nrrYY s1\n")
		d.press(" ", "y", "enter")
		// Without bracketed paste it comes as one rush of letters.
		d.press("rY", "1Y1Y", "sY")
	}
	d.until("critical")
	d.press("enter")
	d.until("runbook")
	d.paste("sss\n")
	d.press("s")
	d.until("1 real")
	stray()
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	stray()
	d.until("r: make 3 changes")
	d.press("r")
	d.until("Press Y")
	d.paste("Y")
	d.until("r: make 3 changes")
	d.press("r")
	d.until("Press Y")
	d.press("enter")
	d.until("r: make 3 changes", "nothing was done")
	if n := l.server.Written(); n != 0 {
		t.Errorf("%d writes to the cluster", n)
	}
}

func TestSkipWithAReason(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("s", "enter")
	d.until("not left out: say why")
	d.press("s")
	d.write("it is the payment service")
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")
	if !strings.Contains(l.journal(t), "left out: it is the payment service") {
		t.Error(l.journal(t))
	}
	if n := l.server.Written(); n != 0 {
		t.Errorf("%d writes to the cluster", n)
	}
}

func TestInputsAreEditedAndPlannedAnew(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("e")
	d.until("Change what", "pods")
	for !strings.Contains(d.text(), "▸ steps") {
		d.press("down")
	}
	d.press("enter")
	d.write("quarantine, nonsense")
	d.press("enter")
	d.until("nonsense", "✗")
	d.press("enter", "ctrl+u")
	d.write("quarantine")
	d.press("enter", "r")
	d.until("It will make 1 change")
	d.press("e")
	d.until("quarantine")
	d.press("esc")

	// What was edited is still so after the process was killed.
	d.press("r", "Y")
	d.until("NOT CONTAINED", "Enter goes on")
	if n := l.replicas(t); n == 0 {
		t.Error("the workload was scaled")
	}
	found := false
	for _, e := range l.entries(t) {
		found = found || e.Action == "step-begun" && strings.Contains(e.Data.String(), `"edited":["steps"]`)
	}
	if !found {
		t.Error("the journal does not tell what was edited")
	}
}

func TestUndoInTheMiddle(t *testing.T) {
	l := newLab(t)
	before := l.replicas(t)
	d := l.open(t, withAlert(l))
	d.contained()
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")
	d.press("u")
	d.until("Put back what was changed", "everything (3 changes)")
	d.press("G", "enter")
	d.until("It puts back 3 changes", "undo:")
	d.press("enter")
	d.until("r: put back 3 changes")
	d.press("r")
	d.until("Press Y to put back 3 changes")
	d.press("Y")
	d.until("3 UNDONE", "Verified")
	if n := l.replicas(t); n != before {
		t.Errorf("%d replicas, and before %d", n, before)
	}
	d.until("NOTHING CONTAINED")
	// The step that was undone is to be done again.
	d.press("enter")
	d.until("Cut the pod off", "It will make 3 changes")
	d.press("r", "Y")
	d.until("CONTAINED WITH EXPOSURES", "Enter goes on")
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")

	// Only the workload comes back, and the walk stays where it is.
	d.press("u")
	d.until("Put back what was changed", "everything (3 changes)")
	d.press("down", "enter")
	d.until("It puts back 1 change")
	d.press("r", "Y")
	d.until("1 UNDONE")
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")
	if n := l.replicas(t); n != before {
		t.Errorf("%d replicas, and before %d", n, before)
	}
}

func TestNotesAtAnyMoment(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	// The plan holds the incident; the note need not wait for it.
	d.press("n")
	d.write("the pager went off twice")
	d.press("enter")
	d.until("noted: the pager went off twice", "r: make 3 changes")
	if !strings.Contains(l.journal(t), "the pager went off twice") {
		t.Errorf("the note is lost:\n%s", l.journal(t))
	}
}

func TestQuitAndResumeExactlyThere(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("q")
	d.quitted()
	before := l.journal(t)

	// By the first screen.
	d = l.open(t)
	d.until("compromised-pod, at")
	d.press("enter")
	d.until("It will make 3 changes")
	d.cancel() // killed

	// By its ID.
	d = l.open(t, func(o *Options) { o.Incident = d.m.file.ID })
	d.until("It will make 3 changes")
	d.press("r", "Y")
	d.until("CONTAINED WITH EXPOSURES", "Enter goes on")
	d.cancel() // killed right after it

	d = l.open(t)
	d.until("contained", "compromised-pod, at")
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")
	if strings.Contains(before, "failed") {
		t.Errorf("to quit is no failure:\n%s", before)
	}
}

func TestBackPausesAndGoesOn(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("esc")
	d.until("Open incidents", "goes on at: Decide")
	d.press("enter")
	d.until("1 real")
}

func TestWhatTheClusterRefusesCanBeTriedAgain(t *testing.T) {
	l := newLab(t)
	l.Deny(sim.Rule{Verb: "create", Resource: "networkpolicies"})
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("r", "Y")
	d.until("NOT CONTAINED", "Remains open", "forbidden")
	d.press("enter")
	d.until("r tries it again")
	d.press("r")
	d.until("It will make 3 changes", "r: make 3")
	d.press("s")
	d.write("somebody else has the right")
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")
}

func TestTheClustersOwnChangesAreSeen(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.contained()
	d.wait("the watch", func() bool { return d.m.watching != "" })
	namespace, name, _ := strings.Cut(l.suspect, "/")
	d.wait("the pod's death to be seen", func() bool {
		_ = l.Delete(sim.Pods, namespace, name) // again and again: the watch may just begin
		return strings.Contains(d.text(), "it is gone")
	})
	d.press("w")
	d.until("What the cluster does with the target", "it is gone")
}

func TestAnIncidentOfTheCommandsIsTakenUp(t *testing.T) {
	l := newLab(t)
	i := incident.New{Title: "opened by hand", Severity: incident.Sev3, Actor: timeline.LocalActor(),
		Targets: []incident.Target{{APIVersion: "v1", Kind: "Pod", Namespace: "todo-app",
			Name: strings.TrimPrefix(l.suspect, "todo-app/")}}}
	h, err := l.store.Create(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	d := l.open(t)
	d.until("opened by hand", "none yet; Enter chooses a runbook")
	d.press("enter")
	d.until("A runbook for incident", l.suspect)
	d.press("s")
	d.until("1 real", "SEV3")
}

// TestAnswersAreAlwaysInSight: whatever else there is to read, and however far it
// is scrolled, what can be answered is on the screen, each number beside its word.
func TestAnswersAreAlwaysInSight(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	q := *d.m.walk.question
	q.question.Text = strings.Repeat("A line of many.\n\n", 60)
	q.question.Choices = []string{"vulnerable-application", "stolen-credentials", "exposed-interface",
		"malicious-image", "unknown", engine.AnswerSkip}
	d.m.walk.question = &q
	d.m.walk.note, d.m.walk.by = strings.Repeat("a long note ", 300), strings.Repeat("somebody ", 50)
	for range 12 {
		for _, size := range [][2]int{{80, 24}, {40, 16}, {200, 50}} {
			frame := ansi.Strip(d.at(size[0], size[1]))
			checkFrame(t, "answers", d.m.theme, d.at(size[0], size[1]), size[0], size[1])
			for i, word := range q.question.Choices[:5] {
				if want := fmt.Sprintf(" %d  %s", i+1, word); !strings.Contains(frame, want) {
					t.Fatalf("at %dx%d %q is out of sight:\n%s", size[0], size[1], want, frame)
				}
			}
		}
		d.press("pgdown")
	}
}

// TestHeldKeys: over a slow line presses of one key arrive as one message. They
// move as often as they were pressed, and do nothing else.
func TestHeldKeys(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical", "info")
	d.press("jjj")
	if d.m.home.list.at != 3 {
		t.Errorf("three presses move by %d", d.m.home.list.at)
	}
	d.press("kk")
	if d.m.home.list.at != 1 {
		t.Errorf("two presses back lead to %d", d.m.home.list.at)
	}
	for _, other := range []string{"jk", "jjp", "pp", "aa", "RR", "qq", "??"} {
		d.press(other)
		if d.m.home.list.at != 1 || d.m.screen != onHome || d.m.overlay.kind != "" || d.m.leaving {
			t.Fatalf("%q does something", other)
		}
	}
	d.paste("jjj")
	d.update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("jjj"), Alt: true})
	if d.m.home.list.at != 1 {
		t.Error("a paste moves")
	}
	d.press("kkkk", "enter")
	d.until("New incident of")
	d.press("ss")
	if d.m.screen != onPrepare {
		t.Error("ss begins")
	}
	d.press("s")
	d.until("1 real")
	d.press("11", "ss", "nn", "uu")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("jjjj")
	if d.m.walk.scroll != 4 {
		t.Errorf("four presses scroll by %d", d.m.walk.scroll)
	}
	d.press("rr", "YY")
	if d.m.walk.armed != nil {
		t.Error("rr asks to confirm")
	}
	d.press("r")
	d.until("Press Y")
	d.press("YY")
	d.until("r: make 3 changes", "nothing was done")
	// Where letters are typed, they are letters.
	d.press("s")
	d.press("jjj")
	if got := d.m.walk.typing.text(); got != "jjj" {
		t.Errorf("typed: %q", got)
	}
	if n := l.server.Written(); n != 0 {
		t.Errorf("%d writes to the cluster", n)
	}
}

// TestSuggestedValues: what is suggested is filled in for the runbook that it is
// meant for, is less than what the suspect says and what a person types, and never
// says what is acted on.
func TestSuggestedValues(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l), func(o *Options) {
		o.Runbook = "crypto-miner"
		o.Suggested = map[string]string{"pool": "198.51.100.23", "pods": "todo-app/postgres-0", "watch": "1m",
			"sameImage": "not a boolean", "nothing": "of that name"}
	})
	d.until("critical")
	d.press("enter")
	d.until("crypto-miner")
	values := func(book string) map[string]string {
		t.Helper()
		b, err := d.m.prepare.begin()
		if err != nil || b.book.Name != book {
			t.Fatalf("%v, %v", b.book, err)
		}
		return b.given
	}
	if got := values("crypto-miner"); got["pods"] != l.suspect || got["pool"] != "198.51.100.23" ||
		got["watch"] != "1m" || got["sameImage"] != "" {
		t.Errorf("filled in: %v", got)
	}
	m := d.m.prepare
	for _, r := range m.rows() {
		if r.name == "pool" {
			d.m.prepare = m.set(r, "203.0.113.1")
		}
	}
	if got := values("crypto-miner"); got["pool"] != "203.0.113.1" {
		t.Errorf("typed: %v", got)
	}
	// A suspect that is no pod leaves the pods to the person.
	node := *m.suspect
	node.Kind, node.Name = "node", "node-1"
	if text, _ := newPrepare(d.m.library, d.m.o).about(&node).value(m.runbook().Parameter("pods")); text != "" {
		t.Errorf("pods of a node: %q", text)
	}
	d.press("right")
	if b, err := d.m.prepare.begin(); err == nil && b.given["watch"] != "" {
		t.Errorf("another runbook, %s: %v", b.book.Name, b.given)
	}
}

// TestALongFormFollowsTheCursor: however many parameters there are, the one at
// hand is on the screen, with what is asked.
func TestALongFormFollowsTheCursor(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l), func(o *Options) { o.Runbook = "crypto-miner" })
	d.until("critical")
	d.press("enter")
	d.until("crypto-miner")
	rows := d.m.prepare.rows()
	for i, r := range rows {
		frame := ansi.Strip(d.at(80, 24))
		checkFrame(t, r.name, d.m.theme, d.at(80, 24), 80, 24)
		if !strings.Contains(frame, "▸ "+r.name) {
			t.Fatalf("row %d, %s, is out of sight:\n%s", i, r.name, frame)
		}
		d.press("j")
	}
}

// TestEveryResultIsRead: what came of a step stays until somebody has read it,
// also where the next steps ask nothing, and are over by then.
func TestEveryResultIsRead(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	for _, title := range []string{"The first", "The second", "The third"} {
		d.m.walk.happened(happened{event: engine.Event{Kind: engine.Left,
			Result: &engine.StepResult{Name: "cutOff", Title: title, Uses: "recover", Outcome: "done",
				Summary: "it went well",
				Detail: &engine.RecoverResult{Verdict: engine.NotRecovered,
					Workloads: []engine.RecoveredWorkload{
						{RecoveredWorkload: record.RecoveredWorkload{Object: "Deployment a/b", Rollout: title +
							" rollout: 1 of 3 pods"}}}, Failures: []string{"something failed"}}}}}, d.m.theme)
	}
	for _, title := range []string{"The first", "The second", "The third"} {
		d.until("NOT RECOVERED "+title, "Remains open: 2", title+" rollout: 1 of 3 pods", "something failed")
		d.press("enter")
	}
	d.until("1 real")
}

// TestWithoutASuspect: what has no pod to blame is begun without one, and nobody
// is told that a pod still has to be contained.
func TestWithoutASuspect(t *testing.T) {
	l := newLab(t)
	d := l.open(t, func(o *Options) {
		o.Runbook = "leaked-secret"
		o.Suggested = map[string]string{"secret": "todo-app/backend-secret", "seen": "a public paste"}
	})
	d.until("Suspects", "[n] no pod")
	d.press("n")
	d.until("New incident, without a suspect", "leaked-secret", "a public paste")
	d.press("s")
	d.until("1 real", "NO POD IS SUSPECT")
	if targets := d.m.file.Targets; len(targets) != 0 {
		t.Errorf("suspects on record: %v", targets)
	}
	if strings.Contains(d.text(), "NOTHING CONTAINED") {
		t.Errorf("a pod is to be contained:\n%s", d.text())
	}
}

// TestAContainmentThatDidNotHoldIsDoneAgain: somebody scales the workload back
// while its verdict is on the screen.
func TestAContainmentThatDidNotHoldIsDoneAgain(t *testing.T) {
	t.Run("where it was read", func(t *testing.T) {
		doneAgain(t, func(d *driver) { d.press("r") })
	})
	t.Run("from the next step on", func(t *testing.T) {
		doneAgain(t, func(d *driver) {
			d.press("enter")
			d.until("Tell the Incident Commander", "NOT CONTAINED", "1 done") // before it is asked, u is no key
			d.press("u")
			d.until("do again what does not hold: Cut the pod off")
			d.press("G", "enter")
		})
	})
}

func doneAgain(t *testing.T, again func(*driver)) {
	t.Helper()
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.contained()
	d.press("r") // while it holds there is nothing to do again
	d.until("CONTAINED WITH EXPOSURES")
	if err := l.Edit(sim.Deployments, "todo-app", "backend", func(o *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(o.Object, int64(2), "spec", "replicas"); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	d.wait("the verdict to turn", func() bool {
		d.update(lookAgain{})
		return strings.Contains(d.text(), "NOT CONTAINED") && strings.Contains(d.text(), "r: do it again")
	})
	if strings.Contains(d.text(), "contained 00:") {
		t.Errorf("the clock goes on:\n%s", d.text())
	}
	again(d)
	d.until("It will make 1 change", "scale Deployment todo-app/backend")
	d.press("r", "Y")
	d.until("CONTAINED WITH EXPOSURES", "Enter goes on")
	if n := l.replicas(t); n != 0 {
		t.Errorf("%d replicas", n)
	}
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")
	if !strings.Contains(l.journal(t), "to be done again, since it does not hold") {
		t.Error(l.journal(t))
	}
}

func TestWhatWasLeftOutIsDoneAfterAll(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("s")
	d.write("by mistake")
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done", "undo")
	d.press("u")
	d.until("do after all what was left out: Cut the pod off")
	d.press("enter")
	d.until("It will make 3 changes", "r: make 3 changes")
	d.press("r", "Y")
	d.until("CONTAINED WITH EXPOSURES", "Enter goes on")
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done")
}
