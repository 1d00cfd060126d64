package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/test/e2e/manifest"
)

// brief bounds a run that waits for what cannot happen any more.
const brief = "--timeout=10s"

// Who may only look changes nothing, and is told which right is missing.
func TestInvestigatorMayNotContain(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	before, versions := n.settled(suspect), n.versions()

	c := newPerson(t, investigator).contain("--pod", suspect.Name, "-n", n.name, brief).exits(exitError)

	if c.Verdict != notContained {
		t.Errorf("verdict %q, want %q", c.Verdict, notContained)
	}
	for _, action := range c.Actions {
		if action.Outcome != "failed" && action.Outcome != "refused" {
			t.Errorf("%s of %s: %s", action.Action, action.Object, action.Outcome)
		}
	}
	if !strings.Contains(c.stderr, "networkpolicies") || !strings.Contains(c.stderr, "irctl-responder") {
		t.Errorf("neither the right that is missing nor the role that has it is named%s", c)
	}
	n.untouched(before, versions, suspect)
}

// What an investigator may do is see what would be done, and that it would be
// denied to them.
func TestInvestigatorMayLook(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	jack := newPerson(t, investigator)

	c := jack.contain("--pod", suspect.Name, "-n", n.name, "--dry-run").exits(exitError)

	if len(c.Actions) != 3 {
		t.Fatalf("%d changes are planned, want 3%s", len(c.Actions), c)
	}
	for _, action := range c.Actions {
		if !strings.Contains(action.Error, "forbidden") {
			t.Errorf("%s of %s: the server would do it for an investigator: %s", action.Action, action.Object, action.Outcome)
		}
	}
}

// denyQuarantine is an admission policy that lets nobody mark a pod of one
// namespace as quarantined.
const denyQuarantine = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NAME}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {name: NAME}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [pods]}]
  validations:
  - expression: "!has(object.metadata.labels) || !('quarantine' in object.metadata.labels)"
    message: nobody quarantines on my watch
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NAME}
spec: {policyName: NAME, validationActions: [Deny]}
`

// Where an admission policy forbids to detach the suspect, the workload is not
// scaled either: that would destroy the suspect.
func TestAdmissionDenialKeepsTheSuspectAlive(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	n.denyQuarantine(suspect.Name)
	before := n.settled(suspect)
	jane := newPerson(t, responder)

	c := jane.contain("--pod", suspect.Name, "-n", n.name, brief).exits(exitError)

	if c.Verdict != notContained {
		t.Errorf("verdict %q, want %q", c.Verdict, notContained)
	}
	if outcomes := fmt.Sprint(c.outcomes("quarantine"), c.outcomes("detach"), c.outcomes("scale")); outcomes != "[done] [failed] [refused]" {
		t.Errorf("quarantine, detach, scale: %s%s", outcomes, c)
	}
	if !strings.Contains(c.stderr, "nobody quarantines on my watch") {
		t.Errorf("the admission policy's reason is not told%s", c)
	}
	n.survives(suspect)
	n.awaitPods("app=deployment", 2)
	jane.undo("--all").exits(exitDone)
	n.restored(before, nil, suspect)
	jane.irctl("timeline", "verify").exits(exitDone)
}

// denyQuarantine installs the policy for this namespace, and waits until it bites.
func (n *Namespace) denyQuarantine(pod string) {
	n.t.Helper()
	if err := manifest.Apply(n.ctx(), world.Admin, "", []byte(strings.ReplaceAll(denyQuarantine, "NAME", n.name))); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		admission := world.Client.AdmissionregistrationV1()
		if err := admission.ValidatingAdmissionPolicyBindings().Delete(context.Background(), n.name, metav1.DeleteOptions{}); err != nil {
			n.t.Error(err)
		}
		if err := admission.ValidatingAdmissionPolicies().Delete(context.Background(), n.name, metav1.DeleteOptions{}); err != nil {
			n.t.Error(err)
		}
	})
	n.await("the admission policy to bite", func(ctx context.Context) (bool, error) {
		patch := []byte(`{"metadata":{"labels":{"quarantine":"true"}}}`)
		_, err := world.Client.CoreV1().Pods(n.name).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil && !strings.Contains(err.Error(), "on my watch") {
			return false, err
		}
		return err != nil, nil
	})
}

// A quota that is used up forbids the quarantine policy. That is said, what was
// done instead is recorded, and undo leaves nothing behind.
func TestQuotaDenialIsReportedAndUndone(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	n.apply(`
apiVersion: v1
kind: ResourceQuota
metadata: {name: no-policies}
spec: {hard: {count/networkpolicies.networking.k8s.io: "0"}}
`)
	n.await("the quota to be counted", func(ctx context.Context) (bool, error) {
		quota, err := world.Client.CoreV1().ResourceQuotas(n.name).Get(ctx, "no-policies", metav1.GetOptions{})
		return err == nil && len(quota.Status.Used) > 0, err
	})
	suspect := n.pod("app=deployment")
	before := n.settled(suspect)
	jane := newPerson(t, responder)

	c := jane.contain("--pod", suspect.Name, "-n", n.name, brief).exits(exitError)

	if c.Verdict != notContained {
		t.Errorf("verdict %q, want %q", c.Verdict, notContained)
	}
	if outcomes := fmt.Sprint(c.outcomes("quarantine")); outcomes != "[failed]" {
		t.Errorf("quarantine: %s, want it failed%s", outcomes, c)
	}
	if !strings.Contains(c.stderr, "no-policies") {
		t.Errorf("the quota is not named%s", c)
	}
	n.survives(suspect)
	jane.undo("--all").exits(exitDone)
	n.restored(before, nil, suspect)
}

// What cannot be detached would be destroyed by scaling: that takes a word more.
func TestScalingThatDestroysEvidenceIsRefused(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	jane := newPerson(t, responder)

	c := jane.contain("--pod", suspect.Name, "-n", n.name, "--keep-labels", brief).exits(exitRefused)

	if len(c.Refusals) != 1 || c.Refusals[0].Override != "--allow-evidence-loss" {
		t.Errorf("refusals: %+v, want the scale, unless evidence loss is allowed", c.Refusals)
	}
	n.survives(suspect)
	n.awaitPods("app=deployment", 2)
}
