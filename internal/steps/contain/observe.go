package contain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
	"irctl/internal/steps"
)

// observer looks at what has become of the suspects. What it has seen to be as
// it was meant it does not ask for again.
type observer struct {
	Options
	scene *steps.Scene

	mu       sync.Mutex
	pods     map[types.UID]*corev1.Pod // the suspects that still exist
	missing  map[types.UID]error       // why a suspect could not be looked at
	gone     map[types.UID]bool        // the suspects that do not exist any more
	slices   map[string][]discoveryv1.EndpointSlice
	slicesNo map[string]error
	owners   map[types.UID]*ownerState
	unseen   []Gap // controllers that would put the workload back, and could not be read
}

// ownerState is what a stopped controller still runs.
type ownerState struct {
	owner    *cluster.Owner
	nodes    []string // of a DaemonSet: those it must stay off
	problem  string   // "" when it is down
	siblings []string // its other pods that still exist
	err      error
	read     bool // the controller itself, in the last look
	seen     bool
}

func (s *ownerState) down() bool {
	return s.seen && s.err == nil && s.problem == "" && len(s.siblings) == 0
}

// why says what keeps it from being down.
func (s *ownerState) why() string {
	switch {
	case s.err != nil:
		return s.err.Error()
	case s.problem != "":
		return s.problem
	}
	return fmt.Sprintf("%s: pods are left: %s", s.owner.Ref, bounded(s.siblings))
}

func newObserver(scene *steps.Scene, o Options) *observer {
	ob := &observer{Options: o, scene: scene, pods: map[types.UID]*corev1.Pod{}, missing: map[types.UID]error{},
		gone:   map[types.UID]bool{},
		slices: map[string][]discoveryv1.EndpointSlice{}, slicesNo: map[string]error{},
		owners: map[types.UID]*ownerState{}}
	if !slices.Contains(o.Steps, StepScale) {
		return ob
	}
	for _, t := range scene.Targets {
		if o.Isolated[t.Pod.UID] {
			continue
		}
		owners, _ := toStop(t.Owners) // the plan has warned of what cannot be stopped
		for _, w := range owners {
			st := ob.owners[w.UID]
			if st == nil {
				st = &ownerState{owner: w}
				ob.owners[w.UID] = st
			}
			if n := t.Pod.Spec.NodeName; n != "" && !slices.Contains(st.nodes, n) {
				st.nodes = append(st.nodes, n)
			}
		}
	}
	for _, chain := range scene.Workloads {
		owners, _ := toStop(chain)
		for _, w := range owners {
			if ob.owners[w.UID] == nil {
				ob.owners[w.UID] = &ownerState{owner: w}
			}
		}
	}
	return ob
}

// look reads the suspects, the endpoints of their namespaces and the stopped
// controllers, all in parallel.
func (ob *observer) look(ctx context.Context) {
	var tasks []func()
	for _, ns := range namespacesOf(ob.scene.Targets) {
		tasks = append(tasks, func() { ob.lookPods(ctx, ns) }, func() { ob.lookSlices(ctx, ns) })
	}
	for _, st := range ob.owners {
		if !st.down() {
			tasks = append(tasks, func() { ob.lookOwner(ctx, st) })
		}
	}
	cluster.Parallel(len(tasks), func(i int) { tasks[i]() })
}

func namespacesOf(targets []*cluster.Target) []string {
	seen := map[string]bool{}
	for _, t := range targets {
		seen[t.Pod.Namespace] = true
	}
	return sortedKeys(seen)
}

