package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// incidentFile is a file of the only incident of a state directory.
func incidentFile(t *testing.T, dir, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "incidents", "inc-*", name))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0]
}

func (p *process) look(t *testing.T, id string) *engine.StatusResult {
	t.Helper()
	i, err := p.Store.Load(incident.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := p.Store.Entries(i.ID)
	if err != nil {
		t.Fatal(err)
	}
	return p.Status(t.Context(), i, entries)
}

// TestNoFalsePictureOfACutJournal: cut after every entry and with its head lost, the
// journal gives no good verdict, what it does not know is named with the command that
// takes it back, undo does not begin, and closing neither.
func TestNoFalsePictureOfACutJournal(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	id := w.mustStart(t, dir).mustContain(t).Incident
	path := incidentFile(t, dir, "timeline.jsonl")
	journal, err := os.ReadFile(path)
	if err := errors.Join(err, os.Remove(timeline.HeadPath(path))); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(journal), "\n")
	for n := range lines {
		left := strings.Join(lines[:n], "")
		if err := os.WriteFile(path, []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		p := w.mustStart(t, dir)
		st := p.look(t, id)
		if st.Verdict != contain.Undetermined && st.Verdict != contain.NotContained {
			t.Errorf("%d entries: %q", n, st.Verdict)
		}
		var strays []string
		for _, s := range st.Strays {
			strays = append(strays, s.Kind)
		}
		known := map[bool]string{true: "Pod", false: ""}[!strings.Contains(left,
			`"kind":"intent","phase":"contain","step":"detach"`)]
		if !strings.Contains(left, `"kind":"intent","phase":"contain","step":"quarantine"`) {
			known += " NetworkPolicy"
		}
		if got := strings.Join(strays, " "); got != strings.TrimSpace(known) {
			t.Errorf("%d entries: not known to the journal: %q, want %q", n, got, known)
		}
		if _, err := p.undoNow(t.Context(), engine.UndoRequest{All: true}); !errors.Is(err, incident.ErrRepair) {
			t.Errorf("%d entries: undo: %v", n, err)
		}
		if p.server.Written() > 0 {
			t.Errorf("%d entries: %d writes", n, p.server.Written())
		}
	}
	// Repaired, it knows what it knows; and what it does not know hinders the closing.
	if err := os.WriteFile(path, []byte(lines[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	p := w.mustStart(t, dir)
	if _, err := p.Repair(t.Context(), incident.ID(id), " "); !errors.Is(err, engine.ErrRefused) ||
		!strings.Contains(err.Error(), "--reason") {
		t.Errorf("repaired without a reason: %v", err)
	}
	if seen, err := p.Repair(t.Context(), incident.ID(id), "power cut"); err != nil || len(seen.Strays) != 2 {
		t.Fatal(seen, err)
	}
	last := journal2(t, p, id)
	if !strings.Contains(last.Summary, "power cut") || !strings.Contains(last.Summary, w.suspect) {
		t.Errorf("%+v", last)
	}
	res := p.mustUndo(t, engine.UndoRequest{All: true})
	if !res.Weighs() || len(res.Strays) != 2 {
		t.Errorf("%+v", res)
	}
	closing, err := p.closeNow(t, incident.ID(id), engine.CloseRequest{})
	if !errors.Is(err, engine.ErrRefused) || len(closing.Strays) != 2 ||
		!strings.Contains(err.Error(), "kubectl label pod "+w.suspect) ||
		!strings.Contains(err.Error(), "app=backend") {
		t.Errorf("%v %+v", err, closing)
	}
	// Taken back by hand as it says, nothing is left to be named.
	w.edit(t, sim.Pods, w.suspect, func(o *unstructured.Unstructured) {
		o.SetLabels(map[string]string{"app": "backend"})
	})
	if err := w.Delete(sim.NetworkPolicies, "todo-app", contain.PolicyName(id)); err != nil {
		t.Fatal(err)
	}
	if closing, err := p.closeNow(t, incident.ID(id), engine.CloseRequest{}); err != nil {
		t.Errorf("%v %+v", err, closing)
	}
}

func journal2(t *testing.T, p *process, id string) timeline.Entry {
	t.Helper()
	entries, err := p.Store.Entries(incident.ID(id))
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	return entries[len(entries)-1]
}

// TestWithoutItsFileTheJournalIsEnough: status, undo and close go on as if nothing were.
func TestWithoutItsFileTheJournalIsEnough(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	res := w.mustStart(t, dir).mustContain(t)
	path := incidentFile(t, dir, "incident.yaml")
	for _, damage := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.WriteFile(path, []byte("x"), 0o600) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		st := w.mustStart(t, dir).look(t, res.Incident)
		if st.Verdict != res.Verdict || len(st.Targets) != 1 || len(st.Doubts) != 1 || len(st.Strays) != 0 {
			t.Errorf("%q, %d targets, %v, %v", st.Verdict, len(st.Targets), st.Doubts, st.Strays)
		}
	}
	w.mustStart(t, dir).mustUndo(t, engine.UndoRequest{All: true})
	wantSame(t, "undone from the journal", w.before, picture(w.Cluster, w.suspect))
}

// twoOverOneWorkload: the first incident holds one pod of the Deployment and has scaled
// it to zero, the second has isolated another pod of it, and then takes it down, too.
func twoOverOneWorkload(t *testing.T) (w *world, dir string, first, second incident.ID) {
	t.Helper()
	w, dir = newWorld(t), t.TempDir()
	pods := w.List(sim.Pods, "todo-app")
	other := ""
	for _, o := range pods {
		if strings.HasPrefix(o.GetName(), "backend-") && o.GetName() != w.suspect {
			other = o.GetName()
		}
	}
	p := w.mustStart(t, dir)
	p.suspects, p.Random = []string{other}, strings.NewReader("another incident altogether")
	second = incident.ID(p.mustContain(t, keepReplicas).Incident)
	first = incident.ID(w.mustStart(t, dir).mustContain(t, func(r *engine.ContainRequest) {}).Incident)
	if first == second {
		t.Fatal("one incident")
	}
	p = w.mustStart(t, dir)
	p.suspects = []string{other}
	p.mustContain(t, func(r *engine.ContainRequest) { r.Incident = second })
	return w, dir, first, second
}

// TestTwoIncidentsOverOneWorkload: what one holds the other does not give back, unless
// whoever asks names it; both journals then say so.
func TestTwoIncidentsOverOneWorkload(t *testing.T) {
	t.Parallel()
	replicas := func(w *world) int64 {
		d, err := w.Get(sim.Deployments, "todo-app", "backend")
		if err != nil {
			t.Fatal(err)
		}
		n, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
		return n
	}
	for _, there := range []bool{true, false} { // whether the other's directory is here
		w, dir, first, second := twoOverOneWorkload(t)
		if !there {
			if err := os.RemoveAll(filepath.Join(dir, "incidents", string(second))); err != nil {
				t.Fatal(err)
			}
		}
		undo := func(req engine.UndoRequest) *engine.UndoResult {
			p := w.mustStart(t, dir)
			h, err := p.Store.Open(t.Context(), first, p.Actor())
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			req.Step = contain.StepScale
			res, err := p.Undo(t.Context(), h, req)
			if err != nil || len(res.Actions) != 1 {
				t.Fatalf("%v %+v", err, res)
			}
			return res
		}
		for _, dry := range []bool{true, false} {
			res := undo(engine.UndoRequest{DryRun: dry})
			if a := res.Actions[0]; a.Outcome != timeline.OutcomeRefused ||
				!strings.Contains(a.Error, "irctl undo --step scale --incident "+string(first)+" --despite "+
					string(second)) {
				t.Errorf("dry run %v: %+v", dry, a)
			}
		}
		rec, err := w.mustStart(t, dir).Recover(t.Context(),
			engine.RecoverRequest{Incident: first, SameImage: true, Wait: soon})
		if err != nil || len(rec.Refusals) == 0 || !strings.Contains(rec.Refusals[0].Reason, string(second)) {
			t.Errorf("recover: %v %+v", err, rec.Refusals)
		}
		if n := replicas(w); n != 0 {
			t.Fatalf("%d replicas are back", n)
		}
		if a := undo(engine.UndoRequest{Despite: []incident.ID{second}}).Actions[0]; a.Err() != nil ||
			replicas(w) != 3 {
			t.Errorf("%v, %d replicas", a.Err(), replicas(w))
		}
		ids := []incident.ID{first, second}
		for _, id := range ids[:1+map[bool]int{true: 1}[there]] {
			entries, err := w.mustStart(t, dir).Store.Entries(id)
			said := false
			for _, e := range entries {
				said = said || e.Action == "despite"
			}
			if err != nil || !said {
				t.Errorf("%s does not say that it was agreed to: %v", id, err)
			}
		}
	}
}

// TestRecoverAfterUndo: a pod that is back in service is not said to be cut off.
func TestRecoverAfterUndo(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	id := incident.ID(w.mustStart(t, dir).mustContain(t).Incident)
	w.mustStart(t, dir).mustUndo(t, engine.UndoRequest{All: true})
	res, err := w.mustStart(t, dir).Recover(t.Context(),
		engine.RecoverRequest{Incident: id, SameImage: true, Wait: soon})
	if err != nil || len(res.Suspects) != 1 || res.Suspects[0].Fate != "released" ||
		strings.Contains(res.Suspects[0].Text, "stays cut off") {
		t.Errorf("%v %+v", err, res.Suspects)
	}
	for _, wl := range res.Workloads {
		if !strings.Contains(wl.Rollout, "3 of 3") {
			t.Errorf("%s: its own pod is not counted", wl.Rollout)
		}
	}
	res, err = w.mustStart(t, dir).Recover(t.Context(), engine.RecoverRequest{Incident: id, SameImage: true, Wait: soon,
		Suspect: recovery.Deleted, AllowEvidenceLoss: true})
	if err != nil || len(res.Refusals) != 1 || !strings.Contains(res.Refusals[0].Reason, "not cut off") {
		t.Errorf("%v %+v", err, res.Refusals)
	}
}

// TestWhatMayNotBeReadIsNotGone: of a suspect that may not be read recovery says so.
func TestWhatMayNotBeReadIsNotGone(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	id := incident.ID(w.mustStart(t, dir).mustContain(t).Incident)
	w.Deny(sim.Rule{Verb: "get", Resource: "pods"})
	res, err := w.mustStart(t, dir).Recover(t.Context(),
		engine.RecoverRequest{Incident: id, SameImage: true, DryRun: true})
	if err != nil || len(res.Suspects) != 1 || res.Suspects[0].Fate != "unknown" {
		t.Errorf("%v %+v", err, res.Suspects)
	}
}
