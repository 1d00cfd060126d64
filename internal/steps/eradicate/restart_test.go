package eradicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
	"irctl/internal/rotate"
)

// A workload that was restarted for an earlier rotation is not restarted for a
// later one by that; nor for another incident's.
func TestMark(t *testing.T) {
	t.Parallel()
	m := Mark{"inc-1", 7}
	for text, want := range map[string]bool{
		"inc-1.7": true, "inc-1.8": true, "inc-1.10": true, "inc-1.6": false, "inc-2.7": false, "inc-1": false,
		"inc-1.": false, "inc-1.x": false, "inc-11.9": false, "7": false, "": false,
	} {
		if got := m.On(map[string]string{RotationAnnotation: text}); got != want {
			t.Errorf("%q: %v", text, got)
		}
		if got := m.Fresh(
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{RotationAnnotation: text,
				restartedAt: "inc-1.9"}}}); got != want {
			t.Errorf("a pod with %q: %v", text, got)
		}
	}
	if m.String() != "inc-1.7" || (Mark{"inc-1", 0}).On(nil) {
		t.Error("a pod without a mark")
	}
}

// Why a workload's pods are not restarted, and whether some go on with the old value.
func TestWhoIsRestarted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		w       *Workload
		held    bool
		blocker string
		why     string
		keeps   bool
	}{
		"a Deployment": {workload(cluster.Deployment, "x", naming(), nil), false, "", "", false},
		"a StatefulSet": {workload(cluster.StatefulSet, "x", naming(), map[string]any{"spec.replicas": 3}),
			false, "", "", false},
		"a DaemonSet": {workload(cluster.DaemonSet, "x", naming(),
			map[string]any{"spec.updateStrategy.type": "RollingUpdate"}), false, "", "", false},
		"held, and running": {workload(cluster.Deployment, "x", naming(), map[string]any{"spec.replicas": 1}),
			true, "", "", false},
		"held at zero": {workload(cluster.Deployment, "x", naming(), map[string]any{"spec.replicas": 0}),
			true, "", "the incident holds it", false},
		"at zero": {workload(cluster.Deployment, "x", naming(), map[string]any{"spec.replicas": 0}),
			false, "", "it runs no pods", false},
		"a ReplicaSet at zero": {workload(cluster.ReplicaSet, "x", naming(), map[string]any{"spec.replicas": 0}),
			false, "", "no rollout", true},
		"a suspect is in the way": {workload(cluster.StatefulSet, "x", naming(), map[string]any{"spec.replicas": 1}),
			false, "x-0", "has the name of its pod x-0", false},
		"in the way of one of two": {workload(cluster.StatefulSet, "x", naming(), map[string]any{"spec.replicas": 2}),
			false, "x-0", "has the name of its pod x-0", true},
		"OnDelete": {workload(cluster.DaemonSet, "x", naming(),
			map[string]any{"spec.updateStrategy.type": "OnDelete"}), false, "", "OnDelete", true},
		"a partition": {workload(cluster.StatefulSet, "x", naming(),
			map[string]any{"spec.updateStrategy.rollingUpdate.partition": 1}), false, "", "partition 1", true},
		"no partition": {workload(cluster.StatefulSet, "x", naming(),
			map[string]any{"spec.updateStrategy.rollingUpdate.partition": 0}), false, "", "", false},
		"paused": {workload(cluster.Deployment, "x", naming(), map[string]any{"spec.paused": true}),
			false, "", "paused", true},
		"a CronJob": {workload(cluster.CronJob, "x", naming(), nil), false, "", "at its next run",
			false},
		"a Job": {workload(cluster.Job, "x", naming(), nil), false, "",
			"a Job's template cannot change", true},
		"a ReplicaSet": {workload(cluster.ReplicaSet, "x", naming(), nil), false, "", "no rollout", true},
		"a ReplicationController": {workload(cluster.ReplicationController, "x", naming(), nil), false, "",
			"no rollout", true},
		"a bare pod": {bare(pod("x", naming())), false, "", "nothing would start a bare pod again",
			true},
		"a pod of a kind not known": {bare(pod("x", naming(), ownedBy("Gadget", "g"))), false, "",
			"cannot roll out a Gadget (g)", true},
	} {
		c.w.held, c.w.blocker = c.held, c.blocker
		why, keeps := c.w.stays()
		if (why == "") != (c.why == "") || !strings.Contains(why, c.why) || keeps != c.keeps {
			t.Errorf("%s: %q, keeps: %v", name, why, keeps)
		}
	}
}

