package engine_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

var configMapsGVR = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// applied contains, and applies manifests one run after the other.
func applied(t *testing.T, runs ...string) (*leakedWorld, []timeline.Entry) {
	t.Helper()
	w := &leakedWorld{newWorld(t), t.TempDir()}
	w.mustStart(t, w.dir).mustContain(t)
	for _, text := range runs {
		p := w.mustStart(t, w.dir)
		req := engine.EradicateRequest{Incident: p.onlyOpen(t),
			Options: eradicate.Options{Manifests: manifests(t, text)}}
		if res, err := p.Eradicate(t.Context(), req); err != nil || len(res.Refusals) > 0 {
			t.Fatalf("%v %v", res.Refusals, err)
		}
	}
	return w, journal(t, w.dir)
}

const (
	room     = "apiVersion: v1\nkind: Namespace\nmetadata: {name: clean-room}\n"
	settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: NAMESPACE, labels: {a: VALUE}}\n"
)

func settingsOf(namespace, value string) string {
	return strings.NewReplacer("NAMESPACE", namespace, "VALUE", value).Replace(settings)
}

// A namespace goes after what the incident made in it. What others made in it
// refuses it, and nothing else; it stands until it is empty.
func TestUndoKeepsWhatOthersMadeInANamespace(t *testing.T) {
	w, _ := applied(t, room+"---\n"+settingsOf("todo-app", "x"), settingsOf("clean-room", "x"))
	if err := w.Apply(
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: precious, namespace: clean-room}\n"); err != nil {
		t.Fatal(err)
	}
	req := engine.UndoRequest{Step: eradicate.StepApply}
	req.DryRun = true
	expectUndone(t, "dry run", w, req, 3)
	req.DryRun = false
	expectUndone(t, "undo", w, req, 3)
	if _, err := w.Get(sim.Namespaces, "", "clean-room"); err != nil {
		t.Error(err)
	}
	if err := w.Delete(configMapsGVR, "clean-room", "precious"); err != nil {
		t.Fatal(err)
	}
	res := w.mustStart(t, w.dir).mustUndo(t, req)
	if len(res.Actions) != 1 || res.Actions[0].Object != "Namespace clean-room" {
		t.Errorf("%+v", res.Actions)
	}
	if _, err := w.Get(sim.Namespaces, "", "clean-room"); err == nil {
		t.Error("it is still there")
	}
}

// expectUndone: of so many changes only that of the namespace is refused.
func expectUndone(t *testing.T, name string, w *leakedWorld, req engine.UndoRequest, actions int) {
	t.Helper()
	p := w.mustStart(t, w.dir)
	res, err := p.undoNow(t.Context(), req)
	if err != nil || len(res.Actions) != actions {
		t.Fatalf("%s: %d actions: %v", name, len(res.Actions), err)
	}
	for _, a := range res.Actions {
		if refused := a.Outcome == timeline.OutcomeRefused; refused != (a.Object == "Namespace clean-room") {
			t.Errorf("%s: %s: %s %s", name, a.Object, a.Outcome, a.Error)
		} else if refused && !strings.Contains(a.Error, "ConfigMap clean-room/precious") {
			t.Errorf("%s: %s", name, a.Error)
		}
	}
	if n := len(p.front.events); req.DryRun && n > 0 {
		t.Errorf("%s: %d events of what was not done", name, n)
	}
}

// Two changes of one object are undone one after the other, the last first:
// the second begins when the first is done.
func TestUndoTakesTheChangesOfOneObjectInTurn(t *testing.T) {
	w, _ := applied(t, settingsOf("todo-app", "x"), settingsOf("todo-app", "w"), settingsOf("todo-app", "z"))
	var atWork, most, writes atomic.Int32
	var p *process
	p, err := w.start(t, t.Context(), w.dir, func(r sim.Request) sim.Fault {
		if r.Name != "settings" || !r.Writes() {
			return sim.Fault{}
		}
		return sim.Fault{Before: func() {
			writes.Add(1)
			p.front.mu.Lock()
			defer p.front.mu.Unlock()
			atWork.Store(0)
			for _, e := range p.front.events {
				switch e.Kind {
				case engine.Started:
					atWork.Add(1)
				case engine.Finished, engine.Failed, engine.Refused:
					atWork.Add(-1)
				}
			}
			most.Store(max(most.Load(), atWork.Load()))
		}}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.mustUndo(t, engine.UndoRequest{Step: eradicate.StepApply})
	if writes.Load() < 3 || most.Load() != 1 {
		t.Errorf("%d writes, up to %d at the same time", writes.Load(), most.Load())
	}
	if _, err := w.Get(configMapsGVR, "todo-app", "settings"); err == nil {
		t.Error("it is still there")
	}
}

// What somebody labelled between the look and the delete stays, and so does the
// change; so it does when the process is killed there.
func TestUndoOfACreateThatIsChangedMeanwhile(t *testing.T) {
	w, _ := applied(t, settingsOf("todo-app", "x"))
	changed := false
	p, err := w.start(t, t.Context(), w.dir, func(r sim.Request) sim.Fault {
		if r.Verb != "delete" || changed {
			return sim.Fault{}
		}
		changed = true
		return sim.Fault{Before: func() {
			if err := w.Edit(configMapsGVR, "todo-app", "settings", func(o *unstructured.Unstructured) {
				o.SetLabels(map[string]string{"a": "x", "owner": "me"})
			}); err != nil {
				t.Error(err)
			}
		}}
	})
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.undoNow(t.Context(), engine.UndoRequest{Step: eradicate.StepApply})
	if err != nil || len(res.Actions) != 1 || res.Actions[0].Outcome != timeline.OutcomeRefused {
		t.Errorf("%+v %v", res, err)
	}
	if _, err := w.Get(configMapsGVR, "todo-app", "settings"); err != nil {
		t.Error(err)
	}
	if n := len(timeline.Standing(journal(t, w.dir))); n != 4 {
		t.Errorf("%d changes stand", n)
	}
}

// A step that there is not is refused by the engine, whoever asks; one that has
// nothing says which have.
func TestUndoOfAStep(t *testing.T) {
	w := &leakedWorld{newWorld(t), t.TempDir()}
	w.mustStart(t, w.dir).mustContain(t)
	var unknown *engine.UnknownStepError
	_, err := w.mustStart(t, w.dir).undoNow(t.Context(), engine.UndoRequest{Step: "detatch"})
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "did you mean detach?") {
		t.Errorf("%v", err)
	}
	for _, e := range journal(t, w.dir) {
		if e.Kind == timeline.KindIntent && !slices.Contains(engine.UndoSteps, e.Step) {
			t.Errorf("the step %s is none that can be undone", e.Step)
		}
	}
	res := w.mustStart(t, w.dir).mustUndo(t, engine.UndoRequest{Step: eradicate.StepImage})
	if len(res.Actions) != 0 || !slices.Equal(res.StandingSteps, []string{"quarantine", "detach", "scale"}) {
		t.Errorf("%+v", res)
	}
}
