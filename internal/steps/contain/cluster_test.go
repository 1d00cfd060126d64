package contain_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
	"irctl/internal/cluster/apifake"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

const (
	ns       = "todo-app"
	incident = "20250101-aaaa"
)

var custom = []apifake.Kind{
	{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts", Kind: "Rollout", Scale: true},
	{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications", Kind: "Application"},
	{Group: "core.strimzi.io", Version: "v1beta2", Resource: "strimzipodsets", Kind: "StrimziPodSet"},
	{Group: "operator.example.com", Version: "v1", Resource: "installations", Kind: "Installation",
		ClusterScoped: true},
	{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects", Kind: "ScaledObject"},
	{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations", Kind: "Kustomization"},
	{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases", Kind: "HelmRelease"},
	{Group: "cilium.io", Version: "v2", Resource: "ciliumnetworkpolicies", Kind: "CiliumNetworkPolicy"},
	{Group: "cilium.io", Version: "v2", Resource: "ciliumclusterwidenetworkpolicies",
		Kind: "CiliumClusterwideNetworkPolicy", ClusterScoped: true},
}

// lab is a cluster whose controllers let go of pods that they no longer
// select, keep EndpointSlices, and end the pods of what is stopped.
type lab struct {
	*apifake.Server
	t      *testing.T
	client *cluster.Client
	// frozen: the controllers do nothing.
	frozen bool
	mu     sync.Mutex
}

func newLab(t *testing.T, objects ...runtime.Object) *lab {
	l := &lab{Server: apifake.New(t, custom...), t: t}
	l.Add(t, objects...)
	l.OnWrite = func(string, string, string, map[string]any) { l.reconcile() }
	client, err := cluster.New(l.Config())
	if err != nil {
		t.Fatal(err)
	}
	l.client = client
	return l
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// scene is what the steps see of the suspects, which are pods by name.
func (l *lab) scene(incident string, suspects ...string) *steps.Scene {
	l.t.Helper()
	ctx := bounded(l.t)
	scene := &steps.Scene{Client: l.client, Incident: incident, Now: time.Now}
	for _, name := range suspects {
		target, err := l.client.GetTarget(ctx, ns, name)
		if err != nil {
			l.t.Fatal(err)
		}
		scene.Targets = append(scene.Targets, target)
	}
	scene.Around = l.client.Survey(ctx, []string{ns})
	return scene
}

// controllersOf is what of the built-in controllers matters here.
var controllersOf = map[string]struct{ parent, resource string }{
	"replicasets.apps": {"deployments.apps", "ReplicaSet"}, "statefulsets.apps": {"", "StatefulSet"},
	"replicationcontrollers": {"", "ReplicationController"},
	"jobs.batch":             {"", "Job"}, "daemonsets.apps": {"", "DaemonSet"},
	"rollouts.argoproj.io": {"", "Rollout"},
}

func (l *lab) reconcile() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen {
		return
	}
	for resource := range controllersOf {
		for _, c := range l.all(resource) {
			l.controller(resource, c)
		}
	}
	for _, s := range l.all("endpointslices.discovery.k8s.io") {
		l.endpoints(s)
	}
}

func (l *lab) all(resource string) []unstructured.Unstructured {
	var list []unstructured.Unstructured
	for _, name := range []string{"backend", "backend-1", "backend-2", "backend-rs", "nightly", "nightly-1"} {
		if m := l.Object(resource, ns, name); m != nil {
			list = append(list, unstructured.Unstructured{Object: m})
		}
	}
	return list
}

func (l *lab) controller(resource string, c unstructured.Unstructured) {
	set, _, _ := unstructured.NestedStringMap(c.Object, "spec", "selector", "matchLabels")
	if set == nil {
		set, _, _ = unstructured.NestedStringMap(c.Object, "spec", "selector")
	}
	left := 0
	for _, p := range l.all("pods") {
		switch owner := metav1.GetControllerOf(&p); {
		case owner == nil || owner.UID != c.GetUID():
			continue
		case !labels.SelectorFromSet(set).Matches(labels.Set(p.GetLabels())):
			l.Edit("pods", ns, p.GetName(), func(m map[string]any) {
				delete(m["metadata"].(map[string]any), "ownerReferences")
			})
		case l.stopped(resource, c):
			l.Delete("pods", ns, p.GetName())
		default:
			left++
		}
	}
	l.Edit(resource, ns, c.GetName(), func(m map[string]any) { m["status"] = map[string]any{"replicas": left} })
}

func (l *lab) stopped(resource string, c unstructured.Unstructured) bool {
	if owner := metav1.GetControllerOf(&c); owner != nil && owner.Kind == "Deployment" {
		m := l.Object("deployments.apps", ns, owner.Name)
		replicas, _, _ := unstructured.NestedFieldNoCopy(m, "spec", "replicas")
		return replicas == float64(0)
	}
	if suspended, _, _ := unstructured.NestedBool(c.Object, "spec", "suspend"); suspended {
		return true
	}
	replicas, _, _ := unstructured.NestedFieldNoCopy(c.Object, "spec", "replicas")
	return replicas == float64(0) && resource != "daemonsets.apps"
}

// endpoints: the slice's Service selects by app=backend.
func (l *lab) endpoints(s unstructured.Unstructured) {
	eps := []any{}
	for _, p := range l.all("pods") {
		if p.GetLabels()["app"] == "backend" {
			eps = append(eps, map[string]any{"addresses": []any{"10.0.0.1"},
				"targetRef": map[string]any{"kind": "Pod", "name": p.GetName(), "uid": string(p.GetUID())}})
		}
	}
	l.Edit("endpointslices.discovery.k8s.io", ns, s.GetName(), func(m map[string]any) { m["endpoints"] = eps })
}

// The objects of the tests.

func ownedBy(kind, apiVersion, name string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name,
		UID: types.UID(strings.ToLower(kind) + "-" + name), Controller: &yes}}
}

func meta(kind, name string, owners ...metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(strings.ToLower(kind) + "-" + name),
		OwnerReferences: owners}
}

func pod(name string, set map[string]string, owners ...metav1.OwnerReference) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta("Pod", name, owners...),
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.7"},
		Spec:   corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "app", Image: "backend"}}}}
	p.Labels = set
	return p
}

