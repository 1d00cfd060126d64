package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/deploy"
	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

func TestContainAndUndo(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	res := w.mustStart(t, dir).mustContain(t)
	// The backend's token may read a secret, which containing the pod does not change.
	if !res.Opened || res.Verdict != contain.Exposed || len(res.Targets) != 1 {
		t.Errorf("opened %t, verdict %q, %d targets", res.Opened, res.Verdict, len(res.Targets))
	}
	for _, c := range res.Targets[0].Checks {
		if !c.OK {
			t.Errorf("%s: %s", c.Code, c.Text)
		}
	}
	pod, err := w.Get(sim.Pods, "todo-app", w.suspect)
	if err != nil {
		t.Fatal("the suspect did not survive: ", err)
	}
	if pod.GetLabels()["app"] != "" || pod.GetLabels()[contain.IncidentLabel] != res.Incident ||
		len(pod.GetOwnerReferences()) != 0 {
		t.Errorf("labels %v, owners %v", pod.GetLabels(), pod.GetOwnerReferences())
	}
	w.mustStart(t, dir).mustUndo(t, engine.UndoRequest{All: true})
	wantSame(t, "after undo", w.before, picture(w.Cluster, w.suspect))
	if left := timeline.Standing(journal(t, dir)); len(left) != 0 {
		t.Errorf("%d changes stand after undo", len(left))
	}
}

// TestRoundTrips pins how many calls the containment of one pod makes, and
// how deep they are stacked: time is what an attacker gets.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.mustStart(t, t.TempDir())
	p.mustContain(t)
	// 3 to identify, 3 for the suspect and its owners, 16 to survey and gather
	// facts, 3 writes, 1 to see the pod released, 2 since the Deployment's
	// status changed in between, 4 to verify, 1 for the effective policy.
	const budget = 33
	if n := len(p.server.Requests()); n > budget {
		t.Errorf("%d calls, the budget is %d:", n, budget)
		for _, r := range p.server.Requests() {
			t.Log(r.Key())
		}
	}
	if n := p.server.Written(); n != 3 {
		t.Errorf("%d writes, expected policy, pod and scale", n)
	}
}

func TestTheSecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	first := w.mustStart(t, dir).mustContain(t)
	state := w.State()
	p := w.mustStart(t, dir)
	second := p.mustContain(t)
	if p.server.Written() != 0 || len(second.Actions) != 0 || second.Opened {
		t.Errorf("%d writes, %d actions, opened %t", p.server.Written(), len(second.Actions), second.Opened)
	}
	if second.Incident != first.Incident || second.Verdict != first.Verdict {
		t.Errorf("first %s: %s, then %s: %s", first.Incident, first.Verdict, second.Incident, second.Verdict)
	}
	if !slices.EqualFunc(state, w.State(), func(a, b unstructured.Unstructured) bool {
		return a.GetResourceVersion() == b.GetResourceVersion()
	}) {
		t.Error("an object has a new version")
	}
	if len(p.front.proposals) != 0 {
		t.Error("it asked, though there is nothing to do")
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	res, err := p.containNow(t.Context(), func(r *engine.ContainRequest) { r.DryRun = true })
	if err != nil {
		t.Fatal(err)
	}
	if p.server.Written() != 0 {
		t.Errorf("%d writes", p.server.Written())
	}
	wantSame(t, "cluster", w.before, picture(w.Cluster, w.suspect))
	if list, errs := p.Store.List(t.Context()); len(list)+len(errs) != 0 {
		t.Errorf("an incident was opened: %v %v", list, errs)
	}
	asked := 0
	for _, r := range p.server.Requests() {
		if r.DryRun {
			asked++
		}
	}
	if len(res.Actions) != 3 || asked < 3 || len(p.front.proposals) != 0 {
		t.Errorf("%d actions planned, the server was asked about %d, %d questions", len(res.Actions), asked,
			len(p.front.proposals))
	}
	for _, a := range res.Actions {
		if a.Outcome != timeline.OutcomeSkipped || len(a.Diff) == 0 || a.Command == "" {
			t.Errorf("%s: outcome %s, diff %q, command %q", a.Summary, a.Outcome, a.Diff, a.Command)
		}
	}
}

func TestDryRunTellsWhatTheServerWouldRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.start(t, t.Context(), t.TempDir(), func(r sim.Request) sim.Fault {
		if r.Verb == "create" && r.Resource == "networkpolicies" {
			return sim.Fault{Error: sim.Denied("policy.example.com", "not on a Tuesday")}
		}
		return sim.Fault{}
	})
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.containNow(t.Context(), func(r *engine.ContainRequest) { r.DryRun = true })
	if err != nil {
		t.Fatal(err)
	}
	if a := res.Actions[0]; a.Outcome != timeline.OutcomeDenied ||
		!strings.Contains(a.Error, `admission webhook "policy.example.com" denied the request`) ||
		!strings.Contains(a.Error, "not on a Tuesday") {
		t.Errorf("the first action is %s: %s", a.Outcome, a.Error)
	}
}

func TestNoMeansNo(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	p.front.answer = engine.No
	res, err := p.containNow(t.Context())
	if err != nil || !res.Cancelled {
		t.Errorf("cancelled %t, %v", res.Cancelled, err)
	}
	if list, _ := p.Store.List(t.Context()); p.server.Written() != 0 || len(list) != 0 {
		t.Errorf("%d writes, incidents %v", p.server.Written(), list)
	}
	if len(p.front.proposals) != 1 || p.front.proposals[0].Actions() != 3 || !p.front.proposals[0].Opens {
		t.Errorf("proposed: %+v", p.front.proposals)
	}
}

// TestJoinsTheOpenIncident: a second suspect of the same workload, named by
// the workload, joins; one of another workload has an incident of its own.
func TestJoinsTheOpenIncident(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	first := w.mustStart(t, dir).mustContain(t, keepReplicas)
	p := w.mustStart(t, dir)
	chain, err := p.Client.Owner(t.Context(), cluster.Deployment.Named("todo-app", "backend", ""))
	if err != nil {
		t.Fatal(err)
	}
	joined := p.mustContain(t, func(r *engine.ContainRequest) {
		r.Targets, r.Workloads = nil, [][]*cluster.Owner{chain}
	})
	if joined.Incident != first.Incident || joined.Opened {
		t.Errorf("the workload's incident is %s (opened %t), not %s", joined.Incident, joined.Opened, first.Incident)
	}
	d, err := w.Get(sim.Deployments, "todo-app", "backend")
	if err != nil {
		t.Fatal(err)
	}
	if n, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas"); n != 0 {
		t.Errorf("the workload has %d replicas", n)
	}
}

func keepReplicas(r *engine.ContainRequest) {
	r.Options.Steps = []string{contain.StepQuarantine, contain.StepDetach}
}

// TestTwoIncidentsInOneNamespace never share, change or remove each other's policy.
func TestTwoIncidentsInOneNamespace(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	first := w.mustStart(t, dir).mustContain(t)
	other := firstPod(t, w.Cluster, "todo-app", "frontend-")
	w.before = picture(w.Cluster, w.suspect, other)

	p := w.mustStart(t, dir)
	p.suspects = []string{other}
	p.Random = strings.NewReader("another incident altogether")
	second := p.mustContain(t)
	if second.Incident == first.Incident || !second.Opened {
		t.Fatalf("the second suspect is in incident %s too", second.Incident)
	}
	policies := map[string]string{}
	for _, o := range w.List(sim.NetworkPolicies, "todo-app") {
		if id := o.GetLabels()[contain.IncidentLabel]; id != "" {
			policies[id] = o.GetName()
		}
	}
	if len(policies) != 2 || policies[first.Incident] != contain.PolicyName(first.Incident) {
		t.Errorf("policies by incident: %v", policies)
	}
	h, err := p.Store.Open(t.Context(), incident.ID(second.Incident), p.Actor())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := p.Undo(t.Context(), h, engine.UndoRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	wantSame(t, "undoing the second leaves the first", w.before, picture(w.Cluster, w.suspect, other))
}

// anotherCluster is like every world, but for its identity.
func anotherCluster(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if err := w.Delete(sim.Namespaces, "", "kube-system"); err != nil {
		t.Fatal(err)
	}
	if err := w.Apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}"); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	res := w.mustStart(t, dir).mustContain(t)
	p := anotherCluster(t).mustStart(t, dir)
	_, err := p.containNow(t.Context(), func(r *engine.ContainRequest) { r.Incident = incident.ID(res.Incident) })
	for _, uid := range []string{w.mustStart(t, dir).Identity().ClusterUID, p.Identity().ClusterUID} {
		if !errors.Is(err, engine.ErrUndetermined) || !strings.Contains(err.Error(), uid) {
			t.Errorf("contain: %v", err)
		}
	}
	if _, err := p.Recover(t.Context(), engine.RecoverRequest{Incident: incident.ID(res.Incident)}); !errors.Is(err,
		engine.ErrUndetermined) {
		t.Errorf("recover: %v", err)
	}
	if _, err = p.undoNow(t.Context(), engine.UndoRequest{All: true}); !errors.Is(err, engine.ErrUndetermined) {
		t.Errorf("undo: %v", err)
	}
	if p.server.Written() != 0 {
		t.Errorf("%d writes", p.server.Written())
	}
}

