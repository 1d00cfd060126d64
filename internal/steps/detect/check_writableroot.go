package detect

import corev1 "k8s.io/api/core/v1"

// checkWritableRoot finds containers whose programs can be replaced.
var checkWritableRoot = checkContainers("writable-root", func(_ *corev1.Pod, c container, report func(Finding)) {
	if !set(c.security.ReadOnlyRootFilesystem) {
		report(Finding{Code: "writable-root", Score: 4, Technique: masquerading, Reason: "container " + c.name +
			" can write its root filesystem: readOnlyRootFilesystem is not true"})
	}
})
