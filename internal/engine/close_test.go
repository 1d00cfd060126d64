package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// closeNow closes an incident, as the command does.
func (p *process) closeNow(t testing.TB, id incident.ID, req engine.CloseRequest) (*engine.Closing, error) {
	t.Helper()
	h, err := p.Store.Open(t.Context(), id, p.Actor())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	return p.CloseIncident(t.Context(), h, req)
}

func stepsIn(list []engine.StandingChange) string {
	var names []string
	for _, s := range list {
		names = append(names, s.Step)
	}
	return strings.Join(names, " ")
}

// everyStep is a world in which each step of containment has changed something.
func everyStep(t *testing.T) (*world, *process, incident.ID) {
	t.Helper()
	w := newWorld(t)
	if err := w.Apply(`apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: backend, namespace: todo-app}
spec: {scaleTargetRef: {name: backend}}
`); err != nil {
		t.Fatal(err)
	}
	p := w.mustStart(t, t.TempDir())
	res := p.mustContain(t, func(r *engine.ContainRequest) { r.Options.Steps = slices.Clone(contain.AllSteps) })
	return w, p, incident.ID(res.Incident)
}

// TestClosingIsRefusedWhileContainmentStands: each thing is named with the
// command that ends it; what the message says, done in its order, is what it takes.
func TestClosingIsRefusedWhileContainmentStands(t *testing.T) {
	w, p, id := everyStep(t)
	left := []string{contain.StepCordon, contain.StepScale, contain.StepDetach, contain.StepQuarantine,
		contain.StepSuspend}
	for ; ; left = left[1:] {
		closing, err := p.closeNow(t, id, engine.CloseRequest{})
		if len(left) == 0 {
			if err != nil || len(closing.Containment)+len(closing.Gone) != 0 {
				t.Errorf("%v, %+v", err, closing)
			}
			break
		}
		if !errors.Is(err, engine.ErrRefused) || stepsIn(closing.Containment) != strings.Join(left, " ") {
			t.Fatalf("%v: stands %q, not %q", err, stepsIn(closing.Containment), left)
		}
		for n, step := range left {
			if ends := "irctl undo --step " + step + " --incident " +
				string(id); closing.Containment[n].Ending(id) != ends || !strings.Contains(err.Error(), ends) {
				t.Errorf("%s ends by %q: %v", step, closing.Containment[n].Ending(id), err)
			}
		}
		if !strings.Contains(err.Error(), "irctl incident close "+string(id)+" --leave-standing") {
			t.Error(err)
		}
		if i, err := p.Store.Load(id); err != nil || i.State != incident.StateOpen {
			t.Fatalf("%v, %+v", err, i)
		}
		p.mustUndo(t, engine.UndoRequest{Step: left[0]})
	}
	if i, err := p.Store.Load(id); err != nil || i.State != incident.StateClosed {
		t.Errorf("%v, %+v", err, i)
	}
	wantSame(t, "all undone", w.before, func() map[string]any {
		now := picture(w.Cluster, w.suspect)
		delete(now, "ScaledObject todo-app/backend")
		return now
	}())
}

// TestWithAReasonItIsClosedAllTheSame, and the journal tells what was left, by
// whom and why.
func TestWithAReasonItIsClosedAllTheSame(t *testing.T) {
	_, p, id := everyStep(t)
	if _, err := p.closeNow(t, id, engine.CloseRequest{LeaveStanding: " \t"}); !errors.Is(err, engine.ErrRefused) {
		t.Errorf("a blank reason: %v", err)
	}
	closing, err := p.closeNow(t, id, engine.CloseRequest{Note: "handed over", LeaveStanding: "kept for the police"})
	if err != nil || len(closing.Containment) != 5 {
		t.Fatalf("%v, %+v", err, closing)
	}
	entries, err := p.Store.Entries(id)
	if err != nil {
		t.Fatal(err)
	}
	last := entries[len(entries)-1]
	var data struct {
		LeaveStanding string
		Containment   []int64
	}
	if err := json.Unmarshal([]byte(last.Data.String()), &data); err != nil ||
		data.LeaveStanding != "kept for the police" || len(data.Containment) != 5 {
		t.Errorf("%v: %s", err, last.Data)
	}
	if last.Kind != timeline.KindClosed || last.Actor.OSUser == "" ||
		last.Summary != "incident closed: handed over; 5 changes of containment left standing: kept for the police" {
		t.Errorf("%+v", last)
	}
}

