package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/report"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	"irctl/internal/steps/eradicate"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// only is the only open incident.
func (p *process) only(ctx context.Context) incident.ID {
	open, _ := p.Store.FindOpen(ctx, func(incident.Incident) bool { return true })
	if len(open) != 1 {
		return ""
	}
	return open[0].ID
}

// recoverNow recovers the only incident, as the command does.
func (p *process) recoverNow(ctx context.Context, change ...func(*engine.RecoverRequest)) (*engine.RecoverResult,
	error) {
	req := engine.RecoverRequest{Incident: p.only(ctx)}
	for _, f := range change {
		f(&req)
	}
	return p.Recover(ctx, req)
}

func (p *process) mustRecover(t testing.TB, change ...func(*engine.RecoverRequest)) *engine.RecoverResult {
	t.Helper()
	res, err := p.recoverNow(t.Context(), change...)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range res.Actions {
		if a.Err() != nil {
			t.Fatalf("%s: %v", a.Summary, a.Err())
		}
	}
	return res
}

func (p *process) setImage(t testing.TB, image string) {
	t.Helper()
	res, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.only(t.Context()),
		Options: eradicate.Options{Images: []eradicate.Image{{Container: "backend", Ref: image}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range res.Actions {
		if a.Err() != nil {
			t.Fatalf("%s: %v", a.Summary, a.Err())
		}
	}
}

func sameImage(r *engine.RecoverRequest) { r.SameImage = true }

func deletes(r *engine.RecoverRequest) { r.Suspect = recovery.Deleted }

// checkOf is a check on the only workload.
func checkOf(t testing.TB, res *engine.RecoverResult, code string) recovery.Check {
	t.Helper()
	i := slices.IndexFunc(res.Workloads[0].Checks, func(c recovery.Check) bool { return c.Code == code })
	if i < 0 {
		t.Fatalf("no check %s in %+v", code, res.Workloads[0].Checks)
	}
	return res.Workloads[0].Checks[i]
}

func (w *world) replicas(t testing.TB, name string) int64 {
	t.Helper()
	d, err := w.Get(sim.Deployments, "todo-app", name)
	if err != nil {
		t.Fatal(err)
	}
	n, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
	return n
}

func (w *world) exists(gvr schema.GroupVersionResource, name string) bool {
	_, err := w.Get(gvr, "todo-app", name)
	return err == nil
}

func TestTheSuspectsImageIsPutBackOnlyKnowingly(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world, p *process){
		"untouched": func(*testing.T, *world, *process) {},
		"the suspect is gone, its ReplicaSet tells": func(t *testing.T, w *world, _ *process) {
			if err := w.Delete(sim.Pods, "todo-app", w.suspect); err != nil {
				t.Fatal(err)
			}
		},
		"the same content under another name": func(t *testing.T, w *world, p *process) {
			pod, _ := w.Get(sim.Pods, "todo-app", w.suspect)
			statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
			id := statuses[0].(map[string]any)["imageID"].(string)
			_, digest, _ := strings.Cut(id, "@")
			same := "mirror.example.com/clean@" + digest
			_, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.only(t.Context()),
				Options: eradicate.Options{Images: []eradicate.Image{{Container: "backend", Ref: same}}}})
			if !errors.Is(err, engine.ErrRefused) {
				t.Errorf("what the suspect ran is deployed as a patch: %v", err)
			}
			w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) { // by hand
				containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
				containers[0].(map[string]any)["image"] = same
				_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := newWorld(t), t.TempDir()
			p := w.mustStart(t, dir)
			p.mustContain(t)
			change(t, w, p)
			contained := picture(w.Cluster, w.suspect)
			res, err := p.recoverNow(t.Context())
			if err != nil || len(res.Refusals) != 1 || res.Verdict != engine.NotRecovered {
				t.Fatalf("%+v, %v", res, err)
			}
			if name == "untouched" {
				wantSame(t, "refused", contained, picture(w.Cluster, w.suspect))
			}
			if n := w.replicas(t, "backend"); n != 0 {
				t.Errorf("refused, it has %d replicas", n)
			}

			res = p.mustRecover(t, sameImage)
			if !res.Workloads[0].OK || res.WayIn() != recovery.Open || w.replicas(t, "backend") != 3 {
				t.Errorf("%+v", res)
			}
			if r := reportOf(t, p); !strings.Contains(r, "The way in is still open since") {
				t.Errorf("the report does not say that the way in is open: %s", r)
			}

			// Again without the flag: it was decided, and nothing is to be restored.
			if res = p.mustRecover(t); len(res.Refusals) > 0 || res.WayIn() != recovery.Open {
				t.Errorf("%+v", res)
			}
			p.setImage(t, cleanImage)
			if res = p.mustRecover(t); res.WayIn() != recovery.Closed || checkOf(t, res, "suspect-image").
				Result == recovery.Failed {
				t.Errorf("%+v", res)
			}
			if r := reportOf(t, p); strings.Contains(r, "The way in is still open since") {
				t.Errorf("the report still says that the way in is open: %s", r)
			}
		})
	}
}

