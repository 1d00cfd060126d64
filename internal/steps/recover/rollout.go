package recover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/cluster"
	"irctl/internal/steps/contain"
)

// Rollout is how far a workload is with running its pods.
type Rollout struct {
	Done bool
	// Text says what it waits for, or what it has.
	Text string
	// Over: waiting longer is of no use.
	Over bool
	// Pods are its own, without suspects that are cut off and those that have ended.
	Pods []corev1.Pod
	// Desired is how many there should be; 0: it runs none now.
	Desired int64
}

// Await waits until every pod of a workload is there and ready. tell is told
// what it waits for. The error says why it does not come to that.
func (w *Workload) Await(ctx context.Context, client *cluster.Client, tell func(string)) (Rollout, error) {
	var last Rollout
	err := cluster.Wait{First: 50 * time.Millisecond, Longest: 2 * time.Second}.Until(ctx,
		func(ctx context.Context) (bool, error) {
			r, err := w.Look(ctx, client)
			if err != nil {
				return false, err
			}
			last = r
			if !r.Done && !r.Over {
				tell(r.Text)
			}
			return r.Done || r.Over, nil
		})
	var over *cluster.WaitError
	switch {
	case errors.As(err, &over) && last.Text != "":
		return last, w.failure(client, last, err)
	case err != nil:
		return last, err
	case !last.Done:
		return last, w.failure(client, last, nil)
	}
	return last, nil
}

// whyTime bounds the look at events once the time for the rollout is over.
const whyTime = 5 * time.Second

func (w *Workload) failure(client *cluster.Client, r Rollout, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), whyTime)
	defer cancel()
	text := r.Text
	if events := w.events(ctx, client, r.Pods); len(events) > 0 {
		text += "; events: " + strings.Join(events, "; ")
	}
	if cause == nil {
		return fmt.Errorf("the rollout failed: %s", text)
	}
	return fmt.Errorf("the rollout did not succeed: %s: %w", text, cause)
}

// Look reads the workload and its pods anew.
func (w *Workload) Look(ctx context.Context, client *cluster.Client) (Rollout, error) {
	o := client.Owners(ctx, []cluster.Ref{w.Ref})[0]
	if o.Object == nil {
		return Rollout{}, o.Err
	}
	w.Owner = o
	selector, err := o.PodSelector()
	if err != nil {
		return Rollout{}, fmt.Errorf("how %s selects its pods: %w", o.Ref, err)
	}
	if o.Kind == cluster.CronJob.Kind && !o.Custom {
		suspended, _, _ := unstructured.NestedBool(o.Object.Object, "spec", "suspend")
		if suspended {
			return Rollout{Text: w.Ref.String() + " is suspended", Over: true}, nil
		}
		return Rollout{Done: true, Text: w.Ref.String() + " runs at its next schedule"}, nil
	}
	if selector == nil || selector.Empty() {
		return Rollout{}, fmt.Errorf("how %s selects its pods is not known", o.Ref)
	}
	pods, err := client.ListPods(ctx, o.Namespace, selector.String())
	if err != nil {
		return Rollout{}, err
	}
	r := Rollout{Desired: w.desired()}
	suspects := w.suspectUIDs()
	for _, p := range pods {
		ended := p.Status.Phase == corev1.PodFailed ||
			p.Status.Phase == corev1.PodSucceeded && o.Kind != cluster.Job.Kind
		held := suspects[p.UID] && p.Labels[contain.QuarantineLabel] == contain.QuarantineValue // else it is back
		if !held && !ended && metav1.GetControllerOf(&p) != nil && p.DeletionTimestamp == nil {
			r.Pods = append(r.Pods, p)
		}
	}
	r.Text = w.waits(&r)
	r.Done = r.Text == ""
	if r.Done {
		r.Text = fmt.Sprintf("%s: %d of %d pods are ready", w.Ref, r.Desired, r.Desired)
	}
	switch {
	case r.Desired == 0 && len(w.Held) == 0:
		r.Done, r.Text = true, w.Ref.String()+" runs no pods, and it is not the incident that keeps it from it"
	case r.Desired == 0:
		r.Done, r.Over, r.Text = false, true, w.Ref.String()+" runs no pods: it was not restored"
	}
	return r, nil
}

// desired is how many pods it should have.
func (w *Workload) desired() int64 {
	number := func(path ...string) int64 {
		n, _, _ := unstructured.NestedInt64(w.Object.Object, path...)
		return n
	}
	switch {
	case w.Stop == cluster.ByExclusion:
		return number("status", "desiredNumberScheduled")
	case w.Stop == cluster.BySuspend:
		if suspended, _, _ := unstructured.NestedBool(w.Object.Object, "spec", "suspend"); suspended {
			return 0
		}
		return 1 // of a Job, one that has started shows that it runs again
	}
	return w.Replicas
}

// waits says what is left to come; "": nothing.
func (w *Workload) waits(r *Rollout) string {
	if seen, tells, _ := unstructured.NestedInt64(w.Object.Object, "status", "observedGeneration"); !w.Custom &&
		tells && seen < w.Object.GetGeneration() {
		return fmt.Sprintf("%s: its controller has not seen the change yet", w.Ref)
	}
	ready := int64(0)
	trouble := ""
	for i := range r.Pods {
		p := &r.Pods[i]
		if isReady(p) || p.Status.Phase == corev1.PodSucceeded {
			ready++
		} else if why := stuck(p); trouble == "" && why != "" {
			trouble = "; " + why
		}
	}
	if w.stalled() {
		r.Over = true
		return fmt.Sprintf("%s: %d of %d pods are ready, and it made no progress for its progressDeadlineSeconds%s",
			w.Ref, ready, r.Desired, trouble)
	}
	if ready < r.Desired {
		return fmt.Sprintf("%s: %d of %d pods are ready%s", w.Ref, ready, r.Desired, trouble)
	}
	return w.updating(r)
}