// TestWhatDoesNotStandDoesNotHinder: what somebody has put back by hand, and
// what was done to objects that are gone. What somebody changed otherwise stands.
func TestWhatDoesNotStandDoesNotHinder(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	id := incident.ID(p.mustContain(t).Incident)
	scale := func(n int64) {
		w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedField(o.Object, n, "spec", "replicas")
		})
	}
	scale(1)
	if err := errors.Join(w.Delete(sim.Pods, "todo-app", w.suspect),
		w.Delete(sim.NetworkPolicies, "todo-app", contain.PolicyName(string(id)))); err != nil {
		t.Fatal(err)
	}
	closing, err := p.closeNow(t, id, engine.CloseRequest{})
	if !errors.Is(err, engine.ErrRefused) || stepsIn(closing.Containment) != contain.StepScale ||
		stepsIn(closing.Gone) != "detach quarantine" ||
		!strings.Contains(err.Error(), "put it back by hand") {
		t.Fatalf("%v, %+v", err, closing)
	}
	scale(3)
	if closing, err = p.closeNow(t, id, engine.CloseRequest{}); err != nil ||
		stepsIn(closing.Gone) != "scale detach quarantine" {
		t.Errorf("%v, %+v", err, closing)
	}
}

// TestWhatWasLeftOnPurposeDoesNotHinder: what eradication changed, and what
// recovery decided to keep. What recovery could not release does.
func TestWhatWasLeftOnPurposeDoesNotHinder(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	id := incident.ID(p.mustContain(t, func(r *engine.ContainRequest) {
		r.Options.Steps = append(slices.Clone(contain.DefaultSteps), contain.StepCordon)
	}).Incident)
	p.setImage(t, cleanImage)
	// Without evidence the suspect is not deleted: that it is still there was nobody's decision.
	if res, err := p.recoverNow(t.Context(), deletes,
		func(r *engine.RecoverRequest) { r.Uncordon = true }); err != nil || len(res.Refusals) != 1 {
		t.Fatalf("%v, %+v", err, res)
	}
	closing, err := p.closeNow(t, id, engine.CloseRequest{})
	if !errors.Is(err, engine.ErrRefused) || stepsIn(closing.Containment) != "detach quarantine" ||
		stepsIn(closing.OnPurpose) != eradicate.StepImage {
		t.Fatalf("%v, %+v", err, closing)
	}
	// The message says irctl recover, which keeps the suspect.
	p.mustRecover(t)
	p.mustRecover(t)
	decided := slices.DeleteFunc(journal(t, dir), func(e timeline.Entry) bool { return e.Action != "kept" })
	if len(decided) != 1 || decided[0].Summary != "left on purpose: the suspect todo-app/"+w.suspect+" stays cut off" {
		t.Errorf("recorded, once: %+v", decided)
	}
	closing, err = p.closeNow(t, id, engine.CloseRequest{})
	if err != nil || len(closing.Containment) != 0 || stepsIn(closing.OnPurpose) != "image detach quarantine" {
		t.Fatalf("%v, %+v", err, closing)
	}
}

// TestWhatIsContainedAfterADecisionHinders: the decision was about what stood then.
func TestWhatIsContainedAfterADecisionHinders(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	id := incident.ID(p.mustContain(t).Incident)
	p.setImage(t, cleanImage)
	p.mustRecover(t)
	p.suspects = []string{firstPod(t, w.Cluster, "todo-app", "frontend-")}
	p.mustContain(t, func(r *engine.ContainRequest) { r.Incident = id })
	if closing, err := p.closeNow(t, id, engine.CloseRequest{}); !errors.Is(err, engine.ErrRefused) ||
		stepsIn(closing.Containment) != "scale detach" {
		t.Errorf("%v, %+v", err, closing)
	}
}

