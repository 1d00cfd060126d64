package eradicate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
)

// Workload is what runs pods: a controller with a template, or a bare pod.
type Workload struct {
	cluster.Ref
	object *unstructured.Unstructured
	// template is the path of the pod template; nil: the object is the pod.
	template []string
	// held: the incident keeps it from running.
	held bool
	// blocker is a suspect that has the name of one of its pods.
	blocker string
}

// kinds are where pods come from, and where their template is.
var kinds = []struct {
	cluster.Ref
	template []string
}{
	{cluster.StatefulSet, []string{"spec", "template"}},
	{cluster.Deployment, []string{"spec", "template"}},
	{cluster.DaemonSet, []string{"spec", "template"}},
	{cluster.CronJob, []string{"spec", "jobTemplate", "spec", "template"}},
	{cluster.Job, []string{"spec", "template"}},
	{cluster.ReplicaSet, []string{"spec", "template"}},
	{cluster.ReplicationController, []string{"spec", "template"}},
	{cluster.Pod, nil},
}

// spec is the pod's spec, or the template's.
func (w *Workload) spec() map[string]any {
	m, _, _ := unstructured.NestedMap(w.object.Object, append(slices.Clone(w.template), "spec")...)
	return m
}

func (w *Workload) annotations() map[string]string {
	m, _, _ := unstructured.NestedStringMap(w.object.Object,
		append(slices.Clone(w.template), "metadata", "annotations")...)
	return m
}

// rolls: irctl can restart its pods by a new template.
func (w *Workload) rolls() bool {
	return w.Kind == cluster.Deployment.Kind || w.Kind == cluster.StatefulSet.Kind || w.Kind == cluster.DaemonSet.Kind
}

// Stays says why its pods are not restarted; "": they are. keeps tells that
// some go on with the old value.
func (w *Workload) stays() (why string, keeps bool) {
	replicas, found, _ := unstructured.NestedInt64(w.object.Object, "spec", "replicas")
	strategy, _, _ := unstructured.NestedString(w.object.Object, "spec", "updateStrategy", "type")
	partition, _, _ := unstructured.NestedInt64(w.object.Object, "spec", "updateStrategy", "rollingUpdate", "partition")
	paused, _, _ := unstructured.NestedBool(w.object.Object, "spec", "paused")
	switch {
	case w.rolls() && found && replicas == 0 && w.held:
		return "the incident holds it at zero replicas: it takes the new value when it is started again", false
	case w.rolls() && found && replicas == 0:
		return "it runs no pods: it takes the new value when it is started", false
	case w.blocker != "":
		return fmt.Sprintf(
			"the suspect has the name of its pod %s, which starts with the new value once the suspect is deleted",
			w.blocker), w.desired() > 1
	case strategy == "OnDelete":
		return "its updateStrategy is OnDelete: its pods keep the old value until they are deleted", true
	case partition > 0:
		return fmt.Sprintf(
			"its rolling update stops at partition %d: the pods below it keep the old value until they are deleted",
			partition), true
	case paused:
		return "its rollout is paused: its pods keep the old value until `kubectl rollout resume` and a restart", true
	case w.rolls():
		return "", false
	case w.Kind == cluster.CronJob.Kind:
		return "it takes the new value at its next run", false
	case w.Kind == cluster.Job.Kind:
		return "a Job's template cannot change: its pods keep the old value until they end", true
	case w.Kind == cluster.Pod.Kind && w.owner() != "":
		return fmt.Sprintf("irctl cannot roll out a %s: its pod keeps the old value until it is deleted", w.owner()),
			true
	case w.Kind == cluster.Pod.Kind:
		return "nothing would start a bare pod again: it keeps the old value until it is made anew", true
	}
	return "it has no rollout: its pods keep the old value until they are deleted", true
}

func (w *Workload) owner() string {
	if o := metav1.GetControllerOf(w.object); o != nil {
		return o.Kind + " (" + o.Name + ")"
	}
	return ""
}