// reportOf is the summary of the post-mortem.
func reportOf(t testing.TB, p *process) string {
	t.Helper()
	in, err := report.Read(p.Store, p.only(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	in.Now = clock()
	var lines []string
	for _, s := range report.New(in).Summary {
		lines = append(lines, string(s))
	}
	return strings.Join(lines, "\n")
}

func TestWhatIsSoundIsRecovered(t *testing.T) {
	w := newDown(t)
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		containers[0].(map[string]any)["securityContext"] = map[string]any{"runAsNonRoot": true,
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"capabilities": map[string]any{"drop": []any{"ALL"}}}
		_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
	})
	p := w.mustStart(t, w.dir)
	res := p.mustRecover(t)
	if res.Verdict != engine.Recovered || len(res.Codes(recovery.Failed)) > 0 || len(res.Codes(recovery.NotKnown)) > 0 {
		t.Errorf("%s: failed %v, unknown %v", res.Verdict, res.Codes(recovery.Failed), res.Codes(recovery.NotKnown))
	}
	if w.replicas(t, "backend") != 3 {
		t.Errorf("%d replicas", w.replicas(t, "backend"))
	}
	// The suspect is kept, cut off; its quarantine stays; the autoscaler runs again.
	pod, err := w.Get(sim.Pods, "todo-app", w.suspect)
	if err != nil || pod.GetLabels()[contain.QuarantineLabel] != "true" || len(pod.GetOwnerReferences()) > 0 {
		t.Errorf("the suspect: %v %v", pod, err)
	}
	if !w.exists(sim.NetworkPolicies, contain.PolicyName(res.Incident)) || len(res.Stays) != 1 {
		t.Errorf("the quarantine of a suspect that is kept was lifted; stays: %v", res.Stays)
	}
	o, err := w.Get(schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"},
		"todo-app", "backend")
	if err != nil || len(o.GetAnnotations()) > 0 {
		t.Errorf("the autoscaler is still suspended: %v %v", o.GetAnnotations(), err)
	}
	if m := timeline.MetricsOf(journal(t, w.dir)); m.RecoveredAt.IsZero() {
		t.Error("when it was recovered is not known")
	}
	if v := p.Status(t.Context(), mustLoad(t, p), journal(t, w.dir)).Verdict; v == contain.NotContained {
		t.Errorf("the suspect is %s", v)
	}
}

