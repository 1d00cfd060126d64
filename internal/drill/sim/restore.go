package sim

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Restore makes a cluster of the objects of another one, as State or a list gave
// them: UIDs, versions, owners, managed fields and status are theirs. The
// controllers react to the first write. What is in no object is not restored:
// logs, what containers read when they started, rights that were taken away.
func Restore(o Options, objects []unstructured.Unstructured) (*Cluster, error) {
	c := empty(o)
	for i := range objects {
		object := &objects[i]
		k := c.kindOf(c.gvrOf(object))
		if k.Kind == "" {
			return nil, fmt.Errorf("the simulated cluster does not serve %s of %s", object.GetKind(),
				object.GetAPIVersion())
		}
		stored, err := k.asStored(object)
		if err == nil {
			err = c.store.put(k.GVR(), stored)
		}
		if err != nil {
			return nil, fmt.Errorf("restoring %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(),
				err)
		}
		if phase(stored) == "Pending" {
			c.restless[stored.GetNamespace()] = true
		}
		if err := c.countOn(stored); err != nil {
			return nil, fmt.Errorf("restoring %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(),
				err)
		}
	}
	return c, nil
}

// countOn has UIDs, names and versions go on after those of an object.
func (c *Cluster) countOn(o *unstructured.Unstructured) error {
	version, err := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return fmt.Errorf("resource version %q: %w", o.GetResourceVersion(), err)
	}
	uid := string(o.GetUID())
	n, err := strconv.ParseInt(uid[strings.LastIndex(uid, "-")+1:], 10, 64)
	if err != nil {
		return fmt.Errorf("UID %q is none of a simulated cluster: %w", uid, err)
	}
	counted := &c.counted
	if o.GetKind() == "Event" { // those are counted apart
		counted = &c.told
	}
	c.version, *counted = max(c.version, version), max(*counted, n)
	return nil
}
