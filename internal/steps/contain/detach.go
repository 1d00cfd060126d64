package contain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/netpol"
	"irctl/internal/steps"
)

// detach marks the suspect and, in the same patch, takes off the labels by
// which controllers and Services select it.
type detach struct{ Options }

func (detach) Info() steps.Info {
	return steps.Info{Name: StepDetach, Phase: Phase,
		Why: "its controller lets go of it and its Services stop sending to it, so that it outlives the scaling as " +
			"evidence"}
}

func (d detach) Plan(_ context.Context, scene *steps.Scene) (steps.Plan, error) {
	var plan steps.Plan
	for _, t := range scene.Targets {
		if other := otherIncident(scene, t); other != "" {
			plan.Refusals = append(plan.Refusals,
				steps.Refusal{ID: detachID(t), Targets: []string{t.Key()}, Action: StepDetach, Object: t.Ref().String(),
					Reason: fmt.Sprintf("the pod is contained in incident %s", other), Override: "--incident " + other})
			continue
		}
		d.target(scene, t, &plan)
	}
	return plan, nil
}

// otherIncident is the incident that holds the pod, if it is not the scene's.
func otherIncident(scene *steps.Scene, t *cluster.Target) string {
	if holder := t.Pod.Labels[IncidentLabel]; holder != scene.Incident {
		return holder
	}
	return ""
}

func (d detach) target(scene *steps.Scene, t *cluster.Target, plan *steps.Plan) {
	var keys []string
	if !d.keepsLabels(t.Pod.UID) {
		loose := Loosen(t, scene.Around[t.Pod.Namespace], d.RemoveLabels)
		keys = loose.Keys
		if loose.Held != "" && !t.Mirror() { // of a static pod, another warning says more
			plan.Warnings = append(plan.Warnings, steps.Warning{Targets: []string{t.Key()}, Code: "held",
				Text: "the pod cannot be detached, and its controller may replace it: " + loose.Held,
				Fix:  "collect its evidence first; then stop the controller as its documentation says"})
		}
		for _, w := range loose.Warnings {
			w.Targets = []string{t.Key()}
			plan.Warnings = append(plan.Warnings, w)
		}
	}
	plan.Warnings = append(plan.Warnings, podWarnings(t)...)
	c, needed := detachment(scene, t, keys)
	if !needed {
		return
	}
	a := steps.Action{ID: detachID(t), Name: StepDetach, Targets: []string{t.Key()},
		Change: c, Summary: summary(t, keys), Command: detachCommand(scene, t, keys, c)}
	if slices.Contains(d.Steps, StepQuarantine) {
		a.Needs = []string{policyID(t.Pod.Namespace)}
	} else if w := d.opened(scene, t, keys); w != nil {
		plan.Warnings = append(plan.Warnings, *w)
	}
	plan.Actions = append(plan.Actions, a)
}

