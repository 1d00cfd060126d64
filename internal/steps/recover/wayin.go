package recover

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/record"
)

// WayIn is whether a workload would run what the suspects ran: the weakness
// through which the attacker came is, as far as anybody knows, in the image.
type WayIn = record.WayIn

// WayInState says whether it is closed.
type WayInState = record.WayInState

// The states.
const (
	Closed  WayInState = "closed"
	Open    WayInState = "open"
	Unknown WayInState = "unknown"
)

// Indicators are by what the attacker's return would be known.
type Indicators record.Indicators

// SuspectPod is a suspect by its name.
type SuspectPod = record.SuspectPod

// IndicatorsOf reads them from suspects. Of one that is gone, the name is left.
func IndicatorsOf(targets []*cluster.Target) Indicators {
	var i Indicators
	for _, t := range targets {
		i.Pods = append(i.Pods, SuspectPod{Namespace: t.Pod.Namespace, Name: t.Pod.Name, UID: string(t.Pod.UID)})
		refs, digests := imagesOf(t.Pod)
		i.Digests = append(i.Digests, digests...)
		i.Images = append(i.Images, slices.Collect(maps.Values(refs))...)
	}
	return i.tidy()
}

// With adds what was recorded earlier.
func (i Indicators) With(more Indicators) Indicators {
	i.Digests, i.Images = slices.Concat(i.Digests, more.Digests), slices.Concat(i.Images, more.Images)
	for _, p := range more.Pods {
		if !slices.Contains(i.Pods, p) {
			i.Pods = append(i.Pods, p)
		}
	}
	return i.tidy()
}

// Without leaves out the images that the suspects had and that workloads go on
// with although their way in is closed: a sidecar, an init container. What is
// meant to run, perhaps in half of the cluster, tells of nobody's return.
func (i Indicators) Without(workloads []*Workload) Indicators {
	kept, replaced := map[string]bool{}, map[string]bool{}
	for _, w := range workloads {
		if w.WayIn.State != Closed && !w.partly {
			continue
		}
		now := containerImages(w.template())
		for _, t := range w.Suspects {
			refs, _ := imagesOf(t.Pod)
			for _, s := range slices.Concat(t.Pod.Status.InitContainerStatuses, t.Pod.Status.ContainerStatuses) {
				set := replaced
				if now[s.Name] == refs[s.Name] {
					set = kept
				}
				set[digestOf(s.ImageID)], set[refs[s.Name]] = true, true
			}
		}
	}
	common := func(image string) bool { return kept[image] && !replaced[image] }
	i.Digests, i.Images = slices.DeleteFunc(slices.Clone(i.Digests), common),
		slices.DeleteFunc(slices.Clone(i.Images), common)
	return i
}

func (i Indicators) tidy() Indicators {
	for _, list := range []*[]string{&i.Digests, &i.Images} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return i
}

// imagesOf are a pod's containers with their images, and the digests of those
// that run.
func imagesOf(p *corev1.Pod) (refs map[string]string, digests []string) {
	refs = map[string]string{}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		refs[c.Name] = c.Image
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if d := digestOf(s.ImageID); d != "" {
			digests = append(digests, d)
		}
	}
	return refs, digests
}

// ephemeralDigests are those of a pod's ephemeral containers, which no template
// has and anybody may have added.
func ephemeralDigests(p *corev1.Pod) (digests []string) {
	for _, s := range p.Status.EphemeralContainerStatuses {
		if d := digestOf(s.ImageID); d != "" {
			digests = append(digests, d)
		}
	}
	return digests
}

// digestOf is the digest in a reference, or in what a node calls an image; ""
// where there is none. A node that did not pull an image knows it by the digest
// of its configuration alone, which no reference names.
func digestOf(ref string) string {
	if _, digest, ok := strings.Cut(ref, "@"); ok {
		ref = digest
	}
	if len(ref) == len("sha256:")+64 && strings.HasPrefix(ref, "sha256:") {
		return ref
	}
	return ""
}

// pulled: a node's name of an image holds the digest by which it was pulled.
func pulled(imageID string) bool { return strings.Contains(imageID, "@") }

// Judge fills in the way in of every workload. imaged are the changes of images
// that stand, by workload: where nothing is left of the suspects, they tell.
func Judge(workloads []*Workload, imaged map[types.UID]change.Change) {
	for _, w := range workloads {
		w.WayIn = w.wayIn(imaged)
		w.WayIn.Workload = w.Ref.String()
	}
}

