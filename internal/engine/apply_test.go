package engine_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

var bindingsGVR = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1",
	Resource: "rolebindings"}

// teamManifests are what a team would apply: a policy of its own, one that is
// there changed, and a workload hardened.
const teamManifests = `
# A comment alone is no object.
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: no-metadata-service, namespace: todo-app}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]}]
---
apiVersion: v1
kind: List
items:
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: frontend-network-policy, namespace: todo-app, labels: {team: web}, resourceVersion: "1", uid: x}
  status: {}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: backend, namespace: todo-app}
  spec:
    replicas: 3
    template:
      spec:
        containers: [{name: backend, securityContext: {runAsNonRoot: true}}]
`

func manifests(t testing.TB, text string) []eradicate.Manifest {
	t.Helper()
	list, err := eradicate.ParseManifests("team.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// onlyOpen is the incident of a state directory.
func (p *process) onlyOpen(t testing.TB) incident.ID {
	t.Helper()
	open, _ := p.Store.FindOpen(t.Context(), func(incident.Incident) bool { return true })
	if len(open) != 1 {
		t.Fatalf("%d open incidents", len(open))
	}
	return open[0].ID
}

// policies is a request that changes what can be undone, and no secret.
func policies(t testing.TB, p *process) engine.EradicateRequest {
	return engine.EradicateRequest{Incident: p.onlyOpen(t),
		Options: eradicate.Options{Manifests: manifests(t, teamManifests), RemoveBindings: true}}
}

// shared makes the backend's binding one that others are in, too.
func shared(t testing.TB, w *leakedWorld) {
	w.edit(t, bindingsGVR, "backend-rolebinding", func(o *unstructured.Unstructured) {
		subjects, _, _ := unstructured.NestedSlice(o.Object, "subjects")
		subjects = append(subjects, map[string]any{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io",
			"name": "developers"})
		_ = unstructured.SetNestedSlice(o.Object, subjects, "subjects")
	})
}

func (w *leakedWorld) subjects(t testing.TB) string {
	t.Helper()
	o, err := w.Get(bindingsGVR, "todo-app", "backend-rolebinding")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(o.Object["subjects"])
	return string(text)
}

// still is a picture in which the pods that an undone rollout has replaced are
// as before.
func (w *leakedWorld) still() map[string]any {
	all := picture(w.Cluster, w.suspect)
	for key, o := range all {
		if strings.HasPrefix(key, "ReplicaSet ") || strings.HasPrefix(key, "Pod ") && !strings.HasSuffix(key,
			w.suspect) || strings.HasPrefix(key, "EndpointSlice ") {
			delete(all, key)
			continue
		}
		unstructured.RemoveNestedField(o.(map[string]any), "metadata", "annotations",
			"deployment.kubernetes.io/revision")
	}
	return all
}

func TestApplyAndBindings(t *testing.T) {
	w := newLeaked(t)
	shared(t, w)
	before := w.still()
	p := w.mustStart(t, w.dir)
	req := policies(t, p)

	plan := req
	plan.PlanOnly = true
	res, err := p.Eradicate(t.Context(), plan)
	if err != nil || p.server.Written() != 0 {
		t.Fatalf("planning wrote %d times: %v", p.server.Written(), err)
	}
	if len(res.Actions) != 4 || len(res.Refusals) != 0 || len(res.Actions[0].Diff) == 0 {
		t.Errorf("%d actions, refused %v", len(res.Actions), res.Refusals)
	}
	if b := res.Radius.Bindings; len(b) != 1 || b[0].Object != "RoleBinding todo-app/backend-rolebinding" ||
		b[0].Others != 1 ||
		!slices.Contains(b[0].Allows, "read secrets backend-secret in todo-app") {
		t.Errorf("%+v", b)
	}

	for _, writes := range []int{4, 0} {
		p = w.mustStart(t, w.dir)
		res, err = p.Eradicate(t.Context(), req)
		if err != nil || p.server.Written() != writes {
			t.Fatalf("%d writes, expected %d: %v", p.server.Written(), writes, err)
		}
		for _, a := range res.Actions {
			if a.Err() != nil {
				t.Errorf("%s: %v", a.Summary, a.Err())
			}
		}
	}
	if got := w.subjects(t); got != `[{"apiGroup":"rbac.authorization.k8s.io","kind":"Group","name":"developers"}]` {
		t.Errorf("subjects are %s", got)
	}
	if _, err := w.Get(sim.NetworkPolicies, "todo-app", "no-metadata-service"); err != nil {
		t.Error(err)
	}
	for _, pod := range w.List(sim.Pods, "todo-app") {
		text, _ := json.Marshal(pod.Object["spec"])
		if strings.HasPrefix(pod.GetName(), "backend-") &&
			(pod.GetName() == w.suspect) == strings.Contains(string(text), "runAsNonRoot") {
			t.Errorf("%s runs %s", pod.GetName(), text)
		}
	}
	for _, step := range []string{eradicate.StepBindings, eradicate.StepApply} {
		w.mustStart(t, w.dir).mustUndo(t, engine.UndoRequest{Step: step})
	}
	wantSame(t, "undo", before, w.still())
}

// TestApplyLeavesWhatIsHeld: the replicas in a manifest do not start a
// workload that the incident keeps down.
func TestApplyLeavesWhatIsHeld(t *testing.T) {
	w := &leakedWorld{newWorld(t), t.TempDir()}
	w.mustStart(t, w.dir).mustContain(t)
	p := w.mustStart(t, w.dir)
	res, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.onlyOpen(t),
		Options: eradicate.Options{Manifests: manifests(t, teamManifests)}})
	if err != nil || len(res.Refusals) > 0 {
		t.Fatalf("%v %v", res.Refusals, err)
	}
	d, _ := w.Get(sim.Deployments, "todo-app", "backend")
	if n, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas"); n != 0 {
		t.Errorf("%d replicas were started", n)
	}
	if len(res.Warnings) != 1 || res.Warnings[0].Code != "held" {
		t.Errorf("%+v", res.Warnings)
	}
	w.mustStart(t, w.dir).mustUndo(t, engine.UndoRequest{All: true})
	d, _ = w.Get(sim.Deployments, "todo-app", "backend")
	if n, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas"); n != 3 {
		t.Errorf("%d replicas after undo", n)
	}
}

