package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
	"irctl/runbooks"
)

// guide answers a runbook's questions.
type guide struct {
	*front
	// answer is nil where nobody is there.
	answer func(engine.Question) (engine.Answer, error)

	mu    sync.Mutex
	asked []engine.Question
}

func (g *guide) Ask(_ context.Context, q engine.Question) (engine.Answer, error) {
	g.mu.Lock()
	g.asked = append(g.asked, q)
	g.mu.Unlock()
	switch {
	case g.answer != nil:
		return g.answer(q)
	case q.Kind == engine.AskConfirm: // as with --yes
		return engine.Answer{Choice: engine.AnswerDo}, nil
	}
	return engine.Answer{}, engine.ErrUnattended
}

// cooperative does and confirms everything.
func cooperative(q engine.Question) (engine.Answer, error) {
	switch q.Kind {
	case engine.AskConfirm:
		return engine.Answer{Choice: engine.AnswerDo}, nil
	case engine.AskManual:
		return engine.Answer{Choice: q.Choices[0], By: "alice", Note: "as told"}, nil
	case engine.AskFailed:
		return engine.Answer{Choice: engine.AnswerContinue}, nil
	}
	return engine.Answer{}, engine.ErrUnattended
}

// parsed loads a runbook from its text.
func parsed(t testing.TB, text string) *runbook.Runbook {
	t.Helper()
	r, problems := runbook.Parse([]byte(text), "test", engine.Operations())
	if r == nil {
		t.Fatal(problems)
	}
	return r
}

