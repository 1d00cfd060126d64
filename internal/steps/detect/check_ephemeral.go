package detect

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// checkEphemeral finds containers that were added to running pods.
var checkEphemeral = checkPods("ephemeral-container", func(p *corev1.Pod, report func(Finding)) {
	for _, c := range p.Spec.EphemeralContainers {
		f := Finding{Code: "ephemeral-container", Score: 50, Technique: deployContainer, Subject: subjectOf(p),
			Object: c.Image,
			Reason: "ephemeral container " + c.Name + " (" + c.Image + ") was added to it"}
		f.Subject.Container = c.Name
		f.FirstSeen = startedAt(p.Status.EphemeralContainerStatuses, c.Name)
		report(f)
	}
})

func startedAt(list []corev1.ContainerStatus, name string) time.Time {
	for _, s := range list {
		switch {
		case s.Name != name:
		case s.State.Running != nil:
			return s.State.Running.StartedAt.Time
		case s.State.Terminated != nil:
			return s.State.Terminated.StartedAt.Time
		}
	}
	return time.Time{}
}
