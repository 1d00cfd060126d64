package detect

import corev1 "k8s.io/api/core/v1"

// checkToken finds pods with a token for the API server.
var checkToken = checkPods("token", func(p *corev1.Pod, report func(Finding)) {
	for _, v := range p.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ServiceAccountToken != nil && source.ServiceAccountToken.Audience == "" {
				report(Finding{Code: "token-mounted", Score: 5, Technique: stealToken, Subject: subjectOf(p),
					Reason: "a token of service account " + account(p) +
						" is mounted; automountServiceAccountToken is not false"})
				return
			}
		}
	}
})

func account(p *corev1.Pod) string {
	if p.Spec.ServiceAccountName == "" {
		return "default"
	}
	return p.Spec.ServiceAccountName
}
