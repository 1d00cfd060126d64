package sim_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"irctl/internal/drill/sim"
)

// What these tests say of the simulated cluster was seen on a real one, of
// version 1.37; where the simulation is wrong, so are the tests on it.

func start(t *testing.T, faults func(sim.Request) sim.Fault) (*sim.Cluster, *kubernetes.Clientset, dynamic.Interface) {
	t.Helper()
	c, err := sim.New(sim.Options{})
	if err == nil {
		err = c.Apply(sim.TodoApp)
	}
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(c.Server(faults))
	t.Cleanup(listener.Close)
	config := &rest.Config{Host: listener.URL, QPS: -1}
	return c, kubernetes.NewForConfigOrDie(config), dynamic.NewForConfigOrDie(config)
}

func patch(t *testing.T, d dynamic.Interface, name, body string, sub ...string) (*unstructured.Unstructured, error) {
	t.Helper()
	return d.Resource(sim.Deployments).Namespace("todo-app").
		Patch(t.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{}, sub...)
}

func TestPreconditions(t *testing.T) {
	t.Parallel()
	_, _, d := start(t, nil)
	if _, err := patch(t, d, "backend", `{"metadata":{"resourceVersion":"1"},"spec":{"replicas":1}}`,
		"scale"); !apierrors.IsConflict(err) {
		t.Errorf("an old version: %v", err)
	}
	if _, err := patch(t, d, "backend", `{"metadata":{"uid":"other"},"spec":{"paused":true}}`); !apierrors.IsInvalid(
		err) {
		t.Errorf("another UID: %v", err)
	}
	old := types.UID("other")
	err := d.Resource(sim.NetworkPolicies).Namespace("todo-app").
		Delete(t.Context(), "default-deny-all", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &old}})
	if !apierrors.IsConflict(err) {
		t.Errorf("deleting another UID: %v", err)
	}
}

// TestScaleOfZero: the Scale type omits what is zero.
func TestScaleOfZero(t *testing.T) {
	t.Parallel()
	c, _, d := start(t, nil)
	scale, err := patch(t, d, "backend", `{"spec":{"replicas":0}}`, "scale")
	if err != nil {
		t.Fatal(err)
	}
	if spec, _ := json.Marshal(scale.Object["spec"]); string(spec) != "{}" {
		t.Errorf("the spec of a scale of zero reads %s", spec)
	}
	for _, p := range c.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), "backend-") {
			t.Errorf("%s is still there", p.GetName())
		}
	}
}

