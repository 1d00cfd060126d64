package sim

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// maxRounds bounds how often the controllers of a namespace run after a
// write; two that fight each other for ever are a mistake in the simulation.
const maxRounds = 100

// settle runs the controllers of a namespace until none changes anything.
func (c *Cluster) settle(namespace string) error {
	if namespace == "" {
		return nil // nothing reacts to objects without a namespace
	}
	for range maxRounds {
		before := c.version
		for _, control := range []func(string) error{
			c.collectGarbage, c.runDeployments, c.runPodOwners, c.runPods, c.runServices,
		} {
			if err := control(namespace); err != nil {
				return fmt.Errorf("a controller in namespace %s: %w", namespace, err)
			}
		}
		if c.version == before {
			return nil
		}
	}
	return fmt.Errorf("the controllers in namespace %s do not come to rest", namespace)
}

// collectGarbage deletes what is owned by something that is gone.
func (c *Cluster) collectGarbage(namespace string) error {
	if !c.orphans {
		return nil
	}
	c.orphans = false
	exists := map[string]bool{}
	var owned []*unstructured.Unstructured
	for _, k := range c.kinds {
		list := c.list(k.GVR(), namespace)
		for i := range list {
			exists[string(list[i].GetUID())] = true
			if len(list[i].GetOwnerReferences()) > 0 {
				owned = append(owned, &list[i])
			}
		}
	}
	for _, o := range owned {
		if slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
			return exists[string(r.UID)] || r.Kind == "Node"
		}) {
			continue
		}
		if err := c.remove(c.gvrOf(o), namespace, o.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// disown takes an owner that is deleted alone from what it owns.
func (c *Cluster) disown(namespace string, owner types.UID) error {
	for _, k := range c.kinds {
		list := c.list(k.GVR(), namespace)
		for i := range list {
			o := list[i].DeepCopy()
			refs := slices.DeleteFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
				return r.UID == owner
			})
			if len(refs) == len(list[i].GetOwnerReferences()) {
				continue
			}
			o.SetOwnerReferences(refs)
			if _, err := c.update(k, &list[i], o, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) gvrOf(o *unstructured.Unstructured) schema.GroupVersionResource {
	gvk := o.GroupVersionKind()
	for _, k := range c.kinds {
		if k.Group == gvk.Group && k.Version == gvk.Version && k.Kind == gvk.Kind {
			return k.GVR()
		}
	}
	return schema.GroupVersionResource{}
}

// edit changes an object, in the store and in o; what is so already is no
// write. change sets fields of the object itself, or of its metadata, spec or
// status, and changes nothing deeper: that is shared with the form before.
func (c *Cluster) edit(o *unstructured.Unstructured, change func(m map[string]any)) error {
	next := &unstructured.Unstructured{Object: maps.Clone(o.Object)}
	for _, part := range []string{"metadata", "spec", "status"} {
		if m, ok := next.Object[part].(map[string]any); ok {
			next.Object[part] = maps.Clone(m)
		}
	}
	change(next.Object)
	if reflect.DeepEqual(o.Object, next.Object) {
		return nil // most often, and update takes longer to find out
	}
	stored, err := c.update(c.kindOf(c.gvrOf(o)), o, next, false)
	if err == nil {
		*o = *stored
	}
	return err
}

// runDeployments keeps one ReplicaSet for each template, and the current one
// at the Deployment's replicas.
func (c *Cluster) runDeployments(namespace string) error {
	sets := c.list(ReplicaSets, namespace)
	deployments := c.list(Deployments, namespace)
	for i := range deployments {
		if err := c.runDeployment(&deployments[i], sets); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) runDeployment(d *unstructured.Unstructured, sets []unstructured.Unstructured) error {
	hash := templateHash(d)
	want, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
	var current *unstructured.Unstructured
	var old []*unstructured.Unstructured
	for j := range sets {
		rs := &sets[j]
		switch {
		case !metav1.IsControlledBy(rs, d):
		case rs.GetLabels()["pod-template-hash"] == hash:
			current = rs
		default:
			old = append(old, rs)
		}
	}
	r := c.rollout(d, want, current, old)
	for i, rs := range old {
		if err := c.scaleSet(d, rs, r.old[i]); err != nil {
			return err
		}
	}
	if current == nil {
		return c.createReplicaSet(d, hash, r.current)
	}
	if err := c.scaleSet(d, current, r.current); err != nil {
		return err
	}
	return c.edit(d, func(m map[string]any) {
		copyStatus(m, current, "replicas", "readyReplicas", "availableReplicas")
		addStatus(m, old)
	})
}

// rollout is how many pods each ReplicaSet of a Deployment should have now.
type rollout struct {
	current int64
	old     []int64
}

// rollout lets old pods go as new ones are ready, with one pod more than is
// wanted meanwhile, or all at once where pods are ready at once.
func (c *Cluster) rollout(d *unstructured.Unstructured, want int64, current *unstructured.Unstructured,
	old []*unstructured.Unstructured) rollout {
	r := rollout{current: want, old: make([]int64, len(old))}
	strategy, _, _ := unstructured.NestedString(d.Object, "spec", "strategy", "type")
	if c.startup == 0 || want == 0 || strategy == "Recreate" {
		return r
	}
	var ready, running int64
	if current != nil {
		ready, _, _ = unstructured.NestedInt64(current.Object, "status", "readyReplicas")
	}
	keep := max(0, want-ready)
	for i, rs := range old {
		has, _, _ := unstructured.NestedInt64(rs.Object, "spec", "replicas")
		r.old[i] = min(has, keep)
		keep -= r.old[i]
		running += r.old[i]
	}
	r.current = min(want, want+1-running)
	return r
}

// scaleSet sets the replicas of a Deployment's ReplicaSet.
func (c *Cluster) scaleSet(d, rs *unstructured.Unstructured, n int64) error {
	has, _, _ := unstructured.NestedInt64(rs.Object, "spec", "replicas")
	if has == n {
		return nil
	}
	up := "down"
	if n > has {
		up = "up"
	}
	// spec is an object
	if err := c.edit(rs, func(m map[string]any) {
		_ = unstructured.SetNestedField(m, n, "spec", "replicas")
	}); err != nil {
		return err
	}
	return c.say(d, "deployment-controller", "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", up,
		rs.GetName(), has, n)
}

// addStatus counts the pods of old ReplicaSets, which are not updated.
func addStatus(m map[string]any, old []*unstructured.Unstructured) {
	for _, rs := range old {
		for _, name := range []string{"replicas", "readyReplicas", "availableReplicas"} {
			if n, _, _ := unstructured.NestedInt64(rs.Object, "status", name); n > 0 {
				sum, _, _ := unstructured.NestedInt64(m, "status", name)
				_ = unstructured.SetNestedField(m, sum+n, "status", name) // status is an object
			}
		}
	}
}

// copyStatus takes the counts of a ReplicaSet over.
func copyStatus(m map[string]any, from *unstructured.Unstructured, names ...string) {
	status := map[string]any{"observedGeneration": generationOf(m)}
	for _, n := range names {
		if v, found, _ := unstructured.NestedInt64(from.Object, "status", n); found {
			status[n] = v
		}
	}
	if v, ok := status["replicas"]; ok {
		status["updatedReplicas"] = v
	}
	m["status"] = status
}

func generationOf(m map[string]any) int64 {
	return (&unstructured.Unstructured{Object: m}).GetGeneration()
}

func templateHash(o *unstructured.Unstructured) string {
	template, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
	text, _ := json.Marshal(template) // it came from JSON
	h := fnv.New32a()
	_, _ = h.Write(text) // never fails
	return fmt.Sprintf("%08x", h.Sum32())
}

func (c *Cluster) createReplicaSet(d *unstructured.Unstructured, hash string, replicas int64) error {
	spec, _, _ := unstructured.NestedMap(d.Object, "spec")
	rs := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet",
		"spec": map[string]any{"replicas": replicas, "selector": spec["selector"], "template": spec["template"]}}}
	rs.SetNamespace(d.GetNamespace())
	rs.SetName(d.GetName() + "-" + hash)
	rs.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(d, d.GroupVersionKind())})
	template, _, _ := unstructured.NestedStringMap(rs.Object, "spec", "template", "metadata", "labels")
	rs.SetLabels(with(template, hash))
	for _, path := range [][]string{{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}} {
		l, _, _ := unstructured.NestedStringMap(rs.Object, path...)
		_ = unstructured.SetNestedStringMap(rs.Object, with(l, hash), path...) // the path leads through objects
	}
	if _, err := c.create(c.kindOf(ReplicaSets), rs, false); err != nil {
		return err
	}
	return c.say(d, "deployment-controller", "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", rs.GetName(),
		replicas)
}

