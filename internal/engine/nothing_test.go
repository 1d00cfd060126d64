package engine_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

func (p *process) statusOf(t *testing.T, id, dir string) *engine.StatusResult {
	t.Helper()
	i, err := p.Store.Load(incident.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	return p.Status(t.Context(), i, journal(t, dir))
}

// verdictsIn are the verdicts of a phase that a journal tells of, with outcomes.
func verdictsIn(entries []timeline.Entry, phase string) (list []string) {
	for _, e := range entries {
		if e.Kind == timeline.KindVerdict && e.Phase == phase {
			word, _, _ := strings.Cut(e.Summary, ":")
			list = append(list, word+" ("+string(e.Outcome)+")")
		}
	}
	return list
}

func (p *process) containWorkload(t *testing.T) *engine.ContainResult {
	t.Helper()
	s, err := p.Suspects(t.Context(), engine.SuspectQuery{Namespace: "todo-app",
		Workloads: []engine.Named{{Type: "deploy", Name: "backend"}}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.Contain(t.Context(), engine.ContainRequest{Targets: s.Pods, Workloads: s.Workloads,
		Options: contain.Options{Steps: contain.DefaultSteps}})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A workload whose pods were detached has none to judge: that is no verdict, and
// the journal's last one stays.
func TestOnNoSuspectsThereIsNoVerdict(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	first := p.containWorkload(t)
	again := p.containWorkload(t)
	if again.Verdict != contain.Undetermined || len(again.Targets) != 0 || again.Incident != first.Incident {
		t.Errorf("%q of %d pods in incident %s", again.Verdict, len(again.Targets), again.Incident)
	}
	got := verdictsIn(journal(t, dir), contain.Phase)
	if len(got) != 1 || got[0] != "contained with exposures (done)" {
		t.Errorf("the journal's verdicts: %q", got)
	}
	other := t.TempDir()
	res := w.mustStart(t, other).containWorkload(t)
	if store := w.mustStart(t, other).Store; res.Verdict != contain.Undetermined || res.Incident != "" ||
		len(openIn(t, store)) != 0 {
		t.Errorf("elsewhere: %q, incident %q, open %v", res.Verdict, res.Incident, openIn(t, store))
	}
}

func openIn(t *testing.T, store *incident.Store) []incident.Incident {
	open, _ := store.FindOpen(t.Context(), func(incident.Incident) bool { return true })
	return open
}

// A verdict that could not be drawn is journaled as such: it reached no aim.
func TestAVerdictThatCouldNotBeDrawnContainsNothing(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p, err := w.start(t, t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Deny(sim.Rule{Verb: "list", Resource: "networkpolicies"})
	p.Timeout = soon
	res, err := p.containNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict != contain.Undetermined {
		t.Errorf("verdict %q", res.Verdict)
	}
	if got := verdictsIn(journal(t, dir), contain.Phase); len(got) != 1 || got[0] != "could not tell (unknown)" {
		t.Errorf("the journal's verdicts: %q", got)
	}
	if m := timeline.MetricsOf(journal(t, dir)); !m.ContainedAt.IsZero() {
		t.Error("the metrics say that it was contained")
	}
}

// What was interrupted is judged by what was to be done, not by what was.
func TestStatusAfterAnInterruptionDoesNotPraise(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]struct {
		interrupted bool
		options     []string
		undo        bool
		want        contain.Verdict
	}{
		"interrupted before the scaling":     {true, contain.DefaultSteps, false, contain.NotContained},
		"the scaling was not to be done":     {false, contain.DefaultSteps[:2], false, contain.Exposed},
		"what was interrupted is all undone": {true, contain.DefaultSteps, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p, err := w.start(t, ctx, dir, func(r sim.Request) sim.Fault {
				if steps.interrupted && r.Verb == "patch" && r.Resource == "deployments/scale" {
					cancel()
					return sim.Fault{Error: sim.Denied("policy.example.com", "no")}
				}
				return sim.Fault{}
			})
			if err != nil {
				t.Fatal(err)
			}
			res, err := p.containNow(ctx, func(r *engine.ContainRequest) { r.Options.Steps = steps.options })
			if err != nil {
				t.Fatal(err)
			}
			if steps.undo {
				w.mustStart(t, dir).mustUndo(t, engine.UndoRequest{All: true})
			}
			if got := w.mustStart(t, dir).statusOf(t, res.Incident, dir).Verdict; got != steps.want {
				t.Errorf("status says %q, expected %q", got, steps.want)
			}
		})
	}
}

func TestStatusOfAnotherClusterCannotTell(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	res := w.mustStart(t, dir).mustContain(t)
	p := w.mustStart(t, dir)
	i, err := p.Store.Load(incident.ID(res.Incident))
	if err != nil {
		t.Fatal(err)
	}
	i.Cluster.UID = "another"
	st := p.Status(t.Context(), i, journal(t, dir))
	if !st.OtherCluster || st.Verdict != contain.Undetermined {
		t.Errorf("other cluster %v, verdict %q", st.OtherCluster, st.Verdict)
	}
	if st := p.Status(t.Context(), i, nil); st.Verdict != contain.Undetermined {
		t.Errorf("nothing stands by the journal, and the verdict is %q", st.Verdict)
	}
	// Where its UID may not be read, and the address is another one, nobody can tell.
	w.Deny(sim.Rule{Verb: "get", Resource: "namespaces"})
	p = w.mustStart(t, dir)
	if i, err = p.Store.Load(incident.ID(res.Incident)); err != nil {
		t.Fatal(err)
	}
	if st := p.Status(t.Context(), i, nil); st.Verdict != contain.Undetermined || len(st.Doubts) != 1 ||
		!strings.Contains(st.Doubts[0], "kube-system") {
		t.Errorf("the cluster's UID is not known: %q %q", st.Verdict, st.Doubts)
	}
}

// A change that may not hold is a risk.
func TestAStandingChangeThatCannotBeReadIsARisk(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	res := p.mustContain(t, func(r *engine.ContainRequest) {
		r.Options.Steps = slices.Concat(contain.DefaultSteps, []string{contain.StepCordon})
	})
	w.Deny(sim.Rule{Verb: "get", Resource: "nodes"})
	st := w.mustStart(t, dir).statusOf(t, res.Incident, dir)
	unknown := 0
	for _, c := range st.Standing {
		if c.State == "unknown" {
			unknown++
		}
	}
	if unknown != 1 || st.Verdict != contain.Exposed {
		t.Errorf("%d unknown, verdict %q", unknown, st.Verdict)
	}
}

func TestVerdictsAreAsTheWorst(t *testing.T) {
	order := []contain.Verdict{"", contain.Contained, contain.Exposed, contain.Undetermined, contain.NotContained}
	for i, a := range order {
		for j, b := range order {
			if got := engine.Verdicts([]*engine.StatusResult{{Verdict: a}, {Verdict: b}}); got != order[max(i, j)] {
				t.Errorf("of %q and %q it is %q", a, b, got)
			}
		}
	}
}

// Without a workload nothing is recovered.
func TestOnNoWorkloadsThereIsNoRecovery(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	lone := strings.NewReplacer("\t", "  ").Replace("apiVersion: v1\nkind: Pod\nmetadata: {name: lone, namespace: " +
		"todo-app}\nspec:\n\tcontainers: [{name: c, image: registry.example.com/c:1}]\n")
	if err := w.Apply(lone); err != nil {
		t.Fatal(err)
	}
	p := w.mustStart(t, dir)
	p.mustContain(t, func(r *engine.ContainRequest) {
		target, err := p.Client.GetTarget(t.Context(), "todo-app", "lone")
		if err != nil {
			t.Fatal(err)
		}
		r.Targets = []*cluster.Target{target}
	})
	res := p.mustRecover(t)
	if res.Verdict != engine.NothingRecovered || len(res.Workloads) != 0 {
		t.Errorf("%q of %d workloads", res.Verdict, len(res.Workloads))
	}
	if got := verdictsIn(journal(t, dir), recovery.Phase); len(got) != 1 || got[0] != "could not tell (unknown)" {
		t.Errorf("the journal's verdicts: %q", got)
	}
	if m := timeline.MetricsOf(journal(t, dir)); !m.RecoveredAt.IsZero() {
		t.Error("the metrics say that it was recovered")
	}
}

// A suspect that may not be read is not gone: its quarantine stays, and it is not
// deleted.
func TestASuspectThatCannotBeReadIsNotGone(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	res := w.mustStart(t, dir).mustContain(t)
	w.Deny(sim.Rule{Verb: "get", Resource: "pods"})
	p := w.mustStart(t, dir)
	p.Timeout = time.Minute
	for fate, refusals := range map[recovery.Fate]int{recovery.Keep: 0, recovery.Deleted: 1} {
		got, err := p.recoverNow(t.Context(), func(r *engine.RecoverRequest) {
			r.Suspect, r.Part, r.AllowEvidenceLoss = fate, engine.PartRelease, true
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := got.Suspects[0]; s.Fate != "unknown" || !strings.Contains(s.Text, "could not be read") ||
			len(got.Refusals) != refusals {
			t.Errorf("%s: %+v, refusals %+v", fate, s, got.Refusals)
		}
	}
	if !w.exists(sim.NetworkPolicies, contain.PolicyName(res.Incident)) || !w.exists(sim.Pods, w.suspect) {
		t.Error("the quarantine was lifted, or the suspect deleted")
	}
	if n := len(timeline.Standing(journal(t, dir))); n != 3 {
		t.Errorf("%d changes stand by the journal, of 3", n)
	}
}

// The JSON form has a list of targets, if an empty one.
func TestNoTargetsAreAnEmptyList(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	p.containWorkload(t)
	data, err := json.Marshal(p.containWorkload(t))
	if err != nil || !strings.Contains(string(data), `"targets":[]`) {
		t.Errorf("%v: %s", err, data)
	}
}
