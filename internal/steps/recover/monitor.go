package recover

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
)

// Hit is a sign that the attacker is back, or that something was opened for them.
type Hit struct {
	// Code is stable, for scripts: image, name, released, reverted, detected, alert.
	Code      string `json:"code"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	UID       string `json:"uid,omitempty"`
	Object    string `json:"object,omitempty"`
	Text      string `json:"text"`
}

// The codes of hits.
const (
	HitImage    = "image"    // the suspects' image runs again
	HitName     = "name"     // a pod has the name of a suspect
	HitReleased = "released" // a suspect is not cut off any more
	HitReverted = "reverted" // somebody took back what the incident changed
	HitDetected = "detected" // a new pod shows a sign of an attack
	HitAlert    = "alert"    // an alert came
)

// Watched is what to look for.
type Watched struct {
	Client     *cluster.Client
	Incident   string
	Namespaces []string
	Indicators Indicators
	// SameImage: the suspects' image runs by decision, so it tells nothing.
	SameImage bool
	// Standing are the changes of the incident that somebody could take back.
	Standing []Recorded
	// Workloads are known by their UIDs.
	Workloads []*Workload
	// Since is when the watch began.
	Since time.Time
}

// Look reads what there is to see now. What could not be read is in gaps.
func (w *Watched) Look(ctx context.Context) (hits []Hit, gaps []cluster.Gap) {
	pods, gap := w.pods(ctx)
	if gap != nil {
		gaps = append(gaps, *gap)
	}
	suspects := map[string]bool{}
	for _, p := range w.Indicators.Pods {
		suspects[p.UID] = true
	}
	for i := range pods {
		p := &pods[i]
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if suspects[string(p.UID)] {
			hits = append(hits, w.released(p)...)
			continue
		}
		hits = append(hits, w.image(p)...)
		hits = append(hits, w.name(p)...)
	}
	reverted, more := w.reverted(ctx)
	return append(hits, reverted...), append(gaps, more...)
}

// pods are those of the whole cluster, or else of the incident's namespaces.
func (w *Watched) pods(ctx context.Context) ([]corev1.Pod, *cluster.Gap) {
	all, err := w.Client.ListPods(ctx, metav1.NamespaceAll, "")
	if err == nil {
		return all, nil
	}
	if !apierrors.IsForbidden(err) {
		return nil, &cluster.Gap{What: "looking at the pods", Err: err}
	}
	gap := &cluster.Gap{What: "looking for the suspects' image in other namespaces", Err: err}
	for _, ns := range w.Namespaces {
		pods, err := w.Client.ListPods(ctx, ns, "")
		if err != nil {
			return all, &cluster.Gap{What: "looking at the pods", Err: err}
		}
		all = append(all, pods...)
	}
	return all, gap
}

func hitOf(code string, p *corev1.Pod, format string, args ...any) Hit {
	return Hit{Code: code, Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID), Object: cluster.Pod.Named(p.Namespace, p.Name, "").String(), Text: fmt.Sprintf(format, args...)}
}

// released: a suspect that was cut off is not any more.
func (w *Watched) released(p *corev1.Pod) []Hit {
	if p.DeletionTimestamp != nil {
		return nil
	}
	if p.Labels[contain.QuarantineLabel] != contain.QuarantineValue || p.Labels[contain.IncidentLabel] != w.Incident {
		return []Hit{hitOf(HitReleased, p, "the suspect %s/%s has lost the labels by which the quarantine selects it", p.Namespace, p.Name)}
	}
	return nil
}

func (w *Watched) image(p *corev1.Pod) []Hit {
	if w.SameImage {
		return nil
	}
	refs, digests := imagesOf(p)
	for _, s := range p.Status.EphemeralContainerStatuses {
		digests = append(digests, digestOf(s.ImageID))
	}
	for _, ref := range refs {
		digests = append(digests, digestOf(ref)) // before it is pulled
	}
	slices.Sort(digests)
	for _, d := range digests {
		if d != "" && slices.Contains(w.Indicators.Digests, d) {
			return []Hit{hitOf(HitImage, p, "pod %s/%s runs the suspects' image %s", p.Namespace, p.Name, d)}
		}
	}
	return nil
}

// name: of a pod that a StatefulSet makes, the name comes again by itself.
func (w *Watched) name(p *corev1.Pod) []Hit {
	known := slices.ContainsFunc(w.Indicators.Pods, func(s SuspectPod) bool { return s.Namespace == p.Namespace && s.Name == p.Name })
	if !known {
		return nil
	}
	if o := metav1.GetControllerOf(p); o != nil && o.Kind == cluster.StatefulSet.Kind {
		return nil
	}
	return []Hit{hitOf(HitName, p, "a pod with the name of a suspect runs: %s/%s", p.Namespace, p.Name)}
}

// reverted: a change of the incident does not stand any more.
func (w *Watched) reverted(ctx context.Context) ([]Hit, []cluster.Gap) {
	hits, gaps := make([]*Hit, len(w.Standing)), make([]*cluster.Gap, len(w.Standing))
	cluster.Parallel(len(w.Standing), func(i int) {
		r := w.Standing[i]
		state, err := r.Change.Observe(ctx, w.Client.Dynamic)
		object := r.Change.Object
		hit := Hit{Code: HitReverted, Namespace: object.Namespace, Object: object.String()}
		switch {
		case err != nil:
			gaps[i] = &cluster.Gap{What: "looking at " + object.String(), Err: err}
			return
		case state == change.After, state == change.Missing && object.Kind == cluster.Pod.Kind:
			return // as it was left; or the suspect is gone, with all that it could do
		case state == change.Missing, r.Change.IsCreate() && state == change.Before:
			hit.Text = object.String() + " was deleted"
		case state == change.Before:
			hit.Text = "somebody took it back: " + r.Summary
		default:
			hit.Text = object.String() + " was changed by somebody since: " + r.Summary
		}
		hits[i] = &hit
	})
	var found []Hit
	for _, h := range hits {
		if h != nil {
			found = append(found, *h)
		}
	}
	var missing []cluster.Gap
	for _, g := range gaps {
		if g != nil {
			missing = append(missing, *g)
		}
	}
	return found, missing
}

// Finding is the hit that a finding of the detectors is; ok is false if it is
// none: of the cluster, only a sign on a pod of the incident's workloads that is
// no suspect; of alerts, those of severity high and worse in the incident's
// namespaces. What is about the suspects that are kept is no news.
func (w *Watched) Finding(f detect.Finding) (Hit, bool) {
	s := f.Subject
	suspect := slices.ContainsFunc(w.Indicators.Pods, func(p SuspectPod) bool {
		return p.UID == s.PodUID || s.PodUID == "" && p.Namespace == s.Namespace && p.Name == s.Pod
	})
	if suspect || !slices.Contains(w.Namespaces, s.Namespace) {
		return Hit{}, false
	}
	hit := Hit{Code: HitDetected, Namespace: s.Namespace, Pod: s.Pod, UID: s.PodUID, Object: s.Namespace + "/" + s.Pod,
		Text: fmt.Sprintf("%s (%s): %s", f.Code, f.Severity, f.Reason)}
	if f.Source != detect.SourceCluster {
		hit.Code = HitAlert
		late := !f.LastSeen.IsZero() && f.LastSeen.Before(w.Since)
		return hit, f.Score.AtLeastHigh() && !late
	}
	if !f.Score.Sign() || s.Pod == "" {
		return Hit{}, false
	}
	return hit, slices.ContainsFunc(w.Workloads, func(o *Workload) bool {
		return o.Namespace == s.Namespace && strings.EqualFold(o.Kind+"/"+o.Name, s.Workload)
	})
}
