package e2e

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"irctl/test/e2e/manifest"
)

// Somebody who puts the workload back right after it was taken down is noticed
// at the second look.
func TestWhatIsPutBackIsNoticed(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	fought := make(chan error, 1)
	go func() { fought <- n.putBack("deployment", suspect.Name) }()

	c := newPerson(t, responder).contain("--pod", suspect.Name, "-n", n.name, "--second-look", "10s").
		exits(exitNotContained)

	if err := <-fought; err != nil {
		t.Fatal(err)
	}
	if c.Verdict != notContained || len(c.PutBack) == 0 {
		t.Errorf("verdict %q, put back: %v; want %q and the workload%s", c.Verdict, c.PutBack, notContained, c)
	}
	n.survives(suspect)
}

// putBack waits until a deployment is down but for one pod, lets irctl see it,
// and scales it up again.
func (n *Namespace) putBack(name, but string) error {
	ctx, cancel := context.WithTimeout(n.ctx(), waitLimit)
	defer cancel()
	deployments := world.Client.AppsV1().Deployments(n.name)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		scale, err := deployments.GetScale(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := world.Client.CoreV1().Pods(n.name).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if scale.Spec.Replicas == 0 && len(pods.Items) == 1 && pods.Items[0].Name == but {
			break
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// irctl looks once a second at least, and takes the second look later.
	select {
	case <-time.After(4 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	two := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: n.name},
		Spec: autoscalingv1.ScaleSpec{Replicas: 2}}
	_, err := deployments.UpdateScale(ctx, name, two, metav1.UpdateOptions{})
	return err
}

// applicationDefinition is as much of Argo CD as irctl talks to.
const applicationDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: applications.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {kind: Application, plural: applications, singular: application}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

var applications = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"}

// A GitOps controller would put the workload back. Without leave it is only
// reported; with it, suspended, and undo makes it what it was.
func TestGitOpsIsReportedSuspendedAndResumed(t *testing.T) {
	t.Parallel()
	if world.Cluster == nil {
		t.Skip("a cluster of somebody else's may run a real Argo CD")
	}
	n := newNamespace(t)
	if err := manifest.Apply(n.ctx(), world.Admin, "", []byte(applicationDefinition)); err != nil {
		t.Fatal(err)
	}
	n.await("the definition to be served", func(ctx context.Context) (bool, error) {
		_, err := world.Dynamic.Resource(applications).Namespace(n.name).List(ctx, metav1.ListOptions{})
		return err == nil, ignoreNotFound(err)
	})
	n.apply(`
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: todo}
spec:
  project: default
  syncPolicy: {automated: {prune: true, selfHeal: true}}
`)
	n.workload("deployment", 2)
	mark := fmt.Appendf(nil,
		`{"metadata":{"annotations":{"argocd.argoproj.io/tracking-id":"%[1]s_todo:apps/Deployment:%[1]s/deployment"}}}`,
		n.name)
	if _, err := world.Client.AppsV1().Deployments(n.name).
		Patch(n.ctx(), "deployment", types.MergePatchType, mark, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	automated := func() (value any) {
		n.each(applications, func(object *unstructured.Unstructured) {
			value = field(object, "spec", "syncPolicy", "automated")
		})
		return value
	}
	was := automated()
	suspect := n.pod("app=deployment")
	before := n.settled(suspect)
	jane := newPerson(t, responder)

	if c := jane.contain("--pod", suspect.Name, "-n", n.name, "--dry-run").exits(exitDone); !c.warned("controller") {
		t.Errorf("Argo CD is not reported: %+v", c.Warnings)
	}
	jane.contain("--pod", suspect.Name, "-n", n.name, "--suspend-controllers").exitsContained()
	if value := automated(); value != nil {
		t.Errorf("Argo CD still syncs by itself: %v", value)
	}
	jane.undo("--all").exits(exitDone)
	n.restored(before, nil, suspect)
	if now := automated(); !reflect.DeepEqual(now, was) {
		t.Errorf("Argo CD was not resumed as it was: %v, want %v", now, was)
	}
}
