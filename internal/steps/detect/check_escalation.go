package detect

import corev1 "k8s.io/api/core/v1"

// checkEscalation finds containers whose processes may gain rights they were
// not started with. That is the default.
var checkEscalation = checkContainers("privilege-escalation", func(_ *corev1.Pod, c container, report func(Finding)) {
	if c.security.AllowPrivilegeEscalation == nil || *c.security.AllowPrivilegeEscalation {
		report(Finding{Code: "privilege-escalation", Score: 6, Technique: exploitEscalate, Reason: "container " +
			c.name + " may gain privileges: allowPrivilegeEscalation is not false"})
	}
})