func backendLabels() map[string]string {
	return map[string]string{"app": "backend", "pod-template-hash": "abc", "tier": "api"}
}

func selector(set map[string]string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: set}
}

func number(n int32) *int32 { return &n }

// deployment is a Deployment of two pods with its ReplicaSet, Service and slice.
func deployment() []runtime.Object {
	both := map[string]string{"app": "backend", "pod-template-hash": "abc"}
	rs := ownedBy("ReplicaSet", "apps/v1", "backend-rs")
	return append(service(),
		&appsv1.Deployment{ObjectMeta: meta("Deployment", "backend"),
			Spec: appsv1.DeploymentSpec{Replicas: number(2), Selector: selector(map[string]string{"app": "backend"})}},
		&appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet", "backend-rs", ownedBy("Deployment", "apps/v1", "backend")...),
			Spec: appsv1.ReplicaSetSpec{Replicas: number(2), Selector: selector(both)}},
		pod("backend-1", backendLabels(), rs...), pod("backend-2", backendLabels(), rs...))
}

func service() []runtime.Object {
	target := func(name string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: name, UID: types.UID("pod-" + name)}}
	}
	return []runtime.Object{
		&corev1.Service{ObjectMeta: meta("Service", "backend"),
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "backend"}}},
		&discoveryv1.EndpointSlice{ObjectMeta: meta("EndpointSlice", "backend"),
			Endpoints: []discoveryv1.Endpoint{target("backend-1"), target("backend-2")}},
	}
}

func statefulSet(whenScaled appsv1.PersistentVolumeClaimRetentionPolicyType) []runtime.Object {
	s := &appsv1.StatefulSet{ObjectMeta: meta("StatefulSet", "backend"),
		Spec: appsv1.StatefulSetSpec{Replicas: number(1), Selector: selector(map[string]string{"app": "backend"}),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{}}}}
	if whenScaled != "" {
		s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenScaled: whenScaled}
	}
	return []runtime.Object{s, pod("backend-1", map[string]string{"app": "backend"},
		ownedBy("StatefulSet", "apps/v1", "backend")...)}
}

func daemonSet(affinity *corev1.Affinity) []runtime.Object {
	d := &appsv1.DaemonSet{ObjectMeta: meta("DaemonSet", "backend"),
		Spec: appsv1.DaemonSetSpec{Selector: selector(map[string]string{"app": "backend"}),
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{}}}}
	d.Spec.Template.Spec.Affinity = affinity
	other := pod("backend-2", map[string]string{"app": "backend"}, ownedBy("DaemonSet", "apps/v1", "backend")...)
	other.Spec.NodeName = "node-2"
	return []runtime.Object{d, pod("backend-1", map[string]string{"app": "backend"},
		ownedBy("DaemonSet", "apps/v1", "backend")...), other}
}

func job(owners ...metav1.OwnerReference) []runtime.Object {
	set := map[string]string{"batch.kubernetes.io/controller-uid": "job-nightly-1"}
	no := false
	return []runtime.Object{&batchv1.Job{ObjectMeta: meta("Job", "nightly-1", owners...),
		Spec: batchv1.JobSpec{Suspend: &no, Selector: selector(set)}},
		pod("backend-1", map[string]string{"batch.kubernetes.io/controller-uid": "job-nightly-1",
			"job-name": "nightly-1"}, ownedBy("Job", "batch/v1", "nightly-1")...)}
}

func object(apiVersion, kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	m := map[string]any{"apiVersion": apiVersion, "kind": kind,
		"metadata": map[string]any{"name": name, "uid": strings.ToLower(kind) + "-" + name}, "spec": spec}
	if namespace != "" {
		m["metadata"].(map[string]any)["namespace"] = namespace
	}
	return &unstructured.Unstructured{Object: m}
}

func all() contain.Options { return contain.Options{Steps: contain.DefaultSteps} }
