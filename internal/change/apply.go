package change

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"irctl/internal/cluster"
	"irctl/internal/record"
)

// Apply is what makes a change a server-side apply.
type Apply = record.Apply

// Conflict is a field that another field manager has set to another value.
type Conflict struct{ Manager, Field string }

func (c Conflict) String() string { return fmt.Sprintf("%s (set by %s)", c.Field, c.Manager) }

// ConflictError refuses an apply that would take fields from other field
// managers.
type ConflictError struct {
	Object    cluster.Ref
	Conflicts []Conflict
}

func (e *ConflictError) Error() string {
	const most = 10
	fields := make([]string, 0, most)
	for _, c := range e.Conflicts[:min(len(e.Conflicts), most)] {
		fields = append(fields, c.String())
	}
	if more := len(e.Conflicts) - most; more > 0 {
		fields = append(fields, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("applying it to %s would take fields from %s: %s", e.Object, strings.Join(e.Managers(), ", "),
		strings.Join(fields, ", "))
}

// Managers are the names of the managers, each once.
func (e *ConflictError) Managers() []string {
	names := map[string]bool{}
	for _, c := range e.Conflicts {
		names[c.Manager] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// conflictOf is err, or what it says of other field managers. That is nothing
// which goes away by itself, unlike other conflicts.
func conflictOf(object cluster.Ref, err error) error {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return err
	}
	e := &ConflictError{Object: object}
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		// conflict with "NAME" using VERSION…
		manager := cause.Message
		if _, rest, ok := strings.Cut(manager, `"`); ok {
			manager, _, _ = strings.Cut(rest, `"`)
		}
		e.Conflicts = append(e.Conflicts, Conflict{Manager: manager, Field: cause.Field})
	}
	if len(e.Conflicts) == 0 {
		return err
	}
	return e
}

// PlanApply plans a server-side apply: it asks the API server by a dry run
// what would become of the object. needed is false where nothing would. The
// error is a ConflictError where other field managers are in the way and force
// does not take their fields; what irctl itself has set is in nobody's way.
func PlanApply(ctx context.Context, client dynamic.Interface, object cluster.Ref, config map[string]any,
	force bool) (c Change, needed bool, err error) {
	config, _ = plain(config).(map[string]any)
	object.UID = ""
	c = Change{Object: object, Apply: &Apply{Config: config}}
	live, err := c.get(ctx, client)
	if apierrors.IsNotFound(err) {
		c.Manifest, c.Apply.Config = config, nil
		_, err = c.rehearse(ctx, client)
		return c, true, c.wrap("applying", err)
	}
	if err != nil {
		return c, false, err
	}
	c.Object.UID, c.ResourceVersion, c.Apply.Owned = live.GetUID(), live.GetResourceVersion(), owned(live)
	merged, err := c.rehearse(ctx, client)
	var conflict *ConflictError
	if errors.As(err, &conflict) && (force || slices.Equal(conflict.Managers(), []string{FieldManager})) {
		c.Apply.Force = true
		for _, f := range conflict.Conflicts {
			if f.Manager != FieldManager {
				c.Apply.Taken = append(c.Apply.Taken, f.String())
			}
		}
		merged, err = c.rehearse(ctx, client)
	}
	if err != nil {
		return c, false, c.wrap("applying", err)
	}
	c.Fields = differences(nil, meant(live), meant(merged))
	return c, len(c.Fields) > 0, nil
}

// rehearse is what the server would make of it.
func (c Change) rehearse(ctx context.Context, client dynamic.Interface) (merged *unstructured.Unstructured, err error) {
	err = retry(ctx, func(ctx context.Context) (err error) {
		merged, err = c.applyOnce(ctx, client, "", []string{metav1.DryRunAll})
		return err
	})
	return merged, err
}

// meant is the part of an object that people and controllers mean by it, as
// against what the server notes about it.
func meant(u *unstructured.Unstructured) map[string]any {
	m := map[string]any{}
	for k, v := range u.Object {
		switch k {
		case "apiVersion", "kind", "status":
		case "metadata":
			meta := map[string]any{}
			all, _ := v.(map[string]any)
			for _, k := range []string{"labels", "annotations", "finalizers", "ownerReferences"} {
				if all[k] != nil {
					meta[k] = all[k]
				}
			}
			m[k] = meta
		default:
			m[k] = v
		}
	}
	return m
}

// differences are the fields in which two values differ, lists as a whole.
func differences(path []string, before, after any) []Field {
	a, isMap := before.(map[string]any)
	b, areMaps := after.(map[string]any)
	if !isMap || !areMaps {
		if equal(before, after) {
			return nil
		}
		return []Field{{Path: slices.Clone(path), Before: plain(before), After: plain(after)}}
	}
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	var fields []Field
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		fields = append(fields, differences(append(path[:len(path):len(path)], k), a[k], b[k])...)
	}
	return fields
}

// isOwned: the entry of managed fields is of irctl's apply.
func isOwned(entry map[string]any) bool {
	return entry["manager"] == FieldManager && entry["operation"] == string(metav1.ManagedFieldsOperationApply) &&
		(entry["subresource"] == nil || entry["subresource"] == "")
}

func owned(u *unstructured.Unstructured) map[string]any {
	for _, entry := range managed(u) {
		if isOwned(entry) {
			return entry
		}
	}
	return nil
}

func managed(u *unstructured.Unstructured) []map[string]any {
	list, _, _ := unstructured.NestedSlice(u.Object, "metadata", "managedFields")
	var entries []map[string]any
	for _, raw := range list {
		if entry, ok := plain(raw).(map[string]any); ok {
			entries = append(entries, entry)
		}
	}
	return entries
}

// config is what is applied.
func (c Change) config() map[string]any {
	if c.IsCreate() {
		return c.Manifest
	}
	return c.Apply.Config
}

// applyOnce is one call. It is conditional on the object's UID and, if given,
// its version.
func (c Change) applyOnce(ctx context.Context, client dynamic.Interface, version string,
	dryRun []string) (*unstructured.Unstructured, error) {
	u := (&unstructured.Unstructured{Object: c.config()}).DeepCopy()
	if c.Object.UID != "" {
		u.SetUID(c.Object.UID)
	}
	if version != "" {
		u.SetResourceVersion(version)
	}
	body, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	answer, err := c.resource(client).Patch(ctx, c.Object.Name, types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: FieldManager, DryRun: dryRun, Force: &c.Apply.Force}, c.subresources()...)
	return answer, conflictOf(c.Object, err)
}