func with(l map[string]string, hash string) map[string]string {
	out := map[string]string{"pod-template-hash": hash}
	for k, v := range l {
		out[k] = v
	}
	return out
}

// selectorOf is how a controller of pods selects them.
func selectorOf(o *unstructured.Unstructured) (labels.Selector, error) {
	raw, _, _ := unstructured.NestedMap(o.Object, "spec", "selector")
	if o.GetKind() == "ReplicationController" {
		set, _, err := unstructured.NestedStringMap(o.Object, "spec", "selector")
		return labels.Set(set).AsSelector(), err
	}
	var sel metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &sel); err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(&sel)
}

// runPodOwners runs every controller that owns pods itself.
func (c *Cluster) runPodOwners(namespace string) error {
	pods := c.list(Pods, namespace)
	for _, k := range c.kinds {
		switch k.Kind {
		case "ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Job", "Gadget":
		default:
			continue
		}
		list := c.list(k.GVR(), namespace)
		for i := range list {
			if err := c.runPodOwner(&list[i], pods); err != nil {
				return err
			}
		}
	}
	return nil
}

// place is a pod that a controller wants to have: with a name, on a node, or
// any ("").
type place struct{ name, node string }

// runPodOwner does what all controllers of pods have in common: let go of
// pods whose labels no longer match, adopt matching orphans, delete what is
// too many, create what is missing, and count. pods are those of the namespace.
func (c *Cluster) runPodOwner(owner *unstructured.Unstructured, pods []unstructured.Unstructured) error {
	sel, err := selectorOf(owner)
	if err != nil || sel.Empty() {
		return err
	}
	mine, err := c.claim(owner, sel, pods)
	if err != nil {
		return err
	}
	missing, surplus := match(c.places(owner), mine)
	for _, p := range surplus {
		if err := c.remove(Pods, p.GetNamespace(), p.GetName()); err != nil {
			return err
		}
		if err := c.say(owner, controllerOf(owner), "SuccessfulDelete", "Deleted pod: %s", p.GetName()); err != nil {
			return err
		}
		mine = slices.DeleteFunc(mine, func(m *unstructured.Unstructured) bool { return m == p })
	}
	for _, p := range missing {
		pod, err := c.createPod(owner, p)
		if err != nil {
			return err
		}
		if pod == nil {
			continue
		}
		mine = append(mine, pod)
		if err := c.say(owner, controllerOf(owner), "SuccessfulCreate", "Created pod: %s", pod.GetName()); err != nil {
			return err
		}
	}
	return c.edit(owner, func(m map[string]any) { m["status"] = status(owner, sel, mine) })
}