func mustLoad(t testing.TB, p *process) incident.Incident {
	t.Helper()
	i, err := p.Store.Load(p.only(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestChecksFindWhatIsWrong breaks one thing after the other.
func TestChecksFindWhatIsWrong(t *testing.T) {
	container := func(key string, value any) func(t *testing.T, w *downWorld) {
		return func(t *testing.T, w *downWorld) {
			w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
				containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
				containers[0].(map[string]any)[key] = value
				_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
			})
		}
	}
	security := func(s map[string]any) func(t *testing.T, w *downWorld) { return container("securityContext", s) }
	label := func(key, value string) func(t *testing.T, w *downWorld) {
		return func(t *testing.T, w *downWorld) {
			w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
				_ = unstructured.SetNestedField(o.Object, value, "spec", "template", "metadata", "labels", key)
			})
		}
	}
	for name, tc := range map[string]struct {
		change func(t *testing.T, w *downWorld)
		code   string
		want   recovery.Result
		text   string
	}{
		"root": {security(map[string]any{"runAsUser": int64(0)}), "non-root", recovery.Failed,
			"backend"},
		"another user": {security(map[string]any{"runAsUser": int64(1000)}), "non-root", recovery.Passed,
			""},
		"whom the image chooses": {security(map[string]any{}), "non-root", recovery.NotKnown, "backend"},
		"privileged": {security(map[string]any{"privileged": true}), "privileged", recovery.Failed,
			"is privileged"},
		"capability": {security(map[string]any{"capabilities": map[string]any{"drop": []any{"ALL"},
			"add": []any{"SYS_ADMIN"}}}), "capabilities", recovery.Failed, "adds SYS_ADMIN"},
		"capability that may be": {security(map[string]any{"capabilities": map[string]any{"drop": []any{"all"},
			"add": []any{"NET_BIND_SERVICE"}}}), "capabilities", recovery.Passed, ""},
		"quarantine label": {label(contain.QuarantineLabel, "true"), "quarantine-labels", recovery.Failed,
			"backend-"},
		"a secret in the log": {nil, "log-secrets", recovery.Failed, "1 × sensitive-key"},
		"no policy":           {withoutPolicies, "network-policy", recovery.Failed, "may connect to everything"},
		"nothing enforces": {withoutEnforcer, "network-policy", recovery.NotKnown,
			"nothing that is known to enforce them"},
		"no ready endpoint": {func(*testing.T, *downWorld) {}, "endpoints", recovery.Passed,
			"every pod is a ready endpoint of backend"},
		"an image by tag": {container("image", "registry.example.com/todo-backend:2.0.0"), "image-digest",
			recovery.Passed, "its tag can be moved"},
		"an image by digest": {func(*testing.T, *downWorld) {}, "image-digest", recovery.Passed, "sha256:aaaa"},
		"not the suspects'":  {func(*testing.T, *downWorld) {}, "suspect-image", recovery.Passed, ""},
		"the node's network": {hostNetwork, "network-policy", recovery.Failed, "no policy binds a pod"},
		"a log that may not be read": {func(t *testing.T,
			w *downWorld) {
			w.Deny(sim.Rule{Verb: "get", Resource: "pods/log"})
		}, "log-secrets", recovery.NotKnown, "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newDown(t)
			if tc.change != nil {
				tc.change(t, w)
			}
			p := w.mustStart(t, w.dir)
			res := p.mustRecover(t)
			if tc.change == nil {
				leak(t, w.world)
				res = p.mustRecover(t)
			}
			c := checkOf(t, res, tc.code)
			if c.Result != tc.want || !strings.Contains(c.Text, tc.text) {
				t.Errorf("%+v", c)
			}
			if tc.want == recovery.Failed && res.Verdict != engine.NotRecovered {
				t.Errorf("the verdict is %s", res.Verdict)
			}
			text, _ := os.ReadFile(filepath.Join(w.dir, "incidents", res.Incident, "timeline.jsonl"))
			if strings.Contains(string(text), leakedValue) {
				t.Error("the value of a secret is in the timeline")
			}
		})
	}
}

const leakedValue = "hunter2-5f0cc1d2"

// leak has the new pods write a password into their logs.
func leak(t testing.TB, w *world) {
	t.Helper()
	for _, p := range w.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), "backend-") && p.GetName() != w.suspect {
			if err := w.Log("todo-app", p.GetName(), "backend", "connecting with password="+leakedValue); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func withoutPolicies(t *testing.T, w *downWorld) {
	for _, name := range []string{"backend-network-policy", "default-deny-all"} {
		if err := w.Delete(sim.NetworkPolicies, "todo-app", name); err != nil {
			t.Fatal(err)
		}
	}
}

func withoutEnforcer(t *testing.T, w *downWorld) {
	if err := w.Delete(sim.DaemonSets, "kube-system", "kube-router"); err != nil {
		t.Fatal(err)
	}
}

func hostNetwork(t *testing.T, w *downWorld) {
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(o.Object, true, "spec", "template", "spec", "hostNetwork")
	})
}

