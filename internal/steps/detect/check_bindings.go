package detect

import (
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
)

// checkBindings finds ClusterRoleBindings that are new.
var checkBindings = check{name: "new-cluster-role-binding", needs: []list{bindings},
	find: func(s *Snapshot, report func(Finding)) {
		for i := range s.Bindings {
			b := &s.Bindings[i]
			if b.CreationTimestamp.Time.Before(s.Since) || s.bootstrap(b) {
				continue
			}
			text, score := grantText(b.RoleRef, b.Subjects, nil)
			report(Finding{Code: "new-cluster-role-binding", Score: max(50, score), Technique: clusterRoles,
				Subject: bound(b),
				Object:  b.Name, FirstSeen: b.CreationTimestamp.Time, Reason: "a new ClusterRoleBinding " + b.Name +
					text})
		}
	}}

// bound is whom a binding makes suspect: the one service account that it is
// for, since that has pods; else the binding.
func bound(b *rbacv1.ClusterRoleBinding) Subject {
	if len(b.Subjects) == 1 && b.Subjects[0].Kind == rbacv1.ServiceAccountKind {
		return Subject{Namespace: b.Subjects[0].Namespace, ServiceAccount: b.Subjects[0].Name}
	}
	return Subject{Object: "ClusterRoleBinding/" + b.Name}
}

// bootstrapTime is how long a new cluster makes its own bindings.
const bootstrapTime = time.Hour

// bootstrap reports the API server's own bindings. The label alone proves
// nothing, anybody can set it; that it dates from the cluster's beginning does.
func (s *Snapshot) bootstrap(b *rbacv1.ClusterRoleBinding) bool {
	return b.Labels["kubernetes.io/bootstrapping"] == "rbac-defaults" && !s.Born.IsZero() &&
		b.CreationTimestamp.Sub(s.Born) < bootstrapTime
}
