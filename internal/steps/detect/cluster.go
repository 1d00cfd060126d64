package detect

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"irctl/internal/steps/contain"
)

// check is a detector that looks at a cluster.
type check struct {
	name string
	// needs are the lists without which it cannot be done.
	needs []list
	find  func(s *Snapshot, report func(Finding))
}

// checks are all there are. Those of the baseline measure pods against the
// security contexts that a team has agreed on; they are habits, not signs.
var checks = []check{
	// the baseline
	checkPrivileged, checkHostNamespaces, checkCapabilities, checkHostPath, checkRoot, checkEscalation,
	checkWritableRoot, checkImageReference, checkToken,
	checkImageDiffers, checkEphemeral, checkUnowned, checkCrashing, checkEvents, checkBindings, checkSystemWorkloads,
	checkPolicyGaps,
}

// Examine runs all detectors on a snapshot. Those that lack a list are gaps.
func (s *Snapshot) Examine(report func(Finding)) Gaps {
	var gaps Gaps
	for _, c := range checks {
		missing := slices.IndexFunc(c.needs, func(l list) bool { return s.unread[l] != nil })
		if missing >= 0 {
			err := s.unread[c.needs[missing]]
			gaps = append(gaps, Gap{Check: c.name, Text: err.Error(), err: err})
			continue
		}
		c.find(s, func(f Finding) {
			f.Source, f.Count = SourceCluster, max(f.Count, 1)
			report(f)
		})
	}
	return gaps
}

// checkPods is a check that looks at one pod after the other. Pods that have
// ended are left out: they do nothing any more.
func checkPods(name string, find func(p *corev1.Pod, report func(Finding))) check {
	return check{name: name, needs: []list{pods}, find: func(s *Snapshot, report func(Finding)) {
		for i := range s.Pods {
			if p := &s.Pods[i]; p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				find(p, report)
			}
		}
	}}
}

// container is what a container of any of the three kinds has in common.
type container struct {
	name, image string
	security    *corev1.SecurityContext
}

// containers are all of a pod, the ephemeral ones too.
func containers(p *corev1.Pod) []container {
	var list []container
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		list = append(list, container{c.Name, c.Image, c.SecurityContext})
	}
	for _, c := range p.Spec.EphemeralContainers {
		list = append(list, container{c.Name, c.Image, c.SecurityContext})
	}
	for i := range list {
		if list[i].security == nil {
			list[i].security = &corev1.SecurityContext{}
		}
	}
	return list
}

// checkContainers is a check that looks at one container after the other.
func checkContainers(name string, find func(p *corev1.Pod, c container, report func(Finding))) check {
	return checkPods(name, func(p *corev1.Pod, report func(Finding)) {
		for _, c := range containers(p) {
			find(p, c, func(f Finding) {
				f.Subject = subjectOf(p)
				f.Subject.Container = c.name
				report(f)
			})
		}
	})
}

func statuses(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses,
		p.Status.EphemeralContainerStatuses)
}

// mirror reports a static pod, which the API shows and does not control.
func mirror(p *corev1.Pod) bool {
	_, ok := p.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// incidentOf is the incident that a pod was contained in, as its label says.
func incidentOf(p *corev1.Pod) string { return p.Labels[contain.IncidentLabel] }

func set(b *bool) bool { return b != nil && *b }
