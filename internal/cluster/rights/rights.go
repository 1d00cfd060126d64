// Package rights tells what a service account may do through RBAC. It is
// pure: roles and bindings in, rights out.
//
// The semantics are those of https://kubernetes.io/docs/reference/access-authn-authz/rbac/;
// which rights are dangerous is from
// https://kubernetes.io/docs/concepts/security/rbac-good-practices/.
package rights

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Subject is a service account.
type Subject struct{ Namespace, Name string }

// Sources are all roles and bindings of a cluster. Aggregated ClusterRoles
// come with their rules filled in by the server.
type Sources struct {
	Roles               []rbacv1.Role
	ClusterRoles        []rbacv1.ClusterRole
	RoleBindings        []rbacv1.RoleBinding
	ClusterRoleBindings []rbacv1.ClusterRoleBinding
}

// Rights are what a subject may do.
type Rights struct {
	Grants []Grant
	// Missing are roles that are bound but do not exist: whoever may create
	// one of that name decides what the subject may do.
	Missing []string
}

// Grant is one binding and what it grants.
type Grant struct {
	// Binding and Role are "ClusterRoleBinding x", "Role ns/y".
	Binding, Role string
	// Scope is the namespace it holds in; "" is the whole cluster.
	Scope string
	Rules []rbacv1.PolicyRule
	// Default: every cluster gives this to everyone.
	Default bool
}

// defaults are the ClusterRoles that the API server itself binds to all
// authenticated users or all service accounts.
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings
var defaults = []string{"system:basic-user", "system:discovery", "system:public-info-viewer",
	"system:service-account-issuer-discovery",
	"system:cluster-trust-bundle-discovery"}

// For lists every rule that a service account has.
func For(sa Subject, src Sources) Rights {
	roles := map[string]*rbacv1.Role{}
	for i := range src.Roles {
		roles[src.Roles[i].Namespace+"/"+src.Roles[i].Name] = &src.Roles[i]
	}
	clusterRoles := map[string]*rbacv1.ClusterRole{}
	for i := range src.ClusterRoles {
		clusterRoles[src.ClusterRoles[i].Name] = &src.ClusterRoles[i]
	}
	var r Rights
	add := func(binding, scope string, ref rbacv1.RoleRef) {
		g := Grant{Binding: binding, Scope: scope, Role: ref.Kind + " " + ref.Name,
			Default: ref.Kind == "ClusterRole" && slices.Contains(defaults, ref.Name)}
		switch role, cr := roles[scope+"/"+ref.Name], clusterRoles[ref.Name]; {
		case ref.Kind == "ClusterRole" && cr != nil:
			g.Rules = cr.Rules
		case ref.Kind == "Role" && scope != "" && role != nil:
			g.Role, g.Rules = "Role "+scope+"/"+ref.Name, role.Rules
		default:
			r.Missing = append(r.Missing, g.Role+" of "+binding)
			return
		}
		r.Grants = append(r.Grants, g)
	}
	for i := range src.ClusterRoleBindings {
		b := &src.ClusterRoleBindings[i]
		if sa.Among(b.Subjects, "") {
			add("ClusterRoleBinding "+b.Name, "", b.RoleRef)
		}
	}
	for i := range src.RoleBindings {
		b := &src.RoleBindings[i]
		if sa.Among(b.Subjects, b.Namespace) {
			add("RoleBinding "+b.Namespace+"/"+b.Name, b.Namespace, b.RoleRef)
		}
	}
	return r
}

// Among reports whether subjects name the account itself, as ServiceAccount or by
// its user name, or one of the groups that every service account is in.
func (sa Subject) Among(subjects []rbacv1.Subject, bindingNamespace string) bool {
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + sa.Namespace, "system:authenticated"}
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		return sa.Is(s, bindingNamespace) || s.Kind == rbacv1.GroupKind && slices.Contains(groups, s.Name)
	})
}

// Is reports whether a subject of a binding names the account itself, and not
// only a group that it is in.
func (sa Subject) Is(s rbacv1.Subject, bindingNamespace string) bool {
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		ns := s.Namespace
		if ns == "" {
			ns = bindingNamespace
		}
		return ns == sa.Namespace && s.Name == sa.Name
	case rbacv1.UserKind:
		return s.Name == "system:serviceaccount:"+sa.Namespace+":"+sa.Name
	}
	return false
}

// Beyond are the grants besides those that everyone has.
func (r Rights) Beyond() []Grant {
	var out []Grant
	for _, g := range r.Grants {
		if !g.Default && len(g.Rules) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// Allows reports whether a request would be allowed. A resource may have a
// subresource: "pods/exec". namespace "" asks about all namespaces, or about
// what is not in any.
func (r Rights) Allows(verb, group, resource, namespace, name string) bool {
	return slices.ContainsFunc(r.Grants, func(g Grant) bool {
		return (g.Scope == "" || g.Scope == namespace) &&
			slices.ContainsFunc(g.Rules, func(rule rbacv1.PolicyRule) bool {
				return ruleAllows(rule, verb, group, resource, name)
			})
	})
}

func ruleAllows(rule rbacv1.PolicyRule, verb, group, resource, name string) bool {
	_, sub, hasSub := strings.Cut(resource, "/")
	matches := has(rule.Resources, resource) || hasSub && slices.Contains(rule.Resources, "*/"+sub)
	return has(rule.Verbs, verb) && has(rule.APIGroups, group) && matches &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, name))
}