// shipped loads a built-in runbook.
func shipped(t testing.TB, name string) *runbook.Runbook {
	t.Helper()
	r, err := runbook.NewLibrary("", "", runbooks.Files, engine.Operations()).Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func stepsOf(text string) string {
	return "apiVersion: irctl/v1\nkind: Runbook\nname: test\nversion: 1.0.0\ntitle: A test\nparameters:\n- {name: " +
		"pod, type: pod, required: true}\nphases:\n" + text
}

// go through a runbook; the guide is nobody unless changed.
func (p *process) runNow(ctx context.Context, book *runbook.Runbook, given map[string]string,
	change ...func(*engine.RunRequest)) (*engine.RunResult, error) {
	req := engine.RunRequest{Runbook: book, Given: given, Namespace: "todo-app", Guide: &guide{front: p.front},
		Unattended: true, EvidenceNote: "no recipients"}
	for _, f := range change {
		f(&req)
	}
	return p.Run(ctx, req)
}

func asking(answer func(engine.Question) (engine.Answer, error)) func(*engine.RunRequest) {
	return func(req *engine.RunRequest) {
		req.Guide = &guide{front: &front{answer: engine.Yes}, answer: answer}
		req.Unattended = false
	}
}

func step(res *engine.RunResult, name string) engine.StepResult {
	for _, s := range res.Steps {
		if s.Name == name {
			return s
		}
	}
	return engine.StepResult{}
}

// outcomes are the steps of a result with their outcomes, in order.
func outcomes(res *engine.RunResult) string {
	var out []string
	for _, s := range res.Steps {
		text := s.Name + ":" + s.Outcome
		if s.NotNeeded {
			text = s.Name + ":-"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

var recipientFile = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "irctl-key-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "key.asc")
	e, err := openpgp.NewEntity("Responder", "", "responder@example.org",
		&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519})
	if err != nil {
		return "", err
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w, err := armor.Encode(f, openpgp.PublicKeyType, nil)
	if err == nil {
		err = errors.Join(e.Serialize(w), w.Close())
	}
	return path, errors.Join(err, f.Close())
})

// sealing gives a run recipients.
func sealing(t testing.TB) func(*engine.RunRequest) {
	t.Helper()
	path, err := recipientFile()
	if err != nil {
		t.Fatal(err)
	}
	recipients, err := evidence.LoadRecipients(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	return func(req *engine.RunRequest) { req.Evidence = &engine.Sealing{Recipients: recipients} }
}

const decisions = `- name: detect
  steps:
  - {name: triage, uses: manual, with: {instruction: "look at ${params.pod}", answers: [real, none], unattended: real}}
  - {name: falseAlarm, uses: close, when: steps.triage.answer == "none", with: {note: none}}
- name: contain
  steps:
  - {name: cutOff, uses: contain, with: {pods: ["${params.pod}"]}}
  - {name: exposures, uses: note, when: '"token" in steps.cutOff.open', with: {text: "open: ${steps.cutOff.open}"}}
- name: eradicate
  steps:
  - {name: patch, uses: manual, onError: continue, with: {instruction: patch it}}
- name: post-mortem
  steps:
  - {name: finish, uses: close, when: steps.patch.done, with: {leaveStanding: "the pod is kept"}}
`

func TestRunByAPerson(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	res, err := p.runNow(t.Context(), parsed(t, stepsOf(decisions)), map[string]string{"pod": w.suspect},
		asking(cooperative))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := outcomes(res),
		"triage:done falseAlarm:- cutOff:done exposures:done patch:done finish:done"; got != want ||
		res.State != engine.RunFinished {
		t.Errorf("%s, %s; want %s", res.State, got, want)
	}
	var who, notes, closed, verdict bool
	for _, e := range journal(t, dir) {
		who = who || strings.Contains(e.Summary, "real by alice: as told")
		notes = notes || e.Kind == timeline.KindNote && strings.HasPrefix(e.Summary, "open: ") &&
			strings.Contains(e.Summary, "token")
		verdict = verdict || e.Kind == timeline.KindVerdict && e.Phase == "eradicate" &&
			e.Outcome == timeline.OutcomeDone
		closed = e.Kind == timeline.KindClosed
	}
	if !who || !notes || !closed || !verdict {
		t.Errorf("who %v, note %v, verdict %v, closed last %v", who, notes, verdict, closed)
	}
}

func TestRunUnattended(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	res, err := p.runNow(t.Context(), parsed(t, stepsOf(decisions)), map[string]string{"pod": w.suspect})
	if err != nil {
		t.Fatal(err)
	}
	// What only a person can do is not done, and the incident stays open.
	if got, want := outcomes(res),
		"triage:done falseAlarm:- cutOff:done exposures:done patch:skipped finish:-"; got != want ||
		res.State != engine.RunFinished {
		t.Errorf("%s, %s; want %s", res.State, got, want)
	}
	if by := step(res, "triage").Results["by"]; !strings.Contains(fmt.Sprint(by), "the runbook") {
		t.Errorf("the answer is recorded as that of %v", by)
	}
	// The same command again does nothing, and says the same.
	before := len(journal(t, dir))
	p = w.mustStart(t, dir)
	again, err := p.runNow(t.Context(), parsed(t, stepsOf(decisions)),
		map[string]string{"pod": "todo-app/" + w.suspect})
	if err != nil || outcomes(again) != outcomes(res) || p.server.Written() != 0 || len(journal(t, dir)) != before ||
		again.Verdict != res.Verdict {
		t.Errorf("again: %v, %s, %d writes, %d entries more", err, outcomes(again), p.server.Written(),
			len(journal(t, dir))-before)
	}
}

// TestADecisionEndsTheRun: a false alarm closes the incident, and nothing was
// changed.
func TestADecisionEndsTheRun(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	res, err := p.runNow(t.Context(), parsed(t, stepsOf(decisions)), map[string]string{"pod": w.suspect},
		asking(func(q engine.Question) (engine.Answer, error) {
			if q.Kind == engine.AskManual {
				return engine.Answer{Choice: "none"}, nil
			}
			return cooperative(q)
		}))
	if err != nil || outcomes(res) != "triage:done falseAlarm:done" || res.State != engine.RunFinished {
		t.Errorf("%v, %s, %s", err, res.State, outcomes(res))
	}
	wantSame(t, "a false alarm", w.before, picture(w.Cluster, w.suspect))
}

func TestAPersonStopsAndGoesOn(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	book := parsed(t, stepsOf(decisions))
	given := map[string]string{"pod": w.suspect}
	stop := func(q engine.Question) (engine.Answer, error) {
		if q.Kind == engine.AskManual && q.Step.Name == "patch" {
			return engine.Answer{Choice: engine.AnswerStop}, nil
		}
		return cooperative(q)
	}
	res, err := w.mustStart(t, dir).runNow(t.Context(), book, given, asking(stop))
	if err != nil || res.State != engine.RunStopped || res.Stopped != "patch" {
		t.Fatalf("%v, %s at %s", err, res.State, res.Stopped)
	}
	// It goes on there, also without naming the parameters again.
	res, err = w.mustStart(t, dir).runNow(t.Context(), book, nil, asking(cooperative))
	if err != nil || res.State != engine.RunFinished || !res.Resumed || !step(res, "cutOff").Earlier ||
		step(res, "patch").Outcome != "done" {
		t.Errorf("%v, %+v", err, res)
	}
}

func TestAFailureIsHandledAsTheStepSays(t *testing.T) {
	const text = `- name: contain
  steps:
  - {name: gone, uses: contain, onError: HANDLING, with: {pods: [todo-app/gone]}}
  - {name: after, uses: note, with: {text: "gone: ${steps.gone.outcome} ${params.pod}"}}
`
	for handling, want := range map[string]string{"stop": "gone:failed", "continue": "gone:failed after:done",
		"ask": "gone:failed"} {
		t.Run(handling, func(t *testing.T) {
			w := newWorld(t)
			res, err := w.mustStart(t, t.TempDir()).
				runNow(t.Context(), parsed(t, stepsOf(strings.Replace(text, "HANDLING", handling, 1))),
					map[string]string{"pod": w.suspect})
			if err != nil || outcomes(res) != want {
				t.Errorf("%v, %s; want %s", err, outcomes(res), want)
			}
		})
	}
	t.Run("retry", func(t *testing.T) {
		w, tries := newWorld(t), 0
		res, err := w.mustStart(t, t.TempDir()).
			runNow(t.Context(), parsed(t, stepsOf(strings.Replace(text, "HANDLING", "ask", 1))),
				map[string]string{"pod": w.suspect}, asking(func(q engine.Question) (engine.Answer, error) {
					if q.Kind == engine.AskFailed {
						if tries++; tries < 3 {
							return engine.Answer{Choice: engine.AnswerRetry}, nil
						}
					}
					return cooperative(q)
				}))
		if err != nil || tries != 3 || outcomes(res) != "gone:failed after:done" {
			t.Errorf("%v, %d tries, %s", err, tries, outcomes(res))
		}
	})
}

func TestAChangedRunbookIsNoticed(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	given := map[string]string{"pod": w.suspect}
	first := stepsOf("- name: contain\n  steps:\n  - {name: a, uses: note, with: {text: 'a ${params.pod}'}}\n  - " +
		"{name: b, uses: manual, with: {instruction: b}}\n")
	if res, err := w.mustStart(t, dir).runNow(t.Context(), parsed(t, first), given); err != nil ||
		res.State != engine.RunStopped {
		t.Fatal(err, res.State)
	}
	changed := parsed(t, strings.Replace(first, "uses: manual, with: {instruction: b}", "uses: note, with: {text: b}",
		1))
	_, err := w.mustStart(t, dir).runNow(t.Context(), changed, given)
	if !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), "--accept-changed-runbook") {
		t.Fatalf("a changed runbook: %v", err)
	}
	res, err := w.mustStart(t, dir).runNow(t.Context(), changed, given, func(req *engine.RunRequest) {
		req.AcceptChanged = true
	})
	if err != nil || res.State != engine.RunFinished {
		t.Fatal(err, res.State)
	}
	recorded := slices.ContainsFunc(journal(t, dir), func(e timeline.Entry) bool {
		return strings.Contains(e.Summary, "and the change accepted")
	})
	if !recorded {
		t.Error("that the change was accepted is not recorded")
	}
}

func TestParametersDoNotChangeOnTheWay(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	text := strings.Replace(stepsOf(
		"- name: contain\n  steps:\n  - {name: b, uses: manual, with: {instruction: 'b ${params.pod} "+
			"${params.why}'}}\n"),
		"required: true}\n", "required: true}\n- {name: why, type: string}\n", 1)
	book := parsed(t, text)
	if _, err := w.mustStart(t, dir).runNow(t.Context(), book,
		map[string]string{"pod": w.suspect, "why": "x"}); err != nil {
		t.Fatal(err)
	}
	_, err := w.mustStart(t, dir).runNow(t.Context(), book, map[string]string{"pod": w.suspect, "why": "y"})
	if !errors.Is(err, engine.ErrRefused) {
		t.Errorf("%v", err)
	}
	// Another pod is another incident.
	other := firstPod(t, w.Cluster, "todo-app", "frontend-")
	p := w.mustStart(t, dir)
	p.Random = strings.NewReader("another incident, of another ID")
	res, err := p.runNow(t.Context(), book, map[string]string{"pod": other})
	if err != nil || !res.Opened {
		t.Errorf("%v, opened %v", err, res.Opened)
	}
}

// TestANewerProcessTakesOver: of two processes in one run the older one stops.
func TestANewerProcessTakesOver(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	book := parsed(t, stepsOf("- name: contain\n  steps:\n  - {name: a, uses: manual, with: {instruction: 'a "+
		"${params.pod}'}}\n  - {name: b, uses: note, with: {text: b}}\n"))
	given := map[string]string{"pod": w.suspect}
	_, err := w.mustStart(t, dir).runNow(t.Context(), book, given,
		asking(func(q engine.Question) (engine.Answer, error) {
			// While a person thinks, somebody else goes on with the same run.
			other := w.mustStart(t, dir)
			other.Random = strings.NewReader("another session of the run")
			if res, err := other.runNow(t.Context(), book, given, asking(cooperative)); err != nil ||
				res.State != engine.RunFinished {
				t.Errorf("the other: %v", err)
			}
			return cooperative(q)
		}))
	if !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), "another irctl has taken up") {
		t.Errorf("%v", err)
	}
}

