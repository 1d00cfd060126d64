package contain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
)

// stop takes the workload down: to zero replicas, suspended, or, for a
// DaemonSet, off the suspect's node.
type stop struct{ Options }

func (stop) Info() steps.Info {
	return steps.Info{Name: StepScale, Phase: Phase,
		Why: "the same image with the same weakness would run on in the other pods, and start again in new ones"}
}

// workload is one controller to stop, and the suspects that it is stopped for.
type workload struct {
	owner    *cluster.Owner
	suspects []*cluster.Target
}

// chain is every controller below and including the one that is stopped.
func (w *workload) chain() []types.UID {
	var uids []types.UID
	for _, t := range w.suspects {
		for _, o := range t.Owners {
			uids = append(uids, o.UID)
		}
	}
	return uids
}

func (s stop) Plan(_ context.Context, scene *steps.Scene) (steps.Plan, error) {
	var plan steps.Plan
	var list []*workload
	add := func(o *cluster.Owner, t *cluster.Target) {
		i := slices.IndexFunc(list, func(w *workload) bool { return w.owner.UID == o.UID })
		if i < 0 {
			i = len(list)
			list = append(list, &workload{owner: o})
		}
		if t != nil {
			list[i].suspects = append(list[i].suspects, t)
		}
	}
	for _, t := range scene.Targets {
		if otherIncident(scene, t) != "" {
			continue // refused by detach; another incident deals with its workload
		}
		if s.Isolated[t.Pod.UID] {
			continue
		}
		owners, warning := toStop(t.Owners)
		if warning != nil {
			warning.Targets = []string{t.Key()}
			plan.Warnings = append(plan.Warnings, *warning)
		}
		for _, o := range owners {
			add(o, t)
		}
	}
	for _, chain := range scene.Workloads {
		owners, warning := toStop(chain)
		if warning != nil {
			plan.Warnings = append(plan.Warnings, *warning)
		}
		for _, o := range owners {
			add(o, nil)
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].owner.Ref.String() < list[j].owner.Ref.String() })
	for _, w := range list {
		s.workload(scene, w, &plan)
	}
	return plan, nil
}

// toStop returns which controllers of a chain to stop: the topmost that can
// be, and a Job below a CronJob too, since a suspended CronJob does not stop
// the Job it has started.
func toStop(chain []*cluster.Owner) ([]*cluster.Owner, *steps.Warning) {
	chain = slices.DeleteFunc(slices.Clone(chain), gone)
	top := -1
	for i, o := range chain {
		if o.Stop != cluster.NoStop {
			top = i
		}
	}
	if len(chain) == 0 {
		return nil, nil
	}
	if last := chain[len(chain)-1]; last.Err != nil && last.Stop == cluster.NoStop && top < len(chain)-1 {
		return nil, &steps.Warning{Code: unreadable,
			Text: fmt.Sprintf("the workload is not taken down: its controller %s could not be read (%v), and would "+
				"undo the scaling of anything below it", last.Ref, last.Err),
			Fix: cluster.ToRead(last.Err, "get the right to read it") + ", or scale it yourself"}
	}
	if top < 0 {
		o := chain[len(chain)-1]
		return nil, &steps.Warning{Code: "unscalable",
			Text: fmt.Sprintf("the workload is not taken down: %s has no scale subresource", o.Ref),
			Fix:  "stop it as its operator documents"}
	}
	owners := []*cluster.Owner{chain[top]}
	if chain[top].Kind == cluster.CronJob.Kind && !chain[top].Custom && top > 0 &&
		chain[top-1].Kind == cluster.Job.Kind {
		owners = append(owners, chain[top-1])
	}
	return owners, nil
}

// unreadable is the code of the warning that a controller could not be read.
const unreadable = "unreadable"

// gone: the controller was deleted, so it starts nothing any more.
func gone(o *cluster.Owner) bool {
	return apierrors.IsNotFound(o.Err) || errors.Is(o.Err, cluster.ErrReplaced)
}

func stopID(o *cluster.Owner) string { return "stop " + string(o.UID) }

