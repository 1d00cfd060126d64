package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"

	"irctl/test/e2e/manifest"
	"irctl/test/e2e/todoapp"
)

// waitLimit bounds every wait for a cluster to do what it is known to do.
const waitLimit = time.Minute

// A Namespace belongs to one test, which can do in it as it likes.
type Namespace struct {
	t    *testing.T
	name string
}

// newNamespace makes an empty namespace that goes away with the test.
func newNamespace(t *testing.T) *Namespace {
	t.Helper()
	n := &Namespace{t: t, name: "e2e-" + rand.String(6)}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{"name": n.name}}}
	if _, err := world.Client.CoreV1().Namespaces().Create(n.ctx(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			n.describe()
		}
		if err := world.Client.CoreV1().Namespaces().
			Delete(context.Background(), n.name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace: %v", err)
		}
	})
	// No pod can be made before its service account is.
	n.await("the default service account", func(ctx context.Context) (bool, error) {
		_, err := world.Client.CoreV1().ServiceAccounts(n.name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, ignoreNotFound(err)
	})
	return n
}

// ctx ends when the test does.
func (n *Namespace) ctx() context.Context { return n.t.Context() }

// describe logs what a person would look at first when a test fails.
func (n *Namespace) describe() {
	pods, err := world.Client.CoreV1().Pods(n.name).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		n.t.Log(err)
		return
	}
	for _, pod := range pods.Items {
		n.t.Logf("pod %s: %s, labels %v, owned by %v, deleted at %v", pod.Name, pod.Status.Phase, pod.Labels,
			pod.OwnerReferences, pod.DeletionTimestamp)
	}
	policies, err := world.Client.NetworkingV1().NetworkPolicies(n.name).
		List(context.Background(), metav1.ListOptions{})
	if err != nil {
		n.t.Log(err)
		return
	}
	for _, policy := range policies.Items {
		n.t.Logf("policy %s selects %v", policy.Name, policy.Spec.PodSelector)
	}
}

// await polls until a condition holds, and fails the test when it takes too long.
func (n *Namespace) await(what string, condition wait.ConditionWithContextFunc) {
	n.t.Helper()
	n.awaitFor(waitLimit, what, condition)
}

