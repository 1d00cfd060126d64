package deploy_test

import (
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
	return rights.For(rights.Subject{Namespace: "n", Name: "a"}, rights.Sources{ClusterRoles: []rbacv1.ClusterRole{role},
		ClusterRoleBindings: []rbacv1.ClusterRoleBinding{{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role.Name}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "n", Name: "a"}}}}})
}

func reads(verb string) bool { return verb == "get" || verb == "list" || verb == "watch" }

func TestTheResponderMayDoWhatEveryPhaseNeeds(t *testing.T) {
	r := grants(parse(t, deploy.Responder))
	for _, need := range steps.Rights {
		if need.Phase == steps.PhaseContain && !r.Allows(need.Verb, need.Group, need.Resource, "any", "x") {
			t.Errorf("may not %s %s/%s, to %s", need.Verb, need.Group, need.Resource, need.For)
		}
	}
}

func TestTheInvestigatorMayReadWhatEveryPhaseNeeds(t *testing.T) {
	r := grants(parse(t, deploy.Investigator))
	for _, need := range steps.Rights {
		if need.Phase != steps.PhaseEradicate && need.Phase != steps.PhaseRecover && reads(need.Verb) && !r.Allows(need.Verb, need.Group, need.Resource, "any", "x") {
			t.Errorf("may not %s %s/%s, to %s", need.Verb, need.Group, need.Resource, need.For)
		}
	}
}

func TestTheEradicatorMayDoWhatItsPhaseNeeds(t *testing.T) {
	r := grants(parse(t, deploy.Eradicator))
	var needed []string
	for _, need := range steps.Rights {
		if need.Phase != steps.PhaseEradicate {
			continue
		}
		needed = append(needed, need.Verb+" "+need.Group+"/"+need.Resource)
		if !r.Allows(need.Verb, need.Group, need.Resource, "any", "x") {
			t.Errorf("may not %s %s/%s, to %s", need.Verb, need.Group, need.Resource, need.For)
		}
	}
	// Needed only where a cluster has these kinds.
	needed = append(needed, "patch external-secrets.io/externalsecrets", "patch cert-manager.io/certificates/status")
	for _, rule := range parse(t, deploy.Eradicator).Rules {
		for _, v := range rule.Verbs {
			for _, res := range rule.Resources {
				if w := v + " " + rule.APIGroups[0] + "/" + res; !reads(v) && !slices.Contains(needed, w) {
					t.Errorf("may %s, which nobody needs", w)
				}
			}
		}
		if all := slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources); slices.Contains(all, "*") {
			t.Errorf("it has a wildcard: %v", all)
		}
	}
}

// The one right that the responder lacks is the recoverer's, and all that it has.
func TestTheRecovererMayDeletePodsAndTheResponderTheRestOfItsPhase(t *testing.T) {
	responder, recoverer := grants(parse(t, deploy.Responder)), grants(parse(t, deploy.Recoverer))
	for _, need := range steps.Rights {
		if need.Phase != steps.PhaseRecover {
			continue
		}
		role, deletes := responder, need.Verb == "delete" && need.Resource == "pods"
		if deletes {
			role = recoverer
			if responder.Allows(need.Verb, need.Group, need.Resource, "any", "x") {
				t.Error("the responder may delete pods")
			}
		}
		if !role.Allows(need.Verb, need.Group, need.Resource, "any", "x") {
			t.Errorf("may not %s %s/%s, to %s", need.Verb, need.Group, need.Resource, need.For)
		}
	}
	for _, rule := range parse(t, deploy.Recoverer).Rules {
		for _, v := range rule.Verbs {
			if !reads(v) && (v != "delete" || !slices.Equal(rule.Resources, []string{"pods"})) {
				t.Errorf("may %s %v, which nobody needs", v, rule.Resources)
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

// beyond are the writes that Rights does not list, since they are needed only
// where a cluster has these kinds.
var beyond = []string{"patch keda.sh/scaledobjects", "patch argoproj.io/applications", "patch argoproj.io/rollouts/scale",
	"patch kustomize.toolkit.fluxcd.io/kustomizations", "patch helm.toolkit.fluxcd.io/helmreleases"}

func TestTheResponderMayWriteNothingThatNobodyNeeds(t *testing.T) {
	needed := slices.Clone(beyond)
	for _, r := range steps.Rights {
		needed = append(needed, r.Verb+" "+r.Group+"/"+r.Resource)
	}
	for _, rule := range parse(t, deploy.Responder).Rules {
		for _, v := range rule.Verbs {
			for _, g := range rule.APIGroups {
				for _, res := range rule.Resources {
					if w := v + " " + g + "/" + res; !reads(v) && !slices.Contains(needed, w) {
						t.Errorf("may %s, which nobody needs", w)
					}
				}
			}
		}
	}
}

func TestNoRoleHasAWildcardOrADangerousRight(t *testing.T) {
	for _, text := range []string{deploy.Responder, deploy.Investigator, deploy.Recoverer} {
		role := parse(t, text)
		for _, rule := range role.Rules {
			if all := slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources); slices.Contains(all, "*") {
				t.Errorf("%s has a wildcard: %v", role.Name, all)
			}
		}
		if d := grants(role).Dangers(); len(d) > 0 {
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
