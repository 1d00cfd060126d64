package eradicate

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
	"irctl/internal/cluster/apifake"
	"irctl/internal/steps"
)

// fake is an API server in memory, of which some requests are denied, and whose
// lists come in pages of one.
type fake struct {
	*apifake.Server
	client *cluster.Client

	mu     sync.Mutex
	denied []string
}

var operators = []apifake.Kind{{Group: "external-secrets.io", Version: "v1", Resource: "externalsecrets",
	Kind: "ExternalSecret"},
	{Group: "cert-manager.io", Version: "v1", Resource: "certificates", Kind: "Certificate"}}

func newFake(t *testing.T, objects ...runtime.Object) *fake {
	t.Helper()
	return newFakeOf(t, operators, objects...)
}

func newFakeOf(t *testing.T, more []apifake.Kind, objects ...runtime.Object) *fake {
	t.Helper()
	f := &fake{}
	f.Server = apifake.New(t, append([]apifake.Kind{{Version: "v1", Resource: "secrets", Kind: "Secret"},
		{Version: "v1", Resource: "configmaps", Kind: "ConfigMap"},
		{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses", Kind: "Ingress"}}, more...)...)
	f.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, part := range f.denied {
			if strings.Contains(r.Method+" "+r.URL.Path+"$", part) {
				apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "you may not: "+part)
				return
			}
		}
		r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "limit=500", "limit=1", 1)
		serve(w, r)
	}
	f.Add(t, objects...)
	client, err := cluster.New(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	f.client = client
	return f
}

// deny denies the requests whose "METHOD path$" contains one of the parts.
func (f *fake) deny(parts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = parts
}

func (f *fake) scene(targets ...*cluster.Target) *steps.Scene {
	return &steps.Scene{Client: f.client, Incident: "inc-1", Targets: targets}
}

func truth(b bool) *bool { return &b }

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "app", Name: name, UID: types.UID("uid-" + name)}
}

func secret(name string, data ...string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: meta(name), Data: map[string][]byte{}}
	for _, kv := range data {
		k, v, _ := strings.Cut(kv, "=")
		s.Data[k] = []byte(v)
	}
	return s
}

func token(name, account string) *corev1.Secret {
	s := secret(name, "token=x")
	s.Type, s.Annotations = corev1.SecretTypeServiceAccountToken,
		map[string]string{corev1.ServiceAccountNameKey: account}
	return s
}

func serviceAccount(name string, mounts *bool) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: meta(name), AutomountServiceAccountToken: mounts}
}

// naming is a pod's spec whose container takes the Secrets in by their names.
func naming(secrets ...string) corev1.PodSpec {
	c := corev1.Container{Name: "c", Image: "app:1"}
	for _, s := range secrets {
		c.EnvFrom = append(c.EnvFrom,
			corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: s}}})
	}
	return corev1.PodSpec{Containers: []corev1.Container{c}}
}

func pod(name string, spec corev1.PodSpec, more ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta(name), Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	for _, edit := range more {
		edit(p)
	}
	return p
}

func ownedBy(kind, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name,
			UID: types.UID("uid-" + name), Controller: truth(true)}}
	}
}

// controller is one of a kind with a template, whose selector is app=NAME.
func controller(ref cluster.Ref, name string, spec corev1.PodSpec, set map[string]any) *unstructured.Unstructured {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		panic(err)
	}
	template := map[string]any{"spec": m}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": ref.APIVersion(), "kind": ref.Kind,
		"metadata": map[string]any{"namespace": "app", "name": name, "uid": "uid-" + name},
		"spec": map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"template": template}}}
	if ref.Kind == "CronJob" {
		u.Object["spec"] = map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{"template": template}}}
	}
	for path, v := range set {
		if n, ok := v.(int); ok {
			v = int64(n)
		}
		if err := unstructured.SetNestedField(u.Object, v, strings.Split(path, ".")...); err != nil {
			panic(err)
		}
	}
	return u
}

func workload(ref cluster.Ref, name string, spec corev1.PodSpec, set map[string]any) *Workload {
	return workloadOf(owner(ref, name, spec, set))
}

func owner(ref cluster.Ref, name string, spec corev1.PodSpec, set map[string]any) *cluster.Owner {
	return &cluster.Owner{Ref: ref.Named("app", name, types.UID("uid-"+name)), Object: controller(ref, name, spec, set)}
}

// bind gives a service account of namespace app a role in a namespace, "" for
// the whole cluster.
func bind(name, account, scope string, rules ...rbacv1.PolicyRule) []runtime.Object {
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "app", Name: account}}
	if scope == "" {
		return []runtime.Object{&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules},
			&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: subjects,
				RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: name}}}
	}
	return []runtime.Object{&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: scope, Name: name}, Rules: rules},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: scope, Name: name}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{Kind: "Role", Name: name}}}
}

func rule(verb string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{verb},
		ResourceNames: names}
}

func finderWarning(text string) steps.Warning { return steps.Warning{Code: unreadable, Text: text} }
