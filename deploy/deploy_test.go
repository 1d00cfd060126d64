package deploy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"irctl/deploy"
	"irctl/internal/cluster/rights"
	"irctl/internal/steps"
)

func parse(t *testing.T, text string) rbacv1.ClusterRole {
	t.Helper()
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict([]byte(text), &role); err != nil {
		t.Fatal(err)
	}
	return role
}

// grants is what a role allows when it is bound to somebody everywhere.
func grants(role rbacv1.ClusterRole) rights.Rights {
	return rights.For(rights.Subject{Namespace: "n", Name: "a"},
		rights.Sources{ClusterRoles: []rbacv1.ClusterRole{role},
			ClusterRoleBindings: []rbacv1.ClusterRoleBinding{{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole",
				Name: role.Name}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "n", Name: "a"}}}}})
}

func reads(verb string) bool { return verb == "get" || verb == "list" || verb == "watch" }

func TestEveryRightIsGrantedByTheRoleThatDoctorNames(t *testing.T) {
	roles := map[string]rights.Rights{}
	for _, text := range deploy.ClusterRoles {
		role := parse(t, text)
		roles[role.Name] = grants(role)
	}
	for _, need := range steps.Rights {
		r, exists := roles[need.Role()]
		if need.Verb == "bind" {
			for name, r := range roles {
				if r.Allows(need.Verb, need.Group, need.Resource, "any", "x") {
					t.Errorf("%s may bind every role, and so everything", name)
				}
			}
			continue
		}
		if !exists || !r.Allows(need.Verb, need.Group, need.Resource, "any", "x") {
			t.Errorf("%s may not %s %s/%s, to %s", need.Role(), need.Verb, need.Group, need.Resource, need.For)
		}
	}
}

func TestTheInvestigatorMayReadWhatEveryPhaseNeeds(t *testing.T) {
	r := grants(parse(t, deploy.Investigator))
	for _, need := range steps.Rights {
		if need.Phase != steps.PhaseEradicate && need.Phase != steps.PhaseRecover && reads(need.Verb) &&
			!r.Allows(need.Verb, need.Group, need.Resource, "any", "x") {
			t.Errorf("may not %s %s/%s, to %s", need.Verb, need.Group, need.Resource, need.For)
		}
	}
}

// beyond are the writes that Rights does not list, since they are needed only
// where a cluster has these kinds.
var beyond = map[string][]string{
	"irctl-responder": {"patch keda.sh/scaledobjects", "patch argoproj.io/applications",
		"patch argoproj.io/rollouts/scale",
		"patch kustomize.toolkit.fluxcd.io/kustomizations", "patch helm.toolkit.fluxcd.io/helmreleases"},
	"irctl-eradicator": {"patch external-secrets.io/externalsecrets", "patch cert-manager.io/certificates/status"},
}

func TestTheRoleForARightIsFound(t *testing.T) {
	for _, c := range [][4]string{
		{"patch", "", "pods", "irctl-responder"}, {"patch", "apps", "deployments/scale", "irctl-responder"},
		{"patch", "keda.sh", "scaledobjects", "irctl-responder"},
		{"patch", "", "secrets", "irctl-eradicator"}, {"patch", "rbac.authorization.k8s.io", "rolebindings",
			"irctl-unbinder"}, {"delete", "", "pods", "irctl-recoverer"},
		{"patch", "", "configmaps", ""}, {"get", "apps", "pods", ""},
	} {
		if got := deploy.RoleFor(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%s %s/%s: %q, not %q", c[0], c[1], c[2], got, c[3])
		}
	}
}