func TestMissingParameters(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	book := parsed(t, stepsOf("- name: contain\n  steps:\n  - {name: a, uses: note, with: {text: '${params.pod}'}}\n"))
	if _, err := w.mustStart(t, dir).runNow(t.Context(), book, nil); !errors.Is(err, runbook.ErrParameter) {
		t.Errorf("nobody can be asked: %v", err)
	}
	answers := []string{"not a pod", w.suspect}
	res, err := w.mustStart(t, dir).runNow(t.Context(), book, nil,
		asking(func(q engine.Question) (engine.Answer, error) {
			a := answers[0]
			answers = answers[1:]
			return engine.Answer{Choice: a}, nil
		}))
	if err != nil || res.Params["pod"] != "todo-app/"+w.suspect {
		t.Errorf("%v, %v", err, res.Params)
	}
}

func TestDryRunOfARunbook(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	res, err := p.runNow(t.Context(), parsed(t, stepsOf(decisions)), map[string]string{"pod": w.suspect},
		func(req *engine.RunRequest) { req.DryRun = true })
	if err != nil || len(res.Steps) != 6 || res.State != engine.RunPlanned {
		t.Fatalf("%v %+v", err, res)
	}
	plan, ok := step(res, "cutOff").Detail.(*engine.ContainResult)
	if !ok || len(plan.Actions) != 3 || step(res, "exposures").When == "" {
		t.Errorf("%+v", step(res, "cutOff"))
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "incidents", "inc-*")); len(found) > 0 || p.server.Written() != 0 {
		t.Errorf("%d incidents, %d writes", len(found), p.server.Written())
	}
	wantSame(t, "a dry run", w.before, picture(w.Cluster, w.suspect))
}

