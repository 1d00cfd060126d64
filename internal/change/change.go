// Package change owns every write that irctl makes to a cluster.
//
// A [Change] is plain data: which object, and what is to be different about
// it, with the state before. It is journaled before the call, so that any
// later process, also on another machine, can tell from the journal alone
// whether it was done, and undo it. There are two kinds: an Edit sets fields
// of an object that exists, a Create adds an object that does not. Either may
// be done by server-side apply.
//
// A change done twice is done once; a change is undone only while the object
// is as the change left it, and otherwise refused with the difference.
package change

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"irctl/internal/cluster"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// FieldManager is the name under which the API server records irctl's writes.
const FieldManager = "irctl"

// IncidentLabel is on what irctl creates, and on what it marks, with the incident's
// ID. What cannot carry it is in the incident's journal.
const IncidentLabel = "irctl/incident"

// Change is one reversible change to one object. The zero value is not usable;
// make one with NewEdit, NewCreate or PlanApply, or read one from the journal with In.
type Change struct {
	Object cluster.Ref
	// Subresource is the part of the object that is written, "scale" or "".
	Subresource string
	// Fields are what an edit sets; empty for a create.
	Fields []Field
	// Manifest is the object that a create adds; nil for an edit.
	Manifest map[string]any
	// Apply makes the change by server-side apply; nil: by a patch, or a create.
	Apply *Apply
	// ResourceVersion is the version that was read when the change was
	// planned. The first attempt is conditional on it, which saves a read.
	ResourceVersion string
}

// Field is one field of an object, before and after; nil is "absent".
// Values are JSON values (map[string]any, []any, string, bool, float64, int64).
type Field struct {
	Path   []string
	Before any
	After  any
}

// Name is the field's path as people write it: metadata.labels[app].
func (f Field) Name() string {
	var b strings.Builder
	for i, p := range f.Path {
		switch {
		case strings.ContainsAny(p, "./"), i == 2 && f.Path[0] == "metadata":
			fmt.Fprintf(&b, "[%s]", p)
		case i > 0:
			b.WriteString("." + p)
		default:
			b.WriteString(p)
		}
	}
	return b.String()
}

// Result says what a Do or an Undo found and did.
type Result string

const (
	// Done: this call changed the object.
	Done Result = "done"
	// Already: the object was as wanted; nothing was written.
	Already Result = "already"
	// Gone: the object no longer exists, so there is nothing to restore.
	Gone Result = "gone"
)

// State is where an object stands with regard to a change.
type State string

const (
	// Before: the change is not done.
	Before State = "before"
	// After: the change is done.
	After State = "after"
	// Drifted: neither; somebody else changed what this change is about.
	Drifted State = "drifted"
	// Missing: the object does not exist.
	Missing State = "missing"
)

// DriftError refuses a change whose object is no longer as it was planned
// for, or an undo whose object is no longer as the change left it.
type DriftError struct {
	Object      cluster.Ref
	Differences []string // one line each: field, expected, found
	Advice      string   // what to do; "": it depends
}

func (e *DriftError) Error() string {
	text := fmt.Sprintf("%s was changed by someone else since: %s", e.Object, strings.Join(e.Differences, "; "))
	if e.Advice != "" {
		text += ". " + e.Advice
	}
	return text
}

// NewEdit plans to set fields of an object. Fields whose before and after are
// the same are dropped; if none is left, ok is false: there is nothing to do.
func NewEdit(object cluster.Ref, subresource, resourceVersion string, fields ...Field) (c Change, ok bool) {
	kept := make([]Field, 0, len(fields))
	for _, f := range fields {
		f.Before, f.After = plain(f.Before), plain(f.After)
		if !equal(f.Before, f.After) {
			kept = append(kept, f)
		}
	}
	return Change{Object: object, Subresource: subresource, Fields: kept, ResourceVersion: resourceVersion},
		len(kept) > 0
}

// NewCreate plans to add an object. The manifest must spell out what the
// server would default in its spec, since that is compared afterwards.
func NewCreate(object cluster.Ref, manifest map[string]any) Change {
	m, _ := plain(manifest).(map[string]any)
	return Change{Object: object, Manifest: m}
}

// Of is a change that a journal tells of.
func Of(r *record.Change) Change {
	o := r.Object
	c := Change{Object: cluster.Ref{Group: o.Group, Version: o.Version, Resource: o.Resource, Kind: o.Kind,
		Namespace: o.Namespace, Name: o.Name, UID: types.UID(o.UID)},
		Subresource: r.Subresource, Manifest: r.Manifest, Apply: r.Apply, ResourceVersion: r.ResourceVersion}
	for _, f := range r.Fields {
		c.Fields = append(c.Fields, Field(f))
	}
	return c
}

// In is the change that an entry of a journal tells of; false: it tells of none.
func In(e *timeline.Entry) (Change, bool) {
	r, ok := timeline.Payload[record.Change](e)
	if !ok {
		return Change{}, false
	}
	return Of(r), true
}

// Record is the change as a journal keeps it. The cluster is known by the UID of
// its namespace kube-system.
func (c Change) Record(cluster string) record.Change {
	o := c.Object
	r := record.Change{Object: record.Ref{Cluster: cluster, Group: o.Group, Version: o.Version, Resource: o.Resource,
		Kind:      o.Kind,
		Namespace: o.Namespace, Name: o.Name, UID: string(o.UID)},
		Subresource: c.Subresource, Manifest: c.Manifest, Apply: c.Apply, ResourceVersion: c.ResourceVersion}
	for _, f := range c.Fields {
		r.Fields = append(r.Fields, record.Field(f))
	}
	return r
}

// IsCreate tells the two kinds apart.
func (c Change) IsCreate() bool { return c.Manifest != nil }

// Observe reads the object and says where it stands.
func (c Change) Observe(ctx context.Context, client dynamic.Interface) (State, error) {
	live, err := c.get(ctx, client)
	if err != nil {
		if apierrors.IsNotFound(err) {
			if c.IsCreate() {
				return Before, nil
			}
			return Missing, nil
		}
		return "", err
	}
	return c.StateOf(live), nil
}

// StateOf says where an object that was read already stands.

func (c Change) StateOf(live *unstructured.Unstructured) State {
	if c.IsCreate() {
		if c.createdAs(live) == nil {
			return After
		}
		return Drifted
	}
	if c.replaced(live) {
		return Missing
	}
	before, after := true, true
	for _, f := range c.Fields {
		v := c.fieldOf(live, f.Path)
		before = before && equal(v, f.Before)
		after = after && equal(v, f.After)
	}
	switch {
	case after:
		return After
	case before:
		return Before
	}
	return Drifted
}

// replaced: an object of the same name, but another one.
func (c Change) replaced(live *unstructured.Unstructured) bool {
	return c.Object.UID != "" && live.GetUID() != "" && live.GetUID() != c.Object.UID
}

func (c Change) get(ctx context.Context, client dynamic.Interface) (*unstructured.Unstructured, error) {
	var live *unstructured.Unstructured
	err := retry(ctx, func(ctx context.Context) (err error) {
		live, err = c.resource(client).Get(ctx, c.Object.Name, metav1.GetOptions{}, c.subresources()...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.Object, err)
	}
	return live, nil
}

func (c Change) resource(client dynamic.Interface) dynamic.ResourceInterface {
	r := client.Resource(c.Object.GVR())
	if c.Object.Namespace == "" {
		return r
	}
	return r.Namespace(c.Object.Namespace)
}

func (c Change) subresources() []string {
	if c.Subresource == "" {
		return nil
	}
	return []string{c.Subresource}
}
