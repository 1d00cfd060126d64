package change_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
)

// applyWorld is a cluster that knows server-side apply.
func applyWorld(t *testing.T, faults func(sim.Request) sim.Fault) (*sim.Cluster, dynamic.Interface) {
	t.Helper()
	c, err := sim.New(sim.Options{Kinds: []sim.Kind{sim.Gadget}})
	if err == nil {
		err = c.Apply(sim.TodoApp)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c.Server(faults))
	t.Cleanup(server.Close)
	client, err := cluster.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c, client.Dynamic
}

func config(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// What a team applies in these tests.
const (
	tighter = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: frontend-network-policy, namespace: todo-app, labels: {team: web}}
spec:
  podSelector: {matchLabels: {app: frontend}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}],
      ports: [{port: 3000, protocol: TCP}]}]
`
	additional = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: no-metadata-service, namespace: todo-app, labels: {team: web}}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]}]
`
	hardened = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: todo-app}
spec:
  template:
    spec:
      containers:
      - {name: backend, securityContext: {runAsNonRoot: true}}
`
)

func policyRef(name string) cluster.Ref { return cluster.NetworkPolicy.Named("todo-app", name, "") }

// snapshot is everything in a cluster but what an apply and its undo may leave.
func snapshot(c *sim.Cluster) string {
	var b strings.Builder
	for _, o := range c.State() {
		if o.GetKind() == "Pod" || o.GetKind() == "ReplicaSet" || o.GetKind() == "EndpointSlice" {
			continue
		}
		for _, volatile := range []string{"resourceVersion", "generation", "managedFields"} {
			unstructured.RemoveNestedField(o.Object, "metadata", volatile)
		}
		unstructured.RemoveNestedField(o.Object, "status")
		unstructured.RemoveNestedField(o.Object, "metadata", "annotations", "deployment.kubernetes.io/revision")
		text, _ := json.Marshal(o.Object)
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

func TestAnApplyIsDoneOnceAndUndoneToTheLetter(t *testing.T) {
	for name, tc := range map[string]struct {
		ref    cluster.Ref
		config string
		force  bool
		want   string // a line of the diff
	}{
		"creates": {policyRef("no-metadata-service"), additional, false, "+ kind: NetworkPolicy"},
		"changes": {policyRef("frontend-network-policy"), tighter, true,
			"+ metadata.labels: {\"team\":\"web\"}"},
		"adds to a list": {cluster.Deployment.Named("todo-app", "backend", ""), hardened, false, "runAsNonRoot"},
		"of a cluster kind": {cluster.Ref{Version: "v1", Resource: "namespaces", Kind: "Namespace"}.Named("",
			"todo-app", ""), "{apiVersion: v1, kind: Namespace, metadata: {name: todo-app, labels: " +
			"{pod-security.kubernetes.io/enforce: restricted}}}", false, "restricted"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := bounded(t)
			c, client := applyWorld(t, nil)
			before := snapshot(c)
			p, needed, err := change.PlanApply(ctx, client, tc.ref, config(t, tc.config), tc.force)
			if err != nil || !needed {
				t.Fatalf("needed %v: %v", needed, err)
			}
			if err := p.DryRun(ctx, client); err != nil {
				t.Error(err)
			}
			if snapshot(c) != before {
				t.Error("planning wrote")
			}
			if !strings.Contains(strings.Join(p.Diff(), "\n"), tc.want) {
				t.Errorf("diff:\n%s", strings.Join(p.Diff(), "\n"))
			}
			expectState(t, p, client, change.Before)
			expect(t, change.Done)(p.Do(ctx, client))
			expectState(t, p, client, change.After)
			expect(t, change.Already)(p.Do(ctx, client))
			if _, again, err := change.PlanApply(ctx, client, tc.ref, config(t, tc.config), tc.force); err != nil ||
				again && !p.IsCreate() {
				t.Errorf("it is planned anew: %v", err)
			}
			read := journaled(t, p)
			if err := read.DryRunUndo(ctx, client); err != nil {
				t.Error(err)
			}
			expect(t, change.Done)(read.Undo(ctx, client))
			if diff := cmp.Diff(before, snapshot(c)); diff != "" {
				t.Errorf("after undo:\n%s", diff)
			}
			want := change.Already
			if p.IsCreate() {
				want = change.Gone
			}
			expect(t, want)(read.Undo(ctx, client))
			for _, o := range c.State() {
				for _, m := range o.GetManagedFields() {
					if m.Manager == "irctl" && m.Operation == metav1.ManagedFieldsOperationApply {
						t.Errorf("irctl still manages fields of %s %s", o.GetKind(), o.GetName())
					}
				}
			}
		})
	}
}

func TestAnApplyInTheWayOfOthersIsRefused(t *testing.T) {
	ctx := bounded(t)
	c, client := applyWorld(t, nil)
	before := snapshot(c)
	ref := policyRef("frontend-network-policy")
	_, _, err := change.PlanApply(ctx, client, ref, config(t, tighter), false)
	var conflict *change.ConflictError
	if !errors.As(err, &conflict) || !slices.Equal(conflict.Managers(), []string{"kubectl-client-side-apply"}) ||
		!strings.Contains(err.Error(), ".spec.ingress") {
		t.Fatalf("%v", err)
	}
	if snapshot(c) != before {
		t.Error("something was written")
	}
	p, _, err := change.PlanApply(ctx, client, ref, config(t, tighter), true)
	if err != nil || !p.Apply.Force || len(p.Apply.Taken) == 0 {
		t.Fatalf("%+v %v", p.Apply, err)
	}
	// Somebody takes the field over between the plan and the call: not forced.
	q, _, err := change.PlanApply(ctx, client, policyRef("default-deny-all"), config(t, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default-deny-all, namespace: todo-app, labels: {team: web}}
`), false)
	if err != nil {
		t.Fatal(err)
	}
	force := true
	_, err = client.Resource(sim.NetworkPolicies).Namespace("todo-app").
		Patch(ctx, "default-deny-all", types.ApplyPatchType,
			[]byte(
				`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"default-deny-all",`+
					`"labels":{"team":"flux"}}}`), metav1.PatchOptions{FieldManager: "flux", Force: &force})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = q.Do(ctx, client); err == nil {
		t.Error("a field that somebody set since was taken")
	}
	live, _ := c.Get(sim.NetworkPolicies, "todo-app", "default-deny-all")
	if live.GetLabels()["team"] != "flux" {
		t.Error("it was overwritten")
	}
}