func TestARolloutThatFailsSaysWhy(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	p.mustContain(t)
	p.setImage(t, sim.NoRegistry+"/todo-backend@sha256:"+strings.Repeat("b", 64))
	res, err := p.recoverNow(t.Context(), deleting, func(r *engine.RecoverRequest) { r.Wait = 300 * time.Millisecond })
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0 of 3 pods are ready", "ImagePullBackOff", "no such host",
		"--wait of 300ms is over"} {
		if !strings.Contains(res.Workloads[0].Rollout, want) {
			t.Errorf("%q does not say %q", res.Workloads[0].Rollout, want)
		}
	}
	if res.Verdict != engine.NotRecovered || !slices.Equal(res.Codes(recovery.Failed), []string{"rollout"}) {
		t.Errorf("%s %v", res.Verdict, res.Codes(recovery.Failed))
	}
	// Neither the suspect nor its quarantine goes before the workload runs.
	if !w.exists(sim.Pods, w.suspect) || !w.exists(sim.NetworkPolicies, contain.PolicyName(res.Incident)) {
		t.Error("the suspect or its quarantine is gone")
	}
	// With a good image the same command goes on.
	p.setImage(t, cleanImage)
	p.mustRecover(t, deleting)
	if w.exists(sim.Pods, w.suspect) || w.exists(sim.NetworkPolicies, contain.PolicyName(res.Incident)) {
		t.Error("the suspect or its quarantine is left")
	}
}

func TestASuspectIsDeletedOnlyOnceItsEvidenceIsSealed(t *testing.T) {
	run := &engine.RunRequest{}
	sealing(t)(run)
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	p.mustContain(t, func(r *engine.ContainRequest) { r.Snapshot = run.Evidence.Snapshot() })
	p.setImage(t, cleanImage)
	bundles, err := filepath.Glob(filepath.Join(dir, "incidents", "*", "*.gpg"))
	if err != nil || len(bundles) != 1 {
		t.Fatal(bundles, err)
	}
	sound, err := os.ReadFile(bundles[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"altered": func() error { return os.WriteFile(bundles[0], append([]byte("x"), sound[1:]...), 0o600) },
		"cut":     func() error { return os.WriteFile(bundles[0], sound[:len(sound)-1], 0o600) },
		"removed": func() error { return os.Remove(bundles[0]) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		res, err := p.recoverNow(t.Context(), deletes)
		if err != nil || len(res.Refusals) != 1 || res.Suspects[0].Fate != "kept" || !w.exists(sim.Pods, w.suspect) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
	if err := os.WriteFile(bundles[0], sound, 0o600); err != nil {
		t.Fatal(err)
	}
	res := p.mustRecover(t, deletes)
	if res.Suspects[0].Fate != "deleted" || w.exists(sim.Pods, w.suspect) ||
		!strings.Contains(res.Suspects[0].Text, filepath.Base(bundles[0])) {
		t.Errorf("%+v", res.Suspects)
	}
	if w.exists(sim.NetworkPolicies, contain.PolicyName(res.Incident)) {
		t.Error("the quarantine is for nobody, and still there")
	}
	// Nothing is left to be handed back.
	undone := p.mustUndo(t, engine.UndoRequest{All: true})
	for _, a := range undone.Actions {
		if a.Step != eradicate.StepImage {
			t.Errorf("undo offers %s", a.Summary)
		}
	}
}

func TestAPodThatTookTheNameOfASuspectIsSafe(t *testing.T) {
	w := newDown(t)
	fault := func(r sim.Request) sim.Fault {
		if r.Verb != "delete" || r.Resource != "pods" || r.Nth > 1 {
			return sim.Fault{}
		}
		return sim.Fault{Before: func() {
			_ = w.Delete(sim.Pods, "todo-app", w.suspect)
			_ = w.Apply("apiVersion: v1\nkind: Pod\nmetadata: {name: " + w.suspect +
				", namespace: todo-app}\nspec: {containers: [{name: c, image: i}]}\n")
		}}
	}
	p, err := w.start(t, t.Context(), w.dir, fault)
	if err != nil {
		t.Fatal(err)
	}
	p.mustRecover(t, deleting)
	if !w.exists(sim.Pods, w.suspect) {
		t.Error("another pod of the name was deleted")
	}
}

func TestTheQuarantineStaysForWhoeverIsLeft(t *testing.T) {
	w := newDown(t)
	p := w.mustStart(t, w.dir)
	// Somebody marked another pod for the same incident.
	other := firstPod(t, w.Cluster, "todo-app", "frontend-")
	w.edit(t, sim.Pods, other, func(o *unstructured.Unstructured) {
		o.SetLabels(map[string]string{contain.QuarantineLabel: "true",
			contain.IncidentLabel: string(p.only(t.Context()))})
	})
	res, err := p.recoverNow(t.Context(), deleting)
	if err != nil {
		t.Fatal(err)
	}
	if !w.exists(sim.NetworkPolicies, contain.PolicyName(res.Incident)) {
		t.Error("the quarantine of a pod was lifted")
	}
	if !slices.ContainsFunc(res.Actions, func(a engine.ActionResult) bool {
		return a.Step == recovery.StepLift && a.Outcome == timeline.OutcomeRefused && strings.Contains(a.Error, other)
	}) {
		t.Errorf("%+v", res.Actions)
	}
}

func TestAStatefulSetsPodWaitsForTheSuspectOfItsName(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	w.suspect = "postgres-0"
	p := w.mustStart(t, dir)
	p.mustContain(t)
	if _, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.only(t.Context()),
		Options: eradicate.Options{Images: []eradicate.Image{{Container: "postgres", Ref: cleanImage}}}}); err != nil {
		t.Fatal(err)
	}
	res, err := p.recoverNow(t.Context())
	if err != nil || len(res.Refusals) != 1 || !strings.Contains(res.Refusals[0].Reason,
		"has the name of one of its pods") {
		t.Fatalf("%+v, %v", res, err)
	}
	before, _ := w.Get(sim.Pods, "todo-app", "postgres-0")
	res = p.mustRecover(t, deleting)
	now, err := w.Get(sim.Pods, "todo-app", "postgres-0")
	if err != nil || now.GetUID() == before.GetUID() || !res.Workloads[0].OK {
		t.Errorf("%+v, %v", res, err)
	}
	if standing := timeline.Standing(journal(t, dir)); len(standing) != 1 {
		t.Errorf("%d changes stand, expected the image alone", len(standing))
	}
}

func TestReplicasThatSomebodyElseSetAreLeft(t *testing.T) {
	w := newDown(t)
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(o.Object, int64(1), "spec", "replicas")
	})
	res, err := w.mustStart(t, w.dir).recoverNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := res.Actions[0]
	if a.Outcome != timeline.OutcomeRefused || !strings.Contains(a.Error, "spec.replicas is 1, expected 0") ||
		w.replicas(t, "backend") != 1 {
		t.Errorf("%+v", a)
	}
}

