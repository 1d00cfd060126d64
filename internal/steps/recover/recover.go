// Package recover puts a workload back into service, looks whether it is as
// the security document wants it, deals with the suspects, and watches for the
// attacker's return.
//
// The order is what makes it safe: nothing runs before the image is another
// one than the suspect's; what suspended controllers is taken back only once
// the workload runs; the quarantine goes only after the last pod that it is for.
package recover

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

// Phase is the name of this phase in the journal.
const Phase = steps.PhaseRecover

// The names of the steps, in the order in which they run.
const (
	StepRestore = "restore"
	StepRollout = "rollout"
	StepChecks  = "checks"
	StepSuspect = "suspect"
	StepLift    = "lift-quarantine"
	StepResume  = "resume"
	StepMonitor = "monitor"
)

// Info tells of a step.
func Info(name string) steps.Info {
	why := map[string]string{
		StepRestore: "the service is down for as long as the workload is",
		StepRollout: "a workload that does not start is not recovered",
		StepChecks:  "what is put back as weak as it was is taken again",
		StepSuspect: "the suspect has no use but as evidence, and is a risk as long as it runs",
		StepLift:    "a policy that is for nobody misleads whoever meets it",
		StepResume:  "what containment suspended does not do its work",
		StepMonitor: "an attacker who lost one way in tries the next",
	}
	return steps.Info{Name: name, Phase: Phase, Why: why[name]}
}

// Recorded is a change that the journal says stands.
type Recorded struct {
	// Seq is that of its intent.
	Seq     int64
	Step    string
	Action  string
	Targets []string
	Summary string
	Change  change.Change
}

// of are the changes of one step of containment.
func of(recorded []Recorded, step string) []Recorded {
	var list []Recorded
	for _, r := range recorded {
		if r.Step == step {
			list = append(list, r)
		}
	}
	return list
}

// Workload is what containment took down, or could have.
type Workload struct {
	*cluster.Owner
	// Suspects are those that it ran, or runs.
	Suspects []*cluster.Target
	// Held is what keeps it down, the last change first.
	Held []Recorded
	// WayIn is whether it would run the suspects' image.
	WayIn WayIn
	// partly: some containers have another image than the suspects, some theirs.
	partly bool
	// Blocker is a suspect that has the name of one of its pods.
	Blocker *cluster.Target
}

// Gone: there is nothing to put back.
func (w *Workload) Gone() bool {
	return w.Object == nil && (apierrors.IsNotFound(w.Err) || errors.Is(w.Err, cluster.ErrReplaced))
}

// ID tells the workload's actions from those of others.
func (w *Workload) ID() string { return string(w.UID) }

// Find reads the workloads of an incident.
func Find(ctx context.Context, scene *steps.Scene, recorded []Recorded) []*Workload {
	var list []*Workload
	add := func(o *cluster.Owner) *Workload {
		for _, w := range list {
			if w.UID == o.UID {
				return w
			}
		}
		list = append(list, &Workload{Owner: o})
		return list[len(list)-1]
	}
	for _, t := range scene.Targets {
		for _, o := range contain.Stoppable(t.Owners) {
			w := add(o)
			w.Suspects = append(w.Suspects, t)
		}
	}
	for _, chain := range scene.Workloads {
		for _, o := range contain.Stoppable(chain) {
			add(o)
		}
	}
	var missing []cluster.Ref
	held := of(recorded, contain.StepScale)
	for _, r := range held {
		known := slices.ContainsFunc(list, func(w *Workload) bool { return w.UID == r.Change.Object.UID }) ||
			slices.ContainsFunc(missing, func(m cluster.Ref) bool { return m.UID == r.Change.Object.UID })
		if !known {
			missing = append(missing, r.Change.Object)
		}
	}
	for _, o := range scene.Client.Owners(ctx, missing) {
		add(o)
	}
	for _, w := range list {
		for _, r := range slices.Backward(held) {
			if r.Change.Object.UID == w.UID {
				w.Held = append(w.Held, r)
			}
		}
		w.Blocker = blocker(w)
	}
	return list
}

// blocker is a suspect whose name a StatefulSet gives to a pod of its own, as
// long as it is there.
func blocker(w *Workload) *cluster.Target {
	if w.Kind != cluster.StatefulSet.Kind || w.Custom {
		return nil
	}
	for _, t := range w.Suspects {
		if Alive(t) && len(t.Pod.OwnerReferences) == 0 {
			return t
		}
	}
	return nil
}