func (ob *observer) lookPods(ctx context.Context, namespace string) {
	var mine []*cluster.Target
	for _, t := range ob.scene.Targets {
		if t.Pod.Namespace == namespace {
			mine = append(mine, t)
		}
	}
	// One pod is read by its name; many by their common label, and those that
	// do not carry it by name again.
	found := map[types.UID]*corev1.Pod{}
	if len(mine) > 1 {
		if list, err := ob.scene.Client.ListPods(ctx, namespace, IncidentLabel+"="+ob.scene.Incident); err == nil {
			for i := range list {
				found[list[i].UID] = &list[i]
			}
		}
	}
	cluster.Parallel(len(mine), func(i int) {
		t := mine[i]
		pod, gone := found[t.Pod.UID], false
		var why error
		if pod == nil {
			live, err := ob.scene.Client.Kube.CoreV1().Pods(namespace).Get(ctx, t.Pod.Name, metav1.GetOptions{})
			switch {
			case err != nil:
				why, gone = err, apierrors.IsNotFound(err)
			case live.UID != t.Pod.UID:
				why, gone = cluster.ErrReplaced, true
			default:
				pod = live
			}
		}
		ob.mu.Lock()
		defer ob.mu.Unlock()
		delete(ob.missing, t.Pod.UID)
		delete(ob.pods, t.Pod.UID)
		ob.gone[t.Pod.UID] = gone
		if pod != nil {
			ob.pods[t.Pod.UID] = pod
		} else {
			ob.missing[t.Pod.UID] = why
		}
	})
}

func (ob *observer) lookSlices(ctx context.Context, namespace string) {
	list, err := ob.scene.Client.Endpoints(ctx, namespace)
	ob.mu.Lock()
	defer ob.mu.Unlock()
	ob.slices[namespace], ob.slicesNo[namespace] = list, err
}

func (ob *observer) lookOwner(ctx context.Context, st *ownerState) {
	st.seen, st.read = true, false
	// Where a custom resource keeps its replicas, only its scale tells.
	var subresources []string
	if st.owner.Custom && st.owner.Stop == cluster.ByScale {
		subresources = []string{"scale"}
	}
	live, err := ob.scene.Client.Dynamic.Resource(st.owner.GVR()).Namespace(st.owner.Namespace).
		Get(ctx, st.owner.Name, metav1.GetOptions{}, subresources...)
	if err != nil {
		st.err = fmt.Errorf("reading %s: %w", st.owner.Ref, err)
		return
	}
	st.problem, st.read = runsStill(st, live), true
	if st.err = ob.lookSiblings(ctx, st); st.err != nil {
		st.err = fmt.Errorf("listing the pods of %s: %w", st.owner.Ref, st.err)
	}
}

// runsStill says in what way a controller is not down; "" if it is.
func runsStill(st *ownerState, live *unstructured.Unstructured) string {
	number := func(path ...string) int64 {
		n, _, _ := unstructured.NestedInt64(live.Object, path...)
		return n
	}
	switch st.owner.Stop {
	case cluster.ByScale:
		if n := number("spec", "replicas"); n != 0 {
			return fmt.Sprintf("%s has replicas %d, not 0", st.owner.Ref, n)
		}
		if n := number("status", "replicas"); n != 0 {
			return fmt.Sprintf("%s still has %d pods", st.owner.Ref, n)
		}
	case cluster.BySuspend:
		if suspended, _, _ := unstructured.NestedBool(live.Object, "spec", "suspend"); !suspended {
			return fmt.Sprintf("%s is not suspended", st.owner.Ref)
		}
		if n := number("status", "active"); st.owner.Kind == cluster.Job.Kind && n != 0 {
			return fmt.Sprintf("%s still has %d active pods", st.owner.Ref, n)
		}
	case cluster.ByExclusion:
		if len(st.nodes) > 0 && !excludes(nested(live.Object, "spec", "template", "spec", "affinity"), st.nodes) {
			return fmt.Sprintf("%s is not kept off node %s", st.owner.Ref, join(st.nodes))
		}
	}
	return ""
}