func bare(p *corev1.Pod) *Workload {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
	if err != nil {
		panic(err)
	}
	return &Workload{Ref: cluster.Pod.Named(p.Namespace, p.Name, p.UID), object: &unstructured.Unstructured{Object: m}}
}

func TestWhatHasRunToItsEnd(t *testing.T) {
	t.Parallel()
	condition := func(kind, status string) map[string]any {
		return map[string]any{"status.conditions": []any{map[string]any{"type": "Suspended", "status": "True"},
			map[string]any{"type": kind, "status": status}}}
	}
	phase := func(phase corev1.PodPhase) *Workload {
		return bare(pod("x", naming(), func(p *corev1.Pod) { p.Status.Phase = phase }))
	}
	for name, c := range map[string]struct {
		w    *Workload
		want bool
	}{
		"a pod that runs":         {phase(corev1.PodRunning), false},
		"one that waits":          {phase(corev1.PodPending), false},
		"one that has succeeded":  {phase(corev1.PodSucceeded), true},
		"one that has failed":     {phase(corev1.PodFailed), true},
		"a Job that is complete":  {workload(cluster.Job, "x", naming(), condition("Complete", "True")), true},
		"a Job that has failed":   {workload(cluster.Job, "x", naming(), condition("Failed", "True")), true},
		"a Job that is not":       {workload(cluster.Job, "x", naming(), condition("Complete", "False")), false},
		"a Job that runs":         {workload(cluster.Job, "x", naming(), nil), false},
		"a Job's other condition": {workload(cluster.Job, "x", naming(), condition("FailureTarget", "True")), false},
		"a Deployment, failed":    {workload(cluster.Deployment, "x", naming(), condition("Failed", "True")), false},
	} {
		if got := c.w.over(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Each workload is restarted once, for all that it uses.
func TestEachIsRestartedOnce(t *testing.T) {
	t.Parallel()
	a, b := workload(cluster.Deployment, "a", naming(), nil), workload(cluster.Job, "b", naming(), nil)
	again := workload(cluster.Deployment, "a", naming(), nil)
	item := func(name string, users ...*Workload) *Item {
		return &Item{ref: rotate.SecretRef.Named("app", name, ""), users: users}
	}
	r1, r2 := &Rotation{Items: []*Item{item("s1", a), item("s2", a, b)}}, &Rotation{Items: []*Item{item("s3", again)}}
	var got []string
	for _, x := range Restarts([]*Rotation{r1, r2}) {
		got = append(got, fmt.Sprint(x.Summary(), "|", len(x.Rotations), " ", x.Why == "", " ", x.Keeps))
	}
	want := []string{"restart Deployment app/a, which uses Secret app/s1 and Secret app/s2, Secret app/s3|2 true false",
		"restart Job app/b, which uses Secret app/s1 and Secret app/s2|1 false true"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What restarts a workload: its template is marked, unless it is already or its
// pods stay, and names the Secrets that take the place of others.
func TestWhatRestartsAWorkload(t *testing.T) {
	t.Parallel()
	annotated := func(mark string) map[string]any {
		return map[string]any{"spec.template.metadata.annotations": map[string]any{"irctl/rotation": mark,
			"kubectl.kubernetes.io/restartedAt": "then"}}
	}
	mark := Mark{"inc-1", 7}
	now := time.Date(2026, 2, 12, 10, 30, 0, 0, time.FixedZone("x", 3600))
	for name, c := range map[string]struct {
		ref    cluster.Ref
		set    map[string]any
		why    string
		next   map[string]string
		fields []string
		stops  bool // the object is replaced
	}{
		"for the first time": {cluster.Deployment, nil, "", nil, []string{"irctl/rotation", "restartedAt"},
			false},
		"after an earlier rotation": {cluster.Deployment, annotated("inc-1.6"), "", nil,
			[]string{"irctl/rotation", "restartedAt"}, false},
		"after another incident": {cluster.Deployment, annotated("inc-0.9"), "", nil,
			[]string{"irctl/rotation", "restartedAt"}, false},
		"once more":     {cluster.Deployment, annotated("inc-1.7"), "", nil, nil, false},
		"its pods stay": {cluster.Deployment, nil, "they stay", nil, nil, false},
		"it is pointed elsewhere": {cluster.Deployment, annotated("inc-1.7"), "", map[string]string{"old": "new"},
			[]string{"containers"}, false},
		"its pods stay, elsewhere": {cluster.CronJob, nil, "they stay", map[string]string{"old": "new"},
			[]string{"containers"}, false},
		"both": {cluster.StatefulSet, nil, "", map[string]string{"old": "new"},
			[]string{"irctl/rotation", "restartedAt", "containers"}, false},
		"a Job, which cannot": {cluster.Job, nil, "they stay", map[string]string{"old": "new"}, nil, false},
		"a ReplicaSet": {cluster.ReplicaSet, nil, "", map[string]string{"old": "new"}, []string{"containers"},
			false},
		"another of its name": {cluster.Deployment, nil, "", nil, nil, true},
	} {
		f := newFake(t, controller(c.ref, "x", naming("old", "kept"), c.set))
		w := workload(c.ref, "x", naming("old", "kept"), nil)
		if c.stops {
			w.UID = "uid-before"
		}
		got, needed, err := (&Restart{Workload: w, Why: c.why}).Change(t.Context(), f.client, mark, c.next, now)
		if (err != nil) != c.stops {
			t.Errorf("%s: %v", name, err)
		}
		var fields []string
		for _, field := range got.Fields {
			last := field.Path[len(field.Path)-1]
			fields = append(fields, strings.TrimPrefix(last, "kubectl.kubernetes.io/"))
			if last == RotationAnnotation && (field.After != "inc-1.7" || c.set != nil && field.Before == nil) {
				t.Errorf("%s: %+v", name, field)
			}
			if last == restartedAt && field.After != "2026-02-12T09:30:00Z" {
				t.Errorf("%s: %+v", name, field)
			}
		}
		if !slices.Equal(fields, c.fields) || needed != (len(c.fields) > 0) {
			t.Errorf("%s: %q, needed: %v", name, fields, needed)
		}
	}
}

// A rollout waits for every pod that could still use the old value, suspects and
// those that have ended left out; a pod that is about to end still uses it.
func TestWhatARestartWaitsFor(t *testing.T) {
	t.Parallel()
	mark := Mark{"inc-1", 7}
	of := func(name, mark string, more ...func(*corev1.Pod)) *corev1.Pod {
		return pod(name, naming(), append([]func(*corev1.Pod){func(p *corev1.Pod) {
			p.Labels, p.Annotations = map[string]string{"app": "x"}, map[string]string{RotationAnnotation: mark}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
				{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}}, more...)...)
	}
	phase := func(phase corev1.PodPhase) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Phase = phase } }
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
	notReady := func(p *corev1.Pod) { p.Status.Conditions[1].Status = corev1.ConditionFalse }
	elsewhere := func(p *corev1.Pod) { p.Labels = nil }
	waits := func(reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			notReady(p)
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i"}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c",
				State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}}
		}
	}
	two := map[string]any{"spec.replicas": 2}
	daemon := func(n int) map[string]any { return map[string]any{"status.desiredNumberScheduled": n} }
	const fresh, old = "inc-1.7", "inc-1.6"
	for name, c := range map[string]struct {
		ref  cluster.Ref
		set  map[string]any
		pods []*corev1.Pod
		want string // "": nothing
	}{
		"all are new": {cluster.Deployment, two, []*corev1.Pod{of("a", fresh), of("b", fresh)}, ""},
		"one is of before": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh), of("c", old)}, "pod c is still of before"},
		"one has no mark": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh), of("c", "")}, "pod c is still of before"},
		"one of before is about to": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh), of("c", old, going)}, "pod c is still of before"},
		"one of before has succeeded": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh), of("c", old, phase(corev1.PodSucceeded))}, ""},
		"one of before has failed": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh), of("c", old, phase(corev1.PodFailed))}, ""},
		"one of before is a suspect": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh), of("suspect", old)}, ""},
		"one is another's": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh), of("c", old, elsewhere)}, ""},
		"one is missing": {cluster.Deployment, two, []*corev1.Pod{of("a", fresh)},
			"1 of 2 pods are ready"},
		"the suspect is not one": {cluster.Deployment, two, []*corev1.Pod{of("a", fresh), of("suspect", fresh)},
			"1 of 2 pods are ready"},
		"one is not ready": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh, notReady)}, "1 of 2 pods are ready"},
		"one does not start": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh, waits("ErrImagePull"))},
			"1 of 2 pods are ready; pod b: container c: ErrImagePull"},
		"one of before, one is stuck": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", old), of("b", fresh, waits("ErrImagePull"))},
			"pod a is still of before; pod b: container c: ErrImagePull"},
		"an old one does not start": {cluster.Deployment, two, []*corev1.Pod{of("a", old, waits("ErrImagePull"))},
			"pod a is still of before$"},
		"one is being made": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh, waits("ContainerCreating"))}, "1 of 2 pods are ready$"},
		"one waits for others": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh, waits("PodInitializing"))}, "1 of 2 pods are ready$"},
		"one waits for no reason": {cluster.Deployment, two,
			[]*corev1.Pod{of("a", fresh), of("b", fresh, waits(""))}, "1 of 2 pods are ready$"},
		"the default is one":  {cluster.Deployment, nil, []*corev1.Pod{of("a", fresh)}, ""},
		"none is there":       {cluster.Deployment, nil, nil, "0 of 1"},
		"none is to be there": {cluster.Deployment, map[string]any{"spec.replicas": 0}, nil, ""},
		"its controller has not seen": {cluster.Deployment,
			map[string]any{"metadata.generation": 2, "status.observedGeneration": 1}, []*corev1.Pod{of("a", fresh)},
			"has not seen the change"},
		"its controller has seen": {cluster.Deployment,
			map[string]any{"metadata.generation": 2, "status.observedGeneration": 2}, []*corev1.Pod{of("a", fresh)},
			""},
		"a DaemonSet":               {cluster.DaemonSet, daemon(1), []*corev1.Pod{of("a", fresh)}, ""},
		"a DaemonSet for two nodes": {cluster.DaemonSet, daemon(2), []*corev1.Pod{of("a", fresh)}, "1 of 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, controller(c.ref, "x", naming(), c.set))
			for _, p := range c.pods {
				f.Add(t, p)
			}
			x := &Restart{Workload: workload(c.ref, "x", naming(), nil)}
			got, err := x.waits(t.Context(), f.client, map[types.UID]bool{"uid-suspect": true}, mark.Fresh)
			if want, end := strings.CutSuffix(c.want, "$"); err != nil || (got == "") != (c.want == "") ||
				!strings.Contains(got, want) || end && !strings.HasSuffix(got, want) {
				t.Errorf("%q, %v; expected %q", got, err, c.want)
			}
		})
	}
}

