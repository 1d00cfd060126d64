package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"irctl/internal/cluster/rights"
)

// identityCollector takes the pods' service accounts, the role bindings that
// give them rights and the roles these name, and says what they allow.
type identityCollector struct{ *inquiry }

func (c *identityCollector) Name() string { return "identity" }

var (
	serviceAccounts     = core("serviceaccounts", "ServiceAccount")
	clusterRoleBindings = grouped("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding")
	roleBindings        = grouped("rbac.authorization.k8s.io", "rolebindings", "RoleBinding")
	clusterRoles        = grouped("rbac.authorization.k8s.io", "clusterroles", "ClusterRole")
	roles               = grouped("rbac.authorization.k8s.io", "roles", "Role")
)

// podRights are what the pods' service accounts may do, once it is known.
type podRights struct {
	known chan struct{}
	of    map[name]rights.Rights
}

func newPodRights() *podRights { return &podRights{known: make(chan struct{})} }

// wait for the identity collector, which comes before those that ask.
func (r *podRights) wait(ctx context.Context) map[name]rights.Rights {
	select {
	case <-r.known:
		return r.of
	case <-ctx.Done():
		return nil
	}
}

func (c *identityCollector) Collect(ctx context.Context, out *Output) error {
	defer close(c.rights.known)
	accounts := c.named(ctx, func(f *podFacts) []string { return []string{f.serviceAccount} })
	for _, a := range accounts {
		out.Object(ctx, serviceAccounts, a.namespace, a.name, "serviceaccounts", a.namespace, a.name+".json")
	}
	found := &grants{accounts: accounts, roles: map[string]bool{}}
	gaps := found.collect(ctx, out, c.namespaces())
	of := map[name]rights.Rights{}
	for _, a := range accounts {
		of[a] = rights.For(rights.Subject{Namespace: a.namespace, Name: a.name}, found.sources)
		out.JSON("concluded from the role bindings", rightsOf(of[a]), gaps, "serviceaccounts", a.namespace, a.name+
			".rights.json")
	}
	c.rights.of = of
	return nil
}

// grants are the bindings that concern the accounts, and their roles.
type grants struct {
	accounts []name
	sources  rights.Sources
	roles    map[string]bool // that are bound: "Role/ns/name", "ClusterRole//name"
	size     int
}

// maxGrants bounds what is kept to conclude from, in bytes of JSON.
const maxGrants = 16 << 20

// collect lists bindings first, since they say which roles are of interest.
func (g *grants) collect(ctx context.Context, out *Output, namespaces []string) error {
	return errors.Join(
		out.List(ctx, listing{resource: clusterRoleBindings}, g.keepClusterRoleBinding, "cluster",
			"clusterrolebindings.json"),
		g.everywhere(ctx, out, roleBindings, g.keepRoleBinding, namespaces),
		out.List(ctx, listing{resource: clusterRoles}, g.keepClusterRole, "cluster", "clusterroles.json"),
		g.everywhere(ctx, out, roles, g.keepRole, namespaces),
	)
}

// everywhere lists a resource in the whole cluster or, if that is forbidden, in
// the pods' namespaces. A binding elsewhere can give rights there; that it was
// not looked for is an error still.
func (g *grants) everywhere(ctx context.Context, out *Output, r resource, keep func(json.RawMessage) (bool, error),
	namespaces []string) error {
	err := out.List(ctx, listing{resource: r}, keep, "cluster", r.gvr.Resource+".json")
	if !apierrors.IsForbidden(err) {
		return err
	}
	errs := []error{err}
	for _, ns := range namespaces {
		errs = append(errs, out.List(ctx, listing{resource: r, namespace: ns}, keep, "namespaces", ns, r.gvr.Resource+
			".json"))
	}
	return errors.Join(errs...)
}

