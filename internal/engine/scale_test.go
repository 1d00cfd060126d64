package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

const (
	fleetNamespaces = 25
	fleetWorkloads  = 2  // in each namespace
	fleetPods       = 10 // of each workload
)

// fleet is 500 pods of 50 workloads in 25 namespaces.
func fleet(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	var b strings.Builder
	for n := range fleetNamespaces {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team-%d}\n", n)
		for d := range fleetWorkloads {
			fmt.Fprintf(&b, `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-%[2]d, namespace: team-%[1]d}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: web-%[2]d}}
  template:
    metadata: {labels: {app: web-%[2]d, fleet: web}}
    spec:
      automountServiceAccountToken: false
      containers: [{name: web, image: registry.example.com/web:1}]
`, n, d, fleetPods)
		}
	}
	if err := w.Apply(b.String()); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestFiveHundredPods: all of them at once, a bounded number of requests under
// way, and a bounded number for each pod.
func TestFiveHundredPods(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a while")
	}
	t.Parallel()
	w, dir := fleet(t), t.TempDir()
	before := len(w.List(sim.Pods, ""))
	p, err := w.start(t, t.Context(), dir, func(sim.Request) sim.Fault {
		// A round trip takes a while, or requests would hardly ever overlap.
		return sim.Fault{Before: func() { time.Sleep(time.Millisecond) }}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Timeout = 5 * time.Minute // on a busy machine; seconds on a quiet one
	targets, err := p.Client.SelectTargets(t.Context(), "", "fleet=web")
	if err != nil {
		t.Fatal(err)
	}
	const pods = fleetNamespaces * fleetWorkloads * fleetPods
	if len(targets) != pods {
		t.Fatalf("%d targets, expected %d", len(targets), pods)
	}
	res, err := p.Contain(t.Context(), engine.ContainRequest{Targets: targets,
		Options: contain.Options{Steps: contain.DefaultSteps}})
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict != contain.Contained || len(res.Targets) != pods {
		t.Errorf("verdict %q on %d pods", res.Verdict, len(res.Targets))
	}
	// Every suspect survives, the replacements that were started meanwhile are gone.
	if after := len(w.List(sim.Pods, "")); after != before {
		t.Errorf("%d pods, and there were %d", after, before)
	}
	want := fleetNamespaces + pods + fleetNamespaces*fleetWorkloads
	if n := p.server.Written(); n != want {
		t.Errorf("%d writes, expected %d: a policy for each namespace, a patch for each pod, a scale for each workload",
			n, want)
	}
	// The facts and the verification run beside the actions, hence the factor.
	if n := p.server.MostAtOnce(); n < cluster.Concurrency/2 || n > 3*cluster.Concurrency {
		t.Errorf("%d requests under way at once", n)
	}
	const each = 4 // most of them the patches and the conflicts that these bring to their owners' scale
	if n := len(p.server.Requests()); n > each*pods {
		t.Errorf("%d requests for %d pods, the budget is %d for each", n, pods, each)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	res := w.mustStart(t, dir).mustContain(t)
	p := w.mustStart(t, dir)
	look := func() *engine.StatusResult {
		t.Helper()
		i, err := p.Store.Load(incident.ID(res.Incident))
		if err != nil {
			t.Fatal(err)
		}
		return p.Status(t.Context(), i, journal(t, dir))
	}
	st := look()
	if st.Verdict != contain.Exposed || len(st.Standing) != 3 {
		t.Errorf("verdict %q, %d changes stand", st.Verdict, len(st.Standing))
	}
	for _, c := range st.Standing {
		if c.State != "after" {
			t.Errorf("%s: %s %s", c.Summary, c.State, c.Error)
		}
	}
	if st.Metrics.ContainedAt.IsZero() {
		t.Error("the metrics do not tell when it was contained")
	}

	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(o.Object, int64(5), "spec", "replicas") // spec is an object
	})
	if st = look(); st.Verdict != contain.NotContained || st.Standing[2].State != "drifted" {
		t.Errorf("the workload runs again: verdict %q, its change is %q", st.Verdict, st.Standing[2].State)
	}
	if err := w.Delete(sim.Pods, "todo-app", w.suspect); err != nil {
		t.Fatal(err)
	}
	if st = look(); st.Verdict != contain.NotContained || st.Standing[1].State != "missing" {
		t.Errorf("the suspect is gone: verdict %q, its change is %q", st.Verdict, st.Standing[1].State)
	}
	if p.server.Written() != 0 {
		t.Errorf("looking wrote %d times", p.server.Written())
	}
}

func TestStatusOfNothing(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	res := w.mustStart(t, dir).mustContain(t)
	p := w.mustStart(t, dir)
	p.mustUndo(t, engine.UndoRequest{All: true})
	i, err := p.Store.Load(incident.ID(res.Incident))
	if err != nil {
		t.Fatal(err)
	}
	st := p.Status(t.Context(), i, journal(t, dir))
	data, err := json.Marshal(st.Standing)
	if err != nil || st.Verdict != "" || string(data) != "[]" {
		t.Errorf("all was undone: verdict %q, standing %s (%v)", st.Verdict, data, err)
	}
}

func TestUndoOneStep(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		req  engine.UndoRequest
		left string
	}{
		"the last action": {engine.UndoRequest{}, "quarantine detach"},
		"a step":          {engine.UndoRequest{Step: contain.StepScale}, "quarantine detach"},
		"all":             {engine.UndoRequest{All: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			w.mustStart(t, dir).mustContain(t)
			w.mustStart(t, dir).mustUndo(t, tc.req)
			var left []string
			for _, a := range timeline.Standing(journal(t, dir)) {
				left = append(left, a.Intent.Step)
			}
			if got := strings.Join(left, " "); got != tc.left {
				t.Errorf("left standing: %q, expected %q", got, tc.left)
			}
		})
	}
}

