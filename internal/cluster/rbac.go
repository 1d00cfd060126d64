package cluster

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"

	"irctl/internal/cluster/rights"
)

// RBAC reads all roles and bindings of the cluster.
func (c *Client) RBAC(ctx context.Context) (rights.Sources, error) {
	var src rights.Sources
	rbac := c.Kube.RbacV1()
	reads := []func() error{
		func() error {
			return each(ctx, rbac.Roles("").List, func(l *rbacv1.RoleList) {
				src.Roles = append(src.Roles, l.Items...)
			})
		},
		func() error {
			return each(ctx, rbac.ClusterRoles().List, func(l *rbacv1.ClusterRoleList) {
				src.ClusterRoles = append(src.ClusterRoles, l.Items...)
			})
		},
		func() error {
			return each(ctx, rbac.RoleBindings("").List, func(l *rbacv1.RoleBindingList) {
				src.RoleBindings = append(src.RoleBindings, l.Items...)
			})
		},
		func() error {
			return each(ctx, rbac.ClusterRoleBindings().List, func(l *rbacv1.ClusterRoleBindingList) {
				src.ClusterRoleBindings = append(src.ClusterRoleBindings, l.Items...)
			})
		},
	}
	errs := make([]error, len(reads))
	Parallel(len(reads), func(i int) { errs[i] = reads[i]() })
	for _, err := range errs {
		if err != nil {
			return src, fmt.Errorf("reading roles and bindings: %w", err)
		}
	}
	return src, nil
}