func TestStatusAndUndoAsSteps(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	res, err := w.mustStart(t, dir).runNow(t.Context(), parsed(t, stepsOf(`- name: contain
  steps:
  - {name: cutOff, uses: contain, with: {pods: ["${params.pod}"]}}
  - {name: look, uses: status}
  - {name: back, uses: undo, when: steps.look.holds && steps.look.standing == 3}
`)), map[string]string{"pod": w.suspect})
	if err != nil || outcomes(res) != "cutOff:done look:done back:done" ||
		fmt.Sprint(step(res, "back").Results["undone"]) != "3" {
		t.Fatalf("%v, %s, %+v", err, outcomes(res), res.Steps)
	}
	wantSame(t, "undone", w.before, picture(w.Cluster, w.suspect))
}

func TestAStepSuspendsControllers(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	if err := w.Apply(`apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: backend, namespace: todo-app}
spec: {scaleTargetRef: {name: backend}}
`); err != nil {
		t.Fatal(err)
	}
	res, err := w.mustStart(t, dir).runNow(t.Context(), parsed(t, stepsOf(`- name: contain
  steps:
  - {name: cutOff, uses: contain, with: {pods: ["${params.pod}"], suspendControllers: true}}
`)), map[string]string{"pod": w.suspect})
	if err != nil || outcomes(res) != "cutOff:done" {
		t.Fatalf("%v, %s", err, outcomes(res))
	}
	done, _ := step(res, "cutOff").Detail.(*engine.ContainResult)
	if done == nil || len(done.Actions) != 4 || !strings.HasPrefix(done.Actions[0].Summary, "suspend ScaledObject") {
		t.Errorf("%+v", done)
	}
}

