package change

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// edit sets the fields to their after (or, to undo, before) values with one
// merge patch that is conditional on the object's UID and on the version that
// was looked at, so that it never overwrites what it has not seen.
func (c Change) edit(ctx context.Context, client dynamic.Interface, fields []Field, version string,
	dryRun []string) (Result, error) {
	result := Done
	left := fields
	tried, unclear := false, false // unclear: whether an earlier attempt was executed
	err := retryWrite(ctx, func(ctx context.Context) error {
		if version == "" || tried {
			live, err := c.resource(client).Get(ctx, c.Object.Name, metav1.GetOptions{}, c.subresources()...)
			if err != nil {
				return err
			}
			if left, err = c.remaining(live, fields); err != nil {
				return err
			}
			if len(left) == 0 {
				if !unclear {
					result = Already
				}
				return nil
			}
			version = live.GetResourceVersion()
		}
		tried = true
		patch, err := mergePatch(left, c.Object.UID, version)
		if err != nil {
			return err
		}
		_, err = c.resource(client).Patch(ctx, c.Object.Name, types.MergePatchType, patch,
			metav1.PatchOptions{FieldManager: FieldManager, DryRun: dryRun}, c.subresources()...)
		unclear = unclear || mayHaveExecuted(err)
		return err
	})
	if err != nil {
		return "", err
	}
	return result, nil
}

// remaining returns the fields that still have to be set on the live object,
// or a DriftError if one of them is neither as before nor as wanted.
func (c Change) remaining(live *unstructured.Unstructured, fields []Field) ([]Field, error) {
	if c.replaced(live) {
		return nil, &DriftError{Object: c.Object, Differences: []string{
			fmt.Sprintf("it was deleted and another object of that name exists now (uid %s, expected %s)",
				live.GetUID(), c.Object.UID)}}
	}
	var left []Field
	var drift []string
	for _, f := range fields {
		switch v := c.fieldOf(live, f.Path); {
		case equal(v, f.After):
		case equal(v, f.Before):
			left = append(left, f)
		default:
			drift = append(drift, fmt.Sprintf("%s is %s, expected %s", f.Name(), show(v), show(f.Before)))
		}
	}
	if drift != nil {
		return nil, &DriftError{Object: c.Object, Differences: drift}
	}
	return left, nil
}

func mergePatch(fields []Field, uid types.UID, version string) ([]byte, error) {
	before, after := map[string]any{}, map[string]any{}
	for _, f := range fields {
		setField(before, f.Path, f.Before)
		setField(after, f.Path, f.After)
	}
	old, err := json.Marshal(before)
	if err != nil {
		return nil, err
	}
	want, err := json.Marshal(after)
	if err != nil {
		return nil, err
	}
	diff, err := jsonpatch.CreateMergePatch(old, want)
	if err != nil {
		return nil, fmt.Errorf("making the patch: %w", err)
	}
	patch := map[string]any{}
	if err := json.Unmarshal(diff, &patch); err != nil {
		return nil, err
	}
	if uid != "" {
		setField(patch, []string{"metadata", "uid"}, string(uid))
	}
	if version != "" {
		setField(patch, []string{"metadata", "resourceVersion"}, version)
	}
	return json.Marshal(patch)
}

func reversed(fields []Field) []Field {
	back := make([]Field, len(fields))
	for i, f := range fields {
		back[i] = Field{Path: f.Path, Before: f.After, After: f.Before}
	}
	return back
}

// fieldOf returns the value at path, nil if absent. A Scale leaves out replicas
// that are zero (k8s.io/api/autoscaling/v1, ScaleSpec): absent is zero there.
func (c Change) fieldOf(u *unstructured.Unstructured, path []string) any {
	var v any = u.Object
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	if v == nil && c.Subresource == "scale" && slices.Equal(path, []string{"spec", "replicas"}) {
		return float64(0)
	}
	return v
}

func setField(m map[string]any, path []string, v any) {
	for _, p := range path[:len(path)-1] {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	if v != nil {
		m[path[len(path)-1]] = v
	}
}

// Revert makes an object that was read what it was before the change, in
// memory alone.
func (c Change) Revert(live *unstructured.Unstructured) {
	for _, f := range c.Fields {
		unstructured.RemoveNestedField(live.Object, f.Path...)
		setField(live.Object, f.Path, plain(f.Before))
	}
}

// undoEdit puts the before values back.
func (c Change) undoEdit(ctx context.Context, client dynamic.Interface, dryRun []string) (Result, error) {
	result, err := c.edit(ctx, client, reversed(c.Fields), "", dryRun)
	if apierrors.IsNotFound(err) {
		return Gone, nil
	}
	return result, err
}
