package recover

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
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
	"irctl/internal/steps/contain"
)

// A rollout is done when every pod that should be there is there, ready and of
// the new version; never by a suspect, by a pod that has ended or is about to, or
// by one that is nobody's.
func TestWhenARolloutIsDone(t *testing.T) {
	t.Parallel()
	notReady := func(p *corev1.Pod) { p.Status.Conditions = nil }
	phase := func(phase corev1.PodPhase) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.Phase, p.Status.Conditions = phase, nil }
	}
	bare := func(p *corev1.Pod) { p.OwnerReferences = nil }
	cutOff := func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": "app", contain.QuarantineLabel: contain.QuarantineValue}
	}
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: began} }
	elsewhere := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "other"} }
	failing := map[string]any{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
	condition := func(key, value string) map[string]any {
		c := map[string]any{}
		for k, v := range failing {
			c[k] = v
		}
		c[key] = value
		return map[string]any{"spec.replicas": 1, "status.conditions": []any{map[string]any{"type": "Available"}, c}}
	}
	two := []corev1.Pod{owned("a"), owned("b")}
	held := []Recorded{{}}
	for name, c := range map[string]struct {
		kind       cluster.Ref
		set        map[string]any
		pods       []corev1.Pod
		held       []Recorded
		custom     bool
		done, over bool
		text       string
		count      int
	}{
		"all ready": {cluster.Deployment, map[string]any{"spec.replicas": 2}, two, held, false, true,
			false, "2 of 2 pods are ready", 2},
		"the default is one": {cluster.Deployment, nil, two[:1], held, false, true, false, "1 of 1", 1},
		"one is missing": {cluster.Deployment, map[string]any{"spec.replicas": 3}, two, held, false,
			false, false, "2 of 3 pods are ready", 2},
		"one is not ready": {cluster.Deployment, map[string]any{"spec.replicas": 2},
			[]corev1.Pod{owned("a"), owned("b", notReady)}, held, false, false, false, "1 of 2", 2},
		"one is the suspect": {cluster.Deployment, map[string]any{"spec.replicas": 2},
			[]corev1.Pod{owned("a"), owned("suspect", cutOff)}, held, false, false, false, "1 of 2", 1},
		"one was let go": {cluster.Deployment, map[string]any{"spec.replicas": 2},
			[]corev1.Pod{owned("a"), owned("suspect")}, held, false, true, false, "2 of 2", 2},
		"one has failed": {cluster.Deployment, map[string]any{"spec.replicas": 2},
			[]corev1.Pod{owned("a"), owned("b", phase(corev1.PodFailed))}, held, false, false, false, "1 of 2", 1},
		"one has succeeded": {cluster.Deployment, map[string]any{"spec.replicas": 2},
			[]corev1.Pod{owned("a"), owned("b", phase(corev1.PodSucceeded))}, held, false, false, false, "1 of 2", 1},
		"one is nobody's": {cluster.Deployment, map[string]any{"spec.replicas": 2},
			[]corev1.Pod{owned("a"), owned("b", bare)}, held, false, false, false, "1 of 2", 1},
		"one is about to end": {cluster.Deployment, map[string]any{"spec.replicas": 2},
			[]corev1.Pod{owned("a"), owned("b", going)}, held, false, false, false, "1 of 2", 1},
		"one is another's": {cluster.Deployment, map[string]any{"spec.replicas": 2},
			[]corev1.Pod{owned("a"), owned("b", elsewhere)}, held, false, false, false, "1 of 2", 1},
		"its controller has not seen": {cluster.Deployment,
			map[string]any{"spec.replicas": 2, "metadata.generation": 3, "status.observedGeneration": 2}, two, held,
			false, false, false, "has not seen the change", 2},
		"its controller has seen": {cluster.Deployment,
			map[string]any{"spec.replicas": 2, "metadata.generation": 3, "status.observedGeneration": 3}, two, held,
			false, true, false, "2 of 2", 2},
		"it counts no generations": {cluster.Deployment,
			map[string]any{"spec.replicas": 2, "metadata.generation": 3}, two, held, false, true, false, "2 of 2", 2},
		"no progress": {cluster.Deployment, condition("type", "Progressing"), nil, held, false, false,
			true, "no progress", 0},
		"no progress, of another type": {cluster.Deployment, condition("type", "Available"), nil, held, false, false,
			false, "0 of 1", 0},
		"progress": {cluster.Deployment, condition("status", "True"), nil, held, false, false,
			false, "0 of 1", 0},
		"no progress, another reason": {cluster.Deployment, condition("reason", "FailedCreate"), nil, held, false,
			false, false, "0 of 1", 0},
		"no progress of a StatefulSet": {cluster.StatefulSet, condition("type", "Progressing"), nil, held, false, false,
			false, "0 of 1", 0},
		"pods of before are left": {cluster.Deployment,
			map[string]any{"spec.replicas": 2, "status.updatedReplicas": 2, "status.replicas": 3}, two, held, false,
			false, false, "1 pods of the version before", 2},
		"all are new": {cluster.Deployment,
			map[string]any{"spec.replicas": 2, "status.updatedReplicas": 2, "status.replicas": 2}, two, held, false,
			true, false, "2 of 2", 2},
		"it counts no new ones": {cluster.Deployment, map[string]any{"spec.replicas": 2, "status.replicas": 2},
			two, held, false, true, false, "2 of 2", 2},
		"some are of before": {cluster.StatefulSet,
			map[string]any{"spec.replicas": 2, "status.updatedReplicas": 1, "status.updateRevision": "b",
				"status.currentRevision": "a"}, two, held, false, false, false, "1 of 2 pods are of the new version",
			2},
		"it is at one revision": {cluster.StatefulSet,
			map[string]any{"spec.replicas": 2, "status.updatedReplicas": 0, "status.updateRevision": "a",
				"status.currentRevision": "a"}, two, held, false, true, false, "2 of 2", 2},
		"a DaemonSet": {cluster.DaemonSet, map[string]any{"status.desiredNumberScheduled": 2,
			"status.updatedNumberScheduled": 2}, two, held, false, true, false, "2 of 2", 2},
		"a DaemonSet, some of before": {cluster.DaemonSet,
			map[string]any{"status.desiredNumberScheduled": 2, "status.updatedNumberScheduled": 1}, two, held, false,
			false, false, "1 of 2 pods are of the new version", 2},
		"a DaemonSet, one to come": {cluster.DaemonSet, map[string]any{"status.desiredNumberScheduled": 3}, two,
			held, false, false, false, "2 of 3", 2},
		"a DaemonSet for no node": {cluster.DaemonSet, nil, nil, nil, false, true, false, "it is not the incident",
			0},
		"a Job": {cluster.Job, nil, two[:1], held, false, true, false, "1 of 1", 1},
		"a Job that has succeeded": {cluster.Job, nil, []corev1.Pod{owned("a", phase(corev1.PodSucceeded))}, held,
			false, true, false, "1 of 1", 1},
		"a Job that has failed": {cluster.Job, nil, []corev1.Pod{owned("a", phase(corev1.PodFailed))}, held,
			false, false, false, "0 of 1", 0},
		"a Job that is suspended": {cluster.Job, map[string]any{"spec.suspend": true}, nil, held, false, false,
			true, "was not restored", 0},
		"a CronJob": {cluster.CronJob, nil, nil, held, false, true, false, "at its next schedule",
			0},
		"a CronJob that is suspended": {cluster.CronJob, map[string]any{"spec.suspend": true}, nil, held, false, false,
			true, "is suspended", 0},
		"zero, and the incident's": {cluster.Deployment, map[string]any{"spec.replicas": 0}, nil, held, false,
			false, true, "it was not restored", 0},
		"zero, and not the incident's": {cluster.Deployment, map[string]any{"spec.replicas": 0}, nil, nil, false, true,
			false, "it is not the incident", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ref := c.kind.Named("app", "app", "uid-app")
			f := newFake(t, object(ref, c.set))
			for i := range c.pods {
				f.Add(t, &c.pods[i])
			}
			suspect := owned("suspect")
			w := &Workload{Owner: &cluster.Owner{Ref: ref}, Held: c.held, Suspects: []*cluster.Target{{Pod: &suspect}}}
			r, err := w.Look(t.Context(), f.client)
			if err != nil {
				t.Fatal(err)
			}
			if r.Done != c.done || r.Over != c.over || !strings.Contains(r.Text, c.text) || len(r.Pods) != c.count {
				t.Errorf("%+v, expected done %v, over %v, %q, %d pods", r, c.done, c.over, c.text, c.count)
			}
		})
	}
}

