package detect

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// baselineCapabilities may be added under the Pod Security Standard "baseline".
// https://kubernetes.io/docs/concepts/security/pod-security-standards/
var baselineCapabilities = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
	"NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}

// escapes are capabilities with which a container gets out.
var escapes = []string{"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "DAC_READ_SEARCH", "BPF"}

// checkCapabilities finds capabilities that the baseline does not allow.
var checkCapabilities = checkContainers("capabilities", func(_ *corev1.Pod, c container, report func(Finding)) {
	if c.security.Capabilities == nil {
		return
	}
	var added []string
	score := Score(26)
	for _, capability := range c.security.Capabilities.Add {
		name := strings.TrimPrefix(strings.ToUpper(string(capability)), "CAP_")
		if slices.Contains(baselineCapabilities, name) {
			continue
		}
		added = append(added, name)
		if slices.Contains(escapes, name) {
			score = 34
		}
	}
	if len(added) > 0 {
		report(Finding{Code: "capabilities", Score: score, Technique: escapeToHost, Reason: "container " + c.name +
			" has the capabilities " + strings.Join(added, ", ")})
	}
})
