package eradicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
)

// The names of the steps, in the order of the rotation process.
const (
	StepNew        = "new-value"
	StepStore      = "store"
	StepUpdate     = "update"
	StepRestart    = "restart"
	StepVerify     = "verify"
	StepDeactivate = "deactivate"
)

// Info tells of a step.
func Info(name string) steps.Info {
	why := map[string]string{
		StepImage:      "the way in is closed before anything gets a new secret",
		StepApply:      "what let the attacker in, and on, is changed where it is written down",
		StepBindings:   "an account that may do nothing is worth nothing, whoever has its token",
		StepNew:        "a value that leaked is replaced, not changed",
		StepStore:      "the new value must be where it lives before anything reads it",
		StepUpdate:     "the Kubernetes Secret is what the workloads read",
		StepRestart:    "a process goes on with what it read when it started",
		StepVerify:     "the old value may only be made worthless once nobody uses it",
		StepDeactivate: "until then whoever has the old value gets in",
	}
	return steps.Info{Name: name, Phase: Phase, Why: why[name]}
}

// The annotations of a pod template: kubectl's own, and the one by which irctl
// tells the pods that run with the new values from those that do not.
const (
	restartedAt        = "kubectl.kubernetes.io/restartedAt"
	RotationAnnotation = "irctl/rotation"
)

// Mark is what the pods of the new values carry: the incident, and how far its
// journal was when the last of their secrets was updated. A workload that was
// restarted for a later one need not be for an earlier.
type Mark struct {
	Incident string
	Seq      int64
}

func (m Mark) String() string { return fmt.Sprintf("%s.%d", m.Incident, m.Seq) }

// On reports whether annotations carry the mark, or a later one.
func (m Mark) On(annotations map[string]string) bool {
	text, found := strings.CutPrefix(annotations[RotationAnnotation], m.Incident+".")
	seq, err := strconv.ParseInt(text, 10, 64)
	return found && err == nil && seq >= m.Seq
}

// Restart is a workload that must run anew, and what for.
type Restart struct {
	*Workload
	// Rotations are those whose Secrets it uses.
	Rotations []*Rotation
	// Why its pods are not restarted; Keeps: some go on with the old value.
	Why   string
	Keeps bool
}

// Restarts are the workloads that use what is rotated, each once.
func Restarts(rotations []*Rotation) []*Restart {
	byUID := map[types.UID]*Restart{}
	var list []*Restart
	for _, r := range rotations {
		for _, i := range r.Items {
			for _, w := range i.users {
				x, ok := byUID[w.UID]
				if !ok {
					x = &Restart{Workload: w}
					x.Why, x.Keeps = w.stays()
					byUID[w.UID], list = x, append(list, x)
				}
				if !slices.Contains(x.Rotations, r) {
					x.Rotations = append(x.Rotations, r)
				}
			}
		}
	}
	return list
}

// Change is what restarts the workload, and points it at the Secrets that take
// the place of others. needed is false where an earlier run did it. mark is
// what the pods of the new values carry.
func (x *Restart) Change(ctx context.Context, client *cluster.Client, mark Mark, next map[string]string,
	now time.Time) (c change.Change, needed bool, err error) {
	w, err := x.reload(ctx, client)
	if err != nil {
		return change.Change{}, false, err
	}
	var fields []change.Field
	at := func(path ...string) []string { return append(slices.Clone(w.template), path...) }
	if w.rolls() && x.Why == "" && !mark.On(w.annotations()) {
		for _, kv := range [][2]string{{RotationAnnotation, mark.String()},
			{restartedAt, now.UTC().Format(time.RFC3339)}} {
			f := change.Field{Path: at("metadata", "annotations", kv[0]), After: kv[1]}
			if old, ok := w.annotations()[kv[0]]; ok {
				f.Before = old
			}
			fields = append(fields, f)
		}
	}
	if w.template != nil && w.Kind != cluster.Job.Kind {
		spec := w.spec()
		to := repointed(spec, next)
		for _, part := range []string{"containers", "initContainers", "volumes", "imagePullSecrets"} {
			fields = append(fields, change.Field{Path: at("spec", part), Before: spec[part], After: to[part]})
		}
	}
	c, needed = change.NewEdit(w.Ref, "", w.object.GetResourceVersion(), fields...)
	return c, needed, nil
}

// Summary is one line about the restart.
func (x *Restart) Summary() string {
	var of []string
	for _, r := range x.Rotations {
		of = append(of, r.Name())
	}
	return fmt.Sprintf("restart %s, which uses %s", x.Ref, strings.Join(of, ", "))
}

// Verify waits until every pod of the workload runs with the new values and
// none with the old. tell is told what it waits for.
func (x *Restart) Verify(ctx context.Context, client *cluster.Client, suspects map[types.UID]bool,
	fresh func(*corev1.Pod) bool, tell func(string)) error {
	return await(ctx, tell, func() (string, error) { return x.waits(ctx, client, suspects, fresh) })
}

