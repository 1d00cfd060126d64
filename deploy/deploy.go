// Package deploy holds the manifests that a cluster's administrator applies.
package deploy

import (
	_ "embed"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// Responder is the ClusterRole of those who contain and undo.
//
//go:embed responder.yaml
var Responder string

// Investigator is the ClusterRole of those who only look.
//
//go:embed investigator.yaml
var Investigator string

// Eradicator is the ClusterRole of those who replace secrets.
//
//go:embed eradicator.yaml
var Eradicator string

// Recoverer is the ClusterRole of those who delete suspects.
//
//go:embed recoverer.yaml
var Recoverer string

// Unbinder is the ClusterRole of those who take rights from suspects.
//
//go:embed unbinder.yaml
var Unbinder string

// ClusterRoles are all that ship, each a document; the one that lets its holder
// do least comes first (docs/rights.md).
var ClusterRoles = []string{Investigator, Recoverer, Unbinder, Responder, Eradicator}

// RoleFor is the name of the weakest that grants a right; "": none does.
// resource may have a subresource: "pods/log".
func RoleFor(verb, group, resource string) string {
	for _, text := range ClusterRoles {
		var role rbacv1.ClusterRole
		if err := yaml.Unmarshal([]byte(text), &role); err != nil {
			continue // a test reads them all
		}
		for _, rule := range role.Rules {
			if slices.Contains(rule.Verbs, verb) && slices.Contains(rule.APIGroups, group) &&
				slices.Contains(rule.Resources, resource) {
				return role.Name
			}
		}
	}
	return ""
}
