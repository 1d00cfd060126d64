package engine_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/casefile"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// The two ways of naming suspects that what a containment does takes away.
var (
	bySelector = engine.SuspectQuery{Namespace: "todo-app", Selector: "app=backend"}
	byWorkload = engine.SuspectQuery{Namespace: "todo-app",
		Workloads: []engine.Named{{Type: "deployment", Name: "backend"}}}
)

// containQuery does what irctl contain does with a query.
func (p *process) containQuery(ctx context.Context, q engine.SuspectQuery) (*engine.ContainResult, error) {
	found, id, err := p.Recall(ctx, q, "")
	if err != nil {
		return nil, err
	}
	req := engine.ContainRequest{Options: contain.Options{Steps: contain.DefaultSteps}, Incident: id}
	return p.Contain(ctx, req.Of(found))
}

// podsOf are the UIDs of the pods that a result judges.
func podsOf(res *engine.ContainResult) (uids []string) {
	for _, f := range res.Targets {
		uids = append(uids, f.UID)
	}
	slices.Sort(uids)
	return uids
}

// TestTheSameRequestGoesOn: a containment by selector or by workload, killed at
// any call, is gone on with by the same words, also on another machine that has a
// copy of the directory: one incident, the suspects that were meant then, and
// nobody who took their places since.
func TestTheSameRequestGoesOn(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]engine.SuspectQuery{"selector": bySelector, "workload": byWorkload} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			p := w.mustStart(t, dir)
			clean, err := p.containQuery(t.Context(), q)
			if err != nil || len(clean.Targets) < 2 {
				t.Fatal(err, clean)
			}
			calls := p.server.Requests()
			forEveryKill(t, calls, func(t *testing.T, call sim.Request, executed bool) {
				w, dir := newWorld(t), t.TempDir()
				left := w.killedDuring(t, dir, call, executed, func(ctx context.Context, p *process) error {
					_, err := p.containQuery(ctx, q)
					return err
				})
				p := w.mustStart(t, left)
				res, err := p.containQuery(t.Context(), q)
				if err != nil {
					t.Errorf("%s: %v", call.Key(), err)
					return
				}
				open := openIn(t, p.Store)
				if got := podsOf(res); !slices.Equal(got, podsOf(clean)) || res.Verdict != clean.Verdict ||
					len(open) != 1 {
					t.Errorf("%s: %q of %v in %d incidents; meant were %v", call.Key(), res.Verdict, got, len(open),
						podsOf(clean))
				}
				if again, err := p.containQuery(t.Context(), q); err != nil || again.Verdict != res.Verdict ||
					slices.ContainsFunc(again.Actions, made) {
					t.Errorf("%s: a third time: %v, %+v", call.Key(), err, again)
				}
			})
		})
	}
}

func made(a engine.ActionResult) bool { return a.Outcome == timeline.OutcomeDone }

// TestWhatMatchesSinceIsNew: a pod that matches now and did not then is an
// exposure, is contained only when that is asked for, and can be accepted.
func TestWhatMatchesSinceIsNew(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	first, err := p.containQuery(t.Context(), bySelector)
	if err != nil {
		t.Fatal(err)
	}
	id := first.Incident
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(o.Object, int64(1), "spec", "replicas"); err != nil {
			t.Error(err)
		}
	})
	newcomer := ""
	for deadline := time.Now().Add(10 * time.Second); newcomer == "" &&
		time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		pods, err := p.Client.ListPods(t.Context(), "todo-app", "app=backend")
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods {
			newcomer = pod.Name
		}
	}
	newIn := func(findings []contain.Finding) (found []contain.Exposure) {
		for _, f := range findings {
			for _, x := range f.Exposures {
				if x.Code == "new-match" && f.Pod == newcomer {
					found = append(found, x)
				}
			}
		}
		return found
	}
	status := p.statusOf(t, id, dir)
	found := newIn(status.Targets)
	if len(found) != 1 || !strings.Contains(found[0].Close, "--include-new") {
		t.Fatalf("the newcomer %s is told as %+v", newcomer, found)
	}
	if want := "irctl contain -l app=backend -n todo-app --incident " + id + " --include-new"; found[0].Close != want {
		t.Errorf("the remedy is %q, expected %q", found[0].Close, want)
	}
	q := bySelector // as it says
	q.IncludeNew = true
	all, err := p.containQuery(t.Context(), q)
	if err != nil || all.Incident != id || len(newIn(all.Targets)) != 0 || len(all.Targets) != len(first.Targets)+1 {
		t.Errorf("with those that are new: %v, %+v", err, all)
	}
	if status := p.statusOf(t, id, dir); len(newIn(status.Targets)) != 0 {
		t.Errorf("it is contained, and still told as new: %+v", newIn(status.Targets))
	}
}