// over: it has run to its end, and holds nothing any more.
func (w *Workload) over() bool {
	phase, _, _ := unstructured.NestedString(w.object.Object, "status", "phase")
	if w.Kind == cluster.Pod.Kind {
		return phase == "Succeeded" || phase == "Failed"
	}
	conditions, _, _ := unstructured.NestedSlice(w.object.Object, "status", "conditions")
	return w.Kind == cluster.Job.Kind && slices.ContainsFunc(conditions, func(raw any) bool {
		c, _ := raw.(map[string]any)
		return (c["type"] == "Complete" || c["type"] == "Failed") && c["status"] == "True"
	})
}

// workloads lists what runs pods in a namespace, each pod with its topmost
// controller only. A list that cannot be read is a gap.
func workloads(ctx context.Context, client *cluster.Client, namespace string, suspects map[types.UID]bool) ([]*Workload,
	[]cluster.Gap) {
	lists := make([][]*Workload, len(kinds))
	errs := make([]error, len(kinds))
	cluster.Parallel(len(kinds), func(i int) { lists[i], errs[i] = list(ctx, client, i, namespace) })
	var gaps []cluster.Gap
	known := map[types.UID]bool{}
	for i, l := range lists {
		if errs[i] != nil {
			gaps = append(gaps, cluster.Gap{What: "listing " + kinds[i].Resource + " in namespace " + namespace,
				Err: errs[i]})
		}
		for _, w := range l {
			known[w.UID] = true
		}
	}
	var top []*Workload
	for _, w := range slices.Concat(lists...) {
		o := metav1.GetControllerOf(w.object)
		suspect := w.Kind == cluster.Pod.Kind && suspects[w.UID]
		if o != nil && known[o.UID] || w.over() || suspect && o == nil {
			continue
		}
		top = append(top, w)
	}
	return top, gaps
}

func list(ctx context.Context, client *cluster.Client, kind int, namespace string) ([]*Workload, error) {
	k := kinds[kind]
	var found []*Workload
	err := cluster.Pages(ctx, client.Dynamic.Resource(k.GVR()).Namespace(namespace).List, metav1.ListOptions{},
		func(page *unstructured.UnstructuredList) {
			for i := range page.Items {
				o := &page.Items[i]
				found = append(found, &Workload{Ref: k.Named(o.GetNamespace(), o.GetName(), o.GetUID()), object: o,
					template: k.template})
			}
		})
	return found, err
}

// reload reads the workload anew.
func (w *Workload) reload(ctx context.Context, client *cluster.Client) (*Workload, error) {
	live, err := client.Dynamic.Resource(w.GVR()).Namespace(w.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", w.Ref, err)
	}
	if live.GetUID() != w.UID {
		return nil, fmt.Errorf("%s: %w", w.Ref, cluster.ErrReplaced)
	}
	next := *w
	next.object = live
	return &next, nil
}

var errNoSelector = errors.New("it has no selector")

// selector is how it selects its pods.
func (w *Workload) selector() (string, error) {
	raw, found, _ := unstructured.NestedMap(w.object.Object, "spec", "selector")
	if !found {
		return "", errNoSelector
	}
	set, err := metav1.LabelSelectorAsSelector(labelSelector(raw))
	if err != nil {
		return "", err
	}
	return set.String(), nil
}

func labelSelector(raw map[string]any) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	s.MatchLabels, _, _ = unstructured.NestedStringMap(raw, "matchLabels")
	expressions, _ := raw["matchExpressions"].([]any)
	for _, e := range expressions {
		m, _ := e.(map[string]any)
		values, _, _ := unstructured.NestedStringSlice(m, "values")
		key, _ := m["key"].(string)
		operator, _ := m["operator"].(string)
		s.MatchExpressions = append(s.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOperator(operator), Values: values})
	}
	return s
}