// apply makes the change, and looks at the object first where it has not been
// looked at, or where an attempt has failed.
func (c Change) apply(ctx context.Context, client dynamic.Interface, dryRun []string) (Result, error) {
	result, version := Done, c.ResourceVersion
	unclear := false // whether an earlier attempt was executed
	err := retryWrite(ctx, func(ctx context.Context) error {
		if version == "" {
			done, seen, err := c.applied(ctx, client)
			if err != nil {
				return err
			}
			if done {
				if !unclear {
					result = Already
				}
				return nil
			}
			version = seen
		}
		_, err := c.applyOnce(ctx, client, version, dryRun)
		unclear, version = unclear || mayHaveExecuted(err), ""
		return err
	})
	if err != nil {
		return "", err
	}
	return result, nil
}

// applied reports whether the object is as it is wanted, and its version; a
// DriftError if it is neither that nor as it was planned for.
func (c Change) applied(ctx context.Context, client dynamic.Interface) (done bool, version string, err error) {
	live, err := c.resource(client).Get(ctx, c.Object.Name, metav1.GetOptions{}, c.subresources()...)
	switch {
	case c.IsCreate() && apierrors.IsNotFound(err):
		return false, "", nil
	case err != nil:
		return false, "", err
	case c.IsCreate():
		return true, "", c.createdAs(live)
	}
	left, err := c.remaining(live, c.Fields)
	return len(left) == 0, live.GetResourceVersion(), err
}

