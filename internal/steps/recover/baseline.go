package recover

import (
	"slices"
	"time"

	"irctl/internal/record"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Baseline is what ran when the watch of an incident began. A pod that ran
// already then is no sign of a return, whatever it runs. Pods are known by their
// UIDs, since the clocks of machines differ. It is journaled, so that a watch
// that is started again does not take for old what came up in between.
type Baseline struct {
	record.Baseline
	tenures map[types.UID]Tenure
}

// The clocks by which a Baseline's time can be.
const (
	ClockServer = "server"
	ClockLocal  = "local"
)

// Tenure is since when a pod has been there, with regard to a Baseline.
type Tenure string

// The tenures.
const (
	Came    Tenure = "came"    // created since
	Exposed Tenure = "exposed" // it was there, and ran the suspects' image, as far as could be told
	Stayed  Tenure = "stayed"  // it was there, and ran other images
	Untold  Tenure = "untold"  // that is not known
)

// maxBaseline is how many pods are recorded: their UIDs take 400 KB then.
const maxBaseline = 10_000

// clockBlur is how far a pod's time of creation and the Baseline's may be off:
// both are in whole seconds, perhaps of two API servers.
const clockBlur = 2 * time.Second

// covers: the pods of the namespace could be listed.
func (b *Baseline) covers(namespace string) bool {
	return b.All || slices.Contains(b.Namespaces, namespace)
}

// TenureOf says since when a pod has been there.
func (b *Baseline) TenureOf(p *corev1.Pod) Tenure {
	if b.tenures == nil {
		b.index()
	}
	t, known := b.tenures[p.UID]
	switch {
	case known:
		return t
	case !b.covers(p.Namespace):
		return Untold
	case !b.Cut:
		return Came
	}
	// Of a pod that was not recorded for want of room, only the clock tells. What
	// it ran when the watch began is not known, so that it gets the benefit.
	since := p.CreationTimestamp.Sub(b.At)
	switch {
	case b.Clock != ClockServer || p.CreationTimestamp.IsZero() || since.Abs() <= clockBlur:
		return Untold
	case since > 0:
		return Came
	}
	return Exposed
}

func (b *Baseline) index() {
	b.tenures = map[types.UID]Tenure{}
	for tenure, list := range map[Tenure][]string{Exposed: b.Exposed, Stayed: b.Others, Untold: b.Untold} {
		for _, uid := range list {
			b.tenures[types.UID(uid)] = tenure
		}
	}
}

// extend takes in what was listed of namespaces that are not covered yet, and
// reports whether there were any. first: it is the list with which the watch
// begins; of pods that are listed for the first time later nothing is known.
func (b *Baseline) extend(l podList, first bool) bool {
	if b.All || !l.all && !slices.ContainsFunc(l.namespaces, func(ns string) bool { return !b.covers(ns) }) {
		return false
	}
	if b.tenures == nil {
		b.index()
	}
	for i := range l.pods {
		p := &l.pods[i]
		if _, known := b.tenures[p.UID]; known || b.covers(p.Namespace) {
			continue
		}
		switch digests, all := digestsOf(p); {
		case !first:
			b.tenures[p.UID], b.Untold = Untold, append(b.Untold, string(p.UID))
		case !all || slices.ContainsFunc(digests, func(d string) bool { return slices.Contains(b.Digests, d) }):
			b.tenures[p.UID], b.Exposed = Exposed, append(b.Exposed, string(p.UID))
		default:
			b.tenures[p.UID], b.Others = Stayed, append(b.Others, string(p.UID))
		}
	}
	b.All = l.all
	if l.all {
		b.Namespaces = nil
		return true
	}
	b.Namespaces = slices.Concat(b.Namespaces, l.namespaces)
	slices.Sort(b.Namespaces)
	b.Namespaces = slices.Compact(b.Namespaces)
	return true
}

// Recorded is the baseline as a journal can hold it.
func (b *Baseline) Recorded() *record.Baseline {
	r := b.Baseline
	left := maxBaseline
	for _, list := range []*[]string{&r.Exposed, &r.Untold, &r.Others} {
		if len(*list) > left {
			*list, r.Cut = (*list)[:left], true
		}
		left -= len(*list)
	}
	return &r
}

// digestsOf are those of all images that a pod runs, also of one that is named
// by its digest and not pulled yet; all: of every container it is known.
func digestsOf(p *corev1.Pod) (digests []string, all bool) {
	running := map[string]string{}
	st := p.Status
	for _, s := range slices.Concat(st.InitContainerStatuses, st.ContainerStatuses, st.EphemeralContainerStatuses) {
		running[s.Name] = digestOf(s.ImageID)
	}
	all = true
	add := func(name, ref string) {
		d := running[name]
		if d != "" {
			digests = append(digests, d)
		}
		if named := digestOf(ref); named != "" {
			digests, d = append(digests, named), named
		}
		all = all && d != ""
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		add(c.Name, c.Image)
	}
	for _, c := range p.Spec.EphemeralContainers {
		add(c.Name, c.Image)
	}
	return digests, all
}