// lookSiblings finds the workload's pods that still exist besides the
// suspects, those that are terminating too: they run until they end.
func (ob *observer) lookSiblings(ctx context.Context, st *ownerState) error {
	st.siblings = nil
	sel, err := st.owner.PodSelector()
	if err != nil || sel == nil || sel.Empty() {
		return err
	}
	pods, err := ob.scene.Client.ListPods(ctx, st.owner.Namespace, sel.String())
	if err != nil {
		return err
	}
	suspects := map[types.UID]bool{}
	for _, t := range ob.scene.Targets {
		suspects[t.Pod.UID] = true
	}
	for _, p := range pods {
		ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		if suspects[p.UID] || ended || metav1.GetControllerOf(&p) == nil {
			continue
		}
		if st.owner.Stop == cluster.ByExclusion && !slices.Contains(st.nodes, p.Spec.NodeName) {
			continue
		}
		name := p.Name
		if p.DeletionTimestamp != nil {
			name += " (terminating)"
		}
		st.siblings = append(st.siblings, name)
	}
	sort.Strings(st.siblings)
	return nil
}

// checks are what was meant for one suspect and whether it is so now.
func (ob *observer) checks(t *cluster.Target) []Check {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	pod := ob.pods[t.Pod.UID]
	if pod == nil {
		if !ob.gone[t.Pod.UID] {
			return []Check{{Code: "pod", Unknown: true,
				Text: fmt.Sprintf("the pod could not be read: %v", ob.missing[t.Pod.UID])}}
		}
		return []Check{{Code: "pod", Text: fmt.Sprintf("the pod can no longer be seen: %v", ob.missing[t.Pod.UID])}}
	}
	var list []Check
	unread := func(code string, err error) { list = append(list, Check{Code: code, Unknown: true, Text: err.Error()}) }
	add := func(code string, ok bool, yes, no string) {
		text := yes
		if !ok {
			text = no
		}
		list = append(list, Check{Code: code, OK: ok, Text: text})
	}
	if slices.Contains(ob.Steps, StepDetach) {
		marked := pod.Labels[QuarantineLabel] == QuarantineValue && pod.Labels[IncidentLabel] == ob.scene.Incident
		add("labels", marked, "labelled "+QuarantineLabel+"="+QuarantineValue+" and with the incident",
			unmarked(pod, ob.scene.Incident))
		if !ob.keepsLabels(t.Pod.UID) && !t.Mirror() {
			owner := metav1.GetControllerOf(pod)
			name := ""
			if owner != nil {
				name = owner.Kind + " " + owner.Name
			}
			add("released", owner == nil, "no controller owns it", name+" still owns it")
			if err := ob.slicesNo[pod.Namespace]; err != nil {
				unread("endpoints", err)
			} else {
				ob.endpointCheck(pod, add)
			}
		}
	}
	owners, _ := toStop(t.Owners)
	for _, o := range owners {
		if st := ob.owners[o.UID]; st != nil && !ob.Isolated[t.Pod.UID] {
			down := "is at zero"
			if o.Stop == cluster.BySuspend {
				down = "is suspended"
			} else if o.Stop == cluster.ByExclusion {
				down = "is kept off the node"
			}
			first := len(list)
			if st.err != nil && !st.read {
				unread("workload", st.err)
			} else {
				add("workload", st.problem == "", o.Ref.String()+" "+down, st.problem)
			}
			switch {
			case st.err == nil:
				add("siblings", len(st.siblings) == 0, "no other pod of it is left", "other pods of it are left: "+
					bounded(st.siblings))
			case st.read:
				unread("siblings", st.err)
			}
			for n := first; n < len(list); n++ {
				list[n].Object = o.Ref.String()
			}
		}
	}
	return list
}

// unmarked says why a pod does not carry the incident's labels.
func unmarked(pod *corev1.Pod, incident string) string {
	other := pod.Labels[IncidentLabel]
	if other == "" || other == incident {
		return "the quarantine labels are not on the pod"
	}
	return fmt.Sprintf(
		"the pod is contained by another incident, %s: irctl contain --pod %s -n %s --incident %s joins it",
		other, pod.Name, pod.Namespace, other)
}

func (ob *observer) endpointCheck(pod *corev1.Pod, add func(code string, ok bool, yes, no string)) {
	var in []string
	for _, s := range ob.slices[pod.Namespace] {
		for _, ep := range s.Endpoints {
			if ep.TargetRef != nil && ep.TargetRef.UID == pod.UID {
				in = append(in, s.Name)
			}
		}
	}
	add("endpoints", len(in) == 0, "in no EndpointSlice", "still in EndpointSlice "+bounded(in))
}