func (w *Workload) wayIn(imaged map[types.UID]change.Change) WayIn {
	spec := w.template()
	if spec == nil {
		return WayIn{State: Unknown, Text: fmt.Sprintf("irctl cannot see which image %s runs", w.Ref)}
	}
	now := containerImages(spec)
	in := WayIn{State: Closed}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		in.Images = append(in.Images, name+"="+now[name])
	}
	first := endFirst(spec)
	known, same, changed := w.compare(now, first)
	w.partly = len(same) > 0 && len(changed) > 0
	switch c, ok := imaged[w.UID]; {
	case known && len(changed) == 0:
		in.State, in.Text = Open, fmt.Sprintf("%s still has the suspect's image (%s)", w.Ref, strings.Join(same, ", "))
	case w.partly:
		in.State, in.Text = Open, fmt.Sprintf("%s has another image for %s, and still the suspect's for %s: which of "+
			"them let the attacker in is not known",
			w.Ref, strings.Join(changed, ", "), strings.Join(same, ", "))
	case known:
		in.Text = fmt.Sprintf("%s has another image than the suspect", w.Ref)
	case ok && stands(c, w):
		if same := unchangedBy(c, now, first); len(same) > 0 {
			in.State, in.Text = Open, fmt.Sprintf(
				"the image of %s was changed since the containment, but not that of %s", w.Ref,
				strings.Join(same, ", "))
			break
		}
		in.Text = fmt.Sprintf("the image of %s was changed since the containment", w.Ref)
	default:
		in.State, in.Text = Unknown, fmt.Sprintf(
			"which image %s ran is not known any more, and no change of it is in the journal", w.Ref)
	}
	return in
}

// compare says which containers of a template have an image that a suspect ran,
// in whichever of its containers, and which another. An attacker who came by one
// container, a sidecar or one that was added later comes by it again. An init
// container that ends first closes no way in by another image, and leaves one open
// only with the image of a container that runs.
func (w *Workload) compare(now map[string]string, first map[string]bool) (known bool, same, changed []string) {
	var refs, digests, running []string
	for _, t := range w.Suspects {
		r, d := w.origin(t)
		refs, digests = append(refs, slices.Collect(maps.Values(r))...), append(digests, d...)
		known = known || len(r) > 0
		for name, ref := range r {
			if !first[name] {
				running = append(running, ref)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		switch ref := now[name]; {
		case !known, first[name] && !slices.Contains(running, ref):
		case slices.Contains(refs, ref), digestOf(ref) != "" && slices.Contains(digests, digestOf(ref)):
			same = append(same, name+"="+ref)
		default:
			changed = append(changed, name)
		}
	}
	return known && len(now) > 0, same, changed
}

// endFirst are the init containers of a pod's spec that have ended before the
// others start.
func endFirst(spec map[string]any) map[string]bool {
	first := map[string]bool{}
	cluster.EachContainer(spec, func(part string, c map[string]any) {
		if name, _ := c["name"].(string); cluster.EndsFirst(part, c) {
			first[name] = true
		}
	})
	return first
}

// unchangedBy are the containers that run, and whose image a change has left as
// it was.
func unchangedBy(c change.Change, now map[string]string, first map[string]bool) []string {
	was := maps.Clone(now)
	for _, f := range c.Fields {
		list, _ := f.Before.([]any)
		if n := len(f.Path); n == 0 || !slices.Contains(cluster.ContainerParts, f.Path[n-1]) {
			continue
		}
		for _, raw := range list {
			container, _ := raw.(map[string]any)
			name, _ := container["name"].(string)
			was[name], _ = container["image"].(string)
		}
	}
	var same []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if was[name] == now[name] && !first[name] {
			same = append(same, name+"="+now[name])
		}
	}
	return same
}

func compact(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// stands: the workload is as the change left it.
func stands(c change.Change, w *Workload) bool { return c.StateOf(w.Object) == change.After }

// origin is what a suspect ran: as the pod says, else the template from which
// its own controller made it, if that cannot have been changed since.
func (w *Workload) origin(t *cluster.Target) (refs map[string]string, digests []string) {
	if Alive(t) {
		refs, digests = imagesOf(t.Pod)
		return refs, append(digests, ephemeralDigests(t.Pod)...)
	}
	if len(t.Owners) == 0 || t.Owners[0].Object == nil || t.Owners[0].UID == w.UID || t.Owners[0].Custom {
		return nil, nil
	}
	if k := t.Owners[0].Kind; k != cluster.ReplicaSet.Kind && k != cluster.Job.Kind {
		return nil, nil
	}
	return containerImages((&Workload{Owner: t.Owners[0]}).template()), nil
}

func containerImages(spec map[string]any) map[string]string {
	images := map[string]string{}
	cluster.EachContainer(spec, func(_ string, c map[string]any) {
		name, _ := c["name"].(string)
		images[name], _ = c["image"].(string)
	})
	return images
}