func has(list []string, want string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, want)
}

// danger is a right by which one gets others, or at what matters.
type danger struct{ verb, group, resource, why string }

// dangers are in the order of their weight.
var dangers = []danger{
	{"*", "*", "*", "everything"},
	{"escalate", "rbac.authorization.k8s.io", "clusterroles", "give itself any right (escalate)"},
	{"bind", "rbac.authorization.k8s.io", "clusterroles", "give itself any role (bind)"},
	{"impersonate", "", "users", "act as anyone (impersonate)"},
	{"impersonate", "", "serviceaccounts", "act as any service account (impersonate)"},
	{"get", "", "nodes/proxy", "run commands in every pod of a node, past the audit log (nodes/proxy)"},
	{"create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations",
		"see and change every request (webhooks)"},
	{"update", "certificates.k8s.io", "certificatesigningrequests/approval", "approve certificates for any identity"},
	{"create", "", "serviceaccounts/token", "make tokens of other service accounts"},
	{"list", "", "secrets", "read all secrets"},
	{"watch", "", "secrets", "read all secrets"},
	{"get", "", "secrets", "read secrets"},
	{"create", "", "pods/exec", "run commands in pods"},
	{"create", "", "pods/attach", "attach to pods"},
	{"create", "", "pods/portforward", "reach pods' ports through the API server, past NetworkPolicies"},
	{"patch", "", "pods/ephemeralcontainers", "run containers in pods of others"},
	{"create", "", "persistentvolumes", "mount paths of nodes (persistentvolumes)"},
	{"create", "", "pods", "run pods, and with them every service account and secret of the namespace"},
	{"create", "apps", "deployments", "run pods (deployments)"},
	{"create", "apps", "daemonsets", "run pods on every node (daemonsets)"},
	{"create", "batch", "jobs", "run pods (jobs)"},
}

// Dangers are the dangerous rights among those beyond the defaults, heaviest
// first, each with where it holds.
func (r Rights) Dangers() []string {
	var out []string
	seen := map[string]bool{}
	everything := false
	for _, d := range dangers {
		for _, g := range r.Beyond() {
			for _, rule := range g.Rules {
				if !d.in(rule) || d != dangers[0] && dangers[0].in(rule) {
					continue // the rest follows from everything
				}
				everything = everything || d == dangers[0] && g.Scope == ""
				text := d.why
				if len(rule.ResourceNames) > 0 {
					text += " " + bounded(rule.ResourceNames)
				}
				if text += where(g); !seen[text] {
					seen[text] = true
					out = append(out, text)
				}
			}
		}
		if everything {
			return out
		}
	}
	return out
}

func (d danger) in(rule rbacv1.PolicyRule) bool {
	if d.verb == "*" {
		return slices.Contains(rule.Verbs, "*") && slices.Contains(rule.Resources, "*") &&
			slices.Contains(rule.APIGroups, "*")
	}
	name := ""
	if len(rule.ResourceNames) > 0 {
		name = rule.ResourceNames[0]
	}
	return ruleAllows(rule, d.verb, d.group, d.resource, name)
}

func where(g Grant) string {
	if g.Scope == "" {
		return " in the whole cluster"
	}
	return " in " + g.Scope
}

// Bindings are those that give more than everyone has, or may once somebody makes
// the role that they name.
func (r Rights) Bindings() []string {
	var names []string
	for _, g := range r.Beyond() {
		names = append(names, g.Binding)
	}
	for _, m := range r.Missing {
		_, binding, _ := strings.Cut(m, " of ")
		names = append(names, binding)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Summary is what the subject may do beyond the defaults, in at most so many
// phrases, the most dangerous first.
func (r Rights) Summary(limit int) []string {
	out := r.Dangers()
	var rest []string
	for _, g := range r.Beyond() {
		for _, rule := range g.Rules {
			if len(rule.NonResourceURLs) > 0 {
				rest = append(rest, bounded(rule.Verbs)+" "+bounded(rule.NonResourceURLs))
			}
			if len(rule.Resources) == 0 || slices.ContainsFunc(dangers, func(d danger) bool { return d.in(rule) }) {
				continue
			}
			text := bounded(rule.Verbs) + " " + bounded(rule.Resources)
			if len(rule.ResourceNames) > 0 {
				text += " " + bounded(rule.ResourceNames)
			}
			rest = append(rest, text+where(g))
		}
	}
	sort.Strings(rest)
	out = append(out, slices.Compact(rest)...)
	for _, m := range r.Missing {
		out = append(out, "whatever a role that does not exist will grant: "+m)
	}
	if len(out) > limit {
		out = append(out[:limit:limit], fmt.Sprintf("and %d more", len(out)-limit))
	}
	return out
}

// bounded lists at most a few names, each cut to a bearable length.
func bounded(list []string) string {
	const most, longest = 5, 80
	var parts []string
	for _, s := range list[:min(len(list), most)] {
		if r := []rune(s); len(r) > longest {
			s = string(r[:longest]) + "…"
		}
		parts = append(parts, s)
	}
	if len(list) > most {
		parts = append(parts, fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(parts, ",")
}
