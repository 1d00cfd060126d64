package recover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
)

// Hit is a sign that the attacker is back, or that something was opened for
// them; or, of Sight.Exposed, what would be one if it were new.
type Hit = record.Hit

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
	// Baseline is what ran when the first watch of the incident began; of none
	// that was recorded, Begin makes one.
	Baseline *Baseline

	untold map[string]bool // the namespaces of which it was said that nothing can be told
}

// Sight is what there is to see at one look.
type Sight struct {
	Hits []Hit
	// Exposed are pods that have run the suspects' image, or had a suspect's name,
	// since before the watch began. They are no signs.
	Exposed []Hit
	// Gaps are what could not be read, or told.
	Gaps []cluster.Gap
	// Pods: the pods of the incident's namespaces, all or some, were read.
	Pods bool
	// Grown: pods of further namespaces could be listed, so that the baseline has
	// changed.
	Grown bool
}

// podList are the pods of all namespaces, or of some.
type podList struct {
	pods       []corev1.Pod
	all        bool
	namespaces []string
}

// Begin makes the baseline, unless there is one already.
func (w *Watched) Begin(ctx context.Context) []cluster.Gap {
	if w.Baseline != nil {
		return nil
	}
	w.Baseline = &Baseline{Baseline: record.Baseline{At: w.Since.UTC(), Clock: ClockLocal,
		Digests: w.Indicators.Digests}}
	list, gaps := w.pods(ctx)
	if offset, known := w.Client.ClockOffset(); known {
		w.Baseline.At, w.Baseline.Clock = w.Baseline.At.Add(offset), ClockServer
	}
	w.Baseline.extend(list, true)
	return gaps
}

// Look reads what there is to see now.
func (w *Watched) Look(ctx context.Context) Sight {
	list, gaps := w.pods(ctx)
	s := w.see(list)
	reverted, more := w.reverted(ctx)
	s.Hits, s.Gaps = append(s.Hits, reverted...), slices.Concat(gaps, s.Gaps, more)
	return s
}

// see judges the pods that were listed.
func (w *Watched) see(list podList) Sight {
	s := Sight{Pods: list.all || len(list.namespaces) > 0}
	s.Grown = w.Baseline.extend(list, false)
	suspects := map[string]bool{}
	for _, p := range w.Indicators.Pods {
		suspects[p.UID] = true
	}
	for i := range list.pods {
		p := &list.pods[i]
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if suspects[string(p.UID)] {
			s.Hits = append(s.Hits, w.released(p)...)
			continue
		}
		w.image(p, &s)
		w.name(p, &s)
	}
	return s
}

// pods are those of the whole cluster, or else of the incident's namespaces.
func (w *Watched) pods(ctx context.Context) (list podList, gaps []cluster.Gap) {
	all, err := w.Client.ListPods(ctx, metav1.NamespaceAll, "")
	if err == nil {
		return podList{pods: all, all: true}, nil
	}
	if !apierrors.IsForbidden(err) {
		return list, []cluster.Gap{{What: "looking at the pods", Err: err}}
	}
	gaps = append(gaps, cluster.Gap{What: "looking for the suspects' image in other namespaces", Err: err})
	for _, ns := range w.Namespaces {
		pods, err := w.Client.ListPods(ctx, ns, "")
		if err != nil {
			gaps = append(gaps, cluster.Gap{What: "looking at the pods", Err: err})
			continue
		}
		list.pods, list.namespaces = append(list.pods, pods...), append(list.namespaces, ns)
	}
	return list, gaps
}

func hitOf(code string, p *corev1.Pod, format string, args ...any) Hit {
	return Hit{Code: code, Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID),
		Object: cluster.Pod.Named(p.Namespace, p.Name, "").String(), Text: fmt.Sprintf(format, args...)}
}

// Marked: a pod carries the labels by which the incident's quarantine selects.
func (w *Watched) Marked(p *corev1.Pod) bool {
	return p.Labels[contain.QuarantineLabel] == contain.QuarantineValue && p.Labels[contain.IncidentLabel] == w.Incident
}

// released: a suspect that was cut off is not any more. One that the incident
// never cut off, or let go itself, is none.
func (w *Watched) released(p *corev1.Pod) []Hit {
	cut := slices.ContainsFunc(w.Standing, func(r Recorded) bool {
		return r.Step == contain.StepDetach && r.Change.Object.UID == p.UID
	})
	if p.DeletionTimestamp != nil || !cut {
		return nil
	}
	if !w.Marked(p) {
		return []Hit{hitOf(HitReleased, p, "the suspect %s/%s has lost the labels by which the quarantine selects it",
			p.Namespace, p.Name)}
	}
	return nil
}

// image: a pod runs the suspects' image. That is a sign only of what began to
// since the watch began.
func (w *Watched) image(p *corev1.Pod, s *Sight) {
	digests, _ := digestsOf(p)
	slices.Sort(digests)
	n := slices.IndexFunc(digests, func(d string) bool { return slices.Contains(w.Indicators.Digests, d) })
	if w.SameImage || n < 0 {
		return
	}
	d := digests[n]
	switch tenure := w.Baseline.TenureOf(p); {
	case tenure == Came:
		s.Hits = append(s.Hits, hitOf(HitImage, p, "pod %s/%s runs the suspects' image %s", p.Namespace, p.Name, d))
	case tenure == Untold:
		w.cannotTell(p, s)
	case tenure == Stayed && slices.Contains(w.Baseline.Digests, d):
		s.Hits = append(s.Hits, hitOf(HitImage, p,
			"pod %s/%s runs the suspects' image %s, which it did not when the watch began",
			p.Namespace, p.Name, d))
	case p.DeletionTimestamp == nil:
		s.Exposed = append(s.Exposed, hitOf(HitImage, p,
			"pod %s/%s has run the suspects' image %s since before the watch began",
			p.Namespace, p.Name, d))
	}
}

// cannotTell says, once for a namespace, that its pods are neither signs nor not.
func (w *Watched) cannotTell(p *corev1.Pod, s *Sight) {
	if w.untold == nil {
		w.untold = map[string]bool{}
	}
	if w.untold[p.Namespace] {
		return
	}
	w.untold[p.Namespace] = true
	s.Gaps = append(s.Gaps, cluster.Gap{
		What: fmt.Sprintf(
			"telling whether pods of namespace %s that look like the suspects, such as %s, are newer than the watch",
			p.Namespace, p.Name),
		Err: errors.New("they are not among the pods that were listed when it began, and not all could be"),
	})
}

// name: of a pod that a StatefulSet makes, the name comes again by itself.
func (w *Watched) name(p *corev1.Pod, s *Sight) {
	known := slices.ContainsFunc(w.Indicators.Pods, func(s SuspectPod) bool {
		return s.Namespace == p.Namespace && s.Name == p.Name
	})
	if !known {
		return
	}
	if o := metav1.GetControllerOf(p); o != nil && o.Kind == cluster.StatefulSet.Kind {
		return
	}
	switch w.Baseline.TenureOf(p) {
	case Came:
		s.Hits = append(s.Hits, hitOf(HitName, p, "a pod with the name of a suspect runs: %s/%s", p.Namespace, p.Name))
	case Untold:
		w.cannotTell(p, s)
	default:
		s.Exposed = append(s.Exposed, hitOf(HitName, p,
			"pod %s/%s has run under the name of a suspect since before the watch began",
			p.Namespace, p.Name))
	}
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