// TestClosingWithoutALookNeedsAReason: a right is missing, another cluster
// answers, or none does.
func TestClosingWithoutALookNeedsAReason(t *testing.T) {
	for name, closing := range map[string]func(t *testing.T, w *world, p *process, h *incident.Handle,
		req engine.CloseRequest) (*engine.Closing, error){
		"forbidden": func(t *testing.T, w *world, p *process, h *incident.Handle,
			req engine.CloseRequest) (*engine.Closing, error) {
			for _, resource := range []string{"pods", "deployments", "networkpolicies"} {
				w.Deny(sim.Rule{Verb: "get", Resource: resource})
			}
			return p.CloseIncident(t.Context(), h, req)
		},
		"another cluster": func(t *testing.T, _ *world, p *process, h *incident.Handle,
			req engine.CloseRequest) (*engine.Closing, error) {
			return anotherCluster(t).mustStart(t, p.Store.Dir()).CloseIncident(t.Context(), h, req)
		},
		"out of reach": func(_ *testing.T, _ *world, _ *process, h *incident.Handle,
			req engine.CloseRequest) (*engine.Closing, error) {
			return engine.CloseUnseen(h, req, errors.New("no route to host"))
		},
		"cancelled": func(t *testing.T, _ *world, p *process, h *incident.Handle,
			req engine.CloseRequest) (*engine.Closing, error) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return p.CloseIncident(ctx, h, req)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.mustStart(t, t.TempDir())
			id := incident.ID(p.mustContain(t).Incident)
			h, err := p.Store.Open(t.Context(), id, p.Actor())
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			refused := engine.ErrRefused
			if name == "another cluster" {
				refused = engine.ErrUndetermined
			}
			if c, err := closing(t, w, p, h, engine.CloseRequest{}); !errors.Is(err, refused) ||
				len(c.Containment) != 3 || !strings.Contains(err.Error(), "--leave-standing") {
				t.Fatalf("%v, %+v", err, c)
			}
			if c, err := closing(t, w, p, h, engine.CloseRequest{LeaveStanding: "the cluster is gone"}); err != nil ||
				len(c.Containment) != 3 || h.Incident().State != incident.StateClosed {
				t.Errorf("%v, %+v", err, c)
			}
		})
	}
}

const closes = `- name: detect
  steps:
  - {name: triage, uses: manual, with: {instruction: "look at ${params.pod}", answers: [real, none], unattended: none}}
  - {name: falseAlarm, uses: close, when: steps.triage.answer == "none", with: {note: none}}
- name: contain
  steps:
  - {name: cutOff, uses: contain, with: {pods: ["${params.pod}"]}}
- name: post-mortem
  steps:
  - {name: finish, uses: close}
`