func (s stop) workload(scene *steps.Scene, w *workload, plan *steps.Plan) {
	var keys []string
	for _, t := range w.suspects {
		keys = append(keys, t.Key())
	}
	a := steps.Action{ID: stopID(w.owner), Name: StepScale, Targets: keys}
	var needed bool
	switch w.owner.Stop {
	case cluster.ByScale:
		needed = scaleToZero(w.owner, &a)
	case cluster.BySuspend:
		needed = suspend(w.owner, &a)
	case cluster.ByExclusion:
		if needed = exclude(w, &a); len(w.suspects) == 0 {
			plan.Warnings = append(plan.Warnings, steps.Warning{Code: "unscalable",
				Text: fmt.Sprintf(
					"%s is not taken down: a DaemonSet can only be kept off the nodes of suspects, and it has none",
					w.owner.Ref)})
		}
	}
	if !needed {
		return
	}
	lost, kept := s.lost(scene, w)
	if len(lost) > 0 && !s.AllowEvidenceLoss {
		for _, r := range lost {
			r.ID, r.Object, r.Action, r.Override = stopID(w.owner), w.owner.Ref.String(), StepScale,
				"--allow-evidence-loss"
			plan.Refusals = append(plan.Refusals, r)
		}
		return
	}
	for _, r := range lost {
		plan.Warnings = append(plan.Warnings, steps.Warning{Targets: r.Targets, Code: "evidence-loss", Text: r.Reason +
			"; it goes on since evidence loss was allowed"})
	}
	for _, t := range kept {
		a.Needs = append(a.Needs, detachID(t))
	}
	if len(kept) > 0 {
		a.Awaits = "the release of the suspects by " + w.owner.Ref.String()
		a.Guard = func(ctx context.Context) error {
			if err := awaitRelease(ctx, scene, kept, w.chain()); err != nil {
				return fmt.Errorf("to keep the evidence: %w", err)
			}
			return nil
		}
	}
	plan.Actions = append(plan.Actions, a)
}

// lost says which evidence stopping the workload would destroy; kept are the
// suspects that outlive it, once they are released.
func (s stop) lost(scene *steps.Scene, w *workload) (lost []steps.Refusal, kept []*cluster.Target) {
	detaching := slices.Contains(s.Steps, StepDetach) && !s.KeepLabels
	for _, t := range w.suspects {
		why := ""
		if !t.Detached { // one that was released already, scaling cannot reach
			if loose := Loosen(t, scene.Around[t.Pod.Namespace], s.RemoveLabels); loose.Held != "" {
				why = "which cannot be detached: " + loose.Held
			} else if !detaching {
				why = "which keeps its labels"
			}
		}
		if why == "" {
			kept = append(kept, t)
			continue
		}
		lost = append(lost, steps.Refusal{Targets: []string{t.Key()},
			Reason: fmt.Sprintf("stopping it would destroy the suspect %s, %s", t.Key(), why)})
	}
	if volumes := deletesVolumes(w.owner); volumes != "" {
		lost = append(lost, steps.Refusal{Reason: volumes})
	}
	return lost, kept
}

// deletesVolumes: since 1.27 a StatefulSet can be told to delete the claims
// of the pods that it scales away.
// https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention
func deletesVolumes(o *cluster.Owner) string {
	if o.Custom || o.Kind != cluster.StatefulSet.Kind || o.Object == nil {
		return ""
	}
	policy := nested(o.Object.Object, "spec", "persistentVolumeClaimRetentionPolicy", "whenScaled")
	if when, _ := policy.(string); when != "Delete" {
		return ""
	}
	if claims, _ := nested(o.Object.Object, "spec", "volumeClaimTemplates").([]any); len(claims) == 0 {
		return ""
	}
	return fmt.Sprintf("scaling %s down would delete the volumes of its pods: "+
		"its persistentVolumeClaimRetentionPolicy says whenScaled: Delete", o.Ref)
}

func scaleToZero(o *cluster.Owner, a *steps.Action) bool {
	edit, needed := change.NewEdit(o.Ref, "scale", o.Object.GetResourceVersion(),
		change.Field{Path: []string{"spec", "replicas"}, Before: o.Replicas, After: int64(0)})
	a.Change = edit
	a.Summary = fmt.Sprintf("scale %s from %d to 0", o.Ref, o.Replicas)
	a.Command = kubectl("scale", o.KubectlName(), "-n", o.Namespace, "--replicas=0")
	return needed
}

