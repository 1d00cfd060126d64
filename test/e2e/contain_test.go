package e2e

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// needsEnforcement skips a test that judges packets where nothing enforces
// policies, or where what does is not known to.
func needsEnforcement(t *testing.T) {
	t.Helper()
	if !world.Enforced {
		t.Skip("nothing in this cluster enforces NetworkPolicies")
	}
}

// The main job: a pod of the todo-app is cut off and kept, its workload is taken
// down, and all of it can be put back.
func TestContainCutsThePodOffAndUndoPutsEverythingBack(t *testing.T) {
	t.Parallel()
	needsEnforcement(t)
	n := newNamespace(t)
	n.todoApp()
	jane := newPerson(t, responder)
	frontend, suspect := n.pod("app=frontend"), n.pod("app=backend")
	postgres, mcp := n.pod("app=postgres"), n.pod("app=mcp-server")
	traffic := []Flow{
		flow(frontend, suspect, 8000), // in
		flow(suspect, postgres, 5432), // and out, by three rules
		flow(suspect, mcp, 8001),
	}
	if world.Cluster != nil {
		traffic = append(traffic, Flow{suspect, world.Cluster.OutsideAddr(), suspect.Name + " → outside"})
	}
	n.flows(traffic...)
	before := n.settled(suspect)

	c := jane.contain("--pod", suspect.Name, "-n", n.name)

	// Its token can read a secret from anywhere, which no policy can prevent.
	c.exits(exitNotContained)
	if c.Verdict != exposed {
		t.Errorf("verdict %q, want %q", c.Verdict, exposed)
	}
	if token := c.finding().exposure(t, "token"); token.Severity != "risk" {
		t.Errorf("the token that reads secrets is a %s, want a risk", token.Severity)
	}
	for _, check := range c.finding().Checks {
		if !check.OK {
			t.Errorf("check %s: %s", check.Code, check.Text)
		}
	}
	if c.Evidence == nil || c.Evidence.Taken {
		t.Errorf("without recipients no evidence is taken, and that is said; got %+v", c.Evidence)
	}

	n.stopped(traffic...)
	n.survives(suspect)
	if owners := n.again(suspect).OwnerReferences; len(owners) > 0 {
		t.Errorf("the suspect is still owned by %v", owners)
	}
	if left := n.siblings("app=backend", suspect); len(left) > 0 {
		t.Errorf("pods of the workload are left: %v", left)
	}
	if served := n.endpoints("backend"); len(served) > 0 {
		t.Errorf("the Service still sends to %v", served)
	}

	jane.undo("--all").exits(exitDone)

	n.restored(before, nil, suspect)
	n.survives(suspect)
	n.awaitPods("app=backend", 2)
	n.await("the Service to send to the suspect again", func(context.Context) (bool, error) {
		return slices.Contains(n.endpoints("backend"), suspect.Name), nil
	})
	n.flows(traffic...)
	jane.irctl("timeline", "verify").exits(exitDone)
}

// A pod that nothing else leads to is contained, and the exit code says so.
func TestContainedIsExitCodeZero(t *testing.T) {
	t.Parallel()
	if world.Cluster == nil {
		t.Skip("the verdict depends on whether irctl recognises what enforces policies there")
	}
	n := newNamespace(t)
	n.todoApp()
	suspect := n.pod("app=frontend")

	c := newPerson(t, responder).contain("--pod", suspect.Name, "-n", n.name)

	c.exits(exitDone)
	if c.Verdict != contained {
		t.Errorf("verdict %q, want %q%s", c.Verdict, contained, c)
	}
}

// What is done already is not done again: no call that changes anything, no new
// incident, the same verdict.
func TestContainTwiceChangesNothingTheSecondTime(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	jane := newPerson(t, responder)
	first := jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()
	before, versions := n.settled(suspect), n.versions()

	second := jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()

	if len(second.Actions) > 0 {
		t.Errorf("the second run did %+v", second.Actions)
	}
	if second.Incident != first.Incident || second.Opened {
		t.Errorf("the second run is of incident %s (opened: %t), want %s", second.Incident, second.Opened,
			first.Incident)
	}
	n.untouched(before, versions, suspect)
}