// await asks what is waited for until that is nothing.
func await(ctx context.Context, tell func(string), waits func() (string, error)) error {
	var last string
	err := cluster.Wait{First: 50 * time.Millisecond, Longest: 2 * time.Second}.Until(ctx,
		func(context.Context) (bool, error) {
			text, err := waits()
			if err != nil || text == "" {
				return err == nil, err
			}
			last = text
			tell(text)
			return false, nil
		})
	var over *cluster.WaitError
	if last == "" {
		last = "how far the rollout is could not be looked at"
	}
	if errors.As(err, &over) {
		return fmt.Errorf("%s (%w): look at it with kubectl rollout status, and run the same command again", last, err)
	}
	return err
}

// waits says what the rollout still waits for; "": it is done.
func (x *Restart) waits(ctx context.Context, client *cluster.Client, suspects map[types.UID]bool,
	fresh func(*corev1.Pod) bool) (string, error) {
	w, err := x.reload(ctx, client)
	if err != nil {
		return "", err
	}
	selector, err := w.selector()
	if err != nil {
		return "", fmt.Errorf("%s: %w", w.Ref, err)
	}
	pods, err := client.ListPods(ctx, w.Namespace, selector)
	if err != nil {
		return "", err
	}
	observed, _, _ := unstructured.NestedInt64(w.object.Object, "status", "observedGeneration")
	if observed < w.object.GetGeneration() {
		return fmt.Sprintf("%s: its controller has not seen the change yet", w.Ref), nil
	}
	ready, stuck := int64(0), ""
	for i := range pods {
		p := &pods[i]
		switch {
		case suspects[p.UID], p.Status.Phase == corev1.PodSucceeded, p.Status.Phase == corev1.PodFailed:
		case !fresh(p):
			return fmt.Sprintf("%s: pod %s is still of before", w.Ref, p.Name) + trouble(pods, fresh), nil
		case isReady(p):
			ready++
		default:
			stuck = trouble(pods, fresh)
		}
	}
	if want := w.desired(); ready < want {
		return fmt.Sprintf("%s: %d of %d pods are ready%s", w.Ref, ready, want, stuck), nil
	}
	return "", nil
}

// desired is how many pods it should have.
func (w *Workload) desired() int64 {
	if w.Kind == cluster.DaemonSet.Kind {
		n, _, _ := unstructured.NestedInt64(w.object.Object, "status", "desiredNumberScheduled")
		return n
	}
	n, found, _ := unstructured.NestedInt64(w.object.Object, "spec", "replicas")
	if !found {
		return 1
	}
	return n
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// trouble is why the new pods do not start, as the kubelet says in one word.
func trouble(pods []corev1.Pod, fresh func(*corev1.Pod) bool) string {
	for i := range pods {
		if !fresh(&pods[i]) {
			continue
		}
		for _, s := range append(slices.Clone(pods[i].Status.InitContainerStatuses),
			pods[i].Status.ContainerStatuses...) {
			if s.State.Waiting != nil && s.State.Waiting.Reason != "" &&
				s.State.Waiting.Reason != "ContainerCreating" && s.State.Waiting.Reason != "PodInitializing" {
				return fmt.Sprintf("; pod %s: container %s: %s", pods[i].Name, s.Name, s.State.Waiting.Reason)
			}
		}
	}
	return ""
}

// Fresh: the pod runs with the new values.
func (m Mark) Fresh(p *corev1.Pod) bool { return m.On(p.Annotations) }

// StillUsing are the workloads whose pods, other than the suspects', name a
// Secret: what keeps it from being deleted.
func (r *Radius) StillUsing(ctx context.Context, namespace, name string) ([]string, error) {
	list, gaps := workloads(ctx, r.client, namespace, r.suspects)
	if len(gaps) > 0 {
		return nil, fmt.Errorf("whether anything still uses Secret %s/%s is not known: %s", namespace, name, gaps[0])
	}
	pods := r.client.Dynamic.Resource(cluster.Pod.GVR()).Namespace(namespace)
	err := cluster.Pages(ctx, pods.List, metav1.ListOptions{}, func(page *unstructured.UnstructuredList) {
		for i := range page.Items {
			if o := &page.Items[i]; !r.suspects[o.GetUID()] {
				list = append(list, &Workload{Ref: cluster.Pod.Named(o.GetNamespace(), o.GetName(), o.GetUID()),
					object: o})
			}
		}
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("listing pods in namespace %s: %w", namespace, err)
	}
	var users []string
	for _, w := range list {
		uses := slices.ContainsFunc(references(w.spec()), func(ref reference) bool { return ref.name == name })
		if uses && !w.over() && !slices.Contains(users, w.Ref.String()) {
			users = append(users, w.Ref.String())
		}
	}
	return users, nil
}

// Suspects are the UIDs of the suspects, which keep what they have: evidence.
func (r *Radius) Suspects() map[types.UID]bool { return r.suspects }