// TestApplyRefuses: each object is refused by itself, with what to do, and
// nothing of it is written.
func TestApplyRefuses(t *testing.T) {
	const policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: frontend-network-policy, " +
		"namespace: todo-app}\nspec: {podSelector: {matchLabels: {app: other}}}\n"
	for name, tc := range map[string]struct {
		text, want string
		change     func(*eradicate.Options)
		deny       sim.Rule
	}{
		"another field manager": {policy, "kubectl-client-side-apply", nil, sim.Rule{}},
		"a Secret": {"apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: todo-app}\n",
			"no place in the journal", nil, sim.Rule{}},
		"no namespace": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\n", "it has no namespace", nil,
			sim.Rule{}},
		"a namespace too many": {"apiVersion: v1\nkind: Namespace\nmetadata: {name: s, namespace: todo-app}\n",
			"take the namespace out", nil, sim.Rule{}},
		"no such namespace": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s, namespace: nowhere}\n",
			`"nowhere" not found`, nil, sim.Rule{}},
		"an unknown kind": {"apiVersion: example.com/v9\nkind: Nothing\nmetadata: {name: s, namespace: todo-app}\n",
			"example.com/v9", nil, sim.Rule{}},
		"twice": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s, namespace: todo-app}\n---\n" +
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s, namespace: todo-app}\n", "given twice", nil,
			sim.Rule{}},
		"a wrong field": {"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: s, namespace: " +
			"todo-app}\nspec: {podSelektor: {}}\n", "podSelektor", nil, sim.Rule{}},
		"no right": {teamManifests, "forbidden", nil,
			sim.Rule{Verb: "patch", Group: "networking.k8s.io", Resource: "networkpolicies"}},
		"an image, too": {teamManifests, "--image changes it, too", func(o *eradicate.Options) {
			o.Images = []eradicate.Image{{Container: "backend", Ref: "x@sha256:" + strings.Repeat("a", 64)}}
		}, sim.Rule{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLeaked(t)
			if tc.deny.Verb != "" {
				w.Deny(tc.deny)
			}
			p := w.mustStart(t, w.dir)
			o := eradicate.Options{Manifests: manifests(t, tc.text)}
			if tc.change != nil {
				tc.change(&o)
			}
			res, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.onlyOpen(t), Options: o})
			if err != nil {
				t.Fatal(err)
			}
			reasons := ""
			for _, r := range res.Refusals {
				reasons += r.Reason + "\n"
			}
			if !strings.Contains(reasons, tc.want) || res.Verdict == engine.Eradicated {
				t.Errorf("%s: %s", res.Verdict, reasons)
			}
		})
	}
	t.Run("unless told to take it", func(t *testing.T) {
		w := newLeaked(t)
		p := w.mustStart(t, w.dir)
		res, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.onlyOpen(t),
			Options: eradicate.Options{Manifests: manifests(t, policy), ForceConflicts: true}})
		if err != nil || len(res.Refusals) > 0 || len(res.Warnings) != 1 ||
			!strings.Contains(res.Warnings[0].Text, "kubectl-client-side-apply") {
			t.Fatalf("%+v %v", res, err)
		}
		o, _ := w.Get(sim.NetworkPolicies, "todo-app", "frontend-network-policy")
		if app, _, _ := unstructured.NestedString(o.Object, "spec", "podSelector", "matchLabels",
			"app"); app != "other" {
			t.Errorf("it selects %q", app)
		}
	})
}