// TestContainedFromElsewhere: without the journal irctl could not know what to
// restore, so it does not add to what it does not know.
func TestContainedFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustStart(t, t.TempDir()).mustContain(t)
	p := w.mustStart(t, t.TempDir())
	if _, err := p.containNow(t.Context()); !errors.Is(err, engine.ErrRefused) || p.server.Written() != 0 {
		t.Errorf("%v, %d writes", err, p.server.Written())
	}
}

// TestEvidenceComesFirst: the snapshot is taken after the incident is open and
// before the first write; that it fails does not keep the containment back.
func TestEvidenceComesFirst(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"taken": nil, "failed": errors.New("no space left")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			p := w.mustStart(t, dir)
			written := -1
			res := p.mustContain(t, func(r *engine.ContainRequest) {
				r.Snapshot = func(_ context.Context, _ *engine.Engine, h *incident.Handle,
					targets []*cluster.Target) (*evidence.Receipt, string, error) {
					written = p.server.Written()
					return &evidence.Receipt{SHA256: "ab"},
						fmt.Sprintf("%d sealed in %s", len(targets), h.Incident().ID), failure
				}
			})
			if written != 0 {
				t.Errorf("%d writes before the snapshot (-1: never taken)", written)
			}
			if res.Evidence.Taken != (failure == nil) || p.server.Written() != 3 {
				t.Errorf("evidence %+v, %d writes", res.Evidence, p.server.Written())
			}
			if failure != nil && len(res.Failures) == 0 {
				t.Error("the failure is not in the result")
			}
			i := slices.IndexFunc(journal(t, dir), func(e timeline.Entry) bool { return e.Step == "snapshot" })
			j := slices.IndexFunc(journal(t, dir), func(e timeline.Entry) bool { return e.Kind == timeline.KindIntent })
			if i < 0 || i > j {
				t.Errorf("the snapshot is entry %d, the first intent %d", i, j)
			}
		})
	}
}

func TestNoRecipientsIsSaid(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	res := w.mustStart(t, dir).mustContain(t)
	if res.Evidence == nil || res.Evidence.Taken || res.Evidence.Text != "no recipients" {
		t.Errorf("evidence: %+v", res.Evidence)
	}
	if !slices.ContainsFunc(journal(t, dir), func(e timeline.Entry) bool {
		return e.Step == "snapshot" && e.Outcome == timeline.OutcomeSkipped && e.Summary == "no recipients"
	}) {
		t.Error("the journal does not say that no snapshot was taken")
	}
}

