package recover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

// Fate is what becomes of a suspect.
type Fate string

// The fates.
const (
	Keep    Fate = "keep"
	Deleted Fate = "delete"
)

// DeleteID is the action that deletes a suspect.
func DeleteID(t *cluster.Target) string { return StepSuspect + " " + string(t.Pod.UID) }

// Delete is the action that deletes a suspect, for good. guard makes sure, right
// before, that its evidence is safe; nil: that was waived.
func Delete(client *cluster.Client, t *cluster.Target, guard func(context.Context) error) steps.Action {
	ref := t.Ref()
	return steps.Action{ID: DeleteID(t), Name: "delete-suspect", Final: true, Targets: []string{t.Key()},
		Change:  change.Change{Object: ref},
		Summary: fmt.Sprintf("delete the suspect %s (uid %s)", ref, ref.UID),
		Command: fmt.Sprintf("kubectl delete pod %s -n %s --grace-period=1", change.ShellQuote(ref.Name),
			change.ShellQuote(ref.Namespace)),
		Guard: guard, Awaits: "the digest of the sealed evidence of " + t.Key(),
		Do: func(ctx context.Context) (steps.Result, error) { return remove(ctx, client, ref) }}
}

const (
	// graceSeconds is how long the suspect's processes have to end: they get no
	// time to do more. Not 0, which would take the pod out of the API while its
	// processes run on.
	graceSeconds = 1
	// removeTime bounds the wait for the node to end them.
	removeTime = time.Minute
)

func remove(ctx context.Context, client *cluster.Client, ref cluster.Ref) (steps.Result, error) {
	pods := client.Kube.CoreV1().Pods(ref.Namespace)
	grace := int64(graceSeconds)
	asked := false
	err := cluster.Wait{AtMost: removeTime}.Until(ctx, func(ctx context.Context) (bool, error) {
		live, err := pods.Get(ctx, ref.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && live.UID != ref.UID:
			return true, nil
		case err != nil:
			return false, fmt.Errorf("reading %s: %w", ref, err)
		case live.DeletionTimestamp != nil:
			return false, nil // its node is about to end it
		}
		err = pods.Delete(ctx, ref.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace,
			Preconditions: &metav1.Preconditions{UID: &ref.UID}})
		asked = asked || err == nil || change.Passing(err) // it may have been done, and its answer lost
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return false, fmt.Errorf("deleting %s: %w", ref, err)
		}
		return false, nil
	})
	var over *cluster.WaitError
	switch {
	case errors.As(err, &over):
		return steps.Result{}, fmt.Errorf("%s is not gone: %w; if its node is known to be off, kubectl delete "+
			"--force, then run the same command again", ref, err)
	case err != nil:
		return steps.Result{}, err
	case asked:
		return steps.Result{Result: change.Done}, nil
	}
	return steps.Result{Result: change.Already, Note: "it is gone already"}, nil
}

// Settle are the actions that close the record of what was done to suspects
// that are gone: nothing of it is left in the cluster, and nothing is to be
// handed back. needs names the deletion that comes first, if one does.
func Settle(client *cluster.Client, recorded []Recorded, gone func(uid string) (needs string, ok bool)) []steps.Action {
	var list []steps.Action
	for _, r := range slices.Backward(of(recorded, contain.StepDetach)) {
		needs, ok := gone(string(r.Change.Object.UID))
		if !ok {
			continue
		}
		a := Undo(StepSuspect, r)
		a.Name, a.Summary, a.Command, a.Diff = "settle", "nothing is left of: "+r.Summary, "(nothing: the pod is gone)",
			nil
		if needs != "" {
			a.Needs = []string{needs}
		}
		a.Do = func(ctx context.Context) (steps.Result, error) {
			state, err := r.Change.Observe(ctx, client.Dynamic)
			if err == nil && state != change.Missing {
				err = fmt.Errorf("%s is still there", r.Change.Object)
			}
			return steps.Result{Result: change.Gone}, err
		}
		list = append(list, a)
	}
	return list
}

// PlanLift takes back the policies of the quarantine in the namespaces in which
// no suspect is kept. kept are the suspects that stay, by namespace; the texts
// say which policies stay for them.
func PlanLift(scene *steps.Scene, recorded []Recorded, kept map[string][]string,
	needs map[string][]string) (actions []steps.Action, stay []string) {
	told := map[string]bool{}
	for _, r := range slices.Backward(of(recorded, contain.StepQuarantine)) {
		ns := r.Change.Object.Namespace
		if pods := kept[ns]; len(pods) > 0 {
			if !told[ns] {
				told[ns] = true
				stay = append(stay, fmt.Sprintf("%s stays, for %s", r.Change.Object, listed(pods)))
			}
			continue
		}
		a := Undo(StepLift, r)
		a.Needs = needs[ns]
		a.Awaits = "the last quarantined pod of namespace " + ns + " to be gone"
		a.Guard = func(ctx context.Context) error { return nobodyLeft(ctx, scene, ns) }
		actions = append(actions, a)
	}
	return actions, stay
}

// nobodyLeft: no pod of the namespace carries the incident's label, whoever put
// it there.
func nobodyLeft(ctx context.Context, scene *steps.Scene, namespace string) error {
	pods, err := scene.Client.ListPods(ctx, namespace, contain.IncidentLabel+"="+scene.Incident)
	if err != nil {
		return fmt.Errorf("since who needs it is not known: %w", err)
	}
	if len(pods) > 0 {
		return fmt.Errorf("since pod %s/%s is quarantined by it", namespace, pods[0].Name)
	}
	return nil
}

// PlanResume takes back what suspended controllers, and, if asked for, what
// keeps pods off the suspects' nodes.
func PlanResume(recorded []Recorded, uncordon bool) (actions []steps.Action, stay []string) {
	for _, r := range slices.Backward(of(recorded, contain.StepSuspend)) {
		a := Undo(StepResume, r)
		a.Summary = "resume " + r.Change.Object.String()
		actions = append(actions, a)
	}
	for _, r := range slices.Backward(of(recorded, contain.StepCordon)) {
		if uncordon {
			actions = append(actions, Undo(StepResume, r))
			continue
		}
		stay = append(stay, fmt.Sprintf("%s stays cordoned (--uncordon takes it back into use)", r.Change.Object))
	}
	return actions, stay
}

// Sequence cuts actions into stages, so that two on the same object come one
// after the other; those of a stage do not depend on each other.
func Sequence(actions []steps.Action) [][]steps.Action {
	var stages [][]steps.Action
	seen := map[cluster.Ref]bool{}
	for n, a := range actions {
		if n == 0 || seen[a.Change.Object] {
			stages = append(stages, nil)
			seen = map[cluster.Ref]bool{}
		}
		seen[a.Change.Object] = true
		stages[len(stages)-1] = append(stages[len(stages)-1], a)
	}
	return stages
}

// Gone are the suspects that are not there any more.
func Gone(targets []*cluster.Target) map[string]bool {
	gone := map[string]bool{}
	for _, t := range targets {
		if Ended(t) {
			gone[string(t.Pod.UID)] = true
		}
	}
	return gone
}

// DryRunDelete asks the server whether it would delete a suspect.
func DryRunDelete(ctx context.Context, client *cluster.Client, ref cluster.Ref) error {
	err := client.Kube.CoreV1().Pods(ref.Namespace).
		Delete(ctx, ref.Name, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll},
			Preconditions: &metav1.Preconditions{UID: &ref.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s: %w", ref, err)
	}
	return nil
}
