package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// holders are the other incidents that hold an object: what one of them needs as it
// is, to give it back in this one would take from it.
type holders map[string][]incident.ID

func (h holders) add(ref cluster.Ref, id incident.ID) {
	if key := keyOf(ref); !slices.Contains(h[key], id) {
		h[key] = append(h[key], id)
	}
}

// heldBy are what the other incidents hold of objects: by their journals, or, of one that is not on
// this machine, by what the pods that it has detached remember.
func (e *Engine) heldBy(ctx context.Context, own incident.ID, objects []cluster.Ref) holders {
	held := holders{}
	if len(objects) == 0 {
		return held
	}
	list, errs := e.Store.List(ctx)
	for _, err := range errs {
		e.Front.Observe(Event{Kind: Noticed, Text: "what this incident holds is not known: " + err.Error(), Err: err})
	}
	for _, i := range list {
		if i.ID == own || e.other(i) {
			continue
		}
		entries, err := e.Store.Entries(i.ID)
		if err != nil { // what is before a break counts
			e.Front.Observe(Event{Kind: Noticed, Text: fmt.Sprintf("incident %s may hold more than is known: %v", i.ID,
				err), Err: err})
		}
		held.byJournal(i, entries)
	}
	namespaces := map[string]bool{}
	for _, o := range objects {
		if o.Namespace != "" {
			namespaces[o.Namespace] = true
		}
	}
	for _, ns := range sorted(namespaces) {
		if err := held.byLabels(ctx, e.Client, ns, own, list); err != nil {
			e.Front.Observe(Event{Kind: Noticed,
				Text: "whether an incident of another machine holds something is not known: " + err.Error(), Err: err})
		}
	}
	return held
}

// byJournal adds what an incident holds by its journal: what stands of its containment,
// and, while it is open and not recovered from, the workloads of its suspects, which it
// may have found at zero.
func (h holders) byJournal(i incident.Incident, entries []timeline.Entry) {
	told, contained := casefile.Of(entries), false
	for _, s := range standing(told) {
		if s.phase == contain.Phase {
			contained = true
			h.add(s.change.Object, i.ID)
		}
	}
	if !contained || i.State != incident.StateOpen || !keepsDown(told) {
		return
	}
	undone := map[string]bool{}
	for _, a := range told.Actions {
		if c, ok := change.In(&a.Intent); ok && a.Undo == timeline.Undone {
			undone[keyOf(c.Object)] = true
		}
	}
	for _, t := range i.Targets {
		for _, o := range refsOf(t) {
			if !undone[keyOf(o)] {
				h.add(o, i.ID)
			}
		}
	}
}

// keepsDown tells whether an incident's containment was to take workloads down,
// and nothing was recovered since.
func keepsDown(told *casefile.Case) bool {
	recovered, ok := told.Verdicts[recovery.Phase]
	return (!ok || told.Verdicts[contain.Phase].Seq > recovered.Seq) &&
		slices.Contains(told.Meant(), contain.StepScale)
}

// byLabels adds the controllers from which incidents of other machines took pods.
func (h holders) byLabels(ctx context.Context, client *cluster.Client, namespace string, own incident.ID,
	known []incident.Incident) error {
	pods, err := client.ListPods(ctx, namespace, contain.IncidentLabel+","+contain.IncidentLabel+"!="+string(own))
	if err != nil {
		return err
	}
	for _, p := range pods {
		id := incident.ID(p.Labels[contain.IncidentLabel])
		if slices.ContainsFunc(known, func(i incident.Incident) bool { return i.ID == id }) {
			continue // its journal is the truth
		}
		h.add(cluster.Pod.Named(p.Namespace, p.Name, p.UID), id)
		m, _ := contain.MemoryOf(p.Annotations) // what can be read of it counts
		kind, name := m.Controller["kind"], m.Controller["name"]
		if name == "" {
			continue
		}
		h.add(cluster.Ref{Kind: kind, Namespace: namespace, Name: name}, id)
		if kind != cluster.ReplicaSet.Kind {
			continue
		}
		if set, err := client.Kube.AppsV1().ReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			if o := metav1.GetControllerOf(set); o != nil {
				h.add(cluster.Ref{Kind: o.Kind, Namespace: namespace, Name: o.Name}, id)
			}
		}
	}
	return nil
}

// keeps says why an object is not given back; nil: no other incident holds it, or who
// asked agrees. command is what would take it, in a shell: not every front end can ask.
func (h holders) keeps(object cluster.Ref, despite []incident.ID, command string) error {
	var ids, flags []string
	for _, id := range h[keyOf(object)] {
		if !slices.Contains(despite, id) {
			ids, flags = append(ids, string(id)), append(flags, "--despite "+string(id))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return fmt.Errorf(
		"incident %s holds %s as well (irctl status %s shows it); to take it from there all the same: %s %s",
		strings.Join(ids, " and incident "), object, ids[0], command, strings.Join(flags, " "))
}

// agreed journals, in both incidents, that what the other holds is given back.
func (e *Engine) agreed(h *incident.Handle, held holders, object cluster.Ref) error {
	own := h.Incident().ID
	for _, id := range held[keyOf(object)] {
		if err := noteOnce(h, timeline.Entry{Kind: timeline.KindObservation, Action: "despite",
			Summary: fmt.Sprintf("%s is given back although incident %s holds it, as was agreed to", object,
				id)}); err != nil {
			return err
		}
		_, err := e.Store.Append(id, e.Actor(), timeline.Entry{Kind: timeline.KindObservation, Action: "despite",
			Summary: fmt.Sprintf("%s, which this incident holds, is given back by incident %s, as was agreed to there",
				object, own)})
		if err != nil {
			e.Front.Observe(Event{Kind: Noticed, Text: fmt.Sprintf("incident %s was not told that %s is given back: %v",
				id, object, err), Err: err})
		}
	}
	return nil
}

// leave takes out of a list of actions those on what another incident holds, and
// returns a refusal for each.
func (h holders) leave(actions []steps.Action, step string, despite []incident.ID, command string) (kept []steps.Action,
	refused []steps.Refusal) {
	for _, a := range actions {
		err := h.keeps(a.Change.Object, despite, command)
		if err == nil {
			kept = append(kept, a)
			continue
		}
		refused = append(refused, steps.Refusal{ID: a.ID, Targets: a.Targets, Action: step,
			Object: a.Change.Object.String(), Reason: err.Error()})
	}
	return kept, refused
}
