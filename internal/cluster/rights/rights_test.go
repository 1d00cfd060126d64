package rights_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/cluster/rights"
)

var backend = rights.Subject{Namespace: "todo-app", Name: "backend"}

func account(namespace, name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}
}

func rule(verbs, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, ","), APIGroups: []string{""},
		Resources: strings.Split(resources, ","), ResourceNames: names}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) rbacv1.ClusterRole {
	return rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

func everywhere(role string, subjects ...rbacv1.Subject) rbacv1.ClusterRoleBinding {
	return rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b-" + role},
		RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role}, Subjects: subjects}
}

func within(namespace, kind, role string, subjects ...rbacv1.Subject) rbacv1.RoleBinding {
	return rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "b-" + role},
		RoleRef: rbacv1.RoleRef{Kind: kind, Name: role}, Subjects: subjects}
}

func TestWhoABindingIsFor(t *testing.T) {
	for name, c := range map[string]struct {
		subject rbacv1.Subject
		bound   bool
	}{
		"the account":                       {account("todo-app", "backend"), true},
		"an account of another namespace":   {account("other", "backend"), false},
		"another account":                   {account("todo-app", "frontend"), false},
		"the account without its namespace": {account("", "backend"), true}, // of the binding's
		"its user name": {rbacv1.Subject{Kind: rbacv1.UserKind,
			Name: "system:serviceaccount:todo-app:backend"}, true},
		"another user": {rbacv1.Subject{Kind: rbacv1.UserKind, Name: "backend"}, false},
		"all accounts": {rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:serviceaccounts"},
			true},
		"the accounts of its namespace": {rbacv1.Subject{Kind: rbacv1.GroupKind,
			Name: "system:serviceaccounts:todo-app"}, true},
		"the accounts of another namespace": {rbacv1.Subject{Kind: rbacv1.GroupKind,
			Name: "system:serviceaccounts:other"}, false},
		"everyone who logged in": {rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:authenticated"}, true},
		"those who did not":      {rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:unauthenticated"}, false},
		"a kind that is none":    {rbacv1.Subject{Kind: "Robot", Name: "backend"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := rights.For(backend,
				rights.Sources{ClusterRoles: []rbacv1.ClusterRole{clusterRole("reader", rule("get", "pods"))},
					RoleBindings: []rbacv1.RoleBinding{within("todo-app", "ClusterRole", "reader", c.subject)}})
			if got := r.Allows("get", "", "pods", "todo-app", "x"); got != c.bound {
				t.Errorf("bound: %t", got)
			}
			if r.Allows("get", "", "pods", "other", "x") || r.Allows("get", "", "pods", "", "x") {
				t.Error("a RoleBinding holds in its namespace alone")
			}
		})
	}
}

func TestWhatARuleAllows(t *testing.T) {
	for name, c := range map[string]struct {
		rule                                  rbacv1.PolicyRule
		verb, group, resource, namespace, obj string
		want                                  bool
	}{
		"the verb":                   {rule("get", "pods"), "get", "", "pods", "n", "p", true},
		"another verb":               {rule("get", "pods"), "list", "", "pods", "n", "", false},
		"another group":              {rule("get", "pods"), "get", "apps", "pods", "n", "p", false},
		"every verb":                 {rule("*", "pods"), "impersonate", "", "pods", "n", "p", true},
		"every resource":             {rule("get", "*"), "get", "", "pods/log", "n", "p", true},
		"a resource, not its parts":  {rule("create", "pods"), "create", "", "pods/exec", "n", "p", false},
		"a part":                     {rule("create", "pods/exec"), "create", "", "pods/exec", "n", "p", true},
		"a part of every resource":   {rule("get", "*/scale"), "get", "", "deployments/scale", "n", "d", true},
		"that is not the resource":   {rule("get", "*/scale"), "get", "", "scale", "n", "d", false},
		"one by name":                {rule("get", "secrets", "mine"), "get", "", "secrets", "n", "mine", true},
		"another by name":            {rule("get", "secrets", "mine"), "get", "", "secrets", "n", "yours", false},
		"names do not grant a list":  {rule("list", "secrets", "mine"), "list", "", "secrets", "n", "", false},
		"everywhere is also nowhere": {rule("get", "nodes"), "get", "", "nodes", "", "n", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := rights.For(backend, rights.Sources{ClusterRoles: []rbacv1.ClusterRole{clusterRole("r", c.rule)},
				ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("r", account("todo-app", "backend"))}})
			if got := r.Allows(c.verb, c.group, c.resource, c.namespace, c.obj); got != c.want {
				t.Errorf("allowed: %t", got)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	me := account("todo-app", "backend")
	many := []rbacv1.PolicyRule{rule("get", "a"), rule("get", "b"), rule("get", "c"), rule("get", "d")}
	for name, c := range map[string]struct {
		src  rights.Sources
		want []string
	}{
		"nothing": {rights.Sources{}, nil},
		"what everyone has": {rights.Sources{ClusterRoles: []rbacv1.ClusterRole{clusterRole("system:discovery",
			rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/api"}})},
			ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("system:discovery",
				rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:authenticated"})}}, nil},
		"everything": {rights.Sources{ClusterRoles: []rbacv1.ClusterRole{clusterRole("admin",
			rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}),
			clusterRole("secrets", rule("get,list", "secrets"))},
			ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("admin", me), everywhere("secrets", me)}},
			[]string{"everything in the whole cluster"}},
		"everything in one namespace, and more elsewhere": {
			rights.Sources{ClusterRoles: []rbacv1.ClusterRole{
				clusterRole("admin", rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"},
					Resources: []string{"*"}}), clusterRole("exec", rule("create", "pods/exec"))},
				RoleBindings:        []rbacv1.RoleBinding{within("todo-app", "ClusterRole", "admin", me)},
				ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("exec", me)}},
			[]string{"everything in todo-app", "run commands in pods in the whole cluster"}},
		"a role of the namespace": {rights.Sources{
			Roles: []rbacv1.Role{{ObjectMeta: metav1.ObjectMeta{Namespace: "todo-app", Name: "r"},
				Rules: []rbacv1.PolicyRule{rule("get", "secrets", "db-password")}}},
			RoleBindings: []rbacv1.RoleBinding{within("todo-app", "Role", "r", me)}},
			[]string{"read secrets db-password in todo-app"}},
		"a role of the same name elsewhere": {
			rights.Sources{Roles: []rbacv1.Role{{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "r"},
				Rules: []rbacv1.PolicyRule{rule("get", "secrets")}}},
				RoleBindings: []rbacv1.RoleBinding{within("todo-app", "Role", "r", me)}},
			[]string{"whatever a role that does not exist will grant: Role r of RoleBinding todo-app/b-r"}},
		"a missing role": {rights.Sources{ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("gone", me)}},
			[]string{"whatever a role that does not exist will grant: ClusterRole gone of ClusterRoleBinding b-gone"}},
		"what is not an object": {rights.Sources{ClusterRoles: []rbacv1.ClusterRole{clusterRole("m",
			rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}})},
			ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("m", me)}}, []string{"get /metrics"}},
		"dangers before the rest": {rights.Sources{ClusterRoles: []rbacv1.ClusterRole{clusterRole("r",
			rule("get", "configmaps"), rule("create", "pods/exec"), rule("list", "secrets"))},
			ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("r", me)}},
			[]string{"read all secrets in the whole cluster", "run commands in pods in the whole cluster",
				"get configmaps in the whole cluster"}},
		"bounded": {rights.Sources{ClusterRoles: []rbacv1.ClusterRole{clusterRole("r", many...)},
			ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("r", me)}},
			[]string{"get a in the whole cluster", "get b in the whole cluster", "get c in the whole cluster",
				"and 1 more"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, rights.For(backend, c.src).Summary(3)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHostileRolesStayShort(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	r := rights.For(backend, rights.Sources{ClusterRoles: []rbacv1.ClusterRole{clusterRole("r",
		rbacv1.PolicyRule{Verbs: slices.Repeat([]string{long}, 100), APIGroups: []string{""},
			Resources: slices.Repeat([]string{long}, 100)})},
		ClusterRoleBindings: []rbacv1.ClusterRoleBinding{everywhere("r", account("todo-app", "backend"))}})
	if text := strings.Join(r.Summary(5), ""); len(text) > 2000 {
		t.Errorf("%d bytes", len(text))
	}
}