func TestARoleMayWriteNothingThatNobodyNeedsOfIt(t *testing.T) {
	for _, text := range []string{deploy.Responder, deploy.Eradicator, deploy.Unbinder, deploy.Recoverer} {
		role := parse(t, text)
		needed := slices.Clone(beyond[role.Name])
		for _, r := range steps.Rights {
			if r.Role() == role.Name {
				needed = append(needed, r.Verb+" "+r.Group+"/"+r.Resource)
			}
		}
		for _, rule := range role.Rules {
			for _, v := range rule.Verbs {
				for _, g := range rule.APIGroups {
					for _, res := range rule.Resources {
						if w := v + " " + g + "/" + res; !reads(v) && !slices.Contains(needed, w) {
							t.Errorf("%s may %s, which nobody needs of it", role.Name, w)
						}
					}
				}
			}
		}
	}
}

func TestTheInvestigatorMayChangeNothing(t *testing.T) {
	for _, rule := range parse(t, deploy.Investigator).Rules {
		for _, v := range rule.Verbs {
			if !reads(v) {
				t.Errorf("may %s %v", v, rule.Resources)
			}
		}
	}
}

func TestNoRoleHasAWildcardOrADangerousRight(t *testing.T) {
	for _, text := range deploy.ClusterRoles {
		role := parse(t, text)
		for _, rule := range role.Rules {
			if all := slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources); slices.Contains(all, "*") {
				t.Errorf("%s has a wildcard: %v", role.Name, all)
			}
		}
		// Whoever replaces secrets reads them.
		if d := grants(role).Dangers(); len(d) > 0 && role.Name != "irctl-eradicator" {
			t.Errorf("%s may: %s", role.Name, strings.Join(d, "; "))
		}
	}
}

func TestEveryRightSaysWhatItIsFor(t *testing.T) {
	for _, r := range steps.Rights {
		if r.Phase == "" || r.Verb == "" || r.Resource == "" || r.For == "" {
			t.Errorf("%+v", r)
		}
	}
}

// TestThePageOfRightsNamesEveryWrite keeps docs/rights.md whole: a right that a
// role gets has to be weighed there, before it ships.
func TestThePageOfRightsNamesEveryWrite(t *testing.T) {
	page, err := os.ReadFile("../docs/rights.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(page), "\n## ")
	for _, text := range deploy.ClusterRoles {
		role := parse(t, text)
		at := slices.IndexFunc(sections, func(s string) bool { return strings.HasPrefix(s, role.Name+"\n") })
		if at < 0 {
			t.Errorf("%s has no section", role.Name)
			continue
		}
		for _, w := range writes(role) {
			if !namesInOneRow(sections[at], w) {
				t.Errorf("the section of %s does not say what `%s` `%s` lets its holder do", role.Name, w[0], w[1])
			}
		}
	}
}

// writes are the verb and the resource of everything that a role may change, as
// kubectl names them.
func writes(role rbacv1.ClusterRole) (list [][2]string) {
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				name, sub, _ := strings.Cut(resource, "/")
				if group != "" {
					name += "." + group
				}
				if sub != "" {
					name += "/" + sub
				}
				for _, verb := range rule.Verbs {
					if !reads(verb) {
						list = append(list, [2]string{verb, name})
					}
				}
			}
		}
	}
	return list
}

func namesInOneRow(section string, words [2]string) bool {
	for line := range strings.Lines(section) {
		right, _, row := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if row && strings.Contains(right, "`"+words[0]+"`") && strings.Contains(right, "`"+words[1]+"`") {
			return true
		}
	}
	return false
}

// TestTheFilesSayWhatTheyGrant: who applies a role reads its file, not the page.
func TestTheFilesSayWhatTheyGrant(t *testing.T) {
	for _, text := range deploy.ClusterRoles {
		role := parse(t, text)
		comment, _, _ := strings.Cut(text, "\napiVersion:")
		if !strings.Contains(comment, "docs/rights.md") {
			t.Errorf("the file of %s does not lead to docs/rights.md", role.Name)
		}
		strong := role.Name == "irctl-responder" || role.Name == "irctl-eradicator"
		if strong != strings.Contains(comment, "in effect cluster-admin") {
			t.Errorf("the file of %s does not say whether its holder is in effect cluster-admin", role.Name)
		}
	}
}