// TestAnApplyLeavesWhatItOwnedBefore: what irctl manages from an earlier
// incident it still does after another apply was undone, and no more.
func TestAnApplyLeavesWhatItOwnedBefore(t *testing.T) {
	ctx := bounded(t)
	c, client := applyWorld(t, nil)
	ref := policyRef("frontend-network-policy")
	label := func(labels string) map[string]any {
		return config(t, "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: "+
			"frontend-network-policy, namespace: todo-app, labels: "+labels+"}}")
	}
	mine := func() (fields string) {
		live, _ := c.Get(sim.NetworkPolicies, "todo-app", "frontend-network-policy")
		for _, m := range live.GetManagedFields() {
			if m.Manager == "irctl" && m.Operation == metav1.ManagedFieldsOperationApply {
				fields += m.FieldsV1.GetRawString()
			}
		}
		return fields
	}
	first, _, err := change.PlanApply(ctx, client, ref, label("{a: x}"), false)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, change.Done)(first.Do(ctx, client))
	was := mine()
	second, _, err := change.PlanApply(ctx, client, ref, label("{a: w, b: z}"), false)
	if err != nil || second.Apply.Owned == nil {
		t.Fatal(err)
	}
	expect(t, change.Done)(second.Do(ctx, client))
	expect(t, change.Done)(second.Undo(ctx, client))
	expect(t, change.Already)(second.Undo(ctx, client))
	if was == "" || mine() != was {
		t.Errorf("was %s, is %s", was, mine())
	}
	live, _ := c.Get(sim.NetworkPolicies, "todo-app", "frontend-network-policy")
	if diff := cmp.Diff(map[string]string{"a": "x"}, live.GetLabels()); diff != "" {
		t.Error(diff)
	}
}

