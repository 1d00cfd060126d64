package change

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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

// undoCreate deletes the object if it still is what was created, and only
// that very version of it.
func (c Change) undoCreate(ctx context.Context, client dynamic.Interface, dryRun []string) (Result, error) {
	result := Done
	attempted := false
	err := retryWrite(ctx, func(ctx context.Context) error {
		live, err := c.resource(client).Get(ctx, c.Object.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			if !attempted {
				result = Gone
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.createdAs(live); err != nil {
			return err
		}
		attempted = true
		uid, version := live.GetUID(), live.GetResourceVersion()
		err = c.resource(client).Delete(ctx, c.Object.Name, metav1.DeleteOptions{
			DryRun:        dryRun,
			Preconditions: &metav1.Preconditions{UID: nonEmpty(uid), ResourceVersion: nonEmpty(version)},
		})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return result, nil
}

func nonEmpty[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}
