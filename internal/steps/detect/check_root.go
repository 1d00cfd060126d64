package detect

import corev1 "k8s.io/api/core/v1"

// checkRoot finds containers that run as root, or may: what the container says
// outweighs what the pod says, and without either the image decides.
var checkRoot = checkContainers("root", func(p *corev1.Pod, c container, report func(Finding)) {
	user, nonRoot := c.security.RunAsUser, c.security.RunAsNonRoot
	if p.Spec.SecurityContext != nil {
		if user == nil {
			user = p.Spec.SecurityContext.RunAsUser
		}
		if nonRoot == nil {
			nonRoot = p.Spec.SecurityContext.RunAsNonRoot
		}
	}
	f := Finding{Code: "root", Score: 14, Technique: escapeToHost, Reason: "container " + c.name + " runs as root"}
	switch {
	case user != nil && *user != 0, user == nil && set(nonRoot):
		return
	case user == nil:
		f.Code, f.Score, f.Reason = "root-possible", 7, "container "+c.name+
			" runs as root if its image says so: neither runAsNonRoot nor runAsUser is set"
	}
	report(f)
})
