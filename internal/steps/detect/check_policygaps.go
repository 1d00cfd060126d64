package detect

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"irctl/internal/cluster/netpol"
)

// checkPolicyGaps finds pods that no NetworkPolicy governs, in both directions
// or in one. Pods on their node's network no policy binds anyway.
var checkPolicyGaps = check{name: "network-policy", needs: []list{pods, policies},
	find: func(s *Snapshot, report func(Finding)) {
		byNamespace := map[string][]networkingv1.NetworkPolicy{}
		for _, p := range s.Policies {
			byNamespace[p.Namespace] = append(byNamespace[p.Namespace], p)
		}
		for i := range s.Pods {
			p := &s.Pods[i]
			if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			v := netpol.Evaluate(netpol.PodOf(p), byNamespace[p.Namespace])
			f := Finding{Code: "no-network-policy", Score: 11, Technique: serviceScan, Subject: subjectOf(p),
				Reason: "no NetworkPolicy selects it: it may talk with everything"}
			switch {
			case v.Ingress.Isolated && v.Egress.Isolated:
				continue
			case v.Ingress.Isolated:
				f.Code, f.Score, f.Reason = "no-egress-policy", 8, "no NetworkPolicy governs what it connects to"
			case v.Egress.Isolated:
				f.Code, f.Score, f.Reason = "no-ingress-policy", 7, "no NetworkPolicy governs who connects to it"
			}
			report(f)
		}
	}}
