package change

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/cluster"
)

// asMade checks that the live object is still what this change made, and that
// nobody else has set anything in it since. Who set what is in its managed
// fields; what the API server and the controllers of Kubernetes add to every
// object of the kind does not count.
func (c Change) asMade(live *unstructured.Unstructured) error {
	err := c.createdAs(live)
	var drift *DriftError
	if errors.As(err, &drift) {
		drift.Advice = c.advice("take that back, or")
		return drift
	}
	diff := c.otherContent(live)
	diff = append(diff, c.setByOthers(live)...)
	if len(diff) == 0 {
		return nil
	}
	const most = 10
	if more := len(diff) - most; more > 0 {
		diff = append(diff[:most], fmt.Sprintf("and %d more", more))
	}
	return &DriftError{Object: c.Object, Differences: diff, Advice: c.advice("take that back, or")}
}

// advice is what to do about an object that undo does not delete.
func (c Change) advice(first string) string {
	return fmt.Sprintf("What to do: %s delete it yourself (%s); then undo again", first, c.UndoCommand())
}

// otherContent compares what an object has in place of a spec (data, rules,
// subjects) with the manifest. The values are not told: a Secret has them too.
func (c Change) otherContent(live *unstructured.Unstructured) []string {
	if c.Apply != nil {
		return nil // createdAs has compared all of it
	}
	var diff []string
	for _, k := range slices.Sorted(maps.Keys(c.Manifest)) {
		switch k {
		case "apiVersion", "kind", "metadata", "spec", "status", "stringData":
			continue
		}
		if !equal(c.Manifest[k], live.Object[k]) {
			diff = append(diff, k+" has other values")
		}
	}
	return diff
}

// setByOthers are the fields that other managers have set, one line each, and
// what irctl itself added for another purpose: in a later incident, say.
func (c Change) setByOthers(live *unstructured.Unstructured) []string {
	var diff []string
	for _, entry := range managed(live) {
		if entry["subresource"] == "status" {
			continue
		}
		manager, _ := entry["manager"].(string)
		fields, _ := entry["fieldsV1"].(map[string]any)
		for _, path := range leaves(nil, fields) {
			switch {
			case ofTheServer(live, path), manager == FieldManager && !c.added(path):
			default:
				diff = append(diff, fmt.Sprintf("%s was set by %s", Field{Path: path}.Name(), manager))
			}
		}
	}
	slices.Sort(diff)
	return slices.Compact(diff)
}

// added: the path is a key that the manifest does not have. It says nothing of
// a spec, in which the server's defaults count as irctl's.
func (c Change) added(path []string) bool {
	at := path
	switch {
	case len(path) == 3 && path[0] == "metadata" && path[1] == "labels":
	case len(path) == 2 && (path[0] == "data" || path[0] == "binaryData"):
	default:
		return false
	}
	return c.fieldOf(&unstructured.Unstructured{Object: c.Manifest}, at) == nil
}

// ofTheServer: the API server or a controller of Kubernetes sets the field in
// every such object, or it is none that says what the object is for. Told by the
// field and never by the manager's name, which anybody can take.
func ofTheServer(live *unstructured.Unstructured, path []string) bool {
	switch path[0] {
	case "status":
		return true
	case "secrets":
		return live.GetKind() == "ServiceAccount"
	case "rules":
		return live.GetKind() == "ClusterRole" && live.Object["aggregationRule"] != nil
	case "spec":
		return live.GetKind() == "PersistentVolumeClaim" && len(path) == 2 && path[1] == "volumeName"
	case "metadata":
	default:
		return false
	}
	if len(path) < 3 {
		return true
	}
	switch path[1] {
	case "labels":
		return path[2] == corev1.LabelMetadataName
	case "annotations":
		// Controllers note things there; kubectl that somebody else applies the object.
		return path[2] != corev1.LastAppliedConfigAnnotation
	case "finalizers":
		// Who set one is asked by the API server before the object goes.
		return true
	}
	return false
}

// leaves are the paths in fields of managed fields (FieldsV1): "f:" a field,
// "k:" and "v:" an item of a list, "." the thing itself.
func leaves(path []string, fields map[string]any) [][]string {
	var all [][]string
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if k == "." {
			continue
		}
		name := k
		if field, ok := strings.CutPrefix(k, "f:"); ok {
			name = field
		}
		next := slices.Concat(path, []string{name})
		below, _ := fields[k].(map[string]any)
		if found := leaves(next, below); len(found) > 0 {
			all = append(all, found...)
		} else {
			all = append(all, next)
		}
	}
	return all
}

// HeldError refuses to delete an object that irctl made, since others' objects
// would go with it, or since that could not be looked at.
type HeldError struct {
	Object cluster.Ref
	Reason string
	Advice string // what to do
}

func (e *HeldError) Error() string {
	text := fmt.Sprintf("%s was not deleted: %s", e.Object, e.Reason)
	if e.Advice != "" {
		text += ". " + e.Advice
	}
	return text
}