// TestOneOfManyFails: the others are contained all the same.
func TestOneOfManyFails(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	unlucky := firstPod(t, w.Cluster, "todo-app", "frontend-")
	p, err := w.start(t, t.Context(), dir, func(r sim.Request) sim.Fault {
		if r.Verb == "patch" && r.Name == unlucky {
			return sim.Fault{Error: sim.Denied("policy.example.com", "hands off the frontend")}
		}
		return sim.Fault{}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.suspects = []string{w.suspect, unlucky, firstPod(t, w.Cluster, "todo-app", "mcp-server-")}
	// What is not contained is waited for; not here.
	p.Timeout = soon
	res, err := p.containNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]timeline.Outcome{}
	for _, a := range res.Actions {
		outcomes[a.Step+" "+strings.Join(a.Targets, ",")] = a.Outcome
	}
	for action, want := range map[string]timeline.Outcome{
		"detach todo-app/" + w.suspect: timeline.OutcomeDone, "scale todo-app/" + w.suspect: timeline.OutcomeDone,
		"detach todo-app/" + unlucky: timeline.OutcomeDenied,
		// Scaling it would destroy the suspect that is still attached.
		"scale todo-app/" + unlucky:        timeline.OutcomeRefused,
		"scale todo-app/" + p.suspects[2]:  timeline.OutcomeDone,
		"detach todo-app/" + p.suspects[2]: timeline.OutcomeDone,
	} {
		if outcomes[action] != want {
			t.Errorf("%s: %q, expected %q", action, outcomes[action], want)
		}
	}
	verdicts := map[string]contain.Verdict{}
	for _, f := range res.Targets {
		verdicts[f.Pod] = f.Verdict
	}
	if verdicts[w.suspect] != contain.Exposed || verdicts[unlucky] != contain.NotContained ||
		res.Verdict != contain.NotContained {
		t.Errorf("verdicts %v, together %q", verdicts, res.Verdict)
	}
	if _, err := w.Get(sim.Pods, "todo-app", unlucky); err != nil {
		t.Errorf("the suspect that could not be detached was destroyed: %v", err)
	}
}

// TestEvidenceLossIsRefused: what cannot be detached is not scaled away.
func TestEvidenceLossIsRefused(t *testing.T) {
	t.Parallel()
	for _, allow := range []bool{false, true} {
		w, dir := newWorld(t), t.TempDir()
		p := w.mustStart(t, dir)
		p.Timeout = soon
		res, err := p.containNow(t.Context(), func(r *engine.ContainRequest) {
			r.Options.KeepLabels, r.Options.AllowEvidenceLoss = true, allow
		})
		if err != nil {
			t.Fatal(err)
		}
		_, gone := w.Get(sim.Pods, "todo-app", w.suspect)
		if refused := len(res.Refusals) == 1 && res.Refusals[0].Override == "--allow-evidence-loss"; refused == allow ||
			(gone != nil) != allow {
			t.Errorf("allowed %t: refusals %+v, pod: %v", allow, res.Refusals, gone)
		}
	}
}

// TestCancelledMidWay: the journal is whole, and both ways on are open.
func TestCancelledMidWay(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	p, err := w.start(t, ctx, dir, func(r sim.Request) sim.Fault {
		if r.Verb == "patch" && r.Resource == "pods" {
			return sim.Fault{After: cancel}
		}
		return sim.Fault{}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.containNow(ctx); err != nil {
		t.Fatal(err)
	}
	entries := journal(t, dir)
	if pending := timeline.Pending(entries); len(pending) != 0 {
		t.Errorf("%d intents have no outcome", len(pending))
	}
	if entries[len(entries)-1].Kind != timeline.KindVerdict {
		t.Errorf("the last entry is %s", entries[len(entries)-1].Kind)
	}
	d, err := w.Get(sim.Deployments, "todo-app", "backend")
	if err != nil {
		t.Fatal(err)
	}
	if n, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas"); n != 3 {
		t.Errorf("cancelled before the scaling, the workload has %d replicas", n)
	}
	w.undone(t, "after the cancellation", dir)
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Deny(sim.Rule{Verb: "patch", Resource: "deployments/scale"})
	p := w.mustStart(t, t.TempDir())
	p.Timeout = soon
	res, err := p.containNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := res.Actions[len(res.Actions)-1]
	if last.Step != contain.StepScale || last.Outcome != timeline.OutcomeDenied ||
		!strings.Contains(cluster.Explain(last.Err(), deploy.RoleFor), "patch deployments.apps/scale") {
		t.Errorf("%s %s: %v (%s)", last.Step, last.Outcome, last.Err(), cluster.Explain(last.Err(), deploy.RoleFor))
	}
	if res.Verdict != contain.NotContained {
		t.Errorf("verdict %q though the workload runs on", res.Verdict)
	}
}