// TestTheRequestComesFirst: before anything is written the journal says who asked
// for what, and of what that came to.
func TestTheRequestComesFirst(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	p.Asked = engine.Asked{Words: []string{"contain", "-l", "app=backend"}, From: "cli"}
	res, err := p.containQuery(t.Context(), bySelector)
	if err != nil {
		t.Fatal(err)
	}
	entries := journal(t, dir)
	at := slices.IndexFunc(entries, func(e timeline.Entry) bool { return e.Action == casefile.ActionRequested })
	first := slices.IndexFunc(entries, func(e timeline.Entry) bool { return e.Kind == timeline.KindIntent })
	if at < 0 || at > first {
		t.Fatalf("the request is entry %d, the first intent %d", at, first)
	}
	told := casefile.Of(entries)
	if len(told.Requests) != 1 {
		t.Fatalf("%d requests", len(told.Requests))
	}
	r := told.Requests[0]
	if r.Selector != "app=backend" || r.Namespace != "todo-app" || len(r.Targets) != len(res.Targets) ||
		!slices.Equal(r.Steps, contain.DefaultSteps) ||
		r.Who.OSUser == "" || r.From != "cli" || len(r.Words) != 3 || r.Targets[0].Cluster == "" ||
		r.Targets[0].UID == "" {
		t.Errorf("%+v", r)
	}
	if _, err := p.containQuery(t.Context(), bySelector); err != nil {
		t.Fatal(err)
	}
	if _, err := p.undoNow(t.Context(), engine.UndoRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, r := range casefile.Of(journal(t, dir)).Requests {
		commands = append(commands, r.Command)
	}
	if fmt.Sprint(commands) != "[contain undo]" {
		t.Errorf("the requests are %v: the same one is journaled once", commands)
	}
}

// TestSelectedByAnother: on a machine that does not have the incident, a selection
// whose pods were contained is told whose incident that is.
func TestSelectedByAnother(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	res, err := p.containQuery(t.Context(), bySelector)
	if err != nil {
		t.Fatal(err)
	}
	other := w.mustStart(t, t.TempDir())
	if _, err = other.containQuery(t.Context(), bySelector); err == nil ||
		!strings.Contains(err.Error(), res.Incident) {
		t.Errorf("it is not told that they are of incident %s: %v", res.Incident, err)
	}
	// With a copy of the directory it goes on there.
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(copied, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700) //nolint:gosec // a directory
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.mustStart(t, copied).containQuery(t.Context(), bySelector)
	if err != nil || again.Incident != res.Incident || again.Verdict != res.Verdict ||
		!slices.Equal(podsOf(again), podsOf(res)) {
		t.Errorf("on a copy: %v, %+v", err, again)
	}
}

// TestTheUsualSteps: package casefile knows nothing of how a step is done, and has
// its name all the same.
func TestTheUsualSteps(t *testing.T) {
	t.Parallel()
	if !slices.Equal(casefile.Usual, contain.DefaultSteps) {
		t.Errorf("%v by the journal, %v by default", casefile.Usual, contain.DefaultSteps)
	}
	for _, step := range casefile.Usual {
		if cut := step == contain.StepQuarantine || step == contain.StepDetach; casefile.Bearable(step) == cut {
			t.Errorf("that %s did not happen can be accepted: %t", step, !cut)
		}
	}
}