// TestBindingsOfGroups: an account cannot be taken out of a group, and that is
// said.
func TestBindingsOfGroups(t *testing.T) {
	w := newLeaked(t)
	w.edit(t, bindingsGVR, "backend-rolebinding", func(o *unstructured.Unstructured) {
		o.Object["subjects"] = []any{map[string]any{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io",
			"name": "system:serviceaccounts:todo-app"}}
	})
	before := w.subjects(t)
	p := w.mustStart(t, w.dir)
	res, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.onlyOpen(t),
		Options: eradicate.Options{RemoveBindings: true}})
	if err != nil || len(res.Refusals) != 1 || !strings.Contains(res.Refusals[0].Reason, "names a group") ||
		w.subjects(t) != before {
		t.Errorf("%+v %v", res.Refusals, err)
	}
}

// applied runs it again, which must finish it, and once more, which must
// change nothing; then undo leads back to what was there before.
func (w *leakedWorld) applied(t *testing.T, name, dir string, before map[string]any) {
	for _, last := range []bool{false, true} {
		p := w.mustStart(t, dir)
		res, err := p.Eradicate(t.Context(), policies(t, p))
		if err != nil || len(res.Refusals) > 0 {
			t.Errorf("%s: again: %v %v", name, res.Refusals, err)
			return
		}
		for _, a := range res.Actions {
			if a.Err() != nil {
				t.Errorf("%s: again: %s: %v", name, a.Summary, a.Err())
			}
		}
		if last && p.server.Written() != 0 {
			t.Errorf("%s: a run after the end wrote %d times", name, p.server.Written())
		}
	}
	w.takenBack(t, name, dir, before)
}

func (w *leakedWorld) takenBack(t *testing.T, name, dir string, before map[string]any) {
	for _, step := range []string{eradicate.StepBindings, eradicate.StepApply} {
		p := w.mustStart(t, dir)
		res, err := p.undoNow(t.Context(), engine.UndoRequest{Step: step})
		if err != nil {
			t.Errorf("%s: undo: %v", name, err)
			continue
		}
		for _, a := range res.Actions {
			if a.Err() != nil {
				t.Errorf("%s: undo: %s: %v", name, a.Summary, a.Err())
			}
		}
	}
	if diff := cmp.Diff(before, w.still()); diff != "" {
		t.Errorf("%s: undo (-want +got):\n%s", name, diff)
	}
}

// applyCalls are the writes, the dry runs and the reads of the objects in a
// clean run; the rest of its calls is what TestEradicateEveryCallFails is about.
func applyCalls(t *testing.T) []sim.Request {
	t.Helper()
	w := newLeaked(t)
	p := w.mustStart(t, w.dir)
	if _, err := p.Eradicate(t.Context(), policies(t, p)); err != nil || p.server.Written() != 4 {
		t.Fatalf("%d writes: this test no longer looks at what it was made for (%v)", p.server.Written(), err)
	}
	return slices.DeleteFunc(p.server.Requests(), func(r sim.Request) bool { return r.Verb != "patch" })
}

func TestApplyEveryCallFails(t *testing.T) {
	calls := applyCalls(t)
	forEveryFault(t, calls, func(t *testing.T, call sim.Request, fault sim.Fault) {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		w := newLeaked(t)
		before := w.still()
		s := &strike{call: call.Key(), fault: fault}
		p, err := w.start(t, ctx, w.dir, s.faults)
		if err == nil {
			_, err = p.Eradicate(ctx, policies(t, p))
		}
		if err != nil || !s.hit.Load() {
			t.Errorf("%s: never called, or ended the run (%v)", call.Key(), err)
		}
		w.applied(t, call.Key(), w.dir, before)
	})
}

func TestApplyKilledAtEveryCall(t *testing.T) {
	calls := applyCalls(t)
	forEveryKill(t, calls, func(t *testing.T, call sim.Request, executed bool) {
		for _, then := range []func(*leakedWorld, *testing.T, string, string, map[string]any){
			(*leakedWorld).applied, (*leakedWorld).takenBack,
		} {
			w := newLeaked(t)
			before := w.still()
			left := w.killedDuring(t, w.dir, call, executed, func(ctx context.Context, p *process) error {
				_, err := p.Eradicate(ctx, policies(t, p))
				return err
			})
			if call.Writes() && !slices.ContainsFunc(timeline.Pending(journal(t, left)), func(e timeline.Entry) bool {
				return e.Object.Name == call.Name
			}) {
				t.Errorf("%s: killed at a write, the journal has no intent of it", call.Key())
			}
			then(w, t, call.Key(), left, before)
		}
	})
}
