package eradicate

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/rights"
	"irctl/internal/steps"
)

// StepBindings takes the suspects' accounts out of their bindings.
const StepBindings = "bindings"

// Binding is what gives the suspects' service accounts rights beyond those
// that every account has.
type Binding struct {
	// Object is the binding, Role what it binds, Scope where that holds: a
	// namespace, or "" for the whole cluster.
	Object string `json:"object"`
	Role   string `json:"role"`
	Scope  string `json:"scope,omitempty"`
	// Accounts are the suspects' accounts that it names, as NAMESPACE/NAME.
	Accounts []string `json:"accounts"`
	// Allows is what it lets them do, in some phrases, the most dangerous first.
	Allows []string `json:"allows"`
	// Others are further subjects, which keep what it gives them.
	Others int `json:"others,omitempty"`
	// Group: it names no account of the suspects, only a group that they are in,
	// so that they cannot be taken out of it.
	Group bool `json:"group,omitempty"`

	ref      cluster.Ref
	version  string
	before   []rbacv1.Subject
	after    []rbacv1.Subject
	accounts []rights.Subject
}

var (
	roleBinding = cluster.Ref{Group: rbacv1.GroupName, Version: "v1", Resource: "rolebindings",
		Kind: "RoleBinding"}
	clusterRoleBinding = cluster.Ref{Group: rbacv1.GroupName, Version: "v1", Resource: "clusterrolebindings",
		Kind: "ClusterRoleBinding"}
)

// maxAllows bounds what is said of a binding.
const maxAllows = 5

// bindings finds what gives the accounts rights.
func bindings(accounts []rights.Subject, src rights.Sources) []*Binding {
	var list []*Binding
	look := func(ref cluster.Ref, meta metav1.ObjectMeta, subjects []rbacv1.Subject, alone rights.Sources) {
		alone.Roles, alone.ClusterRoles = src.Roles, src.ClusterRoles
		b := &Binding{ref: ref.Named(meta.Namespace, meta.Name, meta.UID), version: meta.ResourceVersion,
			Scope: meta.Namespace, before: subjects}
		b.Object = b.ref.String()
		for _, a := range accounts {
			if a.Among(subjects, meta.Namespace) {
				b.give(a, rights.For(a, alone))
			}
		}
		if len(b.Accounts) == 0 {
			return
		}
		b.after = slices.DeleteFunc(slices.Clone(subjects), func(s rbacv1.Subject) bool {
			return slices.ContainsFunc(b.accounts, func(a rights.Subject) bool { return a.Is(s, meta.Namespace) })
		})
		b.Group, b.Others = len(b.after) == len(subjects), len(b.after)
		list = append(list, b)
	}
	for _, b := range src.ClusterRoleBindings {
		look(clusterRoleBinding, b.ObjectMeta, b.Subjects,
			rights.Sources{ClusterRoleBindings: []rbacv1.ClusterRoleBinding{b}})
	}
	for _, b := range src.RoleBindings {
		look(roleBinding, b.ObjectMeta, b.Subjects, rights.Sources{RoleBindings: []rbacv1.RoleBinding{b}})
	}
	slices.SortFunc(list, func(a, b *Binding) int { return strings.Compare(a.Object, b.Object) })
	return list
}

// give notes what the binding alone gives an account.
func (b *Binding) give(a rights.Subject, r rights.Rights) {
	beyond := r.Beyond()
	if len(beyond) == 0 && len(r.Missing) == 0 {
		return
	}
	b.accounts = append(b.accounts, a)
	b.Accounts = append(b.Accounts, a.Namespace+"/"+a.Name)
	b.Allows = r.Summary(maxAllows)
	if len(beyond) > 0 {
		b.Role = beyond[0].Role
	}
}

// PlanBindings says what it takes to take the suspects' accounts out of their
// bindings. A binding itself stays, with whoever else it names: to put an
// account back is then exact.
func PlanBindings(r *Radius) steps.Plan {
	var plan steps.Plan
	if r.rightsErr != nil {
		plan.Refusals = append(plan.Refusals, steps.Refusal{Action: StepBindings, Object: "bindings",
			Reason: r.rightsErr.Error()})
	}
	for _, b := range r.Bindings {
		accounts := "ServiceAccount " + strings.Join(b.Accounts, ", ")
		if b.Group {
			plan.Refusals = append(plan.Refusals, steps.Refusal{Action: StepBindings, Object: b.Object,
				Reason: fmt.Sprintf("it names a group that %s is in, not the account: %s. Change the binding, which "+
					"others of the group need, too", accounts, strings.Join(b.Allows, "; "))})
			continue
		}
		c, needed := change.NewEdit(b.ref, "", b.version,
			change.Field{Path: []string{"subjects"}, Before: b.before, After: b.after})
		if !needed {
			continue
		}
		plan.Actions = append(plan.Actions, steps.Action{ID: StepBindings + " " + string(b.ref.UID),
			Name: "remove-binding", Change: c, Command: c.Command(), Diff: c.Diff(),
			Summary: fmt.Sprintf("take %s out of %s, which lets it: %s", accounts, b.Object,
				strings.Join(b.Allows, "; "))})
	}
	return plan
}