func TestDryRunsChangeNothing(t *testing.T) {
	t.Parallel()
	c, _, d := start(t, nil)
	version := func() (n string) {
		for _, o := range c.State() {
			n += o.GetResourceVersion() + " "
		}
		return n
	}
	before := version()
	r := d.Resource(sim.NetworkPolicies).Namespace("todo-app")
	live, err := r.Get(t.Context(), "default-deny-all", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live.SetName("other")
	live.SetResourceVersion("")
	if _, err := r.Create(t.Context(), live, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("create: %v", err)
	}
	if _, err := r.Patch(t.Context(), "default-deny-all", types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"a":"b"}}}`),
		metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("patch: %v", err)
	}
	if err := r.Delete(t.Context(), "default-deny-all",
		metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if version() != before {
		t.Error("something changed")
	}
}

// TestDetachedPod: a pod whose labels no longer match is let go of and
// replaced, outlives its workload, and is adopted again.
func TestDetachedPod(t *testing.T) {
	t.Parallel()
	c, kube, d := start(t, nil)
	pods := kube.CoreV1().Pods("todo-app")
	list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "app=backend"})
	if err != nil || len(list.Items) != 3 {
		t.Fatalf("%d pods: %v", len(list.Items), err)
	}
	suspect := list.Items[0].Name
	relabel := func(label string) {
		t.Helper()
		if _, err := pods.Patch(t.Context(), suspect, types.MergePatchType,
			[]byte(`{"metadata":{"labels":{"app":`+label+`}}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		t.Helper()
		list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "app=backend"})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	relabel("null")
	pod, err := pods.Get(t.Context(), suspect, metav1.GetOptions{})
	if err != nil || len(pod.OwnerReferences) != 0 || count() != 3 {
		t.Errorf("detached: owners %v, %d others (%v)", pod.OwnerReferences, count(), err)
	}
	for _, s := range c.List(sim.EndpointSlices, "todo-app") {
		if strings.Contains(mustJSON(t, s.Object), suspect) {
			t.Errorf("still in EndpointSlice %s", s.GetName())
		}
	}
	for _, replicas := range []string{"0", "3"} {
		if _, err := patch(t, d, "backend", `{"spec":{"replicas":`+replicas+`}}`, "scale"); err != nil {
			t.Fatal(err)
		}
		if _, err := pods.Get(t.Context(), suspect, metav1.GetOptions{}); err != nil {
			t.Errorf("scaled to %s: %v", replicas, err)
		}
	}
	relabel(`"backend"`)
	if pod, err = pods.Get(t.Context(), suspect, metav1.GetOptions{}); err != nil || len(pod.OwnerReferences) != 1 ||
		count() != 3 {
		t.Errorf("adopted again: owners %v, %d in all (%v)", pod.OwnerReferences, count(), err)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPagesOfAList(t *testing.T) {
	t.Parallel()
	_, kube, _ := start(t, nil)
	var names []string
	opts := metav1.ListOptions{Limit: 2}
	for range 10 {
		page, err := kube.CoreV1().Pods("todo-app").List(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) > 2 {
			t.Errorf("a page of %d", len(page.Items))
		}
		for _, p := range page.Items {
			names = append(names, p.Name)
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			break
		}
	}
	if len(names) != 7 || opts.Continue != "" {
		t.Errorf("%d pods: %v", len(names), names)
	}
}

func TestDeniedRights(t *testing.T) {
	t.Parallel()
	c, kube, _ := start(t, nil)
	c.Deny(sim.Rule{Verb: "delete", Resource: "networkpolicies", Group: "networking.k8s.io"})
	err := kube.NetworkingV1().NetworkPolicies("todo-app").
		Delete(t.Context(), "default-deny-all", metav1.DeleteOptions{})
	const want = `networkpolicies.networking.k8s.io "default-deny-all" is forbidden: User "responder" cannot delete ` +
		`resource "networkpolicies" in API group "networking.k8s.io" in the namespace "todo-app"`
	if !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("got:  %v\nwant: %s", err, want)
	}
	c.Expire()
	if _, err := kube.CoreV1().Pods("todo-app").
		List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("expired: %v", err)
	}
}

// TestFaults: a broken connection before execution leaves no trace, one after
// it does, and both look the same to the client.
func TestFaults(t *testing.T) {
	t.Parallel()
	var fault atomic.Value // of the next requests
	fault.Store(sim.Fault{})
	c, _, d := start(t, func(sim.Request) sim.Fault { return fault.Load().(sim.Fault) })
	for _, tc := range []struct {
		fault sim.Fault
		want  int64
	}{{sim.Fault{Break: true}, 3}, {sim.Fault{Error: sim.Broken()}, 3}, {sim.Fault{Lose: true}, 1}} {
		fault.Store(tc.fault)
		if _, err := patch(t, d, "backend", `{"spec":{"replicas":1}}`, "scale"); err == nil {
			t.Errorf("%+v: no error", tc.fault)
		}
		o, err := c.Get(sim.Deployments, "todo-app", "backend")
		if err != nil {
			t.Fatal(err)
		}
		if n, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); n != tc.want {
			t.Errorf("%+v: %d replicas, expected %d", tc.fault, n, tc.want)
		}
	}
}

// TestTheSameTwice: two clusters that live through the same are the same.
func TestTheSameTwice(t *testing.T) {
	t.Parallel()
	var states []string
	for range 2 {
		c, kube, _ := start(t, nil)
		if err := kube.AppsV1().Deployments("todo-app").
			Delete(context.Background(), "frontend", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		states = append(states, mustJSON(t, c.State()))
	}
	if states[0] != states[1] {
		t.Error("they differ")
	}
	if strings.Contains(states[0], `"name":"frontend-`) &&
		strings.Contains(states[0], `"kind":"ReplicaSet","name":"frontend-`) {
		t.Error("what the Deployment owned is still there")
	}
}