// Why the labels come off: policies add up, so with them the app's own policy
// goes on to let the frontend in. irctl must not call that contained.
func TestKeptLabelsLeaveThePodOpenAndIrctlSaysSo(t *testing.T) {
	t.Parallel()
	needsEnforcement(t)
	n := newNamespace(t)
	n.todoApp()
	frontend, suspect, postgres := n.pod("app=frontend"), n.pod("app=backend"), n.pod("app=postgres")
	in, out := flow(frontend, suspect, 8000), flow(suspect, postgres, 5432)
	jane := newPerson(t, responder)

	c := jane.contain("--pod", suspect.Name, "-n", n.name, "--keep-labels", "--keep-replicas")

	c.exits(exitNotContained)
	if c.Verdict != notContained {
		t.Errorf("verdict %q, want %q", c.Verdict, notContained)
	}
	for _, code := range []string{"ingress-open", "egress-open"} {
		exposure := c.finding().exposure(t, code)
		if exposure.Severity != "open" || !strings.Contains(exposure.Text, "backend-network-policy") {
			t.Errorf("%s: %+v, want open, and the policy that opens it", code, exposure)
		}
	}
	n.flows(in, out)

	// The same again without the flag closes it.
	if c = jane.contain("--pod", suspect.Name, "-n", n.name, "--keep-replicas"); c.Verdict != exposed {
		t.Errorf("verdict %q, want %q%s", c.Verdict, exposed, c)
	}
	n.stopped(in, out)
}

// Connections that were open before are the enforcer's to end. Ours does, as a
// good one would; what is tested is that irctl gives it cause to.
func TestEstablishedConnectionsEnd(t *testing.T) {
	t.Parallel()
	if world.Cluster == nil {
		t.Skip("not every enforcer ends established connections")
	}
	n := newNamespace(t)
	n.todoApp()
	frontend, suspect := n.pod("app=frontend"), n.pod("app=backend")
	target := flow(frontend, suspect, 8000)
	n.flows(target)
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	type held struct {
		output string
		code   int
		err    error
	}
	ended := make(chan held, 1)
	accepted := connections(n, suspect)
	go func() {
		output, code, err := world.exec(ctx, frontend, "netbox", "hold", target.to)
		ended <- held{output, code, err}
	}()
	n.await("the connection to be open", func(context.Context) (bool, error) {
		return connections(n, suspect) > accepted, nil
	})

	newPerson(t, responder).contain("--pod", suspect.Name, "-n", n.name)

	h := <-ended
	if h.err != nil {
		t.Fatalf("the connection was still open after %s: %v", waitLimit, h.err)
	}
	if h.code != 1 || !strings.Contains(h.output, "alive 1\n") {
		t.Errorf("the connection did not live and then break: exit code %d, %q", h.code, h.output)
	}
}

// connections counts those that the pod says it accepted.
func connections(n *Namespace, pod *corev1.Pod) int {
	n.t.Helper()
	log, err := world.Client.CoreV1().Pods(n.name).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(n.ctx())
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.Count(string(log), "connection ")
}

// The quarantine can be opened to those who investigate, and to nobody else.
func TestForensicsNamespaceMayTalkToTheSuspect(t *testing.T) {
	t.Parallel()
	needsEnforcement(t)
	n, forensics := newNamespace(t), newNamespace(t)
	n.workload("deployment", 2)
	suspect, neighbour, analyst := n.pod("app=deployment"), n.neighbour(), forensics.neighbour()
	n.flows(flow(neighbour, suspect, 8080))

	newPerson(t, responder).contain("--pod", suspect.Name, "-n", n.name, "--allow-namespace", forensics.name).
		exitsContained()

	n.stopped(flow(neighbour, suspect, 8080), flow(suspect, neighbour, 8080))
	forensics.flows(flow(analyst, suspect, 8080))
	n.flows(flow(suspect, analyst, 8080))
}