// A rollout that cannot be looked at is not verified.
func TestARestartThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		deny string
		set  map[string]any
		uid  types.UID
		want string
	}{
		"the workload":        {"/deployments", nil, "uid-x", "reading Deployment app/x"},
		"its pods":            {"/pods", nil, "uid-x", "listing pods"},
		"another of its name": {"nowhere", nil, "uid-before", "another of that name"},
		"no selector":         {"nowhere", map[string]any{"spec": map[string]any{}}, "uid-x", "no selector"},
		"a bad selector": {"nowhere",
			map[string]any{"spec.selector.matchExpressions": []any{map[string]any{"key": "a", "operator": "Near"}}},
			"uid-x", "Deployment app/x: "},
	} {
		f := newFake(t, controller(cluster.Deployment, "x", naming(), c.set))
		f.deny(c.deny)
		x := &Restart{Workload: workload(cluster.Deployment, "x", naming(), nil)}
		x.UID = c.uid
		err := x.Verify(t.Context(), f.client, nil, func(*corev1.Pod) bool { return true }, func(string) {})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	set := labelSelector(map[string]any{"matchLabels": map[string]any{"a": "b"},
		"matchExpressions": []any{map[string]any{"key": "c", "operator": "In", "values": []any{"d", "e"}},
			map[string]any{"key": "f", "operator": "Exists"}}})
	if got := metav1.FormatLabelSelector(set); got != "a=b,c in (d,e),f" {
		t.Error(got)
	}
}