func suspend(o *cluster.Owner, a *steps.Action) bool {
	edit, needed := change.NewEdit(o.Ref, "", o.Object.GetResourceVersion(),
		change.Field{Path: []string{"spec", "suspend"}, Before: nested(o.Object.Object, "spec", "suspend"),
			After: true})
	a.Change = edit
	a.Summary = "suspend " + o.Ref.String()
	a.Command = kubectl("patch", o.KubectlName(), "-n", o.Namespace, "--type=merge", "-p", `{"spec":{"suspend":true}}`)
	return needed
}

// exclude keeps a DaemonSet off the nodes of the suspects. To change its
// template would replace its pods on all nodes, and evidence there; with the
// update strategy OnDelete, set in the same patch, they stay as they are. Undo
// puts both back, and since the template then is what it was, no pod restarts.
func exclude(w *workload, a *steps.Action) bool {
	o := w.owner
	var nodes []string
	for _, t := range w.suspects {
		if n := t.Pod.Spec.NodeName; n != "" && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	sort.Strings(nodes)
	template := []string{"spec", "template", "spec", "affinity"}
	before := nested(o.Object.Object, template...)
	after := excluded(before, nodes)
	strategy := nested(o.Object.Object, "spec", "updateStrategy")
	edit, _ := change.NewEdit(o.Ref, "", o.Object.GetResourceVersion(),
		change.Field{Path: template, Before: before, After: after},
		change.Field{Path: []string{"spec", "updateStrategy"}, Before: strategy,
			After: map[string]any{"type": "OnDelete"}})
	a.Change = edit
	a.Summary = fmt.Sprintf("keep %s off node %s", o.Ref, join(nodes))
	patch := map[string]any{"spec": map[string]any{
		"updateStrategy": map[string]any{"type": "OnDelete", "rollingUpdate": nil},
		"template":       map[string]any{"spec": map[string]any{"affinity": after}}}}
	a.Command = kubectl("patch", o.KubectlName(), "-n", o.Namespace, "--type=merge", "-p", jsonText(patch))
	return len(nodes) > 0 && !excludes(before, nodes)
}

// excluded adds to an affinity that it must not be one of the nodes. Terms of
// a node selector are alternatives, so every one of them gets the requirement.
func excluded(affinity any, nodes []string) map[string]any {
	root := map[string]any{}
	if m, ok := affinity.(map[string]any); ok {
		root = (&unstructured.Unstructured{Object: m}).DeepCopy().Object
	}
	required := child(child(root, "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution")
	terms, _ := required["nodeSelectorTerms"].([]any)
	if len(terms) == 0 {
		terms = []any{map[string]any{}}
	}
	for _, raw := range terms {
		term, ok := raw.(map[string]any)
		if !ok {
			continue
		}
		fields, _ := term["matchFields"].([]any)
		for _, n := range nodes {
			if !hasExclusion(term, n) {
				fields = append(fields, map[string]any{"key": "metadata.name", "operator": "NotIn", "values": []any{n}})
			}
		}
		term["matchFields"] = fields
	}
	required["nodeSelectorTerms"] = terms
	return root
}

func child(m map[string]any, key string) map[string]any {
	next, ok := m[key].(map[string]any)
	if !ok {
		next = map[string]any{}
		m[key] = next
	}
	return next
}

func excludes(affinity any, nodes []string) bool {
	m, _ := affinity.(map[string]any)
	terms, _ := nested(m, "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").([]any)
	for _, raw := range terms {
		term, _ := raw.(map[string]any)
		for _, n := range nodes {
			if !hasExclusion(term, n) {
				return false
			}
		}
	}
	return len(terms) > 0
}

func hasExclusion(term map[string]any, node string) bool {
	fields, _ := term["matchFields"].([]any)
	for _, raw := range fields {
		f, _ := raw.(map[string]any)
		values, _ := f["values"].([]any)
		if f["key"] == "metadata.name" && f["operator"] == "NotIn" && slices.Contains(values, any(node)) {
			return true
		}
	}
	return false
}