// A workload that cannot be looked at has not rolled out.
func TestARolloutThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  map[string]any
		deny string
		uid  types.UID
		want string
	}{
		"the workload":       {nil, "/deployments", "uid-app", "you may not"},
		"its pods":           {nil, "/pods", "uid-app", "listing pods"},
		"another of it":      {nil, "-", "uid-before", "another of that name"},
		"it selects nothing": {map[string]any{"spec.selector": map[string]any{}}, "-", "uid-app", "is not known"},
		"a bad selector": {map[string]any{
			"spec.selector": map[string]any{"matchExpressions": []any{map[string]any{"key": "a", "operator": "Near"}}}},
			"-", "uid-app", "how Deployment app/app selects"},
		"no selector": {map[string]any{"spec": map[string]any{"replicas": int64(1)}}, "-", "uid-app",
			"is not known"},
	} {
		f := newFake(t, object(cluster.Deployment.Named("app", "app", "uid-app"), c.set))
		f.deny(c.deny)
		w := &Workload{Owner: &cluster.Owner{Ref: cluster.Deployment.Named("app", "app", c.uid)}}
		r, err := w.Look(t.Context(), f.client)
		if err == nil || !strings.Contains(err.Error(), c.want) || r.Done {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// Of a custom resource irctl knows only what its scale says.
func TestRolloutOfACustomResource(t *testing.T) {
	t.Parallel()
	ref := cluster.Ref{Group: "example.com", Version: "v1", Resource: "gadgets", Kind: "Gadget", Namespace: "app",
		Name: "g", UID: "uid-g"}
	pods := []corev1.Pod{owned("a"), owned("b")}
	f := newFake(t, object(ref, map[string]any{"spec.replicas": 2, "metadata.generation": 9,
		"status.observedGeneration": 1, "status.updatedReplicas": 0, "status.replicas": 5,
		"status.conditions": []any{map[string]any{"type": "Progressing", "status": "False",
			"reason": "ProgressDeadlineExceeded"}}}), &pods[0], &pods[1])
	w := &Workload{Owner: &cluster.Owner{Ref: ref}}
	if r, err := w.Look(t.Context(), f.client); err != nil || !r.Done || len(r.Pods) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	for kind, want := range map[string]bool{"Deployment": false, "StatefulSet": false, "DaemonSet": false,
		"CronJob": false, "Job": false} {
		w := &Workload{Owner: &cluster.Owner{Ref: cluster.Ref{Kind: kind}, Custom: true,
			Object: object(ref, map[string]any{"status.updatedReplicas": 0, "status.replicas": 5,
				"status.updatedNumberScheduled": 0,
				"status.updateRevision":         "a",
				"status.conditions": []any{map[string]any{"type": "Progressing", "status": "False",
					"reason": "ProgressDeadlineExceeded"}}})}}
		if got := w.updating(&Rollout{Desired: 2}) != "" || w.stalled(); got != want {
			t.Errorf("a %s of another group is taken for the built-in one", kind)
		}
	}
}

// Waiting ends with the rollout, with what makes waiting useless, with an error,
// or with the time; the error says why by the events.
func TestWaitingForARollout(t *testing.T) {
	t.Parallel()
	ref := cluster.Deployment.Named("app", "app", "uid-app")
	event := func(name, kind, of, kindOf, text string, at time.Duration) *corev1.Event {
		return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: name},
			InvolvedObject: corev1.ObjectReference{Kind: kind, Name: of}, Type: kindOf, Reason: "R", Message: text,
			LastTimestamp: metav1.NewTime(began.Add(at))}
	}
	new := func(set map[string]any) (*fake, *Workload) {
		p := owned("a", func(p *corev1.Pod) { p.Status.Conditions = nil })
		f := newFake(t, object(ref, set), &p, event("e1", "Pod", "a", corev1.EventTypeWarning, "no image", time.Minute))
		return f, &Workload{Owner: &cluster.Owner{Ref: ref}, Held: []Recorded{{}}}
	}
	t.Run("it comes", func(t *testing.T) {
		t.Parallel()
		f, w := new(nil)
		var told []string
		r, err := w.Await(t.Context(), f.client, func(s string) {
			told = append(told, s)
			p := owned("a")
			f.Add(t, &p)
		})
		if err != nil || !r.Done || len(told) != 1 || !strings.Contains(told[0], "0 of 1") {
			t.Errorf("%+v, %v, told %q", r, err, told)
		}
	})
	t.Run("its time is over", func(t *testing.T) {
		t.Parallel()
		f, w := new(nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		over := errors.New("its time is over")
		r, err := w.Await(ctx, f.client, func(string) { cancel(over) })
		if !errors.Is(err, over) || !strings.Contains(err.Error(), "no image") ||
			!strings.Contains(err.Error(), "0 of 1") || r.Done {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("the last look is cut short", func(t *testing.T) {
		t.Parallel()
		f, w := new(nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		over := errors.New("its time is over")
		looks := 0
		r, err := w.Await(ctx, f.client, func(string) {
			if looks++; looks == 2 {
				f.deny("/deployments")
				cancel(over)
			}
		})
		if !errors.Is(err, over) || !strings.Contains(err.Error(), "0 of 1") || r.Text == "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("it may not be read any more", func(t *testing.T) {
		t.Parallel()
		f, w := new(nil)
		_, err := w.Await(t.Context(), f.client, func(string) { f.deny("/deployments") })
		if err == nil || !strings.Contains(err.Error(), "you may not") || strings.Contains(err.Error(), "events") {
			t.Errorf("%v", err)
		}
	})
	t.Run("it is of no use", func(t *testing.T) {
		t.Parallel()
		f, w := new(map[string]any{"spec.replicas": 0})
		r, err := w.Await(t.Context(), f.client, func(string) { t.Error("it waits") })
		if err == nil || !r.Over || !strings.Contains(err.Error(), "the rollout failed: ") {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// The events told are warnings, the last ones first, each once, of the workload,
// of pods that are not ready, and of the ReplicaSets that should make some.
func TestWhichEventsAreTold(t *testing.T) {
	t.Parallel()
	ref := cluster.Deployment.Named("app", "app", "uid-app")
	set := func(name string, replicas int, owner string) *unstructured.Unstructured {
		s := object(cluster.ReplicaSet.Named("app", name, types.UID("uid-"+name)),
			map[string]any{"spec.replicas": replicas})
		s.SetLabels(map[string]string{"app": "app"})
		s.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "app",
			UID: types.UID(owner), Controller: yes()}})
		return s
	}
	f := newFake(t, set("new", 1, "uid-app"), set("old", 0, "uid-app"), set("strange", 1, "uid-other"))
	f.answers["involvedObject.kind%3DDeployment%2CinvolvedObject.name%3Dapp&"] = events("", "2026-02-12T09:01:00Z",
		"Warning", "first")
	f.answers["involvedObject.kind%3DPod%2CinvolvedObject.name%3Da&"] = events("2026-02-12T09:05:00Z", "", "Warning",
		"by event time")
	f.answers["involvedObject.kind%3DPod%2CinvolvedObject.name%3Dready&"] = events("", "2026-02-12T09:09:00Z",
		"Warning", "of a ready pod")
	f.answers["involvedObject.name%3Dnew&"] = events("", "2026-02-12T09:03:00Z", "Warning", "quota")
	f.answers["involvedObject.name%3Dold&"] = events("", "2026-02-12T09:09:00Z", "Warning", "old")
	f.answers["involvedObject.name%3Dstrange&"] = events("", "2026-02-12T09:09:00Z", "Warning", "strange")
	f.answers["involvedObject.name%3Db&"] = events("", "2026-02-12T09:09:00Z", "Normal", "all well")
	f.deny("nothing")
	notReady := func(p *corev1.Pod) { p.Status.Conditions = nil }
	w := &Workload{Owner: &cluster.Owner{Ref: ref, Object: object(ref, nil)}}
	got := w.events(t.Context(), f.client, []corev1.Pod{owned("ready"), owned("b", notReady), owned("a", notReady)})
	want := []string{"Pod a: R: by event time", "ReplicaSet new: R: quota", "Deployment app: R: first"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, expected %q", got, want)
	}
	w = &Workload{Owner: &cluster.Owner{Ref: ref, Object: object(ref, nil), Custom: true}}
	f.Forget()
	if got := w.events(t.Context(), f.client, nil); len(f.Requests("replicasets")) > 0 || len(got) != 1 {
		t.Errorf("%q", got)
	}
	var many []string
	for n := range 6 {
		many = append(many, fmt.Sprintf(
			`{"type":"Warning","reason":"R","message":"m%d","lastTimestamp":"2026-02-12T09:0%d:00Z"}`, n/2*2, n))
	}
	f.answers["involvedObject.kind%3DDeployment%2CinvolvedObject.name%3Dapp&"] = `{"kind":"EventList",` +
		`"apiVersion":"v1","items":[` + strings.Join(many, ",") + `,{"reason":"R","message":"oldest"},{"reason":"R",` +
		`"message":"older","lastTimestamp":"2026-02-12T08:00:00Z"}]}`
	want = []string{"m4", "m2", "m0", "older"}
	for n, text := range w.events(t.Context(), f.client, nil) {
		if n >= len(want) || text != "Deployment app: R: "+want[n] {
			t.Errorf("%d: %s", n, text)
		}
	}
	f.deny("/events")
	if got := w.events(t.Context(), f.client, nil); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func events(at, last, kind, text string) string {
	e := `{"type":"` + kind + `","reason":"R","message":"` + text + `"`
	if at != "" {
		e += `,"eventTime":"` + strings.TrimSuffix(at, "Z") + `.000000Z"`
	}
	if last != "" {
		e += `,"lastTimestamp":"` + last + `"`
	}
	return `{"kind":"EventList","apiVersion":"v1","items":[` + e + `}]}`
}

// Why a pod does not start, as its scheduler and its kubelet say.
func TestWhyAPodIsStuck(t *testing.T) {
	t.Parallel()
	status := func(edit func(*corev1.ContainerStatus)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			s := corev1.ContainerStatus{Name: "c"}
			edit(&s)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "fine", Ready: true,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}, s}
		}
	}
	waiting := func(reason, message string) func(*corev1.Pod) {
		return status(func(s *corev1.ContainerStatus) {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: message}
		})
	}
	for name, c := range map[string]struct {
		edit func(*corev1.Pod)
		want string
	}{
		"scheduled nowhere": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse},
				{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
					Message: "no\n room"}}
		}, "pod p: Unschedulable: no room"},
		"scheduled": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue,
				Reason: "x"}}
		}, ""},
		"it waits": {waiting("ImagePullBackOff", "not found"),
			"pod p: container c: ImagePullBackOff: not found"},
		"it waits without message": {waiting("ImagePullBackOff", ""), "pod p: container c: ImagePullBackOff"},
		"it is being made":         {waiting("ContainerCreating", ""), ""},
		"others are":               {waiting("PodInitializing", ""), ""},
		"it waits for no reason":   {waiting("", "x"), ""},
		"an init container waits": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i",
				State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "Err"}}}}
		}, "pod p: container i: Err"},
		"it crashed": {status(func(s *corev1.ContainerStatus) {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
		}), "pod p: container c: CrashLoopBackOff (it ended with exit code 137, OOMKilled)"},
		"its probe": {status(func(s *corev1.ContainerStatus) { s.State.Running = &corev1.ContainerStateRunning{} }),
			"pod p: container c runs, and its probe does not say that it is ready"},
	} {
		p := owned("p", c.edit)
		if got := stuck(&p); got != c.want {
			t.Errorf("%s: %q, expected %q", name, got, c.want)
		}
	}
	if got := short(strings.Repeat("é", maxText+1)); len([]rune(got)) != maxText+1 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d runes", len([]rune(got)))
	}
	if got := short(strings.Repeat("é", maxText)); strings.HasSuffix(got, "…") {
		t.Error("cut at its bound")
	}
	// The first that is stuck is told with the rollout.
	w := &Workload{Owner: &cluster.Owner{Ref: cluster.Deployment, Object: object(cluster.Deployment, nil)}}
	r := &Rollout{Desired: 3, Pods: []corev1.Pod{owned("ok"),
		owned("x", func(p *corev1.Pod) { p.Status.Conditions = nil }, waiting("A", "")),
		owned("y", func(p *corev1.Pod) { p.Status.Conditions = nil }, waiting("B", ""))}}
	if got := w.waits(r); !strings.HasSuffix(got, "1 of 3 pods are ready; pod x: container c: A") {
		t.Error(got)
	}
}