// Alive: the suspect is there. One that is gone, or cannot be read, is known by
// its name and UID only.
func Alive(t *cluster.Target) bool { return len(t.Pod.Spec.Containers) > 0 }

// Ended: the suspect does not exist any more. One that cannot be read may.
func Ended(t *cluster.Target) bool { return !Alive(t) && t.Err == nil }

// PlanRestore says what it takes to put the workloads back, each the last
// change first. sameImage: also onto the suspects' image.
func PlanRestore(workloads []*Workload, sameImage, deletesBlockers bool) steps.Plan {
	var plan steps.Plan
	for _, w := range workloads {
		switch {
		case len(w.Held) == 0:
			continue
		case w.Object == nil && !w.Gone():
			plan.Refusals = append(plan.Refusals,
				steps.Refusal{ID: RestoreID(w), Action: StepRestore, Object: w.Ref.String(),
					Reason: fmt.Sprintf("what it would run is not known: %v", w.Err)})
			continue
		case !w.Gone() && w.WayIn.State != Closed && !sameImage:
			plan.Refusals = append(plan.Refusals, steps.Refusal{ID: RestoreID(w), Action: StepRestore,
				Object: w.Ref.String(), Reason: w.WayIn.Text + ": the way in would be open again",
				Override: "irctl eradicate --image CONTAINER=IMAGE@sha256:…, or knowingly --same-image"})
			continue
		case w.Blocker != nil && !deletesBlockers:
			plan.Refusals = append(plan.Refusals, steps.Refusal{ID: RestoreID(w), Targets: []string{w.Blocker.Key()},
				Action: StepRestore, Object: w.Ref.String(),
				Reason: fmt.Sprintf("the suspect %s has the name of one of its pods, which cannot start beside it",
					w.Blocker.Key()),
				Override: "--suspect delete, which removes it first, once its evidence is sealed"})
			continue
		}
		for n, r := range w.Held {
			a := Undo(StepRestore, r)
			a.ID = fmt.Sprintf("%s %d", RestoreID(w), n)
			if n == len(w.Held)-1 {
				a.ID = RestoreID(w)
			}
			a.Summary = restoring(w, r)
			plan.Actions = append(plan.Actions, a)
		}
	}
	return plan
}

// RestoreID is the action without which a workload is not restored.
func RestoreID(w *Workload) string { return StepRestore + " " + w.ID() }

func restoring(w *Workload, r Recorded) string {
	for _, f := range r.Change.Fields {
		switch f.Path[len(f.Path)-1] {
		case "replicas":
			return fmt.Sprintf("scale %s from %v back to %v", w.Ref, f.After, f.Before)
		case "suspend":
			return "resume " + w.Ref.String()
		case "affinity":
			return "let " + w.Ref.String() + " run on the suspects' nodes again"
		}
	}
	return "put back: " + r.Summary
}

// Undo is the action that takes a recorded change back.
func Undo(name string, r Recorded) steps.Action {
	return steps.Action{ID: fmt.Sprintf("%s %d", name, r.Seq), Name: name, Undoes: r.Seq, Targets: r.Targets,
		Change:  r.Change,
		Summary: "undo: " + r.Summary, Command: undoCommand(r.Change), Diff: r.Change.UndoDiff()}
}

func undoCommand(c change.Change) string {
	if c.Subresource == "scale" && len(c.Fields) == 1 {
		if n, ok := c.Fields[0].Before.(float64); ok {
			return fmt.Sprintf("kubectl scale %s -n %s --replicas=%d", change.ShellQuote(c.Object.KubectlName()),
				change.ShellQuote(c.Object.Namespace), int64(n))
		}
	}
	return c.UndoCommand()
}

// template is where a workload's pod template is; nil: that is not known.
func (w *Workload) template() map[string]any {
	if w.Object == nil {
		return nil
	}
	path := []string{"spec", "template", "spec"}
	if w.Kind == cluster.CronJob.Kind && !w.Custom {
		path = []string{"spec", "jobTemplate", "spec", "template", "spec"}
	}
	m, _, _ := unstructured.NestedMap(w.Object.Object, path...)
	return m
}

// suspectUIDs are pods that never count as a workload's own.
func (w *Workload) suspectUIDs() map[types.UID]bool {
	uids := map[types.UID]bool{}
	for _, t := range w.Suspects {
		uids[t.Pod.UID] = true
	}
	return uids
}
