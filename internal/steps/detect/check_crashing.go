package detect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// checkCrashing finds containers that were restarted, or are again and again.
// Either is an operator's everyday life, and what an exploit that fails looks like.
var checkCrashing = checkPods("crashing", func(p *corev1.Pod, report func(Finding)) {
	for _, c := range statuses(p) {
		if c.RestartCount == 0 {
			continue
		}
		f := Finding{Code: "restarted", Score: 10, Technique: endpointDoS, Subject: subjectOf(p),
			Count:  int64(c.RestartCount),
			Reason: fmt.Sprintf("container %s was restarted %d times", c.Name, c.RestartCount)}
		if c.RestartCount == 1 {
			f.Reason = "container " + c.Name + " was restarted"
		}
		if w := c.State.Waiting; w != nil && w.Reason == "CrashLoopBackOff" {
			f.Code, f.Score, f.Reason = "crash-loop", 26, f.Reason+" and crashes again and again"
		}
		if t := c.LastTerminationState.Terminated; t != nil {
			f.FirstSeen = t.FinishedAt.Time
			f.Reason += fmt.Sprintf(", last with %s (exit code %d)", t.Reason, t.ExitCode)
		}
		f.Subject.Container = c.Name
		report(f)
	}
})
