package sim

import (
	"cmp"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// store keeps objects. One that is kept is never changed, only replaced by
// another: so nobody needs a copy to read it, also after the lock is let go.
type store map[schema.GroupVersionResource]map[objectName]*unstructured.Unstructured

type objectName struct{ namespace, name string }

// put adds an object, or replaces the one of its name.
func (s store) put(gvr schema.GroupVersionResource, o *unstructured.Unstructured) {
	if s[gvr] == nil {
		s[gvr] = map[objectName]*unstructured.Unstructured{}
	}
	s[gvr][objectName{o.GetNamespace(), o.GetName()}] = o
}

// get finds an object, or gives the API server's NotFound.
func (s store) get(gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	o := s[gvr][objectName{namespace, name}]
	if o == nil {
		return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
	}
	return o, nil
}

// list gives the objects of a namespace, or of all (""), by namespace and name.
func (s store) list(gvr schema.GroupVersionResource, namespace string) []unstructured.Unstructured {
	var names []objectName
	for n := range s[gvr] {
		if namespace == "" || n.namespace == namespace {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b objectName) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	items := make([]unstructured.Unstructured, len(names))
	for i, n := range names {
		items[i] = *s[gvr][n]
	}
	return items
}