func bounded(list []string) string {
	const most = 5
	if len(list) <= most {
		return join(list)
	}
	return join(list[:most]) + fmt.Sprintf(" and %d more", len(list)-most)
}

// pending names the first thing that is not yet as it was meant, and may still
// come to be; "" if there is none.
func (ob *observer) pending() string {
	for _, t := range ob.scene.Targets {
		for _, c := range ob.checks(t) {
			if !c.OK && !ob.hopeless(t, c) {
				return t.Key() + ": " + c.Text
			}
		}
	}
	for _, st := range ob.owners {
		if !st.down() && !ob.scene.Failed[stopID(st.owner)] && !inVain(st.err) {
			return st.why()
		}
	}
	return ""
}

// hopeless: waiting for it is in vain, since the action that was to bring it
// about failed, the pod cannot be detached, there is no such pod any more, or it
// may not be read.
func (ob *observer) hopeless(t *cluster.Target, c Check) bool {
	if c.Unknown && inVain(ob.unreadable(t, c)) {
		return true
	}
	switch c.Code {
	case "pod":
		ob.mu.Lock()
		defer ob.mu.Unlock()
		return ob.gone[t.Pod.UID]
	case "workload", "siblings":
		owners, _ := toStop(t.Owners)
		return slices.ContainsFunc(owners, func(o *cluster.Owner) bool { return ob.scene.Failed[stopID(o)] })
	case "released":
		if Loosen(t, ob.scene.Around[t.Pod.Namespace], ob.RemoveLabels).Held != "" {
			return true
		}
	}
	return ob.scene.Failed[detachID(t)]
}

// inVain: to look once more would bring nothing. A read that the server was
// silent about was repeated already.
func inVain(err error) bool {
	return cluster.FailureOf(err).Lasts() || errors.Is(err, cluster.ErrSilent)
}

// unreadable is why a check could not be made.
func (ob *observer) unreadable(t *cluster.Target, c Check) error {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	switch c.Code {
	case "pod":
		return ob.missing[t.Pod.UID]
	case "endpoints":
		return ob.slicesNo[t.Pod.Namespace]
	}
	owners, _ := toStop(t.Owners)
	for _, o := range owners {
		if st := ob.owners[o.UID]; st != nil && st.err != nil {
			return st.err
		}
	}
	return nil
}

// wait looks until everything is as meant or the context ends.
func (ob *observer) wait(ctx context.Context, progress func(string)) error {
	last := ""
	return cluster.Wait{}.Until(ctx, func(ctx context.Context) (bool, error) {
		ob.look(ctx)
		p := ob.pending()
		if p != "" && p != last && ctx.Err() == nil {
			progress(p)
			last = p
		}
		return p == "", nil
	})
}

// putBack compares a second look with the first: what was as meant then and
// is not now, and what is open now and was not, was put back by somebody.
func putBack(first, second Assessment) []string {
	list := undone("", first.Workloads, second.Workloads)
	for i := range first.Findings {
		was, is := first.Findings[i], second.Findings[i]
		key := was.Namespace + "/" + was.Pod + ": "
		list = append(list, undone(key, was.Checks, is.Checks)...)
		for _, e := range is.Exposures {
			if e.Severity == Open && !slices.Contains(was.Exposures, e) {
				list = append(list, key+e.Text)
			}
		}
	}
	sort.Strings(list)
	return slices.Compact(list)
}

// undone: checks that cannot be made any more, of a pod that is gone or cannot
// be read, say, are not said to be put back.
func undone(prefix string, first, second []Check) []string {
	var list []string
	for i, c := range first {
		if c.OK && i < len(second) && second[i].Code == c.Code && !second[i].OK && !second[i].Unknown {
			list = append(list, prefix+second[i].Text)
		}
	}
	return list
}