func (n *Namespace) awaitFor(limit time.Duration, what string, condition wait.ConditionWithContextFunc) {
	n.t.Helper()
	if err := wait.PollUntilContextTimeout(n.ctx(), 50*time.Millisecond, limit, true, condition); err != nil {
		n.t.Fatalf("waiting for %s: %v", what, err)
	}
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// apply puts YAML into the namespace.
func (n *Namespace) apply(yaml string) {
	n.t.Helper()
	if err := manifest.Apply(n.ctx(), world.Admin, n.name, []byte(yaml)); err != nil {
		n.t.Fatal(err)
	}
}

// grant binds the responder to ClusterRoles in the namespace.
func (n *Namespace) grant(roles ...string) {
	n.t.Helper()
	for _, role := range roles {
		n.apply(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s}
subjects: [{kind: User, name: %[2]s, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: ClusterRole, name: %[1]s, apiGroup: rbac.authorization.k8s.io}
`, role, responder))
	}
}

// grantRule binds the responder to a Role of one rule in the namespace.
func (n *Namespace) grantRule(name, rule string) {
	n.t.Helper()
	n.apply(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]s}
rules: [%[3]s]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s}
subjects: [{kind: User, name: %[2]s, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: Role, name: %[1]s, apiGroup: rbac.authorization.k8s.io}
`, name, responder, rule))
}

// todoApp deploys the todo-app with its policies.
func (n *Namespace) todoApp() {
	n.t.Helper()
	if err := todoapp.Deploy(n.ctx(), world.Admin, n.name); err != nil {
		n.t.Fatal(err)
	}
}

// workload deploys one of the workloads of package todoapp, and waits until as
// many pods of it are ready.
func (n *Namespace) workload(kind string, pods int) {
	n.t.Helper()
	n.apply(string(todoapp.Workload(kind, n.name)))
	n.awaitPods("app="+kind, pods)
}

// neighbour is a pod beside the suspects that answers on port 8080.
func (n *Namespace) neighbour() *corev1.Pod {
	n.t.Helper()
	n.apply(`
apiVersion: v1
kind: Pod
metadata: {name: neighbour, labels: {app: neighbour}}
spec:
  terminationGracePeriodSeconds: 2
  automountServiceAccountToken: false
  containers: [{name: main, image: irctl.test/netbox:1, args: [serve, ":8080"]}]
`)
	n.awaitPods("app=neighbour", 1)
	return n.pod("app=neighbour")
}

func (n *Namespace) awaitPods(selector string, count int) {
	n.t.Helper()
	if err := todoapp.AwaitPods(n.ctx(), world.Client, n.name, selector, count); err != nil {
		n.t.Fatal(err)
	}
}

// pods are those that match a label selector.
func (n *Namespace) pods(selector string) []corev1.Pod {
	n.t.Helper()
	list, err := world.Client.CoreV1().Pods(n.name).List(n.ctx(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		n.t.Fatal(err)
	}
	return list.Items
}

// pod is the first of those that match a label selector.
func (n *Namespace) pod(selector string) *corev1.Pod {
	n.t.Helper()
	pods := n.pods(selector)
	if len(pods) == 0 {
		n.t.Fatalf("no pod %s in %s", selector, n.name)
	}
	return &pods[0]
}

// siblings are the names of the pods that match a selector, but for one.
func (n *Namespace) siblings(selector string, but *corev1.Pod) []string {
	n.t.Helper()
	var names []string
	for _, pod := range n.pods(selector) {
		if pod.UID != but.UID {
			names = append(names, pod.Name)
		}
	}
	return names
}

// again reads a pod anew. It must still be the same one.
func (n *Namespace) again(pod *corev1.Pod) *corev1.Pod {
	n.t.Helper()
	now, err := world.Client.CoreV1().Pods(n.name).Get(n.ctx(), pod.Name, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	if now.UID != pod.UID {
		n.t.Fatalf("pod %s is another one now", pod.Name)
	}
	return now
}

// survives fails the test unless a pod runs on as it did, not restarted.
func (n *Namespace) survives(pod *corev1.Pod) {
	n.t.Helper()
	now := n.again(pod)
	if now.DeletionTimestamp != nil || now.Status.Phase != corev1.PodRunning {
		n.t.Fatalf("pod %s does not survive: %s, deleted at %v", pod.Name, now.Status.Phase, now.DeletionTimestamp)
	}
	for i, status := range now.Status.ContainerStatuses {
		if before := pod.Status.ContainerStatuses[i]; status.ContainerID != before.ContainerID ||
			status.State.Running == nil {
			n.t.Fatalf("container %s of pod %s is not the one that ran before: %+v", status.Name, pod.Name,
				status.State)
		}
	}
}

// quarantines are irctl's policies in the namespace.
func (n *Namespace) quarantines() []string {
	n.t.Helper()
	list, err := world.Client.NetworkingV1().NetworkPolicies(n.name).
		List(n.ctx(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=irctl"})
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, policy := range list.Items {
		names = append(names, policy.Name)
	}
	return names
}

// endpoints are the names of the pods that a Service sends to.
func (n *Namespace) endpoints(service string) []string {
	n.t.Helper()
	list, err := world.Client.DiscoveryV1().EndpointSlices(n.name).
		List(n.ctx(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			names = append(names, endpoint.TargetRef.Name)
		}
	}
	return names
}

// connects makes a new TCP connection from a pod and tells whether it is answered.
func (n *Namespace) connects(from *corev1.Pod, address string) bool {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.ctx(), waitLimit)
	defer cancel()
	output, code, err := world.exec(ctx, from, "netbox", "dial", address, "1s")
	if err != nil {
		n.t.Fatalf("dial %s from %s: %v: %s", address, from.Name, err, output)
	}
	if code == 0 && !strings.HasPrefix(output, "hello from ") {
		n.t.Fatalf("dial %s from %s: a stranger answered: %s", address, from.Name, output)
	}
	return code == 0
}

// A Flow is traffic that policies may allow or not.
type Flow struct {
	from *corev1.Pod
	to   string // HOST:PORT
	what string
}

// flow is from a pod to a port of another.
func flow(from, to *corev1.Pod, port int) Flow {
	return Flow{from, fmt.Sprintf("%s:%d", to.Status.PodIP, port), fmt.Sprintf("%s → %s:%d", from.Name, to.Name, port)}
}

// flows fails the test unless every one of these gets through, once whoever
// enforces the policies has caught up.
func (n *Namespace) flows(all ...Flow) {
	n.t.Helper()
	n.awaitFlows(true, all)
}

// stopped fails the test unless none of these gets through any more.
func (n *Namespace) stopped(all ...Flow) {
	n.t.Helper()
	n.awaitFlows(false, all)
}

func (n *Namespace) awaitFlows(want bool, all []Flow) {
	n.t.Helper()
	for _, f := range all {
		n.await(fmt.Sprintf("%s to get through: %t", f.what, want), func(context.Context) (bool, error) {
			return n.connects(f.from, f.to) == want, nil
		})
	}
	// All together, and not for a moment only.
	for _, f := range all {
		if n.connects(f.from, f.to) != want {
			n.t.Fatalf("%s: gets through: %t, want %t", f.what, !want, want)
		}
	}
}