// TestUndoLeavesWhatOthersChanged, and with it everything that kept the
// suspect safe.
func TestUndoLeavesWhatOthersChanged(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.mustStart(t, dir).mustContain(t)
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(o.Object, int64(7), "spec", "replicas") // spec is an object
	})
	before := picture(w.Cluster, w.suspect)
	p := w.mustStart(t, dir)
	res, err := p.undoNow(t.Context(), engine.UndoRequest{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range res.Actions {
		if a.Outcome != timeline.OutcomeRefused {
			t.Errorf("%s: %s", a.Summary, a.Outcome)
		}
	}
	if !strings.Contains(res.Actions[0].Error, "spec.replicas is 7, expected 0") {
		t.Errorf("the difference is not shown: %s", res.Actions[0].Error)
	}
	wantSame(t, "after the refusal", before, picture(w.Cluster, w.suspect))
}

// TestUndoDryRun shows what would be put back, and writes nothing, not even a
// journal.
func TestUndoDryRun(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.mustStart(t, dir).mustContain(t)
	entries := len(journal(t, dir))
	p := w.mustStart(t, dir)
	res := p.mustUndo(t, engine.UndoRequest{All: true, DryRun: true})
	if len(res.Actions) != 3 || p.server.Written() != 0 || len(journal(t, dir)) != entries ||
		len(p.front.proposals) != 0 {
		t.Errorf("%d actions, %d writes, %d new entries, %d questions", len(res.Actions), p.server.Written(),
			len(journal(t, dir))-entries, len(p.front.proposals))
	}
}

// TestKindsOfWorkloads: each is stopped in its own way, its suspect survives,
// and undo puts it back.
func TestKindsOfWorkloads(t *testing.T) {
	t.Parallel()
	const template = `
  template:
    metadata: {labels: {app: x}}
    spec: {automountServiceAccountToken: false, restartPolicy: Always,
        containers: [{name: x, image: "registry.example.com/x:1"}]}
`
	for kind, manifest := range map[string]string{
		"statefulset": "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x, namespace: todo-app}\nspec:\n  " +
			"replicas: 2\n  serviceName: x\n  selector: {matchLabels: {app: x}}" + template,
		"replicaset": "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: x, namespace: todo-app}\nspec:\n  " +
			"replicas: 2\n  selector: {matchLabels: {app: x}}" + template,
		"controller": "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: x, namespace: todo-app}\nspec:\n" +
			"  replicas: 2\n  selector: {app: x}" + template,
		"daemonset": "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: x, namespace: todo-app}\nspec:\n  " +
			"selector: {matchLabels: {app: x}}" + template,
		"job": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x, namespace: todo-app}\nspec:\n  " +
			"parallelism: 2" + template,
		"gadget": "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: x, namespace: todo-app}\nspec:\n  " +
			"replicas: 2\n  selector: {matchLabels: {app: x}}" + template,
		"bare pod": "apiVersion: v1\nkind: Pod\nmetadata: {name: x-bare, namespace: todo-app, labels: {app: x}}\n" +
			"spec: {automountServiceAccountToken: false, containers: [{name: x, image: x}]}",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			if err := w.Apply(manifest); err != nil {
				t.Fatal(err)
			}
			w.suspect = firstPod(t, w.Cluster, "todo-app", "x-")
			w.before = picture(w.Cluster, w.suspect)
			res := w.mustStart(t, dir).mustContain(t)
			if len(res.Refusals) != 0 || res.Verdict != contain.Contained {
				t.Errorf("verdict %q, refusals %+v, %+v", res.Verdict, res.Refusals, res.Targets)
			}
			if pod, err := w.Get(sim.Pods, "todo-app", w.suspect); err != nil || len(pod.GetOwnerReferences()) != 0 {
				t.Errorf("the suspect: %v", err)
			}
			w.undone(t, kind, dir)
		})
	}
}

// TestCronJob: a Job that it started goes on when it is suspended, so both are.
func TestCronJob(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	err := w.Apply(`apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: todo-app}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec: {automountServiceAccountToken: false, restartPolicy: Never, containers: [{name: x, image: x}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.RunCronJob("todo-app", "nightly"); err != nil {
		t.Fatal(err)
	}
	w.suspect = firstPod(t, w.Cluster, "todo-app", "nightly-")
	w.before = picture(w.Cluster, w.suspect)
	if res := w.mustStart(t, dir).mustContain(t); res.Verdict != contain.Contained {
		t.Errorf("verdict %q: %+v", res.Verdict, res.Targets)
	}
	if _, err := w.RunCronJob("todo-app", "nightly"); err == nil {
		t.Error("the CronJob still starts Jobs")
	}
	w.undone(t, "CronJob", dir)
}

// TestUndoCancelled: an undo that is cut short leaves a whole journal, and the
// next one does the rest.
func TestUndoCancelled(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.mustStart(t, dir).mustContain(t)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := w.start(t, ctx, dir, func(r sim.Request) sim.Fault {
		if r.Writes() {
			return sim.Fault{After: cancel}
		}
		return sim.Fault{}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.undoNow(ctx, engine.UndoRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	if pending := timeline.Pending(journal(t, dir)); len(pending) != 0 {
		t.Errorf("%d intents have no outcome", len(pending))
	}
	w.undone(t, "after the cancellation", dir)
}
