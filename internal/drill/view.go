package drill

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster/netpol"
	"irctl/internal/cluster/rights"
	"irctl/internal/drill/sim"
)

// view is the cluster at a moment, as far as the attacker and the score look.
type view struct {
	version    int64
	pods       []corev1.Pod
	policies   []networkingv1.NetworkPolicy
	namespaces map[string]map[string]string
	verdicts   map[types.UID]netpol.Verdict
}

var (
	secretsGVR  = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	accountsGVR = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
)

const rbacGroup = "rbac.authorization.k8s.io"

// look takes the view, anew only if something has changed.
func (w *World) look() *view {
	if version := w.Cluster.Version(); w.seen == nil || w.seen.version != version {
		w.seen = look(w.Cluster, version)
	}
	return w.seen
}

func look(c *sim.Cluster, version int64) *view {
	v := &view{version: version, namespaces: map[string]map[string]string{}, verdicts: map[types.UID]netpol.Verdict{}}
	v.pods = typed[corev1.Pod](c.List(sim.Pods, ""))
	v.policies = typed[networkingv1.NetworkPolicy](c.List(sim.NetworkPolicies, ""))
	for _, ns := range c.List(sim.Namespaces, "") {
		v.namespaces[ns.GetName()] = ns.GetLabels()
	}
	return v
}

// typed converts; what does not fit its type was refused when it was stored.
func typed[T any](list []unstructured.Unstructured) []T {
	out := make([]T, len(list))
	for i := range list {
		_ = runtime.DefaultUnstructuredConverter.FromUnstructured(list[i].Object, &out[i]) // it came from that type
	}
	return out
}

func (v *view) peer(p *corev1.Pod) netpol.Pod {
	out := netpol.PodOf(p)
	out.NamespaceLabels = v.namespaces[p.Namespace]
	return out
}

func (v *view) verdict(p *corev1.Pod) netpol.Verdict {
	if known, ok := v.verdicts[p.UID]; ok {
		return known
	}
	verdict := netpol.Evaluate(v.peer(p), v.policies)
	v.verdicts[p.UID] = verdict
	return verdict
}

// pod finds a pod by its UID; nil: it is gone.
func (v *view) pod(uid types.UID) *corev1.Pod {
	for i := range v.pods {
		if v.pods[i].UID == uid {
			return &v.pods[i]
		}
	}
	return nil
}

// selected are the running pods of a namespace with the labels, the oldest first.
func (v *view) selected(namespace string, set map[string]string) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range v.pods {
		p := &v.pods[i]
		if p.Namespace == namespace && runs(p) && labels.SelectorFromSet(set).Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return strings.Compare(string(a.UID), string(b.UID)) }) // counted
	return out
}

func runs(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodRunning && len(p.Spec.Containers) > 0 // a manifest without any is not refused
}

// cutOff: nothing gets in or out. Policies do not bind who uses the node's network.
func (v *view) cutOff(p *corev1.Pod) bool { return !p.Spec.HostNetwork && v.verdict(p).Closed() }

// connects reports whether one pod gets through to a port of another, by the
// policies of both.
func (v *view) connects(from, to *corev1.Pod, protocol corev1.Protocol, port int32) bool {
	out := from.Spec.HostNetwork || v.verdict(from).Reaches(v.peer(from), v.peer(to), protocol, port)
	in := to.Spec.HostNetwork || v.verdict(to).Admits(v.peer(to), v.peer(from), protocol, port)
	return out && in
}

// leaves reports whether a pod gets through to an address outside.
func (v *view) leaves(from *corev1.Pod, host string, protocol corev1.Protocol, port int32) bool {
	return from.Spec.HostNetwork || v.verdict(from).Reaches(v.peer(from), netpol.Pod{IP: host}, protocol, port)
}

func usesImage(p *corev1.Pod, image string) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Image == image })
}

// usesSecret: the pod has read it when it started.
func usesSecret(p *corev1.Pod, name string) bool {
	for _, c := range p.Spec.Containers {
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == name {
				return true
			}
		}
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil && e.SecretRef.Name == name {
				return true
			}
		}
	}
	return false
}

// secretData are the values of a Secret, as they are stored.
func secretData(c *sim.Cluster, key string) map[string]any {
	namespace, name, _ := strings.Cut(key, "/")
	o, err := c.Get(secretsGVR, namespace, name)
	if err != nil {
		return nil
	}
	data, _, _ := unstructured.NestedMap(o.Object, "data")
	return data
}

// sameValue: one of the values is still what it was.
func sameValue(before, after map[string]any) bool {
	for k, v := range before {
		if reflect.DeepEqual(after[k], v) {
			return true
		}
	}
	return false
}

// accountUID tells an account from one that was made anew, whose predecessor's
// tokens are worth nothing.
func accountUID(c *sim.Cluster, key string) types.UID {
	namespace, name, _ := strings.Cut(key, "/")
	o, err := c.Get(accountsGVR, namespace, name)
	if err != nil {
		return ""
	}
	return o.GetUID()
}

// may reports whether RBAC lets an account do something.
func may(c *sim.Cluster, u *Use) bool {
	list := func(resource string) []unstructured.Unstructured {
		return c.List(schema.GroupVersionResource{Group: rbacGroup, Version: "v1", Resource: resource}, "")
	}
	src := rights.Sources{Roles: typed[rbacv1.Role](list("roles")),
		ClusterRoles:        typed[rbacv1.ClusterRole](list("clusterroles")),
		RoleBindings:        typed[rbacv1.RoleBinding](list("rolebindings")),
		ClusterRoleBindings: typed[rbacv1.ClusterRoleBinding](list("clusterrolebindings"))}
	namespace, name, _ := strings.Cut(u.Account, "/")
	where := u.Namespace
	if where == "" {
		where = namespace
	}
	return rights.For(rights.Subject{Namespace: namespace, Name: name}, src).
		Allows(u.Verb, u.Group, u.Resource, where, u.Name)
}

// merged is an object with something merged into it, as a merge patch does.
func merged(into, what map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(what)) {
		v := what[k]
		if v == nil {
			delete(into, k)
			continue
		}
		part, isMap := v.(map[string]any)
		if !isMap {
			into[k] = asJSON(v)
			continue
		}
		below, ok := into[k].(map[string]any)
		if !ok {
			below = map[string]any{}
		}
		merged(below, part)
		into[k] = below
	}
}

// asJSON makes of what YAML gives what JSON would: whole numbers are int64.
func asJSON(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = asJSON(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[k] = asJSON(v[k])
		}
		return out
	}
	return v
}
