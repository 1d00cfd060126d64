package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Two incidents side by side: undoing one leaves the other's policy and suspect
// exactly as they are.
func TestTwoIncidentsInOneNamespaceDoNotTouchEachOther(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	n.workload("statefulset", 2)
	neighbour := n.neighbour()
	one, two := n.pod("app=deployment"), n.pod("app=statefulset")
	jane := newPerson(t, responder)

	first := jane.contain("--pod", one.Name, "-n", n.name).exitsContained()
	second := jane.contain("--pod", two.Name, "-n", n.name).exitsContained()

	if first.Incident == second.Incident {
		t.Fatalf("both suspects are in incident %s", first.Incident)
	}
	if policies := n.quarantines(); len(policies) != 2 {
		t.Fatalf("there are the policies %v, want one for each incident", policies)
	}
	others := func(o Objects) Objects {
		return o.without("deployments").without("replicasets").without("networkpolicies")
	}
	before, versions := n.settled(two), n.versions()

	jane.undo("--all", "--incident", first.Incident).exits(exitDone)

	n.awaitPods("app=deployment", 2)
	now := n.versions()
	for _, mine := range []string{"statefulsets/statefulset", "networkpolicies/irctl-quarantine-" + second.Incident} {
		if versions[mine] != now[mine] || now[mine] == "" {
			t.Errorf("%s was touched: version %q, then %q", mine, versions[mine], now[mine])
		}
	}
	n.restored(before, others, two)
	if policies := n.quarantines(); len(policies) != 1 {
		t.Errorf("there are the policies %v, want that of incident %s only", policies, second.Incident)
	}
	n.flows(flow(neighbour, one, 8080))
	if world.Enforced {
		n.stopped(flow(neighbour, two, 8080))
	}
}

// A pod that somebody else has contained is left to them.
func TestSuspectOfAnotherResponderIsRefused(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	newPerson(t, responder).contain("--pod", suspect.Name, "-n", n.name).exitsContained()
	before := n.settled(suspect)

	newPerson(t, responder).contain("--pod", suspect.Name, "-n", n.name).exits(exitRefused)

	n.restored(before, nil, suspect)
}