// TestAnApplyThatOthersTookBackGivesUpItsFields: there is no value left to put
// back, and irctl is not to stay in the way of whoever applies next.
func TestAnApplyThatOthersTookBackGivesUpItsFields(t *testing.T) {
	ctx := bounded(t)
	c, client := applyWorld(t, nil)
	ref := policyRef("frontend-network-policy")
	live, err := c.Get(sim.NetworkPolicies, ref.Namespace, ref.Name)
	if err != nil {
		t.Fatal(err)
	}
	selector, _, _ := unstructured.NestedMap(live.Object, "spec", "podSelector")
	p, _, err := change.PlanApply(ctx, client, ref,
		map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
			"metadata": map[string]any{"name": ref.Name, "namespace": ref.Namespace,
				"labels": map[string]any{"team": "web"}},
			"spec": map[string]any{"podSelector": selector}}, false)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, change.Done)(p.Do(ctx, client))
	if err := c.Edit(sim.NetworkPolicies, ref.Namespace, ref.Name, func(o *unstructured.Unstructured) {
		o.SetLabels(live.GetLabels())
	}); err != nil {
		t.Fatal(err)
	}
	expect(t, change.Done)(p.Undo(ctx, client))
	live, err = c.Get(sim.NetworkPolicies, ref.Namespace, ref.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range live.GetManagedFields() {
		if m.Manager == change.FieldManager && m.Operation == metav1.ManagedFieldsOperationApply {
			t.Errorf("irctl still manages %s", m.FieldsV1.GetRawString())
		}
	}
}

func TestADriftedApplyIsNotUndone(t *testing.T) {
	for name, tc := range map[string]struct {
		object, config string
		edit           func(map[string]any)
	}{
		"a created policy got another rule": {"no-metadata-service", additional, func(spec map[string]any) {
			spec["egress"] = append(spec["egress"].([]any), map[string]any{})
		}},
		"a created policy selects other pods": {"no-metadata-service", additional, func(spec map[string]any) {
			spec["podSelector"] = map[string]any{"matchLabels": map[string]any{"app": "x"}}
		}},
		"a changed policy was changed again": {"frontend-network-policy", tighter, func(spec map[string]any) {
			spec["ingress"] = []any{map[string]any{}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := bounded(t)
			c, client := applyWorld(t, nil)
			p, _, err := change.PlanApply(ctx, client, policyRef(tc.object), config(t, tc.config), true)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, change.Done)(p.Do(ctx, client))
			if err := c.Edit(sim.NetworkPolicies, "todo-app", tc.object, func(o *unstructured.Unstructured) {
				tc.edit(o.Object["spec"].(map[string]any))
			}); err != nil {
				t.Fatal(err)
			}
			before := snapshot(c)
			_, err = p.Undo(ctx, client)
			var drift *change.DriftError
			if !errors.As(err, &drift) || snapshot(c) != before {
				t.Errorf("%v", err)
			}
			if state, err := p.Observe(ctx, client); err != nil || state != change.Drifted {
				t.Errorf("%s %v", state, err)
			}
		})
	}
}

// TestAnApplyIsMadeOnceWhateverGoesWrong: the answer of a call that was
// executed gets lost, the server throttles, the object is changed meanwhile
// elsewhere.
func TestAnApplyIsMadeOnceWhateverGoesWrong(t *testing.T) {
	for name, fault := range map[string]sim.Fault{"lost": {Lose: true}, "broken": {Break: true},
		"throttled": {Error: sim.Throttled(0)}, "500": {Error: sim.Broken()}} {
		for _, tc := range []struct{ object, config string }{{"no-metadata-service", additional},
			{"frontend-network-policy", tighter}} {
			t.Run(name+" "+tc.object, func(t *testing.T) {
				ctx := bounded(t)
				armed := false
				c, client := applyWorld(t, func(r sim.Request) sim.Fault {
					if armed && r.Writes() {
						armed = false
						return fault
					}
					return sim.Fault{}
				})
				before := snapshot(c)
				p, _, err := change.PlanApply(ctx, client, policyRef(tc.object), config(t, tc.config), true)
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Edit(sim.NetworkPolicies, "todo-app", tc.object, func(o *unstructured.Unstructured) {
					o.SetAnnotations(map[string]string{"seen": "yes"})
				})
				armed = true
				expect(t, change.Done)(p.Do(ctx, client))
				expectState(t, p, client, change.After)
				armed = true
				expect(t, change.Done)(p.Undo(ctx, client))
				_ = c.Edit(sim.NetworkPolicies, "todo-app", tc.object, func(o *unstructured.Unstructured) {
					o.SetAnnotations(nil)
				})
				if diff := cmp.Diff(before, snapshot(c)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}
