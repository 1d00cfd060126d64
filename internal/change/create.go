package change

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"irctl/internal/cluster"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

func (c Change) create(ctx context.Context, client dynamic.Interface, dryRun []string) (Result, error) {
	result := Done
	unclear := false // whether an earlier attempt was executed
	err := retryWrite(ctx, func(ctx context.Context) error {
		_, err := c.resource(client).Create(ctx, (&unstructured.Unstructured{Object: c.Manifest}).DeepCopy(),
			metav1.CreateOptions{FieldManager: FieldManager, DryRun: dryRun})
		if !apierrors.IsAlreadyExists(err) {
			unclear = unclear || mayHaveExecuted(err)
			return err
		}
		live, err := c.resource(client).Get(ctx, c.Object.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := c.createdAs(live); err != nil {
			return err
		}
		// A create that failed on the wire but was executed is ours.
		if !unclear {
			result = Already
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return result, nil
}

// createdAs checks that the live object is the one this change made: it
// carries the labels and annotations that were given to it, and its spec is
// the same, no more and no less.
func (c Change) createdAs(live *unstructured.Unstructured) error {
	want := &unstructured.Unstructured{Object: c.Manifest}
	var diff []string
	if c.Apply != nil {
		if diff = covers(nil, meant(want), meant(live)); diff != nil {
			return &DriftError{Object: c.Object, Differences: diff}
		}
		return nil
	}
	for _, path := range [][]string{{"metadata", "labels"}, {"metadata", "annotations"}} {
		given, _ := c.fieldOf(want, path).(map[string]any)
		found, _ := c.fieldOf(live, path).(map[string]any)
		for k, v := range given {
			if !equal(found[k], v) {
				diff = append(diff, fmt.Sprintf("%s is %s, expected %s",
					Field{Path: append(path[:2:2], k)}.Name(), show(found[k]), show(v)))
			}
		}
	}
	if w, l := c.fieldOf(want, []string{"spec"}), c.fieldOf(live, []string{"spec"}); !equal(w, l) {
		diff = append(diff, fmt.Sprintf("spec is %s, expected %s", show(l), show(w)))
	}
	if diff != nil {
		return &DriftError{Object: c.Object, Differences: diff}
	}
	return nil
}

// undoCreate deletes the object while it is as it was made and nothing of
// others goes with it, on condition that it is the very version that was looked
// at. It is undone when the object is gone: a finalizer may keep it.
func (c Change) undoCreate(
	ctx context.Context, client dynamic.Interface, guards []Guard, dryRun []string,
) (Result, error) {
	var deleted types.UID
	accepted, waits := false, false
	err := retryWrite(ctx, func(attempt context.Context) error {
		live, err := c.resource(client).Get(attempt, c.Object.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if deleted != "" && live.GetUID() != deleted {
			return nil // somebody else's, made since
		}
		if live.GetDeletionTimestamp() != nil {
			waits = true
			return nil
		}
		// The look bounds itself: it is many requests.
		if err := c.mayGo(ctx, live, guards); err != nil {
			return err
		}
		deleted = live.GetUID()
		err = c.resource(client).Delete(attempt, c.Object.Name, c.deletion(live, dryRun))
		if apierrors.IsNotFound(err) {
			return nil
		}
		accepted = err == nil
		return err
	})
	switch {
	case err != nil:
		return "", err
	case len(dryRun) == 0 && (waits || accepted):
		err = c.awaitGone(ctx, client)
	}
	if deleted == "" {
		return Gone, err
	}
	return Done, err
}

// mayGo: the object is as this change made it, and deleting it takes nothing
// with it that others made.
func (c Change) mayGo(ctx context.Context, live *unstructured.Unstructured, guards []Guard) error {
	if err := c.asMade(live); err != nil {
		return err
	}
	if holds := volume(live); holds != "" {
		return &HeldError{Object: c.Object, Reason: holds, Advice: c.advice("save what is needed of it, then")}
	}
	if len(guards) == 0 && c.holds() {
		return &HeldError{Object: c.Object, Reason: "nobody looked at what it holds"}
	}
	for _, guard := range guards {
		if err := guard(ctx, c, live); err != nil {
			return err
		}
	}
	return nil
}

func (c Change) deletion(live *unstructured.Unstructured, dryRun []string) metav1.DeleteOptions {
	uid, version := live.GetUID(), live.GetResourceVersion()
	o := metav1.DeleteOptions{DryRun: dryRun,
		Preconditions: &metav1.Preconditions{UID: nonEmpty(uid), ResourceVersion: nonEmpty(version)}}
	if c.Apply != nil && !c.cascades() {
		orphan := metav1.DeletePropagationOrphan
		o.PropagationPolicy = &orphan
	}
	return o
}

// goneTime bounds the wait for an object whose deletion was accepted. The
// content of a namespace, and what is behind a finalizer, take their time.
const goneTime = time.Minute

func (c Change) awaitGone(ctx context.Context, client dynamic.Interface) error {
	var uid types.UID
	var finalizers []string
	err := cluster.Wait{AtMost: goneTime}.Until(ctx, func(ctx context.Context) (bool, error) {
		live, err := c.resource(client).Get(ctx, c.Object.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return true, nil
		case err != nil:
			return false, err
		case uid != "" && live.GetUID() != uid || live.GetDeletionTimestamp() == nil:
			return true, nil // another object of that name
		}
		uid, finalizers = live.GetUID(), live.GetFinalizers()
		return false, nil
	})
	var over *cluster.WaitError
	if !errors.As(err, &over) {
		return err
	}
	why := "its content is being deleted"
	if len(finalizers) > 0 {
		why = "it waits for its finalizers: " + strings.Join(finalizers, ", ")
	}
	return fmt.Errorf("it is being deleted and not gone yet: %s; undo again when it is gone: %w", why, err)
}

func nonEmpty[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}
