package e2e

import (
	"os"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/test/e2e/gadget"
	"irctl/test/e2e/todoapp"
)

// A Kind is something that can own a pod, and what it means for it to be down.
type Kind struct {
	name string
	pods int
	// deploy puts it into a namespace; nil: its manifest is all it takes.
	deploy func(*Namespace)
	// down fails the test unless it is kept from running pods; nil: nothing owns
	// the pod.
	down func(*Namespace)
	// besides leaves out what undo cannot restore; nil: there is nothing such.
	besides func(Objects) Objects
}

var deployments = appsv1.SchemeGroupVersion.WithResource("deployments")

var kinds = []Kind{
	{name: "deployment", pods: 2, down: atZero(deployments)},
	{name: "statefulset", pods: 2, down: atZero(appsv1.SchemeGroupVersion.WithResource("statefulsets"))},
	{name: "replicaset", pods: 2, down: atZero(appsv1.SchemeGroupVersion.WithResource("replicasets"))},
	{name: "replicationcontroller", pods: 2,
		down: atZero(corev1.SchemeGroupVersion.WithResource("replicationcontrollers"))},
	{name: "gadget", pods: 2, down: atZero(gadget.Resource)},
	{
		name: "daemonset", pods: 1, down: keptOffTheNode,
		// Kubernetes keeps a history of its templates.
		besides: func(o Objects) Objects { return o.without("controllerrevisions") },
	},
	{
		name: "job", pods: 2, down: suspended("jobs"),
		// Its controller notes that it was suspended once.
		besides: func(o Objects) Objects { return o.without("jobs", "status") },
	},
	{
		name: "cronjob", pods: 1, deploy: startedCronJob, down: suspended("cronjobs", "jobs"),
		besides: func(o Objects) Objects { return o.without("jobs", "status").without("cronjobs", "status") },
	},
	{name: "pod", pods: 1},
	{name: "static", pods: 1, deploy: staticPod},
}

// Whatever owns the suspect: it is cut off and survives, what owns it is down,
// and undo brings all of it back.
func TestContainEveryKindOfWorkload(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			containKind(t, kind)
		})
	}
}

func containKind(t *testing.T, kind Kind) {
	n := newNamespace(t)
	if kind.deploy != nil {
		kind.deploy(n)
	} else {
		n.workload(kind.name, kind.pods)
	}
	neighbour := n.neighbour()
	selector := "app=" + kind.name
	suspect := n.pod(selector)
	in, out := flow(neighbour, suspect, 8080), flow(suspect, neighbour, 8080)
	before := n.settled(suspect)
	jane := newPerson(t, responder)

	c := jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained()

	if world.Enforced {
		n.stopped(in, out)
	}
	n.survives(suspect)
	if kind.down != nil {
		kind.down(n)
		if left := n.siblings(selector, suspect); len(left) > 0 {
			t.Errorf("pods of the workload are left: %v", left)
		}
		if owners := n.again(suspect).OwnerReferences; len(owners) > 0 {
			t.Errorf("the suspect is still owned by %v", owners)
		}
	}
	if second := jane.contain("--pod", suspect.Name, "-n", n.name).exitsContained(); len(second.Actions) > 0 ||
		second.Incident != c.Incident {
		t.Errorf("the second run did %+v in incident %s, the first was %s", second.Actions, second.Incident, c.Incident)
	}

	jane.undo("--all").exits(exitDone)

	n.restored(before, kind.besides, suspect)
	n.survives(suspect)
	n.awaitPods(selector, kind.pods)
	n.flows(in, out)
}

// each calls a function for every object of a resource in the namespace, of
// which there must be one at least.
func (n *Namespace) each(resource schema.GroupVersionResource, check func(*unstructured.Unstructured)) {
	n.t.Helper()
	list, err := world.Dynamic.Resource(resource).Namespace(n.name).List(n.ctx(), metav1.ListOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	if len(list.Items) == 0 {
		n.t.Fatalf("no %s in %s", resource.Resource, n.name)
	}
	for i := range list.Items {
		check(&list.Items[i])
	}
}

// field is a field of an object, nil if it is not there.
func field(object *unstructured.Unstructured, path ...string) any {
	value, _, _ := unstructured.NestedFieldNoCopy(object.Object, path...)
	return value
}

func atZero(resource schema.GroupVersionResource) func(*Namespace) {
	return func(n *Namespace) {
		n.t.Helper()
		n.each(resource, func(object *unstructured.Unstructured) {
			if replicas := field(object, "spec", "replicas"); replicas != int64(0) {
				n.t.Errorf("%s has %v replicas, want 0", object.GetName(), replicas)
			}
		})
	}
}

func suspended(resources ...string) func(*Namespace) {
	return func(n *Namespace) {
		n.t.Helper()
		for _, resource := range resources {
			n.each(batchv1.SchemeGroupVersion.WithResource(resource), func(object *unstructured.Unstructured) {
				if suspend := field(object, "spec", "suspend"); suspend != true {
					n.t.Errorf("%s: suspend is %v, want true", object.GetName(), suspend)
				}
			})
		}
	}
}

func keptOffTheNode(n *Namespace) {
	n.t.Helper()
	n.each(appsv1.SchemeGroupVersion.WithResource("daemonsets"), func(object *unstructured.Unstructured) {
		if desired := field(object, "status", "desiredNumberScheduled"); world.Cluster != nil && desired != int64(0) {
			n.t.Errorf("%s still wants to run on %v nodes", object.GetName(), desired)
		}
	})
}

func startedCronJob(n *Namespace) {
	n.t.Helper()
	n.apply(string(todoapp.Workload("cronjob", n.name)))
	if _, err := todoapp.StartCronJob(n.ctx(), world.Client, n.name, "cronjob"); err != nil {
		n.t.Fatal(err)
	}
	n.awaitPods("app=cronjob", 1)
}

func staticPod(n *Namespace) {
	n.t.Helper()
	if world.Cluster == nil {
		n.t.Skip("no way to the static pods of this cluster's kubelet")
	}
	if err := world.Cluster.AddStaticPod(n.name, todoapp.Workload("static", n.name)); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := world.Cluster.RemoveStaticPod(n.name); err != nil && !os.IsNotExist(err) {
			n.t.Error(err)
		}
	})
	n.awaitPods("app=static", 1)
}