func TestEvidenceAsSteps(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	book := parsed(t, stepsOf(`- name: investigate
  steps:
  - {name: quick, uses: snapshot, onError: continue, with: {pods: ["${params.pod}"]}}
  - {name: all, uses: investigate, onError: continue, with: {labels: [app=backend], namespace: todo-app, since: 1h}}
`))
	res, err := w.mustStart(t, dir).runNow(t.Context(), book, map[string]string{"pod": w.suspect})
	if err != nil || outcomes(res) != "quick:refused all:refused" {
		t.Fatalf("without recipients: %v, %s", err, outcomes(res))
	}
	dir = t.TempDir()
	res, err = w.mustStart(t, dir).runNow(t.Context(), book, map[string]string{"pod": w.suspect}, sealing(t))
	if err != nil || outcomes(res) != "quick:done all:done" {
		t.Fatalf("%v, %s, %+v", err, outcomes(res), res.Steps)
	}
	for _, name := range []string{"quick", "all"} {
		if _, err := os.Stat(fmt.Sprint(step(res, name).Results["file"])); err != nil {
			t.Error(err)
		}
	}
}

// TestEvidenceOfTheIncidentsSuspects: a step that names nobody takes those of the
// incident, such as the pods of a workload that have been cut off.
func TestEvidenceOfTheIncidentsSuspects(t *testing.T) {
	w := newWorld(t)
	e := w.mustStart(t, t.TempDir())
	res, err := e.runNow(t.Context(), parsed(t, strings.Replace(stepsOf(`- name: contain
  steps:
  - {name: early, uses: snapshot, onError: continue}
  - {name: cutOff, uses: contain, with: {workloads: [todo-app/deployment/mcp-server]}}
- name: investigate
  steps:
  - {name: all, uses: investigate}
`), "parameters:\n- {name: pod, type: pod, required: true}\n", "", 1)), nil, sealing(t))
	if err != nil || outcomes(res) != "early:refused cutOff:done all:done" {
		t.Fatalf("%v, %s, %+v", err, outcomes(res), res.Steps)
	}
	if why := step(res, "early").Error; !strings.Contains(why, "has no suspects yet: contain them first") {
		t.Errorf("before there are any: %s", why)
	}
	entries, err := e.Store.Entries(incident.ID(res.Incident))
	if err != nil {
		t.Fatal(err)
	}
	entries = slices.DeleteFunc(entries, func(e timeline.Entry) bool { return e.Step != "all" || len(e.Targets) == 0 })
	if len(entries) != 1 || len(entries[0].Targets) != 1 ||
		!strings.HasPrefix(entries[0].Targets[0], "todo-app/mcp-server-") {
		t.Errorf("sealed: %+v", entries)
	}
}

func TestEradicateAsAStep(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	const text = `- name: contain
  steps:
  - {name: cutOff, uses: contain, with: {pods: ["${params.pod}"], steps: [quarantine, detach]}}
- name: eradicate
  steps:
  - {name: none, uses: eradicate, onError: continue, with: {secrets: [no-such-secret]}}
  - {name: rotate, uses: eradicate, with: {secrets: [backend-secret],
      generate: [SECRET_KEY=random, GROQ_API_KEY=random]}}
  - {name: again, uses: note, when: steps.rotate.done, with: {text: "unrotated: ${steps.rotate.unrotated}"}}
`
	secrets := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	before, err := w.Get(secrets, "todo-app", "backend-secret")
	if err != nil {
		t.Fatal(err)
	}
	res, err := w.mustStart(t, dir).runNow(t.Context(), parsed(t, stepsOf(text)), map[string]string{"pod": w.suspect})
	if err != nil || outcomes(res) != "cutOff:done none:failed rotate:done again:done" {
		t.Fatalf("%v, %s: %+v", err, outcomes(res), res.Steps)
	}
	after, err := w.Get(secrets, "todo-app", "backend-secret")
	if err != nil || fmt.Sprint(before.Object["data"]) == fmt.Sprint(after.Object["data"]) {
		t.Errorf("%v: the secret is what it was", err)
	}
}

// patchedBackend is a patched image, by digest.
var patchedBackend = "registry.example.com/todo-backend@sha256:" + strings.Repeat("a", 64)