// controllerOf is the name by which the controller of a kind tells of itself.
func controllerOf(owner *unstructured.Unstructured) string {
	return strings.ToLower(owner.GetKind()) + "-controller"
}

func (c *Cluster) claim(owner *unstructured.Unstructured, sel labels.Selector,
	pods []unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var mine []*unstructured.Unstructured
	for i := range pods {
		pod := &pods[i]
		owned, matches := metav1.IsControlledBy(pod, owner), sel.Matches(labels.Set(pod.GetLabels()))
		adopts := !owned && matches && metav1.GetControllerOf(pod) == nil && adoptable(owner, pod)
		var refs []metav1.OwnerReference // none: let go
		if adopts {
			refs = append(refs, *metav1.NewControllerRef(owner, owner.GroupVersionKind()))
		}
		if adopts || owned && !matches {
			err := c.edit(pod, func(m map[string]any) {
				(&unstructured.Unstructured{Object: m}).SetOwnerReferences(refs)
			})
			if err != nil {
				return nil, err
			}
		}
		if matches && (owned || adopts) {
			mine = append(mine, pod)
		}
	}
	return mine, nil
}

// adoptable: a StatefulSet takes only pods that have one of its names.
func adoptable(owner, pod *unstructured.Unstructured) bool {
	return owner.GetKind() != "StatefulSet" || strings.HasPrefix(pod.GetName(), owner.GetName()+"-")
}