// undoApply puts the values back, and gives up what the apply made irctl the
// manager of: else whoever applies next would find irctl in the way.
func (c Change) undoApply(ctx context.Context, client dynamic.Interface, dryRun []string) (Result, error) {
	result := Done
	attempted := false
	err := retryWrite(ctx, func(ctx context.Context) error {
		live, err := c.resource(client).Get(ctx, c.Object.Name, metav1.GetOptions{}, c.subresources()...)
		if apierrors.IsNotFound(err) {
			result = Gone
			return nil
		}
		if err != nil {
			return err
		}
		left, err := c.remaining(live, reversed(c.Fields))
		if err != nil {
			return err
		}
		if len(left) == 0 && c.ownsAsBefore(live) {
			if !attempted {
				result = Already
			}
			return nil
		}
		attempted = true
		live, err = c.putBack(ctx, client, live, left, dryRun)
		if err != nil || c.ownsAsBefore(live) || len(dryRun) > 0 {
			return err
		}
		// A value that changes is taken from those who had applied it: the server takes
		// the entries of managed fields as they are given only where no value does.
		_, err = c.putBack(ctx, client, live, nil, dryRun)
		return err
	})
	if err != nil {
		return "", err
	}
	return result, nil
}

// ownsAsBefore: irctl's entry of an apply is as it was before this one.
func (c Change) ownsAsBefore(live *unstructured.Unstructured) bool {
	was, is := c.Apply.Owned, owned(live)
	return (was == nil) == (is == nil) && equal(was["fieldsV1"], is["fieldsV1"])
}

// putBack writes values, and who owned what, to the very version that was looked at.
func (c Change) putBack(
	ctx context.Context, client dynamic.Interface, live *unstructured.Unstructured, values []Field, dryRun []string,
) (*unstructured.Unstructured, error) {
	patch, err := mergePatch(values, live.GetUID(), live.GetResourceVersion())
	if err == nil {
		patch, err = c.disowning(patch, live)
	}
	if err != nil {
		return nil, err
	}
	return c.resource(client).Patch(ctx, c.Object.Name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: FieldManager, DryRun: dryRun}, c.subresources()...)
}

// disowning adds to a patch the managed fields as they were with regard to
// irctl's applies.
func (c Change) disowning(patch []byte, live *unstructured.Unstructured) ([]byte, error) {
	var body map[string]any
	if err := json.Unmarshal(patch, &body); err != nil {
		return nil, err
	}
	entries := slices.DeleteFunc(managed(live), isOwned)
	if c.Apply.Owned != nil {
		entries = append(entries, c.Apply.Owned)
	}
	if len(entries) > 0 { // to set none would be to leave them as they are
		setField(body, []string{"metadata", "managedFields"}, entries)
	}
	return json.Marshal(body)
}

// covers reports where live is not as config says, one line each. What config
// is silent on may be anything: the server's defaults are there.
func covers(path []string, config, live any) []string {
	differs := func() []string {
		return []string{fmt.Sprintf("%s is %s, expected %s", Field{Path: path}.Name(), show(live), show(config))}
	}
	switch want := config.(type) {
	case map[string]any:
		found, ok := live.(map[string]any)
		if !ok && live != nil {
			return differs()
		}
		// An empty selector selects everything: it is not silent.
		if len(want) == 0 && len(found) > 0 && len(path) > 0 && isSelector(path[len(path)-1]) {
			return differs()
		}
		var diff []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			diff = append(diff, covers(append(path[:len(path):len(path)], k), want[k], found[k])...)
		}
		return diff
	case []any:
		found, ok := live.([]any)
		if !ok && live != nil || len(found) != len(want) {
			return differs()
		}
		for i := range want {
			if len(covers(path, want[i], found[i])) > 0 {
				return differs()
			}
		}
		return nil
	case string:
		if found, ok := live.(string); ok && want != found && sameQuantity(want, found) {
			return nil
		}
	}
	if !equal(config, live) {
		return differs()
	}
	return nil
}

// sameQuantity: the server writes 1000m as 1.
func sameQuantity(a, b string) bool {
	x, errX := resource.ParseQuantity(a)
	y, errY := resource.ParseQuantity(b)
	return errX == nil && errY == nil && x.Cmp(y) == 0
}