// The journal is all it takes to undo, on any machine.
func TestUndoFromACopyOfTheJournal(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	before := n.settled(suspect)
	jane, joe := newPerson(t, responder), newPerson(t, responder)
	c := jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()
	copied := filepath.Join(joe.home, c.Incident)
	if err := os.CopyFS(copied, os.DirFS(c.Directory)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(copied, 0o700); err != nil { // irctl writes to a private directory only
		t.Fatal(err)
	}

	joe.undo("--all", "--journal", copied).exits(exitDone)

	n.restored(before, nil, suspect)
	n.survives(suspect)
	if dirs := joe.incidents(); len(dirs) > 0 {
		t.Errorf("undo from a copy made incidents of its own: %v", dirs)
	}
}

// What somebody else changed since is theirs: undo says so and leaves it.
func TestUndoRefusesWhatSomebodyChangedSince(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	jane := newPerson(t, responder)
	jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()
	deployments := world.Client.AppsV1().Deployments(n.name)
	three := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "deployment", Namespace: n.name},
		Spec: autoscalingv1.ScaleSpec{Replicas: 3}}
	if _, err := deployments.UpdateScale(n.ctx(), "deployment", three, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	u := jane.undo("--all").exits(exitRefused)

	if outcomes := (&Containment{Actions: u.Actions}).outcomes("scale"); len(outcomes) != 1 ||
		outcomes[0] != "refused" {
		t.Errorf("the scale: %v, want it refused%s", outcomes, u)
	}
	scale, err := deployments.GetScale(n.ctx(), "deployment", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if scale.Spec.Replicas != 3 {
		t.Errorf("the deployment has %d replicas, want the 3 that somebody gave it", scale.Spec.Replicas)
	}
	n.survives(suspect)
}

// Steps can be undone one by one, the last first.
func TestUndoStepByStep(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	before := n.settled(suspect)
	jane := newPerson(t, responder)
	jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()

	for _, step := range []string{"scale", "detach", "quarantine"} {
		u := jane.undo().exits(exitDone)
		if len(u.Actions) != 1 || u.Actions[0].Step != step {
			t.Fatalf("undone: %+v, want the %s", u.Actions, step)
		}
	}

	n.restored(before, nil, suspect)
}

// Killed at any moment, irctl goes on where it was, or puts back what it did.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	before := n.settled(suspect)
	command := []string{"contain", "--yes", "-o", "json", "--pod", suspect.Name, "-n", n.name}

	// How long it takes says when it can be killed.
	jane := newPerson(t, responder)
	began := time.Now()
	jane.contain("--pod", suspect.Name, "-n", n.name, "--second-look", "0").exitsContained()
	whole := time.Since(began)
	jane.undo("--all").exits(exitDone)
	n.restored(before, nil, suspect)

	seed := uint64(time.Now().UnixNano())
	t.Logf("a containment takes %s; seed %d", whole, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 6 {
		after := time.Duration(random.Int64N(int64(whole)))
		goOn := round%2 == 0
		t.Logf("round %d: killed after %s, then %s", round, after,
			map[bool]string{true: "again", false: "undone"}[goOn])
		jane := newPerson(t, responder)
		jane.kill(after, command...)
		if goOn {
			jane.contain(command[4:]...).exitsContained()
			n.survives(suspect)
			if policies := n.quarantines(); len(policies) != 1 {
				t.Errorf("there are the policies %v, want one", policies)
			}
		}
		jane.undoAnything()
		n.restored(before, nil, suspect)
		if policies := n.quarantines(); len(policies) > 0 {
			t.Errorf("the policies %v were left behind", policies)
		}
	}
}

// undoAnything undoes what there is to undo: nothing, if irctl was killed before
// it opened an incident.
func (p *Person) undoAnything() {
	p.t.Helper()
	for _, dir := range p.incidents() {
		p.undo("--all", "--incident", filepath.Base(dir)).exits(exitDone)
	}
}

// An undo that is killed is finished by the next one.
func TestKilledDuringUndo(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	// Between its steps an undo can be killed for so long that the workload has
	// all the pods it wants; which of them goes when the suspect comes back is
	// then its controller's choice.
	before := n.settled()
	jane := newPerson(t, responder)
	for _, after := range []time.Duration{50 * time.Millisecond, 120 * time.Millisecond, 250 * time.Millisecond} {
		jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()
		jane.kill(after, "undo", "--all", "--yes")
		jane.undo("--all").exits(exitDone)
		n.restored(before, nil)
		n.awaitPods("app=deployment", 2)
		suspect = n.pod("app=deployment")
	}
	jane.irctl("timeline", "verify", "--incident", filepath.Base(jane.incidents()[0])).exits(exitDone)
}

// One selector, many namespaces: every workload is taken down, every suspect is
// contained and survives, and all come back.
func TestContainManyPodsInManyNamespaces(t *testing.T) {
	t.Parallel()
	const label = "e2e-campaign"
	campaign := fmt.Sprintf("run-%d", time.Now().UnixNano())
	type place struct {
		*Namespace
		before   Objects
		suspects []corev1.Pod
	}
	var places []*place
	for range 4 {
		p := &place{Namespace: newNamespace(t)}
		p.apply(strings.ReplaceAll(campaigners, "CAMPAIGN", campaign))
		places = append(places, p)
	}
	for _, p := range places {
		p.awaitPods(label+"="+campaign, 3)
		p.suspects = p.pods(label + "=" + campaign)
		p.before = p.settled(pointers(p.suspects)...)
	}
	jane := newPerson(t, responder)

	c := jane.contain("-l", label+"="+campaign, "-A").exitsContained()

	if len(c.Targets) != 12 {
		t.Fatalf("%d suspects, want 12", len(c.Targets))
	}
	for _, p := range places {
		for i := range p.suspects {
			p.survives(&p.suspects[i])
		}
		if policies := p.quarantines(); len(policies) != 1 {
			t.Errorf("there are the policies %v in %s, want one", policies, p.name)
		}
		atZero(deployments)(p.Namespace)
	}

	jane.undo("--all").exits(exitDone)
	for _, p := range places {
		p.restored(p.before, nil, pointers(p.suspects)...)
		for i := range p.suspects {
			p.survives(&p.suspects[i])
		}
	}
}

func pointers(pods []corev1.Pod) []*corev1.Pod {
	var all []*corev1.Pod
	for i := range pods {
		all = append(all, &pods[i])
	}
	return all
}

const campaigners = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: campaigner}
spec:
  replicas: 3
  selector: {matchLabels: {app: campaigner}}
  template:
    metadata: {labels: {app: campaigner, e2e-campaign: CAMPAIGN}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers: [{name: main, image: irctl.test/netbox:1, args: [sleep]}]
`

// One name that is wrong does not keep irctl from the one that is right.
func TestOneMissingSuspectDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")

	c := newPerson(t, responder).contain("--pod", suspect.Name, "--pod", "no-such-pod", "-n", n.name).exits(exitError)

	if len(c.Failures) != 1 || !strings.Contains(c.Failures[0], "no-such-pod") {
		t.Errorf("failures: %v, want the pod that does not exist", c.Failures)
	}
	if verdict := c.finding().Verdict; verdict != contained && verdict != exposed {
		t.Errorf("verdict %q on the pod that does exist", verdict)
	}
	n.survives(suspect)
	atZero(deployments)(n)
}

// A workload named by itself is contained with all its pods.
func TestContainAWorkloadByName(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspects := n.pods("app=deployment")
	before := n.settled(pointers(suspects)...)
	jane := newPerson(t, responder)

	c := jane.contain("deployment/deployment", "-n", n.name).exitsContained()

	if len(c.Targets) != len(suspects) {
		t.Errorf("%d suspects, want %d", len(c.Targets), len(suspects))
	}
	for i := range suspects {
		n.survives(&suspects[i])
	}
	atZero(deployments)(n)
	jane.undo("--all").exits(exitDone)
	n.restored(before, nil, pointers(suspects)...)
}

// status tells how an incident stands: that it holds, that somebody put a
// workload back, that all was undone.
func TestStatusTellsWhatHolds(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	jane := newPerson(t, responder)
	c := jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()

	now := jane.status(c.code)
	if now.Verdict != c.Verdict || len(now.Standing) != 3 {
		t.Errorf("status: verdict %q with %d changes, want %q with 3", now.Verdict, len(now.Standing), c.Verdict)
	}
	for _, change := range now.Standing {
		if change.State != "after" {
			t.Errorf("%s: %s", change.Summary, change.State)
		}
	}

	two := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "deployment", Namespace: n.name},
		Spec: autoscalingv1.ScaleSpec{Replicas: 2}}
	if _, err := world.Client.AppsV1().Deployments(n.name).
		UpdateScale(n.ctx(), "deployment", two, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.awaitPods("app=deployment", 2)
	if now = jane.status(exitNotContained); now.Verdict != notContained {
		t.Errorf("the workload was put back, and status says %q", now.Verdict)
	}

	jane.undo("--all").exits(exitDone)
	if now = jane.status(exitDone); len(now.Standing) > 0 {
		t.Errorf("after undo these changes stand: %+v", now.Standing)
	}
}

// What eradication made and others have filled since is not deleted with what
// they put into it: undo names it, does the rest, and takes it once it is empty.
func TestUndoKeepsWhatOthersPutIntoWhatWasMade(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	jane := newPerson(t, admin)
	jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()
	room, group := n.name+"-room", n.name+".e2e.example.com"
	manifests := filepath.Join(jane.home, "made.yaml")
	text := strings.NewReplacer("ROOM", room, "GROUP", group, "NAMESPACE", n.name).Replace(roomAndToys)
	if err := os.WriteFile(manifests, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		toys := world.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1",
			Resource: "customresourcedefinitions"})
		err := errors.Join(ignoreNotFound(world.Client.CoreV1().Namespaces().Delete(ctx, room, metav1.DeleteOptions{})),
			ignoreNotFound(toys.Delete(ctx, "toys."+group, metav1.DeleteOptions{})))
		if err != nil {
			t.Error(err)
		}
	})
	jane.irctl("eradicate", "--apply", manifests, "--yes", "-o", "json")
	theirs := []schema.GroupVersionResource{{Version: "v1", Resource: "configmaps"},
		{Group: group, Version: "v1", Resource: "toys"}}
	for _, gvr := range theirs {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": gvr.GroupVersion().String(),
			"kind":     map[string]string{"configmaps": "ConfigMap", "toys": "Toy"}[gvr.Resource],
			"metadata": map[string]any{"name": "precious"}}}
		n.await(o.GetKind()+" to be served", func(ctx context.Context) (bool, error) {
			_, err := world.Dynamic.Resource(gvr).Namespace(room).Create(ctx, o, metav1.CreateOptions{})
			return err == nil, ignoreNotFound(err)
		})
	}

	for _, flags := range [][]string{{"--dry-run"}, nil} {
		u := jane.undo(append([]string{"--step", "apply"}, flags...)...).exits(exitRefused)
		if len(u.Actions) != 3 {
			t.Fatalf("%d changes, want three%s", len(u.Actions), u)
		}
		for _, a := range u.Actions {
			kept := !strings.HasPrefix(a.Object, "ConfigMap")
			if (a.Outcome == "refused") != kept || kept && !strings.Contains(a.Error, room+"/precious") {
				t.Errorf("%s: %s %s", a.Object, a.Outcome, a.Error)
			}
		}
	}
	for _, gvr := range theirs {
		if err := world.Dynamic.Resource(gvr).Namespace(room).
			Delete(n.ctx(), "precious", metav1.DeleteOptions{}); err != nil {
			t.Fatalf("what others made is gone: %v", err)
		}
	}

	u := jane.undo("--step", "apply").exits(exitDone)
	if len(u.Actions) != 2 {
		t.Errorf("%d changes, want those two that were kept%s", len(u.Actions), u)
	}
	if _, err := world.Client.CoreV1().Namespaces().
		Get(n.ctx(), room, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace was undone, and is still there: %v", err)
	}
	jane.undo("--all").exits(exitDone)
}

const roomAndToys = `
apiVersion: v1
kind: Namespace
metadata: {name: ROOM}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: toys.GROUP}
spec:
  group: GROUP
  names: {kind: Toy, plural: toys, singular: toy, listKind: ToyList}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object,
      x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: made, namespace: NAMESPACE}
data: {key: value}
`
