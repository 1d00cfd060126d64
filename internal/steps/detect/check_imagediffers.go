package detect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// checkImageDiffers finds pods that run another image than their siblings:
// those of the same controller and the same revision, which were made from one
// template. The image of a running pod can be changed, and a tag can be moved.
var checkImageDiffers = check{name: "image-differs", needs: []list{pods},
	find: func(s *Snapshot, report func(Finding)) {
		siblings := map[string][]*corev1.Pod{}
		for i := range s.Pods {
			p := &s.Pods[i]
			if owner := metav1.GetControllerOf(p); owner != nil {
				key := string(owner.UID) + " " + p.Labels["controller-revision-hash"]
				siblings[key] = append(siblings[key], p)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(siblings)) {
			compareSiblings(siblings[key], report)
		}
	}}

// running is an image that a container of a pod runs.
type running struct {
	pod       *corev1.Pod
	reference string // as the pod has it
	digest    string // as the node reports it
	manifest  bool   // the digest is that of the registry, not of a local image
}

func compareSiblings(list []*corev1.Pod, report func(Finding)) {
	if len(list) < 2 {
		return
	}
	byContainer := map[string][]running{}
	for _, p := range list {
		references := map[string]string{}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			references[c.Name] = c.Image
		}
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			r := running{pod: p, reference: references[c.Name]}
			r.digest, r.manifest = digestOf(c.ImageID)
			byContainer[c.Name] = append(byContainer[c.Name], r)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byContainer)) {
		for _, odd := range oddOnes(byContainer[name]) {
			f := Finding{Code: "image-differs", Score: 78, Technique: implantImage, Subject: subjectOf(odd.pod),
				Object: odd.reference,
				Reason: fmt.Sprintf("container %s runs %s (%s), its siblings of the same revision do not", name,
					odd.reference, short(odd.digest))}
			if !odd.manifest {
				// A node that has the image from elsewhere reports another
				// kind of digest, for the same image too.
				f.Score, f.Reason = 56, f.Reason+"; it was not pulled from a registry"
			}
			f.Subject.Container = name
			report(f)
		}
	}
}

// oddOnes are those that run another image than most. Where there is no
// majority the oldest pod is taken for what was meant: it was there before.
func oddOnes(list []running) []running {
	votes := map[[2]string]int{}
	known := list[:0:0]
	for _, r := range list {
		if r.digest != "" || r.reference != "" {
			known = append(known, r)
			votes[r.image()]++
		}
	}
	if len(votes) < 2 {
		return nil
	}
	usual := slices.MaxFunc(known, func(a, b running) int {
		return cmp.Or(cmp.Compare(votes[a.image()], votes[b.image()]),
			b.pod.CreationTimestamp.Compare(a.pod.CreationTimestamp.Time), cmp.Compare(b.pod.Name, a.pod.Name))
	}).image()
	return slices.DeleteFunc(known, func(r running) bool { return same(r.image(), usual) })
}

func (r running) image() [2]string { return [2]string{r.reference, r.digest} }

// same: a digest that is not reported yet differs from none.
func same(a, b [2]string) bool {
	return a[0] == b[0] && (a[1] == b[1] || a[1] == "" || b[1] == "")
}

// digestOf takes the digest from what a runtime reports as an image's ID:
// "registry/name@sha256:…", with a scheme before it from Docker, or the digest
// of the image's configuration alone, if it did not come from a registry.
func digestOf(imageID string) (digest string, manifest bool) {
	if _, after, ok := strings.Cut(imageID, "@"); ok {
		return after, true
	}
	return imageID[strings.LastIndex(imageID, "/")+1:], false
}

// short is a digest as people compare it.
func short(digest string) string {
	if digest == "" {
		return "digest unknown"
	}
	return cut(digest, len("sha256:")+12)
}
