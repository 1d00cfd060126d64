package engine

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/record"
	"irctl/internal/rotate"
	"irctl/internal/timeline"
)

// Made is something that irctl put into the cluster and does not take away: what a
// rotation created in the place of what leaked, and what a collection left. Its
// JSON form is documented and stable.
type Made struct {
	Seq int64 `json:"seq"` // of the entry in the timeline that tells of it
	// Kind is that of the object, "ephemeral-container" or "checkpoint".
	Kind   string `json:"kind"`
	Object string `json:"object"`
	// Text says what becomes of it.
	Text string `json:"text"`
	// State: "after" it is there; "missing" it is gone; "unknown".
	State change.State `json:"state"`
	Error string       `json:"error,omitempty"`
	// Accepted is who agreed to it, and to what.
	Accepted *record.Accepted `json:"accepted"`

	ref   cluster.Ref
	was   types.UID // of the object whose place it takes, under the same name
	trace record.Trace
}

// madeBy are, by an incident's journal, the things that irctl made and that are no
// changes that it could undo. Nobody has looked at them yet.
func madeBy(told *casefile.Case) []Made {
	list := []Made{}
	for _, a := range told.Actions {
		r, ok := timeline.Payload[record.Rotation](&a.Intent)
		if !ok || a.Outcome != nil && (a.Outcome.Outcome == timeline.OutcomeRefused ||
			a.Outcome.Outcome == timeline.OutcomeSkipped) {
			continue
		}
		accepted := &record.Accepted{By: a.Intent.Actor.Name(), At: a.Intent.Time, Reason: a.Intent.Summary}
		for _, ref := range rotate.Creates(*r) {
			m := Made{Seq: a.Intent.Seq, Kind: ref.Kind, Object: ref.String(), Text: "made by eradication, and in use",
				State: stateUnknown, Accepted: accepted, ref: ref}
			if ref.Kind == rotate.AccountRef.Kind {
				m.was = types.UID(r.AccountUID)
			}
			// An object that was made anew twice is one.
			list = append(slices.DeleteFunc(list, func(known Made) bool { return known.ref == ref }), m)
		}
	}
	for _, t := range told.Traces {
		if t.Outcome == timeline.OutcomeDenied {
			continue
		}
		m := Made{Seq: t.Seq, Kind: string(t.Kind), Object: t.What, State: stateUnknown, trace: t.Trace,
			Text:     "nobody can take it back",
			Accepted: &record.Accepted{By: t.Who.Name(), At: t.Time, Reason: "collected for the investigation"}}
		switch t.Kind {
		case record.EphemeralContainer:
			m.Object = fmt.Sprintf("ephemeral container %s of pod %s/%s", t.Container, t.Namespace, t.Pod)
			m.Text = "it goes when the pod goes"
		case record.Checkpoint:
			m.Object = fmt.Sprintf("checkpoint of container %s of pod %s/%s on node %s", t.Container, t.Namespace,
				t.Pod, t.Node)
			m.Text = "it lies in /var/lib/kubelet/checkpoints until somebody deletes it there; irctl cannot look"
			if t.Outcome != timeline.OutcomeDone {
				m.Text = "it may lie in /var/lib/kubelet/checkpoints, since nobody knows what came of the call; " +
					"irctl cannot look"
			}
		}
		list = append(list, m)
	}
	return list
}

// observe looks whether it is there.
func (m *Made) observe(ctx context.Context, client *cluster.Client) {
	var err error
	switch {
	case m.ref.Name != "":
		var live *metav1.PartialObjectMetadata
		if live, err = client.GetMetadata(ctx, m.ref); err == nil {
			m.State = change.After
			if m.was != "" && live.UID == m.was {
				m.State = change.Missing // it was not made anew yet
			}
		}
	case m.trace.Kind == record.EphemeralContainer:
		err = m.observeContainer(ctx, client)
	default:
		return
	}
	switch {
	case apierrors.IsNotFound(err):
		m.State = change.Missing
	case err != nil:
		m.State, m.Error = stateUnknown, err.Error()
	}
}

func (m *Made) observeContainer(ctx context.Context, client *cluster.Client) error {
	pod, err := client.Kube.CoreV1().Pods(m.trace.Namespace).Get(ctx, m.trace.Pod, metav1.GetOptions{})
	if err != nil {
		return err
	}
	is := func(c corev1.EphemeralContainer) bool { return c.Name == m.trace.Container }
	if m.trace.UID != "" && string(pod.UID) != m.trace.UID || !slices.ContainsFunc(pod.Spec.EphemeralContainers, is) {
		m.State = change.Missing
		return nil
	}
	m.State = change.After
	for _, s := range pod.Status.EphemeralContainerStatuses {
		if s.Name == m.trace.Container && s.State.Running != nil {
			m.Text = "it runs, ends by itself after some minutes, and goes when the pod goes"
		}
	}
	return nil
}

// lookAt looks at what irctl made, and leaves out what is gone.
func (e *Engine) lookAt(ctx context.Context, list []Made) []Made {
	cluster.Parallel(len(list), func(n int) { list[n].observe(ctx, e.Client) })
	return slices.DeleteFunc(list, func(m Made) bool { return m.State == change.Missing })
}