// shippedGiven are parameters with which each shipped runbook can be tried.
func shippedGiven(w *world) map[string]map[string]string {
	with := func(more ...string) map[string]string {
		given := map[string]string{"generateRest": "random", "watch": "0s"}
		for i := 0; i < len(more); i += 2 {
			given[more[i]] = more[i+1]
		}
		return given
	}
	return map[string]map[string]string{
		"compromised-pod": with("pod", w.suspect, "alert", "Terminal shell in container", "image",
			patchedBackend, "removeBindings", "true"),
		"crypto-miner": with("pods", w.suspect, "pool", "pool.example.com:3333", "image", patchedBackend),
		"leaked-secret": {"secret": "backend-secret", "key": "SECRET_KEY", "seen": "a public repository",
			"generateRest": "random"},
		"malicious-image": with("image", "registry.example.com/todo-backend:1.4.2", "workloads",
			"deployment/backend", "good", patchedBackend),
		"stolen-service-account": with("account", "backend-sa", "pods", w.suspect, "sameImage", "true"),
		"compromised-node":       with("node", "node-1", "pods", w.suspect, "sameImage", "true"),
		"data-exfiltration":      with("pod", w.suspect, "destination", "203.0.113.9", "image", patchedBackend),
	}
}

// newSound is a world in which the backend is as the checklist of a recovery
// wants it.
func newSound(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		containers[0].(map[string]any)["securityContext"] = map[string]any{"runAsNonRoot": true,
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"capabilities": map[string]any{"drop": []any{"ALL"}}}
		_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
	})
	w.suspect = firstPod(t, w.Cluster, "todo-app", "backend-")
	w.before = picture(w.Cluster, w.suspect)
	return w
}

// complete are the runbooks that can be gone through unattended with nothing
// left to a person, given what shippedGiven gives.
var complete = []string{"compromised-pod"}

func TestShippedRunbooks(t *testing.T) {
	list, err := runbook.NewLibrary("", "", runbooks.Files, engine.Operations()).List()
	if err != nil || len(list) != len(shippedGiven(newSound(t))) {
		t.Fatalf("%v, %d runbooks", err, len(list))
	}
	for _, listed := range list {
		t.Run(listed.Name, func(t *testing.T) {
			t.Parallel()
			w := newSound(t)
			given := shippedGiven(w)[listed.Name]
			book := shipped(t, listed.Name)
			res, err := w.mustStart(t, t.TempDir()).runNow(t.Context(), book, given, asking(cooperative), sealing(t))
			if err != nil || res.State != engine.RunFinished {
				t.Fatalf("by a person: %v, %s at %s: %+v", err, res.State, res.Stopped, res.Steps)
			}
			for _, s := range res.Steps {
				if !s.Done() {
					t.Errorf("by a person: %s is %s: %s", s.Name, s.Outcome, s.Error)
				}
			}
			w = newSound(t)
			res, err = w.mustStart(t, t.TempDir()).runNow(t.Context(), book, shippedGiven(w)[listed.Name], sealing(t))
			if err != nil || res.State != engine.RunFinished {
				t.Fatalf("unattended: %v, %s at %s: %+v", err, res.State, res.Stopped, res.Steps)
			}
			for _, s := range res.Steps {
				if s.Outcome == "failed" || s.Outcome == "refused" {
					t.Errorf("unattended: %s is %s: %s", s.Name, s.Outcome, s.Error)
				}
			}
			if wants := slices.Contains(complete, listed.Name); wants != (len(res.Left) == 0) ||
				wants != (step(res, "finish").Outcome == "done") {
				t.Errorf("unattended: left %q, the closing is %s", res.Left, step(res, "finish").Outcome)
			}
		})
	}
}

var exhaustive = flag.Bool("exhaustive", false, "kill every shipped runbook at every entry, not only compromised-pod")

