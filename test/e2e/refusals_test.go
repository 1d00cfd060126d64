package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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
		if action.Outcome != "denied" && action.Outcome != "refused" {
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
			t.Errorf("%s of %s: the server would do it for an investigator: %s", action.Action, action.Object,
				action.Outcome)
		}
	}
}

// denial is an admission policy that denies a namespace something, and what shows
// that it bites.
type denial struct {
	// rule is what it looks at, and what has to hold.
	rule  string
	says  string
	probe func(ctx context.Context, n *Namespace, pod string) error
}

// nobodyQuarantines lets nobody mark a pod as quarantined.
var nobodyQuarantines = denial{
	rule: `{apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [pods]}]
  validations:
  - expression: "!has(object.metadata.labels) || !('quarantine' in object.metadata.labels)"`,
	says: "nobody quarantines on my watch",
	probe: func(ctx context.Context, n *Namespace, pod string) error {
		patch := []byte(`{"metadata":{"labels":{"quarantine":"true"}}}`)
		_, err := world.Client.CoreV1().Pods(n.name).Patch(ctx, pod, types.MergePatchType, patch, dryRun)
		return err
	},
}

// nobodyScales lets nobody scale a Deployment.
var nobodyScales = denial{
	rule: `{apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [deployments/scale]}]
  validations:
  - expression: "false"`,
	says: "nobody scales on my watch",
	probe: func(ctx context.Context, n *Namespace, _ string) error {
		patch := []byte(`{"spec":{"replicas":1}}`)
		_, err := world.Client.AppsV1().Deployments(n.name).
			Patch(ctx, "deployment", types.MergePatchType, patch, dryRun, "scale")
		return err
	},
}

var dryRun = metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}

const denying = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NAME}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {name: NAME}}
    resourceRules: [RULE
    message: SAYS
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
	n.denies(nobodyQuarantines, suspect.Name)
	before := n.settled(suspect)
	jane := newPerson(t, responder)

	c := jane.contain("--pod", suspect.Name, "-n", n.name, brief).exits(exitError)

	if c.Verdict != notContained {
		t.Errorf("verdict %q, want %q", c.Verdict, notContained)
	}
	if outcomes := fmt.Sprint(c.outcomes("quarantine"), c.outcomes("detach"),
		c.outcomes("scale")); outcomes != "[done] [denied] [refused]" {
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

// What was denied weighs until it is done: contain, status, the terminal UI and the
// report say the same, and once the policy is gone the same command clears it. The
// timeline has both.
func TestADenialWeighsUntilTheSameCommandSucceeds(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Fatal("tmux is not installed; test/e2e/install-deps.sh gets it")
	}
	for name, tc := range map[string]struct {
		denial denial
		step   string
	}{
		"scaling": {nobodyScales, "scale"},
		"labels":  {nobodyQuarantines, "detach"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNamespace(t)
			n.workload("deployment", 2)
			suspect := n.pod("app=deployment")
			allow := n.denies(tc.denial, suspect.Name)
			jane := newPerson(t, responder)
			args := []string{"--pod", suspect.Name, "-n", n.name, brief}

			c := jane.contain(args...).exits(exitError)

			if got := fmt.Sprint(c.outcomes(tc.step)); got != "[denied]" ||
				!strings.Contains(c.stderr, tc.denial.says) {
				t.Errorf("%s: %s%s", tc.step, got, c)
			}
			s := jane.screen()
			s.write(world.Irctl + " -n " + n.name + "\n")
			s.until("1 open incident", c.Incident)
			s.press("Enter")
			jane.everybodySays(notContained, jane.status(exitNotContained).Verdict, c.Verdict)
			s.until("NOT CONTAINED")

			allow()
			c = jane.contain(args...).exitsContained()

			if c.Opened {
				t.Errorf("the second one opened an incident%s", c)
			}
			jane.everybodySays(c.Verdict, jane.status(c.code).Verdict)
			s.await("CONTAINED", func(screen string) bool {
				return strings.Contains(screen, "CONTAINED") && !strings.Contains(screen, "NOT CONTAINED")
			})
			if got := fmt.Sprint(jane.told("outcome", tc.step),
				jane.told("verdict", "verify")); got != "[denied done] [failed done]" {
				t.Errorf("the timeline has of %s, and of verdicts: %s", tc.step, got)
			}
			n.survives(suspect)
		})
	}
}

// everybodySays fails the test unless the verdicts, and that of the report, are the
// one that is wanted.
func (p *Person) everybodySays(want string, verdicts ...string) {
	p.t.Helper()
	var report struct {
		Verdict struct {
			Verdict string `json:"verdict"`
			Looked  bool   `json:"looked"`
		} `json:"verdict"`
	}
	run := p.irctl("report", "--format", "json").exits(exitDone)
	run.decode(&report)
	for _, v := range append(verdicts, report.Verdict.Verdict) {
		if v != want {
			p.t.Errorf("the verdicts are %q, and in the report %+v; all have to be %q", verdicts, report.Verdict, want)
			return
		}
	}
	if !report.Verdict.Looked {
		p.t.Errorf("the report did not look at the cluster%s", run)
	}
}

// told are the outcomes of the entries of a kind and step, in the journal of the only
// incident.
func (p *Person) told(kind, step string) (outcomes []string) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.incidents()[0], "timeline.jsonl"))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e struct{ Kind, Step, Outcome string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			p.t.Fatal(err)
		}
		if e.Kind == kind && e.Step == step {
			outcomes = append(outcomes, e.Outcome)
		}
	}
	return outcomes
}

// denies installs a policy for this namespace, and waits until it bites. allow takes
// it away, and waits until it does not; else the test's end does.
func (n *Namespace) denies(d denial, pod string) (allow func()) {
	n.t.Helper()
	text := strings.NewReplacer("NAME", n.name, "RULE", d.rule, "SAYS", d.says).Replace(denying)
	if err := manifest.Apply(n.ctx(), world.Admin, "", []byte(text)); err != nil {
		n.t.Fatal(err)
	}
	remove := sync.OnceFunc(func() {
		admission := world.Client.AdmissionregistrationV1()
		if err := admission.ValidatingAdmissionPolicyBindings().
			Delete(context.Background(), n.name, metav1.DeleteOptions{}); err != nil {
			n.t.Error(err)
		}
		if err := admission.ValidatingAdmissionPolicies().
			Delete(context.Background(), n.name, metav1.DeleteOptions{}); err != nil {
			n.t.Error(err)
		}
	})
	n.t.Cleanup(remove)
	bites := func(want bool) {
		n.t.Helper()
		n.await(fmt.Sprintf("the admission policy to bite: %v", want), func(ctx context.Context) (bool, error) {
			err := d.probe(ctx, n, pod)
			if err != nil && !strings.Contains(err.Error(), d.says) {
				return false, err
			}
			return (err != nil) == want, nil
		})
	}
	bites(true)
	return func() {
		n.t.Helper()
		remove()
		bites(false)
	}
}
