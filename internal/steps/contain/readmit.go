package contain

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

// ReadmitTime bounds the wait for controllers to take note that they run
// again. They need milliseconds, where the controller manager is well.
const ReadmitTime = 20 * time.Second

// Detaches reports whether a change takes labels off a pod: undoing it hands
// the pod back to its controllers.
func Detaches(c change.Change) bool {
	for _, f := range c.Fields {
		if c.Object.Kind == cluster.Pod.Kind && len(f.Path) == 3 && f.Path[1] == "labels" && f.Before != nil &&
			f.After == nil {
			return true
		}
	}
	return false
}

// AwaitReadmission waits until the controllers of a detached pod would keep it
// if they got it back. The error says which would delete it, and with it the
// evidence: one that was scaled to zero, suspended or kept off the pod's node,
// or a ReplicaSet of an earlier revision. The chain is that of the pod's owners
// when it was detached, its own first. A pod that is gone has nothing to lose.
func AwaitReadmission(ctx context.Context, client *cluster.Client, pod cluster.Ref, chain []cluster.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, ReadmitTime)
	defer cancel()
	live, err := client.Kube.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.UID != pod.UID {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", pod, err)
	}
	var lags error
	err = cluster.Wait{}.Until(ctx, func(ctx context.Context) (bool, error) {
		stays, why, err := keeps(client.Owners(ctx, chain), live.Spec.NodeName)
		if ctx.Err() == nil {
			lags = why
		}
		return stays, err
	})
	if err != nil && lags != nil {
		return fmt.Errorf("%w: %w", lags, err)
	}
	return err
}

// keeps reports whether controllers would keep a pod. They do not yet where
// lags says why; they will not where err does.
func keeps(owners []*cluster.Owner, node string) (stays bool, lags, err error) {
	// The top decides; those below follow it, sooner or later.
	for i := len(owners) - 1; i >= 0; i-- {
		o := owners[i]
		if o.Object == nil {
			if gone(o) {
				continue // it cannot take the pod back
			}
			return false, nil, fmt.Errorf("whether %s would keep it is unknown: %w", o.Ref, o.Err)
		}
		if down := stopped(o, node); down != "" {
			down := fmt.Errorf("%s, and would delete the pod, and its evidence with it", down)
			if i == len(owners)-1 || o.Stop == cluster.BySuspend {
				return false, nil, down
			}
			return false, down, nil
		}
		if !observed(o.Object) {
			return false, fmt.Errorf("%s has not taken note of its last change (is the controller manager running?)",
				o.Ref), nil
		}
	}
	return true, nil, nil
}

// stopped says in what way a controller would not keep a pod on a node; "" if
// it would.
func stopped(o *cluster.Owner, node string) string {
	switch o.Stop {
	case cluster.ByScale:
		if o.Replicas == 0 {
			return o.Ref.String() + " has no replicas"
		}
	case cluster.BySuspend:
		if suspended, _, _ := unstructured.NestedBool(o.Object.Object, "spec", "suspend"); suspended {
			return o.Ref.String() + " is suspended"
		}
	case cluster.ByExclusion:
		if node != "" && excludes(nested(o.Object.Object, "spec", "template", "spec", "affinity"), []string{node}) {
			return fmt.Sprintf("%s is kept off node %s", o.Ref, node)
		}
	}
	return ""
}

// observed: the controller has seen the object's present spec. Kinds that do
// not tell are believed to have.
func observed(live *unstructured.Unstructured) bool {
	seen, tells, _ := unstructured.NestedInt64(live.Object, "status", "observedGeneration")
	return !tells || seen >= live.GetGeneration()
}