// TestARunIsKilledAtEveryEntry kills the process before each entry of the
// journal that is written; of most runbooks, unless -exhaustive is given, before
// some. The same command goes on, and in the end all is as if nothing had happened.
func TestARunIsKilledAtEveryEntry(t *testing.T) {
	for name := range shippedGiven(newWorld(t)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			clean, n, _ := w.runKilledAt(t, name, dir, 0)
			after, entries := w.rotated(), steady(journal(t, dir))
			if n < 10 {
				t.Fatalf("%d entries: this test no longer looks at what it was made for", n)
			}
			step := map[string]int{"compromised-pod": 1, "malicious-image": 3}[name]
			switch {
			case *exhaustive:
				step = 1
			case step == 0:
				step = 6
			}
			if testing.Short() {
				step *= 20
			}
			// Before the first there is no incident yet.
			for at := 2; at <= n; at += step {
				w := newWorld(t)
				_, _, left := w.runKilledAt(t, name, t.TempDir(), at)
				res, err := w.mustStart(t, left).runNow(t.Context(), shipped(t, name), shippedGiven(w)[name], fast,
					sealing(t))
				if err != nil {
					t.Errorf("killed before entry %d: %v", at, err)
					continue
				}
				if outcomes(res) != outcomes(clean) || res.State != clean.State {
					t.Errorf("killed before entry %d: %s, not %s", at, outcomes(res), outcomes(clean))
				}
				// Of a workload that was not scaled yet, the pods that came up meanwhile are
				// suspects, too, so there may be more of them.
				if name != "malicious-image" {
					wantSame(t, fmt.Sprintf("%s killed before entry %d", name, at), after, w.rotated())
				}
				if got := steady(journal(t, left)); got != entries {
					t.Errorf("killed before entry %d, the journal ends with\n%s\nnot\n%s", at, got, entries)
				}
			}
		})
	}
}

// rotated is a picture in which new values, and what carries their marks, are
// not told apart: they are other ones in every run.
func (w *world) rotated() map[string]any {
	all := picture(w.Cluster, w.suspect)
	for key, o := range all {
		o := o.(map[string]any)
		switch kind, _, _ := strings.Cut(key, " "); kind {
		case "ReplicaSet", "EndpointSlice":
			delete(all, key)
		case "Pod":
			if !strings.HasSuffix(key, "/"+w.suspect) {
				delete(all, key)
			}
		case "Secret":
			for k := range o["data"].(map[string]any) {
				o["data"].(map[string]any)[k] = "a value"
			}
		case "ServiceAccount":
			unstructured.RemoveNestedField(o, "metadata", "uid")
		case "Deployment", "StatefulSet", "DaemonSet":
			unstructured.RemoveNestedField(o, "metadata", "annotations", "deployment.kubernetes.io/revision")
			unstructured.RemoveNestedField(o, "spec", "template", "metadata", "annotations")
		}
	}
	return all
}

// fast has everybody but the closing be done: the incident stays open, so that
// it can be found again after a kill at the last entry.
func fast(req *engine.RunRequest) {
	asking(func(q engine.Question) (engine.Answer, error) {
		if q.Kind == engine.AskConfirm && q.Step.Uses == "close" {
			return engine.Answer{Choice: engine.AnswerSkip}, nil
		}
		return cooperative(q)
	})(req)
}

// steady are the steps that ended, as the journal tells it, each once.
func steady(entries []timeline.Entry) string {
	last := map[string]string{}
	for _, e := range entries {
		if e.Action == "step-ended" {
			last[e.Step] = string(e.Outcome)
		}
	}
	return fmt.Sprint(last)
}

// runKilledAt goes through a shipped runbook and dies before the entry of that
// number is written; 0: it lives. It returns how many entries it wrote, and
// the state directory as the kill left it.
func (w *world) runKilledAt(t *testing.T, name, dir string, at int) (res *engine.RunResult, entries int, left string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var dead atomic.Bool
	var count atomic.Int64
	now := func() time.Time {
		if writesAnEntry() && !dead.Load() {
			if n := int(count.Add(1)); n == at {
				dead.Store(true)
				left = copyState(t, dir)
				cancel()
			}
		}
		return clock()
	}
	nobody := sim.Fault{Error: apierrors.NewUnauthorized("Unauthorized")}
	p, err := w.start(t, ctx, dir, func(sim.Request) sim.Fault {
		if dead.Load() {
			return nobody
		}
		return sim.Fault{}
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Store, err = incident.NewStore(dir, incident.Options{Now: now, LockWait: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	res, err = p.runNow(ctx, shipped(t, name), shippedGiven(w)[name], fast, sealing(t))
	if at == 0 && err != nil {
		t.Fatal(err)
	}
	return res, int(count.Load()), left
}

// writesAnEntry tells whether the clock is read for an entry of a journal.
func writesAnEntry() bool {
	callers := make([]uintptr, 8)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "timeline.(*Log).line") {
			return true
		}
		if !more {
			return false
		}
	}
}