func TestRecoverDryRunChangesNothing(t *testing.T) {
	w := newDown(t)
	before, entries := picture(w.Cluster, w.suspect), len(journal(t, w.dir))
	p := w.mustStart(t, w.dir)
	res := p.mustRecover(t, deleting, func(r *engine.RecoverRequest) { r.DryRun = true })
	if len(res.Actions) != 5 || p.server.Written() != 0 || len(journal(t, w.dir)) != entries {
		t.Errorf("%d actions, %d writes, %d entries more", len(res.Actions), p.server.Written(),
			len(journal(t, w.dir))-entries)
	}
	wantSame(t, "dry run", before, picture(w.Cluster, w.suspect))
}

func TestTheAnswerNoChangesNothing(t *testing.T) {
	w := newDown(t)
	p := w.mustStart(t, w.dir)
	p.front.answer = engine.No
	if res, err := p.recoverNow(t.Context()); err != nil || !res.Cancelled || p.server.Written() != 0 {
		t.Errorf("%+v, %v, %d writes", res, err, p.server.Written())
	}
}

// TestMissingRightsCostTheirOwn: without a right the rest is done, and what was
// not is told.
func TestMissingRightsOfRecover(t *testing.T) {
	for _, rule := range []sim.Rule{{Verb: "delete", Resource: "pods"},
		{Verb: "patch", Group: "apps", Resource: "deployments/scale"},
		{Verb: "delete", Group: "networking.k8s.io", Resource: "networkpolicies"},
		{Verb: "patch", Group: "keda.sh", Resource: "scaledobjects"},
		{Verb: "list", Group: "discovery.k8s.io", Resource: "endpointslices"},
		{Verb: "list", Group: "networking.k8s.io", Resource: "networkpolicies"}} {
		t.Run(rule.Verb+" "+rule.Resource, func(t *testing.T) {
			w := newDown(t)
			w.Deny(rule)
			res, err := w.mustStart(t, w.dir).recoverNow(t.Context(), deleting)
			if err != nil {
				t.Fatal(err)
			}
			failed := slices.ContainsFunc(res.Actions, func(a engine.ActionResult) bool {
				return a.Err() != nil && strings.Contains(a.Error, "forbidden")
			})
			unknown := slices.ContainsFunc(res.Workloads[0].Checks, func(c recovery.Check) bool {
				return c.Result == recovery.NotKnown && strings.Contains(c.Text, "forbidden")
			})
			if !failed && !unknown {
				t.Errorf("nobody is told: %+v", res)
			}
			if strings.HasPrefix(rule.Resource, "deployments") != (w.replicas(t, "backend") == 0) {
				t.Errorf("%d replicas", w.replicas(t, "backend"))
			}
		})
	}
}