// Waiting ends with nothing to wait for, with an error, or with the time.
func TestAwait(t *testing.T) {
	t.Parallel()
	left := []string{"two", "one", ""}
	var told []string
	err := await(t.Context(), func(s string) { told = append(told, s) }, func() (string, error) {
		next := left[0]
		left = left[1:]
		return next, nil
	})
	if err != nil || !slices.Equal(told, []string{"two", "one"}) {
		t.Errorf("%v, %q", err, told)
	}
	cannot := errors.New("cannot")
	if err := await(t.Context(), func(string) {}, func() (string, error) {
		return "text", cannot
	}); !errors.Is(err, cannot) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("over")
	if err := await(ctx, func(string) { cancel(over) }, func() (string, error) { return "waits", nil }); !errors.Is(err,
		over) || !strings.Contains(err.Error(), "waits") {
		t.Errorf("%v", err)
	}
}

// What keeps a Secret from being deleted: whatever runs, or could start, and
// names it, but the suspects; what cannot be read may.
func TestWhoStillUsesASecret(t *testing.T) {
	t.Parallel()
	going := pod("going", naming("s"))
	going.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	complete := map[string]any{"status.conditions": []any{map[string]any{"type": "Complete", "status": "True"}}}
	failed := pod("failed", naming("s"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
	far := pod("far", naming("s"))
	far.Namespace = "far"
	zero := map[string]any{"spec.replicas": 0}
	for name, c := range map[string]struct {
		object runtime.Object
		deny   string
		want   []string
		err    string
	}{
		"nothing": {controller(cluster.Deployment, "d", naming("other"), nil), "nowhere", nil, ""},
		"a Deployment": {controller(cluster.Deployment, "d", naming("other", "s"), nil), "nowhere",
			[]string{"Deployment app/d"}, ""},
		"one that runs no pods": {controller(cluster.Deployment, "d", naming("s"), zero), "nowhere",
			[]string{"Deployment app/d"}, ""},
		"a CronJob": {controller(cluster.CronJob, "c", naming("s"), nil), "nowhere",
			[]string{"CronJob app/c"}, ""},
		"a Job": {controller(cluster.Job, "j", naming("s"), nil), "nowhere",
			[]string{"Job app/j"}, ""},
		"a Job at its end":           {controller(cluster.Job, "j", naming("s"), complete), "nowhere", nil, ""},
		"a pod":                      {pod("p", naming("s")), "nowhere", []string{"Pod app/p"}, ""},
		"a pod that is about to end": {going, "nowhere", []string{"Pod app/going"}, ""},
		"a pod that has ended":       {failed, "nowhere", nil, ""},
		"a pod of another namespace": {far, "nowhere", nil, ""},
		"a pod whose owner has moved": {pod("old", naming("s"), ownedBy("ReplicaSet", "next")), "nowhere",
			[]string{"Pod app/old"}, ""},
		"the suspect":              {pod("suspect", naming("s")), "nowhere", nil, ""},
		"pods may not be read":     {pod("p", naming()), "/pods", nil, "is not known"},
		"Jobs may not be read":     {pod("p", naming()), "/jobs", nil, "is not known"},
		"CronJobs may not be read": {pod("p", naming()), "/cronjobs", nil, "is not known"},
		"StatefulSets may not be":  {pod("p", naming()), "/statefulsets", nil, "is not known"},
	} {
		f := newFake(t, c.object, controller(cluster.ReplicaSet, "next", naming("other"), nil),
			pod("others", naming("x")))
		f.deny(c.deny)
		r := &Radius{client: f.client, suspects: map[types.UID]bool{"uid-suspect": true}}
		got, err := r.StillUsing(t.Context(), "app", "s")
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") ||
			err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Of what runs pods, the topmost is meant, of all pages; a suspect is none.
func TestWhatRunsPods(t *testing.T) {
	t.Parallel()
	rs := controller(cluster.ReplicaSet, "rs", naming(), nil)
	rs.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Deployment", Name: "d1", UID: "uid-d1",
		Controller: truth(true)}})
	f := newFake(t, controller(cluster.Deployment, "d1", naming(), nil),
		controller(cluster.Deployment, "d2", naming(), nil), rs, controller(cluster.ReplicaSet, "alone", naming(), nil),
		controller(cluster.ReplicationController, "rc", naming(), nil),
		pod("of-rs", naming(), ownedBy("ReplicaSet", "rs")), pod("orphan", naming(), ownedBy("ReplicaSet", "gone")),
		pod("bare", naming()), pod("suspect", naming()), pod("suspect-2", naming(), ownedBy("ReplicaSet", "gone")),
		pod("suspect-3", naming(), ownedBy("ReplicaSet", "rs")),
		controller(cluster.Job, "over", naming(),
			map[string]any{"status.conditions": []any{map[string]any{"type": "Failed", "status": "True"}}}))
	list, gaps := workloads(t.Context(), f.client, "app",
		map[types.UID]bool{"uid-suspect": true, "uid-suspect-2": true, "uid-suspect-3": true})
	var names []string
	for _, w := range list {
		names = append(names, w.Name)
	}
	slices.Sort(names)
	if want := []string{"alone", "bare", "d1", "d2", "orphan", "rc", "suspect-2"}; !slices.Equal(names, want) ||
		len(gaps) > 0 {
		t.Errorf("%q, gaps %v", names, gaps)
	}
	f.deny("/daemonsets", "/replicasets")
	if _, gaps = workloads(t.Context(), f.client, "app", nil); len(gaps) != 2 {
		t.Errorf("gaps %v", gaps)
	}
}

// Which suspect has the name of a pod that a StatefulSet would start.
func TestWhichSuspectBlocks(t *testing.T) {
	t.Parallel()
	replicas := map[string]any{"spec.replicas": 2}
	other := pod("st-1", naming())
	other.Namespace = "far"
	for name, c := range map[string]struct {
		w    *Workload
		pod  *corev1.Pod
		want string
	}{
		"its pod":             {workload(cluster.StatefulSet, "st", naming(), replicas), pod("st-1", naming()), "st-1"},
		"beyond its replicas": {workload(cluster.StatefulSet, "st", naming(), replicas), pod("st-2", naming()), ""},
		"of no number":        {workload(cluster.StatefulSet, "st", naming(), replicas), pod("st-x", naming()), ""},
		"of another name":     {workload(cluster.StatefulSet, "st", naming(), replicas), pod("other-1", naming()), ""},
		"in another place":    {workload(cluster.StatefulSet, "st", naming(), replicas), other, ""},
		"still owned": {workload(cluster.StatefulSet, "st", naming(), replicas),
			pod("st-1", naming(), ownedBy("StatefulSet", "st")), ""},
		"gone":            {workload(cluster.StatefulSet, "st", naming(), replicas), pod("st-1", corev1.PodSpec{}), ""},
		"of a Deployment": {workload(cluster.Deployment, "st", naming(), replicas), pod("st-1", naming()), ""},
	} {
		f := &finder{targets: []*cluster.Target{{Pod: pod("st-9", naming())}, {Pod: c.pod}}}
		if got := f.blocker(c.w); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A rollout of what was applied, by what its controller says.
func TestRolloutOfWhatWasApplied(t *testing.T) {
	t.Parallel()
	status := func(replicas, total, updated, available int) map[string]any {
		return map[string]any{"spec.replicas": replicas, "status.replicas": total, "status.updatedReplicas": updated,
			"status.availableReplicas": available, "metadata.generation": 2, "status.observedGeneration": 2}
	}
	daemon := func(desired, total, updated, available int) map[string]any {
		return map[string]any{"status.desiredNumberScheduled": desired, "status.currentNumberScheduled": total,
			"status.updatedNumberScheduled": updated, "status.numberAvailable": available}
	}
	with := func(set map[string]any, path string, v any) map[string]any { set[path] = v; return set }
	for name, c := range map[string]struct {
		ref  cluster.Ref
		set  map[string]any
		want string
	}{
		"done": {cluster.Deployment, status(2, 2, 2, 2), ""},
		"not seen": {cluster.Deployment, with(status(2, 2, 2, 2), "status.observedGeneration", 1),
			"has not seen"},
		"not all are new":       {cluster.Deployment, status(2, 1, 1, 2), "1 of 2 pods are of the new version"},
		"some are of before":    {cluster.Deployment, status(2, 3, 2, 2), "1 pods are still of before"},
		"not all are ready":     {cluster.Deployment, status(2, 2, 2, 1), "1 of 2 pods are ready"},
		"a DaemonSet":           {cluster.DaemonSet, daemon(2, 2, 2, 2), ""},
		"of before on one node": {cluster.DaemonSet, daemon(2, 2, 1, 2), "1 of 2 pods are of the new version"},
		"of before beside it":   {cluster.DaemonSet, daemon(2, 3, 2, 2), "1 pods are still of before"},
		"not ready on one":      {cluster.DaemonSet, daemon(2, 2, 2, 1), "1 of 2 pods are ready"},
	} {
		if got := workload(c.ref, "x", naming(), c.set).rollout(); (got == "") != (c.want == "") ||
			!strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	f := newFake(t, controller(cluster.Deployment, "x", naming(), with(status(2, 2, 2, 2), "spec.paused", true)))
	x := &Applied{Restart: &Restart{Workload: workload(cluster.Deployment, "x", naming(), nil)}}
	if why, keeps, err := x.VerifyApplied(t.Context(), f.client, func(string) {}); err != nil || !keeps ||
		!strings.Contains(why, "paused") {
		t.Errorf("%q %v %v", why, keeps, err)
	}
	f = newFake(t, controller(cluster.Deployment, "x", naming(), status(2, 2, 2, 1)))
	tells := 0
	why, _, err := x.VerifyApplied(t.Context(), f.client, func(string) {
		tells++
		f.Edit("deployments.apps", "app", "x", func(m map[string]any) {
			m["status"].(map[string]any)["availableReplicas"] = 2
		})
	})
	if err != nil || why != "" || tells != 1 {
		t.Errorf("%q %d %v", why, tells, err)
	}
	if _, _, err := x.VerifyApplied(t.Context(), f.client, func(string) {}); err != nil {
		t.Error(err)
	}
	f.deny("/deployments")
	if _, _, err := x.VerifyApplied(t.Context(), f.client, func(string) {}); err == nil {
		t.Error("what cannot be read is verified")
	}
}
