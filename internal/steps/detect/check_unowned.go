package detect

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// checkUnowned finds pods that no controller made. Those that irctl detached
// had one.
var checkUnowned = check{name: "unowned", needs: []list{pods}, find: func(s *Snapshot, report func(Finding)) {
	for i := range s.Pods {
		p := &s.Pods[i]
		if metav1.GetControllerOf(p) != nil || mirror(p) || incidentOf(p) != "" {
			continue
		}
		f := Finding{Code: "unowned", Score: 28, Technique: deployContainer, Subject: subjectOf(p),
			Reason: "no controller made it: somebody started it by hand"}
		if created := p.CreationTimestamp.Time; !created.Before(s.Since) {
			f.Score, f.FirstSeen = 42, created
			f.Reason += ", lately"
		}
		report(f)
	}
}}