// monitorNow watches the only incident.
func (p *process) monitorNow(ctx context.Context, change ...func(*engine.MonitorRequest)) (*engine.MonitorResult,
	error) {
	req := engine.MonitorRequest{Incident: p.only(ctx), For: 30 * time.Second, Every: 20 * time.Millisecond}
	for _, f := range change {
		f(&req)
	}
	return p.Monitor(ctx, req)
}

func TestMonitorSeesTheAttackersReturn(t *testing.T) {
	alert := `{"time":"2026-02-12T09:30:05Z","rule":"Terminal shell in ` +
		`container","priority":"Critical","output":"shell","output_fields":{"k8s.ns.name":"todo-app",` +
		`"k8s.pod.name":"frontend-x"}}` + "\n"
	for code, happen := range map[string]func(t *testing.T, w *downWorld, id incident.ID){
		recovery.HitImage: func(t *testing.T, w *downWorld, _ incident.ID) {
			err := w.Apply("apiVersion: v1\nkind: Pod\nmetadata: {name: again, namespace: default}\nspec: " +
				"{containers: [{name: c, image: registry.example.com/todo-backend:1.4.2}]}\n")
			if err != nil {
				t.Error(err)
			}
		},
		recovery.HitReverted: func(t *testing.T, w *downWorld, id incident.ID) {
			if err := w.Delete(sim.NetworkPolicies, "todo-app", contain.PolicyName(string(id))); err != nil {
				t.Error(err)
			}
		},
		recovery.HitReleased: func(t *testing.T, w *downWorld, _ incident.ID) {
			_ = w.Edit(sim.Pods, "todo-app", w.suspect, func(o *unstructured.Unstructured) {
				o.SetLabels(map[string]string{"app": "backend"})
			})
		},
		recovery.HitName: func(t *testing.T, w *downWorld, _ incident.ID) {
			_ = w.Delete(sim.Pods, "todo-app", w.suspect)
			_ = w.Apply("apiVersion: v1\nkind: Pod\nmetadata: {name: " + w.suspect +
				", namespace: todo-app}\nspec: {containers: [{name: c, image: other}]}\n")
		},
		recovery.HitAlert: nil,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := newDown(t)
			p := w.mustStart(t, w.dir)
			p.mustRecover(t)
			id := p.only(t.Context())
			var inputs []detect.Input
			if happen == nil {
				inputs = []detect.Input{{Source: detect.SourceFalco, Path: "alerts", Reader: strings.NewReader(alert)}}
			} else {
				p.during(func() { happen(t, w, id) })
			}
			res, err := p.monitorNow(t.Context(), func(r *engine.MonitorRequest) { r.Inputs = inputs })
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(res.Hits, func(h recovery.Hit) bool { return h.Code == code }) {
				t.Errorf("%+v", res)
			}
			last := journal(t, w.dir)
			if e := last[len(last)-1]; e.Action != "hit" || e.Outcome != timeline.OutcomeFailed ||
				e.Phase != "recover" {
				t.Errorf("the journal ends with %+v", e)
			}
		})
	}
}

