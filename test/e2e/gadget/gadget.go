// Package gadget is a controller for the custom resource gadgets.example.com.
//
// It does what any careful controller of pods does, and what irctl counts on: it
// makes as many pods as wanted, adopts pods that match its selector and have no
// owner, and lets go of its pods that match no longer.
package gadget

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Resource is the gadgets' place in the API.
var Resource = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "gadgets"}

// every is how often the controller looks. Looking is cheaper to get right than
// watching, and a test cluster has few gadgets.
const every = 200 * time.Millisecond

type controller struct {
	gadgets dynamic.NamespaceableResourceInterface
	client  kubernetes.Interface
	log     io.Writer
}

// Run controls all gadgets of a cluster until ctx is done.
func Run(ctx context.Context, config *rest.Config, log io.Writer) error {
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("gadget controller: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("gadget controller: %w", err)
	}
	c := &controller{gadgets: dynamicClient.Resource(Resource), client: client, log: log}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := c.reconcileAll(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(log, "gadget controller:", err)
		}
	}
}

func (c *controller) reconcileAll(ctx context.Context) error {
	list, err := c.gadgets.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil // the definition is not there yet
	}
	if err != nil {
		return err
	}
	var errs []error
	for i := range list.Items {
		if err := c.reconcile(ctx, &list.Items[i]); err != nil && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("%s/%s: %w", list.Items[i].GetNamespace(), list.Items[i].GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// spec is what a gadget asks for.
type spec struct {
	Replicas int                    `json:"replicas"`
	Paused   bool                   `json:"paused"`
	Selector *metav1.LabelSelector  `json:"selector"`
	Template corev1.PodTemplateSpec `json:"template"`
}

func (c *controller) reconcile(ctx context.Context, gadget *unstructured.Unstructured) error {
	var object struct {
		Spec spec `json:"spec"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(gadget.Object, &object); err != nil {
		return err
	}
	want := object.Spec
	selector, err := metav1.LabelSelectorAsSelector(want.Selector)
	if err != nil {
		return err
	}
	if gadget.GetDeletionTimestamp() != nil || want.Paused {
		return nil
	}
	mine, err := c.claim(ctx, gadget, selector)
	if err != nil {
		return err
	}
	for len(mine) > want.Replicas {
		last := mine[len(mine)-1]
		if err := c.client.CoreV1().Pods(last.Namespace).Delete(ctx, last.Name, metav1.DeleteOptions{}); err != nil &&
			!apierrors.IsNotFound(err) {
			return err
		}
		mine = mine[:len(mine)-1]
	}
	for n := len(mine); n < want.Replicas; n++ {
		pod := &corev1.Pod{ObjectMeta: *want.Template.ObjectMeta.DeepCopy(), Spec: want.Template.Spec}
		pod.GenerateName, pod.Namespace = gadget.GetName()+"-", gadget.GetNamespace()
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(gadget, gadget.GroupVersionKind())}
		if _, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return c.report(ctx, gadget, want.Replicas, selector.String())
}

// claim returns the gadget's living pods, after adopting those that match and
// releasing those that do not.
func (c *controller) claim(ctx context.Context, gadget *unstructured.Unstructured,
	selector labels.Selector) ([]corev1.Pod, error) {
	pods, err := c.client.CoreV1().Pods(gadget.GetNamespace()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var mine []corev1.Pod
	for _, pod := range pods.Items {
		owner, matches := metav1.GetControllerOf(&pod), selector.Matches(labels.Set(pod.Labels))
		dead := pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded ||
			pod.Status.Phase == corev1.PodFailed
		switch {
		case owner != nil && owner.UID == gadget.GetUID() && !matches:
			if err := c.setOwners(ctx, &pod, nil); err != nil {
				return nil, fmt.Errorf("release pod %s: %w", pod.Name, err)
			}
			fmt.Fprintf(c.log, "gadget %s released pod %s\n", gadget.GetName(), pod.Name)
		case owner != nil && owner.UID == gadget.GetUID() && !dead:
			mine = append(mine, pod)
		case owner == nil && matches && !dead:
			reference := metav1.NewControllerRef(gadget, gadget.GroupVersionKind())
			if err := c.setOwners(ctx, &pod, []metav1.OwnerReference{*reference}); err != nil {
				return nil, fmt.Errorf("adopt pod %s: %w", pod.Name, err)
			}
			fmt.Fprintf(c.log, "gadget %s adopted pod %s\n", gadget.GetName(), pod.Name)
			mine = append(mine, pod)
		}
	}
	// Those that served longest are the last to go.
	slices.SortStableFunc(mine, func(a, b corev1.Pod) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	return mine, nil
}

func (c *controller) setOwners(ctx context.Context, pod *corev1.Pod, owners []metav1.OwnerReference) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":             pod.UID, // not a new pod of the same name
		"resourceVersion": pod.ResourceVersion,
		"ownerReferences": owners,
	}})
	if err != nil {
		return err
	}
	_, err = c.client.CoreV1().Pods(pod.Namespace).
		Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// report fills in the status that the scale subresource reads.
func (c *controller) report(ctx context.Context, gadget *unstructured.Unstructured, replicas int,
	selector string) error {
	status := map[string]any{"replicas": int64(replicas), "selector": selector}
	old, _, _ := unstructured.NestedMap(gadget.Object, "status")
	if fmt.Sprint(old) == fmt.Sprint(status) {
		return nil
	}
	updated := gadget.DeepCopy()
	updated.Object["status"] = status
	_, err := c.gadgets.Namespace(gadget.GetNamespace()).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	return err
}