// TestAReopenedIncidentGoesOn: with everything that works on an open one, and
// with the run that had closed it, after the step that did.
func TestAReopenedIncidentGoesOn(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	given := map[string]string{"pod": w.suspect}
	res, err := p.runNow(t.Context(), parsed(t, stepsOf(closes)), given)
	if err != nil || outcomes(res) != "triage:done falseAlarm:done" {
		t.Fatalf("%v, %s", err, outcomes(res))
	}
	id := incident.ID(res.Incident)
	if _, err := p.containNow(t.Context(), func(r *engine.ContainRequest) { r.Incident = id }); !errors.Is(err,
		engine.ErrRefused) ||
		!strings.Contains(err.Error(), "irctl incident reopen "+string(id)) {
		t.Errorf("contain in a closed one: %v", err)
	}
	p.reopen(t, id)
	res, err = p.runNow(t.Context(), parsed(t, stepsOf(closes)), given)
	if err != nil || outcomes(res) != "triage:done falseAlarm:done cutOff:done finish:refused" ||
		incident.ID(res.Incident) != id {
		t.Fatalf("%v, %s in %s", err, outcomes(res), res.Incident)
	}
	if told := step(res, "finish").Error; !strings.Contains(told, "irctl undo --step scale --incident "+string(id)) {
		t.Error(told)
	}
	p.setImage(t, cleanImage)
	p.mustRecover(t)
	if _, err := p.closeNow(t, id, engine.CloseRequest{}); err != nil {
		t.Fatal(err)
	}

	// The suspect is still contained, in an incident that is closed: what the
	// refusals say would allow it, does.
	if _, err := p.containNow(t.Context()); !errors.Is(err, engine.ErrRefused) ||
		!strings.Contains(err.Error(), "irctl incident reopen "+string(id)) {
		t.Errorf("contain without an incident: %v", err)
	}
	h, err := p.Store.Create(t.Context(), incident.New{Title: "another",
		Cluster: incident.Cluster{UID: p.Identity().ClusterUID}})
	if err != nil {
		t.Fatal(err)
	}
	other := h.Incident().ID
	h.Close()
	contained, err := p.containNow(t.Context(), func(r *engine.ContainRequest) { r.Incident, r.DryRun = other, true })
	if err != nil || len(contained.Refusals) != 1 || contained.Refusals[0].Override != "irctl incident reopen "+
		string(id)+", then --incident "+string(id) {
		t.Errorf("%v, %+v", err, contained)
	}
	// So does what status advises.
	opening := func(egress []any) {
		w.edit(t, sim.NetworkPolicies, contain.PolicyName(string(id)), func(o *unstructured.Unstructured) {
			unstructured.RemoveNestedField(o.Object, "spec", "egress")
			if egress != nil {
				_ = unstructured.SetNestedSlice(o.Object, egress, "spec", "egress")
			}
		})
	}
	opening([]any{map[string]any{}})
	i, entries := p.read(t, id)
	if got := adviceOf(p.Status(t.Context(), i, entries)); !strings.Contains(got, "irctl incident reopen "+string(id)+
		"; then irctl contain --incident "+string(id)) {
		t.Errorf("status advises %s", got)
	}
	opening(nil)
	p.reopen(t, id)
	if _, err := p.containNow(t.Context(), func(r *engine.ContainRequest) { r.Incident = id }); err != nil {
		t.Error(err)
	}
	res2, err := p.Recover(t.Context(), engine.RecoverRequest{Incident: id, Suspect: recovery.Deleted,
		AllowEvidenceLoss: true})
	if err != nil || res2.Suspects[0].Fate != "deleted" {
		t.Errorf("%v, %+v", err, res2)
	}
	if closing, err := p.closeNow(t, id, engine.CloseRequest{}); err != nil || stepsIn(closing.OnPurpose) != "image" {
		t.Errorf("%v, %+v", err, closing)
	}
}

func adviceOf(s *engine.StatusResult) string {
	var all []string
	for _, f := range s.Targets {
		for _, e := range f.Exposures {
			all = append(all, e.Close)
		}
	}
	return strings.Join(all, "\n")
}

func (p *process) read(t testing.TB, id incident.ID) (incident.Incident, []timeline.Entry) {
	t.Helper()
	i, err := p.Store.Load(id)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := p.Store.Entries(id)
	if err != nil {
		t.Fatal(err)
	}
	return i, entries
}

func (p *process) reopen(t testing.TB, id incident.ID) {
	t.Helper()
	h, err := p.Store.Open(t.Context(), id, p.Actor())
	if err == nil {
		err = errors.Join(h.Reopen("it was real"), h.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestARunbookSaysWhyContainmentStays.
func TestARunbookSaysWhyContainmentStays(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	res, err := w.mustStart(t, dir).runNow(t.Context(),
		parsed(t, stepsOf(strings.Replace(strings.Replace(closes, "unattended: none", "unattended: real", 1),
			"{name: finish, uses: close}",
			`{name: finish, uses: close, with: {leaveStanding: "kept for ${params.pod}"}}`, 1))),
		map[string]string{"pod": w.suspect})
	if err != nil || outcomes(res) != "triage:done falseAlarm:- cutOff:done finish:done" || step(res, "finish").
		Summary != "the incident is closed, with 3 changes of containment left standing" {
		t.Fatalf("%v, %s, %+v", err, outcomes(res), step(res, "finish"))
	}
	last := journal(t, dir)
	if got := last[len(last)-1].Summary; !strings.HasSuffix(got, "left standing: kept for todo-app/"+w.suspect) {
		t.Error(got)
	}
}
