package detect

import corev1 "k8s.io/api/core/v1"

// checkHostNamespaces finds pods that share namespaces with their node.
var checkHostNamespaces = checkPods("host-namespaces", func(p *corev1.Pod, report func(Finding)) {
	for _, h := range []struct {
		shared bool
		code   string
		score  Score
		text   string
	}{
		{p.Spec.HostPID, "host-pid", 32, "hostPID: it sees and can signal every process of its node"},
		{p.Spec.HostIPC, "host-ipc", 24, "hostIPC: it shares memory with the processes of its node"},
		{p.Spec.HostNetwork, "host-network", 22,
			"hostNetwork: it is on the node's network, where no NetworkPolicy binds it"},
	} {
		if h.shared {
			report(Finding{Code: h.code, Score: h.score, Technique: escapeToHost, Subject: subjectOf(p),
				Reason: h.text})
		}
	}
})
