package contain_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"irctl/internal/steps/contain"
)

func TestOptionsAreReadBackFromWhatWasDone(t *testing.T) {
	for name, o := range map[string]contain.Options{
		"all steps":   all(),
		"kept labels": {Steps: []string{contain.StepQuarantine, contain.StepDetach}, KeepLabels: true},
		"allowances": {Steps: []string{contain.StepQuarantine, contain.StepDetach}, AllowDNS: true,
			AllowNamespaces: []string{"forensics"}, AllowCIDRs: []string{"10.9.0.0/16"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, deployment()...)
			scene := l.scene(incident, "backend-1")
			var done []contain.Recorded
			list, err := contain.Steps(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				p, err := s.Plan(bounded(t), scene)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range p.Actions {
					done = append(done, contain.Recorded{Step: s.Info().Name, Change: a.Change})
				}
			}
			if diff := cmp.Diff(o, contain.OptionsOf(done), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The quarantine itself is one of the policies that add up: whoever may change
// it can open it, and it must not pass for what was asked for.
func TestAQuarantineThatSomebodyOpenedIsNoQuarantine(t *testing.T) {
	for name, allowed := range map[string]contain.Options{
		"nothing was allowed": all(),
		"DNS was allowed":     {Steps: contain.DefaultSteps, AllowDNS: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, deployment()...)
			scene := l.scene(incident, "backend-1")
			plans, _ := plan(t, scene, allowed)
			do(t, l, plans)
			codes := func() []string {
				a := contain.Look(bounded(t), scene, allowed, &contain.Facts{Enforcers: []string{"a test"}})
				var codes []string
				for _, e := range a.Findings[0].Exposures {
					codes = append(codes, e.Code)
				}
				return codes
			}
			if slices.Contains(codes(), "ingress-open") {
				t.Fatal("open before anybody changed it")
			}
			l.Edit(policies, ns, contain.PolicyName(incident), func(m map[string]any) {
				m["spec"].(map[string]any)["ingress"] = []any{map[string]any{}}
			})
			if got := codes(); !slices.Contains(got, "ingress-open") {
				t.Errorf("exposures %v", got)
			}
		})
	}
}