// An autoscaler leaves a workload at zero alone; that is said, and holds.
func TestContainWithAutoscaler(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	n.apply(`
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: deployment}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: deployment}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
`)
	suspect := n.pod("app=deployment")
	jane := newPerson(t, responder)
	// What the autoscaler writes into its own status is its own affair.
	besides := func(o Objects) Objects { return o.without("horizontalpodautoscalers", "status") }
	before := n.settled(suspect)

	c := jane.contain("--pod", suspect.Name, "-n", n.name, "--second-look", "5s").exitsContained()

	if !c.warned("controller-paused") {
		t.Errorf("the autoscaler is not mentioned: %+v", c.Warnings)
	}
	if len(c.PutBack) > 0 {
		t.Errorf("put back: %v", c.PutBack)
	}
	if left := n.siblings("app=deployment", suspect); len(left) > 0 {
		t.Errorf("pods of the workload are left: %v", left)
	}
	jane.undo("--all").exits(exitDone)
	n.restored(before, besides, suspect)
	n.survives(suspect)
}

// A dry run asks the server about every change and makes none.
func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	jane := newPerson(t, responder)
	before, versions := n.settled(suspect), n.versions()

	c := jane.contain("--pod", suspect.Name, "-n", n.name, "--dry-run").exitsContained()

	if len(c.Actions) != 3 {
		t.Errorf("%d changes are planned, want 3: %+v", len(c.Actions), c.Actions)
	}
	for _, action := range c.Actions {
		if action.Outcome != "skipped" {
			t.Errorf("%s of %s: %s %s", action.Action, action.Object, action.Outcome, action.Error)
		}
	}
	n.untouched(before, versions, suspect)
	if dirs := jane.incidents(); len(dirs) > 0 {
		t.Errorf("a dry run opened %v", dirs)
	}
}

// Without --yes, and without a terminal to ask on, the answer is no.
func TestNothingIsDoneUnasked(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("pod", 1)
	suspect := n.pod("app=pod")
	before, versions := n.settled(suspect), n.versions()
	jane := newPerson(t, responder)

	jane.irctl("contain", "--pod", suspect.Name, "-n", n.name).exits(exitRefused)

	n.untouched(before, versions, suspect)
	if dirs := jane.incidents(); len(dirs) > 0 {
		t.Errorf("an incident was opened: %v", dirs)
	}
}

// A node under suspicion takes no more pods, until undo. It is everybody's node:
// this test runs alone.
func TestCordon(t *testing.T) {
	n := newNamespace(t)
	n.workload("pod", 1)
	suspect := n.pod("app=pod")
	jane := newPerson(t, responder)
	node := func() (unschedulable bool, labels map[string]string) {
		object, err := world.Client.CoreV1().Nodes().Get(n.ctx(), suspect.Spec.NodeName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return object.Spec.Unschedulable, object.Labels
	}
	_, labels := node()

	c := jane.contain("--pod", suspect.Name, "-n", n.name, "--cordon")
	t.Cleanup(func() { uncordon(t, suspect.Spec.NodeName) })

	c.exitsContained()
	if unschedulable, _ := node(); !unschedulable {
		t.Error("the node is not cordoned")
	}
	jane.undo("--all").exits(exitDone)
	if unschedulable, now := node(); unschedulable || !maps.Equal(labels, now) {
		t.Errorf("the node is not as it was: unschedulable %t, labels %v, want %v", unschedulable, now, labels)
	}
}

// uncordon is for when undo did not: no other test could run.
func uncordon(t *testing.T, node string) {
	patch := []byte(`{"spec":{"unschedulable":null}}`)
	if _, err := world.Client.CoreV1().Nodes().Patch(context.Background(), node, types.MergePatchType, patch,
		metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
}

// The words of the command line are checked before anything else.
func TestWrongWordsAreExitCodeTwo(t *testing.T) {
	t.Parallel()
	jane := newPerson(t, responder)
	for _, args := range [][]string{
		{"contain"},
		{"contain", "--pod", "x", "--steps", "pray"},
		{"contain", "backend"},
		{"undo", "--all", "--step", "scale"},
		{"no-such-command"},
	} {
		jane.irctl(args...).exits(exitUsage)
	}
}

// A name that is nearly right is an error that says which is.
func TestNearNameIsSuggested(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.neighbour()

	r := newPerson(t, responder).irctl("contain", "--yes", "--pod", "neighbor", "-n", n.name).exits(exitError)

	if !strings.Contains(r.stderr, "neighbour") {
		t.Errorf("no suggestion%s", r)
	}
}