// stalled: a Deployment says so by itself.
func (w *Workload) stalled() bool {
	conditions, _, _ := unstructured.NestedSlice(w.Object.Object, "status", "conditions")
	return w.Kind == cluster.Deployment.Kind && !w.Custom && slices.ContainsFunc(conditions, func(raw any) bool {
		c, _ := raw.(map[string]any)
		return c["type"] == "Progressing" && c["status"] == "False" && c["reason"] == "ProgressDeadlineExceeded"
	})
}

// updating: as controllers count, some pods are still of the version before.
func (w *Workload) updating(r *Rollout) string {
	number := func(name string) (int64, bool) {
		n, found, _ := unstructured.NestedInt64(w.Object.Object, "status", name)
		return n, found
	}
	text := func(name string) string {
		s, _, _ := unstructured.NestedString(w.Object.Object, "status", name)
		return s
	}
	if w.Custom {
		return ""
	}
	updated, counts := number("updatedReplicas")
	switch w.Kind {
	case cluster.DaemonSet.Kind:
		updated, counts = number("updatedNumberScheduled")
	case cluster.Deployment.Kind:
		if total, _ := number("replicas"); counts && total > updated {
			return fmt.Sprintf("%s: %d pods of the version before are left", w.Ref, total-updated)
		}
	case cluster.StatefulSet.Kind:
		counts = counts && text("updateRevision") != text("currentRevision")
	default:
		return ""
	}
	if counts && updated < r.Desired {
		return fmt.Sprintf("%s: %d of %d pods are of the new version", w.Ref, updated, r.Desired)
	}
	return ""
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// maxText bounds what is told of a message that others wrote.
const maxText = 300

func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxText {
		return string(r[:maxText]) + "…"
	}
	return s
}

// stuck is why a pod is not ready, as scheduler and kubelet say.
func stuck(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return fmt.Sprintf("pod %s: %s: %s", p.Name, c.Reason, short(c.Message))
		}
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		waiting, ended := s.State.Waiting, s.LastTerminationState.Terminated
		switch {
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "ContainerCreating" &&
			waiting.Reason != "PodInitializing":
			text := fmt.Sprintf("pod %s: container %s: %s", p.Name, s.Name, waiting.Reason)
			if waiting.Message != "" {
				text += ": " + short(waiting.Message)
			}
			if ended != nil {
				text += fmt.Sprintf(" (it ended with exit code %d, %s)", ended.ExitCode, ended.Reason)
			}
			return text
		case s.State.Running != nil && !s.Ready:
			return fmt.Sprintf("pod %s: container %s runs, and its probe does not say that it is ready", p.Name, s.Name)
		}
	}
	return ""
}

// maxEvents is how many events are told, the last ones.
const maxEvents = 4

// events are the warnings about the pods that are not ready, and about what
// should have made those that are missing.
func (w *Workload) events(ctx context.Context, client *cluster.Client, pods []corev1.Pod) []string {
	type about struct{ kind, name string }
	list := []about{{w.Kind, w.Name}}
	for i := range pods {
		if !isReady(&pods[i]) && len(list) < 5 {
			list = append(list, about{"Pod", pods[i].Name})
		}
	}
	if w.Kind == cluster.Deployment.Kind && !w.Custom {
		if sel, err := w.PodSelector(); err == nil && sel != nil {
			sets, err := client.Kube.AppsV1().ReplicaSets(w.Namespace).
				List(ctx, metav1.ListOptions{LabelSelector: sel.String(), Limit: 50})
			for i := 0; err == nil && i < len(sets.Items); i++ {
				if s := &sets.Items[i]; metav1.IsControlledBy(s, w.Object) && s.Spec.Replicas != nil &&
					*s.Spec.Replicas > 0 {
					list = append(list, about{cluster.ReplicaSet.Kind, s.Name})
				}
			}
		}
	}
	type event struct {
		at   time.Time
		text string
	}
	found := make([][]event, len(list))
	cluster.Parallel(len(list), func(n int) {
		events, err := client.Kube.CoreV1().Events(w.Namespace).List(ctx, metav1.ListOptions{Limit: 200,
			FieldSelector: fmt.Sprintf("involvedObject.kind=%s,involvedObject.name=%s", list[n].kind, list[n].name)})
		if err != nil {
			return // the reason that the pods give is there all the same
		}
		for i := range events.Items {
			e := &events.Items[i]
			if e.Type == corev1.EventTypeNormal {
				continue
			}
			at := e.LastTimestamp.Time
			if at.IsZero() {
				at = e.EventTime.Time
			}
			found[n] = append(found[n], event{at,
				fmt.Sprintf("%s %s: %s: %s", list[n].kind, list[n].name, e.Reason, short(e.Message))})
		}
	})
	all := slices.Concat(found...)
	slices.SortStableFunc(all, func(a, b event) int { return b.at.Compare(a.at) })
	var texts []string
	for _, e := range all {
		if len(texts) < maxEvents && !slices.Contains(texts, e.text) {
			texts = append(texts, e.text)
		}
	}
	return texts
}