// opened warns where the labels that go are those by which policies isolate
// the pod now: without a quarantine it would then be more open than before.
func (d detach) opened(scene *steps.Scene, t *cluster.Target, keys []string) *steps.Warning {
	around := scene.Around[t.Pod.Namespace]
	if around == nil {
		return nil
	}
	pod := netpol.PodOf(t.Pod)
	before := netpol.Evaluate(pod, around.Policies)
	pod.Labels = maps.Clone(pod.Labels)
	for _, k := range keys {
		delete(pod.Labels, k)
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[QuarantineLabel], pod.Labels[IncidentLabel] = QuarantineValue, scene.Incident
	after := netpol.Evaluate(pod, around.Policies)
	if before.Ingress.Isolated == after.Ingress.Isolated && before.Egress.Isolated == after.Egress.Isolated {
		return nil
	}
	return &steps.Warning{Targets: []string{t.Key()}, Code: "opens",
		Text: "detached and without a quarantine, the pod is more open than now: the policies that isolate it select " +
			"it by the labels that go",
		Fix: "do not leave the step quarantine out"}
}

func detachID(t *cluster.Target) string { return "detach " + t.Key() }

func detachment(scene *steps.Scene, t *cluster.Target, keys []string) (change.Change, bool) {
	pod := t.Pod
	label := func(key string, after any) change.Field {
		return change.Field{Path: []string{"metadata", "labels", key}, Before: anyOf(pod.Labels, key), After: after}
	}
	fields := []change.Field{label(QuarantineLabel, QuarantineValue), label(IncidentLabel, scene.Incident)}
	removed := map[string]string{}
	for _, k := range keys {
		removed[k] = pod.Labels[k]
		fields = append(fields, label(k, nil))
	}
	if note := remembered(scene, t, removed); len(removed) > 0 && fits(pod.Annotations, DetachedAnnotation, note) {
		fields = append(fields, change.Field{Path: []string{"metadata", "annotations", DetachedAnnotation},
			Before: anyOf(pod.Annotations, DetachedAnnotation), After: note})
	}
	return change.NewEdit(t.Ref(), "", pod.ResourceVersion, fields...)
}

// fits tells whether an annotation can be set. An object whose annotations are
// full (256 KiB: TotalAnnotationSizeLimitB of k8s.io/apimachinery/pkg/api/validation),
// which whoever may patch it can bring about, would refuse the whole patch, and
// with it the detachment; the journal has what the annotation would say.
func fits(annotations map[string]string, key, value string) bool {
	size := len(key) + len(value)
	for k, v := range annotations {
		if k != key {
			size += len(k) + len(v)
		}
	}
	return size <= validation.TotalAnnotationSizeLimitB
}

// Memory is what the annotation keeps for whoever finds the pod without the
// journal. irctl itself restores from the journal, which an attacker in the
// cluster cannot write.
type Memory struct {
	// Controller is the one that the pod was taken from: apiVersion, kind, name, uid.
	Controller map[string]string `json:"controller,omitempty"`
	Incident   string            `json:"incident"`
	Labels     map[string]string `json:"labels"` // that were removed
}

// MemoryOf reads it; false: there is none that can be read as a whole.
func MemoryOf(annotations map[string]string) (m Memory, ok bool) {
	err := json.Unmarshal([]byte(annotations[DetachedAnnotation]), &m)
	return m, err == nil
}

// remembered is what the annotation is to keep of a pod.
func remembered(scene *steps.Scene, t *cluster.Target, removed map[string]string) string {
	m := Memory{Incident: scene.Incident, Labels: removed}
	if len(t.Owners) > 0 {
		o := t.Owners[0]
		m.Controller = map[string]string{"apiVersion": o.APIVersion(), "kind": o.Kind, "name": o.Name,
			"uid": string(o.UID)}
	}
	// A second detachment, with further labels, keeps those of the first.
	if before, ok := MemoryOf(t.Pod.Annotations); ok && before.Incident == scene.Incident {
		for k, v := range before.Labels {
			if _, again := removed[k]; !again {
				removed[k] = v
			}
		}
		if before.Controller != nil {
			m.Controller = before.Controller
		}
	}
	return jsonText(m)
}

func summary(t *cluster.Target, keys []string) string {
	if len(keys) == 0 {
		return "mark " + t.Ref().String() + " as quarantined"
	}
	from := ""
	if len(t.Owners) > 0 && !t.Detached {
		from = " from " + t.Owners[0].Ref.String()
	}
	return "quarantine and detach " + t.Ref().String() + from
}

// detachCommand does the same by hand: first what cuts the pod off, then what is to be
// remembered of it.
func detachCommand(scene *steps.Scene, t *cluster.Target, keys []string, c change.Change) string {
	remember := ""
	for _, f := range c.Fields {
		if note, ok := f.After.(string); ok && slices.Contains(f.Path, DetachedAnnotation) {
			remember = " && " + kubectl("annotate", "pod", t.Pod.Name, "-n", t.Pod.Namespace, "--overwrite",
				DetachedAnnotation+"="+note)
		}
	}
	words := []string{"label", "pod", t.Pod.Name, "-n", t.Pod.Namespace, "--overwrite", QuarantineLabel + "=" +
		QuarantineValue, IncidentLabel + "=" + scene.Incident}
	for _, k := range keys {
		words = append(words, k+"-")
	}
	return kubectl(words...) + remember
}

func podWarnings(t *cluster.Target) []steps.Warning {
	var list []steps.Warning
	if t.Pod.DeletionTimestamp != nil {
		list = append(list, steps.Warning{Targets: []string{t.Key()}, Code: "terminating",
			Text: "the pod is being deleted already: it will end, and its evidence with it, whatever is done now",
			Fix:  "collect what you need at once"})
	}
	if t.Mirror() {
		list = append(list, steps.Warning{Targets: []string{t.Key()}, Code: "static-pod",
			Text: fmt.Sprintf("a static pod: only the kubelet of node %s starts and stops it, from a file there",
				t.Pod.Spec.NodeName),
			Fix: "on that node, move its manifest out of the kubelet's staticPodPath (/etc/kubernetes/manifests by " +
				"default) to stop it; that ends the pod"})
	}
	for _, o := range t.Owners {
		if o.Err != nil {
			list = append(list, steps.Warning{Targets: []string{t.Key()}, Code: "unreadable",
				Text: fmt.Sprintf("owner %s: %v", o.Ref, o.Err),
				Fix:  "what is above it in the chain of owners is unknown, and may start the workload again"})
		}
	}
	return list
}

// Loose is what it takes to detach a pod.
type Loose struct {
	// Keys are the labels to take off, sorted.
	Keys []string
	// Held says why the pod's own controller will not let go of it, if so.
	Held     string
	Warnings []steps.Warning
}

// Loosen finds the labels by which controllers and Services select a pod. It
// goes on until nothing selects the pod any more: without the label of one
// controller, it could be adopted by another that selects more broadly. The
// labels of the quarantine stay, whoever selects by them.
func Loosen(t *cluster.Target, around *cluster.Namespace, extra []string) Loose {
	var l Loose
	left := labels.Set{}
	maps.Copy(left, t.Pod.Labels)
	left[QuarantineLabel] = QuarantineValue
	take := func(keys []string) {
		for _, k := range keys {
			if k == QuarantineLabel || k == IncidentLabel {
				continue
			}
			if _, ok := left[k]; ok {
				delete(left, k)
				l.Keys = append(l.Keys, k)
			}
		}
	}
	take(extra)
	l.owner(t, take)
	if around != nil {
		l.controllers(t, around, left, take)
		for i := range around.Services {
			l.service(&around.Services[i], left, take)
		}
		// Each pass takes labels off or is the last one.
		for n := -1; n != len(l.Keys); {
			n = len(l.Keys)
			l.controllers(t, around, left, take)
		}
	}
	sort.Strings(l.Keys)
	l.Keys = slices.Compact(l.Keys)
	return l
}

// owner deals with the pod's own controller, which lets go of the pod when its
// selector no longer matches. The built-in ones are known to do so.
func (l *Loose) owner(t *cluster.Target, take func([]string)) {
	if t.Mirror() {
		l.Held = "it is a static pod, which only its node's kubelet controls"
		return
	}
	if len(t.Owners) == 0 || t.Detached {
		return
	}
	o := t.Owners[0]
	sel, err := o.PodSelector()
	switch {
	case err != nil:
		l.Held = fmt.Sprintf("how %s selects its pods is unknown: %v", o.Ref, err)
		return
	case sel == nil:
		l.Held = fmt.Sprintf("how %s selects its pods is unknown", o.Ref)
		return
	}
	keys, ok := removable(sel, t.Pod.Labels)
	if !ok {
		l.Held = fmt.Sprintf("%s selects it by %q, which taking labels off cannot change", o.Ref, sel)
		return
	}
	take(keys)
}

// removable are the labels without which a selector does not match, but for
// those of the quarantine; ok is false if there are none.
func removable(sel labels.Selector, set map[string]string) (keys []string, ok bool) {
	keys, ok = netpol.KeysToRemove(sel, set)
	n := len(keys)
	keys = slices.DeleteFunc(keys, func(k string) bool { return k == QuarantineLabel || k == IncidentLabel })
	return keys, ok && (n == 0 || len(keys) > 0)
}

func nested(m map[string]any, path ...string) any {
	var v any = m
	for _, p := range path {
		next, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = next[p]
	}
	return v
}

// controllers makes sure that no other controller adopts the pod once it is
// an orphan.
func (l *Loose) controllers(t *cluster.Target, around *cluster.Namespace, left labels.Set, take func([]string)) {
	if t.Mirror() {
		return // it has an owner and keeps it
	}
	for _, c := range around.Controllers {
		if !c.Selector.Matches(left) || c.Selector.Empty() {
			continue
		}
		keys, ok := removable(c.Selector, left)
		if !ok {
			l.warnOnce(steps.Warning{Code: "adoption",
				Text: fmt.Sprintf("%s selects pods by %q and may adopt the detached pod", c.Ref, c.Selector)})
			continue
		}
		take(keys)
	}
}

func (l *Loose) service(s *corev1.Service, left labels.Set, take func([]string)) {
	sel := labels.Set(s.Spec.Selector).AsSelector()
	if len(s.Spec.Selector) == 0 || !sel.Matches(left) {
		return
	}
	keys, ok := removable(sel, left)
	if !ok {
		l.warnOnce(steps.Warning{Code: "service",
			Text: fmt.Sprintf("Service %s/%s selects pods by %q: it sends to whatever is quarantined", s.Namespace,
				s.Name, sel),
			Fix: "if nobody needs it to reach the suspects: " +
				kubectl("delete", "service", s.Name, "-n", s.Namespace)})
	}
	take(keys)
}

func (l *Loose) warnOnce(w steps.Warning) {
	for _, known := range l.Warnings {
		if known.Text == w.Text {
			return
		}
	}
	l.Warnings = append(l.Warnings, w)
}

// awaitRelease waits until none of the pods names one of the controllers as
// its owner. A pod that is gone has nothing to be released from.
func awaitRelease(ctx context.Context, scene *steps.Scene, pods []*cluster.Target, from []types.UID) error {
	var held string
	err := cluster.Wait{}.Until(ctx, func(ctx context.Context) (bool, error) {
		live, err := suspectsNow(ctx, scene, pods)
		if err != nil {
			return false, err
		}
		held = ""
		for _, pod := range live {
			for _, o := range pod.OwnerReferences {
				if slices.Contains(from, o.UID) {
					held = o.Kind + " " + o.Name + " has not released pod " + pod.Namespace + "/" + pod.Name
				}
			}
		}
		return held == "", nil
	})
	if err != nil && held != "" {
		return fmt.Errorf("%s (is the controller manager running?): %w", held, err)
	}
	return err
}

// suspectsNow reads the suspects that still exist: a single one by its name,
// several by their common label. One that the list leaves out, because
// somebody took the label off it, is read by its name too.
func suspectsNow(ctx context.Context, scene *steps.Scene, suspects []*cluster.Target) ([]*corev1.Pod, error) {
	listed := map[types.UID]*corev1.Pod{}
	if len(suspects) > 1 {
		for _, ns := range namespacesOf(suspects) {
			list, err := scene.Client.ListPods(ctx, ns, IncidentLabel+"="+scene.Incident)
			if err != nil {
				return nil, err
			}
			for i := range list {
				listed[list[i].UID] = &list[i]
			}
		}
	}
	found := make([]*corev1.Pod, len(suspects))
	errs := make([]error, len(suspects))
	cluster.Parallel(len(suspects), func(i int) {
		p := suspects[i].Pod
		if found[i] = listed[p.UID]; found[i] != nil {
			return
		}
		live, err := scene.Client.Kube.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			errs[i] = fmt.Errorf("reading pod %s/%s: %w", p.Namespace, p.Name, err)
		case live.UID == p.UID:
			found[i] = live
		}
	})
	return slices.DeleteFunc(found, func(p *corev1.Pod) bool { return p == nil }), errors.Join(errs...)
}