// concerns: one of the accounts, or a group that service accounts are in.
func (g *grants) concerns(subjects []rbacv1.Subject, namespace string) bool {
	probe := rights.Sources{
		ClusterRoles: []rbacv1.ClusterRole{{}},
		RoleBindings: []rbacv1.RoleBinding{{Subjects: subjects, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole"}}},
	}
	probe.RoleBindings[0].Namespace = namespace
	return slices.ContainsFunc(g.accounts, func(a name) bool {
		return len(rights.For(rights.Subject{Namespace: a.namespace, Name: a.name}, probe).Grants) > 0
	})
}

// weigh an item that is kept.
func (g *grants) weigh(item json.RawMessage) error {
	if g.size += len(item); g.size > maxGrants {
		return fmt.Errorf("%w of %d bytes", errLimit, maxGrants)
	}
	return nil
}

func (g *grants) bind(ref rbacv1.RoleRef, namespace string) {
	if ref.Kind == "ClusterRole" {
		namespace = ""
	}
	g.roles[ref.Kind+"/"+namespace+"/"+ref.Name] = true
}

func (g *grants) keepClusterRoleBinding(item json.RawMessage) (bool, error) {
	var b rbacv1.ClusterRoleBinding
	if err := json.Unmarshal(item, &b); err != nil || !g.concerns(b.Subjects, "") {
		return false, err
	}
	b.ManagedFields = nil
	g.sources.ClusterRoleBindings = append(g.sources.ClusterRoleBindings, b)
	g.bind(b.RoleRef, "")
	return true, g.weigh(item)
}

func (g *grants) keepRoleBinding(item json.RawMessage) (bool, error) {
	var b rbacv1.RoleBinding
	if err := json.Unmarshal(item, &b); err != nil || !g.concerns(b.Subjects, b.Namespace) {
		return false, err
	}
	b.ManagedFields = nil
	g.sources.RoleBindings = append(g.sources.RoleBindings, b)
	g.bind(b.RoleRef, b.Namespace)
	return true, g.weigh(item)
}

func (g *grants) keepClusterRole(item json.RawMessage) (bool, error) {
	var r rbacv1.ClusterRole
	if err := json.Unmarshal(item, &r); err != nil || !g.roles["ClusterRole//"+r.Name] {
		return false, err
	}
	r.ManagedFields = nil
	g.sources.ClusterRoles = append(g.sources.ClusterRoles, r)
	return true, g.weigh(item)
}

func (g *grants) keepRole(item json.RawMessage) (bool, error) {
	var r rbacv1.Role
	if err := json.Unmarshal(item, &r); err != nil || !g.roles["Role/"+r.Namespace+"/"+r.Name] {
		return false, err
	}
	r.ManagedFields = nil
	g.sources.Roles = append(g.sources.Roles, r)
	return true, g.weigh(item)
}

// accountRights is NAME.rights.json.
type accountRights struct {
	// Dangers are the rights by which one gets others, heaviest first.
	Dangers []string        `json:"dangers"`
	Summary []string        `json:"summary"`
	Grants  []grantedRights `json:"grants"`
	Missing []string        `json:"missingRoles,omitempty"`
	Note    string          `json:"note"`
}

type grantedRights struct {
	Binding string              `json:"binding"`
	Role    string              `json:"role"`
	Scope   string              `json:"scope"`
	Default bool                `json:"default,omitempty"`
	Rules   []rbacv1.PolicyRule `json:"rules"`
}

func rightsOf(r rights.Rights) accountRights {
	const most = 50
	of := accountRights{Dangers: r.Dangers(), Summary: r.Summary(most), Missing: r.Missing, Grants: []grantedRights{},
		Note: "By RBAC alone; other authorizers of the API server, such as webhooks, can allow more."}
	for _, g := range r.Grants {
		scope := g.Scope
		if scope == "" {
			scope = "the whole cluster"
		}
		of.Grants = append(of.Grants, grantedRights{g.Binding, g.Role, scope, g.Default, g.Rules})
	}
	return of
}
