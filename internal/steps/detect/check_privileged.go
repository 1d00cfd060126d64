package detect

import corev1 "k8s.io/api/core/v1"

// checkPrivileged finds containers that are the node's root for all purposes.
var checkPrivileged = checkContainers("privileged", func(_ *corev1.Pod, c container, report func(Finding)) {
	if set(c.security.Privileged) {
		report(Finding{Code: "privileged", Score: 36, Technique: escapeToHost, Reason: "container " + c.name +
			" is privileged: it can do everything on its node"})
	}
})