func TestMonitorThatSeesNothingSaysSo(t *testing.T) {
	w := newDown(t)
	p := w.mustStart(t, w.dir)
	p.mustRecover(t)
	res, err := p.monitorNow(t.Context(), func(r *engine.MonitorRequest) { r.For = 2 * time.Second })
	if err != nil || len(res.Hits) > 0 || res.Looks < 1 || res.Interrupted || len(res.Gaps) > 0 {
		t.Errorf("%+v, %v", res, err)
	}
	// Ctrl-C is not the same as nothing.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.front.waiting = func(engine.Event) { cancel() } // after the first look
	if res, err = p.monitorNow(ctx); err != nil || !res.Interrupted {
		t.Errorf("%+v, %v", res, err)
	}
	entries := journal(t, w.dir)
	if e := entries[len(entries)-1]; e.Outcome != timeline.OutcomeSkipped ||
		!strings.Contains(e.Summary, "was ended after") {
		t.Errorf("the journal ends with %+v", e)
	}
	// What may not be seen is told.
	p.front.waiting = nil
	w.Deny(sim.Rule{Verb: "list", Resource: "pods"})
	if res, err = p.monitorNow(t.Context(), func(r *engine.MonitorRequest) { r.For = 2 * time.Second }); err != nil ||
		len(res.Gaps) == 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestMonitorAtTheClustersPace: in a drill that is sped up an hour is over when
// the cluster's is.
func TestMonitorAtTheClustersPace(t *testing.T) {
	t.Parallel()
	w := newDown(t)
	p := w.mustStart(t, w.dir)
	p.mustRecover(t)
	p.Pace = 3600
	began := time.Now()
	res, err := p.monitorNow(t.Context(), func(r *engine.MonitorRequest) { r.For, r.Every = time.Hour, 15*time.Minute })
	if took := time.Since(began); err != nil || res.Interrupted || res.Looks < 2 || took > time.Minute {
		t.Errorf("%d looks in %s: %+v, %v", res.Looks, took, res, err)
	}
	entries := journal(t, w.dir)
	if e := entries[len(entries)-1]; e.Summary != "watched for 1h0m0s: nothing was seen" {
		t.Errorf("the journal ends with %+v", e)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pace        engine.Pace
		here, there time.Duration
	}{{0, time.Minute, time.Minute}, {1, time.Minute, time.Minute}, {60, time.Second, time.Hour},
		{0.5, 2 * time.Minute, 30 * time.Second}} {
		if here, there := tc.pace.Here(time.Minute), tc.pace.There(time.Minute); here != tc.here || there != tc.there {
			t.Errorf("%v: %s and %s, expected %s and %s", tc.pace, here, there, tc.here, tc.there)
		}
	}
}

func TestMonitorContainsAgain(t *testing.T) {
	w := newDown(t)
	p := w.mustStart(t, w.dir)
	p.mustRecover(t, deleting)
	p.during(func() {
		w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
			containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			containers[0].(map[string]any)["image"] = suspectImage
			_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
		})
	})
	res, err := p.monitorNow(t.Context(), func(r *engine.MonitorRequest) { r.Recontain = true })
	if err != nil || res.Failure != "" || res.Contained == nil || len(res.Contained.Targets) != 3 ||
		res.Contained.Opened {
		t.Fatalf("%+v, %v", res, err)
	}
	if n := w.replicas(t, "backend"); n != 0 {
		t.Errorf("it runs %d replicas", n)
	}
	if !w.exists(sim.NetworkPolicies, contain.PolicyName(res.Incident)) {
		t.Error("nothing quarantines them")
	}
}

// A sidecar that stayed keeps the way in open, since nobody knows which container
// it was; but its image, which others run too, is no sign.
func TestASidecarsImageIsNoSign(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		containers = append(containers, map[string]any{"name": "proxy",
			"image": "registry.example.com/todo-frontend:1.4.2"})
		_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
	})
	w.suspect = firstPod(t, w.Cluster, "todo-app", "backend-")
	p := w.mustStart(t, dir)
	p.mustContain(t)
	p.setImage(t, cleanImage)
	if res := p.mustRecover(t); len(res.Refusals) == 0 || res.WayIn() != recovery.Open {
		t.Errorf("with the suspect's sidecar: %+v, %+v", res.Workloads[0].WayIn, res.Refusals)
	}
	res := p.mustRecover(t, func(r *engine.RecoverRequest) { r.SameImage = true })
	if c := checkOf(t, res, "suspect-image"); !c.Accepted ||
		!strings.Contains(res.Workloads[0].WayIn.Text, "still the suspect's for proxy=") {
		t.Errorf("%+v, %+v", c, res.Workloads[0].WayIn)
	}
	seen, err := p.monitorNow(t.Context(), func(r *engine.MonitorRequest) { r.For = 2 * time.Second })
	if err != nil || len(seen.Hits) > 0 || seen.Looks == 0 {
		t.Errorf("%+v, %v", seen, err)
	}
}
