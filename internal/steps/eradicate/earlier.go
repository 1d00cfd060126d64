package eradicate

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/rights"
)

// Changed is a change of this incident that stands, with its place in the journal.
type Changed struct {
	Seq int64
	change.Change
}

func (c Changed) String() string {
	return fmt.Sprintf("%s was changed (entry %d of the timeline)", c.Object, c.Seq)
}

// earlier are roles and bindings as they were before the incident's own
// changes to them: whoever takes an account its rights, and rotates then, must
// still be told of what it has read until then.
type earlier struct {
	rights.Sources
	// changed are the changes, by the object's name as a Grant has it.
	changed map[string]Changed
	// lost are changes to objects that are gone since.
	lost []Changed
}

// before takes the standing changes back, the last first, in copies.
func before(src rights.Sources, changes []Changed) earlier {
	e := earlier{Sources: rights.Sources{Roles: slices.Clone(src.Roles), ClusterRoles: slices.Clone(src.ClusterRoles),
		RoleBindings: slices.Clone(src.RoleBindings), ClusterRoleBindings: slices.Clone(src.ClusterRoleBindings)},
		changed: map[string]Changed{}}
	for _, c := range slices.Backward(changes) {
		if c.Object.Group != rbacv1.GroupName || c.IsCreate() {
			continue
		}
		found := false
		switch c.Object.Kind {
		case "Role":
			found = revert(e.Roles, c.Change, func(o *rbacv1.Role) *metav1.ObjectMeta { return &o.ObjectMeta })
		case "ClusterRole":
			found = revert(e.ClusterRoles, c.Change, func(o *rbacv1.ClusterRole) *metav1.ObjectMeta {
				return &o.ObjectMeta
			})
		case roleBinding.Kind:
			found = revert(e.RoleBindings, c.Change, func(o *rbacv1.RoleBinding) *metav1.ObjectMeta {
				return &o.ObjectMeta
			})
		case clusterRoleBinding.Kind:
			found = revert(e.ClusterRoleBindings, c.Change, func(o *rbacv1.ClusterRoleBinding) *metav1.ObjectMeta {
				return &o.ObjectMeta
			})
		}
		if !found {
			e.lost = append(e.lost, c)
			continue
		}
		e.changed[c.Object.String()] = c
	}
	return e
}

// revert replaces the object of a change by what it was before; false: it is gone.
func revert[T any](list []T, c change.Change, meta func(*T) *metav1.ObjectMeta) bool {
	n := slices.IndexFunc(list, func(o T) bool {
		m := meta(&o)
		return m.Name == c.Object.Name && m.Namespace == c.Object.Namespace &&
			(c.Object.UID == "" || m.UID == c.Object.UID)
	})
	if n < 0 {
		return false
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&list[n])
	if err != nil {
		return false
	}
	c.Revert(&unstructured.Unstructured{Object: object})
	var was T
	if runtime.DefaultUnstructuredConverter.FromUnstructured(object, &was) != nil {
		return false
	}
	list[n] = was
	return true
}

// until tells by what of it that was changed an account could read a Secret.
func (e earlier) until(r rights.Rights, namespace, name string) string {
	var why []string
	for _, g := range r.Grants {
		if !may(rights.Rights{Grants: []rights.Grant{g}}, namespace, name) {
			continue
		}
		for _, object := range []string{g.Binding, g.Role} {
			if c, ok := e.changed[object]; ok && !slices.Contains(why, c.String()) {
				why = append(why, c.String())
			}
		}
	}
	return strings.Join(why, ", ")
}

// unknown says what an account may have had that can no longer be told.
func (e earlier) unknown(a rights.Subject, now, then rights.Rights) []string {
	var list []string
	for _, c := range e.lost {
		if c.Object.Kind != roleBinding.Kind && c.Object.Kind != clusterRoleBinding.Kind || bound(a, c.Change) {
			list = append(list, c.String()+" and is gone since")
		}
	}
	for _, m := range then.Missing {
		if !slices.Contains(now.Missing, m) {
			list = append(list, m+" is gone")
		}
	}
	return list
}

// bound: the binding was for the account before the change.
func bound(a rights.Subject, c change.Change) bool {
	was := map[string]any{}
	c.Revert(&unstructured.Unstructured{Object: was})
	var b rbacv1.RoleBinding
	return runtime.DefaultUnstructuredConverter.FromUnstructured(was, &b) == nil &&
		a.Among(b.Subjects, c.Object.Namespace)
}

// union joins two lists of grants.
func union(a, b rights.Rights) rights.Rights {
	return rights.Rights{Grants: slices.Concat(a.Grants, b.Grants), Missing: a.Missing}
}

// Beside is what Find takes from elsewhere than the cluster.
type Beside struct {
	// Named are Secrets that the responder names.
	Named []cluster.Ref
	// Changed are the incident's own changes that stand, in their order.
	Changed []Changed
}
