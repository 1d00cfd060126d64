package detect

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// checkSystemWorkloads finds workloads in kube-system that nothing installed
// there says to be its own: a place where nobody looks closely.
var checkSystemWorkloads = check{name: "system-workload", needs: []list{workloads, pods},
	find: func(s *Snapshot, report func(Finding)) {
		for _, w := range s.Workloads {
			if w.Owned || installed(w.Name, w.Labels, w.Annotations) {
				continue
			}
			f := Finding{Code: "system-workload", Score: 30, Technique: matchLegitimate,
				Subject: Subject{Namespace: w.Namespace, Workload: w.Kind + "/" + w.Name},
				Reason:  w.Kind + " " + w.Name + " is in kube-system, and no chart or add-on manager owns it"}
			if !w.Created.Before(s.Since) && !w.Created.IsZero() {
				f.Score, f.FirstSeen = 46, w.Created
				f.Reason += "; it is new"
			}
			report(f)
		}
		for i := range s.Pods {
			p := &s.Pods[i]
			if p.Namespace == metav1.NamespaceSystem && metav1.GetControllerOf(p) == nil && !mirror(p) &&
				incidentOf(p) == "" && !installed(p.Name, p.Labels, p.Annotations) {
				report(Finding{Code: "system-workload", Score: 46, Technique: matchLegitimate, Subject: subjectOf(p),
					Reason: "a pod that no controller made is in kube-system"})
			}
		}
	}}

// installed reports the marks of what installs things in kube-system. They
// can be forged; a missing one is worth a look, a present one proves nothing.
func installed(name string, labels, annotations map[string]string) bool {
	switch {
	case labels["app.kubernetes.io/managed-by"] == "Helm" && annotations["meta.helm.sh/release-name"] != "":
		return true
	case labels["addonmanager.kubernetes.io/mode"] != "", labels["kubernetes.azure.com/managedby"] != "",
		labels["eks.amazonaws.com/component"] != "":
		return true
	case annotations["objectset.rio.cattle.io/id"] != "": // k3s, RKE2
		return true
	// kubeadm
	case labels["k8s-app"] == "kube-proxy" && name == "kube-proxy", labels["k8s-app"] == "kube-dns" &&
		name == "coredns":
		return true
	}
	for key := range annotations {
		if strings.HasPrefix(key, "argocd.argoproj.io/tracking-id") {
			return true
		}
	}
	for key := range labels {
		if strings.HasPrefix(key, "kustomize.toolkit.fluxcd.io/") ||
			strings.HasPrefix(key, "helm.toolkit.fluxcd.io/") || strings.HasPrefix(key, "olm.") {
			return true
		}
	}
	return false
}