// places are the pods that a controller wants.
func (c *Cluster) places(owner *unstructured.Unstructured) []place {
	replicas, _, _ := unstructured.NestedInt64(owner.Object, "spec", "replicas")
	switch owner.GetKind() {
	case "DaemonSet":
		return c.daemonPlaces(owner)
	case "Job":
		replicas, _, _ = unstructured.NestedInt64(owner.Object, "spec", "parallelism")
		if suspended, _, _ := unstructured.NestedBool(owner.Object, "spec", "suspend"); suspended {
			replicas = 0
		}
	}
	var places []place
	for i := range replicas {
		p := place{}
		if owner.GetKind() == "StatefulSet" {
			p.name = fmt.Sprintf("%s-%d", owner.GetName(), i)
		}
		places = append(places, p)
	}
	return places
}

// daemonPlaces are the nodes that the template's affinity does not exclude by name.
func (c *Cluster) daemonPlaces(owner *unstructured.Unstructured) []place {
	terms, _, _ := unstructured.NestedSlice(owner.Object, "spec", "template", "spec", "affinity", "nodeAffinity",
		"requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	var places []place
	for _, node := range c.list(Nodes, "") {
		allowed := len(terms) == 0
		for _, t := range terms {
			term, _ := t.(map[string]any)
			allowed = allowed || !excludes(term, node.GetName())
		}
		if allowed {
			places = append(places, place{node: node.GetName()})
		}
	}
	return places
}

func excludes(term map[string]any, node string) bool {
	fields, _, _ := unstructured.NestedSlice(term, "matchFields")
	for _, f := range fields {
		m, _ := f.(map[string]any)
		values, _, _ := unstructured.NestedStringSlice(m, "values")
		if m["key"] == "metadata.name" && m["operator"] == "NotIn" && slices.Contains(values, node) {
			return true
		}
	}
	return false
}

// match assigns pods to places. Of pods that are too many those go first that
// are not running, and then the newest: as a ReplicaSet chooses.
func match(places []place, pods []*unstructured.Unstructured) (missing []place, surplus []*unstructured.Unstructured) {
	left := slices.Clone(pods)
	slices.SortStableFunc(left, func(a, b *unstructured.Unstructured) int {
		if r := strings.Compare(phase(b), phase(a)); r != 0 {
			return r // Running before Pending
		}
		return strings.Compare(string(a.GetUID()), string(b.GetUID())) // counted, so by age
	})
	for _, p := range places {
		i := slices.IndexFunc(left, func(pod *unstructured.Unstructured) bool {
			node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
			return (p.name == "" || p.name == pod.GetName()) && (p.node == "" || p.node == node)
		})
		if i < 0 {
			missing = append(missing, p)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	return missing, left
}

func phase(pod *unstructured.Unstructured) string {
	p, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	return p
}

// createPod returns nil where the name that it must have is taken, by a
// detached pod perhaps.
func (c *Cluster) createPod(owner *unstructured.Unstructured, p place) (*unstructured.Unstructured, error) {
	template, _, _ := unstructured.NestedMap(owner.Object, "spec", "template")
	pod := &unstructured.Unstructured{Object: template}
	pod.SetAPIVersion("v1")
	pod.SetKind("Pod")
	pod.SetNamespace(owner.GetNamespace())
	pod.SetName(p.name)
	if p.name == "" {
		pod.SetGenerateName(owner.GetName() + "-")
	} else if _, err := c.get(Pods, owner.GetNamespace(), p.name); err == nil {
		return nil, nil
	}
	if p.node != "" {
		_ = unstructured.SetNestedField(pod.Object, p.node, "spec", "nodeName") // spec is an object
	}
	pod.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(owner, owner.GroupVersionKind())})
	return c.create(c.kindOf(Pods), pod, false)
}

func status(owner *unstructured.Unstructured, sel labels.Selector, pods []*unstructured.Unstructured) map[string]any {
	total, ready := int64(len(pods)), int64(0)
	for _, p := range pods {
		if phase(p) == string(corev1.PodRunning) {
			ready++
		}
	}
	gen := owner.GetGeneration()
	switch owner.GetKind() {
	case "DaemonSet":
		return map[string]any{"desiredNumberScheduled": total, "currentNumberScheduled": total, "numberReady": ready,
			"numberAvailable":        ready,
			"updatedNumberScheduled": total, "observedGeneration": gen}
	case "Job":
		return map[string]any{"active": total, "ready": ready}
	case "Gadget":
		return map[string]any{"replicas": total, "selector": sel.String()}
	}
	return map[string]any{"replicas": total, "readyReplicas": ready, "availableReplicas": ready,
		"updatedReplicas": total, "observedGeneration": gen}
}

// runPods is scheduler and kubelet: it gives pods a node, then starts them.
func (c *Cluster) runPods(namespace string) error {
	nodes := c.list(Nodes, "")
	pods := c.list(Pods, namespace)
	delete(c.restless, namespace)
	for i := range pods {
		pod := &pods[i]
		if phase(pod) != string(corev1.PodPending) {
			if err := c.runEphemeral(pod); err != nil {
				return err
			}
			continue
		}
		if err := c.runPod(pod, nodes); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) runPod(pod *unstructured.Unstructured, nodes []unstructured.Unstructured) error {
	var n int64
	_, _ = fmt.Sscanf(string(pod.GetUID())[24:], "%d", &n) // counted, see uid
	name, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
	scheduled := name != ""
	if !scheduled {
		name = nodes[n%int64(len(nodes))].GetName()
	}
	now := c.opts.Now()
	if now.Sub(pod.GetCreationTimestamp().Time) < c.startup {
		c.restless[pod.GetNamespace()] = true
		if scheduled {
			return nil
		}
		return c.edit(pod, func(m map[string]any) {
			_ = unstructured.SetNestedField(m, name, "spec", "nodeName") // spec is an object
			m["status"] = starting(pod)
		})
	}
	if image := unpullable(pod); image != "" {
		before := pod.GetResourceVersion()
		err := c.edit(pod, func(m map[string]any) {
			_ = unstructured.SetNestedField(m, name, "spec", "nodeName") // spec is an object
			m["status"] = waiting(pod, image)
		})
		if err != nil || pod.GetResourceVersion() == before {
			return err
		}
		return c.tell(pod, "kubelet", corev1.EventTypeWarning, "Failed",
			fmt.Sprintf("Failed to pull image %q: no such host", image))
	}
	err := c.edit(pod, func(m map[string]any) {
		_ = unstructured.SetNestedField(m, name, "spec", "nodeName") // spec is an object
		m["status"] = running(pod, n, now)
	})
	if err != nil {
		return err
	}
	c.readEnvironment(pod)
	return c.sayStarted(pod, name)
}

// Tick lets the controllers see that time has passed, where something waits for
// it; see SetStartup.
func (c *Cluster) Tick() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ns := range slices.Sorted(maps.Keys(c.restless)) {
		if err := c.settle(ns); err != nil {
			return err
		}
	}
	return nil
}

// sayStarted is what scheduler and kubelet tell of a pod that starts.
func (c *Cluster) sayStarted(pod *unstructured.Unstructured, node string) error {
	if !c.opts.Events {
		return nil
	}
	if err := c.say(pod, "default-scheduler", "Scheduled", "Successfully assigned %s/%s to %s", pod.GetNamespace(),
		pod.GetName(), node); err != nil {
		return err
	}
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
	for _, raw := range containers {
		container, _ := raw.(map[string]any)
		for _, e := range [][2]string{{"Pulled", fmt.Sprintf("Container image %q already present on machine",
			container["image"])},
			{"Created", fmt.Sprintf("Container created: %v", container["name"])},
			{"Started", fmt.Sprintf("Container started: %v", container["name"])}} {
			if err := c.say(pod, "kubelet", e[0], "%s", e[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// starting is the status of a pod whose containers are being made.
func starting(pod *unstructured.Unstructured) map[string]any {
	var statuses []any
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
	for _, raw := range containers {
		container, _ := raw.(map[string]any)
		statuses = append(statuses, map[string]any{"name": container["name"], "image": container["image"],
			"ready": false, "started": false,
			"imageID": "", "restartCount": int64(0),
			"state": map[string]any{"waiting": map[string]any{"reason": "ContainerCreating"}}})
	}
	return map[string]any{"phase": string(corev1.PodPending), "containerStatuses": statuses,
		"conditions": []any{map[string]any{"type": "PodScheduled", "status": "True"},
			map[string]any{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}}}
}

func running(pod *unstructured.Unstructured, n int64, now time.Time) map[string]any {
	var statuses []any
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
	for _, raw := range containers {
		container, _ := raw.(map[string]any)
		statuses = append(statuses, map[string]any{"name": container["name"], "image": container["image"],
			"ready": true, "started": true,
			"imageID": imageID(fmt.Sprint(container["image"])), "restartCount": int64(0),
			"state": map[string]any{"running": map[string]any{"startedAt": now.UTC().Format(time.RFC3339)}}})
	}
	ip := fmt.Sprintf("10.244.%d.%d", n/250, n%250+1)
	return map[string]any{"phase": string(corev1.PodRunning), "podIP": ip, "podIPs": []any{map[string]any{"ip": ip}},
		"startTime":  now.UTC().Format(time.RFC3339),
		"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}, "containerStatuses": statuses}
}

// NoRegistry is where no image can be pulled from: a pod with one stays pending.
const NoRegistry = "registry.invalid"

// unpullable is an image of the pod that no node can pull.
func unpullable(pod *unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
	for _, raw := range containers {
		container, _ := raw.(map[string]any)
		if image, _ := container["image"].(string); strings.HasPrefix(image, NoRegistry+"/") {
			return image
		}
	}
	return ""
}

func waiting(pod *unstructured.Unstructured, image string) map[string]any {
	var statuses []any
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
	for _, raw := range containers {
		container, _ := raw.(map[string]any)
		statuses = append(statuses, map[string]any{"name": container["name"], "image": container["image"],
			"ready": false, "imageID": "", "restartCount": int64(0),
			"state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff",
				"message": fmt.Sprintf("Back-off pulling image %q", image)}}})
	}
	return map[string]any{"phase": string(corev1.PodPending), "containerStatuses": statuses,
		"conditions": []any{map[string]any{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}}}
}

// imageID is how a node calls an image that it has pulled: by its digest.
func imageID(image string) string {
	name, digest, pinned := strings.Cut(image, "@")
	if !pinned {
		digest = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(image)))
		if colon := strings.LastIndex(name, ":"); colon > strings.LastIndex(name, "/") {
			name = name[:colon]
		}
	}
	return name + "@" + digest
}
