package detect

import (
	"encoding/json"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
)

// auditRBAC finds changes to roles and bindings.
var auditRBAC = auditDetector{
	wants: func(p *auditPeek) bool {
		if string(p.group) != rbacv1.GroupName || string(p.user) == "system:apiserver" ||
			string(p.user) == "system:serviceaccount:kube-system:clusterrole-aggregation-controller" {
			return false
		}
		switch string(p.verb) {
		case "create", "update", "patch", "delete", "deletecollection":
			return true
		}
		return false
	},
	find: func(e *auditEvent) (Finding, bool) {
		f := Finding{Code: "rbac-change", Score: 45, Technique: clusterRoles, Subject: e.actor()}
		f.Object = e.Object.Resource + "/" + e.Object.Name
		if e.Object.Namespace != "" {
			f.Object = e.Object.Resource + "/" + e.Object.Namespace + "/" + e.Object.Name
		} else if e.Verb != "delete" {
			f.Score = 52
		}
		grants, score := granted(e.Request)
		if e.Verb != "delete" && e.Verb != "deletecollection" {
			f.Score = max(f.Score, score)
		}
		if e.denied() {
			f.Score = min(f.Score, 58)
		}
		f.Reason = fmt.Sprintf("%s: %s %s%s, from %s%s", e.who(), e.Verb, f.Object, grants, e.from(), e.outcome())
		return f, true
	},
}

// granted says what a role or a binding gives, as far as the audit policy
// logged the request, and how bad that is.
func granted(request []byte) (text string, score Score) {
	var r struct {
		RoleRef  rbacv1.RoleRef      `json:"roleRef"`
		Subjects []rbacv1.Subject    `json:"subjects"`
		Rules    []rbacv1.PolicyRule `json:"rules"`
	}
	if len(request) == 0 || json.Unmarshal(request, &r) != nil {
		return "", 0 // without the request nothing more is known
	}
	return grantText(r.RoleRef, r.Subjects, r.Rules)
}

func grantText(role rbacv1.RoleRef, subjects []rbacv1.Subject, rules []rbacv1.PolicyRule) (text string, score Score) {
	if role.Name != "" {
		text = fmt.Sprintf(" (%s %s", role.Kind, cut(role.Name, maxObject))
		if len(subjects) > 0 {
			text += fmt.Sprintf(" to %s %s", subjects[0].Kind, cut(subjects[0].Name, maxObject))
		}
		if len(subjects) > 1 {
			text += fmt.Sprintf(" and %d more", len(subjects)-1)
		}
		text += ")"
	}
	all := slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.Verbs, "*") && slices.Contains(r.Resources, "*")
	})
	everybody := slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		return s.Name == "system:anonymous" || s.Name == "system:unauthenticated" || s.Name == "system:authenticated"
	})
	switch {
	case everybody:
		score = 88
	case role.Name == "cluster-admin" || all:
		score = 72
	}
	if all {
		text += " (every right on everything)"
	}
	return text, score
}
