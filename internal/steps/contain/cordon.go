package contain

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
)

// cordon marks the nodes of the suspects and lets nothing new be scheduled there.
type cordon struct{}

func (cordon) Info() steps.Info {
	return steps.Info{Name: StepCordon, Phase: Phase,
		Why: "a suspect that may have left its container makes its node suspect"}
}

func (cordon) Plan(ctx context.Context, scene *steps.Scene) (steps.Plan, error) {
	byNode := map[string][]string{}
	for _, t := range scene.Targets {
		if n := t.Pod.Spec.NodeName; n != "" {
			byNode[n] = append(byNode[n], t.Key())
		}
	}
	names := sortedKeys(byNode)
	type answer struct {
		action steps.Action
		needed bool
		err    error
	}
	answers := make([]answer, len(names))
	cluster.Parallel(len(names), func(i int) {
		a, needed, err := cordonNode(ctx, scene, names[i])
		a.Targets = byNode[names[i]]
		answers[i] = answer{a, needed, err}
	})
	var plan steps.Plan
	for i, a := range answers {
		switch {
		case a.err != nil:
			plan.Refusals = append(plan.Refusals, steps.Refusal{Targets: byNode[names[i]], Action: StepCordon,
				Object: "Node " + names[i], Reason: a.err.Error()})
		case a.needed:
			plan.Actions = append(plan.Actions, a.action)
		}
	}
	return plan, nil
}

func cordonNode(ctx context.Context, scene *steps.Scene, name string) (steps.Action, bool, error) {
	node, err := scene.Client.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return steps.Action{}, false, fmt.Errorf("reading node %s: %w", name, err)
	}
	var unschedulable any
	if node.Spec.Unschedulable {
		unschedulable = true
	}
	// A node belongs to nobody's incident alone: the label of another stays.
	incident := anyOf(node.Labels, IncidentLabel)
	summary, command := "cordon node "+name, kubectl("cordon", name)
	if incident == nil {
		incident = scene.Incident
		summary, command = summary+" and label it with the incident", command+" && "+
			kubectl("label", "node", name, IncidentLabel+"="+scene.Incident)
	}
	edit, needed := change.NewEdit(cluster.Node.Named("", name, node.UID), "", node.ResourceVersion,
		change.Field{Path: []string{"spec", "unschedulable"}, Before: unschedulable, After: true},
		change.Field{Path: []string{"metadata", "labels", IncidentLabel}, Before: anyOf(node.Labels, IncidentLabel),
			After: incident})
	return steps.Action{ID: "cordon " + name, Name: StepCordon, Summary: summary, Command: command, Change: edit},
		needed, nil
}
