package drill

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// baseline takes down what the cluster is like before the responder comes.
func (w *World) baseline() baseline {
	b := baseline{secrets: map[string]map[string]any{}, accounts: map[string]types.UID{}, replicas: map[string]int64{},
		flows: map[string]bool{}}
	k := w.Scenario.Key
	secrets := slices.Concat(k.Secrets, k.Contained.Secrets)
	accounts := slices.Concat(k.Accounts, k.Contained.Accounts)
	for _, m := range w.Scenario.Attack {
		secrets = append(secrets, m.If.Secret)
		if m.If.Account != nil {
			accounts = append(accounts, *m.If.Account)
		}
	}
	for _, key := range secrets {
		b.secrets[key] = secretData(w.Cluster, key)
	}
	for _, u := range accounts {
		b.accounts[u.Account] = accountUID(w.Cluster, u.Account)
	}
	for _, o := range w.Cluster.State() {
		if metav1.GetControllerOf(&o) != nil {
			continue // a ReplicaSet is judged by its Deployment
		}
		if n, found := wanted(&o); found {
			b.replicas[Object{o.GetNamespace(), o.GetKind(), o.GetName()}.String()] = n
		}
	}
	v := w.look()
	b.flows = w.flows(v)
	for i := range v.pods {
		if p := &v.pods[i]; runs(p) && w.hold(p.UID) == nil {
			b.pods = append(b.pods, bystander{p.UID, p.Name, workloadName(p), metav1.GetControllerOf(p) != nil,
				v.cutOff(p)})
		}
	}
	return b
}

// flows are the connections that policies allow between innocent workloads,
// and from elsewhere to them.
func (w *World) flows(v *view) map[string]bool {
	flows := map[string]bool{}
	mayGoDown := w.guilty()
	for i := range v.pods {
		to := &v.pods[i]
		name := workloadName(to)
		if !runs(to) || to.Namespace == metav1.NamespaceSystem || mayGoDown[name] || w.hold(to.UID) != nil {
			continue
		}
		for _, port := range to.Spec.Containers[0].Ports {
			for j := range v.pods {
				from := &v.pods[j]
				other := workloadName(from)
				if !runs(from) || other == name || mayGoDown[other] || w.hold(from.UID) != nil {
					continue
				}
				if v.connects(from, to, corev1.ProtocolTCP, port.ContainerPort) {
					flows[fmt.Sprintf("%s → %s:%d", other, name, port.ContainerPort)] = true
				}
			}
		}
	}
	return flows
}

// guilty are the workloads that may be taken down, as NAMESPACE/NAME: those of
// the key, and those of compromised pods.
func (w *World) guilty() map[string]bool {
	g := map[string]bool{}
	for _, o := range w.Scenario.Key.MayGoDown {
		g[o.Namespace+"/"+o.Name] = true
	}
	for _, f := range w.holds {
		g[f.Workload] = true
	}
	return g
}

// workloadName is the workload of a pod as its labels tell it, so that a pod
// that was let go of is not counted.
func workloadName(p *corev1.Pod) string {
	owner := metav1.GetControllerOf(p)
	if owner == nil {
		return p.Namespace + "/" + p.Name
	}
	return p.Namespace + "/" + strings.TrimSuffix(owner.Name, "-"+p.Labels["pod-template-hash"])
}

// measure takes down what can only be seen while it is so.
func (w *World) measure(now time.Time) {
	v := w.look()
	if w.measured == v.version {
		return
	}
	w.measured = v.version
	switch ok := w.isContained(v); {
	case ok && w.contained.IsZero():
		w.contained = now
		w.tell(now, "cluster", "the attacker is cut off", false)
	case !ok && !w.contained.IsZero() && w.firstOpen(v):
		w.contained = time.Time{} // it did not last
	}
	w.take(v, now)
	flows := w.flows(v)
	for _, f := range slices.Sorted(maps.Keys(w.before.flows)) {
		if _, known := w.down[f]; !known && !flows[f] && !w.between(v, f) {
			w.down[f] = Outage{"connection " + f, now}
		}
	}
}

// take notes which innocent pods are cut off, or belong to their workload no
// more. A deleted pod is none of them: its workload makes another.
func (w *World) take(v *view, now time.Time) {
	for _, b := range w.before.pods {
		p := v.pod(b.uid)
		if _, known := w.taken[b.workload]; known || p == nil || !runs(p) || w.hold(b.uid) != nil {
			continue
		}
		switch {
		case v.cutOff(p) && !b.cutOff:
			w.taken[b.workload] = Outage{"its pod " + b.name + " cut off", now}
		case b.owned && metav1.GetControllerOf(p) == nil:
			w.taken[b.workload] = Outage{"its pod " + b.name + " taken out of it", now}
		}
	}
}

// between: one of a connection's ends may be taken down, or does not run: then
// that is what is told.
func (w *World) between(v *view, flow string) bool {
	from, to, _ := strings.Cut(flow, " → ")
	to, _, _ = strings.Cut(to, ":")
	g := w.guilty()
	return g[from] || g[to] || !v.present(from) || !v.present(to)
}

// present: a pod of the workload runs.
func (v *view) present(workload string) bool {
	return slices.ContainsFunc(v.pods, func(p corev1.Pod) bool { return runs(&p) && workloadName(&p) == workload })
}

// isContained: no compromised pod gets in or out, and what the attacker uses
// from elsewhere is worthless.
func (w *World) isContained(v *view) bool {
	if w.anyOpen(v) {
		return false
	}
	c := w.Scenario.Key.Contained
	return !slices.ContainsFunc(c.Secrets, func(s string) bool { return w.secretWorks(v, s) }) &&
		!slices.ContainsFunc(c.Accounts, func(u Use) bool { return w.accountWorks(&u) })
}

// firstOpen: a way is open again that had been closed, not a new infection.
func (w *World) firstOpen(v *view) bool {
	return slices.ContainsFunc(w.holds, func(f *Foothold) bool {
		p := v.pod(f.UID)
		return !f.Again && p != nil && runs(p) && !v.cutOff(p)
	})
}

// Suspects are the pods that the attacker has, or had, as NAMESPACE/NAME.
func (w *World) Suspects() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []string
	for _, f := range w.holds {
		keys = append(keys, f.Key())
	}
	return keys
}

// deployed: a template of a workload names the image.
func (w *World) deployed(image string) []string {
	var where []string
	for _, o := range w.Cluster.State() {
		if o.GetKind() == "Pod" || o.GetKind() == "ReplicaSet" {
			continue
		}
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		if o.GetKind() == "CronJob" {
			containers, _, _ = unstructured.NestedSlice(o.Object, "spec", "jobTemplate", "spec", "template", "spec",
				"containers")
		}
		for _, raw := range containers {
			if m, ok := raw.(map[string]any); ok && m["image"] == image {
				where = append(where, Object{o.GetNamespace(), o.GetKind(), o.GetName()}.String())
				break
			}
		}
	}
	return where
}
